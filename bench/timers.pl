# 100,000 events of as many instances, stamped for the same second: from that second until the last is handled.
use strict;
use warnings;
use Bench;

my $events = 100_000;

sub {
	sql("SELECT count(wfproc.start('idle', 'idle-' || n)) FROM generate_series(1, $events) n");
	wait_handled($events);
	my $handled = $events;
	my @rounds = rounds(sub {
		my $due = sql("SELECT extract(epoch FROM date_trunc('second', now()) + interval '15 s')");
		sql("SELECT count(wfproc.send('idle-' || n, 'due', at => to_timestamp($due))) FROM generate_series(1, $events) n");
		die "sending took too long\n" if time >= $due;
		sql('CHECKPOINT');
		my $late = wait_handled($handled += $events) - $due;
		note(sprintf('  %.2f s', $late));
		return $late;
	});
	return [
		'100,000 events due in the same second: until all are handled', join(', ', map { sprintf('%.2f', $_) } @rounds) . ' s', '',
		sprintf('%.2f s', median(@rounds)), '3 s', median(@rounds) <= 3
	];
};
