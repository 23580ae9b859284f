# Random programs of starts, sends, timers, postponing, failures, children, monitors and control from outside, against an
# oracle that has only read the same inputs (t/Model.pm): logs, states, mailboxes and dead letters are what it says.
#   WF_SEED=N       others than the usual ones; random: each time others
#   WF_PROGRAMS=N   so many instead of 200
#   WF_PROGRAM=N    only that one
#   WF_BATCH=N      events of a turn for every second program, instead of a random number: where turns end makes no difference
use strict;
use warnings;

use JSON::PP;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;
use WfTest;
use Model;

use constant HOUR => 3_600_000_000;
# where each program ends, so that nothing is left that is due for the next
use constant THE_END => 36 * HOUR;

my $seed     = seed(31);
my @programs = defined $ENV{WF_PROGRAM} ? $ENV{WF_PROGRAM} : 1 .. ($ENV{WF_PROGRAMS} // long_run(200, 2000));
my $json     = JSON::PP->new->canonical->allow_nonref;
my $show     = JSON::PP->new->canonical->allow_nonref->pretty->indent_length(1);

my $batch = $ENV{WF_BATCH} // pick(1, 2, 3, 10, 40);
my $node = wf_node('model', conf => "wfproc.workers = 0\nfsync = off\n");
$node->safe_psql('postgres', 'CREATE EXTENSION wfproc CASCADE');
$node->safe_psql('postgres', slurp_file("$FindBin::RealBin/programs.sql"));

my %workflows = (
	pausing  => { max_attempts => 2, on_failure => 'pause',       retry_delay => HOUR / 6, dead_letter_events => 0 },
	failing  => { max_attempts => 1, on_failure => 'fail',        retry_delay => HOUR / 6, dead_letter_events => 0 },
	skipping => { max_attempts => 2, on_failure => 'dead_letter', retry_delay => HOUR / 6, dead_letter_events => 0 },
	told     => { max_attempts => 3, on_failure => 'pause',       retry_delay => HOUR / 6, dead_letter_events => 1 });
# When an attempt is repeated is a matter of the wall clock, so that where turns are short others may come before.
my @in_long_turns  = sort keys %workflows;
my @in_short_turns = ('failing', map { $workflows{"${_}1"} = { %{ $workflows{$_} }, max_attempts => 1 }; "${_}1" } qw(pausing skipping told));
for my $name (sort keys %workflows)
{
	my $w = $workflows{$name};
	$node->safe_psql('postgres', qq(SELECT wfproc.define('$name', 'program', max_attempts => $w->{max_attempts}, on_failure => '$w->{on_failure}',
		retry_delay => '10 min', snapshot_every => 3, dead_letter_events => ($w->{dead_letter_events} = 1))));
}
my $by = $node->safe_psql('postgres', 'SELECT current_user');

#
# A program: [{now, max_actions, inputs => [[verb, ...], ...]}, ...]
#
sub draw_program
{
	my ($number) = @_;
	my @ids  = map { "$number-p$_" } 1 .. 8;
	my @names = $number % 2 ? @in_long_turns : @in_short_turns;
	my $draw = Program->new(ids => \@ids, events => [qw(e1 e2 e3)], timers => [qw(t1 t2 e3)], workflows => \@names);
	my $last   = draw(2) ? draw(5) : 0;
	my @phases = map { { now => $_ == $last ? THE_END : 24 * HOUR * ($_ + 1) / ($last + 1), max_actions => draw(2) ? 20000 : 2, inputs => [] } } 0 .. $last;
	my %used;
	my $stamp = sub { my $at; do { $at = draw($_[0]) } while $used{$at}++ || $at % 1000 == 0; return $at };
	for my $id (@ids[ 0 .. 2 + draw(3) ])
	{
		my $at = $stamp->(draw(3) ? 2 * HOUR : 24 * HOUR);
		push @{ $phases[ draw(4) ? 0 : draw(scalar @phases) ]{inputs} },
		  [ 'start', $id, pick(@names), $at, $draw->payload(2, start => 1), draw(2) ? 0 : draw(24 * HOUR) ];
	}
	for (1 .. 30)
	{
		my $at = $stamp->(24 * HOUR);
		my ($on_time) = grep { $_->{now} >= $at } @phases;
		my $phase = draw(6) ? $on_time : pick(@phases);
		push @{ $phase->{inputs} }, [ 'send', pick(@ids[ 0 .. 4 ], @ids), pick(qw(e1 e2 e3)), $at, $draw->payload(3),
			draw(15) ? undef : pick('key1', 'key2'), draw(15) ? undef : pick(@names) ];
	}
	draw_controls($_, @ids) for @phases > 1 ? @phases : ();
	return \@phases;
}

# At most one for an instance at one time: what a second one sees of the first is not defined here.
sub draw_controls
{
	my ($phase, @ids) = @_;
	for my $id (@ids)
	{
		next if draw(3);
		push @{ $phase->{inputs} }, pick([ 'pause', $id, 'hold' ], [ 'pause', $id ], map({ [ 'resume', $id ] } 1 .. 3), [ 'cancel', $id, 'stop', HOUR ], [ 'cancel', $id, undef, undef ],
			[ 'terminate', $id, 'enough' ], map({ [ 'retry_now', $id, 'again' ] } 1 .. 6), [ 'skip', $id, 'useless' ], [ 'skip', $id ], [ 'attributes', $id, { a => draw(2), b => pick(3, undef) } ],
			map { [ 'reschedule', $id, draw(30 * HOUR) ] } 1 .. 6);
	}
	return;
}

sub predict
{
	my ($program) = @_;
	my $model = Model->new(workflows => \%workflows, by => $by);
	for my $phase (@$program)
	{
		$model->input($phase->{now}, @$_) for @{ $phase->{inputs} };
		$model->run($phase->{now}, $phase->{max_actions});
	}
	return $model;
}

sub as_sql
{
	my ($number, $program) = @_;
	my @sql = map {
		sprintf("SELECT set_config('wfproc.fake_now', virtual_time(%d)::text, false), set_config('wfproc.max_actions', '%d', false);\n"
			  . "SELECT program_inputs(\$in\$%s\$in\$);\nSELECT wfproc.run();\n",
			$_->{now}, $_->{max_actions}, $json->encode($_->{inputs}))
	} @$program;
	return join '', $number % 3 ? @sql : ("BEGIN;\n", @sql, "COMMIT;\n");
}

my (%program, %model);
for my $number (@programs)
{
	srand(($seed * 1_000_003 + $number) % 2**31);
	$program{$number} = draw_program($number);
	$model{$number}   = predict($program{$number});
}

for my $odd (1, 0)
{
	my @some = grep { $_ % 2 == $odd } @programs;
	my ($status, undef, $errors) = $node->psql('postgres', join('', map { as_sql($_, $program{$_}) } @some), on_error_stop => 0);
	is($errors, '', sprintf '%d programs run without an error, %d events a turn', scalar(@some), $odd ? 8000 : $batch);
	$node->safe_psql('postgres', "ALTER SYSTEM SET wfproc.batch_size = $batch");
	$node->reload;
}

#
# Compare
#
sub found
{
	my ($query, $number_of) = @_;
	my %found;
	for my $line (split /\n/, $node->safe_psql('postgres', $query))
	{
		my $row = $json->decode($line);
		push @{ $found{ $number_of->($row) } }, $row;
	}
	return \%found;
}

my $instances = found(q(SELECT program_instances('')),    sub { (split /-/, $_[0]{id})[0] });
my $letters   = found(q(SELECT program_dead_letters('')), sub { (split /-/, $_[0][0])[0] });

sub lines { return map { Model::text($_) } @_; }

# What one has and the other has not, row by row.
sub difference
{
	my ($what, $expected, $got) = @_;
	my (%count, @lines);
	$count{$_}++ for @$expected;
	$count{$_}-- for @$got;
	for my $n (0 .. (@$expected > @$got ? $#$expected : $#$got))
	{
		my ($x, $y) = ($expected->[$n] // '-', $got->[$n] // '-');
		push @lines, $x eq $y ? "    $x" : ("  - $x", "  + $y");
	}
	return join "\n", "$what (-: predicted, +: found)", @lines, '';
}

sub compare
{
	my ($number) = @_;
	my %expected = map { $_->{id} => $_ } $model{$number}->instances;
	my %got      = map { $_->{id} => $_ } @{ $instances->{$number} // [] };
	my @differences;
	for my $id (sort keys %{ { %expected, %got } })
	{
		my ($x, $y) = map { my %i = %{ $_->{$id} // {} }; [ lines(@{ delete $i{log} // [] }, map({ { waiting => $_ } } @{ delete $i{waiting} // [] }), map { { $_ => $i{$_} } } sort keys %i) ] } \%expected, \%got;
		push @differences, difference($id, $x, $y) if "@$x" ne "@$y";
	}
	my ($x, $y) = map { [ sort(lines(@$_)) ] } $model{$number}{dead}, $letters->{$number} // [];
	push @differences, difference('dead letters', $x, $y) if "@$x" ne "@$y";
	return @differences;
}

my @wrong;
for my $number (@programs)
{
	my @differences = compare($number) or next;
	push @wrong, $number;
	diag("program $number: ", $json->encode($program{$number}), "\n", @differences, "repeat: WF_SEED=$seed WF_BATCH=$batch WF_PROGRAM=$number\n") if @wrong <= ($ENV{WF_SHOW} // 3);
}
is("@wrong", '', 'logs, states, mailboxes and dead letters are what the oracle says');

$node->safe_psql('postgres', q(CREATE TABLE verified AS SELECT i.id, v.* FROM wfproc.instances i, wfproc.verify(i.id) v));
is($node->safe_psql('postgres', q(SELECT * FROM verified WHERE NOT ok LIMIT 5)), '', 'verify() is true for all');

# that they were worth it: each kind of thing has happened
my %seen;
for my $model (values %model)
{
	for my $i ($model->instances)
	{
		$seen{ $i->{status} }++;
		$seen{ $_->[2] }++ for @{ $i->{log} };
		$seen{waits}++ for @{ $i->{waiting} };
	}
	$seen{ $_->[6] =~ s/".*?"|(?<=skipped: ).*//gr }++ for @{ $model->{dead} };
}
note(join ', ', map { "$_: $seen{$_}" } sort keys %seen);
if (@programs >= 200)
{
	my @missing = grep { my $kind = qr/^(?:$_)$/; !grep { /$kind/ } keys %seen } qw(running paused completed failed cancelled terminated
	  start e1 t1 reply cancel dead_letter \$pause \$resume|\$retry \$skip \$fail \$terminate \$attributes \$reschedule child\..* monitor\.completed
	  monitor\.failed monitor\.cancelled monitor\.terminated monitor\.unknown waits);
	is("@missing", '', 'every kind of event and end has come up');
}
$node->stop;
done_testing();
