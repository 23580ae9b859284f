# The permit log, 8,577 events of 1,434 cases: by COPY through emit() and by send(), in order and shuffled, with one worker
# and with two, and under kills, it gives the states of a plain SQL fold over the file; then it is dumped, restored and
# copied, and the copies do not act until adopt().
use strict;
use warnings;

use List::Util qw(shuffle);
use POSIX ();
use Time::HiRes qw(time);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;
use WfTest;

my $permits = permits_file();
if (!defined $permits)
{
	plan skip_all => 'the permit log is not here (WF_PERMITS=file names it)';
}

my $seed = seed();
my $kills = long_run(20, 60);
my $node = wf_node('permits', start => 0, conf => "wfproc.max_crashes = 1000\n");
start_child($node);
wf_database($node, 'postgres');

$node->safe_psql(
	'postgres', q(
CREATE FUNCTION permit(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event = 'start' THEN
        RETURN '{"path": [], "events": 0}';
    END IF;
    RETURN jsonb_build_object('path', (state -> 'path') || to_jsonb(event || ' by ' || COALESCE(payload ->> 'resource', '-')),
                              'events', (state ->> 'events')::int + 1,
                              'first', COALESCE(state -> 'first', to_jsonb(wfproc.event_at())),
                              'last', wfproc.event_at(),
                              'department', payload -> 'department',
                              'late', COALESCE((state ->> 'late')::bool, false) OR wfproc.event_at() > (payload ->> 'deadline')::timestamptz);
END $$;
SELECT wfproc.define('permit', 'permit', snapshot_every => 5);
CREATE TABLE permit (pos int, case_id text, activity text, at timestamptz, resource text, department text, channel text, deadline timestamptz,
                     PRIMARY KEY (pos));
CREATE TABLE loaded (LIKE permit, id text GENERATED ALWAYS AS (split_part(channel, '|', 2) || case_id) STORED);
-- the fold, in plain SQL
CREATE VIEW fold AS
    SELECT case_id, jsonb_build_object('path', jsonb_agg(activity || ' by ' || COALESCE(resource, '-') ORDER BY at), 'events', count(*),
                                       'first', min(at), 'last', max(at),
                                       'department', (array_agg(to_jsonb(department) ORDER BY at DESC))[1],
                                       'late', COALESCE(bool_or(at > deadline), false)) AS state
    FROM permit GROUP BY case_id;
));

#
# The file, in order and shuffled; each load has ids of its own.
#
my @rows = split /\n/, slurp_file($permits);
shift @rows;
is(scalar(@rows), 8577, 'the file is what it was');
my $folder = PostgreSQL::Test::Utils::tempdir;
my $pos = 0;
write_csv("$folder/permit.csv", map { ++$pos . ",$_" } @rows);
$node->safe_psql('postgres', "COPY permit FROM '$folder/permit.csv' WITH (FORMAT csv)");
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT case_id), count(DISTINCT (case_id, at)) FROM permit'), '8577|1434|8577', 'and so are its cases');

sub write_csv
{
	my ($name, @lines) = @_;
	open(my $file, '>', $name) or die $!;
	print $file map { "$_\n" } @lines;
	close($file);
	return;
}

sub same_states
{
	my ($prefix, $name) = @_;
	is($node->safe_psql('postgres', qq(
SELECT count(*), count(*) FILTER (WHERE s = f.state), count(*) FILTER (WHERE (wfproc.verify('$prefix' || f.case_id)).ok)
FROM fold f, LATERAL wfproc.state('$prefix' || f.case_id) s)), '1434|1434|1434', "$name: states as the plain fold; verify() true for all");
	return;
}

# Loads the rows with a prefix of its own, in one transaction.
sub load
{
	my ($how, $prefix, @lines) = @_;
	if ($how eq 'COPY')
	{
		write_csv("$folder/$prefix.csv", map { ++$pos . ",$prefix$_" } @lines);
		$node->safe_psql('postgres', qq(
CREATE TABLE "load_$prefix" (LIKE permit);
CREATE TRIGGER emit AFTER INSERT ON "load_$prefix" REFERENCING NEW TABLE AS rows FOR EACH STATEMENT
    EXECUTE FUNCTION wfproc.emit('id=case_id', 'event_column=activity', 'at=at', 'payload=resource,department,deadline', 'start=permit');
COPY "load_$prefix" FROM '$folder/$prefix.csv' WITH (FORMAT csv)));
	}
	else
	{
		write_csv("$folder/$prefix.csv", map { ++$pos . ",$_" } @lines);
		$node->safe_psql('postgres', qq(
CREATE TABLE "load_$prefix" (LIKE permit);
COPY "load_$prefix" FROM '$folder/$prefix.csv' WITH (FORMAT csv);
SELECT count(wfproc.send('$prefix' || case_id, activity,
                         jsonb_build_object('resource', resource, 'department', department, 'deadline', deadline), at, or_start => 'permit'))
FROM (SELECT * FROM "load_$prefix" ORDER BY pos) p));
	}
	return;
}

