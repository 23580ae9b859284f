# Seals look only at what may have changed since the last one, and miss nothing of it: over restarts, crashes, prepared
# transactions, copies of databases, and at random. Each seal's root is compared with that of a whole recomputation.
#   WF_SEED=N   repeats a run
#   WF_LONG=1   more rounds
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;
use WfTest;

seed();
my $node = wf_node('seals', conf => "wfproc.workers = 0\nfsync = off\n", start => 0);
start_child($node);

sub sql { my ($db, $text) = @_; return $node->safe_psql($db, $text); }

# root(): as in the test evidence; put(): an event of its own for each instance; sealed(): what the last seal has written
# anew, and whether its root is right; hidden(): a row of the log that the engine has not written
sub prepare
{
	my ($db) = @_;
	wf_database($node, $db);
	sql($db, q(
CREATE FUNCTION root() RETURNS bytea LANGUAGE sql AS $$
    WITH head AS (
        SELECT DISTINCT ON (i.instance_id) i.instance_id, i.id, coalesce(e.seq, 0) AS seq,
               coalesce(e.hash, digest('wfproc/1' || i.id, 'sha256')) AS hash
        FROM wfproc.instance i LEFT JOIN wfproc.event e USING (instance_id) ORDER BY i.instance_id, e.seq DESC
    ), leaf AS (
        SELECT instance_id, digest(convert_to(concat_ws(chr(31), 'leaf', id, seq, encode(hash, 'hex')), 'UTF8'), 'sha256') AS hash FROM head
    ), lower AS (
        SELECT instance_id / 32 AS nth, digest('node'::bytea || string_agg(hash, ''::bytea ORDER BY instance_id), 'sha256') AS hash FROM leaf GROUP BY 1
    ), upper AS (
        SELECT nth / 32 AS nth, digest('node'::bytea || string_agg(hash, ''::bytea ORDER BY nth), 'sha256') AS hash FROM lower GROUP BY 1
    ), code AS (
        SELECT w.name, v.version, digest(convert_to(concat_ws(chr(31), 'version', w.name, v.version, v.handler,
                   encode(digest(v.code, 'sha256'), 'hex'), encode(v.code_sha256, 'hex'),
                   coalesce(v.migrate, ''), coalesce(encode(digest(v.migrate_code, 'sha256'), 'hex'), ''), coalesce(encode(v.migrate_sha256, 'hex'), ''),
                   v.search_path, (extract(epoch FROM v.defined_at) * 1000000)::bigint), 'UTF8'), 'sha256') AS hash
        FROM wfproc.version v JOIN wfproc.workflow w USING (workflow_id)
    )
    SELECT digest('node'::bytea
                  || digest('node'::bytea || coalesce((SELECT string_agg(hash, ''::bytea ORDER BY name COLLATE "C", version) FROM code), ''), 'sha256')
                  || coalesce((SELECT string_agg(hash, ''::bytea ORDER BY nth) FROM upper), ''), 'sha256')
$$;
CREATE FUNCTION put(ids text[]) RETURNS bigint LANGUAGE sql AS $$
    SELECT count(wfproc.send(id, 'add')) FROM unnest(ids) id;
    SELECT wfproc.run();
$$;
CREATE FUNCTION put(id text) RETURNS bigint LANGUAGE sql AS 'SELECT put(ARRAY[id])';
CREATE FUNCTION sealed() RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', (SELECT left(string_agg(l.id || ':' || l.seq, ' ' ORDER BY l.id), 1000) FROM wfproc.seal_leaf l WHERE l.number = s.number),
                     CASE WHEN s.root = root() THEN 'right' ELSE 'WRONG' END)
    FROM wfproc.seal s ORDER BY s.number DESC LIMIT 1
$$;
CREATE FUNCTION hide(id text) RETURNS void LANGUAGE sql AS $$
    INSERT INTO wfproc.event (instance_id, seq, at, recorded_at, digest, live, name, payload, hash)
    SELECT instance_id, (SELECT max(seq) + 1 FROM wfproc.event e WHERE e.instance_id = i.instance_id), now(), now(), 0, true, 'x', '{}', 'hidden'
    FROM wfproc.instance i WHERE i.id = hide.id
$$;
SELECT count(wfproc.start('counter', 'i-' || n)), wfproc.run() FROM generate_series(1, 3000) n;
));
	sql($db, 'SELECT wfproc.run()');
	return;
}

