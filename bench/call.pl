# CALL wfproc.call() on an idle server, one client: the event is sent and committed, the worker handles it, commits and wakes
# the caller, who reads the reply. Beside it, at random in between: two committed single INSERTs, one after the other, for that
# is how often the log is flushed. Both as the client sees them.
use strict;
use warnings;
use Bench;

sub {
	sql(<<'END');
CREATE FUNCTION bench.answer(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event = 'ask' THEN
        PERFORM wfproc.reply(payload);
    END IF;
    RETURN state;
END $$;
SELECT wfproc.define('answer', 'bench.answer'), wfproc.start('answer', 'oracle') \g /dev/null
END
	wait_handled(1);
	my $asked = 0;
	my @rounds = rounds(sub {
		my $insert = "INSERT INTO bench.single (payload) VALUES ('{}');\n";
		my ($inserts, $calls) = pgbench([$insert x 2, "CALL wfproc.call('oracle', 'ask', '{\"n\": 1}');\n"], '-t', 2000);
		$asked += @$calls;
		my $answered = sql("SELECT count(*) FROM wfproc.event WHERE name = 'ask' AND reply = payload");
		die "$answered answers to $asked calls\n" if $answered != $asked;
		note(sprintf('  %.2f ms, two inserts %.2f ms', median(@$calls), median(@$inserts)));
		return [median(@$calls), percentile(99, @$calls), median(@$inserts), percentile(99, @$inserts)];
	});
	my $ratio = median(map { $_->[0] / $_->[2] } @rounds);
	my $pairs = sub { my ($i, $j) = @_; return join(', ', map { sprintf('%.2f/%.2f', $_->[$i], $_->[$j]) } @rounds) . ' ms' };
	return ['call(), until the reply is there, p50/p99', $pairs->(0, 1), 'two committed single INSERTs: ' . $pairs->(2, 3), sprintf('%.1f of their time', $ratio)];
};
