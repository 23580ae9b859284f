# Errors that a handler raises, and errors that happen to it: whose they are, whether they count, and whether they pass. What
# is expected of each SQLSTATE is the table in docs/DESIGN.md. (Faults: handler fails; lock, cancel, limit, memory in a step or in a replay.)
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;
use WfTest;

my $node = wf_node('errors', conf => "wfproc.workers = 1\nwfproc.enabled = off\nwfproc.sweep_interval = 500ms\nwfproc.scrub_rate = 0\nwfproc.scrub_age = 1s\n");
wf_database($node, 'postgres');
sub sql { return $node->safe_psql('postgres', $_[0]); }
sub becomes { my ($sql, $what) = @_; return ok($node->poll_query_until('postgres', "SELECT $sql"), $what); }

# Another setting, for workers too, without SQL.
sub set_config
{
	my ($name, $value) = @_;
	$node->append_conf('postgresql.conf', "$name = '$value'\n");
	$node->reload;
	return;
}

sub logged
{
	my ($pattern, $from) = @_;
	return slurp_file($node->logfile, $from) =~ $pattern;
}

sub restart_workers
{
	my $old = join(',', worker_pids($node, 'postgres'));
	sql(q(SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE backend_type = 'wfproc worker'));
	return $node->poll_query_until('postgres',
		"SELECT EXISTS (SELECT FROM wfproc.workers WHERE shards = 64 AND pid NOT IN ($old))");
}

#
# The table: each SQLSTATE, raised in each place
#

# rows "| codes | step | fold |", codes as 40xxx or 25006, or "all others"
open(my $file, '<', "$FindBin::RealBin/../docs/DESIGN.md") or die $!;
my @rules;
while (<$file>)
{
	push @rules, [ $1, $2, $3 ] if /^\| ([0-9A-Z, x]+|all others) \| (repeated|counts|gives up) \| (passes|differs) \|/;
}
close($file);
cmp_ok(@rules, '>=', 4, 'the table is in docs/DESIGN.md');

sub rule
{
	my ($code) = @_;
	for my $rule (@rules)
	{
		for my $pattern (split /, /, $rule->[0])
		{
			(my $regexp = $pattern) =~ tr/x/./;
			return $rule if $pattern eq 'all others' || $code =~ /^$regexp$/;
		}
	}
	die $code;
}

# one of each class, and those that somebody might take for the engine's own
our @codes = qw(
  02000 03000 08000 08001 08006 09000 0A000 0B000 0F000 0L000 0P000 0Z000 20000 21000 22004 22012 23505 24000 25001 25006 26000
  27000 28000 2B000 2D000 2F000 34000 38000 39000 39P01 3B000 3D000 3F000 40000 40001 40003 40P01 42501 42704 44000 53000 53100
  53200 53300 54000 55000 55P03 57000 57014 57P01 57P02 57P03 57P04 57P05 58000 58030 58P01 72000 F0000 F0001 HV000 P0000 P0001
  XX000 XX001 XX002 WF001 WF002);
our $codes = join(',', @codes);
# where each takes a workflow of its own
my @few = qw(08006 22012 25006 40001 53200 55P03 57014 57P01 58030 P0001 XX001 WF001);