for my $workers (1, 2)
{
	$node->safe_psql('postgres', "ALTER SYSTEM SET wfproc.workers = $workers");
	$node->reload;
	ok(workers_running($node, 'postgres', $workers), "$workers worker(s)");
	for my $how ('COPY', 'send')
	{
		for my $order ('in order', 'shuffled')
		{
			my $prefix = substr($how, 0, 1) . substr($order, 0, 1) . "$workers-";
			my @lines = $order eq 'shuffled' ? shuffle(@rows) : @rows;
			load($how, $prefix, @lines);
			ok(wait_handled($node, 'postgres'), "$how, $order, $workers worker(s): all is handled");
			same_states($prefix, "$how, $order, $workers worker(s)");
		}
	}
}
is($node->safe_psql('postgres', q(SELECT count(*) FROM wfproc.event WHERE name <> 'start')), 8 * 8577, 'no event is lost or doubled');
is($node->safe_psql('postgres', q(SELECT count(*) FROM wfproc.event WHERE name = 'start')), 8 * 1434, 'each case started once');
is($node->safe_psql('postgres', q(SELECT count(*) FROM wfproc.dead_letters)), 0, 'nothing was set aside');

#
# The same under kills: two clients send case by case, each row with its key; what they do not know the end of they repeat.
#
my @cases;
for my $row (@rows)
{
	my ($case) = split /,/, $row, 2;
	push @cases, [] unless @cases && $cases[-1][0] eq $case;
	push @{ $cases[-1] }, $case if !@{ $cases[-1] };
	push @{ $cases[-1] }, ++$pos - 1;
}
is(scalar(@cases), 1434, 'cases lie together in the file');

my @children;
for my $number (0, 1)
{
	my $pid = fork() // die $!;
	if ($pid == 0)
	{
		srand($seed + 100 + $number);
		my $client = WfClient->new($node, 'postgres');
		open(my $done, '>', "$folder/done-$number") or die $!;
		$done->autoflush;
		for my $case (shuffle(grep { length(substr($_->[0], -1)) && ord(substr($_->[0], -1)) % 2 == $number } @cases))
		{
			my ($id) = @$case;
			# the whole case, or its halves, so that kills find cases half sent
			for my $half (0, 1)
			{
				my $sql = qq(SELECT count(wfproc.send('k-' || case_id, activity,
					jsonb_build_object('resource', resource, 'department', department, 'deadline', deadline), at, 'row ' || pos, 'permit'))
					FROM (SELECT * FROM permit WHERE case_id = '$id' ORDER BY at) p WHERE pos % 2 = $half OR $half = 1);
				while (1)
				{
					my ($outcome, @lines) = $client->connect ? $client->call($sql) : ('failed');
					last if $outcome eq 'ok';
					print STDERR "@lines\n" if $outcome eq 'failed' && "@lines" !~ /FATAL|not connected/ && "@lines" ne '';
					$client->close if $outcome eq 'failed';
					select(undef, undef, undef, 0.05);
				}
			}
			print $done "$id\n";
		}
		$client->close;
		POSIX::_exit(0);
	}
	push @children, $pid;
}

sub sent
{
	my $count = 0;
	for my $number (0, 1)
	{
		open(my $file, '<', "$folder/done-$number") or next;
		$count++ while <$file>;
	}
	return $count;
}

sub kill_one
{
	my ($backend_type) = @_;
	my ($status, $out) = $node->psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE backend_type LIKE '$backend_type' AND pid <> pg_backend_pid()");
	my @pids = split /\n/, $out // '';
	return @pids && kill('KILL', pick(@pids));
}

