# Whatever rewrites a table of ours waits for a turn under way, or the turn for it: each event is in the log or in the mailbox,
# once. What a turn has read stays where it was read until it has been written.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;
use WfTest;

my $node = wf_node('rewrites', conf => qq(
wfproc.workers = 1
wfproc.sweep_interval = '500ms'
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

my @tables = split /\n/, sql(q(SELECT relname FROM pg_class WHERE relnamespace = 'wfproc'::regnamespace AND relkind = 'r' ORDER BY 1));
my %primary_keys = map { split /\|/ } split /\n/, sql(q(SELECT c.relname, i.indexrelid::regclass FROM pg_index i JOIN pg_class c ON c.oid = indrelid
	WHERE indisprimary AND c.relnamespace = 'wfproc'::regnamespace));

# An event "slow" waits until the door is open, in the middle of its turn, and then writes to an instance that is not in memory.
sql(q(
CREATE TABLE door (open bool);
INSERT INTO door VALUES (true);
CREATE TABLE sent (mail_id bigint);
CREATE FUNCTION slow(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event = 'slow' THEN
        LOOP
            EXIT WHEN (SELECT open FROM door);
            PERFORM pg_sleep(0.01);
        END LOOP;
        PERFORM wfproc.send('late', 'add');
    END IF;
    RETURN state;
END $$;
SELECT wfproc.define('slow', 'slow', handler_timeout => '5 min');
SELECT wfproc.start('counter', 'late'), wfproc.start('counter', 'fill'), wfproc.start('slow', 'slow')));
ok(wait_handled($node, 'postgres'), 'instances are there');

# the places at the beginning of the mailbox are free, so that a rewrite moves the rows behind them
sub make_room
{
	sql('VACUUM FULL wfproc.mailbox');
	sql(q(SELECT count(wfproc.send('fill', 'junk', at => '2090-01-01')) FROM generate_series(1, 40)));
	sql(q(SELECT count(wfproc.unsend('fill', mail_id)) FROM wfproc.agenda('fill') WHERE event = 'junk'));
	return;
}

# Into the middle of a turn, where its worker waits at the door; behind its event there is much of another instance.
sub begin_turn
{
	# again and again: mail of the last turn may bring it back
	ok(wait_until(sub {
		sql(q(SELECT wfproc.passivate('late')));
		return sql(q(SELECT NOT EXISTS (SELECT FROM wfproc.registry WHERE id = 'late')
			AND NOT EXISTS (SELECT FROM wfproc.mailbox JOIN wfproc.instance USING (instance_id) WHERE id = 'late'))) eq 't';
	}, 'one is not in memory'), 'one is not in memory');
	make_room();
	sql(q(UPDATE door SET open = false));
	sql(q(INSERT INTO sent SELECT wfproc.send('slow', 'slow')));
	sql(q(INSERT INTO sent SELECT wfproc.send('fill', 'keep', at => '2091-01-01') FROM generate_series(1, 60)));
	ok(poll(q(SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type LIKE 'wfproc worker%' AND wait_event = 'PgSleep'))),
		'a turn is under way');
	return;
}

# Statements beside us, each in a session of its own.
my ($session, %sessions) = (0);

sub begin_statement
{
	my ($statement) = @_;
	my %new = (statement => $statement, name => 'rewrite ' . ++$session, out => '', err => '');
	local $ENV{PGAPPNAME} = $new{name};
	$new{run} = IPC::Run::start([ $node->installed_command('psql'), '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-c', $statement ],
		'<', '/dev/null', '>', \$new{out}, '2>', \$new{err});
	$sessions{ $new{name} } = \%new;
	return \%new;
}

# Waits until it has ended, or waits for a lock.
sub wait_for_statement
{
	my ($statement) = @_;
	return wait_until(
		sub {
			eval { $statement->{run}->pump_nb };
			return 1 if !$statement->{run}->pumpable;
			return sql("SELECT EXISTS (SELECT FROM pg_stat_activity a JOIN pg_locks l USING (pid) WHERE NOT l.granted AND a.application_name = '$statement->{name}')") eq 't';
		},
		"$statement->{statement} has ended or waits");
}

sub end_statement
{
	my ($statement) = @_;
	$statement->{run}->finish;
	is($statement->{err}, '', $statement->{statement});
	return $statement->{out};
}

sub check_all
{
	my ($what) = @_;
	is(sql(q(SELECT count(*) FROM sent WHERE 1 <> (SELECT count(*) FROM wfproc.event e WHERE e.mail_id = sent.mail_id)
	                                          + (SELECT count(*) FROM wfproc.mailbox m WHERE m.mail_id = sent.mail_id))),
		0, "$what: each event is in the log or the mailbox, once");
	is(sql(q(SELECT count(*) FROM (SELECT mail_id FROM wfproc.event WHERE name IN ('slow', 'add') GROUP BY 1 HAVING count(*) > 1) twice)), 0, "$what: none twice");
	is(sql(q(SELECT string_agg(v.id, ' ') FROM wfproc.workflow w, wfproc.verify_all(w.name) v WHERE NOT v.ok)), '', "$what: the logs hold");
	return;
}

my $turns = 0;

sub turn_with
{
	my ($what, @statements) = @_;
	begin_turn();
	my @begun = map { begin_statement($_) } @statements;
	ok((grep { wait_for_statement($_) } @begun) == @begun, "$what: while the turn is under way");
	sql(q(UPDATE door SET open = true));
	my @results = map { end_statement($_) } @begun;
	$turns++;
	ok(poll("SELECT (wfproc.state('late') ->> 'n')::int = $turns + 1"), "$what: the turn gets done");
	check_all($what);
	return @results;
}

# one table that is rewritten under the turn
turn_with($_, $_) for 'VACUUM FULL wfproc.mailbox', 'CLUSTER wfproc.mailbox USING mailbox_pkey',
  map { ("ALTER TABLE wfproc.$_ SET UNLOGGED", "ALTER TABLE wfproc.$_ SET LOGGED") } 'mailbox', 'event';

# all of them, with a seal behind them, and a list that is read to its end only after it
sub rewrite_all
{
	my ($what, $statement) = @_;
	my $reader = WfClient->new($node, 'postgres');
	$reader->connect;
	my (undef, @rows) = $reader->call(q(BEGIN; DECLARE c CURSOR FOR SELECT seq FROM wfproc.history('late'); FETCH 1 FROM c));
	my @results = turn_with($what, (map { $statement->($_) } grep { $primary_keys{$_} } @tables), 'SELECT wfproc.seal()');
	my (undef, @rest) = $reader->call('FETCH ALL FROM c; COMMIT');
	is("@rows @rest", join(' ', 1 .. $turns), "$what: the list is whole");
	$reader->close;
	chomp(my $seal = $results[-1]);
	is(sql("SELECT * FROM wfproc.check_seal('$seal')"), '', "$what: the seal is right");
	return;
}

rewrite_all('VACUUM FULL', sub { "VACUUM FULL wfproc.$_[0]" });
rewrite_all('CLUSTER', sub { "CLUSTER wfproc.$_[0] USING " . ($primary_keys{ $_[0] } =~ s/^wfproc\.//r) });
rewrite_all('REINDEX', sub { "REINDEX TABLE wfproc.$_[0]" });
rewrite_all('SET UNLOGGED', sub { "ALTER TABLE wfproc.$_[0] SET UNLOGGED" });
rewrite_all('SET LOGGED', sub { "ALTER TABLE wfproc.$_[0] SET LOGGED" });
turn_with('REINDEX CONCURRENTLY', map { "REINDEX TABLE CONCURRENTLY wfproc.$_" } 'mailbox', 'event', 'instance', 'snapshot');

# Whoever takes an event back finds it where it is deleted.
my $holder = WfClient->new($node, 'postgres');
$holder->connect;
make_room();
my $mail_id = sql(q(SELECT wfproc.send('fill', 'back', at => '2092-01-01')));
$holder->call('BEGIN; LOCK TABLE wfproc.mailbox IN ACCESS EXCLUSIVE MODE');
my $taker = begin_statement("SELECT wfproc.unsend('fill', $mail_id)");
wait_for_statement($taker);
$holder->call('ALTER TABLE wfproc.mailbox SET UNLOGGED; ALTER TABLE wfproc.mailbox SET LOGGED; COMMIT');
is(end_statement($taker), "t\n", 'an event that is taken back while its table is rewritten is found');

# ... for longer than its lock_timeout
sub worker_waits
{
	return poll(q(
SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid)
               WHERE NOT l.granted AND a.backend_type LIKE 'wfproc worker%' AND l.waitstart < clock_timestamp() - interval '300 ms')));
}

# While a table is locked for long the worker waits: it does not try again and again, and nobody is to blame.
for my $table (qw(mailbox event instance snapshot))
{
	my $log = log_size($node);
	my $turns_failed = sql(q(SELECT sum(failed_turns) FROM wfproc.workers));
	$holder->call("BEGIN; LOCK TABLE wfproc.$table IN SHARE MODE");
	my $sender = begin_statement(q(INSERT INTO sent SELECT wfproc.send('late', 'add')));
	ok(worker_waits(), "$table locked: the worker waits");
	is(sql(q(SELECT sum(failed_turns) FROM wfproc.workers)), $turns_failed, "$table locked: no turn fails");
	$holder->call('COMMIT');
	end_statement($sender);
	$turns++;
	ok(poll("SELECT (wfproc.state('late') ->> 'n')::int = $turns + 1"), "$table locked: and goes on");
	unlike(substr(slurp_file($node->logfile), $log), qr/lock timeout|rolled back/, "$table locked: nothing in the log");
}
check_all('locked tables');
# who locks several, in whatever order, is not the one to give way
$holder->call('BEGIN; LOCK TABLE wfproc.snapshot IN SHARE MODE');
ok(worker_waits(), 'the worker waits');
is(($holder->call('LOCK TABLE wfproc.event, wfproc.mailbox IN ACCESS EXCLUSIVE MODE; COMMIT'))[0], 'ok', 'and holds no other table meanwhile');

# A tool that follows changes by triggers would miss ours.
sql(q(CREATE FUNCTION follow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'));
is(sqlstate($node, 'postgres', "CREATE TRIGGER repack_trigger AFTER INSERT OR DELETE OR UPDATE ON wfproc.$_ FOR EACH ROW EXECUTE FUNCTION follow()"), '0A000', "$_: no triggers")
  for @tables;
$_->close for $holder, $control;
no_alarms($node, 'no alarms');
$node->stop;
done_testing();
