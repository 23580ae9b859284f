# Activation: 1,000 processes, each with a snapshot and 100 events after it, out of memory since the worker was started anew;
# an event for each, until all are handled. Beside it: the same with all in memory. The difference is what activation takes.
use strict;
use warnings;
use Bench;

my $count = 1000;

sub {
	my $send = "SELECT count(wfproc.send('long-' || n, 'deposit', '{\"amount\": 1}')) FROM generate_series(1, $count) n";
	my $duration = sub {
		my ($end) = @_;
		return $end - sql("SELECT extract(epoch FROM min(recorded_at)) FROM (SELECT DISTINCT ON (instance_id) recorded_at
			FROM wfproc.event ORDER BY instance_id, seq DESC) e");
	};
	sql("SELECT count(wfproc.start('long', 'long-' || n)) FROM generate_series(1, $count) n");
	wait_handled($count);
	sql("SELECT count(wfproc.snapshot('long-' || n)) FROM generate_series(1, $count) n");
	select(undef, undef, undef, 0.02) while sql('SELECT count(*) FROM wfproc.snapshot') < $count;
	handled_of(99 * $count, ($send) x 99);
	my @rounds = rounds(sub {
		workers_off();
		sql($send);
		workers_on();
		my $cold = $duration->(wait_handled($count));
		my $cpu = worker_cpu();
		my $before = handled();
		sql($send);
		my $warm = $duration->(wait_handled($before + $count));
		die "there is another snapshot\n" if sql('SELECT max(seq) FROM wfproc.snapshot') != 1;
		note(sprintf('  %.3f s (%.2f cpu), in memory %.3f s', $cold, $cpu, $warm));
		return [$cold, $warm, ($cold - $warm) * 1000 / $count, $cpu];
	});
	my $each = median(map { $_->[2] } @rounds);
	return [
		'activation of a process with a snapshot and 100 events after it', '1,000 events, cold: ' . join(', ', map { sprintf('%.0f', $_->[0] * 1000) } @rounds) . ' ms (cpu ' . join(', ', map { sprintf('%.0f', $_->[3] * 1000) } @rounds) . ')',
		'in memory: ' . join(', ', map { sprintf('%.0f', $_->[1] * 1000) } @rounds) . ' ms', sprintf('%.2f ms each', $each), '1 ms', $each < 1
	];
};