my $killed = 0;
my @what = ('worker', 'backend', 'postmaster');
for my $kill (1 .. $kills)
{
	my $at = int(1434 * ($kill - draw(1000) / 1000) / ($kills + 1));
	last unless wait_until(sub { sent() >= $at }, "$at cases are sent");
	my $what = $kill <= @what ? $what[ $kill - 1 ] : pick(@what);
	if ($what eq 'postmaster') { kill_postmaster($node, 'KILL'); start_child($node); $killed++; }
	else { $killed++ if wait_until(sub { kill_one($what eq 'worker' ? 'wfproc worker%' : 'client backend') }, "there is a $what to kill"); }
}
is($killed, $kills, 'kill -9 of workers, backends and postmasters while cases are sent');
waitpid($_, 0) for @children;
is(sent(), 1434, 'all cases are sent');
ok(wait_handled($node, 'postgres'), 'and handled');
is($node->safe_psql('postgres', q(SELECT count(*), count(DISTINCT idempotency_key) FROM wfproc.event WHERE idempotency_key LIKE 'row %')), '8577|8577', 'I1: with kills no event is lost or doubled');
# halves that a kill came between were handled late, as they arrived: the order is that of arrival
is( $node->safe_psql('postgres', q(
SELECT count(*) FILTER (WHERE s ->> 'events' = f.state ->> 'events' AND s ->> 'first' IS NOT NULL
                          AND (SELECT jsonb_agg(e ORDER BY e) FROM jsonb_array_elements(s -> 'path') e) = (SELECT jsonb_agg(e ORDER BY e) FROM jsonb_array_elements(f.state -> 'path') e)
                          AND s -> 'late' = f.state -> 'late'),
       count(*) FILTER (WHERE (wfproc.verify('k-' || f.case_id)).ok)
FROM fold f, LATERAL wfproc.state('k-' || f.case_id) s)), '1434|1434', 'with kills: the same events in each state; verify() true for all');
is( $node->safe_psql('postgres', q(
SELECT count(*) FROM (
    SELECT i.id, jsonb_agg(e.name || ' by ' || COALESCE(e.payload ->> 'resource', '-') ORDER BY e.seq) AS path
    FROM wfproc.event e JOIN wfproc.instances i ON i.id LIKE 'k-%' AND e.instance_id = (SELECT instance_id FROM wfproc.instance x WHERE x.id = i.id)
    WHERE e.name <> 'start' GROUP BY i.id) p
WHERE p.path = wfproc.state(p.id) -> 'path')), '1434', 'I3, I11: and each is the fold of its log');
no_alarms($node, 'nothing alarming in the log');

#
# A dump, restored: the same digests; it does not act. Nor does a copy by CREATE DATABASE ... TEMPLATE.
#
$node->safe_psql('postgres', q(SELECT wfproc.start('permit', 'waits', at => clock_timestamp() + interval '1 hour')));
my $digests = 'SELECT md5(string_agg(i.id || d.seq || d.sha256::text, chr(10) ORDER BY i.id)), count(*) FROM wfproc.instances i, wfproc.digest(i.id) d';
my $original = $node->safe_psql('postgres', $digests);
$node->safe_psql('postgres', 'CREATE DATABASE copied TEMPLATE postgres');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
command_ok([ 'sh', '-c', sprintf("pg_dump -h '%s' -p %d postgres | psql -h '%s' -p %d -X -q -v ON_ERROR_STOP=1 restored", ($node->host, $node->port) x 2) ], 'pg_dump | psql into another database');
for my $db ('copied', 'restored')
{
	is($node->safe_psql($db, $digests), $original, "I17: $db: the same digests");
	is($node->safe_psql($db, q(SELECT count(*) FROM wfproc.instances i, wfproc.verify(i.id) v WHERE NOT v.ok)), 0, "I17: $db: verify() is true for all");
	is($node->safe_psql($db, q(SELECT bool_or(at_home) FROM wfproc.workflows)), 'f', "I17: $db: not at home");
	# what it could act on: mail that is due. Beside it a new workflow, whose mail comes later: in a restored dump, which
	# has a token of its own, that is at home; in a copy of the files nothing is before adopt().
	$node->safe_psql($db, q(SELECT wfproc.send(id, 'x') FROM wfproc.instances WHERE id LIKE 'C%' LIMIT 100));
	is($node->safe_psql($db, 'SELECT wfproc.run()'), 0, "I17: $db: run() does not act");
	$node->safe_psql($db, q(SELECT wfproc.define('here', 'counter'); SELECT wfproc.start('here', 'here-1')));
	$node->safe_psql($db, q(SELECT wfproc.send('here-1', 'finish')));
	is($node->safe_psql('restored', q(SELECT status FROM wfproc.await('here-1', '60 s'))), 'completed', "I17: $db: what is at home here acts") if $db eq 'restored';
	is($node->safe_psql($db, q(SELECT count(*) FROM wfproc.mailbox WHERE name = 'x')), 100, "I17: $db: what is not does not");
	is($node->safe_psql($db, q(SELECT wfproc.adopt() > 0)), 't', "I17: $db: adopt()");
	ok($node->poll_query_until($db, q(SELECT count(*) = 0 FROM wfproc.mailbox WHERE name = 'x')), "I17: $db: then it acts");
	is($node->safe_psql($db, q(SELECT count(*) FROM wfproc.instances i, wfproc.verify(i.id) v WHERE NOT v.ok)), 0, "I17: $db: verify() is still true for all");
}
is($node->safe_psql('postgres', $digests), $original, 'I17: the original is as it was');
is($node->safe_psql('postgres', q(SELECT bool_and(at_home) FROM wfproc.workflows)), 't', 'I17: and at home');
kill_postmaster($node, 'INT');
done_testing();
