# A seal over 100,000 instances of 3 events each, with the worker off: the first one, which each round but the last takes back;
# one after nothing has changed; and one after 1,000 instances, spread evenly, have had an event. And check_seal().
use strict;
use warnings;
use Bench;

my $instances = 100_000;
my $changed = $instances / 100;

# Seconds of one statement, with or without its commit.
sub took
{
	my ($statement, $end) = @_;
	return sql(<<"END");
BEGIN;
SELECT pg_catalog.clock_timestamp() AS t0 \\gset
$statement \\g /dev/null
SELECT extract(epoch FROM pg_catalog.clock_timestamp() - :'t0'::timestamptz);
$end
END
}

# One event more for each hundredth instance.
sub change
{
	workers_on();
	sql("SELECT count(wfproc.send('s-' || n * 100, 'deposit')) FROM generate_series(1, $changed) n");
	wait_handled($changed);
	workers_off();
}

sub figures { return join(', ', map { sprintf('%.2f', $_) } @_) . ' s' }

sub {
	sql("SELECT count(wfproc.start('idle', 's-' || n)) FROM generate_series(1, $instances) n;
		 SELECT count(wfproc.send('s-' || n, 'deposit')) FROM generate_series(1, $instances) n, generate_series(1, 2)");
	wait_handled(3 * $instances);
	workers_off();
	sql('VACUUM ANALYZE; CHECKPOINT');
	my @first = rounds(sub { my ($round) = @_; return took('SELECT wfproc.seal()', $round == 3 ? 'COMMIT' : 'ROLLBACK') });
	sql('VACUUM ANALYZE');
	my @same = rounds(sub { return took('SELECT wfproc.seal()', 'COMMIT') });
	my @more = rounds(sub { change(); return took('SELECT wfproc.seal()', 'COMMIT') });
	my $seal = sql('SELECT wfproc.seal()');
	my @check = rounds(sub { return took("SELECT count(*) FROM wfproc.check_seal('$seal')", 'COMMIT') });
	note('  first ' . figures(@first) . '; unchanged ' . figures(@same) . "; $changed changed " . figures(@more) . '; check ' . figures(@check));
	return (
		["a seal over $instances instances: the first", figures(@first), '', sprintf('%.2f s', median(@first))],
		['the next, nothing has changed', figures(@same), '', sprintf('%.2f of the first', median(@same) / median(@first))],
		["the next, $changed have changed", figures(@more), '', sprintf('%.2f of the first', median(@more) / median(@first))],
		['check_seal()', figures(@check), '', sprintf('%.2f s', median(@check))]);
};
