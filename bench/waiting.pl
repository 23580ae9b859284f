# What a backlog of one does to the others: the time of a lone event (as in wake.pl) while the worker handles a million old
# events of one instance, and without that.
use strict;
use warnings;
use Bench;

my $events = 1_000_000;

sub {
	sql("SELECT count(wfproc.start('trip', 'trip-' || n)) FROM generate_series(1, 3000) n; SELECT wfproc.start('account', 'busy')");
	wait_handled(3001);
	my $script = "\\set n :n + 1\nSELECT wfproc.send('trip-' || :n, 'go');\nSELECT wfproc.await('trip-' || :n);\n";
	my ($without) = pgbench([$script], '-t', 500, '-D', 'n=0');
	workers_off();
	sql("SELECT count(wfproc.send('busy', 'deposit', '{\"amount\": 1}', now() - interval '1 year' + n * interval '1 s')) FROM generate_series(1, $events) n");
	workers_on();
	wait_handled(1);
	my ($with) = pgbench([$script], '-T', 5, '-D', 'n=500');
	my $left = $events - handled();
	note(sprintf('  p50 %.2f ms, without %.2f ms; %d left', median(@$with), median(@$without), $left));
	return [
		'a lone event while one instance has a million old events waiting, p50/p99',
		sprintf('%.1f/%.1f ms, %d of them; %d still waiting then', median(@$with), percentile(99, @$with), scalar @$with, $left),
		sprintf('without: %.1f/%.1f ms', median(@$without), percentile(99, @$without)), '', '', undef
	];
};
