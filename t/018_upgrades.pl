# A thousand processes that send to each other and have timers are upgraded at stamps in the middle of their events: those of
# one workflow by a roll-out, those of another each by an upgrade of its own, those of a third over two versions. Done live,
# while the clock goes on (the server's clock is moved) and the worker is killed; late, by a worker that begins when all is
# over, and is killed too; and in one run(): the logs are the same.
#   WF_SEED=N    repeats a run
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

# Simulated time is made of slots: what is sent for a slot is sent while the clock stands at its beginning, and has stamps
# from its middle, so that a recovery, however slow, makes nothing come late. An upgrade of all comes in slot UPGRADE.
use constant { SLOTS => 30, SLOT => 1200, UPGRADE => 14 };
use constant T0 => 1_925_000_400;    # a multiple of SLOT

my $seed   = seed();
my $faults = fault_library(PostgreSQL::Test::Utils::tempdir);
plan skip_all => 'no C compiler' unless $faults;

my $node = wf_node('upgrades', start => 0,
	conf => "wfproc.workers = 0\nwfproc.max_crashes = 1000\nwfproc.batch_size = 300\nwfproc.sweep_interval = 1h\nfsync = off\n");
{
	local @ENV{ keys %$faults } = values %$faults;
	$node->start;
}

# traders: upgraded to 2 by a roll-out. shops: to 2, each at a stamp of its own. chains: from 1 to 3, those in the EU.
# kids: children of traders, upgraded by a roll-out, but those that are over before.
my %instances = (traders => [ 1 .. 500 ], shops => [ 501 .. 800 ], chains => [ 801 .. 1000 ]);
my %versions = (traders => 2, shops => 2, chains => 3, kids => 2);

