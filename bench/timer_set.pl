# Timers set and cancelled: each event of a process sets a timer an hour ahead and cancels the one that the event before has
# set. Sent in one transaction; the time is from its commit until all are handled.
# - An event each for 20,000 processes: each cancels a timer that is a row of the mailbox, and its own becomes one.
# - 50 events each for 1,000: most timers are set and cancelled within one turn.
# Beside each: as many events to the same processes, whose handler sets no timer then.
use strict;
use warnings;
use Bench;

sub define_reminder
{
	sql(<<'END');
CREATE FUNCTION bench.remind(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    n int := (state ->> 'n')::int;
BEGIN
    IF event = 'start' THEN
        RETURN '{"n": 0}';
    END IF;
    IF event = 'touch' THEN
        PERFORM wfproc.cancel_timer('reminder-' || n);
        n := n + 1;
        PERFORM wfproc.set_timer('reminder-' || n, after => '1 hour');
    END IF;
    RETURN jsonb_build_object('n', n, 'at', wfproc.seq());
END $$;
SELECT wfproc.define('remind', 'bench.remind') \g /dev/null
END
}

# Sends so many events to each of the processes; returns seconds until all are handled.
sub touch
{
	my ($prefix, $processes, $each, $event) = @_;
	return handled_after($processes * $each, <<"END");
SELECT wfproc.send('$prefix-' || n, '$event') FROM generate_series(1, $each), generate_series(1, $processes) n
END
}

# One timer a process is left, and no event is missing.
sub check_reminders
{
	my ($prefix, $processes, $events) = @_;
	my ($timers, $logged) = split /\|/, sql(<<"END");
SELECT (SELECT count(*) FROM wfproc.mailbox m JOIN wfproc.instance i USING (instance_id) WHERE i.id LIKE '$prefix-%' AND m.timer IS NOT NULL),
       (SELECT count(*) FROM wfproc.event e JOIN wfproc.instance i USING (instance_id) WHERE i.id LIKE '$prefix-%' AND e.name = 'touch')
END
	die "$timers timers of $processes processes, $logged of $events events\n" if $timers != $processes || $logged != $events;
}

sub measure_reminders
{
	my ($what, $prefix, $processes, $each) = @_;
	my $count = $processes * $each;
	handled_after($processes, "SELECT count(wfproc.start('remind', '$prefix-' || n)) FROM generate_series(1, $processes) n");
	# the timers that the first round cancels
	touch($prefix, $processes, 1, 'touch');
	my @rounds = rounds(sub {
		my ($round) = @_;
		my $without = touch($prefix, $processes, $each, 'look');
		my $with = touch($prefix, $processes, $each, 'touch');
		check_reminders($prefix, $processes, $processes * (1 + $round * $each));
		note(sprintf('  %s: %s a second, without timers %s', $prefix, map { per_second($_, $count) } $with, $without));
		return [$with, $without];
	});
	my $each_us = sub { my ($i) = @_; return join(', ', map { us($_->[$i], $count) } @rounds) };
	return [
		$what, 'us each: ' . $each_us->(0), 'without timers, us each: ' . $each_us->(1),
		per_second(median(map { $_->[0] } @rounds), $count) . '/s'
	];
}

sub {
	define_reminder();
	return (
		measure_reminders('a timer set and one cancelled by an event, an event each for 20,000 processes', 'wide', 20_000, 1),
		measure_reminders('the same, 50 events each for 1,000 processes', 'deep', 1000, 50)
	);
};
