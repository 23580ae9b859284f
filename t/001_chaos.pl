# Kills of workers, backends, the launcher and the postmaster at random, while clients send: nothing is lost, nothing is
# doubled, nothing is invented (I1 to I5, I7, I9, I11, I22, I24).
use strict;
use warnings;

use POSIX ();
use Time::HiRes qw(time);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;
use WfTest;

my $seed = seed();
my $instances = 120;
my $clients   = 4;
my $kills     = long_run(20, 60);
my $between   = long_run(120, 400);    # calls that succeed between two kills

my $node = wf_node(
	'chaos',
	start => 0,
	conf  => q(
wfproc.workers = 2
wfproc.max_crashes = 1000
wfproc.sweep_interval = 5s
wfproc.passivate_after = 2s
wfproc.scrub_rate = 0
));
start_child($node);
wf_database($node, 'postgres');

# counter and owner; one whose every seventh event raises at its first sight is not possible for a function of its
# arguments: what fails here is rejected, or closes the instance, or fails for good and is set aside
$node->safe_psql(
	'postgres', q(
CREATE FUNCTION moody(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event = 'reject' THEN
        PERFORM wfproc.reject('told to');
    ELSIF (payload ->> 'n')::int % 7 = 3 THEN
        RAISE EXCEPTION 'not this one';
    END IF;
    RETURN jsonb_build_object('n', COALESCE((state ->> 'n')::bigint, 0) + 1,
                              'sum', COALESCE((state ->> 'sum')::bigint, 0) + COALESCE((payload ->> 'n')::bigint, 0));
END $$;
CREATE FUNCTION slow(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_sleep(0.002);
    RETURN counter(state, event, payload);
END $$;
SELECT wfproc.define('owner', 'owner');
SELECT wfproc.define('moody', 'moody', max_attempts => 2, retry_delay => '20 ms', on_failure => 'dead_letter');
SELECT wfproc.define('slow', 'slow');
SELECT count(wfproc.start((ARRAY['counter', 'owner', 'moody', 'slow'])[1 + n % 4], 'c-' || n)) FROM generate_series(1, 120) n;
));

#
# Clients. Each writes a line for each event that it tried to send: key, instance, event, n, stamp, outcome.
#
my $folder = PostgreSQL::Test::Utils::tempdir;
my $stop   = "$folder/stop";

sub note_calls
{
	my ($file, $outcome, @events) = @_;
	print $file join("\t", @$_{qw(key id event n at)}, $outcome) . "\n" for @events;
	$file->flush;
	return;
}

sub random_event
{
	my ($key, $i) = @_;
	my $dice = draw(100);
	my $number = 1 + draw($instances);
	# most are never finished, so that there is always somebody to send to
	my $may_finish = $i > 200 && $number % 10 == 0;
	return {
		key   => $key,
		id    => "c-$number",
		event => $dice < 3 ? 'reject' : $dice < 4 && $may_finish ? 'finish' : 'add',
		n     => draw(1000),
		at    => $dice < 80 ? '' : $dice < 90 ? 'past' : 'future'
	};
}

sub send_sql
{
	my ($event) = @_;
	my %stamp = (
		''     => 'NULL',
		past   => "clock_timestamp() - interval '1 day'",
		future => "clock_timestamp() + interval '1 s' * random()");
	# a key stands for the stamp that was given, too; here no call is repeated, so that stamps may differ
	return sprintf(q(SELECT wfproc.send('%s', '%s', '{"n": %d}', %s, '%s')),
		@$event{qw(id event n)}, $stamp{ $event->{at} }, $event->{key});
}

# One transaction: a single event; or several, some of them taken back by a savepoint; or all of them rolled back.
sub one_call
{
	my ($client, $file, $prefix, $i) = @_;
	my $dice   = draw(10);
	my @events = map { random_event("$prefix-$i-$_", $i) } 1 .. ($dice < 6 ? 1 : 1 + draw(5));
	my ($outcome, @lines);
	if ($dice < 6)
	{
		($outcome, @lines) = $client->call(send_sql($events[0]));
	}
	elsif ($dice < 9)
	{
		my $undone = random_event("$prefix-$i-undone", $i);
		# to one that is never finished: an error here would be forgiven, and look like one of the transaction's
		$undone->{id} = 'c-1';
		my $sql = join(';', 'BEGIN', map({ send_sql($_) } @events),
			'SAVEPOINT s', send_sql($undone), 'ROLLBACK TO s', 'COMMIT');
		($outcome, @lines) = $client->call($sql);
		note_calls($file, 'failed', $undone);
	}
	else
	{
		($outcome, @lines) = $client->call(join(';', 'BEGIN', map({ send_sql($_) } @events), 'ROLLBACK'));
		$outcome = 'failed';
	}
	note_calls($file, $outcome, @events);
	return;
}

sub client
{
	my ($number) = @_;
	srand($seed + $number);
	my $client = WfClient->new($node, 'postgres');
	open(my $file, '>', "$folder/client-$number") or die $!;
	for (my $i = 0; !-e $stop; $i++)
	{
		if ($client->connect) { one_call($client, $file, "k$number", $i); }
		else { $client->close; select(undef, undef, undef, 0.05); }
	}
	$client->close;
	return;
}

my @children;
for my $number (1 .. $clients)
{
	my $pid = fork() // die $!;
	if ($pid == 0)
	{
		eval { client($number); };
		print STDERR $@ if $@;
		POSIX::_exit($@ ? 1 : 0);
	}
	push @children, $pid;
}

#
# The nemesis: a kill each time that enough calls have succeeded since the last one.
#
sub succeeded
{
	my $count = 0;
	for my $number (1 .. $clients)
	{
		open(my $file, '<', "$folder/client-$number") or next;
		while (<$file>) { $count++ if /\tok$/; }
	}
	return $count;
}

sub pid_of
{
	my ($backend_type) = @_;
	my ($status, $out) = $node->psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE backend_type LIKE '$backend_type' AND pid <> pg_backend_pid()");
	my @pids = split /\n/, $out // '';
	return @pids ? pick(@pids) : undef;
}

sub kill_one
{
	my ($backend_type) = @_;
	my $pid = pid_of($backend_type) // return 0;
	return kill('KILL', $pid);
}

sub terminate_one
{
	my ($backend_type) = @_;
	my $pid = pid_of($backend_type) // return 0;
	$node->psql('postgres', "SELECT pg_terminate_backend($pid)");
	return 1;
}

sub kill_server
{
	my ($signal) = @_;
	kill_postmaster($node, $signal);
	start_child($node);
	return 1;
}

my $other_workers = 2;
my %kill = (
	'kill -9 worker'     => sub { kill_one('wfproc worker%') },
	'kill -9 backend'    => sub { kill_one('client backend') },
	'kill -9 postmaster' => sub { kill_server('KILL') },
	'immediate stop'     => sub { kill_server('QUIT') },
	'terminate worker'   => sub { terminate_one('wfproc worker%') },
	'terminate launcher' => sub { terminate_one('wfproc launcher%') },
	'workers by reload'  => sub {
		$other_workers = 3 - $other_workers;
		$node->psql('postgres', "ALTER SYSTEM SET wfproc.workers = $other_workers");
		$node->psql('postgres', 'SELECT pg_reload_conf()');
		return 1;
	});
# each at least once, the hard ones more often
my @plan = ('kill -9 worker', 'kill -9 backend', 'kill -9 postmaster');
push @plan, sort keys %kill;
push @plan, pick('kill -9 worker', 'kill -9 backend', 'kill -9 postmaster', sort keys %kill) while @plan < $kills;
@plan = map { $_->[1] } sort { $a->[0] <=> $b->[0] } map { [ rand(), $_ ] } @plan;

my $progress = 1;
for my $what (@plan)
{
	my $wanted = succeeded() + $between / 2 + draw($between);
	$progress &&= wait_until(sub { succeeded() >= $wanted }, "clients get on ($what is next)");
	$progress &&= wait_until(sub { $kill{$what}->() }, "$what is possible");
	last unless $progress;
}
ok($progress, 'I22: after each of ' . scalar(@plan) . ' faults the clients get on');

my $last_fault = time;
ok($node->poll_query_until('postgres', "SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type LIKE 'wfproc worker%'"),
	'workers are back after the last fault');
my $back = time - $last_fault;
open(my $file, '>', $stop) or die $!;
close($file);
waitpid($_, 0) for @children;

#
# Quiesce, and check.
#
my $stopped = time;
ok($node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM wfproc.mailbox'), 'I9, I22: the mailbox runs empty, retries and future stamps too');
my $drained = time - $stopped;
cmp_ok($back + $drained, '<', 15, 'I22: within 15 s of the last fault') or diag("workers back after $back s, drained in $drained s");

$node->safe_psql('postgres',
	'CREATE TABLE calls (key text PRIMARY KEY, id text, event text, n int, stamp text, outcome text)');
$node->safe_psql('postgres', "COPY calls FROM '$folder/client-$_' WITH (NULL '\\N')") for 1 .. $clients;
note($node->safe_psql('postgres', 'SELECT outcome, count(*) FROM calls GROUP BY 1 ORDER BY 1'));
$node->safe_psql(
	'postgres', q(
CREATE VIEW logged AS SELECT e.*, i.id, w.name AS workflow FROM wfproc.event e JOIN wfproc.instance i USING (instance_id) JOIN wfproc.workflow w USING (workflow_id);
CREATE VIEW found AS
    SELECT idempotency_key AS key, id, name AS event, payload FROM logged WHERE idempotency_key IS NOT NULL
    UNION ALL
    SELECT idempotency_key, id, event, payload FROM wfproc.dead_letters d
    WHERE NOT EXISTS (SELECT FROM logged l WHERE l.mail_id = d.mail_id AND l.name = d.event);
));

sub none
{
	my ($query, $name) = @_;
	is($node->safe_psql('postgres', "SELECT * FROM ($query) q LIMIT 5"), '', $name);
	return;
}

cmp_ok($node->safe_psql('postgres', q(SELECT count(*) FROM calls WHERE outcome = 'ok')), '>=', $kills * $between / 2, 'enough was sent to mean anything');
none(q(SELECT key FROM calls WHERE outcome = 'ok' EXCEPT SELECT key FROM found), 'I1: no acknowledged event is lost');
none(q(SELECT key, count(*) FROM found GROUP BY key HAVING count(*) > 1), 'I1: none is there twice');
none(q(SELECT mail_id, count(*) FROM logged WHERE mail_id IS NOT NULL GROUP BY 1 HAVING count(*) > 1), 'I1: no mail is handled twice');
none(q(SELECT f.key FROM found f LEFT JOIN calls c USING (key) WHERE c.outcome IS NULL OR c.outcome = 'failed'), 'I2: no event is invented, and none of a transaction that rolled back');
none(q(SELECT f.key FROM found f JOIN calls c USING (key) WHERE (f.id, f.event, f.payload) IS DISTINCT FROM (c.id, c.event, jsonb_build_object('n', c.n))), 'I2: each is what was sent, to whom it was sent');
none(q(SELECT * FROM logged WHERE idempotency_key IS NULL AND (name <> 'start' OR seq <> 1) AND name NOT LIKE '$%'), 'I2: without a key there is only start');
none(q(SELECT id, name, count(*) FROM logged WHERE name LIKE '$%' AND name <> '$skip' GROUP BY 1, 2), 'I2: of the engines own events only what moody led to');
none(q(SELECT instance_id, count(*), max(seq), min(seq) FROM wfproc.event GROUP BY 1 HAVING count(*) <> max(seq) OR min(seq) <> 1), 'I4: numbers are 1 to n');
is($node->safe_psql('postgres', q(SELECT count(*) FROM logged WHERE name = 'start')), $instances, 'I4: each has started once');
none(q(SELECT id, seq FROM logged WHERE at > recorded_at), 'I7: nothing is handled before its time');
none(
	q(SELECT l.id, l.n, l.sum, s FROM
        (SELECT id, count(*) AS n, sum(COALESCE((payload ->> 'n')::bigint, 0)) AS sum FROM logged WHERE name NOT LIKE '$%' AND name <> 'reject' GROUP BY id) l,
        LATERAL wfproc.state(l.id) s
      WHERE (s ->> 'n')::bigint <> l.n OR (s ->> 'sum')::bigint <> l.sum),
	'I3, I11: each state is the fold of its log: every event counts once');
none(q(SELECT i.id, v.* FROM wfproc.instances i, wfproc.verify(i.id) v WHERE NOT v.ok), 'I11, I15: verify() is true for all');
none(q(SELECT id, status, error FROM wfproc.instances WHERE status NOT IN ('running', 'completed')), 'nobody has come to harm');
none(q(SELECT id, attempts, retry_at FROM wfproc.instances WHERE attempts <> 0), 'nobody waits for a retry');
none(q(SELECT d.reason FROM wfproc.dead_letters d WHERE d.reason NOT IN ('told to', 'the instance is completed', 'P0001: not this one')), 'dead letters are what was rejected, given up, or came too late');
is( $node->safe_psql('postgres', q(SELECT count(*) FROM logged WHERE name = '$skip')),
	$node->safe_psql('postgres', q(SELECT count(*) FROM wfproc.dead_letters WHERE reason = 'P0001: not this one')),
	'each event given up is logged as skipped');
no_alarms($node, 'I5, I24: no deadlock, no second owner, no divergence, no leak in the log');

# and it all comes through a last restart
my $digests = 'SELECT i.id, d.* FROM wfproc.instances i, wfproc.digest(i.id) d ORDER BY 1';
my $before = $node->safe_psql('postgres', $digests);
kill_server('QUIT');
is($node->safe_psql('postgres', $digests), $before, 'the digests are the same after a restart');
kill_postmaster($node, 'INT');
done_testing();
