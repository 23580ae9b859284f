# Workflows of three steps with a timer: start sets one 0.1 s ahead, the timer as it fires sends its own process a message, and
# that completes it: three rows in the log, two updates of the instance. 2 clients start 30,000 of them in batches of 500, each
# batch a transaction; the time is from the first of them until the last has completed.
use strict;
use warnings;
use Bench;
use Time::HiRes qw(time);

my $clients = 2;
my $batch = 500;
my $batches = 30;
my $bar = 5000;

sub check_ripened
{
	my ($count) = @_;
	my ($completed, $events, $early, $waiting) = split /\|/, sql(<<'END');
SELECT (SELECT count(*) FROM wfproc.instance WHERE status = 'completed'), (SELECT count(*) FROM wfproc.event),
       (SELECT count(*) FROM wfproc.event WHERE name = 'ripe' AND recorded_at < at), (SELECT count(*) FROM wfproc.mailbox)
END
	die "$completed of $count have completed, with $events events; $early fired early; $waiting events wait\n"
	  if $completed != $count || $events != 3 * $count || $early || $waiting;
}

sub {
	sql(<<'END');
CREATE FUNCTION bench.ripen(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    CASE event
        WHEN 'start' THEN
            PERFORM wfproc.set_timer('ripe', after => '0.1 s');
        WHEN 'ripe' THEN
            PERFORM wfproc.send(wfproc.self(), 'pick');
        WHEN 'pick' THEN
            PERFORM wfproc.complete();
    END CASE;
    RETURN jsonb_build_object('last', event);
END $$;
SELECT wfproc.define('ripen', 'bench.ripen') \g /dev/null
END
	my $count = $clients * $batch * $batches;
	my @rounds = rounds(sub {
		my ($round) = @_;
		my $before = handled();
		my $began = time;
		pgbench(["SELECT count(wfproc.start('ripen')) FROM generate_series(1, $batch);\n"], '-t', $batches, '-c', $clients, '-j', $clients);
		my $started = time - $began;
		my $seconds = wait_handled($before + 3 * $count) - $began;
		check_ripened($round * $count);
		note(sprintf('  %s a second; all started after %.2f of %.2f s', per_second($seconds, $count), $started, $seconds));
		return $seconds;
	});
	my $rate = $count / median(@rounds);
	return [
		'workflows of three steps with a timer, until they have completed', join(', ', map { per_second($_, $count) } @rounds) . " /s, of $count", '',
		per_second(median(@rounds), $count) . '/s', "$bar/s", $rate >= $bar
	];
};
