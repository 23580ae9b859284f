# Fan-out: one event to a process that sends to 10,000 others: from the commit of that event until all are handled. Beside it:
# the same 10,000 sent from outside, in one transaction.
use strict;
use warnings;
use Bench;

my $leaves = 10_000;

sub {
	sql(<<"END");
CREATE FUNCTION bench.fan(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$
BEGIN
    IF event = 'tell' THEN
        PERFORM wfproc.send('leaf-' || n, 'told', payload) FROM generate_series(1, $leaves) n;
    END IF;
    RETURN state;
END \$\$;
SELECT wfproc.define('fan', 'bench.fan') \\g /dev/null
END
	my $starts = "SELECT count(wfproc.start('idle', 'leaf-' || n)) FROM generate_series(1, $leaves) n; SELECT wfproc.start('fan', 'fan')";
	handled_of($leaves + 1, $starts);
	my @rounds = rounds(sub {
		my ($round) = @_;
		my $outside = handled_after($leaves, "SELECT wfproc.send('leaf-' || n, 'told', '{\"n\": 1}') FROM generate_series(1, $leaves) n");
		my $fan = handled_after($leaves + 1, "SELECT wfproc.send('fan', 'tell', '{\"n\": 1}')");
		my ($told, $senders) = split /\|/, sql("SELECT count(*), count(*) FILTER (WHERE sender = 'fan') FROM wfproc.event WHERE name = 'told'");
		die "$told were told, $senders of them by the process\n" if $told != 2 * $round * $leaves || $senders != $round * $leaves;
		note(sprintf('  %.0f ms, from outside %.0f ms', $fan * 1000, $outside * 1000));
		return [$fan, $outside];
	});
	my $ms = sub { my ($i) = @_; return join(', ', map { sprintf('%.0f', $_->[$i] * 1000) } @rounds) . ' ms' };
	my $each = us(median(map { $_->[0] } @rounds), $leaves);
	return ['one event to a process that sends to 10,000: until all are handled', $ms->(0), 'sent from outside: ' . $ms->(1), "$each us each"];
};
