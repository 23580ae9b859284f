# wfproc.worker_memory holds what it says: measured from outside, while many more processes come than fit, and when they have
# left.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;
use WfTest;

plan skip_all => 'needs /proc' unless -r '/proc/self/smaps';

my $setting_kb = 16 * 1024;
my $count = 60_000;
my $started = 0;

my $node = wf_node('worker_memory',
	conf => "max_wal_size = 4GB\nfsync = off\nwfproc.workers = 1\nwfproc.scrub_rate = 0\nwfproc.passivate_after = -1\nwfproc.worker_memory = ${setting_kb}kB\n");
wf_database($node, 'postgres');
sub sql { return $node->safe_psql('postgres', $_[0]); }
my ($pid) = worker_pids($node, 'postgres');

# what the worker has for itself: its own memory, and the segment with its roster
sub private_kb
{
	my ($kb, $counts) = (0, 0);
	for (split /\n/, slurp_file("/proc/$pid/smaps"))
	{
		# PostgreSQL's own shared memory is no growth of this worker
		if (/^[0-9a-f]+-[0-9a-f]+ \S+ \S+ (\S+) \S+\s*(.*)/) { $counts = $1 eq '00:00' || $2 =~ m{^/dev/shm/PostgreSQL} }
		$kb += $1 if $counts && /^Private_Dirty:\s+(\d+) kB/;
	}
	return $kb;
}

sub start_many
{
	my ($prefix, $n) = @_;
	sql(qq(SELECT count(wfproc.start('reminded', '$prefix-' || n, jsonb_build_object('n', n))) FROM generate_series(1, $n) n));
	$started += $n;
	ok($node->poll_query_until('postgres', "SELECT sum(events) = $started FROM wfproc.workers"), "$n processes have started");
	return;
}

sql(q(CREATE FUNCTION reminded(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event = 'start' THEN
        PERFORM wfproc.set_timer('reminder', after => '1 day', payload => payload);
    END IF;
    RETURN jsonb_build_object('n', payload -> 'n', 'events', COALESCE((state ->> 'events')::int, 0) + 1);
END $$;
SELECT wfproc.define('reminded', 'reminded')));

# its caches, and the memory of a turn, which is kept
start_many('first', 3000);
my $before = private_kb();
start_many('p', $count);
my $after = private_kb();
my ($residents) = split /\|/, sql('SELECT sum(residents) FROM wfproc.workers');
note("before $before kB, after $after kB, $residents in memory");
cmp_ok($residents, '>', 5000, 'many are in memory');
cmp_ok($after - $before, '<', 1.2 * $setting_kb, 'and take what wfproc.worker_memory says');

# half of them act again, each second one, so that what is in memory has been put there at all times
sql(q(SELECT count(wfproc.send('p-' || n, 'again', jsonb_build_object('n', n, 't', repeat('x', n % 100)))) FROM generate_series(1, 60000, 3) n));
ok($node->poll_query_until('postgres', q(SELECT count(*) = 20000 FROM wfproc.event WHERE name = 'again')), 'some act again');
$after = private_kb();
note("then $after kB");
cmp_ok($after - $before, '<', 1.2 * $setting_kb, 'which makes no difference');

# less is wanted, and all but the newest leave
$node->append_conf('postgresql.conf', 'wfproc.worker_memory = 2MB');
$node->reload;
ok($node->poll_query_until('postgres', 'SELECT sum(residents) BETWEEN 1 AND 4000 FROM wfproc.workers'), 'with less memory, fewer are in it');
my $given_back = wait_until(sub { return private_kb() - $before < 5 * 1024 }, 'memory is given back');
note('then ' . private_kb() . ' kB');
ok($given_back, 'and what the others had has gone back to the system');
is((worker_pids($node, 'postgres'))[0], $pid, 'it is the same worker');
is(sql(q(SELECT count(*) FROM wfproc.mailbox WHERE timer IS NOT NULL)), $count + 3000, 'each has its timer');
is(sql(q(SELECT count(*) FROM wfproc.instances WHERE status <> 'running' OR error IS NOT NULL)), 0, 'and none has failed');
$node->stop;
done_testing();
