# Workers that have nothing else to do check logs: what a superuser has changed is found in instances that nobody writes to, and
# told once; who could not be activated any more pauses, and nothing is written over; mail does not wait for a long check; a
# restart goes on with the others; a check that takes the server down is not tried for ever.
use strict;
use warnings;

use Time::HiRes qw(time);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;
use WfTest;

use constant LONG => long_run(60000, 1000000);

my $node = wf_node('scrub', conf => "wfproc.workers = 1\nwfproc.scrub_rate = 0\nwfproc.scrub_age = 1s\n");
wf_database($node, 'postgres');
sub sql { return $node->safe_psql('postgres', $_[0]); }
sub poll { return $node->poll_query_until('postgres', $_[0]); }
sub set { my ($name, $value) = @_; $node->adjust_conf('postgresql.conf', $name, "'$value'"); $node->reload; return; }

# a statement on tables that are closed to statements
sub tamper { return sql("BEGIN; ALTER TABLE wfproc.event DISABLE TRIGGER append_only; $_[0]; ALTER TABLE wfproc.event ENABLE ALWAYS TRIGGER append_only; COMMIT"); }
sub payload_of { my ($id, $seq, $payload) = @_; return "UPDATE wfproc.event SET payload = '$payload' WHERE seq = $seq AND instance_id = (SELECT instance_id FROM wfproc.instance WHERE id = '$id')"; }
# how often something was said in the server's log since an offset
sub said { my ($offset, $what) = @_; return scalar(() = substr(slurp_file($node->logfile), $offset) =~ /$what/g); }
# once all have been checked anew
sub rounds_later { return poll("SELECT bool_and(checked_at > now_then) AND count(*) = (SELECT count(*) FROM wfproc.instance) FROM (SELECT s.checked_at, timestamptz '$_[0]' AS now_then FROM wfproc.scrub s) x"); }
sub now_there { return sql('SELECT clock_timestamp()'); }

sql(q(SELECT count(wfproc.start('counter', id)), count(wfproc.send(id, 'add', '{"n": 1}')), count(wfproc.send(id, 'add', '{"n": 2, "secret": 4711}')) FROM unnest('{idle,covered,closed,good}'::text[]) id));
sql(q(SELECT wfproc.send('closed', 'finish')));
ok(wait_handled($node, 'postgres'), 'instances are there');
sql(q(SELECT wfproc.snapshot('covered')));
ok(poll(q(SELECT count(*) = 1 FROM wfproc.snapshot s JOIN wfproc.instance i USING (instance_id) WHERE i.id = 'covered')), 'one has a snapshot');
is(sql(q(SELECT count(*) FROM wfproc.scrub)), 0, 'a rate of 0 checks nothing');
is(sql(q(SELECT count(*) FROM wfproc.registry WHERE id IN ('idle', 'covered', 'good'))), 3, 'they are in memory');

#
# What is found
#
my $log = log_size($node);
set('wfproc.scrub_rate', 1000000);
ok(poll(q(SELECT count(*) = 4 FROM wfproc.scrub)), 'all are checked once there is a rate');
is(sql(q(SELECT count(*) FROM wfproc.findings)), 0, 'and nothing is found');
tamper(join '; ', map { payload_of($_, 2, '{"n": 9}') } qw(idle covered closed));
ok(poll(q(SELECT count(*) = 3 FROM wfproc.findings)), 'what was changed is found');
is(sql(q(SELECT string_agg(concat_ws(' ', id, workflow, first_bad_seq, reason), ', ' ORDER BY id) FROM wfproc.findings)),
	'closed counter 2 hash differs, covered counter 2 hash differs, idle counter 2 hash differs', 'also in one that has closed, with its seq');
ok(poll(q(SELECT status = 'paused' FROM wfproc.instances WHERE id = 'idle')), 'who could not be activated pauses');
is(sql(q(SELECT error FROM wfproc.instances WHERE id = 'idle')), 'diverged at seq 2: hash differs', 'and says so');
is(sql(q(SELECT count(*) FROM wfproc.registry WHERE id = 'idle')), 0, 'it has left memory');
is(sql(q(SELECT count(*), max(seq) FROM wfproc.event JOIN wfproc.instance i USING (instance_id) WHERE i.id = 'idle')), '3|3', 'nothing is added to its log');
is(sql(q(SELECT count(*) FROM wfproc.snapshot s JOIN wfproc.instance i USING (instance_id) WHERE i.id = 'idle')), 0, 'and no snapshot written over it');
is(sql(q(SELECT status, finding FROM wfproc.instances WHERE id = 'covered')), 'running|hash differs', 'what a good snapshot covers is shown, and stops nobody');
sql(q(SELECT wfproc.send('covered', 'add', '{"n": 5}')));
ok(poll(q(SELECT wfproc.state('covered') = '{"n": 4, "sum": 8}')), 'who goes on');

#
# Told once, however often it is checked; never a payload
#
ok(rounds_later(now_there()), 'all are checked again');
ok(rounds_later(now_there()), 'and again');
is(said($log, qr/WARNING:  wfproc: instance "$_" is not as it should be: event 2: hash differs/), 1, "$_: told once") for qw(idle covered closed);
is(said($log, qr/instance "good" is not/), 0, 'nothing of who is good');
is(said($log, qr/4711/), 0, 'no payload');
tamper(join '; ', map { payload_of($_, 2, '{"n": 1}') } qw(idle covered closed));
ok(poll(q(SELECT count(*) = 0 FROM wfproc.findings)), 'once it is as it was, there are no findings');
is(said($log, qr/LOG:  wfproc: instance "$_" is as it should be again/), 1, "$_: told once") for qw(idle covered closed);
is(sql(q(SELECT wfproc.resume('idle'))), 't', 'it is resumed');
ok(poll(q(SELECT status = 'running' AND error IS NULL FROM wfproc.instances WHERE id = 'idle')), 'and runs');
is(sql(q(SELECT wfproc.state('idle'), wfproc.verify('idle'))), '{"n": 3, "sum": 3}|(t,,)', 'with all that it had');

