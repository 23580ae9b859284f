# Messages: a ring of 1,000 processes, each of which sends a token that it gets on to the next by one send() in its PL/pgSQL
# handler. 50 tokens go round at once. A hop is that send() and the row in the next one's log. The time is from the commit of
# what sends the tokens off until the last hop is handled.
# - One worker has all of them: messages are handed over in its memory.
# - Two workers: neighbours are in different shards, so that each message goes through the mailbox to the other worker, which
#   is woken for it, unless it is behind anyway.
use strict;
use warnings;
use Bench;

my $processes = 1000;
my $tokens = 50;

# Waits until so many workers share the work.
sub wait_for_workers
{
	my ($count) = @_;
	configure('wfproc.workers' => $count);
	my $shared = sprintf('SELECT count(*) = %d AND sum(shards) = 64 AND min(shards) = %d FROM wfproc.workers', $count, 64 / $count);
	for (1 .. 500)
	{
		return if sql($shared) eq 't';
		select(undef, undef, undef, 0.02);
	}
	die "there are no $count workers\n";
}

# Seconds of processor time of all workers.
sub workers_cpu { return sql('SELECT sum(bench.cpu(pid)) FROM wfproc.workers') }

# Has all tokens go round so many times; returns seconds. Each ends where it began.
sub go_round
{
	my ($times, $done) = @_;
	my $left = $times * $processes;
	my $seconds = handled_after($tokens * ($left + 1), <<"END");
SELECT wfproc.send('ring-' || n * $processes / $tokens, 'token', jsonb_build_object('left', $left)) FROM generate_series(0, $tokens - 1) n
END
	$done->{times} += $times;
	$done->{calls}++;
	my $logged = sql("SELECT sum(n), min(n), max(n) FROM (SELECT count(*) AS n FROM wfproc.event WHERE name = 'token' GROUP BY instance_id) e");
	my $least = $done->{times} * $tokens;
	my $expected = join('|', $least * $processes + $done->{calls} * $tokens, $least, $least + $done->{calls});
	die "tokens in the log, in all, at least and at most by process: $logged, not $expected\n" if $logged ne $expected;
	return $seconds;
}

# A row of the report: the rounds of one number of workers.
sub measure_ring
{
	my ($what, $times, $done, $bar) = @_;
	my $hops = $times * $processes * $tokens;
	my @rounds = rounds(sub {
		my $cpu = workers_cpu();
		my $seconds = go_round($times, $done);
		$cpu = workers_cpu() - $cpu;
		note(sprintf('  %s hops a second, %s us cpu each', per_second($seconds, $hops), us($cpu, $hops)));
		return [$seconds, $cpu];
	});
	my $seconds = median(map { $_->[0] } @rounds);
	my $each = sub { my ($i) = @_; return join(', ', map { us($_->[$i], $hops) } @rounds) };
	return [
		$what, "$hops hops, us each: " . $each->(0) . ' (cpu ' . $each->(1) . ')', '', per_second($seconds, $hops) . ' hops/s',
		defined $bar ? "$bar hops/s" : '', defined $bar ? $hops / $seconds >= $bar : undef
	];
}

sub {
	sql(<<'END');
CREATE FUNCTION bench.ring(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event = 'start' THEN
        RETURN payload;
    END IF;
    IF (payload ->> 'left')::int > 0 THEN
        PERFORM wfproc.send(state ->> 'next', 'token', jsonb_build_object('left', (payload ->> 'left')::int - 1));
    END IF;
    RETURN state;
END $$;
SELECT wfproc.define('ring', 'bench.ring') \g /dev/null
END
	sql("SELECT count(wfproc.start('ring', 'ring-' || n, jsonb_build_object('next', 'ring-' || (n + 1) % $processes))) FROM generate_series(0, $processes - 1) n");
	wait_handled($processes);
	my %done = (times => 0, calls => 0);
	my @report = measure_ring("messages in a ring of $processes processes, $tokens tokens, one worker", 5, \%done, 60_000);
	wait_for_workers(2);
	push @report, measure_ring('the same, each hop from one of two workers to the other', 1, \%done);
	my ($waiting, $dead) = split /\|/, sql('SELECT (SELECT count(*) FROM wfproc.mailbox), (SELECT count(*) FROM wfproc.dead_letter)');
	die "$waiting events wait, $dead are dead letters\n" if $waiting || $dead;
	configure('wfproc.workers' => undef);
	return @report;
};