# The sum of a state depends on all that its process was told and drew, and on the code that handled it. What a version does
# differs too: how far timers reach, how many it tells.
my $handler = q(
CREATE OR REPLACE FUNCTION agent(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    slot timestamptz := date_bin('20 min', wfproc.now(), 'epoch');
    last timestamptz := to_timestamp(%last%);
BEGIN
    state := state || jsonb_build_object('v%version%', COALESCE((state ->> 'v%version%')::int, 0) + 1,
        'sum', md5(concat_ws('|', '%version%', state ->> 'sum', event, payload, wfproc.sender(), wfproc.event_at(), wfproc.now(), wfproc.seq(),
                             wfproc.self(), wfproc.parent(), wfproc.random(), wfproc.uuid())));
    IF event = 'start' OR event = 'tick' AND slot < last THEN
        PERFORM wfproc.set_timer('tick', at => slot + (2 + floor(wfproc.random() * (2 + %version%))) * interval '20 min'
                                                    + interval '5 min' + wfproc.random() * interval '10 min');
    END IF;
    IF event = 'do' OR event = 'tick' AND wfproc.random() < 0.5 THEN
        PERFORM wfproc.send('p-' || 1 + floor(wfproc.random() * 1000)::int, 'hear', jsonb_build_object('left', %version%, 'from', state -> 'sum'));
    ELSIF event = 'hear' AND (payload ->> 'left')::int > 0 AND wfproc.random() < 0.5 THEN
        PERFORM wfproc.send('p-' || 1 + floor(wfproc.random() * 1000)::int, 'hear', jsonb_build_object('left', (payload ->> 'left')::int - 1));
    ELSIF event = 'child' THEN
        PERFORM wfproc.start('kids', wfproc.self() || '/' || wfproc.seq(), payload);
    ELSIF event = 'stop ticking' THEN
        PERFORM wfproc.cancel_timer('tick');
    END IF;
    IF event = 'tick' AND slot >= last AND wfproc.parent() IS NOT NULL THEN
        PERFORM wfproc.complete(state);
    END IF;
    RETURN state;
END $$;
);
my $migrate = q(
CREATE OR REPLACE FUNCTION turn_over(state jsonb, from_version int, to_version int) RETURNS jsonb LANGUAGE sql AS $$
    SELECT state || jsonb_build_object('path', COALESCE(state ->> 'path', '') || from_version || '>' || to_version,
                                       'sum', md5(concat_ws('|', to_version, state ->> 'sum')))
$$;
);

sub code { my ($version) = @_; return $handler =~ s/%version%/$version/gr =~ s/%last%/T0 + (SLOTS - 3) * SLOT/er; }
sub at { my ($stamp) = @_; return sprintf("to_timestamp(%d) + interval '%d us'", $stamp / 1_000_000, $stamp % 1_000_000); }

# A stamp in the middle of a slot that nobody else has, in microseconds.
my %used;

sub stamp
{
	my ($slot) = @_;
	my $stamp;
	do { $stamp = (T0 + $slot * SLOT) * 1_000_000 + 300_000_000 + draw(600_000_000) } while $used{$stamp}++;
	return $stamp;
}

#
# What happens from outside: for each slot transactions, each a list of statements, in the order of their sending.
#
my $rolled_out = stamp(UPGRADE);

sub draw_start
{
	my ($workflow, $n) = @_;
	my $region = $n % 5 ? 'eu' : 'us';
	return sprintf(q(SELECT wfproc.start('%s', 'p-%d', '{"n": %d}', %s, 1, '{"region": "%s"}', %s)), $workflow, $n, $n, at(stamp(0)), $region, at(stamp(draw(SLOTS))));
}

sub draw_event
{
	my ($n, $stamp) = @_;
	my $dice = draw(100);
	my $event = $dice < 80 ? 'do' : $dice < 90 && $n <= 500 ? 'child' : $dice < 95 ? 'stop ticking' : 'nothing';
	return sprintf(q(SELECT wfproc.send('p-%d', '%s', '{"r": %d}', %s)), $n, $event, draw(1_000_000), at($stamp));
}

sub draw_inputs
{
	my @slots = map { [] } 0 .. SLOTS - 1;
	push @{ $slots[0] }, map { my $workflow = $_; map { draw_start($workflow, $_) } @{ $instances{$workflow} } } sort keys %instances;
	for my $slot (1 .. SLOTS - 2)
	{
		my @events = map { [ $_, stamp($slot) ] } map { 1 + draw(1000) } 1 .. 100;
		# some at the very stamp of the roll-out
		if ($slot == UPGRADE) { $_->[1] = $rolled_out for @events[ 0 .. 19 ]; }
		push @{ $slots[$slot] }, map { draw_event(@$_) } @events;
	}
	# upgrades are there before their time comes, up to an hour; one in four has the stamp of an event
	for my $n (@{ $instances{shops} })
	{
		my $slot  = UPGRADE - 5 + draw(10);
		my $stamp = stamp($slot);
		unshift @{ $slots[$slot] }, sprintf(q(SELECT wfproc.send('p-%d', 'do', '{}', %s)), $n, at($stamp)) if draw(4) == 0;
		unshift @{ $slots[ $slot - draw(4) ] }, sprintf(q(SELECT wfproc.upgrade('p-%d', 2, %s)), $n, at($stamp));
	}
	# everybody has something to do after
	push @{ $slots[ SLOTS - 1 ] }, map { sprintf(q(SELECT wfproc.send('p-%d', 'do', '{}', %s)), $_, at(stamp(SLOTS - 1))) } 1 .. 1000;
	my @transactions;
	for my $slot (@slots)
	{
		my @sql = @$slot;
		my @portions;
		push @portions, [ splice(@sql, 0, 20 + draw(60)) ] while @sql;
		push @transactions, \@portions;
	}
	unshift @{ $transactions[0] }, [ code(1), map { "SELECT wfproc.define('$_', 'agent', snapshot_every => 7)" } sort keys %versions ];
	push @{ $transactions[ UPGRADE - 9 ] }, publications();
	push @{ $transactions[ UPGRADE - 2 ] },
	  [ map { sprintf q(SELECT wfproc.rollout('%s', %d, %s, attributes => '%s')), $_, $versions{$_}, at($rolled_out), $_ eq 'chains' ? '{"region": "eu"}' : '{}' } qw(traders chains kids) ];
	return \@transactions;
}

# New instances go on beginning with version 1: which one a child begins with is decided when it is started, by the wall clock.
sub publications
{
	my @workflows = sort keys %versions;
	return (
		[ code(2), $migrate, (map { "SELECT wfproc.define('$_', 'agent', migrate => 'turn_over')" } @workflows), (map { "SELECT wfproc.set_current_version('$_', 1)" } @workflows) ],
		[ code(3), q(SELECT wfproc.define('chains', 'agent', migrate => 'turn_over'); SELECT wfproc.set_current_version('chains', 1)) ]);
}

#
# Sending
#
sub new_database
{
	my ($db) = @_;
	$node->safe_psql('postgres', "CREATE DATABASE $db");
	$node->safe_psql($db, 'CREATE EXTENSION wfproc CASCADE; CREATE TABLE sent (slot int, portion int, PRIMARY KEY (slot, portion))');
	return;
}

# Sends a transaction, again and again until it is there: whether it was is in the transaction itself.
sub send_portion
{
	my ($client, $slot, $portion, @sql) = @_;
	my $sql = join(";\n", 'BEGIN', "INSERT INTO sent VALUES ($slot, $portion)", @sql, 'COMMIT');
	my $give_up = time + $PostgreSQL::Test::Utils::timeout_default;
	while (time < $give_up)
	{
		if ($client->connect)
		{
			my ($outcome, @lines) = $client->call("SELECT count(*) FROM sent WHERE (slot, portion) = ($slot, $portion)");
			return if $outcome eq 'ok' && $lines[0] eq '1';
			($outcome, @lines) = $client->call($sql) if $outcome eq 'ok';
			return if $outcome eq 'ok';
			die "@lines" if $outcome eq 'failed' && "@lines" !~ /FATAL|not connected/;
		}
		$client->close;
		select(undef, undef, undef, 0.05);
	}
	die 'the server does not come back';
}

sub send_slot
{
	my ($client, $slot, $transactions) = @_;
	my $portion = 0;
	send_portion($client, $slot, ++$portion, @$_) for @{ $transactions->[$slot] };
	return;
}

sub set_clock { my ($slot) = @_; set_faults($faults, int(T0 + $slot * SLOT - time), 0); return; }

sub set_workers
{
	my ($count) = @_;
	$node->safe_psql('postgres', "ALTER SYSTEM SET wfproc.workers = $count");
	$node->reload;
	return;
}

sub count_log { my ($db) = @_; my ($status, $out) = $node->psql($db, 'SELECT count(*) FROM wfproc.event'); return $status == 0 ? $out : 0; }

# Kills the worker each time that the log has so many rows. Ends by itself, or when the parent has gone.
sub start_killer
{
	my ($db, @rows) = @_;
	my $pid = fork() // die $!;
	return $pid if $pid;
	my $killed = 0;
	for my $rows (@rows)
	{
		wait_until(sub { getppid() == 1 || count_log($db) >= $rows }, "$rows rows of the log are written");
		$killed += wait_until(sub { my ($worker) = eval { worker_pids($node, $db) }; return $worker && kill('KILL', $worker) }, 'there is a worker to kill');
	}
	POSIX::_exit($killed == @rows ? 0 : 1);
}

sub end_killer
{
	my ($pid, $name) = @_;
	waitpid($pid, 0);
	is($?, 0, $name);
	return;
}

sub all_handled
{
	my ($db) = @_;
	ok($node->poll_query_until($db, 'SELECT NOT EXISTS (SELECT FROM wfproc.mailbox)'), "$db: all is handled");
	set_workers(0);
	wait_until(sub { !worker_pids($node, $db) }, 'no worker is left');
	return;
}

#
# The three ways
#
sub handle_at_once
{
	my ($db, $transactions) = @_;
	new_database($db);
	set_clock(SLOTS + 6);
	my $client = WfClient->new($node, $db);
	send_slot($client, $_, $transactions) for 0 .. SLOTS - 1;
	$client->close;
	$node->safe_psql($db, 'SELECT wfproc.run()');
	is($node->safe_psql($db, 'SELECT count(*) FROM wfproc.mailbox'), 0, "$db: all is handled in one go");
	return;
}

sub handle_late
{
	my ($db, $transactions, @kills) = @_;
	new_database($db);
	set_clock(SLOTS + 6);
	my $client = WfClient->new($node, $db);
	send_slot($client, $_, $transactions) for 0 .. SLOTS - 1;
	$client->close;
	set_workers(1);
	my $killer = start_killer($db, @kills);
	end_killer($killer, "$db: the worker was killed when @kills rows were written");
	all_handled($db);
	return;
}

# The clock goes on when the slot before was handled: where the worker has a backlog, mail that has just come goes before it.
sub handle_live
{
	my ($db, $transactions, @kills) = @_;
	set_clock(0);
	new_database($db);
	set_workers(1);
	ok(workers_running($node, $db, 1), "$db: the worker is there");
	my $killer = start_killer($db, @kills);
	my $client = WfClient->new($node, $db);
	my $waiting = 0;
	for my $slot (0 .. SLOTS - 1)
	{
		set_clock($slot);
		send_slot($client, $slot, $transactions);
		my $since = at((T0 + ($slot - 1) * SLOT) * 1_000_000);
		my $until = at((T0 + $slot * SLOT) * 1_000_000);
		$waiting += wait_until(sub { my ($outcome, @lines) = $client->connect ? $client->call("SELECT EXISTS (SELECT FROM wfproc.event WHERE at >= $since) AND NOT EXISTS (SELECT FROM wfproc.mailbox WHERE at < $until)") : ('failed'); $client->close if $outcome ne 'ok'; return $outcome eq 'ok' && $lines[0] eq 't' },
			"what is before slot $slot is handled") if $slot > 0;
	}
	is($waiting, SLOTS - 1, "$db: the worker has kept up");
	$client->close;
	set_clock(SLOTS + 6);
	wait_until(sub { eval { $node->reload; 1 } }, 'the worker is woken');
	end_killer($killer, "$db: the worker was killed when @kills rows were written");
	all_handled($db);
	return;
}

#
# Checks
#
sub none
{
	my ($db, $query, $name) = @_;
	is($node->safe_psql($db, "SELECT * FROM ($query) q LIMIT 5"), '', "$db: $name");
	return;
}

sub log_of
{
	my ($db) = @_;
	return split /\n/, $node->safe_psql($db, q(
SELECT i.id, e.seq, extract(epoch FROM e.at), e.name, e.payload, e.sender, e.idempotency_key, e.reply, e.live, e.digest
FROM wfproc.event e JOIN wfproc.instance i USING (instance_id) ORDER BY i.id, e.seq));
}

sub same_log
{
	my ($db, @expected) = @_;
	my @got = log_of($db);
	ok("@got" eq "@expected", "$db: the same log") and return;
	my ($n) = grep { ($got[$_] // '') ne ($expected[$_] // '') } 0 .. ($#got > $#expected ? $#got : $#expected);
	diag("$db differs from row $n on (WF_SEED=$seed)");
	diag('expected: ', substr($expected[$_] // '-', 0, 300), "\n", 'got:      ', substr($got[$_] // '-', 0, 300)) for ($n > 2 ? $n - 2 : 0) .. $n + 5;
	return;
}

# Where $upgrade is, by a look at the log alone.
sub check_positions
{
	my ($db) = @_;
	none($db, q(
SELECT i.id, w.name, count(e.seq) FROM wfproc.instance i JOIN wfproc.workflow w USING (workflow_id)
LEFT JOIN wfproc.event e ON e.instance_id = i.instance_id AND e.name = '$upgrade'
GROUP BY i.id, w.name, i.attributes, i.closed_at HAVING count(e.seq) <> CASE WHEN w.name = 'chains' AND i.attributes @> '{"region": "us"}' THEN 0 ELSE 1 END),
		'exactly one $upgrade in each log');
	none($db, sprintf(q(
SELECT i.id, u.seq, f.seq FROM wfproc.event u JOIN wfproc.instance i USING (instance_id),
     LATERAL (SELECT min(seq) AS seq FROM wfproc.event e WHERE e.instance_id = u.instance_id AND e.name NOT IN ('start', '$upgrade') AND e.at >= %s) f
WHERE u.payload ? 'rollout' AND u.seq IS DISTINCT FROM f.seq - 1), at($rolled_out)),
		'that of a roll-out comes just before the first event stamped at or after it');
	none($db, q(
SELECT i.id, u.seq, e.seq FROM wfproc.event u JOIN wfproc.instance i USING (instance_id) JOIN wfproc.event e USING (instance_id)
WHERE u.name = '$upgrade' AND NOT u.payload ? 'rollout' AND CASE WHEN e.seq < u.seq THEN e.at > u.at ELSE e.at < u.at END),
		'that of an upgrade is in the order of its stamp');
	none($db, q(
SELECT s.id, s.state, c.* FROM wfproc.instance i,
     LATERAL (SELECT i.id, wfproc.state(i.id) AS state) s,
     LATERAL (SELECT count(*) FILTER (WHERE e.name NOT LIKE '$%' AND (u.seq IS NULL OR e.seq < u.seq)) AS before,
                     count(*) FILTER (WHERE e.name NOT LIKE '$%' AND e.seq > u.seq) AS after, max(u.payload ->> 'version') AS version
              FROM wfproc.event e LEFT JOIN wfproc.event u ON u.instance_id = e.instance_id AND u.name = '$upgrade' WHERE e.instance_id = i.instance_id) c
WHERE (COALESCE((s.state ->> 'v1')::int, 0), COALESCE((s.state ->> 'v2')::int, (s.state ->> 'v3')::int, 0), s.state ->> 'path')
      IS DISTINCT FROM (before::int, after::int, CASE c.version WHEN '2' THEN '1>2' WHEN '3' THEN '1>22>3' END)),
		'what is before it was handled by the code of then, what is after by the new one');
	return;
}

sub check
{
	my ($db) = @_;
	none($db, q(SELECT i.id, v.* FROM wfproc.instances i, wfproc.verify(i.id) v WHERE NOT v.ok), 'verify() is true for all');
	none($db, q(SELECT id, status, error FROM wfproc.instances WHERE status NOT IN ('running', 'completed') OR status = 'completed' AND workflow <> 'kids'), 'nobody has come to harm');
	none($db, q(SELECT id, event, reason FROM wfproc.dead_letters), 'nothing was set aside');
	none($db, q(SELECT id, count(*), max(seq) FROM wfproc.event JOIN wfproc.instance USING (instance_id) GROUP BY 1 HAVING count(*) <> max(seq)), 'numbers are 1 to n');
	none($db, q(SELECT id, seq FROM wfproc.event JOIN wfproc.instance USING (instance_id) WHERE at > recorded_at), 'nothing is handled before its time');
	is($node->safe_psql($db, q(SELECT workflow, version, status, pending, done, failed FROM wfproc.rollouts ORDER BY 1)),
		"chains|3|in force|0|160|0\nkids|2|in force|0|" . $node->safe_psql($db, q(SELECT count(*) FROM wfproc.instances WHERE workflow = 'kids')) . "|0\ntraders|2|in force|0|500|0",
		"$db: the roll-outs are done");
	check_positions($db);
	return;
}

sub states { my ($db) = @_; return $node->safe_psql($db, join(' UNION ALL ', map { "SELECT * FROM wfproc.states('$_')" } sort keys %versions)); }

my $transactions = draw_inputs();
handle_at_once('at_once', $transactions);
my @expected = log_of('at_once');
my $rows = @expected;
cmp_ok($rows, '>', 10000, "$rows rows of the log");
cmp_ok($node->safe_psql('at_once', q(SELECT count(*) FROM wfproc.instances WHERE workflow = 'kids')), '>', 20, 'some have children');
cmp_ok($node->safe_psql('at_once', sprintf q(SELECT count(*) FROM wfproc.event WHERE name <> '$upgrade' AND at = %s), at($rolled_out)), '>=', 20, 'some events have the very stamp of the roll-out');
check('at_once');
my $states = states('at_once');

my @kills = sort { $a <=> $b } map { int($rows / 10) + draw(int($rows * 0.8)) } 1 .. 2;
handle_late('late', $transactions, @kills);
same_log('late', @expected);
is(states('late'), $states, 'late: the same states');
check('late');

# one about when the upgrades are, too
@kills = sort { $a <=> $b } int($rows / 3) + draw(int($rows / 4)), map { int($rows / 10) + draw(int($rows * 0.7)) } 1 .. 2;
handle_live('live', $transactions, @kills);
same_log('live', @expected);
is(states('live'), $states, 'live: the same states');
check('live');

no_alarms($node, 'nothing alarming in the log');
$node->stop;
done_testing();
