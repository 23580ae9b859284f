# What watch => true costs: 20,000 processes that one event each completes, sent in one transaction; from its commit until all
# have closed. With watch, while a session listens, and while none does; beside it, without.
use strict;
use warnings;
use Bench;

my $lives = 20_000;

# Seconds until so many new processes of the workflow have closed, and the worker's processor time.
sub close_all
{
	my ($workflow, $prefix) = @_;
	handled_of($lives, "SELECT count(wfproc.start('$workflow', '$prefix-' || n)) FROM generate_series(1, $lives) n");
	my $cpu = worker_cpu();
	my $seconds = handled_after($lives, "SELECT wfproc.send('$prefix-' || n, 'go') FROM generate_series(1, $lives) n");
	$cpu = worker_cpu() - $cpu;
	my $closed = sql("SELECT count(*) FROM wfproc.instance WHERE id LIKE '$prefix-%' AND status = 'completed'");
	die "$closed of $lives have closed\n" if $closed != $lives;
	return [$seconds, $cpu];
}

# The same while a session listens, which must be told of each.
sub close_all_heard
{
	my ($workflow, $prefix) = @_;
	my $file = "$ENV{BENCH_DIR}/heard";
	open(my $listener, '|-', "exec psql -XAtq -d bench >'$file'") or die "psql: $!\n";
	$listener->autoflush(1);
	print $listener "LISTEN wfproc;\nSELECT 'listening';\n";
	my $wait_for = sub {
		my ($pattern, $wanted) = @_;
		my $found = 0;
		for (1 .. 500)
		{
			open(my $in, '<', $file) or next;
			$found = grep { /$pattern/ } <$in>;
			last if $found >= $wanted;
			select(undef, undef, undef, 0.02);
			# psql looks for notifications after a statement
			print $listener "SELECT 1;\n";
		}
		die "$found of $wanted heard\n" if $found != $wanted;
	};
	$wait_for->(qr/^listening/, 1);
	my $measured = close_all($workflow, $prefix);
	$wait_for->(qr/notification "wfproc".*"$prefix-\d+"/, $lives);
	close($listener) or die "psql failed\n";
	return $measured;
}

sub {
	sql("SELECT wfproc.define('watched', 'bench.trip', watch => true)");
	my @rounds = rounds(sub {
		my ($round) = @_;
		my $without = close_all('trip', "plain-$round");
		my $with = close_all('watched', "watched-$round");
		my $heard = close_all_heard('watched', "heard-$round");
		note(sprintf('  us: %s (%s cpu), watched %s (%s), heard %s (%s)', map { us($_, $lives) } map { @$_ } $without, $with, $heard));
		return [$with, $heard, $without];
	});
	my $each = sub {
		my ($i) = @_;
		my ($seconds, $cpu) = map { my $j = $_; join(', ', map { us($_->[$i][$j], $lives) } @rounds) } 0, 1;
		return "us each: $seconds (cpu $cpu)";
	};
	my $row = sub {
		my ($what, $i) = @_;
		my ($more, $more_cpu) = map { my $j = $_; median(map { $_->[$i][$j] / $_->[2][$j] } @rounds) } 0, 1;
		return [
			$what, per_second(median(map { $_->[$i][0] } @rounds), $lives) . '/s; ' . $each->($i), 'without: ' . $each->(2),
			sprintf('%.2f of its time (%.2f by cpu)', $more, $more_cpu)
		];
	};
	return ($row->('workflows that close, watch => true, nobody listens', 0), $row->('the same, one session listens', 1));
};
