# Handlers that misbehave in every way that we could think of, under maintenance, kills, locks and stopped processes: nothing
# is lost, doubled, invented or out of order, nobody else comes to harm, the culprits end as they must, and all gets on.
# t/Hostile.pm has who attacks, and which fault each was made to find; t/hostile.sql what they do, and what must hold.
#   WF_SEED=N           only that seed (each fails with what it found)
#   WF_ATTACKS='a, b'   only those attackers; WF_MAINTENANCE='a, b' or none: only that
#   WF_LONG=1           a hundred seeds instead of ten
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;
use WfTest;
use Hostile;

my @seeds = defined $ENV{WF_SEED} ? seed() : 1 .. long_run(10, 100);
my $node = wf_node('hostile', conf => 'wfproc.max_crashes = ' . Hostile::MAX_CRASHES . q(
wfproc.workers = 2
wfproc.sweep_interval = 2s
wfproc.handler_memory = 100MB
wfproc.scrub_rate = 0
shared_buffers = 32MB
fsync = off
));
$node->safe_psql('postgres', 'CREATE ROLE mallory; CREATE ROLE client LOGIN SUPERUSER');

for my $seed (@seeds)
{
	my $hostile = Hostile->new($node, $seed, attackers => $ENV{WF_ATTACKS}, maintainers => $ENV{WF_MAINTENANCE});
	my @found = $hostile->run;
	is(join("\n", @found), '', $hostile->title);
}

$node->stop;
done_testing();
