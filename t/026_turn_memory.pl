# What a worker takes for a turn is bounded, however much mail an instance leaves and however many are told of its end: the
# rest is left to the next turns, and nothing is lost.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;
use WfTest;

# of a turn 128 MB, and what one look into mailboxes and the end of an instance bring into it
my $bound_kb = 200 * 1024;

plan skip_all => 'needs /proc' unless -r '/proc/self/status';

my $node = wf_node('turn_memory', conf => "max_wal_size = 4GB\nfsync = off\nwfproc.workers = 1\nwfproc.scrub_rate = 0\nwfproc.worker_memory = 16MB\n");
wf_database($node, 'postgres');
sub sql { return $node->safe_psql('postgres', $_[0]); }

sub private_kb
{
	my ($field) = @_;
	my ($pid) = worker_pids($node, 'postgres');
	return slurp_file("/proc/$pid/status") =~ /^$field:\s+(\d+) kB/m ? $1 : die "no $field";
}

# Runs the sub; returns how far the worker's memory has risen meanwhile. VmHWM also counts shared buffers that are touched:
# they are few here.
sub risen_kb
{
	my ($work) = @_;
	my ($pid) = worker_pids($node, 'postgres');
	append_to_file("/proc/$pid/clear_refs", '5');
	my $before = private_kb('VmRSS');
	$work->();
	is((worker_pids($node, 'postgres'))[0], $pid, 'it is the same worker');
	return private_kb('VmHWM') - $before;
}

sub is_bounded
{
	my ($kb, $what) = @_;
	note("$what: $kb kB");
	cmp_ok($kb, '<', $bound_kb, "$what takes a bounded amount of memory");
	return;
}

#
# Mail of an instance that is terminated
#
sql(q(SELECT wfproc.start('counter', 'full'), wfproc.pause('full')));
ok($node->poll_query_until('postgres', q(SELECT status = 'paused' FROM wfproc.instances WHERE id = 'full')), 'an instance is paused');
sql(q(SELECT count(wfproc.send('full', 'add', jsonb_build_object('t', repeat('z', 1000000)), at => CASE WHEN n > 150 THEN timestamptz '2090-01-01' ELSE now() END)) FROM generate_series(1, 300) n));
my $risen = risen_kb(
	sub {
		sql(q(SELECT wfproc.terminate('full')));
		ok($node->poll_query_until('postgres', q(SELECT status = 'terminated' FROM wfproc.instances WHERE id = 'full')), 'it is terminated');
		ok($node->poll_query_until('postgres', q(SELECT count(*) = 0 FROM wfproc.mailbox)), 'and its mailbox is emptied');
	});
is_bounded($risen, 'an end with 300 MB of mail');
is(sql(q(SELECT count(*), count(DISTINCT mail_id), sum(length(payload ->> 't')) FROM wfproc.dead_letter WHERE id = 'full' AND name = 'add')),
	'300|300|300000000', 'each is a dead letter, whole, those of the future too');

#
# Those who watch an instance that closes with a large result, and its children
#
sql(q(
CREATE FUNCTION hub(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event = 'start' THEN
        PERFORM wfproc.start('counter', 'child-' || n, on_parent_close => 'terminate') FROM generate_series(1, 100) n;
    ELSIF event = 'end' THEN
        PERFORM wfproc.complete(jsonb_build_object('t', repeat('r', 1000000)));
    END IF;
    RETURN state;
END $$;
CREATE FUNCTION watcher(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event = 'start' THEN
        PERFORM wfproc.monitor('hub');
    ELSIF event = 'monitor.completed' THEN
        state := jsonb_build_object('told', COALESCE((state ->> 'told')::int, 0) + 1, 'bytes', length(payload #>> '{result,t}'));
    END IF;
    RETURN state;
END $$;
SELECT wfproc.define('hub', 'hub'), wfproc.define('watcher', 'watcher');
SELECT wfproc.start('hub', 'hub');
));
sql(q(SELECT count(wfproc.start('watcher', 'watcher-' || n)) FROM generate_series(1, 300) n));
ok($node->poll_query_until('postgres', q(SELECT count(*) = 400 FROM wfproc.link)), 'an instance has 300 watchers and 100 children');
$risen = risen_kb(
	sub {
		sql(q(SELECT wfproc.send('hub', 'end')));
		ok($node->poll_query_until('postgres', q(SELECT count(*) = 300 FROM wfproc.event WHERE name = 'monitor.completed')), 'all watchers are told of its end');
		ok($node->poll_query_until('postgres', q(SELECT count(*) = 100 FROM wfproc.instances WHERE id LIKE 'child-%' AND status = 'terminated')), 'and all children terminated');
	});
is_bounded($risen, 'an end with a result of 1 MB and 300 watchers');
is(sql(q(SELECT count(*) FROM generate_series(1, 300) n WHERE wfproc.state('watcher-' || n) = '{"told": 1, "bytes": 1000000}')), 300, 'each watcher once, with the result');
is(sql(q(SELECT count(*) FROM wfproc.link)), 0, 'no link is left');
ok($node->poll_query_until('postgres', q(SELECT count(*) = 0 FROM wfproc.mailbox)), 'and no mail');

$node->stop;
done_testing();