# Makes a seal, and returns what sealed() says of it.
sub seal
{
	my ($db, $whole) = @_;
	return sql($db, 'SET client_min_messages = error; DO $$ BEGIN PERFORM wfproc.seal(' . ($whole // '') . '); END $$; SELECT sealed()');
}

prepare('postgres');
like(seal('postgres'), qr/^i-1:1 .* right$/, 'the first seal has all');
is(seal('postgres'), 'right', 'the next one nothing');

#
# It does look only at what was noted: else what follows would prove nothing
#
sql('postgres', q(SELECT hide('i-1500')));
is(seal('postgres'), 'WRONG', 'what nobody has noted it does not see');
sql('postgres', q(SELECT put('i-3')));
is(seal('postgres'), 'i-3:2 WRONG', 'nor while it sees something else');
is(seal('postgres', 'true'), 'i-1500:2 right', 'unless it looks at all');
my $seal = sql('postgres', 'SELECT wfproc.seal()');
sql('postgres', q(ALTER TABLE wfproc.event DISABLE TRIGGER append_only; DELETE FROM wfproc.event WHERE hash = 'hidden'; ALTER TABLE wfproc.event ENABLE ALWAYS TRIGGER append_only));
is(sql('postgres', "SELECT id, problem, seq FROM wfproc.check_seal('$seal')"), 'i-1500|cut|2', 'what is taken away is found by check_seal()');
is(seal('postgres'), 'WRONG', 'and the next seal does not make it good');
$seal = sql('postgres', 'SELECT wfproc.seal()');
is(sql('postgres', "SELECT id, problem, seq FROM wfproc.check_seal('$seal')"), 'i-1500|cut|2', 'so that it is still found');
is(seal('postgres', 'true'), 'i-1500:1 right', 'looking at all it takes it as it is');

#
# Prepared transactions
#
sql('postgres', q(BEGIN; SELECT wfproc.start('counter', 'p-1'); PREPARE TRANSACTION 'p'));
is(seal('postgres'), 'right', 'a prepared transaction is not in a seal');
sql('postgres', q(SELECT put('i-6')));
is(seal('postgres'), 'i-6:2 right', 'nor in the next');
sql('postgres', q(COMMIT PREPARED 'p'));
is(seal('postgres'), 'p-1:0 right', 'but once it is committed');
is(seal('postgres'), 'right', 'and not again');
sql('postgres', q(BEGIN; SELECT put('i-7'); PREPARE TRANSACTION 'p'));
is(seal('postgres'), 'right', 'one with a turn');
sql('postgres', q(COMMIT PREPARED 'p'));
is(seal('postgres'), 'i-7:2 p-1:1 right', 'likewise');
sql('postgres', q(BEGIN; SELECT put('i-7'); PREPARE TRANSACTION 'p'));
is(seal('postgres'), 'right', 'another one');
sql('postgres', q(ROLLBACK PREPARED 'p'));
is(seal('postgres'), 'right', 'that is rolled back');
# a seal that is prepared
sql('postgres', q(SELECT put('i-8'); BEGIN; SELECT wfproc.seal(); PREPARE TRANSACTION 's'));
sql('postgres', q(SELECT put('i-9'); COMMIT PREPARED 's'));
is(sql('postgres', 'SELECT sealed()'), 'i-8:2 WRONG', 'a prepared seal has what was there when it was made');
is(seal('postgres'), 'i-9:2 right', 'and the next one what came since');

#
# Restarts and crashes. A row that nobody has noted tells whether a seal has looked at all.
#
for my $how (qw(INT KILL))
{
	my $what = $how eq 'INT' ? 'restart' : 'crash';
	sql('postgres', q(SELECT put(ARRAY['i-10', 'i-2000'])));
	kill_postmaster($node, $how);
	start_child($node);
	sql('postgres', q(SELECT put('i-11')));
	like(seal('postgres'), qr/^i-10:\d+ i-11:\d+ i-2000:\d+ right$/, "$what: the seal after it has what was before it, and after");
	sql('postgres', q(SELECT put('i-12')));
	like(seal('postgres'), qr/^i-12:\d+ right$/, "$what: and the next one");
	sql('postgres', q(SELECT hide('i-1600')));
	is(seal('postgres'), 'WRONG', "$what: which does not look at all any more");
	like(seal('postgres', 'true'), qr/^i-1600:\d+ right$/, "$what: cleared");

	# prepared before it, committed two seals after it
	sql('postgres', q(BEGIN; SELECT put('i-13'); PREPARE TRANSACTION 'p'));
	sql('postgres', q(CHECKPOINT)) if $how eq 'INT';
	kill_postmaster($node, $how);
	start_child($node);
	is(seal('postgres'), 'right', "$what: a transaction that was prepared before it is not in the seal after it");
	is(seal('postgres'), 'right', "$what: nor in the next");
	sql('postgres', q(COMMIT PREPARED 'p'));
	like(seal('postgres'), qr/^i-13:\d+ right$/, "$what: but once it is committed");
	is(seal('postgres'), 'right', "$what: and not again");
	sql('postgres', q(SELECT hide('i-1700')));
	is(seal('postgres'), 'WRONG', "$what: from then on nobody looks at all");
	like(seal('postgres', 'true'), qr/^i-1700:\d+ right$/, "$what: cleared");
}
# a backend that dies takes shared memory with it
sql('postgres', q(SELECT put('i-14')));
{
	my $client = WfClient->new($node, 'postgres');
	$client->connect;
	my (undef, $backend) = $client->call('SELECT pg_backend_pid()');
	kill('KILL', $backend);
	ok(wait_until(sub { $node->raw_connect_works && sqlstate($node, 'postgres', 'SELECT 1') eq 'ok' }, 'the server is up again'), 'a backend was killed');
	$client->close;
}
sql('postgres', q(SELECT put('i-15')));
like(seal('postgres'), qr/^i-14:\d+ i-15:\d+ right$/, 'the seal after that has what was before it, and after');

#
# Databases: one beside it, a copy of it, a dump
#
prepare('other');
like(seal('other'), qr/ right$/, 'another database: sealed');
sql('other', q(SELECT put('i-20')));
sql('postgres', q(SELECT put('i-21')));
like(seal('postgres'), qr/^i-21:\d+ right$/, 'each has its own');
is(seal('other'), 'i-20:2 right', 'and the other one too');
sql('other', q(SELECT put('i-22')));
sql('postgres', 'CREATE DATABASE copy TEMPLATE other');
is(seal('copy'), 'i-22:2 right', 'a copy: the seal has what was written before it was copied');
sql('copy', q(SELECT hide('i-1600')));
is(seal('copy'), 'i-1600:2 right', 'not at home, it looks at all: the engine is not the only one that writes there');
sql('copy', 'SELECT wfproc.adopt()');
sql('copy', q(SELECT put('i-23')));
is(seal('copy'), 'i-23:2 right', 'at home');
sql('copy', q(SELECT hide('i-1700')));
is(seal('copy'), 'WRONG', 'and then only at what was noted');
is(seal('other'), 'i-22:2 right', 'the original is as it was');
$node->command_ok([ 'pg_dump', '-Fc', '-f', $node->backup_dir . '.dump', '-d', $node->connstr('other') ], 'a dump');
sql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'pg_restore', '-d', $node->connstr('restored'), $node->backup_dir . '.dump' ], 'is restored');
sql('restored', q(SELECT hide('i-1')));
is(seal('restored'), 'i-1:2 right', 'a restored dump: the first seal looks at all');

