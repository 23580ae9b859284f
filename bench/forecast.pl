# A year ahead: a process with a timer each month, which sends itself a message then, so 24 events in 12 months. forecasts() of
# 1,000 of them, with the worker off, and forecast() of one, by a session that has the code loaded. Beside it: state() of as
# many that have had such a year, without snapshots.
use strict;
use warnings;
use Bench;

my $instances = 1000;
my $events = 24 * $instances;
my $until = "now() + interval '1 year 1 hour'";

# Seconds for all.
sub all_of
{
	my ($states) = @_;
	my ($seconds, $right) = split /\|/, sql(<<"END");
SELECT wfproc.state('m-1') \\g /dev/null
SELECT wfproc.state('past-1') \\g /dev/null
SELECT pg_catalog.clock_timestamp() AS t0 \\gset
SELECT count(*) FILTER (WHERE (state->>'events')::int = 25) AS n FROM $states \\gset
SELECT extract(epoch FROM pg_catalog.clock_timestamp() - :'t0'::timestamptz), :n = $instances
END
	die "$states: not a year\n" if $right ne 't';
	return $seconds;
}

sub one
{
	return sql(<<"END");
SELECT wfproc.forecast('m-1', $until) \\g /dev/null
SELECT pg_catalog.clock_timestamp() AS t0 \\gset
SELECT wfproc.forecast('m-2', $until) \\g /dev/null
SELECT extract(epoch FROM pg_catalog.clock_timestamp() - :'t0'::timestamptz)
END
}

sub {
	sql(<<"END");
CREATE FUNCTION bench.monthly(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$
BEGIN
    IF event = 'month' THEN
        PERFORM wfproc.send(wfproc.self(), 'noted');
    END IF;
    IF event = 'start' OR event = 'month' THEN
        PERFORM wfproc.set_timer('month', after => '1 month');
    END IF;
    RETURN jsonb_build_object('events', coalesce((state ->> 'events')::int, 0) + 1);
END \$\$;
SELECT wfproc.define(name, 'bench.monthly', snapshot_every => 1000000) FROM unnest('{monthly,year}'::text[]) name;
SELECT count(wfproc.start('monthly', 'm-' || n)) FROM generate_series(1, $instances) n;
SELECT count(wfproc.start('year', 'past-' || n, at => now() - interval '1 year 1 hour')) FROM generate_series(1, $instances) n
END
	wait_handled(2 * $instances + $events);
	workers_off();
	sql('VACUUM ANALYZE');
	my @rounds = rounds(sub {
		my @took = (all_of("wfproc.forecasts('monthly', $until)"), all_of("wfproc.states('year')"), one());
		note(sprintf('  %s us an event, past %s, one instance %.2f ms', us($took[0], $events), us($took[1], $events), $took[2] * 1000));
		return \@took;
	});
	my $each = sub { my ($i) = @_; return join(', ', map { us($_->[$i], $events) } @rounds) };
	return [
		"forecasts() of $instances instances, a year of 24 events each",
		per_second(median(map { $_->[0] } @rounds), $events) . ' events/s; us each: ' . $each->(0) . '; forecast() of one instance: '
		  . sprintf('%.2f ms', 1000 * median(map { $_->[2] } @rounds)),
		'states() of as many that have had it, us each: ' . $each->(1),
		sprintf('%.2f of its rate', median(map { $_->[1] / $_->[0] } @rounds))
	];
};
