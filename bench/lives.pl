# Whole lives: start(), two events, complete. Set-based: 50,000 started in one transaction, their events sent in another,
# until the worker has handled all; and one after the other by 1 and by 8 clients, each of the three in a transaction of its
# own, for 5 seconds and until the worker has handled all. Beside it: committed single INSERTs by as many clients.
use strict;
use warnings;
use Bench;

my $lives = 50_000;

sub {
	my @rounds = rounds(sub {
		my ($round) = @_;
		my $seconds = handled_of(
			3 * $lives,
			"SELECT count(wfproc.start('trip', 'set-$round-' || n)) FROM generate_series(1, $lives) n",
			"SELECT count(wfproc.send('set-$round-' || n, e)) FROM unnest(ARRAY['left', 'arrived']) e, generate_series(1, $lives) n"
		);
		note(sprintf('  %.0f a second', $lives / $seconds));
		return $seconds;
	});
	my @report = [
		'start(), two events, complete: set-based', per_second(median(@rounds), $lives) . ' lives/s; s for 50,000: ' . join(', ', map { sprintf('%.2f', $_) } @rounds)
	];
	sql('CREATE SEQUENCE bench.life CACHE 1000');
	for my $clients (1, 8)
	{
		my ($insert) = pgbench(["INSERT INTO bench.single (payload) VALUES ('{}');\n"], '-T', 3, '-c', $clients, '-j', 2);
		my $ended;
		my $before = handled();
		my $began = Time::HiRes::time();
		my ($life) = pgbench([
			"SELECT 'one-' || nextval('bench.life') AS id \\gset\nSELECT wfproc.start('trip', :id);\nSELECT wfproc.send(:id, 'left');\nSELECT wfproc.send(:id, 'arrived');\n"
		], '-T', 5, '-c', $clients, '-j', 2);
		my $seconds = wait_handled($before + 3 * @$life) - $began;
		note(sprintf('  %d clients: %.0f a second', $clients, @$life / $seconds));
		push @report, ["the same, a transaction each, $clients client" . ($clients > 1 ? 's' : ''), per_second($seconds, scalar @$life) . ' lives/s',
			'single INSERTs: ' . per_second(3, scalar @$insert) . '/s'];
	}
	return @report;
};
