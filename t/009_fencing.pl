# I6: who appends to a log that somebody else has appended to fails, and takes in what they wrote. I10: a turn that fails as
# it writes leaves nothing. I11, I15: what a superuser changes behind the engine's back is found, and stops that instance alone.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;
use WfTest;

my $node = wf_node('fencing');
wf_database($node, 'postgres');
sub sql { return $node->safe_psql('postgres', $_[0]); }

sql(q(SELECT count(wfproc.start('counter', 'f-' || n)), count(wfproc.send('f-' || n, 'add', '{"n": 1}')) FROM generate_series(1, 5) n));
ok(wait_handled($node, 'postgres'), 'instances are there');
is(sql(q(SELECT count(*) FROM wfproc.registry WHERE id LIKE 'f-%')), 5, 'and in memory');

# a second owner: appends event 3, rightly chained and digested, as another worker would have
sql(q(
CREATE FUNCTION append(id text, name text, payload jsonb, state jsonb) RETURNS void LANGUAGE sql AS $$
    INSERT INTO wfproc.event (instance_id, seq, at, recorded_at, digest, live, name, payload, hash)
    SELECT r.instance_id, r.seq, r.at, r.at, r.digest, true, r.name, r.payload,
           digest(last.hash || convert_to(array_to_string(ARRAY[r.seq::text, (extract(epoch FROM r.at) * 1000000)::bigint::text,
                      (extract(epoch FROM r.at) * 1000000)::bigint::text, r.name, encode(digest(convert_to(r.payload::text, 'UTF8'), 'sha256'), 'hex'),
                      '', '', r.digest::text], chr(31)), 'UTF8'), 'sha256')
    FROM wfproc.instance i,
         LATERAL (SELECT e.seq, e.hash FROM wfproc.event e WHERE e.instance_id = i.instance_id ORDER BY seq DESC LIMIT 1) last,
         LATERAL (SELECT i.instance_id, last.seq + 1 AS seq, clock_timestamp() AS at, append.name, append.payload,
                         ('x' || encode(substring(digest(convert_to(append.state::text || chr(31) || '[]', 'UTF8'), 'sha256') for 8), 'hex'))::bit(64)::bigint AS digest) r
    WHERE i.id = append.id
$$));
sql(q(SELECT append('f-1', 'add', '{"n": 10}', '{"n": 3, "sum": 11}')));
is(sql(q(SELECT wfproc.verify('f-1'))), '(t,,)', 'a row of another writer is a good row');
is(sql(q(SELECT wfproc.state('f-1'))), '{"n": 3, "sum": 11}', 'and counts');
my $log = log_size($node);
sql(q(SELECT wfproc.send('f-1', 'add', '{"n": 100}'), wfproc.send('f-2', 'add', '{"n": 100}')));
ok(wait_handled($node, 'postgres'), 'I6: the worker, which did not know of it, gets on');
is(sql(q(SELECT wfproc.state('f-1'))), '{"n": 4, "sum": 111}', 'I6: after it has taken it in');
is(sql(q(SELECT string_agg(seq || event, ' ' ORDER BY seq) FROM wfproc.history('f-1'))), '1start 2add 3add 4add', 'I6: nothing is overwritten, nothing twice');
is(sql(q(SELECT wfproc.state('f-2'), wfproc.verify('f-1'), wfproc.verify('f-2'))), '{"n": 3, "sum": 101}|(t,,)|(t,,)', 'I6: the others of the turn too');
like(substr(slurp_file($node->logfile), $log), qr/turn of \d+ instances? was rolled back.*duplicate key/, 'I6: its turn was rolled back');

# a forged row: that instance stops, and says where; the others go on
sql(q(SELECT append('f-3', 'add', '{"n": 10}', '{"n": 77, "sum": 77}')));
sql(q(SELECT wfproc.send('f-' || n, 'add', '{"n": 1000}') FROM generate_series(1, 5) n));
ok($node->poll_query_until('postgres', q(SELECT status = 'paused' FROM wfproc.instances WHERE id = 'f-3')), 'I11: a row whose digest is not what its step leads to stops its instance');
like(sql(q(SELECT error FROM wfproc.instances WHERE id = 'f-3')), qr/diverged at seq 3/, 'which says where');
ok($node->poll_query_until('postgres', q(SELECT count(*) = 4 FROM wfproc.event WHERE name = 'add' AND payload = '{"n": 1000}')), 'the others go on');
is(sql(q(SELECT wfproc.verify('f-3'))), '(f,3,"digest differs")', 'I15: and verify() names it');
is(sql(q(SELECT waiting FROM wfproc.instances WHERE id = 'f-3')), 1, 'its mail waits');

# a bit of an old payload: found by verify(), and by whoever folds from there
sql(q(SELECT wfproc.passivate('f-4')));
ok($node->poll_query_until('postgres', q(SELECT count(*) = 0 FROM wfproc.registry WHERE id = 'f-4')), 'passivated');
sql(q(BEGIN; ALTER TABLE wfproc.event DISABLE TRIGGER append_only; UPDATE wfproc.event SET payload = '{"n": 2}' WHERE seq = 2 AND instance_id = (SELECT instance_id FROM wfproc.instance WHERE id = 'f-4');
      ALTER TABLE wfproc.event ENABLE ALWAYS TRIGGER append_only; COMMIT));
