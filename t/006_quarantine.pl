# A handler on which the server goes down: counted before it is tried again, and paused the second time, with the error to
# read; the others go on. A wfproc.enabled = off in the file stops a server that loops. (Faults: handler crashes the server.)
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;
use WfTest;

my $node = wf_node('quarantine', conf => "wfproc.max_crashes = 2\n");
wf_database($node, 'postgres');
sub sql { return $node->safe_psql('postgres', $_[0]); }

# the poison: a step that sleeps; the worker is killed while it does, as a crash of the handler would
sql(q(SELECT wfproc.define('poison', 'counter', handler_timeout => '10 min')));
sql(q(SELECT count(wfproc.start('counter', 'good-' || n)) FROM generate_series(1, 50) n));
sql(q(SELECT wfproc.start('poison', 'bad'), wfproc.start('poison', 'other')));
ok(wait_handled($node, 'postgres'), 'instances are started');

sub kill_sleeping_worker
{
	my ($round) = @_;
	my $sleeping = q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'wfproc worker' AND wait_event = 'PgSleep');
	ok($node->poll_query_until('postgres', "SELECT EXISTS ($sleeping)"), "the poison is being handled, $round");
	kill('KILL', sql($sleeping));
	ok($node->poll_query_until('postgres', q(SELECT true)), "the server is back, $round");
	return;
}

sql(q(SELECT wfproc.send('bad', 'sleep', '{"seconds": 500}'); SELECT wfproc.send('bad', 'add', '{"n": 1}')));
sql(q(SELECT count(wfproc.send('good-' || n, 'add', '{"n": 1}')) FROM generate_series(1, 50) n));
kill_sleeping_worker('first time');
kill_sleeping_worker('second time');
ok($node->poll_query_until('postgres', q(SELECT status = 'paused' FROM wfproc.instances WHERE id = 'bad')), 'the second time its instance is paused');
like(sql(q(SELECT error FROM wfproc.instances WHERE id = 'bad')), qr/server went down while event 2 was being handled/, 'with the error to read');
ok($node->poll_query_until('postgres', q(SELECT bool_and(wfproc.state('good-' || n) = '{"n": 2, "sum": 1}') FROM generate_series(1, 50) n)), 'the others are handled');
is(sql(q(SELECT waiting FROM wfproc.instances WHERE id = 'bad')), 2, 'its mail waits');
is(sql(q(SELECT crashes FROM wfproc.instance WHERE id = 'other')), 0, 'nobody else is blamed');
is(sql(q(SELECT sum(crashes) FROM wfproc.instance WHERE id LIKE 'good-%')), 0, 'nobody');
sql(q(SELECT wfproc.send('other', 'add', '{"n": 5}')));
ok($node->poll_query_until('postgres', q(SELECT wfproc.state('other') = '{"n": 2, "sum": 5}')), 'an instance of the same workflow goes on');
is(sql(q(SELECT event, payload ->> 'by' FROM wfproc.history('bad') ORDER BY seq DESC LIMIT 1)), '$pause|engine', 'the log says who paused it');

# it stays paused over a restart, and is not tried
$node->restart;
sql(q(SELECT wfproc.send('other', 'add', '{"n": 5}')));
ok($node->poll_query_until('postgres', q(SELECT wfproc.state('other') = '{"n": 3, "sum": 10}')), 'others go on after a restart');
is(sql(q(SELECT status, waiting FROM wfproc.instances WHERE id = 'bad')), 'paused|2', 'it is not tried again');

# the bad event taken back: it goes on
is(sql(q(SELECT wfproc.unsend('bad', mail_id) FROM wfproc.agenda('bad') WHERE event = 'sleep')), 't', 'its event is taken back');
is(sql(q(SELECT wfproc.resume('bad'))), 't', 'and it is resumed');
ok($node->poll_query_until('postgres', q(SELECT wfproc.state('bad') = '{"n": 2, "sum": 1}')), 'it goes on');
is(sql(q(SELECT crashes, status, error FROM wfproc.instance WHERE id = 'bad')), '0|running|', 'with nothing held against it');
is(sql(q(SELECT wfproc.verify('bad'))), '(t,,)', 'and its chain holds');

# once is chance: a worker killed once during a step is no harm to it
sql(q(SELECT wfproc.send('other', 'sleep', '{"seconds": 500}')));
kill_sleeping_worker('once');
ok($node->poll_query_until('postgres', q(SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'wfproc worker' AND wait_event = 'PgSleep')), 'it is tried again');
is(sql(q(SELECT crashes, status FROM wfproc.instance WHERE id = 'other')), '1|running', 'counted before');

# a worker that is terminated or cancelled is not a crash
sql(q(SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE backend_type = 'wfproc worker'));
ok($node->poll_query_until('postgres', q(SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'wfproc worker' AND wait_event = 'PgSleep')), 'terminated: tried again');
is(sql(q(SELECT crashes, status FROM wfproc.instance WHERE id = 'other')), '1|running', 'a termination is not a crash');