#
# Mail does not wait for the check of a long log, which gets through all the same
#
set('wfproc.scrub_rate', 0);
sql(q(SELECT wfproc.start('counter', 'long')));
sql('SELECT count(wfproc.send(\'long\', \'add\', \'{"n": 1}\')) FROM generate_series(1, ' . LONG . ')');
ok(wait_handled($node, 'postgres'), 'a long log');
my $client = WfClient->new($node, 'postgres');
$client->connect;
my ($began, $slowest, $calls) = (time, 0, 0);
set('wfproc.scrub_rate', 1000000);
while (1)
{
	my $sent = time;
	my ($outcome) = $client->call(sprintf(q(SELECT wfproc.send('good', 'add', '{"n": 1}'); SELECT wfproc.await_state('good', '$.n == %d')), $calls + 4));
	my $waited = time - $sent;
	$calls++;
	$slowest = $waited if $waited > $slowest;
	last if $outcome ne 'ok' || $calls % 10 == 0 && sql(q(SELECT count(*) FROM wfproc.scrub JOIN wfproc.instance i USING (instance_id) WHERE i.id = 'long')) || time - $began > $PostgreSQL::Test::Utils::timeout_default;
}
my $took = time - $began;
$client->close;
is(sql(q(SELECT s.seq, s.reason FROM wfproc.scrub s JOIN wfproc.instance i USING (instance_id) WHERE i.id = 'long')), (LONG + 1) . '|', 'the long one was checked to its end');
cmp_ok($calls, '>=', 10, "meanwhile $calls events of another were handled");
cmp_ok($slowest, '<', $took / 3, sprintf('the slowest in %.3f s; the check has taken %.3f s', $slowest, $took));
is(sql(q(SELECT wfproc.state('good') ->> 'n')), 3 + $calls, 'each once');

#
# A restart goes on, with what was found
#
tamper(payload_of('closed', 3, '{"n": 9}'));
ok(poll(q(SELECT first_bad_seq = 3 FROM wfproc.findings WHERE id = 'closed')), 'another finding');
my $found_at = sql(q(SELECT found_at FROM wfproc.findings WHERE id = 'closed'));
$log = log_size($node);
$node->restart;
ok(rounds_later(now_there()), 'after a restart all are checked again');
is(sql(q(SELECT found_at FROM wfproc.findings WHERE id = 'closed')), $found_at, 'what was found before is known');
is(said($log, qr/instance "closed" is not as it should be/), 0, 'and not told again');

#
# What cannot even be read is a finding, and keeps nobody else from being checked
#
my $good = sql(q(SELECT instance_id FROM wfproc.instance WHERE id = 'good'));
tamper("UPDATE wfproc.event SET hash = '' WHERE seq = 1 AND instance_id = $good");
ok(poll(q(SELECT EXISTS (SELECT FROM wfproc.findings WHERE id = 'good'))), 'a row that cannot be read is a finding');
note(sql(q(SELECT first_bad_seq, reason FROM wfproc.findings WHERE id = 'good')));
ok(rounds_later(now_there()), 'the others are checked all the same');

#
# A check on which the server goes down
#
set('wfproc.scrub_rate', 0);
sql(q(CREATE TABLE poison (active bool); INSERT INTO poison VALUES (false);
CREATE FUNCTION poison(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT active FROM poison) THEN
        PERFORM pg_sleep(500);
    END IF;
    RETURN state;
END $$;
SELECT wfproc.define('poison', 'poison', handler_timeout => '10 min');
SELECT wfproc.start('poison', 'poison')));
ok(wait_handled($node, 'postgres'), 'a log is there');
sql(q(UPDATE poison SET active = true));
set('wfproc.scrub_rate', 1000000);
for my $reason ('the server went down while it was being checked', 'the server went down while it was being checked, twice: workers leave it alone')
{
	my $sleeping = q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'wfproc worker' AND wait_event = 'PgSleep');
	ok(poll("SELECT EXISTS ($sleeping)"), 'its check takes long');
	kill('KILL', sql($sleeping));
	ok(poll(q(SELECT true)), 'the server is back');
	ok(poll("SELECT reason = '$reason' FROM wfproc.findings WHERE id = 'poison'"), $reason);
}
is(sql(q(SELECT status, crashes FROM wfproc.instance WHERE id = 'poison')), 'running|0', 'its next events are not to blame');
my $before = now_there();
ok(poll("SELECT count(*) FILTER (WHERE checked_at > '$before') >= 4 AND bool_and(i.id <> 'poison' OR checked_at < '$before') FROM wfproc.scrub JOIN wfproc.instance i USING (instance_id)"), 'the others are checked on');
sql(q(UPDATE poison SET active = false));
set('wfproc.workers', 0);
ok(workers_running($node, 'postgres', 0), 'without workers');
is(sql('SELECT wfproc.scrub() = (SELECT count(*) FROM wfproc.instance)'), 't', 'scrub() checks all');
is(sql(q(SELECT count(*) FROM wfproc.findings WHERE id = 'poison')), 0, 'also who was left alone');
no_alarms($node, 'nothing else in the log');
$node->stop;
done_testing();