# a handler reads what it is to raise, and at which event, so that it can do something else in a replay
sql(q(
CREATE TABLE switch (id text PRIMARY KEY, at text, code text);
CREATE FUNCTION told(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    code text := (SELECT s.code FROM public.switch s WHERE s.id = wfproc.self() AND s.at = event);
BEGIN
    IF code IS NOT NULL THEN
        IF code = 'sleep' THEN
            PERFORM pg_sleep(600);
        END IF;
        RAISE EXCEPTION 'told to' USING ERRCODE = code;
    END IF;
    RETURN jsonb_build_object('n', COALESCE((state ->> 'n')::int, 0) + 1);
END $$;
CREATE FUNCTION told_migrate(state jsonb, from_version int, to_version int) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    code text := (SELECT s.code FROM public.switch s WHERE s.id = wfproc.self() AND s.at = 'migrate');
BEGIN
    IF code IS NOT NULL THEN
        RAISE EXCEPTION 'told to' USING ERRCODE = code;
    END IF;
    RETURN state;
END $$;
SELECT wfproc.define('told', 'told', retry_delay => '1 h'), wfproc.define('migrated', 'told', retry_delay => '1 h');
));

sub start_all
{
	my ($workflow, $prefix) = @_;
	return "SELECT count(wfproc.start('$workflow', '$prefix-' || code)) FROM unnest('{$codes}'::text[]) code;";
}

sub send_all { return "SELECT count(wfproc.send('$_[0]-' || code, 'x')) FROM unnest('{$codes}'::text[]) code;"; }
sub raise_all { return "INSERT INTO switch SELECT '$_[0]-' || code, '$_[1]', code FROM unnest('{$codes}'::text[]) code;"; }

# what the instances of a prefix are, by code
sub get_all
{
	my ($prefix) = @_;
	my %found = map { /^$prefix-(\w{5})\|(.*)$/ ? ($1, $2) : () } split /\n/, sql(
		"SELECT id, status, attempts, version, COALESCE(error, '') FROM wfproc.instances WHERE id LIKE '$prefix-%'");
	return \%found;
}

# what was found of each code is what the table says: a function of the code and its rule
sub check_all
{
	my ($found, $expected, $what) = @_;
	my @wrong;
	for my $code (@codes)
	{
		my $wanted = $expected->($code, rule($code));
		push @wrong, "$code: $found->{$code}, expected $wanted" if ($found->{$code} // 'nothing') ne $wanted;
	}
	return is(join("\n", @wrong), '', $what);
}

sub expect_step
{
	my ($code, $rule) = @_;
	return 'running|0|1|' if $rule->[1] eq 'repeated';
	return ($rule->[1] eq 'counts' ? 'running' : 'paused') . "|1|1|$code: told to";
}

sub expect_migrate
{
	my ($code, $rule) = @_;
	return $rule->[1] eq 'repeated' ? 'running|0|1|' : "paused|0|1|upgrade to version 2: $code: told to";
}

sub expect_fold
{
	my ($code, $rule) = @_;
	return $rule->[2] eq 'passes' ? "running|0|1|$code: told to" : 'paused|0|1|diverged at seq 1: handler failed: told to';
}

# each in a subtransaction: its SQLSTATE, or what it returns
sql(q(
CREATE FUNCTION try_all(prefix text, codes text[], sql text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    code text;
    result text;
BEGIN
    FOREACH code IN ARRAY codes LOOP
        BEGIN
            EXECUTE sql INTO result USING prefix || '-' || code;
            RETURN NEXT code || ' ' || COALESCE(result, 'null');
        EXCEPTION WHEN OTHERS OR query_canceled OR assert_failure THEN
            RETURN NEXT code || ' ' || SQLSTATE;
        END;
    END LOOP;
END $$));

sub try_all
{
	my ($prefix, $sql) = @_;
	my $quoted = $sql =~ s/'/''/gr;
	my %found = map { /^(\w{5}) (.*)$/ ? ($1, $2) : () } split /\n/, sql("SELECT try_all('$prefix', '{$codes}', '$quoted')");
	return \%found;
}

# without workers first: by run()
sql(start_all('told', 'step') . start_all('told', 'fold') . start_all('migrated', 'migrate') . 'SELECT wfproc.run()');
sql(send_all('step') . raise_all('step', 'x') . 'SELECT wfproc.run()');
check_all(get_all('step'), \&expect_step, 'a step, by run()');
sql(q(SELECT wfproc.define('migrated', 'told', migrate => 'told_migrate')));
sql(raise_all('migrate', 'migrate') . "SELECT count(wfproc.upgrade('migrate-' || code, 2)) FROM unnest('{$codes}'::text[]) code; SELECT wfproc.run()");
check_all(get_all('migrate'), \&expect_migrate, 'a migrate function, by run()');
sql(raise_all('fold', 'start'));
# raised as it is, or what is said instead
sub passes_or { my ($otherwise) = @_; return sub { my ($code, $rule) = @_; return $rule->[2] eq 'passes' ? $code : $otherwise; }; }
check_all(try_all('fold', 'SELECT wfproc.state($1)::text'), passes_or('WF001'), 'state()');
check_all(try_all('fold', 'SELECT wfproc.verify($1)::text'), passes_or('(f,1,"handler failed: told to")'), 'verify()');
check_all(try_all('fold', 'SELECT count(*)::text FROM wfproc.forecast($1, now())'), passes_or('WF001'), 'forecast()');
# these take a workflow: one instance of each code is alone in its own
{
	local @codes = @few;
	local $codes = join(',', @few);
	sql("SELECT count(wfproc.define('only-' || code, 'told')), count(wfproc.start('only-' || code, 'only-' || code)) FROM unnest('{$codes}'::text[]) code; SELECT wfproc.run()");
	sql(raise_all('only', 'start'));
	check_all(try_all('only', q(SELECT outcome || ': ' || error FROM wfproc.check_version($1, 1, 'history'))),
		passes_or('fails: handler failed: told to'), 'check_version(): history');
	check_all(try_all('only', q(SELECT outcome || ': ' || error FROM wfproc.check_version($1, 1, 'upgrade'))),
		passes_or('fails: its own version differs from the log at seq 1: handler failed: told to'), 'check_version(): upgrade');
	check_all(try_all('only', q(SELECT reason FROM wfproc.verify_all($1))), passes_or('handler failed: told to'), 'verify_all()');
	check_all(try_all('only', q(SELECT error FROM wfproc.forecasts($1, now()))),
		passes_or('diverged at seq 1: handler failed: told to'), 'forecasts()');
}
is(sql(q(SELECT DISTINCT status, attempts FROM wfproc.instances WHERE id LIKE 'fold-%' OR id LIKE 'only-%')), 'running|0', 'nothing comes of being looked at');
# scrub() takes them all: what passes ends it; else a finding is what was found
for my $code (qw(08006 40001 53200 55P03 57014 22012 XX001))
{
	my $found = sql(qq(BEGIN;
DELETE FROM switch WHERE id <> 'fold-$code';
SELECT try_all('fold', '{$code}', 'SELECT wfproc.scrub() > 0');
SELECT id FROM wfproc.findings;
ROLLBACK)) =~ s/\n/ /gr;
	is($found, rule($code)->[2] eq 'passes' ? "$code $code" : "$code true fold-$code", "scrub(): $code");
}
sql(send_all('fold') . 'SELECT wfproc.run()');
check_all(get_all('fold'), \&expect_fold, 'the log of an instance that is activated, by run()');

#
# The same by a worker
#
my $passing = join(',', grep { rule($_)->[2] eq 'passes' } @codes);
my $repeated = join(',', grep { rule($_)->[1] eq 'repeated' } @codes);
# whether nothing waits for the instances of a prefix
sub idle
{
	my ($prefix, $of) = @_;
	return "NOT EXISTS (SELECT FROM wfproc.instances WHERE waiting > 0 AND id IN (SELECT '$prefix-' || code FROM unnest('{$of}'::text[]) code))";
}
sub count_by_rule { my ($column, @values) = @_; my %is = map { $_ => 1 } @values; return scalar grep { $is{ rule($_)->[$column] } } @codes; }

sql(q(DELETE FROM switch));
sql(start_all('told', 'wstep') . start_all('told', 'wfold') . "SELECT wfproc.define('wmigrated', 'told');" . start_all('wmigrated', 'wmigrate'));
set_config('wfproc.enabled', 'on');
becomes(idle($_, $codes), "$_: started") for qw(wstep wfold wmigrate);

sql('BEGIN;' . raise_all('wstep', 'x') . send_all('wstep') . 'COMMIT');
becomes("count(*) = " . count_by_rule(1, 'counts', 'gives up') . " FROM wfproc.instances WHERE id LIKE 'wstep-%' AND attempts = 1", 'steps have failed');
check_all(get_all('wstep'), \&expect_step, 'a step, by a worker');
sql("DELETE FROM switch WHERE id LIKE 'wstep-%'");
becomes(idle('wstep', $repeated), 'what is repeated is handled in the end');

sql(q(SELECT wfproc.define('wmigrated', 'told', migrate => 'told_migrate')));
sql('BEGIN;' . raise_all('wmigrate', 'migrate') . "SELECT count(wfproc.upgrade('wmigrate-' || code, 2)) FROM unnest('{$codes}'::text[]) code; COMMIT");
becomes("count(*) = " . count_by_rule(1, 'counts', 'gives up') . " FROM wfproc.instances WHERE id LIKE 'wmigrate-%' AND status = 'paused'", 'migrate functions have failed');
check_all(get_all('wmigrate'), \&expect_migrate, 'a migrate function, by a worker');
sql("DELETE FROM switch WHERE id LIKE 'wmigrate-%'");
becomes(idle('wmigrate', $repeated), 'an upgrade is repeated too');
is(sql("SELECT DISTINCT version FROM wfproc.instances WHERE id IN (SELECT 'wmigrate-' || code FROM unnest('{$repeated}'::text[]) code)"), '2', 'until it succeeds');

my $failed_turns = sql('SELECT sum(failed_turns) FROM wfproc.workers');
is($failed_turns, 0, 'no turn was rolled back');

sql(raise_all('wfold', 'start'));
restart_workers();
sql(send_all('wfold'));
becomes("count(*) = " . @codes . " FROM wfproc.instances WHERE id LIKE 'wfold-%' AND error IS NOT NULL", 'logs could not be folded');
check_all(get_all('wfold'), \&expect_fold, 'the log of an instance that is activated, by a worker');
is(sql('SELECT sum(failed_turns) FROM wfproc.workers'), 0, 'no turn was rolled back for that either');
sql(q(SELECT wfproc.terminate('wfold-57P01')));
becomes(q(status = 'terminated' FROM wfproc.instances WHERE id = 'wfold-57P01'), 'one that cannot be folded for now can be got rid of');
sql("DELETE FROM switch WHERE id LIKE 'wfold-%'");
becomes(idle('wfold', $passing), 'the others go on once it has passed');
is(sql("SELECT DISTINCT wfproc.state(id), wfproc.verify(id), error FROM wfproc.instances WHERE status = 'running' AND id IN (SELECT 'wfold-' || code FROM unnest('{$passing}'::text[]) code)"),
	'{"n": 2}|(t,,)|', 'as they were');

my $log = log_size($node);
{
	local @codes = @few;
	local $codes = join(',', @few);
	my $few_passing = join(',', grep { rule($_)->[2] eq 'passes' } @few);
	sql(raise_all('only', 'start'));
	set_config('wfproc.scrub_rate', 1000000);
	becomes("count(*) = " . count_by_rule(2, 'differs') . " FROM wfproc.findings WHERE id LIKE 'only-%'", 'a worker that checks finds what differs');
	ok(wait_until(sub { logged(qr/a check of an instance was given up: SQLSTATE 55P03/, $log) }, 'a check is given up'), 'and gives up what passes');
	is(sql("SELECT count(*) FROM wfproc.findings WHERE id IN (SELECT 'only-' || code FROM unnest('{$few_passing}'::text[]) code)"), 0, 'which is no finding');
	is(sql("SELECT DISTINCT status, error FROM wfproc.instances WHERE id IN (SELECT 'only-' || code FROM unnest('{$few_passing}'::text[]) code)"), 'running|', 'and keeps nobody');
}
set_config('wfproc.scrub_rate', 0);
sql('DELETE FROM switch');

#
# What really happens
#

# a table that a handler reads is locked while logs are folded, and longer than a worker waits
sql(q(CREATE TABLE rates (r int); INSERT INTO rates VALUES (7);
CREATE FUNCTION reader(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    RETURN state || jsonb_build_object(event, (SELECT r FROM public.rates));
END $$;
SELECT wfproc.define('reader', 'reader', max_attempts => 1);
SELECT wfproc.start('reader', 'reader-' || n) FROM generate_series(1, 4) n));
becomes(q(count(*) = 4 FROM wfproc.instances WHERE id LIKE 'reader-%' AND waiting = 0), 'readers are started');
restart_workers();
my $locker = WfClient->new($node, 'postgres');
$locker->connect;
$locker->call('BEGIN; LOCK TABLE rates IN ACCESS EXCLUSIVE MODE');
sql(q(SELECT wfproc.send('reader-' || n, 'x') FROM generate_series(1, 4) n));
becomes(q(count(*) = 4 FROM wfproc.instances WHERE id LIKE 'reader-%' AND status = 'running' AND attempts = 0 AND error = '55P03: canceling statement due to lock timeout'),
	'a lock is not got while logs are folded');
$locker->call('COMMIT');
becomes(q(count(*) = 4 FROM wfproc.instances WHERE id LIKE 'reader-%' AND waiting = 0), 'they go on');
is(sql(q(SELECT DISTINCT wfproc.state(id), status, error FROM wfproc.instances WHERE id LIKE 'reader-%')), '{"x": 7, "start": 7}|running|', 'as if nothing had been');

# and in a live step: for longer than ten repetitions and all attempts would have taken
$locker->call('BEGIN; LOCK TABLE rates IN ACCESS EXCLUSIVE MODE');
my $since = time;
sql(q(SELECT wfproc.send('reader-1', 'y')));
ok(wait_until(sub { time - $since >= 4 || sql(q(SELECT status FROM wfproc.instances WHERE id = 'reader-1')) ne 'running' }, 'a while'), 'a lock is not got in a step');
is(sql(q(SELECT status, attempts, error FROM wfproc.instances WHERE id = 'reader-1')), 'running|0|', 'that does not count for minutes');
$locker->call('COMMIT');
becomes(q(waiting = 0 FROM wfproc.instances WHERE id = 'reader-1'), 'it goes on');

# a catalogue is locked: a pure handler's plans are cold
sql(q(CREATE FUNCTION pure(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    n int := COALESCE((state ->> 'n')::int, 0);
BEGIN
    RETURN state || jsonb_build_object('n', n + 1);
END $$;
SELECT wfproc.define('pure', 'pure', max_attempts => 1);
SELECT wfproc.start('pure', 'pure-' || n) FROM generate_series(1, 20) n));
becomes(q(count(*) = 20 FROM wfproc.instances WHERE id LIKE 'pure-%' AND waiting = 0), 'pure ones are started');
set_config('wfproc.enabled', 'off');
ok(workers_running($node, 'postgres', 0), 'no worker');
sql(q(SELECT wfproc.send('pure-' || n, 'x') FROM generate_series(1, 20) n));
$locker->call('BEGIN; LOCK TABLE pg_operator IN ACCESS EXCLUSIVE MODE');
$log = log_size($node);
set_config('wfproc.enabled', 'on');
ok(wait_until(sub { logged(qr/could not be folded for now: SQLSTATE 55P03|due to lock timeout/, $log) }, 'the lock is met'), 'a catalogue is locked');
$locker->call('COMMIT');
becomes(q(count(*) = 20 FROM wfproc.instances WHERE id LIKE 'pure-%' AND status = 'running' AND waiting = 0 AND wfproc.state(id) = '{"n": 2}'), 'all go on');

# limits of time: in a replay they are generous, and what is beyond them passes too
sql(q(CREATE FUNCTION slow(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_sleep(COALESCE((payload ->> 's')::float8, 0));
    RETURN state;
END $$;
SELECT wfproc.define('slow', 'slow'), wfproc.define('limited', 'told', handler_timeout => '100 ms');
SELECT wfproc.start('slow', 'slow'), wfproc.send('slow', 'x', '{"s": 0.6}'), wfproc.start('limited', 'limited')));
becomes(q(count(*) = 2 FROM wfproc.instances WHERE id IN ('slow', 'limited') AND waiting = 0), 'a slow step is handled');
sql(q(SELECT wfproc.define('slow', 'slow', handler_timeout => '300 ms'); INSERT INTO switch VALUES ('limited', 'start', 'sleep')));
restart_workers();
sql(q(SELECT wfproc.send('slow', 'x'), wfproc.send('limited', 'x')));
becomes(q(waiting = 0 AND status = 'running' FROM wfproc.instances WHERE id = 'slow'), 'it is folded under a shorter limit');
is(sql(q(SELECT wfproc.verify('slow'))), '(t,,)', 'and is as it should be');
becomes(q(status = 'running' AND attempts = 0 AND error = '57014: handler took longer than 1000 ms' FROM wfproc.instances WHERE id = 'limited'), 'a log that takes too long waits');
is(sqlstate($node, 'postgres', q(SELECT wfproc.verify('limited'))), '57014', 'and is not said to differ');
sql(q(DELETE FROM switch));
becomes(q(waiting = 0 AND error IS NULL FROM wfproc.instances WHERE id = 'limited'), 'until it does not');

# a worker is cancelled in the midst of a step: that step is repeated, and the others of its turn do not wait for it
sql(q(SELECT wfproc.define('sleeper', 'told', handler_timeout => '10 min'); SELECT wfproc.start('sleeper', 'sleeper'), wfproc.start('sleeper', 'neighbour')));
becomes(q(count(*) = 2 FROM wfproc.instances WHERE workflow = 'sleeper' AND waiting = 0), 'a sleeper is started');
sql(q(INSERT INTO switch VALUES ('sleeper', 'x', 'sleep'); SELECT wfproc.send('sleeper', 'x'), wfproc.send('neighbour', 'x')));
my $sleeping = q(FROM pg_stat_activity WHERE backend_type = 'wfproc worker' AND wait_event = 'PgSleep');
becomes("EXISTS (SELECT $sleeping)", 'it sleeps');
sql("SELECT pg_cancel_backend(pid) $sleeping");
becomes(q(waiting = 0 FROM wfproc.instances WHERE id = 'neighbour'), 'cancelled: its neighbour is handled');
becomes("EXISTS (SELECT $sleeping)", 'it is tried again');
sql(q(DELETE FROM switch));
sql("SELECT pg_cancel_backend(pid) $sleeping");
becomes(q(waiting = 0 FROM wfproc.instances WHERE id = 'sleeper'), 'and handled in the end');
is(sql(q(SELECT attempts, error, wfproc.state(id) FROM wfproc.instances WHERE id = 'sleeper')), '0||{"n": 2}', 'without an attempt');
is(sql('SELECT sum(failed_turns) FROM wfproc.workers'), 0, 'no turn was rolled back');

# a client's own cancel is its statement's, whatever SQLSTATE it shares with a handler's error
set_config('wfproc.enabled', 'off');
ok(workers_running($node, 'postgres', 0), 'no worker');
sql(q(INSERT INTO switch VALUES ('sleeper', 'x', 'sleep'); SELECT wfproc.send('sleeper', 'x')));
is(sqlstate($node, 'postgres', q(SET statement_timeout = '200ms'; SELECT wfproc.run())), '57014', 'statement_timeout ends run()');
is(sql(q(SELECT attempts, error FROM wfproc.instances WHERE id = 'sleeper')), '0|', 'and says nothing of the handler');

# what passes, again and again, counts in the end: the workers' clock is moved
sql(q(DELETE FROM switch; SELECT wfproc.start('told', 'again'), wfproc.run()));
sql(q(INSERT INTO switch VALUES ('again', 'x', '53200'); SELECT wfproc.send('again', 'x')));
my $minute = 0;
sub clock { return sprintf '2050-01-01 %02d:%02d:00+00', int($minute / 60), $minute % 60; }
set_config('wfproc.fake_now', clock());
set_config('wfproc.enabled', 'on');
ok(wait_until(
		sub {
			$minute++;
			set_config('wfproc.fake_now', clock());
			return sql(q(SELECT attempts FROM wfproc.instances WHERE id = 'again')) == 1;
		},
		'it counts'),
	'what passes again and again counts in the end');
cmp_ok($minute, '>=', 16, 'not the first times');
is(sql(q(SELECT error FROM wfproc.instances WHERE id = 'again')), '53200: told to', 'and is told');

$locker->close;
no_alarms($node, 'nothing alarming in the log');
$node->stop;
done_testing();
