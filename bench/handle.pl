# Events handled by one worker: a backlog of 200,000 for 1,000 instances, by a PL/pgSQL handler that counts, adds and keeps
# a few keys. The worker is held off while they are sent; the time is from its first turn until the last event is handled.
# Beside it: INSERT ... SELECT of the very rows that this has added to the log, in batches of 1,000, each committed, into a
# table with the same columns and key.
use strict;
use warnings;
use Bench;

my $events = 200_000;

sub {
	my $setup = sub {
		my ($workflow, $prefix) = @_;
		my $before = handled();
		sql("SELECT count(wfproc.start('$workflow', '$prefix-' || n)) FROM generate_series(1, 1000) n");
		wait_handled($before + 1000);
	};
	my $handle = sub {
		my ($workflow, $prefix) = @_;
		workers_on();
		$setup->($workflow, $prefix);
		workers_off();
		my $after = sql("SELECT clock_timestamp(); SELECT count(wfproc.send('$prefix-' || 1 + n % 1000, 'deposit',
			jsonb_build_object('amount', n % 97, 'ref', 'r-' || n))) FROM generate_series(1, $events) n");
		$after =~ s/\n.*//s;
		sql('CHECKPOINT');
		workers_on();
		my $end = wait_handled($events);
		my $cpu = worker_cpu();
		sql("TRUNCATE bench.log; INSERT INTO bench.log SELECT row_number() OVER (ORDER BY at, mail_id), * FROM wfproc.event WHERE at > '$after'");
		my $begin = sql("SELECT extract(epoch FROM min(recorded_at)) FROM bench.log");
		die "not all was handled\n" if sql('SELECT count(*) FROM bench.log') != $events || sql('SELECT count(*) FROM wfproc.mailbox') != 0;
		return ($end - $begin, $cpu);
	};
	my @report;
	for my $workflow (qw(account idle))
	{
		my @rounds = rounds(sub {
			my ($round) = @_;
			my ($wfproc, $wfproc_cpu) = $handle->($workflow, "$workflow-$round");
			sql('CHECKPOINT');
			my ($insert, $insert_cpu) = timed("CALL bench.copy_log($events)");
			note(sprintf('  %s: %.1f us (%.1f cpu), insert %.1f us (%.1f cpu)', $workflow,
				map { $_ * 1e6 / $events } $wfproc, $wfproc_cpu, $insert, $insert_cpu));
			return [$wfproc, $insert, $insert / $wfproc, $wfproc_cpu, $insert_cpu];
		});
		my $ratio = median(map { $_->[2] } @rounds);
		push @report, [
			$workflow eq 'account' ? 'events handled per second by one worker, small PL/pgSQL handler' : 'the same, a handler that does nothing',
			per_second(median(map { $_->[0] } @rounds), $events) . '/s; us each: ' . join(', ', map { us($_->[0], $events) } @rounds) .
				' (cpu ' . join(', ', map { us($_->[3], $events) } @rounds) . ')',
			'INSERT ... SELECT, us each: ' . join(', ', map { us($_->[1], $events) } @rounds) .
				' (cpu ' . join(', ', map { us($_->[4], $events) } @rounds) . ')',
			sprintf('%.2f of its rate', $ratio),
			$workflow eq 'account' ? '0.4, aim 0.6' : '',
			$workflow eq 'account' ? $ratio >= 0.4 : undef
		];
	}
	return @report;
};
