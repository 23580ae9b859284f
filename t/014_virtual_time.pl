# Virtual time: a history gives the same logs whether it is handled live, in one go, in portions with restarts between, by
# a worker that is killed in the middle; and with two workers where messages do not race. Where they do, the order of each
# sender's messages is kept.
#   WF_HISTORIES=N   so many instead of 3
use strict;
use warnings;

use JSON::PP;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;
use WfTest;
use Model;

use constant HOUR => 3_600_000_000;
# all is over by then, and long past by the wall clock
use constant THE_END => 240 * HOUR;

my $seed      = seed(4);
my $histories = $ENV{WF_HISTORIES} // long_run(3, 30);
my $json      = JSON::PP->new->canonical->allow_nonref;
my $show      = $ENV{WF_SHOW} // 12;

my $node = wf_node('virtual', conf => "wfproc.workers = 0\nwfproc.batch_size = 40\nwfproc.sweep_interval = 1s\nfsync = off\n");

# No attempt is repeated: a retry waits for the wall clock.
my %workflows = map { $_->[0] => { max_attempts => 1, on_failure => $_->[1], retry_delay => HOUR, dead_letter_events => $_->[2] } }
  [ failing => 'fail', 0 ], [ pausing => 'pause', 0 ], [ skipping => 'dead_letter', 0 ], [ told => 'dead_letter', 1 ];

sub new_database
{
	my ($db) = @_;
	$node->safe_psql('postgres', qq(CREATE DATABASE "$db"));
	$node->safe_psql($db, 'CREATE EXTENSION wfproc CASCADE');
	$node->safe_psql($db, slurp_file("$FindBin::RealBin/programs.sql"));
	$node->safe_psql($db, qq(SELECT wfproc.define('$_', 'program', max_attempts => 1, on_failure => '$workflows{$_}{on_failure}', snapshot_every => 5,
		dead_letter_events => ($workflows{$_}{dead_letter_events} = 1)))) for sort keys %workflows;
	return;
}

#
# Histories: {starts => [[start, ...], ...], sends => [[send, ...], ...]}, in the order of their stamps
#
my %used;

sub stamp
{
	my ($from, $to) = @_;
	my $at;
	do { $at = $from + draw($to - $from) } while $used{$at}++ || $at % 1000 == 0;
	return $at;
}

