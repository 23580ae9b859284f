# I5: one owner at a time, while shards change hands under load: workers come and go by reload, the launcher is ended, and
# sessions call run(), which takes what nobody holds. I4: nothing twice, nothing out of order.
use strict;
use warnings;

use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;
use WfTest;

my $seed = seed();
my $rounds = long_run(15, 100);
my $node = wf_node('owners', conf => "wfproc.sweep_interval = 1s\nwfproc.batch_size = 50\nwfproc.scrub_rate = 0\n");    # a check is another who calls the handler
wf_database($node, 'postgres');
sub sql { return $node->safe_psql('postgres', $_[0]); }

# an instance in each shard; a step takes some time, so that at any time each worker is in one
sql(q(CREATE FUNCTION slow_owner(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock(4711, substring(wfproc.self() from '\d+$')::int) THEN
        RAISE EXCEPTION 'two owners of %', wfproc.self();
    END IF;
    PERFORM pg_sleep(0.0003);
    RETURN jsonb_build_object('n', COALESCE((state ->> 'n')::bigint, 0) + 1);
END $$;
SELECT wfproc.define('owner', 'slow_owner', snapshot_every => 10)));
sql(q(SELECT count(wfproc.start('owner', 'o-' || n)) FROM generate_series(1, 64) n));

my $folder = PostgreSQL::Test::Utils::tempdir;
my $stop = "$folder/stop";
my @children;
# a sender that keeps a backlog of some events, and two sessions that call run()
for my $what ('SELECT count(wfproc.send(\'o-\' || n, \'e\')) FROM generate_series(1, 64) n WHERE (SELECT count(*) < 200 FROM wfproc.mailbox)',
	'SELECT wfproc.run(20)', 'SELECT wfproc.run(200)')
{
	my $pid = fork() // die $!;
	if ($pid == 0)
	{
		my $client = WfClient->new($node, 'postgres');
		my $failed = $client->connect ? 0 : 1;
		until (-e $stop || $failed)
		{
			my ($outcome, @lines) = $client->call($what);
			# run() and a worker may meet where one of them has just let go: refused, to be repeated
			if ($outcome ne 'ok') { print STDERR "$what: @lines\n"; $failed = 1; }
		}
		$client->close;
		POSIX::_exit($failed);
	}
	push @children, $pid;
}

my $progress = 1;
for my $round (1 .. $rounds)
{
	my $workers = pick(1 .. 4);
	sql("ALTER SYSTEM SET wfproc.workers = $workers");
	$node->reload;
	sql(q(SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE backend_type = 'wfproc launcher')) if $round % 5 == 0;
	# sometimes the next change comes while the last one is under way
	if ($round % 3 != 0)
	{
		$progress &&= workers_running($node, 'postgres', $workers);
	}
	my $handled = sql('SELECT count(*) FROM wfproc.event');
	$progress &&= $node->poll_query_until('postgres', "SELECT count(*) > $handled + 150 FROM wfproc.event");
	last unless $progress;
}
ok($progress, "I5: shards change hands $rounds times, and events are handled");
open(my $file, '>', $stop) or die $!;
close($file);
my $failed = 0;
for my $pid (@children) { waitpid($pid, 0); $failed ||= $?; }
is($failed, 0, 'senders and run() never failed');
ok($node->poll_query_until('postgres', 'SELECT sum(shards) = 64 FROM wfproc.workers'), 'the workers hold all shards');
ok($node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM wfproc.mailbox'), 'all is handled');
is(sql('SELECT count(*) FROM (SELECT mail_id FROM wfproc.event GROUP BY 1 HAVING count(*) > 1) t'), 0, 'I3: no mail twice');
is(sql('SELECT count(*) FROM (SELECT 1 FROM wfproc.event GROUP BY instance_id HAVING count(*) <> max(seq)) t'), 0, 'I4: numbers are 1 to n');
is(sql(q(SELECT count(*) FROM wfproc.instances i, wfproc.digest(i.id) d WHERE (wfproc.state(i.id) ->> 'n')::bigint <> d.seq OR NOT (SELECT ok FROM wfproc.verify(i.id)))), 0, 'I11: each state is the fold of its log');
is(sql(q(SELECT count(*) FROM wfproc.instances WHERE status <> 'running' OR attempts > 0)), 0, 'nobody has come to harm');
no_alarms($node, 'I5: never two owners, in the log neither');
$node->stop;
done_testing();
