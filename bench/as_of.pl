# The past: state(id, as_of) in an instance of 100,000 events, a second apart, at 31 moments that are spread over them, of which
# no two lie alike to its snapshots. Each is asked for in three rounds by a session that has the code loaded; the figure of a
# moment is the median of these. Beside it: state() of the present.
use strict;
use warnings;
use Bench;

my $events = 100_000;
my $moments = 31;
my $bar = 20;

sub {
	sql(<<"END");
SELECT wfproc.start('account', 'one', at => '2020-01-01');
SELECT count(wfproc.send('one', 'deposit', jsonb_build_object('amount', n % 97, 'ref', 'r-' || n),
                         at => '2020-01-01'::timestamptz + n * interval '1 s')) FROM generate_series(1, $events - 1) n;
CREATE TABLE bench.took (moment int, events int, ms float8, right_one bool);
-- the m-th moment is when so many events had been handled; moment 0: the present
CREATE PROCEDURE bench.look(moment int, events int) LANGUAGE plpgsql AS \$\$
DECLARE
    t0 timestamptz := clock_timestamp();
    state jsonb := CASE WHEN moment = 0 THEN wfproc.state('one')
                        ELSE wfproc.state('one', as_of => '2020-01-01'::timestamptz + (events - 1) * interval '1 s') END;
    ms float8 := extract(epoch FROM clock_timestamp() - t0) * 1000;
BEGIN
    INSERT INTO bench.took VALUES (moment, events, ms, (state->>'events')::int = events - 1);
END \$\$;
END
	wait_handled($events);
	workers_off();
	sql('VACUUM ANALYZE wfproc.event; VACUUM ANALYZE wfproc.snapshot; VACUUM ANALYZE wfproc.kept_snapshot; CHECKPOINT');
	rounds(sub {
		sql("CALL bench.look(0, $events); TRUNCATE bench.took") if $_[0] == 1;
		sql("CALL bench.look(0, $events); CALL bench.look(0, $events);"
			. join(';', map { "CALL bench.look($_, " . int($events * ($_ - 0.618) / ($moments - 0.5)) . ')' } 1 .. $moments));
	});
	die "a state is another\n" if sql('SELECT count(*) FROM bench.took WHERE NOT right_one') > 0;
	my $figure = "SELECT moment, events, percentile_disc(0.5) WITHIN GROUP (ORDER BY ms) AS ms FROM bench.took GROUP BY 1, 2";
	my @ms = split /\n/, sql("SELECT ms FROM ($figure) f WHERE moment > 0 ORDER BY ms");
	my ($worst, $worst_at) = split /\|/, sql("SELECT round(ms::numeric, 1), events FROM ($figure) f WHERE moment > 0 ORDER BY ms DESC LIMIT 1");
	my $present = sql("SELECT round(ms::numeric, 2) FROM ($figure) f WHERE moment = 0");
	my $snapshots = sql('SELECT (SELECT count(*) FROM wfproc.snapshot) + (SELECT count(*) FROM wfproc.kept_snapshot)');
	note(sprintf('  median %.1f ms, worst %.1f ms, after %d events; %d snapshots', median(@ms), $worst, $worst_at, $snapshots));
	return [
		"state(as_of) in an instance of $events events, at $moments moments",
		sprintf('median %.1f ms, worst %.1f ms (after %s events)', median(@ms), $worst, $worst_at),
		"the present: $present ms; snapshots kept: $snapshots", sprintf('median %.1f ms, worst %.1f ms', median(@ms), $worst),
		"$bar ms", $worst < $bar
	];
};
