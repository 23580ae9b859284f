# The wall clock is moved while the server runs, and a sync of the log fails (faults: clock forward, clock back, fsync EIO).
use strict;
use warnings;

use Time::HiRes qw(time);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;
use WfTest;

my $faults = fault_library(PostgreSQL::Test::Utils::tempdir);
plan skip_all => 'no C compiler' unless $faults;

my $node = wf_node('clock', start => 0, conf => "wal_sync_method = fdatasync\nwfproc.sweep_interval = 2s\n");
{
	local @ENV{ keys %$faults } = values %$faults;
	$node->start;
}
wf_database($node, 'postgres');
sub sql { return $node->safe_psql('postgres', $_[0]); }

my $early = q(SELECT count(*) FROM wfproc.event WHERE at > recorded_at);
sql(q(SELECT count(wfproc.start('counter', 'c-' || n)) FROM generate_series(1, 100) n));
sql(q(SELECT count(wfproc.send('c-' || n, 'add', '{"n": 1}', at => clock_timestamp() + interval '30 min' + n * interval '10 s')) FROM generate_series(1, 100) n));
ok($node->poll_query_until('postgres', 'SELECT count(*) = 100 FROM wfproc.mailbox'), 'a hundred events are not due for half an hour');

#
# Forward
#
my $begin = time;
set_faults($faults, 3600, 0);
is(sql(q(SELECT min(at) < clock_timestamp() FROM wfproc.mailbox)), 't', 'an hour on they are');
ok($node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM wfproc.mailbox'), 'clock forward: they are handled');
cmp_ok(time - $begin, '<', 15, 'within seconds');
is(sql(q(SELECT sum((wfproc.state('c-' || n) ->> 'sum')::int) FROM generate_series(1, 100) n)), 100, 'I7: once each');
is(sql($early), 0, 'I7: none before its time');

#
# Back
#
sql(q(SELECT count(wfproc.send('c-' || n, 'add', '{"n": 1}')) FROM generate_series(1, 50) n));
ok($node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM wfproc.mailbox'), 'events at the clock of then');
my $now = q(SELECT max(at) FROM wfproc.event e JOIN wfproc.instance i USING (instance_id) WHERE i.id = 'c-1');
my $before = sql($now);
set_faults($faults, 0, 0);
sql(q(SELECT count(wfproc.send('c-' || n, 'add', '{"n": 1}')) FROM generate_series(1, 100) n));
ok($node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM wfproc.mailbox'), 'clock back: what comes now is handled');
is(sql($now), $before, 'its own stamp is older than the clock of its instance');
is(sql(q(SELECT sum((wfproc.state('c-' || n) ->> 'sum')::int) FROM generate_series(1, 100) n)), 250, 'I7: and nothing again');
sql(q(SELECT wfproc.send('c-1', 'add', '{"n": 1}', at => clock_timestamp() + interval '1 s')));
ok($node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM wfproc.mailbox'), 'timers go on');
is(sql(q(SELECT count(*) FROM wfproc.instances i, wfproc.verify(i.id) v WHERE NOT v.ok)), 0, 'verify() is true for all');

#
# The disk refuses a sync: the server stops by itself rather than trust it, and what came through is told by the key
#
set_faults($faults, 0, 1);
my ($status) = $node->psql('postgres', q(SELECT wfproc.send('c-2', 'add', '{"n": 1000}', idempotency_key => 'unknown')));
isnt($status, 0, 'fsync EIO: the outcome of a COMMIT is unknown');
ok(wait_until(sub { (eval { $node->psql('postgres', 'SELECT 1') } // 1) == 0 }, 'recovery'), 'the server recovers');
my $first = sql(q(SELECT wfproc.send('c-2', 'add', '{"n": 1000}', idempotency_key => 'unknown')));
is(sql(q(SELECT wfproc.send('c-2', 'add', '{"n": 1000}', idempotency_key => 'unknown'))), $first, 'the key makes the repetition safe');
ok($node->poll_query_until('postgres', q(SELECT wfproc.state('c-2') ->> 'sum' = '1003')), 'it is handled once');
is(sql(q(SELECT count(*) FROM wfproc.instances i, wfproc.verify(i.id) v WHERE NOT v.ok)), 0, 'verify() is true for all');
$node->stop;
done_testing();
