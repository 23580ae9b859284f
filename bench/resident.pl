# Memory of processes that are in a worker's memory, with states of 200 bytes: 100,000 of them, by the state it counts and
# by what the operating system says has come to the worker's private memory.
use strict;
use warnings;
use Bench;

my $count = 100_000;

sub {
	configure('wfproc.worker_memory' => '1GB');
	sql("SELECT wfproc.start('parcel', 'first')");
	wait_handled(1);
	my $pid = worker_pid();
	my $before = memory_of($pid);
	sql("SELECT count(wfproc.start('parcel', 'parcel-' || n, jsonb_build_object('to', repeat('x', 150), 'weight', n))) FROM generate_series(1, $count) n");
	wait_handled($count + 1);
	my ($residents, $bytes) = split /\|/, sql('SELECT sum(residents), sum(resident_bytes) FROM wfproc.workers');
	my $grown = memory_of($pid) - $before;
	die "only $residents are resident\n" if $residents < $count;
	configure('wfproc.worker_memory' => undef);
	my $million = $grown / $count * 1e6 / 2**30;
	return [
		'a resident process with a state of 200 bytes', sprintf('%d bytes of state by the registry, %d of private memory', $bytes / $residents, $grown / $count), '',
		sprintf('%.2f GB for a million', $million), '1 GB', $million <= 1
	];
};