is(sql(q(SELECT wfproc.verify('f-4'))), '(f,2,"hash differs")', 'I15: a changed payload is found');
sql(q(SELECT wfproc.send('f-4', 'add', '{"n": 5}')));
ok($node->poll_query_until('postgres', q(SELECT wfproc.state('f-4') = '{"n": 4, "sum": 1006}')), 'what a snapshot covers does not stop it');
sql(q(DELETE FROM wfproc.snapshot WHERE instance_id = (SELECT instance_id FROM wfproc.instance WHERE id = 'f-4')));
is(sqlstate($node, 'postgres', q(SELECT wfproc.state('f-4'))), 'WF001', 'without it state() raises');

# I10: a turn whose writes fail: nothing of it is left; the one that cannot is found and waits, the others go on
sql(q(CREATE FUNCTION veto() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.payload ? 'veto' THEN RAISE EXCEPTION 'vetoed'; END IF; RETURN NEW; END $$));
$log = log_size($node);
sql(q(ALTER TABLE wfproc.event ADD CONSTRAINT veto CHECK (NOT payload ? 'veto') NOT VALID));
sql(q(SELECT wfproc.send('f-5', 'add', '{"n": 1, "veto": true}'); SELECT wfproc.send('f-1', 'add', '{"n": 1}'), wfproc.send('f-2', 'add', '{"n": 1}'), wfproc.send('f-5', 'add', '{"n": 1}')));
ok($node->poll_query_until('postgres', q(SELECT wfproc.state('f-1') ->> 'sum' = '1112' AND wfproc.state('f-2') ->> 'sum' = '1102')), 'I10: an instance whose rows cannot be written does not keep the others');
if (slurp_file($node->logfile) =~ /vetoed|violates check constraint/)
{
	is(sql(q(SELECT wfproc.state('f-5') ->> 'sum', (SELECT count(*) FROM wfproc.agenda('f-5')))), '1001|2', 'I10: nothing of it is left, and its mail waits');
}
sql(q(ALTER TABLE wfproc.event DROP CONSTRAINT veto));
ok($node->poll_query_until('postgres', q(SELECT wfproc.state('f-5') ->> 'sum' = '1003')), 'I10: once they can be written it gets on');
is(sql(q(SELECT wfproc.verify('f-5'))), '(t,,)', 'and its chain holds');

# every single change of a log in a copy is found (I15)
my $seed = seed();
sql(q(SELECT wfproc.start('counter', 'chain')));
sql(q(SELECT count(wfproc.send('chain', 'add', jsonb_build_object('n', n, 't', 'text ' || n), idempotency_key => 'k' || n)) FROM generate_series(1, 40) n));
ok($node->poll_query_until('postgres', q(SELECT count(*) = 41 FROM wfproc.history('chain'))), 'a log to change');
my $missed = 0;
my @changes;
for (1 .. long_run(200, 2000))
{
	my $seq = 1 + draw(41);
	my $other = 1 + (($seq + draw(40)) % 41);
	push @changes, [ $seq, pick(
		"UPDATE wfproc.event SET payload = payload || '{\"x\": 1}' WHERE instance_id = :i AND seq = $seq",
		"UPDATE wfproc.event SET at = at + interval '1 us' WHERE instance_id = :i AND seq = $seq",
		"UPDATE wfproc.event SET recorded_at = recorded_at - interval '1 us' WHERE instance_id = :i AND seq = $seq",
		"UPDATE wfproc.event SET name = name || 'x' WHERE instance_id = :i AND seq = $seq",
		"UPDATE wfproc.event SET sender = 'x' WHERE instance_id = :i AND seq = $seq",
		"UPDATE wfproc.event SET idempotency_key = COALESCE(idempotency_key, '') || 'x' WHERE instance_id = :i AND seq = $seq",
		"UPDATE wfproc.event SET digest = digest # (1::bigint << " . draw(63) . ") WHERE instance_id = :i AND seq = $seq",
		"UPDATE wfproc.event SET hash = set_bit(hash, " . draw(256) . ", 1 - get_bit(hash, 7)) WHERE instance_id = :i AND seq = $seq AND hash <> set_bit(hash, 7, get_bit(hash, 7))",
		"UPDATE wfproc.event SET hash = sha256(hash) WHERE instance_id = :i AND seq = $seq",
		"DELETE FROM wfproc.event WHERE instance_id = :i AND seq = LEAST($seq, 40)",
		"UPDATE wfproc.event a SET payload = b.payload FROM wfproc.event b WHERE a.instance_id = :i AND b.instance_id = :i AND a.seq = $seq AND b.seq = $other AND a.seq <> b.seq") ];
}
my $instance_id = sql(q(SELECT instance_id FROM wfproc.instance WHERE id = 'chain'));
my $script = "ALTER TABLE wfproc.event DISABLE TRIGGER append_only;\nSELECT EXISTS (SELECT FROM wfproc.snapshot WHERE instance_id = $instance_id);\n";
for my $change (@changes)
{
	(my $update = $change->[1]) =~ s/:i/$instance_id/g;
	$script .= "SAVEPOINT s;\nWITH changed AS ($update RETURNING 1) SELECT count(*) AS changed FROM changed \\gset\nSELECT 'MISSED $change->[0]' FROM wfproc.verify('chain') v WHERE v.ok AND :changed > 0;\nSELECT 'FOUND' FROM wfproc.verify('chain') v WHERE NOT v.ok AND v.first_bad_seq IS NOT NULL;\nROLLBACK TO s;\n";
}
my $result = sql("BEGIN;\n$script ROLLBACK");
my $found = () = $result =~ /FOUND/g;
unlike($result, qr/MISSED/, 'I15: every change of a log is found');
cmp_ok($found, '>=', 0.75 * @changes, "I15: $found of " . scalar(@changes) . ' changes tried, each found with its seq');
is(sql(q(SELECT wfproc.verify('chain'))), '(t,,)', 'unchanged it is good');
$node->stop;
done_testing();
