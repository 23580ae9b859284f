# How late a lone timer is: an event stamped 30 ms ahead, on an idle server, and the time from its stamp until await() has
# returned after its handling was committed. 300 in a round.
use strict;
use warnings;
use Bench;

sub {
	sql("SELECT count(wfproc.start('trip', 'trip-' || n)) FROM generate_series(1, 900) n");
	wait_handled(900);
	sql('CREATE TABLE bench.seen (n int, at timestamptz)');
	my @rounds = rounds(sub {
		my ($round) = @_;
		my $from = ($round - 1) * 300;
		pgbench([
			"\\set n :n + 1\nSELECT wfproc.send('trip-' || :n, 'go', at => clock_timestamp() + interval '30 ms');\n" .
			"INSERT INTO bench.seen SELECT :n, clock_timestamp() FROM wfproc.await('trip-' || :n);\n"
		], '-t', 300, '-D', "n=$from");
		my @late = split /\n/, sql("SELECT extract(epoch FROM s.at - e.at) * 1000 FROM bench.seen s
			JOIN wfproc.instance i ON i.id = 'trip-' || s.n JOIN wfproc.event e ON e.instance_id = i.instance_id AND e.name = 'go'
			WHERE s.n > $from");
		note(sprintf('  %.2f ms, p99 %.2f ms', median(@late), percentile(99, @late)));
		return [median(@late), percentile(99, @late)];
	});
	my $p99 = median(map { $_->[1] } @rounds);
	return [
		'a lone timer: from its stamp until it is handled and committed, p50/p99', join(', ', map { sprintf('%.2f/%.2f', @$_) } @rounds) . ' ms',
		'', sprintf('p99 %.1f ms', $p99), '10 ms', $p99 <= 10
	];
};
