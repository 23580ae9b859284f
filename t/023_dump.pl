# A database that moves to another server: by pg_dump, and by pg_upgrade to a newer major.  All that is kept (logs, states,
# versions, seals, agendas, rights) is there as it was; a dump does not act before adopt(), what pg_upgrade has brought goes on
# by itself.
#
#   WF_NEW_PG_CONFIG=/path/to/pg_config   of a newer server into which this same wfproc is installed; without it pg_upgrade is
#                                         skipped and the dump goes to a server of the same major only
#
# The old server has wfproc.enabled = off: its past is made by run() under a clock that stands in 2020, and what is due by the
# clock on the wall then waits for the server that it moves to.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WfTest;

my $db = 'a shop';
my ($first_seal, $keyed, $old_prints);

#
# The past
#

# loan: one of everything that a handler can ask for; rate: a body that the server keeps as a tree, with what some majors print
# otherwise than others (a subquery of constants, a comparison of rows)
my $handlers = <<'END';
CREATE ROLE shop_owner;
CREATE ROLE shop_clerk;
CREATE ROLE shop_reader;
SELECT wfproc.grant_usage(r) FROM unnest('{shop_owner,shop_clerk,shop_reader}'::text[]) r;
CREATE SCHEMA shop AUTHORIZATION shop_owner;
GRANT USAGE ON SCHEMA shop TO PUBLIC;
SET SESSION AUTHORIZATION shop_owner;
SET search_path = shop;
CREATE FUNCTION next_n(state jsonb) RETURNS int LANGUAGE sql
BEGIN ATOMIC
    SELECT COALESCE(max(v.n) + 1, 1) FROM (SELECT (next_n.state ->> 'n')::int AS n) v WHERE (v.n IS NULL, 1) IN (SELECT true, 1 UNION SELECT false, 1);
