/*
 * auditor.sql: a seal that is kept in a file, a superuser who tampers with the logs, and what the auditor finds.
 *
 * Who is superuser can change anything in a database, and nothing in it can prevent that.  But it can be found out.  Each event
 * in a log carries a hash over itself and the hash before it, so that nothing in the middle can be changed unnoticed; and a
 * seal, one line of text over the ends of all logs, kept where no superuser writes, shows what was cut off or written anew.
 *
 * Here the auditor keeps the seal in a file outside of the database, and Mallory tampers, with the example's own data alone.
 * Run it in any database that has the extension, as a superuser; it leaves nothing behind:
 *
 *     psql -aq -f examples/auditor/auditor.sql
 */

BEGIN;
SET LOCAL TimeZone = 'UTC';
SET LOCAL DateStyle = 'ISO';

-- A cash box.  Its handler says what an event makes of its state; what is taken out of an empty one is refused.
CREATE FUNCTION cash_box(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    euro int := coalesce((state->>'euro')::int, 0)
                + CASE event WHEN 'in' THEN 1 WHEN 'out' THEN -1 ELSE 0 END * coalesce((payload->>'euro')::int, 0);
BEGIN
    IF euro < 0 THEN
        PERFORM wfproc.reject('there is not so much in it');
    END IF;
    RETURN jsonb_build_object('euro', euro);
END $$;
SELECT wfproc.define('cash_box', 'cash_box', accepts => '{in,out}');

-- A month of three boxes.  (fake_now is what this session takes for the time; run() handles what is due by then.)
SET LOCAL wfproc.fake_now = '2026-03-31 18:00';
SELECT wfproc.start('cash_box', id, at => '2026-03-01') FROM unnest('{bar,door,kitchen}'::text[]) id;
SELECT count(wfproc.send(id, event, jsonb_build_object('euro', euro, 'who', who), at => at::timestamptz)) AS sent FROM (VALUES
    ('bar', 'in', 300, 'Ada', '2026-03-07'), ('bar', 'out', 300, 'Cleo', '2026-03-14'), ('bar', 'in', 70, 'Ben', '2026-03-28'),
    ('door', 'in', 90, 'Ada', '2026-03-07'), ('door', 'out', 40, 'Cleo', '2026-03-28'),
    ('kitchen', 'in', 200, 'Ben', '2026-03-14')) AS e(id, event, euro, who, at);
SELECT wfproc.run() AS handled;
SELECT id, seq AS events, state FROM wfproc.states('cash_box');

/*
 * The 31st of March: the auditor takes a seal away, in a file; and a signature by a key that is the auditor's alone: without
 * one, whoever can write to the file could put another seal into it.
 */
\set file `mktemp`
\setenv FILE :file
SELECT wfproc.seal() \g (format=unaligned tuples_only=on) :file
\set seal `cat "$FILE"`
\set key 'known to the auditor'
SELECT encode(hmac(:'seal', :'key', 'sha256'), 'hex') AS signature \gset
-- what a seal consists of: which database, when, how much there is, and two hashes that stand for it, and for the seal before
SELECT word, regexp_replace(words[n], '^[0-9a-f-]{36,}$', '(' || length(words[n]) || ' digits)') AS seal
FROM string_to_array(:'seal', ' ') AS words,
     unnest('{format,database,number,at,instances,events,root,previous seal,hash}'::text[]) WITH ORDINALITY AS w(word, n)
WHERE word NOT IN ('number', 'instances', 'events');

/*
 * An outsider trusts none of these functions, and computes the seal's root from the tables, with no more than pgcrypto's
 * SHA-256: when the seal is made, or later from a copy of the database of that time.  (docs/DESIGN.md says how it is built.)
 */
WITH head AS (                                  -- the last event of each log, with its hash
    SELECT DISTINCT ON (i.instance_id) i.instance_id, i.id, coalesce(e.seq, 0) AS seq,
           coalesce(e.hash, digest('wfproc/1' || i.id, 'sha256')) AS hash
    FROM wfproc.instance i LEFT JOIN wfproc.event e USING (instance_id)
    ORDER BY i.instance_id, e.seq DESC
), lower AS (                                   -- a hash for those of 32 instances
    SELECT instance_id / 32 AS number, digest('node'::bytea || string_agg(
        digest(convert_to(concat_ws(chr(31), 'leaf', id, seq, encode(hash, 'hex')), 'UTF8'), 'sha256'),
        ''::bytea ORDER BY instance_id), 'sha256') AS hash
    FROM head GROUP BY 1
), upper AS (                                   -- and one for 32 of these
    SELECT number / 32 AS number, digest('node'::bytea || string_agg(hash, ''::bytea ORDER BY number), 'sha256') AS hash
    FROM lower GROUP BY 1
), code AS (                                    -- and one for the code of all versions; with helpers there is more, see docs/DESIGN.md
    SELECT digest('node'::bytea || string_agg(digest(convert_to(concat_ws(chr(31), 'version', w.name, v.version, v.handler,
        encode(digest(v.code, 'sha256'), 'hex'), encode(v.code_sha256, 'hex'), coalesce(v.migrate, ''),
        coalesce(encode(digest(v.migrate_code, 'sha256'), 'hex'), ''), coalesce(encode(v.migrate_sha256, 'hex'), ''),
        v.search_path, (extract(epoch FROM v.defined_at) * 1000000)::bigint), 'UTF8'), 'sha256'),
        ''::bytea ORDER BY w.name COLLATE "C", v.version), 'sha256') AS hash
    FROM wfproc.version v JOIN wfproc.workflow w USING (workflow_id)
)
SELECT encode(digest('node'::bytea || (SELECT hash FROM code)
                     || (SELECT string_agg(hash, ''::bytea ORDER BY number) FROM upper), 'sha256'), 'hex')
       = split_part(:'seal', ' ', 7) AS root_fits;
-- That each hash fits its event, and the one before it, is as plain.
WITH RECURSIVE chain AS (
    SELECT i.instance_id, i.id, 0::bigint AS seq, NULL::bytea AS hash, digest('wfproc/1' || i.id, 'sha256') AS computed
    FROM wfproc.instance i WHERE id IN ('bar', 'door', 'kitchen')
  UNION ALL
    SELECT c.instance_id, c.id, e.seq, e.hash, digest(c.computed || convert_to(array_to_string(ARRAY[
               e.seq::text, (extract(epoch FROM e.at) * 1000000)::bigint::text,
               (extract(epoch FROM e.recorded_at) * 1000000)::bigint::text, e.name,
               encode(digest(convert_to(e.payload::text, 'UTF8'), 'sha256'), 'hex'),
               coalesce(e.sender, ''), coalesce(e.idempotency_key, ''), e.digest::text], chr(31)), 'UTF8'), 'sha256')
    FROM chain c JOIN wfproc.event e ON e.instance_id = c.instance_id AND e.seq = c.seq + 1
)
SELECT id, count(*) AS events, bool_and(hash = computed) AS all_fit FROM chain WHERE seq > 0 GROUP BY id ORDER BY id;

-- April goes on, and the seal still holds: no rows, no problem.
SET LOCAL wfproc.fake_now = '2026-04-04 23:00';
SELECT wfproc.send('door', 'in', '{"euro": 75, "who": "Ada"}') > 0 AS sent;
SELECT wfproc.run() AS handled;
SELECT * FROM wfproc.check_seal(:'seal');

/*
 * There should be 70 in the bar's box, and there is nothing.  Mallory is superuser, and wants the log to say nothing, too.
 * UPDATE and DELETE of it are refused; that is switched off first.
 */
ALTER TABLE wfproc.event DISABLE TRIGGER append_only;
SELECT instance_id AS bar FROM wfproc.instance WHERE id = 'bar' \gset
SAVEPOINT honest;

-- 1. Mallory changes what Ben has put in.  The row's hash does not fit it any more.  That is for verify_all() to say:
-- check_seal() looks whether the ends of the logs have the hashes that were sealed, and this one is as it was.  An auditor
-- asks both.
UPDATE wfproc.event SET payload = '{"euro": 0, "who": "Ben"}' WHERE instance_id = :bar AND seq = 4;
SELECT * FROM wfproc.verify_all('cash_box') WHERE NOT ok;
SELECT * FROM wfproc.check_seal(:'seal');

-- 2. And puts that hash right.  But the event leads to another state than the one of which the row has a digest.
UPDATE wfproc.event e SET hash = digest(b.hash || convert_to(array_to_string(ARRAY[
           e.seq::text, (extract(epoch FROM e.at) * 1000000)::bigint::text,
           (extract(epoch FROM e.recorded_at) * 1000000)::bigint::text, e.name,
           encode(digest(convert_to(e.payload::text, 'UTF8'), 'sha256'), 'hex'), '', '', e.digest::text],
           chr(31)), 'UTF8'), 'sha256')
FROM wfproc.event b WHERE e.instance_id = :bar AND e.seq = 4 AND b.instance_id = :bar AND b.seq = 3;
SELECT * FROM wfproc.verify_all('cash_box') WHERE NOT ok;
ROLLBACK TO honest;

-- 3. Or Mallory cuts off the end, what Ben has put in.  All that is left fits.  Only the seal knows better.
DELETE FROM wfproc.event WHERE instance_id = :bar AND seq = 4;
SELECT * FROM wfproc.verify_all('cash_box') WHERE NOT ok;
SELECT * FROM wfproc.check_seal(:'seal');
ROLLBACK TO honest;

-- 4. Or removes the box.
DELETE FROM wfproc.event WHERE instance_id = :bar;
DELETE FROM wfproc.instance WHERE instance_id = :bar;
SELECT * FROM wfproc.verify_all('cash_box') WHERE NOT ok;
SELECT * FROM wfproc.check_seal(:'seal');

-- 5. And has it live anew, with another end, under its old number.  The engine itself writes the log, which is without fault.
SELECT wfproc.start('cash_box', 'bar', at => '2026-03-01');
SELECT count(wfproc.send('bar', event, jsonb_build_object('euro', euro, 'who', who), at => at::timestamptz)) AS sent
FROM (VALUES ('in', 300, 'Ada', '2026-03-07'), ('in', 70, 'Ben', '2026-03-28'),
             ('out', 370, 'Cleo', '2026-03-29')) AS e(event, euro, who, at);
SELECT wfproc.run() AS handled;
UPDATE wfproc.event SET instance_id = :bar
WHERE instance_id = (SELECT instance_id FROM wfproc.instance WHERE id = 'bar');
UPDATE wfproc.instance SET instance_id = :bar WHERE id = 'bar';
SELECT * FROM wfproc.verify_all('cash_box');
SELECT * FROM wfproc.check_seal(:'seal');
ROLLBACK TO honest;

-- 6. Or alters the published code, so that more can be taken out than there is; then its SHA-256, and the copy that is run.
SELECT workflow_id AS cash_box FROM wfproc.workflow WHERE name = 'cash_box' \gset
UPDATE wfproc.version SET code = replace(code, 'euro < 0', 'euro < -70') WHERE workflow_id = :cash_box;
SELECT * FROM wfproc.verify_all('cash_box') WHERE NOT ok;
UPDATE wfproc.version SET code_sha256 = digest(code, 'sha256') WHERE workflow_id = :cash_box;
DO $$
BEGIN
    EXECUTE (SELECT format('CREATE OR REPLACE FUNCTION wfproc_code_%s_%s.cash_box(%s', workflow_id, version, code)
             FROM wfproc.version JOIN wfproc.workflow USING (workflow_id) WHERE name = 'cash_box');
END $$;
SELECT * FROM wfproc.verify_all('cash_box') WHERE NOT ok;
SELECT * FROM wfproc.check_seal(:'seal');
ROLLBACK TO honest;

-- 7. Or cuts off the end as in 3, has a new seal made, and puts that into the auditor's file.  It is a good seal, but not the
-- one that was signed.
DELETE FROM wfproc.event WHERE instance_id = :bar AND seq = 4;
SET LOCAL client_min_messages = error;          -- seal() itself warns of the log that has become shorter
SELECT wfproc.seal() \g (format=unaligned tuples_only=on) :file
\set other `cat "$FILE"`
SELECT count(*) AS problems FROM wfproc.check_seal(:'other');
SELECT encode(hmac(:'other', :'key', 'sha256'), 'hex') = :'signature' AS other_is_signed,
       encode(hmac(:'seal', :'key', 'sha256'), 'hex') = :'signature' AS seal_is_signed;
\! rm "$FILE"

ROLLBACK;
