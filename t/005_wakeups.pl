# I9: no wake-up is lost; I7: no timer early, none twice, none lost, over immediate restarts; I4: many senders, one instance.
use strict;
use warnings;

use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use FindBin;
use lib $FindBin::RealBin;
use WfTest;

my $seed = seed();
# only a wake-up brings an event to its worker in time here
my $node = wf_node('wakeups', start => 0, conf => "wfproc.sweep_interval = '1h'\nwfproc.workers = 2\n");
start_child($node);
wf_database($node, 'postgres');
sub sql { return $node->safe_psql('postgres', $_[0]); }

sql(q(SELECT count(wfproc.start('counter', 'i-' || n)) FROM generate_series(1, 500) n));
ok($node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM wfproc.mailbox'), 'instances are started');

#
# Several sessions, each in its own way
#
my @ways = (
	sub { "SELECT wfproc.send('i-$_[0]', 'add', '{\"n\": 1}')" },
	sub { "BEGIN; SAVEPOINT a; SELECT wfproc.send('i-$_[0]', 'add', '{\"n\": 1000000}'); ROLLBACK TO a; SELECT wfproc.send('i-$_[0]', 'add', '{\"n\": 1}'); COMMIT" },
	sub { "BEGIN; SAVEPOINT a; SELECT wfproc.send('i-$_[0]', 'add', '{\"n\": 1}'); SAVEPOINT b; SELECT wfproc.send('i-1', 'add', '{\"n\": 1000000}'); ROLLBACK TO b; RELEASE a; COMMIT" },
	sub { "DO \$\$ BEGIN FOR i IN 1..3 LOOP BEGIN PERFORM wfproc.send('i-$_[0]', 'add', CASE i WHEN 2 THEN '{\"n\": 1}' ELSE '{\"n\": 1000000}' END::jsonb); IF i <> 2 THEN RAISE 'undone'; END IF; EXCEPTION WHEN raise_exception THEN NULL; END; END LOOP; END \$\$" },
	sub { "BEGIN; SELECT wfproc.send('i-$_[0]', 'add', '{\"n\": 1000000}'); ROLLBACK; SELECT wfproc.send('i-$_[0]', 'add', '{\"n\": 1}')" },
	sub { "BEGIN; SELECT wfproc.unsend('i-$_[0]', wfproc.send('i-$_[0]', 'add', '{\"n\": 1000000}')); SELECT wfproc.send('i-$_[0]', 'add', '{\"n\": 1}'); COMMIT" });
my $each = long_run(800, 5000);
my $begin = time;
my @children;
for my $number (0 .. $#ways)
{
	my $pid = fork() // die $!;
	if ($pid == 0)
	{
		srand($seed + $number);
		my $client = WfClient->new($node, 'postgres');
		$client->connect or POSIX::_exit(1);
		for my $i (1 .. $each)
		{
			my ($outcome, @lines) = $client->call($ways[$number]->(1 + draw(500)));
			if ($outcome ne 'ok') { print STDERR "@lines\n"; POSIX::_exit(1); }
		}
		$client->close;
		POSIX::_exit(0);
	}
	push @children, $pid;
}
my $failed = 0;
for my $pid (@children) { waitpid($pid, 0); $failed ||= $?; }
is($failed, 0, 'six sessions have sent');
my $sent = time;
ok($node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM wfproc.mailbox'), 'I9: all is handled, by wake-ups alone');
cmp_ok(time - $sent, '<', 10, sprintf('I9: within 10 s of the last (sent in %.1f s, handled %.2f s later)', $sent - $begin, time - $sent));
is(sql(q(SELECT sum((wfproc.state('i-' || n) ->> 'sum')::bigint) FROM generate_series(1, 500) n)), 6 * $each, 'each once, and nothing that was rolled back');

# more in one transaction than a ring or its notes hold
sql(q(SELECT count(wfproc.send('i-' || 1 + n % 500, 'add', '{"n": 1}')) FROM generate_series(1, 20000) n));
ok($node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM wfproc.mailbox'), 'I9: 20,000 in one transaction');
sql(q(BEGIN; SELECT count(wfproc.start('counter', 'many-' || n)) FROM generate_series(1, 5000) n; COMMIT));
ok($node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM wfproc.mailbox'), 'I9: 5,000 instances started in one transaction');
is(sql('SELECT count(*) FROM wfproc.event WHERE seq = 1'), 5500, 'each started once');

# a worker that is terminated while it has wake-ups that it has not read
for my $round (1 .. 5)
{
	sql(q(SELECT count(wfproc.send('i-' || 1 + n % 500, 'add', '{"n": 1}')) FROM generate_series(1, 2000) n;
	      SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE backend_type = 'wfproc worker';
	      SELECT count(wfproc.send('i-' || 1 + n % 500, 'add', '{"n": 1}')) FROM generate_series(1, 2000) n));
	ok($node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM wfproc.mailbox'), "I9: workers terminated amid wake-ups, round $round");
}
is(sql(q(SELECT sum((wfproc.state('i-' || n) ->> 'sum')::bigint) FROM generate_series(1, 500) n)), 6 * $each + 40000, 'each once');

# prepared transactions may wait for the sweep
sql(q(BEGIN; SELECT wfproc.send('i-1', 'add', '{"n": 1}'); SELECT wfproc.start('counter', 'prepared'); PREPARE TRANSACTION 'one'));
sql(q(BEGIN; SELECT wfproc.send('i-2', 'add', '{"n": 1}'); PREPARE TRANSACTION 'two'));
sql(q(COMMIT PREPARED 'one'; ROLLBACK PREPARED 'two'));
sql(q(ALTER SYSTEM SET wfproc.sweep_interval = '200ms'));
$node->reload;
ok($node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM wfproc.mailbox'), 'I9: COMMIT PREPARED, by the sweep');
is(sql(q(SELECT count(*) FROM wfproc.history('prepared'))), 1, 'what it started has started');
sql(q(ALTER SYSTEM RESET wfproc.sweep_interval));
$node->reload;

# a row that nobody was told of
sql(q(SET session_replication_role = replica; INSERT INTO wfproc.mailbox (instance_id, at, origin, mail_id, shard, name, payload) SELECT instance_id, clock_timestamp(), 0, nextval('wfproc.mail_seq'), instance_id % 64, 'add', '{"n": 1}' FROM wfproc.instance WHERE id = 'i-3'));
sql(q(ALTER SYSTEM SET wfproc.sweep_interval = '200ms'));
$node->reload;
ok($node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM wfproc.mailbox'), 'I9: mail that a COPY brought, by the sweep');
sql(q(ALTER SYSTEM SET wfproc.sweep_interval = '1h'));
$node->reload;

#
# I4: eight writers to one instance
#
sql(q(SELECT wfproc.start('counter', 'popular')));
@children = ();
for my $number (1 .. 8)
{
	my $pid = fork() // die $!;
	if ($pid == 0)
	{
		my $client = WfClient->new($node, 'postgres');
		$client->connect or POSIX::_exit(1);
		for my $i (1 .. long_run(300, 3000)) { POSIX::_exit(1) if ($client->call(q(SELECT wfproc.send('popular', 'add', '{"n": 1}'))))[0] ne 'ok'; }
		$client->close;
		POSIX::_exit(0);
	}
	push @children, $pid;
}
$failed = 0;
for my $pid (@children) { waitpid($pid, 0); $failed ||= $?; }
is($failed, 0, 'I4: eight sessions send to one instance');
ok($node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM wfproc.mailbox'), 'all is handled');
is(sql(q(SELECT wfproc.state('popular') ->> 'sum')), 8 * long_run(300, 3000), 'I4: each once');
is(sql(q(SELECT count(*) = max(seq), min(seq), count(DISTINCT seq) = count(*) FROM wfproc.history('popular', 0, 100000))), 't|1|t', 'I4: numbered 1 to n');
is(sql(q(SELECT wfproc.verify('popular'))), '(t,,)', 'I4: and its chain holds');

#
# I7: timers
#
my $timers = long_run(2000, 20000);
sql(qq(SELECT count(wfproc.send('i-' || 1 + n % 500, 'timer', '{"n": 0}', clock_timestamp() + (n % 97) * interval '62 ms', 'timer-' || n)) FROM generate_series(1, $timers) n));
my $fired = sub { return sql(q(SELECT count(*) FROM wfproc.event WHERE name = 'timer')); };
for my $round (1 .. 3)
{
	ok(wait_until(sub { $fired->() >= $timers * $round / 5 }, 'timers fire'), "I7: timers fire, round $round");
	kill_postmaster($node, pick('QUIT', 'KILL'));
	start_child($node);
}
ok($node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM wfproc.mailbox'), 'I7: none is lost over three restarts');
is(sql(q(SELECT count(*), count(DISTINCT idempotency_key), count(*) FILTER (WHERE recorded_at < at) FROM wfproc.event WHERE name = 'timer')), "$timers|$timers|0", 'I7: none twice, none early');
sql(q(SELECT count(wfproc.send('i-' || n, 'late timer', '{"n": 0}', clock_timestamp() + n * interval '5 ms')) FROM generate_series(1, 400) n));
ok($node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM wfproc.mailbox'), 'I7: timers without faults');
my ($p50, $p99, $early) = split /\|/, sql(q(SELECT round(percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM recorded_at - at) * 1000)), round(percentile_cont(0.99) WITHIN GROUP (ORDER BY extract(epoch FROM recorded_at - at) * 1000)), count(*) FILTER (WHERE recorded_at < at) FROM wfproc.event WHERE name = 'late timer'));
is($early, 0, 'I7: none early');
cmp_ok($p99, '<', 2000, "I7: nor late (p50 $p50 ms, p99 $p99 ms)");

# moved and withdrawn ones
sql(q(SELECT wfproc.send('i-1', 'far', NULL, clock_timestamp() + interval '1 year')));
is(sql(q(SELECT wfproc.reschedule('i-1', mail_id, clock_timestamp()) FROM wfproc.agenda('i-1'))), 't', 'a timer moved to now');
ok($node->poll_query_until('postgres', q(SELECT count(*) = 1 FROM wfproc.event WHERE name = 'far')), 'I9: is handled now');
sql(q(SELECT wfproc.send('i-1', 'near', NULL, clock_timestamp() + interval '1 s')));
is(sql(q(SELECT wfproc.reschedule('i-1', mail_id, clock_timestamp() + interval '1 year') FROM wfproc.agenda('i-1'))), 't', 'one moved away');
sql(q(SELECT wfproc.send('i-1', 'after near', NULL, clock_timestamp() + interval '1100 ms')));
ok($node->poll_query_until('postgres', q(SELECT count(*) = 1 FROM wfproc.event WHERE name = 'after near')), 'one due after that');
is(sql(q(SELECT count(*) FROM wfproc.event WHERE name = 'near')), 0, 'I8: what was moved away has not fired');
#
# The deadline of a cancel holds for whoever must wait, though no sweep comes
#
sql(q(CREATE FUNCTION canceller(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
      BEGIN IF event = 'stop' THEN PERFORM wfproc.cancel(payload ->> 'id', 'told to', '300 ms'); END IF; RETURN state; END $$;
      SELECT wfproc.define('canceller', 'canceller');
      SELECT wfproc.define('patient', 'counter', max_attempts => 10, retry_delay => '1 h')));
sql(q(SELECT wfproc.start('canceller', 'canceller'); SELECT wfproc.start('patient', 'deadline-' || n) FROM generate_series(1, 6) n));
sql(q(SELECT wfproc.pause('deadline-' || n) FROM generate_series(1, 2) n; SELECT wfproc.send('deadline-' || n, 'raise') FROM generate_series(3, 6) n;
      SELECT wfproc.send('deadline-' || n, 'later', NULL, now() + interval '1 day') FROM generate_series(1, 3) n));
ok($node->poll_query_until('postgres', q(SELECT count(*) = 6 FROM wfproc.instances WHERE id LIKE 'deadline-%' AND (status = 'paused' OR retry_at IS NOT NULL))), 'six must wait');
sql(q(SELECT wfproc.cancel('deadline-' || n, 'told to', '300 ms') FROM unnest(ARRAY[1, 3, 5]) n; SELECT wfproc.send('canceller', 'stop', jsonb_build_object('id', 'deadline-' || n)) FROM unnest(ARRAY[2, 4, 6]) n));
ok($node->poll_query_until('postgres', q(SELECT count(*) = 6 FROM wfproc.instances WHERE id LIKE 'deadline-%' AND status = 'terminated')), 'and are terminated in time');
is(sql(q(SELECT count(*) FROM wfproc.instances i, wfproc.verify(i.id) v WHERE NOT v.ok)), 0, 'verify() is true for all');
no_alarms($node, 'nothing alarming in the log');
kill_postmaster($node, 'INT');
done_testing();