END;
CREATE FUNCTION loan(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    CASE event
        WHEN 'start' THEN
            PERFORM wfproc.set_timer('reminder', after => '28 days');
            PERFORM wfproc.set_timer('recall', at => '2900-01-01 00:00+00', until_state_changes => 'book');
            PERFORM wfproc.set_attributes(jsonb_build_object('book', payload -> 'book'));
            state := payload;
        WHEN 'ask' THEN PERFORM wfproc.reply(state);
        WHEN 'letter' THEN PERFORM wfproc.start('loan', wfproc.self() || '/letter', payload, on_parent_close => 'cancel');
        WHEN 'watch' THEN PERFORM wfproc.monitor('closed');
        WHEN 'nobody' THEN PERFORM wfproc.send('who is that?', 'hello', payload);
        WHEN 'reject' THEN PERFORM wfproc.reject('told to');
        WHEN 'early' THEN IF NOT state ? 'ready' THEN PERFORM wfproc.postpone(); END IF;
        WHEN 'ready' THEN state := state || '{"ready": true}';
        WHEN 'raise' THEN RAISE EXCEPTION 'told to';
        WHEN 'returned' THEN PERFORM wfproc.complete(state);
        ELSE NULL;
    END CASE;
    RETURN state || jsonb_build_object('n', next_n(state), 'draw', wfproc.random(), 'uuid', wfproc.uuid());
END $$;
CREATE FUNCTION rate(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE sql SET IntervalStyle = 'iso_8601'
BEGIN ATOMIC
    WITH part AS MATERIALIZED (SELECT x.key AS k, x.value AS v FROM jsonb_each(payload) AS x WHERE x.key NOT LIKE 'skip%'),
         counted AS (SELECT count(*) FILTER (WHERE jsonb_typeof(p.v) = 'number') AS numbers, max(p.k COLLATE "C") AS last FROM part p)
    SELECT state || jsonb_build_object(
        'event', event, 'numbers', c.numbers, 'last', c.last,
        'sum', (SELECT COALESCE(sum((v #>> '{}')::numeric), 0) FROM part WHERE jsonb_typeof(part.v) = 'number' GROUP BY ()),
        'at', wfproc.now() AT TIME ZONE 'Asia/Kolkata', 'day', EXTRACT(doy FROM wfproc.now() AT TIME ZONE 'UTC'),
        'known', (event, true) IN (SELECT 'again', true UNION SELECT 'more'::text, true) AND (event, 1) <> ('more', 1),
        'longest', (SELECT q.k FROM (SELECT k, row_number() OVER (ORDER BY length(k) DESC, k) AS place FROM part) q WHERE q.place = 1),
        'when', CASE WHEN event IN ('start', 'again') THEN interval '1 month 2 days' ELSE make_interval(hours => c.numbers::int) END)
    FROM counted c LEFT JOIN LATERAL (VALUES (1, 'a'::text), (2, NULL)) AS w(n, t) ON w.n = c.numbers;
END;
CREATE FUNCTION lease(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event IN ('start', 'due') THEN PERFORM wfproc.set_timer('due', after => '1 month'); END IF;
    RETURN jsonb_build_object('n', COALESCE((state ->> 'n')::int, 0) + 1);
END $$;
SELECT wfproc.define('loan', 'loan', accepts => '{ask,letter,watch,nobody,reject,early,ready,raise,returned,note}', retry_delay => '1 year', helpers => '{next_n(jsonb)}');
SELECT wfproc.define('rate', 'rate', snapshot_every => 2), wfproc.define('lease', 'lease');
END

# second versions; that of loan is published and not current
my $versions = <<'END';
SET SESSION AUTHORIZATION shop_owner;
SET search_path = shop;
CREATE OR REPLACE FUNCTION lease(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event = 'due' AND (state ->> 'months')::int < 4 THEN PERFORM wfproc.set_timer('due', after => '1 month'); END IF;
    RETURN jsonb_build_object('months', COALESCE((state ->> 'months')::int, 0) + 1);
END $$;
CREATE FUNCTION to_months(state jsonb, from_version int, to_version int) RETURNS jsonb LANGUAGE sql
    RETURN jsonb_build_object('months', (state ->> 'n')::int);
SELECT wfproc.define('lease', 'lease', migrate => 'to_months'), wfproc.set_current_version('lease', 1);
CREATE FUNCTION loan2(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event = 'returned' THEN PERFORM wfproc.complete(state); END IF;
    RETURN state || jsonb_build_object('second', event);
END $$;
CREATE FUNCTION loan_migrate(state jsonb, from_version int, to_version int) RETURNS jsonb LANGUAGE sql AS
    $$ SELECT (state - 'draw' - 'uuid') || jsonb_build_object('from', from_version) $$;
SELECT wfproc.define('loan', 'loan2', migrate => 'loan_migrate'), wfproc.set_current_version('loan', 1);
SELECT wfproc.grant_access('loan', 'shop_clerk', 'send'), wfproc.grant_access('loan', 'shop_reader', 'read');
CREATE TABLE shop.desk (loan text, what text);
CREATE TRIGGER desk_emit AFTER INSERT ON shop.desk FOR EACH ROW EXECUTE FUNCTION wfproc.emit('id=loan', 'event_column=what');
END

my $past = <<'END';
BEGIN;
SET LOCAL wfproc.fake_now = '2020-01-01 00:00+00';
SELECT wfproc.start('loan', id, jsonb_build_object('book', 'Emma', 'id', id)) FROM unnest('{plain,closed,late,paused,fails,upgraded,erased}'::text[]) id;
SELECT wfproc.start('rate', 'rate-' || n, '{"a": 1, "bb": 2.50, "c": "x", "skipped": 9}') FROM generate_series(1, 3) n;
SELECT wfproc.start('lease', 'lease-' || n) FROM generate_series(1, 3) n;
SELECT wfproc.run();
SET LOCAL wfproc.fake_now = '2020-01-02 00:00+00';
SELECT wfproc.send('plain', e, '{"text": "\u00e9 \ud83d\ude00", "number": 1e-7}') FROM unnest('{ask,letter,watch,nobody,reject,early}'::text[]) e;
SELECT wfproc.send('rate-1', 'again', '{"x": 12345678901234567890.5}'), wfproc.send('rate-1', 'more', '{}');
SELECT wfproc.send('upgraded', 'note'), wfproc.send('erased', 'note', '{"name": "Ines"}');
SELECT wfproc.run();
SET LOCAL wfproc.fake_now = '2020-01-03 00:00+00';
SELECT wfproc.send('closed', 'returned'), wfproc.pause('paused', 'until the move'), wfproc.send('fails', 'raise');
SELECT wfproc.send('plain', 'note', idempotency_key => 'once');
SELECT wfproc.upgrade('upgraded', 2), wfproc.run(), wfproc.send('upgraded', 'note'), wfproc.run();
SELECT wfproc.snapshot('erased'), wfproc.run();
SELECT wfproc.redact('erased', 2, 'asked to'), wfproc.run();
SELECT wfproc.fork('rate-2', 1, 'fork', paused => false), wfproc.run();
SELECT wfproc.run();
-- for later
SELECT wfproc.upgrade('late', 2, '2020-02-10 00:00+00'), wfproc.send('late', 'note', at => '2020-02-09 00:00+00'), wfproc.send('late', 'note', at => '2020-02-11 00:00+00');
SELECT wfproc.rollout('lease', 2, '2020-02-15 00:00+00');
SELECT wfproc.rollout('lease', 2, '2020-02-20 00:00+00') AS cancelled \gset
SELECT wfproc.cancel_rollout(:cancelled);
COMMIT;
END

#
# What is kept: each a query whose answer must be the same on the server that the database has moved to
#

my %kept = (
	'digests' => q(SELECT i.id, d.seq, encode(d.sha256, 'hex') FROM wfproc.instances i, wfproc.digest(i.id) d ORDER BY 1),
	'states' => q(SELECT w.workflow, s.* FROM wfproc.workflows w, wfproc.states(w.workflow) s ORDER BY 1, 2),
	'states of the past' => q(SELECT w.workflow, s.* FROM wfproc.workflows w, wfproc.states(w.workflow, '2020-01-01 12:00+00', '2020-01-02 12:00+00') s ORDER BY 1, 2),
	'verify_all()' => q(SELECT w.workflow, v.* FROM wfproc.workflows w, wfproc.verify_all(w.workflow) v ORDER BY 1, 2),
	'replays' => q(SELECT i.id, r.seq, r.at, r.event, r.state, r.actions, r.diverged FROM wfproc.instances i, wfproc.replay(i.id) r ORDER BY 1, 2),
	'instances' => q(SELECT id, workflow, version, status, parent, attributes, started_at, closed_at, result, error, attempts, retry_at, waiting FROM wfproc.instances ORDER BY id),
	'versions' => q(SELECT * FROM wfproc.versions ORDER BY workflow, version),
	'helpers' => q(SELECT * FROM wfproc.version_helper ORDER BY 1, 2, 3),
	'show_code()' => q(SELECT workflow, version, wfproc.show_code(workflow, version) FROM wfproc.versions ORDER BY 1, 2),
	'rehearsals' => q(SELECT c.* FROM wfproc.versions v, wfproc.check_version(v.workflow, v.version) c ORDER BY v.workflow, v.version, c.id, c.question),
	'forecasts' => q(SELECT w.workflow, f.* FROM wfproc.workflows w, wfproc.forecasts(w.workflow, '2020-06-01 00:00+00') f ORDER BY 1, 2),
	'agendas' => q(SELECT i.id, a.* FROM wfproc.instances i, wfproc.agenda(i.id) a ORDER BY i.id, a.mail_id),
	'dead letters' => q(SELECT * FROM wfproc.dead_letters ORDER BY mail_id),
	'roll-outs' => q(SELECT * FROM wfproc.rollouts ORDER BY rollout_id),
	'rights' => q(SELECT * FROM wfproc.acl ORDER BY 1, 2, 3),
	'seals' => q(SELECT number, at, instances, events, encode(hash, 'hex') FROM wfproc.seals ORDER BY number),
	'sequences' => join(' UNION ALL ', map { "SELECT '$_', last_value, is_called FROM wfproc.${_}_seq" } qw(workflow instance rollout mail)),
	'logs' => q(SELECT * FROM wfproc.event ORDER BY instance_id, seq),
	'snapshots' => q(SELECT * FROM wfproc.snapshot ORDER BY instance_id),
	'keys' => q(SELECT * FROM wfproc.idempotency ORDER BY instance_id, key),
	'links' => q(SELECT * FROM wfproc.link ORDER BY instance_id, kind, peer));

sub sql { return $_[0]->safe_psql($db, "SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET extra_float_digits = 1; $_[1]"); }

sub look
{
	my ($node) = @_;
	return { map { $_ => sql($node, $kept{$_}) } keys %kept };
}

# How the server prints the private copies, which is nothing to rely on.
sub prints
{
	return sql($_[0], q(SELECT p.oid::regprocedure, md5(pg_get_functiondef(p.oid)) FROM pg_proc p
		WHERE p.pronamespace IN (SELECT oid FROM pg_namespace WHERE nspname LIKE 'wfproc\_code\_%') ORDER BY 1));
}

sub is_as_it_was
{
	my ($node, $what, $before) = @_;
	my $now = look($node);
	note("$what: a copy is printed otherwise than by the old server") if prints($node) ne $old_prints;
	is($now->{$_}, $before->{$_}, "$what: $_") for sort keys %kept;
	is(sql($node, "SELECT count(*) FROM wfproc.check_seal('$first_seal')"), 0, "$what: the seal from before fits");
	return;
}

# The old server with its past, stopped acting; what it keeps is checked so far that the comparisons mean something.
sub make_old
{
	my $node = wf_node('old', conf => "wfproc.enabled = off\n");
	$node->safe_psql('postgres', qq(CREATE DATABASE "$db"));
	sql($node, "CREATE EXTENSION wfproc CASCADE; $handlers");
	sql($node, $versions);
	sql($node, $past);
	$first_seal = sql($node, 'SELECT wfproc.seal()');
	$keyed = sql($node, q(SELECT mail_id FROM wfproc.history('plain') WHERE idempotency_key = 'once'));
	$old_prints = prints($node);
	my $kept = look($node);
	isnt($kept->{$_}, '', "the old server has $_") for sort keys %kept;
	is(sql($node, q(SELECT string_agg(DISTINCT status, ' ' ORDER BY status) FROM wfproc.instances)), 'completed paused running', 'instances of some states');
	is(sql($node, q(SELECT error IS NOT NULL AND attempts = 1 FROM wfproc.instances WHERE id = 'fails')), 't', 'one that fails');
	is(sql($node, q(SELECT event, reason FROM wfproc.dead_letters ORDER BY 1)), "hello|instance \"who is that?\" does not exist\nreject|told to", 'dead letters');
	is(sql($node, q(SELECT bool_and(v.ok) FROM wfproc.workflows w, wfproc.verify_all(w.workflow) v)), 't', 'and all is well');
	return ($node, $kept);
}

#
# What it does once it is at home
#

sub acts
{
	my ($node, $what) = @_;
	my $log = q(SELECT seq, event, at, state -> 'n', state -> 'months', state -> 'second' FROM wfproc.replay('%s') ORDER BY seq);
	ok($node->poll_query_until($db, q(SELECT count(*) = 0 FROM wfproc.mailbox m JOIN wfproc.instance i USING (instance_id) WHERE m.at < now() AND i.status = 'running' AND i.attempts = 0 AND m.postponed IS NULL)), "$what: what is due is handled");
	is(sql($node, sprintf($log, 'lease-1')),
		"1|start|2020-01-01 00:00:00+00|1||\n2|due|2020-02-01 00:00:00+00|2||\n3|\$upgrade|2020-02-15 00:00:00+00||2|\n4|due|2020-03-01 00:00:00+00||3|\n5|due|2020-04-01 00:00:00+00||4|\n6|due|2020-05-01 00:00:00+00||5|",
		"$what: timers fire, and the roll-out is met in its place");
	is(sql($node, sprintf($log, 'late')),
		"1|start|2020-01-01 00:00:00+00|1||\n2|reminder|2020-01-29 00:00:00+00|2||\n3|note|2020-02-09 00:00:00+00|3||\n4|\$upgrade|2020-02-10 00:00:00+00|3||\n5|note|2020-02-11 00:00:00+00|3||\"note\"",
		"$what: so is the upgrade of one instance");
	is(sql($node, q(SELECT status, done FROM wfproc.rollouts ORDER BY rollout_id)), "in force|3\ncancelled|3", "$what: roll-outs say so");

	# an instance of version 1, upgraded to one that was published before the move
	sql($node, q(SELECT wfproc.upgrade('plain', 2), wfproc.send('plain', 'note')));
	like(sql($node, q(SELECT wfproc.await_state('plain', '$.second == "note"', '60 s'))), qr/"from": 1/, "$what: an upgrade to a version published before");
	is(sql($node, q(SET search_path = shop; SET SESSION AUTHORIZATION shop_owner; SELECT wfproc.define('rate', 'rate'), wfproc.define('loan', 'loan', helpers => '{next_n(jsonb)}'))), '1|1',
		"$what: the same code is no new version");
	sql($node, q(SELECT wfproc.send('rate-1', 'again', '{"x": 1}')));
	is(sql($node, q(SELECT wfproc.await_state('rate-1', '$.sum == 1', '60 s') ->> 'when')), 'P1M2D', "$what: a BEGIN ATOMIC handler goes on");
	sql($node, q(SELECT wfproc.start('loan', 'new', '{"book": "Ulysses"}'), wfproc.send('new', 'returned')));
	is(sql($node, q(SELECT status FROM wfproc.await('new', '60 s'))), 'completed', "$what: new instances come and go");

	is(sql($node, q(SELECT wfproc.send('plain', 'note', idempotency_key => 'once'))), $keyed, "$what: a key still stands for its event");
	my $letter = sql($node, q(SELECT mail_id FROM wfproc.dead_letters WHERE id = 'plain'));
	cmp_ok(sql($node, "SELECT wfproc.redrive($letter)"), '>', $letter, "$what: a dead letter can be sent again");
	sql($node, q(SELECT wfproc.resume('paused'), wfproc.send('paused', 'returned'), wfproc.skip('fails'), wfproc.send('fails', 'returned')));
	is(sql($node, "SELECT status FROM wfproc.await('$_', '60 s')"), 'completed', "$what: $_ goes on") for qw(paused fails);
	sql($node, q(INSERT INTO shop.desk VALUES ('erased', 'returned')));
	is(sql($node, q(SELECT status FROM wfproc.await('erased', '60 s'))), 'completed', "$what: emit() and a log with an erased payload");

	is(sqlstate($node, $db, q(SET SESSION AUTHORIZATION shop_clerk; SELECT wfproc.send('late', 'note'))), 'ok', "$what: who could send can");
	is(sqlstate($node, $db, q(SET SESSION AUTHORIZATION shop_reader; SELECT wfproc.send('late', 'note'))), '42501', "$what: who could not cannot");
	is(sqlstate($node, $db, q(DELETE FROM wfproc.event)), '42501', "$what: the log is append-only");

	# evidence goes on: a chain of seals, and tampering is found by the one from before
	is(sql($node, q(SELECT bool_and(v.ok), count(*) FROM wfproc.workflows w, wfproc.verify_all(w.workflow) v WHERE w.workflow <> 'here')), 't|16', "$what: verify_all()");
	my $seal = sql($node, 'SELECT wfproc.seal()');
	is((split / /, $seal)[7], (split / /, $first_seal)[8], "$what: the next seal goes on from the one before");
	is(sql($node, "SELECT count(*) FROM wfproc.check_seal('$first_seal')"), 0, "$what: both fit");
	is(sql($node, "SELECT count(*) FROM wfproc.check_seal('$seal')"), 0, "$what: both fit");
	is(sql($node, qq(BEGIN; ALTER TABLE wfproc.event DISABLE TRIGGER append_only;
		DELETE FROM wfproc.event WHERE instance_id = (SELECT instance_id FROM wfproc.instance WHERE id = 'closed') AND seq > 1;
		SELECT * FROM wfproc.check_seal('$first_seal'))), 'closed|cut|2', "$what: and find what is cut");
	return;
}

# The schemas of code are the extension's again.
sub leaves_clean
{
	my ($node, $what) = @_;
	is(sql($node, 'DROP EXTENSION wfproc CASCADE; SELECT nspname FROM pg_namespace WHERE nspname LIKE $$wfproc_code%$$'), '', "$what: DROP EXTENSION takes the code with it");
	return;
}

#
# Ways to move
#

my ($old, $before) = make_old();
my $new_prefix = new_server();
my @of_new = $new_prefix ? (install_path => $new_prefix) : ();

# Where the programs of a pg_config's server are.
sub programs
{
	my ($config) = @_;
	my $bin = `'$config' --bindir`;
	chomp $bin;
	-x "$bin/pg_upgrade" or BAIL_OUT("$config: no pg_upgrade in '$bin'");
	return $bin;
}

sub new_server
{
	return $ENV{WF_NEW_PG_CONFIG} ? programs($ENV{WF_NEW_PG_CONFIG}) =~ s{/bin$}{}r : undef;
}

sub move_by_dump
{
	my ($name, @options) = @_;
	my $node = wf_node($name, @options);
	my $file = "$PostgreSQL::Test::Utils::tmp_check/$name.dump";
	my ($roles, $out, $err) = ("$file.roles", '', '');
	$node->command_ok([ $node->installed_command('pg_dumpall'), '-h', $old->host, '-p', $old->port, '--roles-only', '-f', $roles ], "$name: roles are dumped");
	# the superuser is there already
	$node->psql('postgres', slurp_file($roles), on_error_stop => 0);
	$node->command_ok([ $node->installed_command('pg_dump'), '-h', $old->host, '-p', $old->port, '-Fc', '-f', $file, $db ], "$name: so is the database");
	$node->command_ok([ $node->installed_command('pg_restore'), '-h', $node->host, '-p', $node->port, '--create', '--exit-on-error', '-d', 'postgres', $file ], "$name: and restored");
	return $node;
}

# A dump: not at home, so nothing of it acts, until adopt() says that it is to.
sub check_dump
{
	my ($name, @options) = @_;
	my $node = move_by_dump($name, @options);
	is_as_it_was($node, $name, $before);
	# its worker handles what is new, and at home here; what came with the dump it leaves alone
	ok($node->poll_query_until($db, q(SELECT sum(shards) = 64 FROM wfproc.workers)), "$name: it has a worker");
	sql($node, q(CREATE FUNCTION here(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS 'BEGIN PERFORM wfproc.complete(payload); RETURN state; END';
		SELECT wfproc.define('here', 'here'); SELECT wfproc.start('here', 'here')));
	is(sql($node, q(SELECT status FROM wfproc.await('here', '60 s'))), 'completed', "$name: a worker that handles what is at home");
	is(sql($node, q(SELECT string_agg(workflow, ' ') FROM wfproc.workflows WHERE at_home)), 'here', "$name: only what is new is");
	is(sql($node, $kept{agendas}), $before->{agendas}, "$name: the rest waits");
	is(sql($node, q(SELECT wfproc.adopt(), wfproc.adopt())), '3|0', "$name: adopt()");
	acts($node, $name);
	leaves_clean($node, $name);
	$node->stop;
	return;
}

# pg_upgrade: the database keeps its OID and its home, so it goes on.
sub check_upgrade
{
	# checksums are on by default from 18 on, and both servers must have them or not
	my @no_checksums = `'$new_prefix/bin/initdb' --help` =~ /(--no-data-checksums)/;
	my $node = wf_node('upgraded', @of_new, initdb => \@no_checksums, start => 0);
	my @command = ($node->installed_command('pg_upgrade'), '--no-sync', '-b', programs('pg_config'), '-B', "$new_prefix/bin",
		'-d', $old->data_dir, '-D', $node->data_dir, '-s', $node->host, '-p', $old->port, '-P', $node->port);
	chdir($PostgreSQL::Test::Utils::tmp_check) or die $!;
	$node->command_ok([ @command, '--check' ], 'pg_upgrade --check');
	$node->command_ok([ @command, '--retain' ], 'pg_upgrade');
	my @logs = map { slurp_file($_) } glob($node->data_dir . '/pg_upgrade_output.d/*/log/pg_upgrade_server.log');
	like(join('', @logs), qr/database system is ready/, 'it had started both servers');
	unlike(join('', @logs), qr/wfproc (?:launcher|worker)/, 'and no worker was there');
	# first as it came, then at work
	$node->append_conf('postgresql.conf', 'wfproc.enabled = off');
	$node->start;
	is_as_it_was($node, 'upgraded', $before);
	is(sql($node, q(SELECT bool_and(at_home) FROM wfproc.workflows)), 't', 'upgraded: at home');
	$node->safe_psql('postgres', 'ALTER SYSTEM SET wfproc.enabled = on');
	$node->restart;
	acts($node, 'upgraded');
	my $loose = q(SELECT count(*) FROM pg_namespace n WHERE n.nspname LIKE 'wfproc\_code\_%'
		AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_namespace'::regclass AND d.objid = n.oid AND d.deptype = 'x'));
	is(sql($node, $loose), 5, 'upgraded: schemas of code do not depend on the extension, as README says');
	is(sql($node, 'SELECT wfproc.adopt()'), 0, 'upgraded: nothing to adopt');
	is(sql($node, $loose), 0, 'upgraded: but now they do');
	leaves_clean($node, 'upgraded');
	$node->stop;
	return;
}

check_dump('restored');
SKIP:
{
	skip 'no newer server: WF_NEW_PG_CONFIG does not name its pg_config', 1 unless $new_prefix;
	check_dump('restored_newer', @of_new);
	$old->stop;
	check_upgrade();
}
done_testing();
