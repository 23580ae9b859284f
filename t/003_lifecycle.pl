# Workers come and go with extensions, databases and settings (I21, I23; faults: CREATE EXTENSION rolled back, DROP EXTENSION
# under load, terminated workers, no worker slot, not preloaded).
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use FindBin;
use lib $FindBin::RealBin;
use WfTest;

my $node = wf_node('lifecycle');
sub sql { return $node->safe_psql(@_); }

#
# Databases and extensions
#
ok($node->poll_query_until('postgres', q(SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'wfproc launcher')), 'one launcher');
is(sql('postgres', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'wfproc worker')), 0, 'and no worker without an extension');
sql('postgres', "CREATE DATABASE $_") for qw(one two three);
wf_database_existing($_) for qw(one two);
sub wf_database_existing { sql($_[0], 'CREATE EXTENSION wfproc CASCADE'); wf_handlers($node, $_[0]); return; }

ok(workers_running($node, $_, 1), "a worker for database $_") for qw(one two);
for my $db (qw(one two))
{
	sql($db, q(SELECT wfproc.start('counter', 'a'), wfproc.send('a', 'finish')));
	is(sql($db, q(SELECT status FROM wfproc.await('a', '60 s'))), 'completed', "$db works");
	is(sql($db, 'SELECT count(*), sum(shards) FROM wfproc.workers'), '1|64', "$db: its worker holds all shards");
}

my $log = log_size($node);
$node->psql('three', 'BEGIN; CREATE EXTENSION wfproc CASCADE; ROLLBACK');
wf_database_existing('three');
ok(workers_running($node, 'three', 1), 'CREATE EXTENSION rolled back, then not');
my ($pid) = worker_pids($node, 'three');
$node->psql('three', 'BEGIN; DROP EXTENSION wfproc CASCADE; ROLLBACK');
sql('three', q(SELECT wfproc.start('counter', 'a'), wfproc.send('a', 'finish')));
is(sql('three', q(SELECT status FROM wfproc.await('a', '60 s'))), 'completed', 'DROP EXTENSION rolled back: the worker goes on');
$node->psql('three', 'BEGIN; SAVEPOINT s; DROP EXTENSION wfproc CASCADE; ROLLBACK TO s; COMMIT');
sql('three', q(SELECT wfproc.start('counter', 'b'), wfproc.send('b', 'finish')));
is(sql('three', q(SELECT status FROM wfproc.await('b', '60 s'))), 'completed', 'by a savepoint too');

#
# DROP EXTENSION under load, by itself and with its schema
#
for my $drop ('DROP EXTENSION wfproc CASCADE', 'DROP SCHEMA wfproc CASCADE', 'DROP EXTENSION pgcrypto CASCADE')
{
	sql('three', 'CREATE EXTENSION IF NOT EXISTS wfproc CASCADE; DROP FUNCTION IF EXISTS counter, owner');
	wf_handlers($node, 'three');
	sql('three', q(SELECT count(wfproc.start('counter', 'load-' || n)) FROM generate_series(1, 200) n));
	sql('three', q(SELECT count(wfproc.send('load-' || 1 + n % 200, 'add', '{"n": 1}')) FROM generate_series(1, 60000) n));
	ok($node->poll_query_until('three', q(SELECT count(*) > 0 FROM wfproc.event)), 'a worker is at it');
	my $begin = time;
	is(sqlstate($node, 'three', $drop), 'ok', "$drop under load");
	cmp_ok(time - $begin, '<', 5, "I23: $drop under load takes less than 5 s");
	ok(workers_running($node, 'three', 0), "$drop: the worker leaves");
}
is(sql('three', q(SELECT count(*) FROM pg_class WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'wfproc'))), 0, 'nothing in the schema is left');
sql('three', 'DROP FUNCTION counter, owner');

#
# Workers by reload
#
for my $workers (3, 1, 0, 2)
{
	sql('postgres', "ALTER SYSTEM SET wfproc.workers = $workers");
	$node->reload;
	ok(workers_running($node, $_, $workers), "$_: $workers workers by reload") for qw(one two);
	ok($node->poll_query_until('one', 'SELECT count(*) = ' . $workers . ' AND COALESCE(sum(shards), 64) = 64 FROM wfproc.workers WHERE shards > 0'), "$workers workers share 64 shards") if $workers > 0;
	sql('one', qq(SELECT wfproc.start('counter', 'w$workers-' || n), wfproc.send('w$workers-' || n, 'finish') FROM generate_series(1, 100) n));
	if ($workers == 0)
	{
		cmp_ok(sql('one', 'SELECT wfproc.run()'), '>=', 200, 'without workers run() takes all');
	}
	ok($node->poll_query_until('one', qq(SELECT count(*) = 100 FROM wfproc.instances WHERE id LIKE 'w$workers-%' AND status = 'completed')), "$workers workers: all instances are handled");
}