# Each state depends on all that its process was told, and on what it drew at random.
sub start
{
	my ($id, $workflow, $at, $payload, $live_from) = @_;
	return [ 'start', $id, $workflow, $at, { %$payload, do => [ [ 'set', 'sum', '' ], @{ $payload->{do} // [] } ] }, $live_from ];
}

sub by_stamp { return [ sort { $a->[3] <=> $b->[3] } @_ ]; }

# 50 processes, and some that they start; messages, timers, children, monitors and all.
sub draw_history
{
	%used = ();
	my @ids  = map { "p$_" } 1 .. 60;
	my $draw = Program->new(ids => \@ids, events => [qw(e1 e2 e3)], timers => [qw(t1 t2 e3)], workflows => [ sort keys %workflows ]);
	my @starts = map { start($_, pick(sort keys %workflows), stamp(0, 2 * HOUR), $draw->payload(2, start => 1), draw(2) ? 0 : draw(24 * HOUR)) } @ids[ 0 .. 49 ];
	my @sends = map { [ 'send', pick(@ids[ 0 .. 49 ]), pick(qw(e1 e2 e3)), stamp(2 * HOUR, 24 * HOUR), $draw->payload(3), undef, undef ] } 1 .. 250;
	# where the worker is killed; nobody sends to it or closes it
	push @starts, start('gate', 'failing', stamp(0, HOUR), {}, 0);
	push @sends, [ 'send', 'gate', 'e1', stamp(5 * HOUR, 6 * HOUR), { do => [ ['gate'] ] }, undef, undef ];
	return { starts => by_stamp(@starts), sends => by_stamp(@sends) };
}

# Roots have timers and events from outside; below them each process hears from one other only, by messages stamped now.
sub draw_trees
{
	%used = ();
	my ($roots, $all) = (5, 50);
	my @children = map { my $n = $_; [ grep { $_ > $roots && $_ <= $all } 3 * $n + $roots - 3 + 1 .. 3 * $n + $roots ] } 1 .. $all;
	my $tell;
	$tell = sub {
		my ($n, $depth) = @_;
		return {} if $depth == 0;
		return { do => [ [ 'set', 'k1', draw(5) ], map { [ 'tell', "p$_", $tell->($_, $depth - 1) ] } map { pick(@$_) } (grep { @$_ } $children[ $n - 1 ]) x draw(3) ] };
	};
	my @starts = map { start("p$_", 'failing', stamp(0, HOUR), {}, draw(24 * HOUR)) } 1 .. $all;
	my @sends = map {
		my $n = 1 + draw($roots);
		my $payload = $tell->($n, 4);
		$payload = { do => [ [ 'timer', pick('t1', 't2'), draw(4 * HOUR), $payload ], [ 'tell', 'p' . pick(@{ $children[ $n - 1 ] }), {} ] ] } if draw(2);
		[ 'send', "p$n", 'e1', stamp(HOUR, 24 * HOUR), $payload, undef, undef ]
	} 1 .. 250;
	return { starts => by_stamp(@starts), sends => by_stamp(@sends) };
}

# Messages that race: everybody tells everybody.
sub draw_races
{
	%used = ();
	my $tell;
	$tell = sub {
		my ($depth) = @_;
		return { $depth ? (do => [ map { draw(4) ? [ 'tell', 'p' . (1 + draw(50)), $tell->($depth - 1) ] : [ 'timer', pick('t1', 't2'), draw(2 * HOUR), $tell->($depth - 1) ] } 0 .. draw(3) ]) : () };
	};
	my @starts = map { start("p$_", 'failing', stamp(0, HOUR), {}, draw(24 * HOUR)) } 1 .. 50;
	my @sends = map { [ 'send', 'p' . (1 + draw(50)), 'e1', stamp(HOUR, 24 * HOUR), $tell->(3), undef, undef ] } 1 .. 250;
	return { starts => by_stamp(@starts), sends => by_stamp(@sends) };
}

#
# Ways to handle one
#
sub inputs { return sprintf 'SELECT program_inputs($in$%s$in$);', $json->encode([@_]); }
sub set_now { return sprintf "SELECT set_config('wfproc.fake_now', virtual_time(%d)::text, false);", $_[0]; }

# Each event at its time, and stops between so that timers fire at theirs.
sub handle_live
{
	my ($db, $history) = @_;
	my @sql = (set_now(0), inputs(@{ $history->{starts} }));
	my @stops = map { [ 'stop', undef, undef, stamp(0, 30 * HOUR) ] } 1 .. 100;
	for my $event (@{ by_stamp(@{ $history->{sends} }, @stops) })
	{
		push @sql, set_now($event->[3]), $event->[0] eq 'send' ? inputs($event) : (), 'SELECT wfproc.run();';
	}
	$node->safe_psql($db, join "\n", @sql, map { (set_now($_ * HOUR), 'SELECT wfproc.run();') } 31 .. 60, THE_END / HOUR);
	return;
}

sub inject
{
	my ($db, $history) = @_;
	$node->safe_psql($db, join "\n", set_now(0), inputs(@{ $history->{starts} }), inputs(@{ $history->{sends} }));
	return;
}

sub handle_at_once
{
	my ($db, $history) = @_;
	inject($db, $history);
	$node->safe_psql($db, join "\n", set_now(THE_END), 'SELECT wfproc.run();');
	return;
}

sub handle_in_portions
{
	my ($db, $history) = @_;
	inject($db, $history);
	my ($sessions, $handled) = (0, 1);
	while ($handled)
	{
		if (++$sessions == 3 || $sessions == 6)
		{
			$node->stop('immediate');
			$node->start;
		}
		$handled = 0;
		$handled += $_ for split /\n/, $node->safe_psql($db, join "\n", '\o /dev/null', set_now(THE_END), '\o', map { sprintf 'SELECT wfproc.run(%d);', 1 + draw(60) } 0 .. draw(8));
	}
	return;
}

sub count_log { my ($status, $out) = $node->psql($_[0], 'SELECT count(*) FROM wfproc.event'); return $status == 0 ? $out : undef; }

sub set_workers
{
	my ($count) = @_;
	$node->safe_psql('postgres', "ALTER SYSTEM SET wfproc.workers = $count");
	$node->reload;
	return;
}

# The worker is killed within a step, which waits at a gate.
sub kill_in_the_middle
{
	my ($db, $workers, $size) = @_;
	my $gate = WfClient->new($node, $db);
	$gate->connect;
	$gate->call('SELECT pg_advisory_lock(4712)');
	set_workers($workers);
	my $pid;
	ok( wait_until(
			sub { $pid = $node->safe_psql($db, q(SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 4712 AND NOT granted)) },
			'the worker is at the gate'),
		'the worker is in the middle');
	my $before = count_log($db);
	kill('KILL', $pid);
	$gate->call('SELECT pg_advisory_unlock(4712)');
	$gate->close;
	ok(wait_until(sub { my ($new) = eval { worker_pids($node, $db) }; return $new && $new != $pid }, 'another worker has begun'),
		'it was killed');
	ok($before > 0 && $before < $size, "when $before of $size rows of the log were written");
	return;
}

# Waits until nothing is left that is due and could be handled.
sub handle_by_workers
{
	my ($db, $history, $workers, $kill, $size) = @_;
	inject($db, $history);
	kill_in_the_middle($db, $workers, $size) if $kill;
	set_workers($workers);
	# an instance whose start was given up never begins
	ok($node->poll_query_until($db, q(
SELECT NOT EXISTS (
    SELECT FROM wfproc.instance i, wfproc.agenda(i.id) a
    WHERE a.at < clock_timestamp() AND NOT a.postponed AND i.status <> 'paused'
      AND (a.event = 'start' OR EXISTS (SELECT FROM wfproc.event e WHERE e.instance_id = i.instance_id AND e.name = 'start'))))),
		"$db: all is handled");
	set_workers(0);
	wait_until(sub { !worker_pids($node, $db) }, 'no worker is left');
	return;
}

#
# Compare
#
my $rows = q(SELECT i.id, e.seq, virtual_us(e.at), e.name, e.payload, e.sender, e.idempotency_key, e.reply, e.live, e.digest
	FROM wfproc.event e JOIN wfproc.instance i USING (instance_id) ORDER BY i.id, e.seq);

sub log_of
{
	my ($db) = @_;
	return split /\n/, $node->safe_psql($db, $rows);
}

sub same_log
{
	my ($name, $db, @expected) = @_;
	my @got = log_of($db);
	is($node->safe_psql($db, q(SELECT i.id, v.* FROM wfproc.instances i, wfproc.verify(i.id) v WHERE NOT v.ok LIMIT 5)), '', "$name: verify() is true for all");
	ok("@got" eq "@expected", "$name: the same log") and return;
	my ($n) = grep { ($got[$_] // '') ne ($expected[$_] // '') } 0 .. ($#got > $#expected ? $#got : $#expected);
	diag(sprintf('%s differs from row %d on (WF_SEED=%d)', $name, $n, $seed));
	diag('expected: ', substr($expected[$_] // '-', 0, 300), "\n", 'got:      ', substr($got[$_] // '-', 0, 300)) for ($n > 2 ? $n - 2 : 0) .. $n + $show;
	return;
}

# What the oracle says, but for what it cannot know: digests.
sub predicted
{
	my ($history) = @_;
	my $model = Model->new(workflows => \%workflows, by => 'nobody');
	$model->input(0, @$_) for @{ $history->{starts} }, @{ $history->{sends} };
	$model->run(THE_END, 20000);
	my @rows;
	for my $i (sort { $a->{id} cmp $b->{id} } $model->instances)
	{
		push @rows, map { [ $i->{id}, @$_ ] } @{ $i->{log} };
	}
	return @rows;
}

sub as_predicted
{
	my ($db, $history) = @_;
	my @expected = map { Model::text($_) } predicted($history);
	my @got = map { Model::text($json->decode($_)) } split /\n/, $node->safe_psql($db, q(
		SELECT jsonb_build_array(i.id, e.seq, virtual_us(e.at), e.name, e.payload - 'mail_id', e.sender, e.idempotency_key, e.reply, e.live::int)
		FROM wfproc.event e JOIN wfproc.instance i USING (instance_id) ORDER BY i.id, e.seq));
	ok("@got" eq "@expected", 'in one go: the log that the oracle says') and return;
	my ($n) = grep { ($got[$_] // '') ne ($expected[$_] // '') } 0 .. ($#got > $#expected ? $#got : $#expected);
	diag('predicted: ', substr($expected[$_] // '-', 0, 300), "\n", 'found:     ', substr($got[$_] // '-', 0, 300)) for ($n > 2 ? $n - 2 : 0) .. $n + $show;
	return;
}

# Messages of one sender, in the order in which their receiver has them; and each once.
sub order_kept
{
	my ($name, $db) = @_;
	is($node->safe_psql($db, q(
SELECT count(*) FROM (SELECT (e.payload ->> 'c')::int AS c, lag((e.payload ->> 'c')::int) OVER (PARTITION BY instance_id, sender ORDER BY seq) AS before
                      FROM wfproc.event e WHERE name = 'm') m WHERE c <= before)), 0, "$name: the order of each sender is kept");
	is($node->safe_psql($db, q(
SELECT count(*) FILTER (WHERE told <> heard), sum(told) > 100
FROM (SELECT COALESCE((wfproc.state(i.id) ->> 'told')::int, 0) AS told,
             (SELECT count(DISTINCT e.payload ->> 'c') FROM wfproc.event e WHERE e.name = 'm' AND e.sender = i.id) AS heard FROM wfproc.instances i) t)), '0|t',
		"$name: each message is heard once");
	is($node->safe_psql($db, q(SELECT i.id, v.* FROM wfproc.instances i, wfproc.verify(i.id) v WHERE NOT v.ok LIMIT 5)), '', "$name: verify() is true for all");
	return;
}

sub drop_database { $node->safe_psql('postgres', qq(DROP DATABASE "$_[0]" WITH (FORCE))); return; }

for my $n (1 .. $histories)
{
	srand(($seed * 1_000_003 + $n) % 2**31);
	my $history = draw_history();
	new_database("${_}$n") for qw(once live portions worker);
	handle_at_once("once$n", $history);
	my @expected = log_of("once$n");
	note(scalar(@expected) . ' rows of the log');
	same_log("$n, in one go", "once$n", @expected);
	as_predicted("once$n", $history);
	handle_live("live$n", $history);
	same_log("$n, live", "live$n", @expected);
	handle_in_portions("portions$n", $history);
	same_log("$n, in portions", "portions$n", @expected);
	handle_by_workers("worker$n", $history, 1, 1, scalar @expected);
	same_log("$n, by a worker", "worker$n", @expected);
	drop_database("${_}$n") for qw(once live portions worker);

	my $trees = draw_trees();
	new_database("${_}$n") for qw(once two);
	handle_at_once("once$n", $trees);
	@expected = log_of("once$n");
	cmp_ok(scalar(@expected), '>', 500, 'trees: ' . scalar(@expected) . ' rows of the log');
	handle_by_workers("two$n", $trees, 2, 0);
	same_log("$n, trees by two workers", "two$n", @expected);
	order_kept("$n, trees by two workers", "two$n");
	drop_database("${_}$n") for qw(once two);

	new_database("races$n");
	handle_by_workers("races$n", draw_races(), 2, 0);
	order_kept("$n, races of two workers", "races$n");
	drop_database("races$n");
}
no_alarms($node, 'nothing alarming in the log');
$node->stop;
done_testing();
