# Much that is due at one stamp, more than a turn has time or memory to read: each turn gets on all the same, and nobody else
# is kept waiting by it.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;
use WfTest;

my $node = wf_node('equal_stamps', conf => qq(
wfproc.workers = 1
wfproc.sweep_interval = '1s'
max_wal_size = '4GB'
));
wf_database($node, 'postgres');
my $control = WfClient->new($node, 'postgres');
$control->connect;

sub sql
{
	my ($outcome, @rows) = $control->call($_[0]);
	BAIL_OUT("$_[0]: @rows") if $outcome ne 'ok';
	return join "\n", @rows;
}

sub poll
{
	my ($query) = @_;
	return wait_until(sub { sql($query) eq 't' }, $query);
}

# how many instances have this in their logs, in this order
sub with_log
{
	my ($ids, $events) = @_;
	return "(SELECT count(*) FROM (SELECT string_agg(name, ' ' ORDER BY seq) AS names FROM wfproc.event JOIN wfproc.instance USING (instance_id)
	         WHERE id ~ '^$ids' GROUP BY instance_id) l WHERE names = '$events')";
}

sub check_logs
{
	my ($ids) = @_;
	is(sql("SELECT count(*) FROM wfproc.instance i, wfproc.verify(i.id) v WHERE id ~ '^$ids' AND NOT v.ok"), 0, "$ids: the logs hold");
	is(sql("SELECT count(*) FROM (SELECT mail_id FROM wfproc.event GROUP BY 1 HAVING mail_id IS NOT NULL AND count(*) > 1) twice"), 0, "$ids: nothing twice");
	return;
}

# keeps nothing of what comes; "timed" sets a timer
sql(q(
CREATE FUNCTION light(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF payload ? 'timer' THEN
        PERFORM wfproc.set_timer('tick', at => (payload ->> 'timer')::timestamptz);
    END IF;
    RETURN state;
END $$;
SELECT wfproc.define('light', 'light')));

#
# Mail of one stamp that does not fit into a turn's memory
#
sql(q(SELECT count(wfproc.start('light', 'large/' || n)) FROM generate_series(1, 170) n));
ok(poll('SELECT ' . with_log('large/', 'start') . ' = 170'), 'large: instances are there');
sql(q(SELECT count(wfproc.send('large/' || n, 'doc', jsonb_build_object('t', repeat('z', 900000)), at => '2025-11-01')),
             count(wfproc.send('large/' || n, 'next', at => '2025-11-02'))
      FROM generate_series(1, 170) n));
sql(q(SELECT wfproc.start('light', 'other'), wfproc.send('other', 'hello')));
ok(poll('SELECT ' . with_log('other', 'start hello') . ' = 1'), 'large: another workflow gets on');
ok(poll('SELECT ' . with_log('large/', 'start doc next') . ' = 170'), 'large: all is handled, each in its order');
check_logs('large/');

# a year that is loaded: all start at one stamp
sql(q(SELECT count(wfproc.start('light', 'loaded/' || n, jsonb_build_object('t', repeat('z', 100000)), at => '2024-01-01')) FROM generate_series(1, 1500) n));
ok(poll('SELECT ' . with_log('loaded/', 'start') . ' = 1500'), 'loaded: all have started');

# run() comes to an end
is((split /\n/, sql(q(BEGIN;
SELECT count(wfproc.start('light', 'run/' || n, at => '2024-01-01')) FROM generate_series(1, 170) n;
SELECT count(wfproc.send('run/' || n, 'doc', jsonb_build_object('t', repeat('z', 900000)), at => '2024-02-01')),
       count(wfproc.send('run/' || n, 'next', at => '2024-02-01')) FROM generate_series(1, 170) n;
SELECT wfproc.run();
COMMIT)))[-1], 3 * 170, 'run() handles all and returns');
is(sql('SELECT ' . with_log('run/', 'start doc next')), 170, 'run(): each in its order');
is(sql(q(SELECT count(*) FROM wfproc.mailbox)), 0, 'nothing is left');

# one instance with very much of one stamp
sql(q(SELECT wfproc.start('light', 'one', at => '2024-01-01')));
sql(q(SELECT count(wfproc.send('one', 'doc' || n, jsonb_build_object('t', repeat('z', 100000)), at => '2024-02-01')) FROM generate_series(1, 2000) n));
ok(poll(q(SELECT count(*) = 2001 FROM wfproc.event JOIN wfproc.instance USING (instance_id) WHERE id = 'one')), 'one: all of it is handled');
is(sql(q(SELECT count(*) FROM wfproc.event JOIN wfproc.instance USING (instance_id) WHERE id = 'one' AND seq > 1 AND name <> 'doc' || seq - 1)), 0, 'one: in its order');

#
# Timers of one stamp, under new mail that does not end: neither keeps the other from getting on
#
sql(q(SELECT count(wfproc.start('light', 'busy/' || n)) FROM generate_series(1, 50) n));
sql(q(CREATE TABLE going (on_and_on bool); INSERT INTO going VALUES (true);
CREATE PROCEDURE traffic(client int) LANGUAGE plpgsql AS $$
BEGIN
    FOR n IN 1 .. 100000000 LOOP
        PERFORM wfproc.send('busy/' || 1 + (n + client) % 50, 'new', jsonb_build_object('client', client, 'n', n));
        COMMIT;
        EXIT WHEN n % 100 = 0 AND NOT (SELECT on_and_on FROM going);
    END LOOP;
END $$));
my @traffic = map {
	IPC::Run::start([ $node->installed_command('psql'), '-Xq', '-d', $node->connstr('postgres'), '-c', 'SET synchronous_commit = off', '-c', "CALL traffic($_)" ],
		'<', '/dev/null')
} 1, 2;
sql(q(SELECT count(wfproc.start('light', 'timed/' || n, jsonb_build_object('timer', date_trunc('second', now()) + interval '1 s'))) FROM generate_series(1, 4000) n));
ok(poll('SELECT ' . with_log('timed/', 'start tick') . ' = 4000'), 'timed: all timers fire under new mail');
my $handled = sql(q(SELECT count(*) FROM wfproc.event WHERE name = 'new'));
ok(poll("SELECT count(*) > $handled + 100 FROM wfproc.event WHERE name = 'new'"), 'timed: new mail is handled');
sql(q(UPDATE going SET on_and_on = false));
$_->finish for @traffic;
ok(poll(q(SELECT NOT EXISTS (SELECT FROM wfproc.mailbox))), 'timed: all of it');
is(sql(q(SELECT count(*) FROM (SELECT instance_id, payload ->> 'client', (payload ->> 'n')::int < lag((payload ->> 'n')::int) OVER (PARTITION BY instance_id, payload ->> 'client' ORDER BY seq) AS wrong
                               FROM wfproc.event WHERE name = 'new') e WHERE wrong)), 0, 'timed: the mail of each sender in its order');
check_logs('timed/');

$control->close;
no_alarms($node, 'no alarms', 'without having handled anything');
$node->stop;
done_testing();