#
# wfproc.enabled
#
sql('postgres', 'ALTER SYSTEM SET wfproc.enabled = off');
$node->reload;
ok(workers_running($node, $_, 0), "$_: wfproc.enabled = off stops the workers") for qw(one two);
sql('one', q(SELECT wfproc.start('counter', 'off-1'), wfproc.send('off-1', 'finish')));
is(sqlstate($node, 'one', q(SELECT wfproc.await('off-1', '0'))), 'ok', 'await() that does not wait');
sql('postgres', 'ALTER SYSTEM SET wfproc.enabled = on');
$node->reload;
is(sql('one', q(SELECT status FROM wfproc.await('off-1', '60 s'))), 'completed', 'wfproc.enabled = on again: what has come meanwhile is handled');

#
# Every setting that a reload changes
#
my @settings = split /\n/, sql('postgres', q(SELECT name || '|' || vartype || '|' || COALESCE(max_val, '') || '|' || COALESCE(min_val, '') FROM pg_settings
    WHERE name LIKE 'wfproc.%' AND context IN ('sighup', 'superuser') AND name NOT IN ('wfproc.fake_now', 'wfproc.enabled', 'wfproc.workers') ORDER BY 1));
cmp_ok(scalar(@settings), '>=', 8, 'settings: ' . join(', ', map { (split /\|/)[0] } @settings));
for my $setting (@settings)
{
	my ($name, $type, $max, $min) = split /\|/, $setting;
	my $before = sql('postgres', "SELECT setting FROM pg_settings WHERE name = '$name'");
	my $value = $type eq 'bool' ? ($before eq 'on' ? 'off' : 'on') : $min < 1 ? 1 : $min + 1;
	sql('postgres', "ALTER SYSTEM SET $name = $value");
	$node->reload;
	ok($node->poll_query_until('one', "SELECT setting = '$value' FROM pg_settings WHERE name = '$name'"), "$name is now $value");
	(my $id = $name) =~ s/\W/-/g;
	if ($name ne 'wfproc.superuser_handlers' && $name ne 'wfproc.handler_memory')
	{
		sql('one', qq(SELECT wfproc.start('counter', '$id'), wfproc.send('$id', 'add'), wfproc.send('$id', 'finish')));
		is(sql('one', qq(SELECT status FROM wfproc.await('$id', '60 s'))), 'completed', "and work goes on");
	}
	sql('postgres', "ALTER SYSTEM RESET $name");
	$node->reload;
	ok($node->poll_query_until('one', "SELECT setting = '$before' FROM pg_settings WHERE name = '$name'"), "$name is $before again");
	is(sqlstate($node, 'postgres', "ALTER SYSTEM SET $name = " . ($type eq 'bool' ? "'maybe'" : $max + 1)), '22023', "$name: out of range is 22023");
}
is(sqlstate($node, 'postgres', q(SET wfproc.fake_now = 'infinity')), '22023', 'wfproc.fake_now must be finite');
SKIP:
{
	skip 'a server of 14 only warns of them', 1 if sql('postgres', 'SHOW server_version_num') < 150000;
	is(sqlstate($node, 'postgres', q(SET wfproc.no_such_setting = 1)), '42602', 'no other settings under wfproc.');
}

#
# Workers that are terminated come back, and no slot is lost over it
#
for my $round (1 .. 10)
{
	ok(workers_running($node, 'one', 2), "round $round: two workers") or last;
	sql('postgres', q(SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE backend_type = 'wfproc worker'));
}
sql('postgres', q(SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE backend_type = 'wfproc launcher'));
ok($node->poll_query_until('postgres', q(SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'wfproc launcher')), 'the launcher comes back');
ok(workers_running($node, 'one', 2), 'two workers, not four');
is(sql('one', 'SELECT count(*), sum(shards) FROM wfproc.workers'), '2|64', 'and they hold all shards');
sql('postgres', q(SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE backend_type LIKE 'wfproc %'));
sql('one', q(SELECT wfproc.start('counter', 'cancelled-1'), wfproc.send('cancelled-1', 'finish')));
is(sql('one', q(SELECT status FROM wfproc.await('cancelled-1', '60 s'))), 'completed', 'a cancel does no harm');