#
# Logs that come from elsewhere, or are forked
#
sql('other', q(SELECT wfproc.fork('i-31', 1, 'forked')));
is(seal('other'), 'forked:2 right', 'a fork');
sql('copy', q(SELECT wfproc.start('counter', 'travels', '{"n": 1}'), wfproc.run()));
my $lines = sql('copy', q(SELECT jsonb_agg(l) FROM wfproc.export_log('travels') l));
sql('other', "SELECT wfproc.import_log(\$\$$lines\$\$)");
is(seal('other'), 'travels:1 right', 'a log from elsewhere');
sql('other', q(SELECT wfproc.redact('i-22', 2, 'why'); SELECT wfproc.run()));
is(seal('other'), 'i-22:3 right', 'a payload that is erased');

#
# More than there is room to note
#
is(seal('copy'), 'travels:1 WRONG', 'looks at what was noted');
sql('copy', q(ALTER SEQUENCE wfproc.instance_seq INCREMENT 1024; SELECT count(wfproc.start('counter', 'far-' || n)) FROM generate_series(1, 33500) n; ALTER SEQUENCE wfproc.instance_seq INCREMENT 1; SELECT wfproc.run()));
like(seal('copy'), qr/^far-1:1 .* right$/, 'where not all could be noted, it looks at all');
sql('copy', q(SELECT put('i-24'), hide('i-1701')));
is(seal('copy'), 'i-24:2 WRONG', 'and then at what was noted again');
sql('copy', q(SELECT put(ARRAY['i-25', 'far-1', 'far-33500'])));
like(seal('copy'), qr/^far-1:\d+ far-33500:\d+ i-25:2 WRONG$/, 'for which there is room again');
# seals that somebody has removed are none to go by: what was noted before them is forgotten
sql('copy', q(SELECT put('i-26'), wfproc.seal(); SELECT wfproc.seal(); DELETE FROM wfproc.seal WHERE number > (SELECT max(number) - 2 FROM wfproc.seal); DELETE FROM wfproc.seal_leaf WHERE number > (SELECT max(number) FROM wfproc.seal)));
is(seal('copy'), 'i-1701:2 i-26:2 right', 'where the last seals are gone, it looks at all');

