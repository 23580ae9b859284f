# A hot standby can be asked, but takes nothing (25006); promoted, it goes on: what became due meanwhile fires once.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;
use WfTest;

my $primary = wf_node('primary', streaming => 1, conf => "wfproc.passivate_after = 1s\n");
wf_database($primary, 'postgres');
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

sub both { my ($sql) = @_; return [ map { $_->safe_psql('postgres', $sql) } $primary, $standby ]; }

$primary->safe_psql('postgres', q(SELECT count(wfproc.start('counter', 's-' || n, '{"n": 1}')), count(wfproc.send('s-' || n, 'add', '{"n": 10}')) FROM generate_series(1, 100) n));
$primary->safe_psql('postgres', q(SELECT wfproc.send('s-2', 'finish')));
$primary->safe_psql('postgres', q(SELECT wfproc.send('s-1', 'add', '{"n": 100}', clock_timestamp() + interval '1 day')));
# with two versions: some are upgraded, one will be
$primary->safe_psql('postgres', q(
CREATE FUNCTION kept(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT state || jsonb_build_object('n', COALESCE((state ->> 'n')::int, 0) + 1) $$;
CREATE FUNCTION turned_over(state jsonb, from_version int, to_version int) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('was', state) $$;
SELECT wfproc.define('kept', 'kept');
CREATE OR REPLACE FUNCTION kept(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT state || jsonb_build_object('m', COALESCE((state ->> 'm')::int, 0) + 1) $$;
SELECT wfproc.define('kept', 'kept', migrate => 'turned_over');
SELECT count(wfproc.start('kept', 'k-' || n, version => 1)) FROM generate_series(1, 10) n;
SELECT wfproc.upgrade('k-1', 2), wfproc.send('k-1', 'e'), wfproc.upgrade('k-2', 2, clock_timestamp() + interval '1 day'), wfproc.send('k-2', 'e', at => clock_timestamp() + interval '2 days')));
ok(wait_handled($primary, 'postgres'), 'the primary has handled it all');
my $seal = $primary->safe_psql('postgres', 'SELECT wfproc.seal()');
$primary->wait_for_catchup($standby);

is($standby->safe_psql('postgres', q(SELECT pg_is_in_recovery(), (SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'wfproc %'))), 't|0', 'no worker and no launcher on a standby');
is($standby->safe_psql('postgres', q(SELECT wfproc.state('s-1'), wfproc.state('s-2')->>'n')), '{"n": 2, "sum": 11}|3', 'state() on the standby');
for my $query (
	'SELECT id, wfproc.state(id) FROM wfproc.instances ORDER BY 1', q(SELECT * FROM wfproc.history('s-1')), q(SELECT seq, at, event, state, actions, diverged FROM wfproc.replay('s-2')),
	'SELECT i.id, d.* FROM wfproc.instances i, wfproc.digest(i.id) d ORDER BY 1', 'SELECT i.id, v.* FROM wfproc.instances i, wfproc.verify(i.id) v ORDER BY 1',
	q(SELECT mail_id, at, event, payload, due FROM wfproc.agenda('s-1')), 'SELECT workflow, owner, current_version, at_home FROM wfproc.workflows',
	q(SELECT * FROM wfproc.check_version('kept', 2)), q(SELECT * FROM wfproc.outcomes('counter', 1)), q(SELECT wfproc.show_code('kept', 2)), 'SELECT * FROM wfproc.versions ORDER BY 1, 2',
	q(SELECT * FROM wfproc.states('kept', clock_timestamp(), clock_timestamp())), q(SELECT seq, event, state, diverged FROM wfproc.replay('k-1')),
	q(SELECT seq, event, state FROM wfproc.forecast('k-2', clock_timestamp() + interval '3 days')), q(SELECT id, seq, state FROM wfproc.forecasts('kept', clock_timestamp() + interval '3 days')),
	q(SELECT wfproc.export_log('k-1')), q(SELECT * FROM wfproc.compare('k-1', 'k-2')), q(SELECT * FROM wfproc.verify_all('kept')), "SELECT count(*) FROM wfproc.check_seal('$seal')")
{
	my $answers = both($query);
	isnt($answers->[0], '', "$query: something to compare");
	is($answers->[1], $answers->[0], "$query: the standby says the same");
}
is($standby->safe_psql('postgres', q(SELECT count(*) FROM wfproc.workers)), 0, 'the standby has no workers');
is($standby->safe_psql('postgres', q(SELECT count(*) FROM wfproc.registry)), 0, 'and nobody resident');

for my $call (
	q(start('counter')), q(send('s-1', 'add')), q(unsend('s-1', 1)), q(reschedule('s-1', 1, now())), q(pause('s-1')), q(resume('s-1')), q(snapshot('s-1')),
	q(passivate('s-1')), q(run()), q(define('x', 'counter')), q(adopt()), q(grant_access('counter', 'pg_monitor', 'read')), q(revoke_access('counter', 'pg_monitor', 'read')),
	q(upgrade('k-3', 2)), q(rollout('kept', 2)), q(cancel_rollout(1)), q(set_current_version('kept', 1)), q(fork('k-1', 1, 'f')), q(redact('k-1', 1, 'why')), q(seal()),
	q(import_log((SELECT jsonb_agg(l) FROM wfproc.export_log('k-1') l))))
{
	is(sqlstate($standby, 'postgres', "SELECT wfproc.$call"), '25006', "on a standby: $call is 25006");
}
my (undef, undef, $err) = $standby->psql('postgres', q(SELECT wfproc.send('s-1', 'add')));
like($err, qr/cannot send events during recovery/, 'and says so');
is(sqlstate($standby, 'postgres', q(SELECT wfproc.await('s-2', '0'))), 'ok', 'await() of an instance that has closed');
is($standby->safe_psql('postgres', q(SELECT status FROM wfproc.await('s-2', '0'))), 'completed', 'says its status');
is($standby->safe_psql('postgres', q(SELECT new_state FROM wfproc.try_step('counter', '{}', 'add', '{"n": 3}'))), '{"n": 1, "sum": 3}', 'try_step() works there');

# what is sent just before the primary goes down is handled by the promoted standby
$primary->safe_psql('postgres', q(ALTER SYSTEM SET wfproc.enabled = off));
$primary->reload;
ok(workers_running($primary, 'postgres', 0), 'the primary handles nothing more');
$primary->safe_psql('postgres', q(SELECT wfproc.rollout('kept', 2); SELECT count(wfproc.send('k-' || n, 'e')) FROM generate_series(3, 10) n));
$primary->safe_psql('postgres', q(SELECT count(wfproc.send('s-' || n, 'add', '{"n": 1000}')) FROM generate_series(3, 100) n));
$primary->safe_psql('postgres', q(SELECT wfproc.send('s-1', 'due soon', NULL, clock_timestamp() + interval '500 ms', 'soon')));
$primary->wait_for_catchup($standby);
$primary->stop('immediate');
$standby->promote;
ok($standby->poll_query_until('postgres', q(SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'wfproc worker')), 'promoted: a worker starts');
ok($standby->poll_query_until('postgres', q(SELECT count(*) = 3 FROM wfproc.mailbox)), 'promoted: it goes on where the primary was');
is($standby->safe_psql('postgres', q(SELECT count(*) FROM wfproc.instances WHERE wfproc.state(id) = '{"n": 3, "sum": 1011}')), 98, 'each event once');
is($standby->safe_psql('postgres', q(SELECT count(*) FROM wfproc.history('s-1') WHERE event = 'due soon' AND recorded_at >= at)), 1, 'I7: what became due meanwhile fired once');
is($standby->safe_psql('postgres', q(SELECT count(*), min(wfproc.state(id)::text), max(wfproc.state(id)::text) FROM wfproc.instances WHERE workflow = 'kept' AND version = 2)), '9|{"m": 1, "was": {"n": 1}}|{"m": 1, "was": {"n": 1}}', 'promoted: a roll-out goes on, too');
is($standby->safe_psql('postgres', "SELECT * FROM wfproc.check_seal('$seal')"), '', 'the seal still fits');
is($standby->safe_psql('postgres', q(SELECT bool_and(at_home) FROM wfproc.workflows)), 't', 'a promoted standby is at home');
is($standby->safe_psql('postgres', q(SELECT count(*) FROM wfproc.instances i, wfproc.verify(i.id) v WHERE NOT v.ok)), 0, 'verify() is true for all');
$standby->safe_psql('postgres', q(SELECT wfproc.start('counter', 'new-1'), wfproc.send('new-1', 'finish')));
is($standby->safe_psql('postgres', q(SELECT status FROM wfproc.await('new-1', '60 s'))), 'completed', 'new ones too');
no_alarms($_, $_->name . ': nothing alarming in the log') for $primary, $standby;
$standby->stop;
done_testing();