# the switch in the file, where SQL is of no use
$node->append_conf('postgresql.conf', 'wfproc.enabled = off');
$node->reload;
kill_sleeping_worker('and the configuration says off');
ok($node->poll_query_until('postgres', q(SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'wfproc launcher')), 'the launcher is there');
ok(workers_running($node, 'postgres', 0), 'wfproc.enabled = off: no worker');
is(sql(q(SELECT wfproc.unsend('other', mail_id) FROM wfproc.agenda('other') WHERE event = 'sleep')), 't', 'the operator takes the event back');
$node->append_conf('postgresql.conf', 'wfproc.enabled = on');
$node->reload;
ok($node->poll_query_until('postgres', q(SELECT status = 'paused' FROM wfproc.instances WHERE id = 'other')), 'the second crash is counted, too');
sql(q(SELECT wfproc.resume('other'), wfproc.send('other', 'add', '{"n": 5}')));
ok($node->poll_query_until('postgres', q(SELECT wfproc.state('other') = '{"n": 4, "sum": 15}')), 'and everybody goes on');

# so is a migrate function (one crash is enough from here on): of a roll-out, where the instance pauses before the event that it was to come before
$node->append_conf('postgresql.conf', 'wfproc.max_crashes = 1');
$node->reload;
sql(q(
CREATE FUNCTION deadly(state jsonb, from_version int, to_version int) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(500); RETURN state; END $$;
CREATE FUNCTION harmless(state jsonb, from_version int, to_version int) RETURNS jsonb LANGUAGE sql AS $$ SELECT state $$;
SELECT wfproc.define('turned', 'counter', handler_timeout => '10 min');
SELECT wfproc.start('turned', 'rolled'), wfproc.start('turned', 'bystander', attributes => '{"spared": true}'), wfproc.start('turned', 'at once');
SELECT wfproc.await_state('at once', '$.n == 1')));
sql(q(SELECT wfproc.define('turned', 'owner', migrate => 'deadly')));
my $rollout = sql(q(SELECT wfproc.rollout('turned', 2)));
sql(q(SELECT wfproc.send('rolled', 'add', '{"n": 7}')));
kill_sleeping_worker('in a roll-out');
ok($node->poll_query_until('postgres', q(SELECT status = 'paused' FROM wfproc.instances WHERE id = 'rolled')), 'the instance of the roll-out is paused');
is(sql(q(SELECT version, waiting, error FROM wfproc.instances WHERE id = 'rolled')), '1|1|the server went down while event 2 was being handled', 'as it was, with its mail');
is(sql("SELECT wfproc.cancel_rollout($rollout)"), 't', 'the roll-out is cancelled');
sql(q(SELECT wfproc.resume('rolled')));
ok($node->poll_query_until('postgres', q(SELECT wfproc.state('rolled') = '{"n": 2, "sum": 7}')), 'it goes on');

# at once, which a pause does not stop: it becomes a dead letter
sql(q(SELECT wfproc.upgrade('at once', 2)));
kill_sleeping_worker("of an upgrade at once, $_") for 1 .. 2;
ok($node->poll_query_until('postgres', q(SELECT EXISTS (SELECT FROM wfproc.dead_letters WHERE id = 'at once' AND event = '$upgrade' AND reason ~ 'server went down'))), 'it becomes a dead letter');
is(sql(q(SELECT version, status FROM wfproc.instances WHERE id = 'at once')), '1|paused', 'the instance is paused as it was');
sql(q(SELECT wfproc.resume('at once'), wfproc.send('at once', 'add', '{"n": 7}')));
ok($node->poll_query_until('postgres', q(SELECT wfproc.state('at once') = '{"n": 2, "sum": 7}')), 'it goes on once it is resumed');
# one that its handler has brought down is mended by an upgrade at once
sql(q(
CREATE FUNCTION mild(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT state || jsonb_build_object(event, 'mild') $$;
SELECT wfproc.start('poison', 'mended')));
# else start may be undone with the turn that is killed, and handled by the new code
ok($node->poll_query_until('postgres', q(SELECT wfproc.state('mended') ->> 'n' = '1')), 'started');
sql(q(SELECT wfproc.send('mended', 'sleep', '{"seconds": 500}')));
kill_sleeping_worker('of a handler');
ok($node->poll_query_until('postgres', q(SELECT status = 'paused' FROM wfproc.instances WHERE id = 'mended')), 'paused');
sql(q(SELECT wfproc.define('poison', 'mild', migrate => 'harmless'); SELECT wfproc.upgrade('mended', 2); SELECT wfproc.resume('mended')));
ok($node->poll_query_until('postgres', q(SELECT wfproc.state('mended') = '{"n": 1, "sum": 0, "sleep": "mild"}')), 'upgraded at once it goes on');
is(sql(q(SELECT id FROM wfproc.instances i WHERE workflow IN ('turned', 'poison') AND NOT (wfproc.verify(id)).ok)), '', 'their chains hold');
is(sql(q(SELECT crashes, status FROM wfproc.instance WHERE id = 'bystander')), '0|running', 'nobody else is blamed');

no_alarms($node, 'nothing alarming in the log');
$node->stop;
done_testing();
