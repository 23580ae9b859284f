# I20: a worker's memory is flat; I21: it holds no xmin; I23: it is in nobody's way; I24: nor in its own.
use strict;
use warnings;

use List::Util qw(min);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use FindBin;
use lib $FindBin::RealBin;
use WfTest;

my $node = wf_node('endurance', conf => "max_wal_size = 4GB\nwfproc.passivate_after = 5s\n");
wf_database($node, 'postgres');
sub sql { return $node->safe_psql('postgres', $_[0]); }
my $events = 'SELECT COALESCE(sum(events), 0) FROM wfproc.workers';

# what a process has for itself: shared buffers that it has touched grow by themselves
sub private_kb
{
	my ($pid) = worker_pids($node, 'postgres');
	my $status = slurp_file("/proc/$pid/status");
	return $1 if $status =~ /^RssAnon:\s+(\d+) kB/m;
	die 'no RssAnon';
}

# what it has in memory contexts
sub context_kb
{
	my ($pid) = worker_pids($node, 'postgres');
	my $offset = -s $node->logfile;
	my $total;
	sql("SELECT pg_log_backend_memory_contexts($pid)");
	ok( wait_until(
			sub { ($total) = slurp_file($node->logfile, $offset) =~ /\[$pid\].*Grand total: (\d+) bytes/; return $total; },
			'the worker has logged its memory'),
		'the worker says what it has');
	return $total / 1024;
}

sub send_events
{
	my ($event, $count) = @_;
	sql(qq(SELECT count(wfproc.send('m-' || 1 + n % 1000, '$event', '{"n": 1, "text": "some of the text that events bring along"}')) FROM generate_series(1, $count) n));
	return;
}

#
# Memory, with a handler that works
#
sql(q(SELECT count(wfproc.start('counter', 'm-' || n)) FROM generate_series(1, 1000) n));
my ($first) = worker_pids($node, 'postgres');
my $in_way = 0;
my %rss;
for my $round (1 .. 6)
{
	send_events('add', 50_000);
	# others want the tables meanwhile
	if ($round == 3)
	{
		my $begin = time;
		sql('VACUUM wfproc.mailbox; VACUUM FULL wfproc.snapshot; ANALYZE wfproc.event; REINDEX TABLE wfproc.instance; VACUUM FULL wfproc.mailbox');
		cmp_ok(time - $begin, '<', 20, sprintf('I23: VACUUM FULL of our own tables under load takes %.2f s', time - $begin));
	}
	ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM wfproc.mailbox"), 50_000 * $round . ' events are handled');
	$rss{$round} = private_kb();
}
is((worker_pids($node, 'postgres'))[0], $first, 'by one worker');
note(join ' ', map { "$_: $rss{$_} kB" } sort keys %rss);
cmp_ok($rss{6} - $rss{2}, '<', 5 * 1024, "I20: between event 100,000 and 300,000 the worker grows by less than 5 MB ($rss{2} to $rss{6} kB)");

