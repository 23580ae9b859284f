# What an action costs: a PL/pgSQL handler that asks for 1,000 in a loop, for 100 events, against the same loop with PERFORM
# wfproc.seq(), which is subtracted.
# - captured: the step then rejects its event, which drops what it has asked for
# - carried out: 1,000 set_attributes(), which become one change of the row; 1,000 send() to a process that does nothing,
#   which become 1,000 rows in its log
use strict;
use warnings;
use Bench;

my $actions = 1000;
my $events = 100;

my %call = (
	nothing => 'wfproc.seq()',
	set_attributes => q(wfproc.set_attributes('{"a": 1}')),
	send => q(wfproc.send('sink', 'told', '{"a": 1}'))
);

# A workflow and its process for each kind of action.
sub define_askers
{
	for my $name (sort keys %call)
	{
		sql(<<"END");
CREATE FUNCTION bench.ask_$name(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$
BEGIN
    IF event <> 'start' THEN
        FOR i IN 1 .. $actions LOOP
            PERFORM $call{$name};
        END LOOP;
    END IF;
    IF event = 'drop' THEN
        PERFORM wfproc.reject('measured');
    END IF;
    RETURN state;
END \$\$;
SELECT wfproc.define('ask_$name', 'bench.ask_$name'), wfproc.start('ask_$name', '$name') \\g /dev/null
END
	}
	sql("SELECT wfproc.start('idle', 'sink')");
	wait_handled(1 + keys %call);
}

# Seconds that the worker takes for the events, of which so many more follow.
sub ask
{
	my ($name, $event, $more) = @_;
	return handled_after($events + $more, "SELECT wfproc.send('$name', '$event') FROM generate_series(1, $events)");
}

sub check_asked
{
	my ($rounds) = @_;
	my ($done, $told, $set, $dropped) = split /\|/, sql(<<'END');
SELECT (SELECT count(*) FROM wfproc.event WHERE name = 'keep'), (SELECT count(*) FROM wfproc.event WHERE name = 'told'),
       (SELECT count(*) FROM wfproc.instance WHERE attributes = '{"a": 1}'), (SELECT count(*) FROM wfproc.dead_letter WHERE name = 'drop')
END
	die "$done done, $told told, $set set, $dropped dropped\n"
	  if $done != 3 * $rounds * $events || $told != $rounds * $events * $actions || $set != 1 || $dropped != 3 * $rounds * $events;
}

# A row of the report, from rounds of {"name event" => seconds}.
sub action_row
{
	my ($what, $key, $base, @rounds) = @_;
	my $count = $events * $actions;
	my @cost = map { $_->{$key} - $_->{$base} } @rounds;
	return [
		$what, 'us each: ' . join(', ', map { us($_->{$key}, $count) } @rounds), 'the loop alone: ' . join(', ', map { us($_->{$base}, $count) } @rounds),
		us(median(@cost), $count) . ' us'
	];
}

sub {
	define_askers();
	my @rounds = rounds(sub {
		my ($round) = @_;
		my %seconds;
		for my $name (qw(nothing set_attributes send))
		{
			$seconds{"$name drop"} = ask($name, 'drop', 0);
			$seconds{"$name keep"} = ask($name, 'keep', $name eq 'send' ? $events * $actions : 0);
		}
		check_asked($round);
		note('  us: ' . join(', ', map { "$_ " . us($seconds{$_}, $events * $actions) } sort keys %seconds));
		return \%seconds;
	});
	return (
		action_row('an action, captured: set_attributes()', 'set_attributes drop', 'nothing drop', @rounds),
		action_row('the same, carried out', 'set_attributes keep', 'nothing keep', @rounds),
		action_row('an action, captured: send()', 'send drop', 'nothing drop', @rounds),
		action_row('the same, carried out, and handled by who gets it', 'send keep', 'nothing keep', @rounds)
	);
};
