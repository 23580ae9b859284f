# Kills of workers, backends and the postmaster at random, while 50 processes send in random rings, set and cancel timers
# and start children, and clients send to them, cancel, pause and resume: every message of a step that is in the log is
# handled exactly once (or is a dead letter, where its receiver has closed), every timer fires exactly once and not early,
# those that were cancelled or replaced never do, and nobody comes to harm.
#   WF_RUNS=N    so many runs (3) of 20 s, each on a server of its own; the second has two workers
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

my $seed    = seed();
my $runs    = $ENV{WF_RUNS} // 3;
my $seconds = 20;
my $members = 50;    # those above 40 are cancelled by clients now and then
my $clients = 3;

# Each message carries m: who sent it, in which step, and which of the step's messages it is. So does each timer, as t.
my $handlers = q(
CREATE FUNCTION next_of(ring int) RETURNS text LANGUAGE sql AS $$
    SELECT 'p-' || 1 + (substring(wfproc.self() from '\d+')::int - 1 + ring) % 50
$$;

-- start, beat and poke send messages off; pass hands them on along a ring. What is stopped does neither.
CREATE FUNCTION member(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    stamp text := wfproc.self() || '/' || wfproc.seq() || '/';
    n int := 0;
    ring int;
BEGIN
    IF event = 'cancel' OR event = 'stop' OR state ? 'stopped' THEN
        PERFORM wfproc.cancel_timer('never');
        RETURN state || CASE WHEN event = 'stop' THEN '{"stopped": true}' ELSE '{}' END::jsonb;
    END IF;
    IF event IN ('start', 'beat') THEN
        PERFORM wfproc.set_timer('beat', after => make_interval(secs => 0.1 + wfproc.random()), payload => jsonb_build_object('t', stamp || 'beat'));
    END IF;
    IF event IN ('start', 'beat', 'poke') THEN
        FOR i IN 1 .. 1 + floor(wfproc.random() * 2)::int LOOP
            n := n + 1;
            ring := 1 + floor(wfproc.random() * 49)::int;
            PERFORM wfproc.send(next_of(ring), 'pass', jsonb_build_object('m', stamp || n, 'ring', ring, 'left', floor(wfproc.random() * 6)),
                                idempotency_key => CASE WHEN wfproc.random() < 0.1 THEN stamp || n END);
        END LOOP;
    ELSIF event = 'pass' AND (payload ->> 'left')::int > 0 THEN
        n := n + 1;
        ring := (payload ->> 'ring')::int;
        PERFORM wfproc.send(next_of(ring), 'pass', jsonb_build_object('m', stamp || n, 'ring', ring, 'left', (payload ->> 'left')::int - 1));
    END IF;
    -- just what a client does at the same time, in the other order
    IF event = 'pair' THEN
        PERFORM wfproc.start('child', (payload ->> 'key') || end_of_key, if_exists => 'ignore') FROM unnest('{-b,-a}'::text[]) end_of_key;
    END IF;
    -- one timer in three is replaced or cancelled by what comes next, often just when it fires
    IF wfproc.random() < 0.3 THEN
        PERFORM wfproc.set_timer('never', after => make_interval(secs => wfproc.random() * 0.1), payload => jsonb_build_object('t', stamp || 'never'));
    ELSIF wfproc.random() < 0.3 THEN
        PERFORM wfproc.cancel_timer('never');
    END IF;
    IF wfproc.random() < 0.1 THEN
        PERFORM wfproc.set_timer('phase', after => '0.2 s', payload => jsonb_build_object('t', stamp || 'phase'), until_state_changes => 'phase');
    END IF;
    IF event = 'beat' AND wfproc.random() < 0.1 THEN
        PERFORM wfproc.start('child', wfproc.self() || '-' || wfproc.seq(), jsonb_build_object('m', stamp || 'child'),
                             on_parent_close => (ARRAY['leave', 'cancel', 'terminate'])[1 + floor(wfproc.random() * 3)::int]);
    END IF;
    RETURN jsonb_build_object('events', COALESCE((state ->> 'events')::int, 0) + 1, 'phase', floor(wfproc.random() * 10));
END $$;

-- says hello to its parent, and ends by a timer
CREATE FUNCTION child(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    stamp text := wfproc.self() || '/' || wfproc.seq() || '/';
BEGIN
    IF event IN ('start', 'end') AND wfproc.parent() IS NOT NULL THEN
        PERFORM wfproc.send(wfproc.parent(), CASE event WHEN 'start' THEN 'hello' ELSE 'bye' END, jsonb_build_object('m', stamp));
    END IF;
    IF event = 'start' THEN
        PERFORM wfproc.set_timer('end', after => make_interval(secs => wfproc.random()), payload => jsonb_build_object('t', stamp || 'end'));
    ELSIF event = 'end' THEN
        PERFORM wfproc.complete(jsonb_build_object('n', wfproc.seq()));
    END IF;
    RETURN state;
END $$;

SELECT wfproc.define('member', 'member');
SELECT wfproc.define('child', 'child');
SELECT count(wfproc.start('member', 'p-' || n)) FROM generate_series(1, 50) n;
);

# What was asked for, by replay, and what has come of it.
my $account = q(
CREATE TABLE steps AS
    SELECT i.id, i.status, r.seq, r.actions, r.state -> 'phase' IS DISTINCT FROM lag(r.state -> 'phase') OVER (PARTITION BY i.id ORDER BY r.seq) AS changes
    FROM wfproc.instances i, wfproc.replay(i.id) r;
CREATE TABLE asked AS
    SELECT id, status, seq, a.ord, a.action ->> 'action' AS action, a.action ->> 'name' AS name, a.action ->> 'id' AS whom,
           (a.action ->> 'at')::timestamptz AS at, a.action -> 'payload' ->> 'm' AS m, a.action -> 'payload' ->> 't' AS t
    FROM steps, jsonb_array_elements(actions) WITH ORDINALITY a (action, ord);
CREATE TABLE logged AS
    SELECT i.id, e.seq, e.at, e.recorded_at, e.name, e.sender, e.idempotency_key AS key, e.payload, e.payload ->> 'm' AS m, e.payload ->> 't' AS t
    FROM wfproc.event e JOIN wfproc.instance i USING (instance_id);
CREATE TABLE sent AS SELECT id AS sender, seq, ord, whom, m FROM asked WHERE action = 'send';
CREATE TABLE received AS SELECT id, seq, at, recorded_at, sender, m FROM logged WHERE m IS NOT NULL AND name IN ('pass', 'hello', 'bye');
CREATE TABLE fired AS SELECT id, seq, at, recorded_at, name, t FROM logged WHERE t IS NOT NULL;
CREATE INDEX ON steps (id, seq) WHERE changes;
-- how each timer would end if it did not fire: by the next action of its name, and phase by a later step that changes it
CREATE TABLE timers AS
    SELECT a.*, lead(action) OVER w AS next_action,
           LEAST(lead(seq) OVER w,
                 CASE WHEN name = 'phase' THEN (SELECT min(s.seq) FROM steps s WHERE s.changes AND s.id = a.id AND s.seq > a.seq) END) AS ends_seq
    FROM asked a WHERE action IN ('set_timer', 'cancel_timer') WINDOW w AS (PARTITION BY id, name ORDER BY seq, ord);
ANALYZE;
);

my $node;

sub none
{
	my ($query, $name) = @_;
	is($node->safe_psql('postgres', "SELECT * FROM ($query) q LIMIT 5"), '', $name);
	return;
}

sub count_of
{
	my ($query) = @_;
	return $node->safe_psql('postgres', "SELECT count(*) FROM ($query) q");
}

#
# Clients. Each notes the key, the receiver and the outcome of each event that it sends.
#
# Starts two children in one transaction, while a member, whose message comes between, starts them in the other order.
sub start_pair
{
	my ($client, $other, $member, $key) = @_;
	my $start = "SELECT wfproc.start('child', '$key-%s', if_exists => 'ignore')";
	$client->call('BEGIN;' . sprintf($start, 'a'));
	$other->call(qq(SELECT wfproc.send('$member', 'pair', '{"key": "$key"}')));
	$client->call(sprintf($start, 'b') . '; COMMIT');
	return;
}

sub one_call
{
	my ($client, $other, $file, $key) = @_;
	my $dice   = draw(100);
	my $member = 'p-' . (1 + draw($members));
	my ($outcome, @lines);
	if ($dice < 70)
	{
		($outcome, @lines) = $client->call("SELECT wfproc.send('$member', 'poke', idempotency_key => '$key')");
		print $file join("\t", $key, $member, $outcome) . "\n";
		$file->flush;
	}
	elsif ($dice < 73) { start_pair($client, $other, $member, $key); }
	elsif ($dice < 80) { $client->call("SELECT wfproc.pause('$member', 'why not')"); }
	elsif ($dice < 95)
	{
		$client->call(q(SELECT wfproc.resume(id) FROM wfproc.instances WHERE status = 'paused'));
	}
	elsif ($dice < 96)
	{
		$client->call(sprintf(q(SELECT wfproc.cancel('p-%d', 'on a whim')), 41 + draw(10)));
	}
	else
	{
		$client->call(sprintf(
				q(SELECT wfproc.%s(id, 'on a whim') FROM wfproc.instances WHERE workflow = 'child' AND status = 'running' LIMIT 1),
				pick('cancel', 'terminate')));
	}
	return;
}

sub client
{
	my ($run, $number, $folder) = @_;
	srand($seed + 100 * $run + $number);
	my $client = WfClient->new($node, 'postgres');
	my $other  = WfClient->new($node, 'postgres');
	open(my $file, '>', "$folder/client-$number") or die $!;
	# 1: the test is gone
	for (my $i = 0; !-e "$folder/stop" && getppid() != 1; $i++)
	{
		if ($client->connect && $other->connect) { one_call($client, $other, $file, "k$number-$i"); }
		else { $_->close for $client, $other; }
		# not to send more than the processes themselves
		select(undef, undef, undef, 0.02);
	}
	$_->close for $client, $other;
	return;
}

sub start_clients
{
	my ($run, $folder) = @_;
	my @children;
	for my $number (1 .. $clients)
	{
		my $pid = fork() // die $!;
		if ($pid == 0)
		{
			eval { client($run, $number, $folder); };
			print STDERR $@ if $@;
			POSIX::_exit($@ ? 1 : 0);
		}
		push @children, $pid;
	}
	return @children;
}

#
# Faults
#
sub kill_one
{
	my ($backend_type) = @_;
	my ($status, $out) = $node->psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE backend_type LIKE '$backend_type' AND pid <> pg_backend_pid()");
	my @pids = split /\n/, $out // '';
	return @pids ? kill('KILL', pick(@pids)) : 0;
}

my %fault = (
	worker     => sub { kill_one('wfproc worker%') },
	backend    => sub { kill_one('client backend') },
	postmaster => sub { kill_postmaster($node); start_child($node); return 1; });

sub handled
{
	my ($status, $out) = $node->psql('postgres', 'SELECT COALESCE(sum(events), 0) FROM wfproc.workers');
	return $out || 0;
}

# Faults for so many seconds, each of them once the workers have got on since the one before. Returns how many of each.
sub rage
{
	my $end = time + $seconds;
	my %count;
	while (time < $end)
	{
		my $what   = pick(sort keys %fault);
		my $before = handled();
		my $wanted = draw(300);
		wait_until(sub { my $now = handled(); $before = 0 if $now < $before; $now > $before + $wanted }, "events are handled ($what is next)")
		  or return;
		wait_until($fault{$what}, "a $what can be killed") or return;
		$count{$what}++;
	}
	return %count;
}

# Everything comes to rest: those that are paused go on, and the members beat no more.
sub quiesce
{
	my ($last_fault) = @_;
	$node->poll_query_until('postgres', "SELECT sum(shards) = 64 FROM wfproc.workers");
	$node->safe_psql(
		'postgres', q(
SELECT wfproc.resume(id), wfproc.send(id, 'stop') FROM wfproc.instances WHERE workflow = 'member' AND status IN ('running', 'paused');
SELECT wfproc.resume(id) FROM wfproc.instances WHERE workflow = 'child' AND status IN ('running', 'paused');
));
	ok($node->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM wfproc.mailbox)'), 'the mailbox runs empty');
	cmp_ok(time - $last_fault, '<', 15, 'within 15 s of the last fault');
	return;
}

#
# The account
#
sub check_messages
{
	cmp_ok(count_of('SELECT FROM sent'), '>', 1000, 'enough was sent to mean anything: ' . count_of('SELECT FROM sent'));
	none('SELECT m, count(*) FROM sent GROUP BY m HAVING count(*) > 1', 'each message has a text of its own');
	none('SELECT m, count(*) FROM received GROUP BY m HAVING count(*) > 1', 'no message is handled twice');
	none('SELECT r.* FROM received r LEFT JOIN sent s USING (m) WHERE (s.sender, s.whom) IS DISTINCT FROM (r.sender, r.id)', 'none is invented, and each came to whom it was sent');
	none(q(
SELECT s.m, s.whom, e.log, e.dead FROM sent s
LEFT JOIN (SELECT m, count(*) FILTER (WHERE w = 'log') AS log, count(*) FILTER (WHERE w = 'dead') AS dead
           FROM (SELECT m, 'log' AS w FROM received UNION ALL SELECT payload ->> 'm', 'dead' FROM wfproc.dead_letters) u GROUP BY m) e USING (m)
WHERE (e.log + e.dead) IS DISTINCT FROM 1),
		'each is in the log of its receiver, or a dead letter, exactly once');
	none(q(
SELECT d.id, d.event, d.reason FROM wfproc.dead_letters d JOIN wfproc.instances i USING (id)
WHERE NOT (i.status IN ('completed', 'cancelled', 'terminated') AND d.reason = 'the instance is ' || i.status)), 'dead letters are of those that have closed');
	none(q(
SELECT * FROM (SELECT s.sender, s.seq AS sent_seq, r.*, row_number() OVER (PARTITION BY s.sender, r.id ORDER BY s.seq, s.ord) AS sent_as,
                      row_number() OVER (PARTITION BY s.sender, r.id ORDER BY r.seq) AS handled_as
               FROM sent s JOIN received r ON r.m = s.m) o WHERE sent_as <> handled_as), 'what one has sent another is handled in the order of sending');
	return;
}

sub check_timers
{
	cmp_ok(count_of('SELECT FROM fired'), '>', 100, 'enough timers fired to mean anything: ' . count_of('SELECT FROM fired'));
	cmp_ok(count_of(q(SELECT FROM timers WHERE action = 'set_timer' AND next_action = 'cancel_timer')), '>', 10, 'enough were cancelled');
	none('SELECT t, count(*) FROM fired GROUP BY t HAVING count(*) > 1', 'no timer fires twice');
	none('SELECT f.* FROM fired f LEFT JOIN timers s ON s.t = f.t WHERE (s.id, s.name, s.at) IS DISTINCT FROM (f.id, f.name, f.at)', 'each is one that was set, at its stamp');
	none('SELECT * FROM fired WHERE recorded_at < at', 'none fires early');
	none('SELECT s.* FROM timers s JOIN fired f USING (t) WHERE s.ends_seq < f.seq', 'none fires that was replaced or cancelled');
	none(q(
SELECT s.* FROM timers s LEFT JOIN fired f USING (t)
WHERE s.action = 'set_timer' AND f.t IS NULL AND s.ends_seq IS NULL AND s.status NOT IN ('completed', 'cancelled', 'terminated')),
		'each that was neither has fired');
	return;
}

sub check_children
{
	none(q(
SELECT a.whom FROM asked a LEFT JOIN wfproc.instances i ON i.id = a.whom AND (i.parent = a.id OR i.id ~ '^k')
WHERE a.action = 'start' AND i.id IS NULL), 'each child was started');
	cmp_ok(count_of(q(SELECT FROM wfproc.instances WHERE id ~ '^k' AND parent IS NULL)), '>', 0, 'some by a client');
	none(q(SELECT id, seq, count(*) FROM logged WHERE name = 'start' GROUP BY 1, 2 HAVING count(*) <> 1 OR seq <> 1), 'once');
	none(q(
SELECT i.id, i.status FROM wfproc.instances i JOIN wfproc.instances p ON p.id = i.parent
WHERE i.status <> 'running' AND p.status = 'running'
  AND (SELECT count(*) FROM logged l WHERE l.id = p.id AND l.sender = i.id AND l.name = 'child.' || i.status AND l.payload ->> 'id' = i.id) <> 1),
		'a parent has heard of each end once');
	none(q(SELECT sender, count(*) FROM logged WHERE name LIKE 'child.%' GROUP BY 1 HAVING count(*) > 1), 'and of none twice');
	return;
}

sub check_clients
{
	my ($folder) = @_;
	$node->safe_psql('postgres', 'CREATE TABLE calls (key text PRIMARY KEY, id text, outcome text)');
	$node->safe_psql('postgres', "COPY calls FROM '$folder/client-$_'") for 1 .. $clients;
	$node->safe_psql('postgres', q(
CREATE VIEW found AS SELECT key, id FROM logged WHERE key ~ '^k' UNION ALL SELECT idempotency_key, id FROM wfproc.dead_letters WHERE idempotency_key ~ '^k'));
	none(q(SELECT key, id FROM calls WHERE outcome = 'ok' EXCEPT SELECT key, id FROM found), 'nothing that a client was told to be sent is lost');
	none(q(SELECT key, count(*) FROM found GROUP BY 1 HAVING count(*) > 1), 'nothing of a client is there twice');
	none(q(SELECT f.key FROM found f LEFT JOIN calls c USING (key, id) WHERE c.outcome IS NULL OR c.outcome = 'failed'), 'nothing is there that failed');
	return;
}

sub check_all
{
	my ($folder) = @_;
	$node->safe_psql('postgres', $account);
	check_messages();
	check_timers();
	check_children();
	check_clients($folder);
	none('SELECT id, count(*), max(seq) FROM logged GROUP BY 1 HAVING count(*) <> max(seq)', 'numbers are 1 to n');
	none(q(SELECT i.id, v.* FROM wfproc.instances i, wfproc.verify(i.id) v WHERE NOT v.ok), 'verify() is true for all');
	none(q(SELECT id, status, attempts, error FROM wfproc.instances WHERE status IN ('failed', 'paused') OR attempts <> 0), 'nobody has come to harm');
	none(q(SELECT * FROM wfproc.link l JOIN wfproc.instance i USING (instance_id) WHERE i.status NOT IN ('running', 'paused')), 'who has closed has no links');
	no_alarms($node, 'no deadlock, no second owner, no divergence, no leak in the log', 'was rolled back');
	return;
}

sub run
{
	my ($run)   = @_;
	my $workers = $run == 2 ? 2 : 1;
	my $folder  = PostgreSQL::Test::Utils::tempdir;
	srand($seed + 100 * $run);
	$node = wf_node(
		"rings$run",
		start => 0,
		conf  => qq(
wfproc.workers = $workers
wfproc.max_crashes = 1000
wfproc.sweep_interval = 5s
wfproc.passivate_after = 1s
));
	start_child($node);
	$node->safe_psql('postgres', 'CREATE EXTENSION wfproc CASCADE');
	$node->safe_psql('postgres', $handlers);

	my @children   = start_clients($run, $folder);
	my %count      = rage();
	my $last_fault = time;
	open(my $file, '>', "$folder/stop") or die $!;
	close($file);
	waitpid($_, 0) for @children;
	ok(%count > 0, 'after each fault the workers get on: ' . join(', ', map { "$count{$_} of $_" } sort keys %count));
	quiesce($last_fault);
	check_all($folder);
	kill_postmaster($node, 'INT');
	return;
}

for my $run (1 .. $runs)
{
	subtest "run $run" => sub { run($run); };
}
done_testing();
