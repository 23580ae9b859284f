# What a superuser may do to logs, snapshots, instances, code and versions, at random: verify() or check_seal() finds it, and says where;
# in a copy that nobody has touched they find nothing.
#   WF_MUTATIONS=N   so many instead of 2,000
#   WF_SEED=N        repeats a run
#
# Not among what is drawn, since nothing depends on it and nothing covers it: event.mail_id, taken_at of snapshots; a
# snapshot that is deleted; and rows that are added after the last one with all the right hashes, before the next seal.  Of
# instances what the log does not have: attempts, crashes, retry_at, state_timers, unlogged, attributes that start() was given,
# and what a step did whose payload was erased.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;
use WfTest;

use constant INSTANCES => 50;

seed();
my $count = $ENV{WF_MUTATIONS} // long_run(2000, 20000);
my $node = wf_node('mutations', conf => "wfproc.workers = 0\nfsync = off\n");
sub sql { return $node->safe_psql('postgres', @_); }

#
# Instances with timers, messages between them, replies, snapshots, erased payloads, failures, two versions; some closed
#
sub prepare
{
	sql('CREATE EXTENSION wfproc CASCADE');
	sql(q(
CREATE FUNCTION mutant(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    CASE event
        WHEN 'start' THEN PERFORM wfproc.set_timer('tick', after => interval '1 hour');
        WHEN 'tick' THEN
            IF (state ->> 'n')::int < 9 THEN
                PERFORM wfproc.set_timer('tick', after => interval '1 hour', payload => jsonb_build_object('after', state -> 'n'));
            END IF;
        WHEN 'pass' THEN PERFORM wfproc.send(payload ->> 'to', 'told', jsonb_build_object('by', wfproc.self(), 'r', wfproc.random()));
        WHEN 'ask' THEN PERFORM wfproc.reply(state);
        WHEN 'refuse' THEN PERFORM wfproc.reject('no');
        WHEN 'finish' THEN PERFORM wfproc.complete(state);
        ELSE NULL;
    END CASE;
    RETURN state || jsonb_build_object('n', coalesce((state ->> 'n')::int, 0) + 1, 'last', event, 'at', wfproc.now());
END $$;
CREATE FUNCTION aside(n int) RETURNS int LANGUAGE sql AS $$ SELECT n $$;
SELECT wfproc.define('mutants', 'mutant', snapshot_every => 7, helpers => '{aside(int)}');
SELECT wfproc.define('others', 'mutant', snapshot_every => 1000, helpers => '{aside(int)}');
CREATE SCHEMA second;
CREATE FUNCTION second.turned_over(state jsonb, old int, new int) RETURNS jsonb LANGUAGE sql AS $$ SELECT state || jsonb_build_object('version', new) $$;
DO $do$
BEGIN
    EXECUTE replace(replace(pg_get_functiondef('public.mutant'::regproc), 'public.mutant', 'second.mutant'), '+ 1', '+ 3');
END $do$;
SELECT wfproc.define('mutants', 'second.mutant', migrate => 'second.turned_over');
));
	my $last = INSTANCES - 1;
	sql(qq(
SET wfproc.fake_now = '2024-01-02';
SELECT count(wfproc.start(CASE WHEN i % 4 = 0 THEN 'others' ELSE 'mutants' END, 'm-' || i, jsonb_build_object('i', i, 'text', repeat('é', i)),
       timestamptz '2024-01-01' + i * interval '1 min', version => 1, live_from => CASE WHEN i % 3 = 0 THEN timestamptz '2024-01-01 06:00' END)) FROM generate_series(0, $last) i;
SELECT count(wfproc.send('m-' || i, (ARRAY['pass', 'ask', 'refuse', 'told'])[1 + n % 4], jsonb_build_object('to', 'm-' || (i * 7 + n) % $last, 'n', n * 1.50),
       timestamptz '2024-01-01' + i * interval '1 min' + n * interval '31 min', CASE WHEN n % 2 = 0 THEN 'key ' || n END)) FROM generate_series(0, $last) i, generate_series(1, 6) n;
SELECT count(wfproc.upgrade('m-' || i, 2, '2024-01-01 04:00')) FROM generate_series(1, $last, 2) i;
SELECT count(wfproc.send('m-' || i, 'finish', NULL, '2024-01-01 12:00')) FROM generate_series(0, $last, 5) i;
SELECT wfproc.run();
SELECT count(wfproc.send('m-' || i, 'told', NULL, timestamptz '2024-01-01 13:00' + n * interval '20 s')) FROM unnest('{4,7}'::int[]) i, generate_series(1, 1100) n;
SELECT wfproc.run();
SELECT count(wfproc.pause('m-' || i, 'for a while')), count(wfproc.set_attributes('m-' || i, '{"a": 1}')) FROM generate_series(1, $last, 5) i;
SELECT wfproc.run();
SELECT count(wfproc.redact('m-' || i, 3, 'asked for')) FROM generate_series(0, $last, 6) i;
SELECT wfproc.run();
SELECT count(wfproc.send('m-' || i, 'told', NULL, '2024-01-01 23:00')) FROM generate_series(2, $last, 5) i;
SELECT count(wfproc.send('m-' || i, 'told', NULL, timestamptz '2024-01-01 23:00' + n * interval '1 s')) FROM unnest('{18,24}'::int[]) i, generate_series(1, 1100) n;
SELECT wfproc.run();
SELECT count(wfproc.send('m-' || i, 'told', NULL, '2024-02-01')) FROM generate_series(2, $last, 5) i;
SELECT wfproc.run();
));
	# what makes hashes fit again
	sql(q(
CREATE FUNCTION chain_again(log_of bigint, from_seq bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    previous bytea := coalesce((SELECT hash FROM wfproc.event WHERE instance_id = log_of AND seq = from_seq - 1),
                               (SELECT sha256(convert_to('wfproc/1' || id, 'UTF8')) FROM wfproc.instance WHERE instance_id = log_of));
    e wfproc.event;
BEGIN
    FOR e IN SELECT * FROM wfproc.event WHERE instance_id = log_of AND seq >= from_seq ORDER BY seq LOOP
        previous := sha256(previous || convert_to(concat_ws(chr(31), e.seq, (extract(epoch FROM e.at) * 1000000)::bigint,
            (extract(epoch FROM e.recorded_at) * 1000000)::bigint, e.name,
            encode(coalesce(e.payload_sha256, sha256(convert_to(e.payload::text, 'UTF8'))), 'hex'),
            coalesce(e.sender, ''), coalesce(e.idempotency_key, ''), e.digest), 'UTF8'));
        UPDATE wfproc.event SET hash = previous WHERE instance_id = log_of AND seq = e.seq;
    END LOOP;
END $$;
CREATE FUNCTION shift(instance bigint, from_seq bigint, by bigint) RETURNS void LANGUAGE sql AS $$
    UPDATE wfproc.event SET seq = -seq WHERE instance_id = instance AND seq >= from_seq;
    UPDATE wfproc.event SET seq = -seq + by WHERE instance_id = instance AND seq < 0;
$$;
CREATE FUNCTION copy_row(instance bigint, from_seq bigint, to_seq bigint, new_hash bytea) RETURNS void LANGUAGE sql AS $$
    INSERT INTO wfproc.event SELECT (jsonb_populate_record(e, jsonb_build_object('seq', to_seq, 'hash', new_hash, 'mail_id', NULL))).*
    FROM wfproc.event e WHERE instance_id = instance AND seq = from_seq;
$$;
ALTER TABLE wfproc.event DISABLE TRIGGER append_only;
));
	return;
}
prepare();

my %log = map { my ($id, $instance, $length, $redacted, $snapshot, $workflow) = split /\|/; $id => { id => $id, instance => $instance, length => $length, redacted => $redacted, snapshot => $snapshot, workflow => $workflow } }
  split /\n/, sql(q(SELECT i.id, i.instance_id, max(e.seq), max((e.payload_sha256 IS NOT NULL)::int), (SELECT seq FROM wfproc.snapshot s WHERE s.instance_id = i.instance_id), i.workflow_id
                    FROM wfproc.instance i JOIN wfproc.event e USING (instance_id) GROUP BY i.instance_id ORDER BY 1));
my @logs = map { $log{$_} } sort keys %log;
my @with_snapshot = grep { $_->{snapshot} } @logs;
# where the log before it cannot be folded, what a snapshot says is known only right after an event of the engine's own
my %engine_row = map { $_ => 1 } split /\n/, sql(q(SELECT s.instance_id FROM wfproc.snapshot s JOIN wfproc.event e USING (instance_id, seq) WHERE e.name LIKE '$%'));
# nor what the steps up to there did to the instance
my @folded = grep { !$_->{redacted} } @logs;
my ($attributed, $closed, $open) = map { my %have = map { $_ => 1 } split /\n/, sql("SELECT id FROM wfproc.instance WHERE $_"); [ grep { $have{ $_->{id} } } @folded ] }
  q(attributes ? 'a'), q(closed_at IS NOT NULL), q(closed_at IS NULL);
cmp_ok(scalar(@$_), '>', 5, 'instances to change') for $attributed, $closed, $open;
my @checked_snapshot = grep { !$_->{redacted} || $engine_row{ $_->{instance} } } @with_snapshot;
# (a snapshot of the past is known by those after it)
my @kept = map { my ($id, $seq) = split /\|/; { log => $log{$id}, seq => $seq } }
  split /\n/, sql(q(SELECT i.id, k.seq FROM wfproc.kept_snapshot k JOIN wfproc.instance i USING (instance_id) ORDER BY 1, 2));
is(scalar(@logs), INSTANCES, 'instances');
cmp_ok(scalar(@kept), '>=', 6, 'snapshots of the past');
cmp_ok(scalar(grep { $_->{log}{redacted} } @kept), '>=', 2, 'also where a payload was erased');
cmp_ok(scalar(@with_snapshot), '>', 20, 'with snapshots');
cmp_ok(scalar(grep { $_->{redacted} } @logs), '>', 5, 'with erased payloads');
cmp_ok(sql(q(SELECT count(*) FROM wfproc.event WHERE name = '$upgrade')), '>', 20, 'with upgrades');
note('events: ', sql(q(SELECT string_agg(name || ' ' || count, ', ') FROM (SELECT name, count(*) FROM wfproc.event GROUP BY name ORDER BY 1) x)));

my $seal = sql('SELECT wfproc.seal()');
my $all_ok = q(SELECT count(*) FROM (SELECT * FROM wfproc.verify_all('mutants') UNION ALL SELECT * FROM wfproc.verify_all('others')) v WHERE ok);
is(sql($all_ok), INSTANCES, 'nothing is found in what nobody has touched');
is(sql("SELECT count(*) FROM wfproc.check_seal('$seal')"), 0, 'nor by the seal');

#
# Mutations. Each returns the SQL, the instance, and the seq that is to be named where one can be known.
#
my %change = (
	at          => sub { 'at + interval \'1 us\' * ' . pick(1, -1, 1000, -86400000000) },
	recorded_at => sub { 'recorded_at + interval \'1 us\' * ' . pick(1, -1, 1000, -86400000000) },
	digest      => sub { 'digest # (1::bigint << ' . draw(63) . ')' },
	live        => sub { 'NOT live' },
	name        => sub { pick('name || \'x\'', 'left(name, -1)', 'upper(name) || lower(name)') },
	payload     => sub { pick(q(jsonb_build_object('was', payload)), q(jsonb_build_array(payload)), q('null'), q(jsonb_set(payload, '{n}', '7.000'))) },
	sender          => sub { pick(q(coalesce(sender, '') || 'x'), q(CASE WHEN sender IS NULL THEN 'm-1' END)) },
	idempotency_key => sub { pick(q(coalesce(idempotency_key, '') || 'x'), q(CASE WHEN idempotency_key IS NULL THEN 'key 2' END)) },
	reply           => sub { pick(q(CASE WHEN reply IS NULL THEN '{}'::jsonb END), q(jsonb_build_array(reply))) },
	payload_sha256  => sub { pick(q(CASE WHEN payload_sha256 IS NULL THEN sha256('x') END), q(CASE WHEN payload_sha256 IS NULL THEN sha256(convert_to(payload::text, 'UTF8')) END), q(sha256('y'))) },
	hash            => sub { my $bit = draw(256); pick("set_bit(hash, $bit, 1 - get_bit(hash, $bit))", q(sha256(hash)), q(''::bytea)) });

sub row_of { my ($i) = @_; return 1 + draw($i->{length}); }
sub where { my ($i, $seq, $table) = @_; return "WHERE instance_id = $i->{instance}" . (defined $seq ? " AND seq = $seq" : ''); }

sub flip
{
	my ($column) = @_;
	my $i = pick($column eq 'reply' ? grep { !$_->{redacted} } @logs : @logs);
	my $seq = row_of($i);
	return ("UPDATE wfproc.event SET $column = " . $change{$column}->() . ' ' . where($i, $seq), $i, $seq);
}

my $broken = q(sha256(random()::text::bytea));
my %mutation = (
	(map { my $column = $_; ("column $column" => sub { flip($column) }) } keys %change),
	'column seq' => sub { my $i = pick(@logs); my $seq = row_of($i); return ('UPDATE wfproc.event SET seq = ' . pick(0, -1, $i->{length} + 2 + draw(5)) . ' ' . where($i, $seq), $i) },
	'column instance_id' => sub { my $i = pick(@logs); my $seq = row_of($i); return ('UPDATE wfproc.event SET instance_id = ' . pick(9999, -1) . ' ' . where($i, $seq), $i, $seq < $i->{length} ? $seq : "cut $seq") },
	'row deleted' => sub { my $i = pick(@logs); my $seq = row_of($i); return ('DELETE FROM wfproc.event ' . where($i, $seq), $i, $seq < $i->{length} ? $seq : "cut $seq") },
	'row deleted, the rest moved up' => sub { my $i = pick(@logs); my $seq = row_of($i); return ('DELETE FROM wfproc.event ' . where($i, $seq) . "; SELECT shift($i->{instance}, $seq, -1)", $i, $seq < $i->{length} ? $seq : "cut $seq") },
	'row deleted, the rest chained again' => sub { my $i = pick(@logs); my $seq = row_of($i); return ('DELETE FROM wfproc.event ' . where($i, $seq) . "; SELECT shift($i->{instance}, $seq, -1), chain_again($i->{instance}, $seq)", $i) },
	'rows swapped' => sub
	{
		my $i = pick(@logs);
		my ($a, $b) = sort { $a <=> $b } (1 + draw($i->{length} - 1), $i->{length});
		return (join('; ', map { "UPDATE wfproc.event SET seq = $_->[1] " . where($i, $_->[0]) } [ $a, -$a ], [ $b, $a ], [ -$a, $b ]), $i, $a);
	},
	'rows swapped between instances' => sub
	{
		my ($i, $other) = @logs[ draw(25), 25 + draw(25) ];
		my $seq = 1 + draw($i->{length} < $other->{length} ? $i->{length} : $other->{length});
		return (join('; ', map { "UPDATE wfproc.event SET instance_id = $_->[1] WHERE instance_id = $_->[0] AND seq = $seq" } [ $i->{instance}, -1 ], [ $other->{instance}, $i->{instance} ], [ -1, $other->{instance} ]), $i, $seq);
	},
	'row added' => sub { my $i = pick(@logs); my $seq = row_of($i); return ("SELECT shift($i->{instance}, $seq, 1), copy_row($i->{instance}, $seq + 1, $seq, $broken)", $i, $seq) },
	'row duplicated' => sub { my $i = pick(@logs); my $seq = row_of($i); return ("SELECT shift($i->{instance}, $seq + 1, 1), copy_row($i->{instance}, $seq, $seq + 1, (SELECT hash FROM wfproc.event " . where($i, $seq) . '))', $i, $seq + 1) },
	'row duplicated at the end' => sub { my $i = pick(@logs); my $seq = row_of($i); return ("SELECT copy_row($i->{instance}, $seq, $i->{length} + 1, (SELECT hash FROM wfproc.event " . where($i, $seq) . '))', $i, $i->{length} + 1) },
	'row added before the first' => sub { my $i = pick(@logs); return ("SELECT copy_row($i->{instance}, 1, " . pick(0, -5) . ", $broken)", $i) },
	'tail cut' => sub { my $i = pick(@logs); my $seq = row_of($i); return ("DELETE FROM wfproc.event WHERE instance_id = $i->{instance} AND seq >= $seq", $i, "cut $seq") },
	'tail cut, and the snapshot' => sub { my $i = pick(@logs); my $seq = row_of($i); return ("DELETE FROM wfproc.event WHERE instance_id = $i->{instance} AND seq >= $seq; DELETE FROM wfproc.snapshot WHERE instance_id = $i->{instance}", $i, "cut $seq") },
	'log removed' => sub { my $i = pick(@logs); return (join('; ', map { "DELETE FROM wfproc.$_ WHERE instance_id = $i->{instance}" } qw(event snapshot kept_snapshot mailbox instance)), $i) },
	'instance renamed' => sub { my $i = pick(@logs); return ("UPDATE wfproc.instance SET id = 'renamed' " . where($i), $i) },
	'stamp backdated, chained again' => sub { my $i = pick(@logs); my $seq = row_of($i); return ('UPDATE wfproc.event SET ' . pick('at = at', 'recorded_at = recorded_at') . " - interval '1 day' " . where($i, $seq) . "; SELECT chain_again($i->{instance}, $seq)", $i) },
	'payload changed, chained again' => sub { my $i = pick(@logs); my $seq = row_of($i); return (q(UPDATE wfproc.event SET payload_sha256 = NULL, payload = jsonb_build_object('to', 'm-3', 'n', payload) ) . where($i, $seq) . "; SELECT chain_again($i->{instance}, $seq)", $i) },
	'payload erased without a trace' => sub { my $i = pick(grep { !$_->{redacted} } @logs); my $seq = row_of($i); return (q(UPDATE wfproc.event SET payload = '{}', payload_sha256 = sha256(convert_to(payload::text, 'UTF8')) ) . where($i, $seq), $i) },
	'handled event put back' => sub { my $i = pick(@logs); my $seq = 1; return (qq(INSERT INTO wfproc.mailbox (instance_id, at, origin, mail_id, shard, name, payload)
		SELECT instance_id, '2030-01-01', 0, mail_id, instance_id % 64, name, payload FROM wfproc.event ) . where($i, $seq), $i, $seq) },
	'snapshot state' => sub { my $i = pick(@with_snapshot); return (q(UPDATE wfproc.snapshot SET state = state || '{"n": -1}' ) . where($i), $i) },
	'snapshot state with its hash' => sub { my $i = pick(@checked_snapshot); return (q(UPDATE wfproc.snapshot SET state = state || '{"n": -1}', state_sha256 = sha256(convert_to((state || '{"n": -1}')::text, 'UTF8')) ) . where($i), $i) },
	'snapshot replaced' => sub { my ($i, $other) = @with_snapshot[ draw(@with_snapshot / 2), @with_snapshot / 2 + draw(@with_snapshot / 2) ]; return ("UPDATE wfproc.snapshot s SET (seq, at, state, log_sha256, state_sha256) = (SELECT seq, at, state, log_sha256, state_sha256 FROM wfproc.snapshot " . where($other) . ') ' . where($i), $i) },
	(map { my $set = $_; ("snapshot $set" => sub { my $i = pick(@checked_snapshot); return ("UPDATE wfproc.snapshot SET $set " . where($i), $i) }) }
		'seq = seq + 1', 'seq = seq - 1', q(at = at - interval '1 us'), 'version = version + 1', 'log_sha256 = sha256(log_sha256)', 'state_sha256 = sha256(state_sha256)'),
	# how long the state has stood is known where the log can be folded
	'snapshot changed_seq' => sub { my $i = pick(grep { !$_->{redacted} } @with_snapshot); return ('UPDATE wfproc.snapshot SET changed_seq = changed_seq ' . pick('- 1', '+ 1') . ' ' . where($i), $i) },
	'kept snapshot changed_seq' => sub { my $k = pick(grep { !$_->{log}{redacted} } @kept); return ('UPDATE wfproc.kept_snapshot SET changed_seq = changed_seq ' . pick('- 1', '+ 1') . ' ' . where($k->{log}, $k->{seq}), $k->{log}) },
	'kept snapshot state' => sub { my $k = pick(@kept); return (q(UPDATE wfproc.kept_snapshot SET state = state || '{"n": -1}' ) . where($k->{log}, $k->{seq}), $k->{log}) },
	'kept snapshot state with its hash' => sub { my $k = pick(@kept); return (q(UPDATE wfproc.kept_snapshot SET state = state || '{"n": -1}', state_sha256 = sha256(convert_to((state || '{"n": -1}')::text, 'UTF8')) ) . where($k->{log}, $k->{seq}), $k->{log}) },
	'kept snapshot of another' => sub { my ($k, $other) = @kept[ 0, -1 ]; return ("UPDATE wfproc.kept_snapshot s SET (at, state, log_sha256, state_sha256) = (SELECT at, state, log_sha256, state_sha256 FROM wfproc.kept_snapshot " . where($other->{log}, $other->{seq}) . ') ' . where($k->{log}, $k->{seq}), $k->{log}) },
	(map { my $set = $_; ("kept snapshot $set" => sub { my $k = pick(@kept); return ("UPDATE wfproc.kept_snapshot SET $set " . where($k->{log}, $k->{seq}), $k->{log}) }) }
		'seq = seq + 1', 'seq = seq - 1', q(at = at - interval '1 us'), 'version = version + 1', 'log_sha256 = sha256(log_sha256)', 'state_sha256 = sha256(state_sha256)'),
	(map { my $status = $_; ("instance status $status" => sub { my $i = pick(@folded); return ("UPDATE wfproc.instance SET status = '$status' " . where($i), $i) }) } qw(running paused completed failed cancelled terminated)),
	(map { my ($column, $set, $of) = @$_; ("instance $column: $set" => sub { my $i = pick(@$of); return ("UPDATE wfproc.instance SET $column = $set " . where($i), $i) }) }
		[ 'closed_at', q(closed_at + interval '1 us'), $closed ], [ 'closed_at', 'NULL', $closed ], [ 'closed_at', 'started_at', $open ],
		[ 'result', q(result || '{"n": -1}'), $closed ], [ 'result', 'NULL', $closed ], [ 'result', q('{}'), $open ],
		[ 'error', q(coalesce(error, '') || 'x'), \@folded ],
		[ 'version', 'version + 1', \@logs ], [ 'version', '3 - version', \@logs ], [ 'first_version', '3 - first_version', \@logs ], [ 'first_version', 'first_version + 5', \@logs ],
		[ 'attributes', q(attributes - 'a'), $attributed ], [ 'attributes', q(attributes || '{"a": 2}'), $attributed ], [ 'attributes', q(attributes || '{"a": 1.0}'), $attributed ],
		[ 'started_at', q(started_at + interval '1 us'), \@logs ], [ 'parent', q('m-1'), \@logs ], [ 'cancelling', 'NOT cancelling', \@folded ]),
	'code copy' => sub { my $i = pick(@logs); return (pick(q(SELECT alter_copy(%d, 'RETURN state', 'RETURN  state')), q(SELECT alter_copy(%d, 'IF', 'if')), q(SELECT drop_copy(%d))) =~ s/%d/$i->{workflow}/r, $i) },
	'code copy and its row' => sub { my $i = pick(@logs); return ("SELECT alter_copy($i->{workflow}, '+ 1', '+ 2'); UPDATE wfproc.version SET code = replace(code, '+ 1', '+ 2'), code_sha256 = sha256(convert_to(replace(code, '+ 1', '+ 2'), 'UTF8')) WHERE version = 1 AND workflow_id = $i->{workflow}", $i) },
	(map { my $set = $_; ("version $_" => sub { my $i = pick(@logs); return ("UPDATE wfproc.version SET $set WHERE workflow_id = $i->{workflow}", $i) }) }
		q(code = code || ' '), 'code_sha256 = sha256(code_sha256)', q(handler = handler || 'x'), q(search_path = 'pg_catalog'), q(defined_at = defined_at - interval '1 day'), 'version = version + 10', q(migrate = 'x'), q(migrate_code = 'x'), q(migrate_sha256 = sha256('x')), 'migrates_from = 1'),
	'version deleted' => sub { my $i = pick(@logs); return ("DELETE FROM wfproc.version WHERE workflow_id = $i->{workflow}", $i) },
	(map { my $set = $_; ("version helper $set" => sub { my $i = pick(@logs); return ("UPDATE wfproc.version_helper SET $set WHERE workflow_id = $i->{workflow}", $i) }) }
		q(code = code || ' '), 'code_sha256 = sha256(code_sha256)', q(name = name || 'x'), q(arguments = 'bigint'), 'version = version + 10'),
	'version helper deleted' => sub { my $i = pick(@logs); return ("DELETE FROM wfproc.version_helper WHERE workflow_id = $i->{workflow}", $i) },
	'code copy of a helper' => sub { my $i = pick(@logs); return ("CREATE OR REPLACE FUNCTION wfproc_code_$i->{workflow}_1.aside(n int) RETURNS int LANGUAGE sql AS 'SELECT n + 1'", $i) },
	'code copy of a helper and its row' => sub { my $i = pick(@logs); return ("CREATE OR REPLACE FUNCTION wfproc_code_$i->{workflow}_1.aside(n int) RETURNS int LANGUAGE sql AS 'SELECT 7'; UPDATE wfproc.version_helper SET code = replace(code, ' SELECT n ', 'SELECT 7'), code_sha256 = sha256(convert_to(replace(code, ' SELECT n ', 'SELECT 7'), 'UTF8')) WHERE workflow_id = $i->{workflow}", $i) },
	'code copy and something beside' => sub { my $i = pick(@logs); return ("CREATE FUNCTION wfproc_code_$i->{workflow}_1.aside(n text) RETURNS int LANGUAGE sql AS 'SELECT 1'", $i) });

# a copy's definition with something replaced in its body
sql(q(
CREATE FUNCTION copy_of(workflow int) RETURNS regprocedure LANGUAGE sql AS $$
    SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname ~ ('^wfproc_code_' || workflow || '_1$') AND p.proname = 'mutant'
$$;
CREATE FUNCTION alter_copy(workflow int, old text, new text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE replace(pg_get_functiondef(copy_of(workflow)), old, new);
END $$;
CREATE FUNCTION drop_copy(workflow int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE 'DROP FUNCTION ' || copy_of(workflow) || ' CASCADE';
END $$;
));
is(sql('SELECT copy_of(1) IS NOT NULL AND copy_of(2) IS NOT NULL'), 't', 'the copies are found');

#
# Each in a transaction that is rolled back.  touched: that it has changed anything at all
#
my $state_of = q(SELECT md5(concat(array(SELECT e.instance_id || e::text FROM wfproc.event e WHERE instance_id IN (%1$s, -1, 9999) ORDER BY 1), array(SELECT s::text FROM wfproc.snapshot s WHERE instance_id = %1$s), array(SELECT s::text FROM wfproc.kept_snapshot s WHERE instance_id = %1$s ORDER BY seq),
	array(SELECT v::text FROM wfproc.version v ORDER BY 1), array(SELECT h::text FROM wfproc.version_helper h ORDER BY 1), array(SELECT m::text FROM wfproc.mailbox m WHERE instance_id = %1$s ORDER BY 1), array(SELECT i::text FROM wfproc.instance i WHERE instance_id = %1$s),
	array(SELECT p.oid || p.prosrc FROM pg_proc p WHERE p.pronamespace::regnamespace::text ~ '^wfproc_code_' ORDER BY 1))));
my @kinds = sort keys %mutation;
my (@drawn, $script);
for my $number (1 .. $count)
{
	my $kind = $kinds[ ($number - 1) % @kinds ];
	my ($change, $i, $seq) = $mutation{$kind}->();
	push @drawn, { kind => $kind, change => $change, log => $i, seq => $seq };
	my $state = sprintf $state_of, $i->{instance};
	$script .= qq(BEGIN;
$state AS before \\gset
\\o /dev/null
$change;
\\o
SELECT ok, coalesce(first_bad_seq::text, '') AS first_bad_seq, coalesce(reason, '') AS reason FROM wfproc.instance i, wfproc.verify(i.id) WHERE i.id = '$i->{id}'
UNION ALL SELECT true, '', 'no such instance' WHERE NOT EXISTS (SELECT FROM wfproc.instance WHERE id = '$i->{id}') \\gset
SELECT $number, (($state) IS DISTINCT FROM :'before')::int, :'ok', :'first_bad_seq', :'reason',
    (SELECT string_agg(concat_ws(' ', id, problem, seq), ', ') FROM wfproc.check_seal('$seal') WHERE id IS NULL OR id = '$i->{id}');
ROLLBACK;
);
}

my ($status, $out, $errors) = $node->psql('postgres', "SET client_min_messages = error;\n$script", on_error_stop => 0);
my %result = map { my @fields = split /\|/, $_, 6; $fields[0] => \@fields } split /\n/, $out;

my (%missed, %misplaced, %count, %untouched, %how);
for my $number (1 .. $count)
{
	my $m = $drawn[ $number - 1 ];
	my (undef, $touched, $ok, $seq, $reason, $sealed) = @{ $result{$number} // [] };
	$count{ $m->{kind} }++;
	if (!defined $touched)
	{
		push @{ $missed{ $m->{kind} } }, "no answer: $m->{change}";
		next;
	}
	if (!$touched)
	{
		$untouched{ $m->{kind} }++;
		push @{ $misplaced{ $m->{kind} } }, "nothing was changed by $m->{change}, but: $reason $sealed" if $ok ne 't' || $sealed ne '';
		next;
	}
	if ($ok eq 't' && $sealed eq '')
	{
		push @{ $missed{ $m->{kind} } }, $m->{change};
		next;
	}
	$how{ $m->{kind} }{ ($ok eq 't' ? "seal: $sealed" : $reason) =~ s/\bm-\d+|\d+/N/gr }++;
	next unless defined $m->{seq};
	my $placed = $m->{seq} =~ /^cut/ ? $sealed eq "$m->{log}{id} $m->{seq}" : $ok eq 't' || $seq == $m->{seq};
	push @{ $misplaced{ $m->{kind} } }, "$m->{change}: $seq $reason, $sealed" unless $placed;
}
for my $kind (@kinds)
{
	next unless $count{$kind};
	is(join("\n", @{ $missed{$kind} // [] }), '', "$kind: found ($count{$kind}" . ($untouched{$kind} ? ", of which $untouched{$kind} changed nothing)" : ')'));
	is(join("\n", @{ $misplaced{$kind} // [] }), '', "$kind: with its seq");
	cmp_ok($untouched{$kind} // 0, '<', $count{$kind}, "$kind: has changed something") if $count{$kind} > 20;
	note("    $how{$kind}{$_} x $_") for sort keys %{ $how{$kind} };
}
diag(substr($errors, 0, 2000)) if $errors ne '';
is(sql($all_ok), INSTANCES, 'all rolled back: nothing is found');
is(sql("SELECT count(*) FROM wfproc.check_seal('$seal')"), 0, 'nor by the seal');

#
# The seal itself
#
my @altered = grep { $_ ne $seal } map { my $s = $seal; my $at = draw(length $s); substr($s, $at, 1) = pick('0' .. '9', 'a' .. 'f', ' ', 'x'); $s } 1 .. 100;
my %states = map { sqlstate($node, 'postgres', "SELECT * FROM wfproc.check_seal('$_')") => 1 } @altered;
is(join(' ', sort keys %states), '22023', scalar(@altered) . ' seals with one character changed are refused');
$node->stop;
done_testing();
