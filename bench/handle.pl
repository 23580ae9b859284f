# Events handled by one worker: a backlog of 200,000 for 1,000 instances. The worker is held off while they are sent; the time
# is from its first turn until the last event is handled. Three PL/pgSQL handlers of setup.sql, from one that adds up and keeps
# three keys to one that does nothing; what each takes when it is called from SQL alone is said with its figures.
# Beside it: INSERT ... SELECT of the very rows that this has added to the log, in the order in which they were sent, in
# batches of 1,000, each committed, into a table with the same columns and key.
use strict;
use warnings;
use Bench;

my $events = 200_000;
my %what = (
	account => 'events handled per second by one worker; the handler counts, adds up and keeps three keys',
	counter => 'the same, a handler that counts and keeps a key of the event',
	idle => 'the same, a handler that does nothing'
);

# Returns the seconds that it took, and the worker's processor time.
sub handle
{
	my ($workflow, $prefix) = @_;
	workers_on();
	my $before = handled();
	sql("SELECT count(wfproc.start('$workflow', '$prefix-' || n)) FROM generate_series(1, 1000) n");
	wait_handled($before + 1000);
	workers_off();
	my $after = sql('SELECT clock_timestamp()');
	sql("SELECT count(wfproc.send('$prefix-' || 1 + n % 1000, 'deposit', jsonb_build_object('amount', n % 97, 'ref', 'r-' || n)))
		 FROM generate_series(1, $events) n; CHECKPOINT");
	workers_on();
	my $end = wait_handled($events);
	my $cpu = worker_cpu();
	sql("TRUNCATE bench.log; INSERT INTO bench.log SELECT row_number() OVER (ORDER BY at, mail_id), * FROM wfproc.event WHERE at > '$after'");
	my $begin = sql('SELECT extract(epoch FROM min(recorded_at)) FROM bench.log');
	die "not all was handled\n" if sql('SELECT count(*) FROM bench.log') != $events || sql('SELECT count(*) FROM wfproc.mailbox') != 0;
	return ($end - $begin, $cpu);
}

# Seconds of the handler alone, for as many events.
sub alone
{
	my ($workflow) = @_;
	my ($seconds, $cpu) = timed(qq(SELECT count(bench.$workflow('{"events": 12, "balance": 1234, "last": "r-123"}', 'deposit',
		jsonb_build_object('amount', n % 97, 'ref', 'r-' || n))) FROM generate_series(1, $events) n));
	my ($rows, $rows_cpu) = timed("SELECT count(jsonb_build_object('amount', n % 97, 'ref', 'r-' || n)) FROM generate_series(1, $events) n");
	return $cpu - $rows_cpu;
}

sub {
	my @report;
	for my $workflow (qw(account counter idle))
	{
		my @rounds = rounds(sub {
			my ($round) = @_;
			my ($wfproc, $wfproc_cpu) = handle($workflow, "$workflow-$round");
			sql('CHECKPOINT');
			my ($insert, $insert_cpu) = timed("CALL bench.copy_log($events)");
			note(sprintf('  %s: %.1f us (%.1f cpu), insert %.1f us (%.1f cpu)', $workflow,
				map { $_ * 1e6 / $events } $wfproc, $wfproc_cpu, $insert, $insert_cpu));
			return [$wfproc, $wfproc_cpu, $insert, $insert_cpu];
		});
		push @report, compare($what{$workflow} . ' (alone ' . us(alone($workflow), $events) . ' us)', $events, \@rounds,
			$workflow eq 'idle' ? () : ('0.4, aim 0.6', 0.4));
	}
	return @report;
};