#
# At random: sessions that write, with transactions that are open while seals are made
#
my $rounds = long_run(200, 2000);
my @sessions = map { my $client = WfClient->new($node, 'other'); $client->connect; { client => $client, open => 0, written => 0 } } 1 .. 4;
my $sealer = WfClient->new($node, 'other');
$sealer->connect;
my ($next, %made, @wrong) = (0);

sub do_in
{
	my ($session, $statement) = @_;
	my ($outcome, @lines) = $session->{client}->call($statement);
	BAIL_OUT("$statement: $outcome @lines") if $outcome ne 'ok';
	return @lines;
}

my @writes = (
	sub { $next++; "SELECT wfproc.start('counter', 'r-$next')" },
	sub { my $first = $next + 1; $next += 50; "SELECT count(wfproc.start('counter', 'r-' || n)) FROM generate_series($first, $next) n" },
	sub { my $i = 1 + draw(3000); "SELECT wfproc.send('i-$i', 'add')" },
	sub { my $i = 1 + draw(2900); "SELECT count(wfproc.send('i-' || n, 'add')) FROM generate_series($i, $i + 90) n" },
	sub { 'SELECT wfproc.run()' },
	sub { 'SELECT wfproc.run()' },
	sub { $next++; my $i = 1 + draw(3000); "SELECT wfproc.fork('i-$i', 1, 'r-$next')" },
	sub { $next++; "SAVEPOINT s; SELECT wfproc.start('counter', 'r-$next'), wfproc.run(); ROLLBACK TO s" },
	sub { $next++; "SAVEPOINT s; SELECT wfproc.start('counter', 'r-$next'); RELEASE s" });

sub make_seal
{
	my ($session, $kind) = @_;
	my ($found) = grep { /right|WRONG/ } do_in($session, 'DO $$ BEGIN PERFORM wfproc.seal(); END $$; SELECT sealed()');
	$made{$kind}++;
	$made{'with changes'}++ if $found =~ /:/;
	push @wrong, "$kind: $found" if $found !~ /right$/;
	return;
}

for my $round (1 .. $rounds)
{
	my $session = pick(@sessions);
	do_in($session, 'BEGIN') unless $session->{open}++;
	do_in($session, pick(@writes)->()) for 1 .. 1 + draw(3);
	if (draw(3) == 0)
	{
		my $end = pick('COMMIT', 'COMMIT', 'ROLLBACK');
		make_seal($session, "in a transaction, $end") if draw(4) == 0;
		do_in($session, $end);
		$session->{open} = 0;
	}
	make_seal({ client => $sealer }, (grep { $_->{open} } @sessions) ? 'with open transactions' : 'alone') if draw(2) == 0;
}
$_->{open} && do_in($_, 'COMMIT') for @sessions;
make_seal({ client => $sealer }, 'at the end');
is(join("\n", @wrong), '', 'at random: each root is that of all');
note("    $_: $made{$_}") for sort keys %made;
cmp_ok($made{'with open transactions'} // 0, '>', $rounds / 10, 'with open transactions');
cmp_ok($made{'with changes'} // 0, '>', $rounds / 10, 'with changes');
cmp_ok($made{'in a transaction, ROLLBACK'} // 0, '>', 0, 'seals that were rolled back');
sql('other', q(SELECT hide('i-1')));
is(seal('other'), 'WRONG', 'and none of them looks at all');
$_->{client}->close for @sessions, { client => $sealer };
no_alarms($node, 'no alarms in the log');
$node->stop;
done_testing();