#
# Memory, with a handler that always fails: each resume() is an attempt, and each attempt fails
#
sql(q(CREATE FUNCTION fails(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event <> 'start' THEN
        RAISE EXCEPTION 'always' USING DETAIL = repeat('detail ', 50), HINT = repeat('hint ', 50);
    END IF;
    RETURN state;
END $$));
sql(q(SELECT wfproc.define('fails', 'fails', max_attempts => 1, on_failure => 'dead_letter')));
sql(q(SELECT count(wfproc.start('fails', 'f-' || n)) FROM generate_series(1, 100) n));
my (@failing, @contexts);
my $per_round = 50_000;
for my $round (1 .. 6)
{
	sql(qq(SELECT count(wfproc.send('f-' || 1 + n % 100, 'fail')) FROM generate_series(1, $per_round) n));
	ok($node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM wfproc.mailbox'), $per_round * $round . ' events have failed');
	push @failing, private_kb();
	push @contexts, context_kb();
}
is(sql(q(SELECT count(*) FROM wfproc.dead_letters)), 6 * $per_round, 'each is a dead letter');
cmp_ok($contexts[5] - $contexts[1], '<', 1024, "I20: with a handler that always fails too (@contexts kB)");
# malloc() keeps some of what a turn has given back, now and then
cmp_ok(min(@failing[ 3 .. 5 ]) - min(@failing[ 0 .. 2 ]), '<', 20 * 1024, "I20: nor does it grow outside of memory contexts (@failing kB)");
# the same with retries: every attempt writes the instance's row
sql(q(SELECT wfproc.define('retries', 'fails', max_attempts => 1000, retry_delay => '1 ms')));
sql(q(SELECT count(wfproc.start('retries', 'r-' || n)), count(wfproc.send('r-' || n, 'fail')) FROM generate_series(1, 200) n));
ok($node->poll_query_until('postgres', q(SELECT min(attempts) >= 5 FROM wfproc.instances WHERE workflow = 'retries')), 'attempts go on');
my $retrying = private_kb();
ok($node->poll_query_until('postgres', q(SELECT min(attempts) >= 11 FROM wfproc.instances WHERE workflow = 'retries')), 'and on');
cmp_ok(private_kb() - $retrying, '<', 5 * 1024, 'I20: with retries too');
is((worker_pids($node, 'postgres'))[0], $first, 'still the same worker');
sql(q(SELECT count(wfproc.pause(id)) FROM wfproc.instances WHERE workflow = 'retries'));
ok($node->poll_query_until('postgres', q(SELECT count(*) = 200 FROM wfproc.instances WHERE workflow = 'retries' AND status = 'paused')), 'paused');

#
# xmin: none when idle; under load none that is old
#
ok($node->poll_query_until('postgres', q(SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type LIKE 'wfproc %' AND (xact_start IS NOT NULL OR backend_xmin IS NOT NULL))), 'I21: idle: no transaction, no xmin');
ok($node->poll_query_until('postgres', q(SELECT count(*) = 0 FROM wfproc.registry)), 'idle processes have left memory');
send_events('add', 50_000);
my $oldest = 0;
# the events of the instances that are paused stay
while (sql(q(SELECT EXISTS (SELECT FROM wfproc.mailbox m JOIN wfproc.instance i USING (instance_id) WHERE i.status = 'running'))) eq 't')
{
	my $age = sql(q(SELECT COALESCE(max(extract(epoch FROM clock_timestamp() - xact_start)), 0) FROM pg_stat_activity WHERE backend_type = 'wfproc worker'));
	$oldest = $age if $age > $oldest;
}
cmp_ok($oldest, '<', 2, "I21: under load no transaction of a worker is older than 2 s ($oldest s)");
sql('DELETE FROM wfproc.snapshot; VACUUM wfproc.snapshot');

#
# In nobody's way: user tables that a handler reads, and those with emit()
#
sql(q(CREATE TABLE mine (id text, n int, at timestamptz DEFAULT clock_timestamp());
      CREATE TRIGGER emit AFTER INSERT ON mine REFERENCING NEW TABLE AS rows FOR EACH STATEMENT EXECUTE FUNCTION wfproc.emit('id=id', 'event=add', 'start=reader');
      CREATE TABLE read_by_handler (n int); INSERT INTO read_by_handler VALUES (0);
      CREATE FUNCTION reader(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
      BEGIN
          RETURN jsonb_build_object('n', COALESCE((state ->> 'n')::int, 0) + 1, 'read', (SELECT count(*) FROM read_by_handler) * 0);
      END $$;
      SELECT wfproc.define('reader', 'reader')));
for my $ddl ('TRUNCATE mine', 'VACUUM FULL read_by_handler', 'TRUNCATE read_by_handler', 'ALTER TABLE read_by_handler ADD COLUMN m int',
	'ALTER TABLE read_by_handler ALTER COLUMN n TYPE bigint', 'VACUUM FULL mine', 'CREATE INDEX ON read_by_handler (n)', 'REINDEX TABLE wfproc.event', 'ANALYZE')
{
	sql(q(INSERT INTO mine (id, n) SELECT 'read-' || n % 100, n FROM generate_series(1, 20000) n));
	my $begin = time;
	is(sqlstate($node, 'postgres', "SET lock_timeout = '10s'; $ddl"), 'ok', "I23: $ddl under load");
	cmp_ok(time - $begin, '<', 20, sprintf('I23: %s takes %.2f s', $ddl, time - $begin));
}
ok($node->poll_query_until('postgres', q(SELECT count(*) = 0 FROM wfproc.mailbox m JOIN wfproc.instance i USING (instance_id) WHERE i.status = 'running')), 'all is handled');
is(sql(q(SELECT sum((wfproc.state('read-' || n) ->> 'n')::int) FROM generate_series(0, 99) n)), 9 * 20000 + 100, 'each once');
is(sql(q(SELECT count(*) FROM wfproc.instances WHERE workflow = 'reader' AND (status <> 'running' OR attempts > 0))), 0, 'and none failed over it');

# ALTER EXTENSION, and a version that the library does not know
is(sqlstate($node, 'postgres', 'ALTER EXTENSION wfproc UPDATE'), 'ok', 'I23: ALTER EXTENSION UPDATE');
my $log = log_size($node);
sql(q(UPDATE pg_extension SET extversion = '9.9' WHERE extname = 'wfproc'));
sql(q(SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE backend_type = 'wfproc worker'));
ok(eval { $node->wait_for_log(qr/wfproc.*9\.9|9\.9.*wfproc/, $log); 1 }, 'a version that the library does not know is named in the log');
sql(q(UPDATE pg_extension SET extversion = '1.0' WHERE extname = 'wfproc'));
sql(q(SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE backend_type = 'wfproc launcher'));
sql(q(SELECT wfproc.start('counter', 'version-1'), wfproc.send('version-1', 'finish')));
ok($node->poll_query_until('postgres', q(SELECT status = 'completed' FROM wfproc.instances WHERE id = 'version-1')), 'with the right one it goes on');
no_alarms($node, 'I24: nothing alarming in the log');
$node->stop;
done_testing();
