# A lone event on an idle server, one client: send() is called and committed, and await() returns once its handling, which
# completes the instance, is committed: two transactions of the client and one of the worker, that is two flushes of the
# log, one after the other. Beside it, at random in between: a committed single INSERT. Both as the client sees them.
use strict;
use warnings;
use Bench;

sub {
	sql("SELECT count(wfproc.start('trip', 'trip-' || n)) FROM generate_series(1, 4000) n");
	wait_handled(4000);
	my $next = 0;
	my @rounds = rounds(sub {
		my ($insert, $wake) = pgbench([
			"INSERT INTO bench.single (payload) VALUES ('{}');\n",
			"\\set n :n + 1\nSELECT wfproc.send('trip-' || :n, 'go');\nSELECT wfproc.await('trip-' || :n);\n"
		], '-t', 2000, '-D', "n=$next");
		$next += @$wake;
		note(sprintf('  %.2f ms, insert %.2f ms', median(@$wake), median(@$insert)));
		return [median(@$wake), percentile(99, @$wake), median(@$insert), percentile(99, @$insert), median(@$wake) / median(@$insert)];
	});
	my $ratio = median(map { $_->[4] } @rounds);
	my $pairs = sub { my ($i, $j) = @_; return join(', ', map { sprintf('%.2f/%.2f', $_->[$i], $_->[$j]) } @rounds) };
	return [
		'a lone event, from send() until it is handled and committed, p50/p99', $pairs->(0, 1) . ' ms',
		'committed single INSERT: ' . $pairs->(2, 3) . ' ms',
		sprintf('%.1f of its time', $ratio), '3', $ratio <= 3
	];
};