#
# No slot: work waits, and the log says what to raise
#
$log = log_size($node);
sql('postgres', 'ALTER SYSTEM SET wfproc.workers = 64');
$node->reload;
ok(eval { $node->wait_for_log(qr/wfproc.*(max_worker_processes|max_workers)|(max_worker_processes|max_workers).*wfproc/s, $log); 1 }, 'no slot for so many workers: the log names the setting');
sql('one', q(SELECT wfproc.start('counter', 'many-1'), wfproc.send('many-1', 'finish')));
sql('postgres', 'ALTER SYSTEM SET wfproc.workers = 1');
$node->reload;
is(sql('one', q(SELECT status FROM wfproc.await('many-1', '60 s'))), 'completed', 'and what came then is handled');
ok(workers_running($node, 'one', 1), 'one worker');

#
# An idle worker: no transaction, no xmin
#
ok(wait_handled($node, 'one'), 'nothing to do');
ok($node->poll_query_until('postgres', q(SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type LIKE 'wfproc %' AND (xact_start IS NOT NULL OR backend_xmin IS NOT NULL))), 'I21: idle workers hold no xmin');

#
# Roles and search paths of the database do not reach a worker
#
sql('postgres', q(ALTER DATABASE one SET search_path = evil; ALTER DATABASE one SET default_transaction_read_only = on; ALTER DATABASE one SET default_transaction_isolation = 'serializable';
                  ALTER DATABASE one SET statement_timeout = '1ms'; ALTER DATABASE one SET row_security = off; ALTER DATABASE one SET lock_timeout = '1ms'; ALTER DATABASE one SET session_replication_role = replica));
sql('postgres', q(SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE backend_type = 'wfproc worker' AND datname = 'one'));
$node->psql('one', q(SET default_transaction_read_only = off; SET transaction_read_only = off; SET transaction_isolation = 'read committed'; SET statement_timeout = 0;
                     BEGIN READ WRITE ISOLATION LEVEL READ COMMITTED; SELECT wfproc.start('counter', 'settings-1'), wfproc.send('settings-1', 'sleep', '{"seconds": 0.1}'), wfproc.send('settings-1', 'finish'); COMMIT));
sql('postgres', 'ALTER DATABASE one RESET ALL');
is(sql('one', q(SELECT status FROM wfproc.await('settings-1', '60 s'))), 'completed', 'settings of the database do not reach the session of a worker');
no_alarms($node, 'nothing alarming in the log');
$node->stop;

#
# Not preloaded: everything but workers, and what needs one says so
#
my $plain = wf_node('plain', preload => 0);
wf_database($plain, 'postgres');
is(sqlstate($plain, 'postgres', q(BEGIN; SELECT wfproc.start('counter', 'p-1', '{"n": 1}'); SELECT wfproc.send('p-1', 'add', '{"n": 2}'); COMMIT)), 'ok', 'not preloaded: start() and send() work');
is($plain->safe_psql('postgres', 'SELECT wfproc.run()'), 2, 'not preloaded: run() works');
is($plain->safe_psql('postgres', q(SELECT wfproc.state('p-1'))), '{"n": 2, "sum": 3}', 'not preloaded: state() works');
is($plain->safe_psql('postgres', q(SELECT wfproc.verify('p-1'))), '(t,,)', 'not preloaded: verify() works');
is($plain->safe_psql('postgres', q(SELECT (SELECT count(*) FROM wfproc.workers), (SELECT count(*) FROM wfproc.registry))), '0|0', 'not preloaded: no worker, nobody resident');
my ($status, $out, $err) = $plain->psql('postgres', q(SELECT wfproc.await('p-1', '60 s')));
like($err, qr/shared_preload_libraries/, 'not preloaded: await() names the setting');
is(sqlstate($plain, 'postgres', q(SELECT wfproc.await('p-1', '60 s'))), '55000', 'not preloaded: await() is refused');
is(sqlstate($plain, 'postgres', 'CREATE DATABASE other TEMPLATE postgres'), 'ok', 'not preloaded: database DDL works');
is(sqlstate($plain, 'other', 'DROP EXTENSION wfproc CASCADE'), 'ok', 'not preloaded: DROP EXTENSION works');
is(sqlstate($plain, 'postgres', q(CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0 LOCALE 'C')), 'ok', 'a database that is not UTF8');
isnt(sqlstate($plain, 'ascii', q(CREATE EXTENSION wfproc CASCADE; CREATE FUNCTION h(s jsonb, e text, p jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT s'; SELECT wfproc.define('x', 'h'))), 'ok', 'is refused');
$plain->stop;
done_testing();
