# Replay: 200 instances of 1,000 events, whose logs one backend folds again from their first events on, with the worker off. The
# plain replay is state() without any snapshots, which are deleted in a transaction that is rolled back. Beside it, in turn
# with it, what does that and more: replay() makes a row of each step; check_version() asks its first question and then both
# of a second version, which does the same; verify_all() recomputes the chain of hashes as well, and reads each log twice for
# that. The handler counts, adds up and keeps three keys; what it takes when it is called from SQL alone is said.
use strict;
use warnings;
use Bench;

my $instances = 200;
my $events = 1000;
my $count = $instances * $events;

sub prepare
{
	sql(<<"END");
SELECT count(wfproc.start('account', 'acc-' || n)) FROM generate_series(1, $instances) n;
SELECT count(wfproc.send('acc-' || i, 'deposit', jsonb_build_object('amount', n % 97, 'ref', 'r-' || n)))
FROM generate_series(2, $events) n, generate_series(1, $instances) i;
DO \$\$
BEGIN
    EXECUTE replace(pg_get_functiondef('bench.account'::regproc), 'bench.account', 'bench.account_2');
END \$\$;
ALTER FUNCTION bench.account_2 COST 101;
SELECT wfproc.define('account', 'bench.account_2');
END
	wait_handled($count);
	workers_off();
	sql('VACUUM ANALYZE wfproc.event; CHECKPOINT');
}

# Each is an expression that must be true.
my @what = (
	['plain', "(SELECT count(wfproc.state('acc-' || n) -> 'events') FROM generate_series(1, $instances) n) = $instances"],
	['replay', "(SELECT count(*) FILTER (WHERE NOT diverged) FROM generate_series(1, $instances) n, wfproc.replay('acc-' || n)) = $count"],
	['history', "(SELECT count(*) FILTER (WHERE outcome = 'same') FROM wfproc.check_version('account', 2, 'history')) = $instances"],
	['both', "(SELECT count(*) FILTER (WHERE outcome = 'same') FROM wfproc.check_version('account', 2)) = 2 * $instances"],
	['verify', "(SELECT count(*) FILTER (WHERE ok) FROM wfproc.verify_all('account')) = $instances"]);

# Seconds, and seconds of processor time. A first call in the same session has the code loaded before.
sub fold
{
	my ($name, $expression) = @_;
	my $begin = $name eq 'plain' ? 'BEGIN; DELETE FROM wfproc.snapshot; DELETE FROM wfproc.kept_snapshot' : 'BEGIN';
	my $out = sql(<<"END");
$begin;
SELECT wfproc.state('acc-1') \\g /dev/null
SELECT pg_catalog.clock_timestamp() AS t0, bench.cpu(pg_catalog.pg_backend_pid()) AS c0 \\gset
SELECT $expression AS holds \\gset
SELECT extract(epoch FROM pg_catalog.clock_timestamp() - :'t0'::timestamptz), bench.cpu(pg_catalog.pg_backend_pid()) - :c0, :'holds';
ROLLBACK
END
	my ($seconds, $cpu, $holds) = split /\|/, $out;
	die "$name is not as it should be\n" if $holds ne 't';
	return ($seconds, $cpu);
}

sub handler_alone
{
	my ($seconds, $cpu) = timed(qq(SELECT count(bench.account('{"events": 12, "balance": 1234, "last": "r-123"}', 'deposit',
		'{"amount": 41, "ref": "r-4711"}')) FROM generate_series(1, $count) n));
	return us($cpu, $count);
}

# A row: what it is, its key, and a bar for its rate by that of the plain replay.
sub row
{
	my ($rounds, $what, $key, $bar) = @_;
	my $each = sub { my ($i, $k) = @_; return join(', ', map { us($_->{$k}[$i], $count) } @$rounds) };
	my $ratio = median(map { $_->{plain}[0] / $_->{$key}[0] } @$rounds);
	my $cpu_ratio = median(map { $_->{plain}[1] / $_->{$key}[1] } @$rounds);
	return [
		$what, per_second(median(map { $_->{$key}[0] } @$rounds), $count) . '/s; us each: ' . $each->(0, $key) . ' (cpu ' . $each->(1, $key) . ')',
		'plain replay, us each: ' . $each->(0, 'plain'),
		sprintf('%.2f of its rate (%.2f by cpu)', $ratio, $cpu_ratio), $bar // '', defined $bar ? $ratio >= $bar : undef
	];
}

sub {
	prepare();
	my @rounds = rounds(sub {
		my %took = map { $_->[0] => [ fold(@$_) ] } @what;
		note('  us each: ' . join(', ', map { "$_->[0] " . us($took{$_->[0]}[0], $count) . ' (' . us($took{$_->[0]}[1], $count) . ' cpu)' } @what));
		return \%took;
	});
	my $alone = handler_alone();
	my @plain = map { $_->{plain}[0] } @rounds;
	return ([
			"events folded again per second, one backend; instances of $events events, $count in all",
			'us each: ' . join(', ', map { us($_, $count) } @plain) . ' (cpu ' . join(', ', map { us($_->{plain}[1], $count) } @rounds) . ')',
			"the handler alone, called from SQL: $alone us",
			per_second(median(@plain), $count) . '/s'
		],
		row(\@rounds, 'check_version(), history: the same under another version', 'history', 0.5),
		row(\@rounds, 'check_version(), both questions', 'both', 0.5),
		row(\@rounds, 'verify_all()', 'verify'),
		row(\@rounds, 'replay(), a row for each event', 'replay'));
};
