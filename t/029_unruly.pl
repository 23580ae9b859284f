# Handlers that will not end: what catches its cancel, recurses for ever or never looks for interrupts. The limits hold all the
# same, at worst by the end of the worker, with the culprit known; nobody else waits, in this database or another.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;
use WfTest;

my $node = wf_node('unruly', conf => "wfproc.max_crashes = 1\n");
wf_database($node, 'postgres');
$node->safe_psql('postgres', 'CREATE DATABASE other');
sub sql { return $node->safe_psql('postgres', $_[0]); }

my $with_perl = $node->psql('postgres', 'CREATE EXTENSION plperl') == 0;
my $started = sql('SELECT pg_postmaster_start_time()');

# one worker, so whatever it does not handle shows
sql(q(
CREATE FUNCTION quick(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT state || jsonb_build_object(event, true) $$;
SELECT wfproc.define('quick', 'quick');
SELECT wfproc.start('quick', 'bystander');
CREATE FUNCTION deep() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM deep();
EXCEPTION WHEN OTHERS OR query_canceled THEN
    PERFORM deep();
END $$;
CREATE FUNCTION deep_after(n int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF n = 0 THEN
        PERFORM pg_sleep(1000);
    END IF;
    PERFORM deep_after(n - 1);
EXCEPTION WHEN OTHERS OR query_canceled THEN
    FOR i IN 1 .. 1000000000 LOOP
        PERFORM deep_after(n);
    END LOOP;
END $$;
CREATE FUNCTION takes_memory() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    kept text[];
BEGIN
    LOOP
        BEGIN
            kept := kept || repeat('x', 1000000);
        EXCEPTION WHEN query_canceled THEN
            NULL;
        END;
    END LOOP;
END $$;
CREATE FUNCTION unruly(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    ignored text;
BEGIN
    IF event = 'loop' THEN
        LOOP
            BEGIN
                PERFORM pg_sleep(1000);
            EXCEPTION WHEN query_canceled THEN
                NULL;
            END;
        END LOOP;
    ELSIF event = 'loop in a handler' THEN
        BEGIN
            PERFORM pg_sleep(1000);
        EXCEPTION WHEN query_canceled THEN
            LOOP
                ignored := 'x';
            END LOOP;
        END;
    ELSIF event = 'return' THEN
        BEGIN
            PERFORM pg_sleep(1000);
        EXCEPTION WHEN query_canceled THEN
            RETURN state;
        END;
    ELSIF event = 'return from SQL' THEN
        RETURN (SELECT state || jsonb_build_object('n', count(patience())) FROM generate_series(1, 1));
    ELSIF event = 'recurse' THEN
        PERFORM deep();
    ELSIF event = 'recurse later' THEN
        PERFORM deep_after(50);
    ELSIF event = 'memory' THEN
        PERFORM takes_memory();
    END IF;
    RETURN state;
END $$;
CREATE FUNCTION patience() RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_sleep(1000);
    RETURN 1;
EXCEPTION WHEN query_canceled THEN
    RETURN 2;
END $$;
SELECT wfproc.define('unruly', 'unruly', handler_timeout => '200 ms', max_attempts => 1);
-- long, so that it is the memory that ends it
SELECT wfproc.define('greedy', 'unruly', handler_timeout => '10 min', max_attempts => 1);
ALTER SYSTEM SET wfproc.handler_memory = '50MB'));
$node->reload;

#
# PL/pgSQL: the step ends, and nothing else does
#

my @caught = ('loop', 'loop in a handler', 'return', 'return from SQL', 'recurse', 'recurse later', 'memory');
sub limit { return $_[0] eq 'memory' ? qr/used more than 51200 kB/ : qr/took longer than 200 ms/; }
sub workflow { return $_[0] eq 'memory' ? 'greedy' : 'unruly'; }

sub goes_on
{
	my ($what) = @_;
	ok($node->poll_query_until('postgres', "SELECT wfproc.state('bystander') ? '$what'"), "$what: others go on");
	return;
}

for my $event (@caught)
{
	sql(sprintf(q(SELECT wfproc.start('%s', '%s')), workflow($event), $event));
}
ok(wait_handled($node, 'postgres'), 'all are started');
my ($worker) = worker_pids($node, 'postgres');
for my $event (@caught)
{
	sql("SELECT wfproc.send('$event', '$event'), wfproc.send('bystander', '$event')");
	ok($node->poll_query_until('postgres', "SELECT status = 'paused' FROM wfproc.instances WHERE id = '$event'"), "$event: the step ends");
	like(sql("SELECT error FROM wfproc.instances WHERE id = '$event'"), limit($event), "$event: by the limit");
	goes_on($event);
}
is_deeply([ worker_pids($node, 'postgres') ], [$worker], 'the worker is the same');

# the same by run(), in a session that goes on
for my $event (@caught)
{
	my $answer = sql(sprintf(q(
BEGIN;
SET LOCAL client_min_messages = error;
SELECT wfproc.start('%s', 'of a session', 'null') IS NULL, wfproc.send('of a session', '%s') IS NULL, wfproc.run();
SELECT error FROM wfproc.instances WHERE id = 'of a session';
ROLLBACK), workflow($event), $event));
	like($answer, limit($event), "$event: by run()");
}

SKIP:
{
	skip 'no PL/Perl here', 1 unless $with_perl;
	sql(q(
CREATE TABLE mood (bad bool);
INSERT INTO mood VALUES (false);
CREATE FUNCTION endless(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plperl AS $$
    my ($state, $event, $payload) = @_;
    if ($event eq 'eval') {
        while (1) { eval { spi_exec_query('SELECT pg_sleep(1000)'); }; }
    } elsif ($event eq 'spin') {
        while (1) { }
    } elsif ($event eq 'memory in perl') {
        my @kept;
        while (1) { push @kept, 'x' x 100000; }
    } elsif ($event eq 'moody' && spi_exec_query('SELECT bad FROM mood')->{rows}[0]->{bad} eq 't') {
        while (1) { }
    }
    return $state;
$$;
SELECT wfproc.define('endless', 'endless', handler_timeout => '200 ms', max_attempts => 1);
SELECT wfproc.define('endless and greedy', 'endless', handler_timeout => '10 min', max_attempts => 1);
SELECT wfproc.start('endless', id) FROM unnest('{eval,spin,moody}'::text[]) id;
SELECT wfproc.start('endless and greedy', 'memory in perl')));
	ok(wait_handled($node, 'postgres'), 'those in PL/Perl are started');

	# a session that a crash of the server would end
	my $witness = $node->background_psql('postgres') if $node->can('background_psql');

	for my $event ('eval', 'memory in perl', 'spin')
	{
		if ($event eq 'spin')
		{
			$node->append_conf('postgresql.conf', 'wfproc.max_crashes = 2');
			$node->reload;
		}
		sql("SELECT wfproc.send('$event', '$event'), wfproc.send('bystander', '$event')");
		# waits until every process has taken notice
		$node->safe_psql('postgres', 'DROP DATABASE IF EXISTS other') if $event eq 'spin';
		ok($node->poll_query_until('postgres', "SELECT status = 'paused' FROM wfproc.instances WHERE id = '$event'"), "$event: the instance is paused");
		like(sql("SELECT error FROM wfproc.instances WHERE id = '$event'"),
			qr/^a worker had to be ended while event 2 was being handled: the handler did not end at its time limit$/,
			"$event: and says why");
		is(sql("SELECT crashes FROM wfproc.instance WHERE id = '$event'"), sql('SHOW wfproc.max_crashes'), "$event: as often as is set");
		goes_on($event);
	}

	# nor does one that ends a worker as its log is folded do so for ever
	sql(q(SELECT wfproc.send('moody', 'moody')));
	ok(wait_handled($node, 'postgres'), 'handled while all is well');
	sql(q(UPDATE mood SET bad = true));
	sql(q(SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE backend_type = 'wfproc worker'));
	sql(q(SELECT wfproc.send('moody', 'other'), wfproc.send('bystander', 'folded')));
	ok($node->poll_query_until('postgres', q(SELECT status = 'paused' FROM wfproc.instances WHERE id = 'moody')), 'a fold that does not end: the instance is paused');
	like(sql(q(SELECT error FROM wfproc.instances WHERE id = 'moody')), qr/while its log was being folded/, 'and says why');
	goes_on('folded');
	sql(q(UPDATE mood SET bad = false));
	sql(q(SELECT wfproc.resume('moody')));
	ok($node->poll_query_until('postgres', q(SELECT seq >= 3 FROM wfproc.digest('moody'))), 'it goes on once it can be folded');
	is(sql(q(SELECT ok FROM wfproc.verify('moody'))), 't', 'its log is whole');

	# run() is ended by the end of its session, as by pg_terminate_backend()
	my ($status, $out, $err) = $node->psql('postgres',
		q(BEGIN; SELECT wfproc.start('endless', 'of a session'), wfproc.send('of a session', 'eval'), wfproc.run()));
	isnt($status, 0, 'run() of one that catches each cancel');
	like($err, qr/57P01|terminating connection/, 'ends with its session');
	is(sql(q(SELECT count(*) FROM wfproc.instances WHERE id = 'of a session')), 0, 'and leaves nothing');
}

is(sql('SELECT pg_postmaster_start_time()'), $started, 'the server is the same');
unlike(slurp_file($node->logfile), qr/terminating any other active server processes/, 'and never crashed');
is(sql(q(SELECT sum(crashes) FROM wfproc.instance WHERE id = 'bystander')), 0, 'nobody else is blamed');
no_alarms($node, 'nothing alarming in the log');
$node->stop;
done_testing();
