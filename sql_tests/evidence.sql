-- Evidence: seals and what they find, recomputed in plain SQL; verify_all(); redact().
-- Everything happens in transactions that are rolled back, under a clock that stands: no worker ever sees it.
\set QUIET on
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, MDY';

-- runs a statement and returns what it raises: SQLSTATE, message and hint, without what is another one each time
CREATE FUNCTION pg_temp.attempt(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    message text;
    hint text;
BEGIN
    EXECUTE statement;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
    RETURN regexp_replace(replace(concat_ws(E'\n', SQLSTATE || ': ' || message, nullif(hint, '')), session_user, 'SUPERUSER'),
                          '[0-9a-f]{8}-[0-9a-f-]{27}', 'TOKEN');
END $$;

BEGIN;
SET LOCAL wfproc.fake_now = '2024-03-01 12:00';
CREATE FUNCTION public.evidence_adder(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event = 'close' THEN
        PERFORM wfproc.complete(state);
    ELSIF event = 'ask' THEN
        PERFORM wfproc.reply(jsonb_build_object('sum', state -> 'sum'));
    END IF;
    RETURN jsonb_build_object('sum', coalesce((state ->> 'sum')::numeric, 0) + coalesce((payload ->> 'n')::numeric, 0));
END $$;

\echo == a seal of what others have left here
SELECT wfproc.seal() AS seal_0 \gset
SELECT count(*) AS problems FROM wfproc.check_seal(:'seal_0');
SELECT split_part(:'seal_0', ' ', 1) AS tag, split_part(:'seal_0', ' ', 2) = (SELECT token::text FROM wfproc.home) AS token,
       split_part(:'seal_0', ' ', 4) AS at, split_part(:'seal_0', ' ', 5)::bigint = (SELECT count(*) FROM wfproc.instance) AS instances,
       split_part(:'seal_0', ' ', 6)::bigint = (SELECT count(*) FROM wfproc.event) AS events;

SELECT wfproc.define('evidence', 'public.evidence_adder', snapshot_every => 1000);
CREATE FUNCTION public.evidence_b() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION public.evidence_a() RETURNS int LANGUAGE sql AS 'SELECT 2';
SELECT wfproc.define('evidence-helped', 'public.evidence_adder', helpers => '{public.evidence_b(),public.evidence_a()}');
CREATE FUNCTION public.evidence_moves(state jsonb, from_version int, to_version int) RETURNS jsonb LANGUAGE sql AS 'SELECT state';
SELECT wfproc.define('evidence-helped', 'public.evidence_adder', migrate => 'public.evidence_moves', migrates_from => 1);
SELECT wfproc.start('evidence', 'e-' || n, '{"n": 1}', '2024-02-01') FROM generate_series(1, 3) n;
SELECT wfproc.send('e-1', 'add', '{"n": 41, "name": "Ines \u00e9"}', '2024-02-02') > 0 AS sent;
SELECT wfproc.send('e-1', 'ask', '{"n": 0.5}', '2024-02-03') > 0 AS sent;
SELECT wfproc.send('e-2', 'add', '{"n": 2, "name": "Max"}', '2024-02-02') > 0 AS sent;
SELECT wfproc.send('e-2', 'close', '{"n": 4}', '2024-02-03') > 0 AS sent;
SELECT wfproc.run();
-- has nothing in its log yet
SELECT wfproc.start('evidence', 'e-later', at => '2024-04-01');

\echo == a seal
SELECT wfproc.seal() AS seal_1 \gset
SELECT split_part(:'seal_1', ' ', 3)::int - split_part(:'seal_0', ' ', 3)::int AS next, split_part(:'seal_1', ' ', 4) AS at,
       split_part(:'seal_1', ' ', 5)::int - split_part(:'seal_0', ' ', 5)::int AS more_instances,
       split_part(:'seal_1', ' ', 6)::int - split_part(:'seal_0', ' ', 6)::int AS more_events,
       split_part(:'seal_1', ' ', 8) = split_part(:'seal_0', ' ', 9) AS chained;
SELECT * FROM wfproc.check_seal(:'seal_1');
-- as a file has it
SELECT count(*) AS problems FROM wfproc.check_seal(:'seal_1' || E'\n');
SELECT instances = split_part(:'seal_1', ' ', 5)::bigint AS instances, events = split_part(:'seal_1', ' ', 6)::bigint AS events, at, encode(root, 'hex') = split_part(:'seal_1', ' ', 7) AS root,
       encode(previous, 'hex') = split_part(:'seal_1', ' ', 8) AS previous, encode(hash, 'hex') = split_part(:'seal_1', ' ', 9) AS hash
FROM wfproc.seals WHERE number = split_part(:'seal_1', ' ', 3)::bigint;

\echo == recomputed by an outsider, with digest() of pgcrypto
-- docs/DESIGN.md has this query for auditors
CREATE FUNCTION pg_temp.root() RETURNS bytea LANGUAGE sql AS $$
    WITH head AS (
        SELECT DISTINCT ON (i.instance_id) i.instance_id, i.id, coalesce(e.seq, 0) AS seq,
               coalesce(e.hash, digest('wfproc/1' || i.id, 'sha256')) AS hash
        FROM wfproc.instance i LEFT JOIN wfproc.event e USING (instance_id) ORDER BY i.instance_id, e.seq DESC
    ), leaf AS (
        SELECT instance_id, digest(convert_to(concat_ws(chr(31), 'leaf', id, seq, encode(hash, 'hex')), 'UTF8'), 'sha256') AS hash FROM head
    ), lower AS (
        SELECT instance_id / 32 AS nth, digest('node'::bytea || string_agg(hash, ''::bytea ORDER BY instance_id), 'sha256') AS hash
        FROM leaf GROUP BY 1
    ), upper AS (
        SELECT nth / 32 AS nth, digest('node'::bytea || string_agg(hash, ''::bytea ORDER BY nth), 'sha256') AS hash
        FROM lower GROUP BY 1
    ), code AS (
        SELECT w.name, v.version, digest(convert_to(concat_ws(chr(31), 'version', w.name, v.version, v.handler,
                   encode(digest(v.code, 'sha256'), 'hex'), encode(v.code_sha256, 'hex'),
                   coalesce(v.migrate, ''), coalesce(encode(digest(v.migrate_code, 'sha256'), 'hex'), ''), coalesce(encode(v.migrate_sha256, 'hex'), ''),
                   v.search_path, (extract(epoch FROM v.defined_at) * 1000000)::bigint, 'from ' || v.migrates_from,
                   (SELECT string_agg(concat_ws(chr(31), h.name, h.arguments, encode(digest(h.code, 'sha256'), 'hex'), encode(h.code_sha256, 'hex')),
                               chr(31) ORDER BY h.name COLLATE "C", h.arguments COLLATE "C")
                    FROM wfproc.version_helper h WHERE h.workflow_id = v.workflow_id AND h.version = v.version)), 'UTF8'), 'sha256') AS hash
        FROM wfproc.version v JOIN wfproc.workflow w USING (workflow_id)
    )
    SELECT digest('node'::bytea
                  || digest('node'::bytea || coalesce((SELECT string_agg(hash, ''::bytea ORDER BY name COLLATE "C", version) FROM code), ''), 'sha256')
                  || coalesce((SELECT string_agg(hash, ''::bytea ORDER BY nth) FROM upper), ''), 'sha256')
$$;
SELECT encode(pg_temp.root(), 'hex') = split_part(:'seal_1', ' ', 7) AS root,
       encode(digest(substr(:'seal_1', 1, length(:'seal_1') - 65), 'sha256'), 'hex') = split_part(:'seal_1', ' ', 9) AS hash;
-- signed by who has a key
SELECT encode(hmac(:'seal_1', 'a key that is kept elsewhere', 'sha256'), 'hex') AS signature \gset
SELECT hmac(:'seal_1', 'a key that is kept elsewhere', 'sha256') = decode(:'signature', 'hex') AS signed,
       hmac(:'seal_0', 'a key that is kept elsewhere', 'sha256') = decode(:'signature', 'hex') AS signed_0;

\echo == later events are no problem, and the next seal adds only what has changed
SELECT wfproc.send('e-3', 'add', '{"n": 3}', '2024-02-05') > 0 AS sent;
SELECT wfproc.run();
SELECT count(*) AS problems FROM wfproc.check_seal(:'seal_1');
SELECT wfproc.seal() AS seal_2 \gset
SELECT id, seq FROM wfproc.seal_leaf WHERE number = split_part(:'seal_2', ' ', 3)::bigint ORDER BY id;
SELECT encode(pg_temp.root(), 'hex') = split_part(:'seal_2', ' ', 7) AS root;
SELECT (SELECT count(*) FROM wfproc.check_seal(:'seal_1')) AS problems_1, (SELECT count(*) FROM wfproc.check_seal(:'seal_2')) AS problems_2;
-- many, over several nodes
SELECT count(wfproc.start('evidence', 'many-' || n, '{}', '2024-02-01')) FROM generate_series(1, 2500) n;
SELECT count(*) AS runs FROM (SELECT wfproc.run(1000) FROM generate_series(1, 3)) x;
SELECT wfproc.seal() AS seal_3 \gset
SELECT split_part(:'seal_3', ' ', 5)::int - split_part(:'seal_2', ' ', 5)::int AS more, encode(pg_temp.root(), 'hex') = split_part(:'seal_3', ' ', 7) AS root;
SELECT count(*) AS problems FROM wfproc.check_seal(:'seal_3');
SELECT wfproc.seal() AS seal_4 \gset
SELECT count(*) AS leaves FROM wfproc.seal_leaf WHERE number = split_part(:'seal_4', ' ', 3)::bigint;

\echo == after each kind of write the root is that of all
CREATE FUNCTION pg_temp.sealed(whole bool = false, OUT leaves text, OUT nodes bigint, OUT root bool) LANGUAGE plpgsql AS $$
DECLARE
    seal text := wfproc.seal(whole);
BEGIN
    SELECT string_agg(l.id || ' ' || l.seq, ', ' ORDER BY l.id) INTO leaves FROM wfproc.seal_leaf l WHERE number = split_part(seal, ' ', 3)::bigint;
    SELECT count(*) INTO nodes FROM wfproc.seal_node WHERE level = 0;
    root := decode(split_part(seal, ' ', 7), 'hex') = pg_temp.root();
END $$;
SAVEPOINT before;
SELECT wfproc.start('evidence', 'e-new', '{"n": 1}', '2024-02-01');
SELECT leaves, root FROM pg_temp.sealed();
SELECT wfproc.send('many-' || n, 'add', '{"n": 3}', '2024-02-05') > 0 AS sent FROM unnest('{1,2,33,1200,2500}'::int[]) n;
SELECT wfproc.run();
SELECT * FROM pg_temp.sealed() \gset
SELECT :'leaves' AS leaves, :'root' AS root;
-- rolled back: with its seal, and after it
SAVEPOINT s;
SELECT wfproc.start('evidence', 'e-never', '{"n": 1}', '2024-02-01');
SELECT wfproc.send('many-77', 'add', '{"n": 3}', '2024-02-05') > 0 AS sent;
SELECT wfproc.run();
SELECT leaves, root FROM pg_temp.sealed();
ROLLBACK TO s;
SELECT leaves, root FROM pg_temp.sealed();
-- where a node has no instance yet
SELECT setval('wfproc.instance_seq', nextval('wfproc.instance_seq') + 5000) > 0 AS skipped;
SELECT wfproc.start('evidence', 'e-far', '{"n": 1}', '2024-02-01');
SELECT leaves, nodes - :nodes AS more_nodes, root FROM pg_temp.sealed();
SELECT leaves, root FROM pg_temp.sealed(whole => true);
ROLLBACK TO before;
SELECT pg_temp.attempt('SELECT wfproc.seal(NULL)');

\echo == what a superuser does is found
SELECT instance_id AS e1 FROM wfproc.instance WHERE id = 'e-1' \gset
SELECT instance_id AS e3 FROM wfproc.instance WHERE id = 'e-3' \gset
ALTER TABLE wfproc.event DISABLE TRIGGER append_only;
SAVEPOINT s;
DELETE FROM wfproc.event WHERE instance_id = :e1 AND seq > 1;
SELECT * FROM wfproc.check_seal(:'seal_1');
SELECT * FROM wfproc.verify('e-1');
ROLLBACK TO s;
-- only what the second seal covers
DELETE FROM wfproc.event WHERE instance_id = :e3 AND seq > 1;
SELECT * FROM wfproc.check_seal(:'seal_1');
SELECT * FROM wfproc.check_seal(:'seal_2');
SELECT * FROM wfproc.check_seal(:'seal_4');
-- a new seal takes it as it is now, and says so
SET client_min_messages = error;
SELECT wfproc.seal() AS seal_5 \gset
RESET client_min_messages;
SELECT count(*) AS problems FROM wfproc.check_seal(:'seal_5');
SELECT * FROM wfproc.check_seal(:'seal_4');
ROLLBACK TO s;
DELETE FROM wfproc.event WHERE instance_id = :e1;
DELETE FROM wfproc.instance WHERE instance_id = :e1;
SELECT * FROM wfproc.check_seal(:'seal_2');
ROLLBACK TO s;
UPDATE wfproc.instance SET id = 'e-other' WHERE instance_id = :e1;
SELECT * FROM wfproc.check_seal(:'seal_2');
SELECT * FROM wfproc.verify('e-other');
ROLLBACK TO s;
-- hashes made to fit again
UPDATE wfproc.event SET digest = 0, hash = sha256(hash) WHERE instance_id = :e1 AND seq = 3;
SELECT * FROM wfproc.check_seal(:'seal_2');
ROLLBACK TO s;
DELETE FROM wfproc.event WHERE instance_id = :e1 AND seq = 3;
INSERT INTO wfproc.event SELECT instance_id, 4, at, recorded_at, mail_id, digest, live, name, payload, sender, idempotency_key, reply, payload_sha256, hash
FROM wfproc.event WHERE instance_id = :e1 AND seq = 1;
SELECT * FROM wfproc.check_seal(:'seal_2');
ROLLBACK TO s;
UPDATE wfproc.version_helper SET code = code || ' ' WHERE name = 'public.evidence_a';
SELECT * FROM wfproc.check_seal(:'seal_2');
ROLLBACK TO s;
DELETE FROM wfproc.version_helper WHERE name = 'public.evidence_b';
SELECT * FROM wfproc.check_seal(:'seal_2');
ROLLBACK TO s;
UPDATE wfproc.version SET code = code || ' ' WHERE workflow_id = (SELECT workflow_id FROM wfproc.workflow WHERE name = 'evidence');
SELECT * FROM wfproc.check_seal(:'seal_2');
SELECT * FROM wfproc.verify('e-1');
ROLLBACK TO s;
DELETE FROM wfproc.version WHERE workflow_id = (SELECT workflow_id FROM wfproc.workflow WHERE name = 'evidence');
SELECT * FROM wfproc.check_seal(:'seal_2');
ROLLBACK TO s;

\echo == and what is done to the tables of seals
DELETE FROM wfproc.seal WHERE number = split_part(:'seal_2', ' ', 3)::bigint;
SELECT * FROM wfproc.check_seal(:'seal_2');
ROLLBACK TO s;
UPDATE wfproc.seal_leaf SET hash = sha256(hash) WHERE id = 'e-2';
SELECT * FROM wfproc.check_seal(:'seal_2');
ROLLBACK TO s;
DELETE FROM wfproc.seal_leaf;
SELECT * FROM wfproc.check_seal(:'seal_2');
ROLLBACK TO s;
-- log and leaf made to agree
DELETE FROM wfproc.event WHERE instance_id = :e1 AND seq = 3;
UPDATE wfproc.seal_leaf l SET (seq, hash) = (SELECT seq, hash FROM wfproc.event e WHERE e.instance_id = l.instance_id AND e.seq = 2) WHERE instance_id = :e1;
SELECT * FROM wfproc.check_seal(:'seal_2');
ROLLBACK TO s;
-- the nodes are only a shortcut
UPDATE wfproc.seal_node SET hash = sha256(hash);
SELECT count(*) AS problems FROM wfproc.check_seal(:'seal_2');
ROLLBACK TO s;
ALTER TABLE wfproc.event ENABLE ALWAYS TRIGGER append_only;

\echo == no seal
SELECT pg_temp.attempt($$SELECT * FROM wfproc.check_seal('')$$);
SELECT pg_temp.attempt($$SELECT * FROM wfproc.check_seal('wfproc-seal/1')$$);
SELECT pg_temp.attempt($$SELECT * FROM wfproc.check_seal('wfproc-seal/2' || substr($$ || quote_literal(:'seal_2') || $$, 14))$$);
SELECT pg_temp.attempt(format('SELECT * FROM wfproc.check_seal(%L)', :'seal_2' || ' '));
SELECT pg_temp.attempt(format('SELECT * FROM wfproc.check_seal(%L)', :'seal_2' || E'\n\n'));
SELECT pg_temp.attempt(format('SELECT * FROM wfproc.check_seal(%L)', repeat('x', 100000)));
-- one character, wherever it is
SELECT left(attempt, 5) AS state, count(*) = length(:'seal_2') AS all FROM (
    SELECT pg_temp.attempt(format('SELECT * FROM wfproc.check_seal(%L)', overlay(:'seal_2' PLACING CASE WHEN substr(:'seal_2', n, 1) = 'a' THEN 'b' ELSE 'a' END FROM n))) AS attempt
    FROM generate_series(1, length(:'seal_2')) n) x GROUP BY 1;
-- of another database; and one that somebody has made up
CREATE FUNCTION pg_temp.made_up(body text) RETURNS text LANGUAGE sql AS $$ SELECT body || ' ' || encode(digest(body, 'sha256'), 'hex') $$;
SELECT pg_temp.attempt(format('SELECT * FROM wfproc.check_seal(%L)', pg_temp.made_up(
    regexp_replace(substr(:'seal_2', 1, length(:'seal_2') - 65), '[0-9a-f]{8}-[0-9a-f-]{27}', '00000000-0000-0000-0000-000000000000'))));
SELECT pg_temp.attempt(format('SELECT * FROM wfproc.check_seal(%L)', pg_temp.made_up('wfproc-seal/1 x 1')));
SELECT pg_temp.attempt(format('SELECT * FROM wfproc.check_seal(%L)', pg_temp.made_up('wfproc-seal/1 a b c d e f g')));
SELECT problem FROM wfproc.check_seal(pg_temp.made_up(substr(:'seal_2', 1, 50) || ' 999999 2024-03-01T12:00:00.000000Z 0 0 ' || repeat('0', 64) || ' ' || repeat('0', 64)));
SELECT count(*) FROM wfproc.check_seal(NULL);

\echo == who may
CREATE ROLE evidence_anybody;
CREATE ROLE evidence_auditor IN ROLE pg_read_all_data;
SELECT wfproc.grant_usage('evidence_anybody'), wfproc.grant_usage('evidence_auditor');
SET LOCAL ROLE evidence_anybody;
SELECT pg_temp.attempt('SELECT wfproc.seal()');
SELECT pg_temp.attempt(format('SELECT * FROM wfproc.check_seal(%L)', :'seal_2'));
SELECT pg_temp.attempt($$SELECT * FROM wfproc.verify_all('evidence')$$);
SELECT pg_temp.attempt($$SELECT wfproc.redact('e-1', 2, 'why')$$);
SET LOCAL ROLE evidence_auditor;
SELECT pg_temp.attempt('SELECT wfproc.seal()');
SELECT count(*) AS problems FROM wfproc.check_seal(:'seal_2');
RESET ROLE;

\echo == verify_all
SELECT * FROM wfproc.verify_all('evidence', 4);
SELECT id, ok FROM wfproc.verify_all('evidence', 2, 'e-1');
SELECT count(*), bool_and(ok) AS ok, min(id), max(id) FROM wfproc.verify_all('evidence', NULL, NULL);
SELECT count(*) FROM wfproc.verify_all('evidence', 10, 'zzz');
SELECT pg_temp.attempt($$SELECT * FROM wfproc.verify_all('no such')$$);
SELECT pg_temp.attempt($$SELECT * FROM wfproc.verify_all(NULL)$$);
SELECT pg_temp.attempt($$SELECT * FROM wfproc.verify_all('evidence', 0)$$);
SAVEPOINT s;
ALTER TABLE wfproc.event DISABLE TRIGGER append_only;
UPDATE wfproc.event SET payload = '{"n": 40}' WHERE instance_id = :e1 AND seq = 2;
UPDATE wfproc.event SET at = at - interval '1 day' WHERE instance_id = :e3 AND seq = 2;
SELECT * FROM wfproc.verify_all('evidence') WHERE NOT ok;
ROLLBACK TO s;
-- columns beside the chain
ALTER TABLE wfproc.event DISABLE TRIGGER append_only;
UPDATE wfproc.event SET reply = '{"sum": 1}' WHERE instance_id = :e1 AND seq = 3;
UPDATE wfproc.event SET live = NOT live WHERE instance_id = :e3 AND seq = 2;
SELECT * FROM wfproc.verify_all('evidence') WHERE NOT ok;
ROLLBACK TO s;
-- handled, and in the mailbox again
INSERT INTO wfproc.mailbox (instance_id, at, origin, mail_id, shard, name, payload)
SELECT instance_id, '2030-01-01', 0, mail_id, 0, name, payload FROM wfproc.event WHERE instance_id = :e1 AND seq = 2;
SELECT id, ok, first_bad_seq, regexp_replace(reason, '\d+', 'N') AS reason FROM wfproc.verify_all('evidence') WHERE NOT ok;
ROLLBACK TO s;

\echo == redact
SELECT hash AS hash_before FROM wfproc.history('e-1') WHERE seq = 3 \gset
SELECT pg_temp.attempt($$SELECT wfproc.redact('e-1', 4, 'why')$$);
SELECT pg_temp.attempt($$SELECT wfproc.redact('e-1', 0, 'why')$$);
SELECT pg_temp.attempt($$SELECT wfproc.redact('no such', 1, 'why')$$);
SELECT wfproc.redact('e-1', 2, NULL) IS NULL AS nothing;
SELECT wfproc.redact('e-1', 2, 'asked for by Ines');
-- that is asked for already
SELECT wfproc.redact('e-1', 2, 'again');
SELECT wfproc.run();
SELECT seq, event, payload - 'by' AS payload FROM wfproc.history('e-1');
SELECT seq, payload, payload_sha256 = digest('{"n": 41, "name": "Ines é"}', 'sha256') AS sha256 FROM wfproc.event WHERE instance_id = :e1 AND payload_sha256 IS NOT NULL;
SELECT hash = :'hash_before' AS same_hash FROM wfproc.history('e-1') WHERE seq = 3;
SELECT seq, state FROM wfproc.snapshot WHERE instance_id = :e1;
SELECT wfproc.state('e-1');
SELECT * FROM wfproc.verify('e-1');
SELECT count(*) AS problems FROM wfproc.check_seal(:'seal_2');
SELECT wfproc.redact('e-1', 2, 'again');
SELECT pg_temp.attempt($$SELECT wfproc.redact('e-1', 4, 'the reason itself')$$);
-- it goes on
SELECT wfproc.send('e-1', 'add', '{"n": 8}', '2024-02-06') > 0 AS sent;
SELECT wfproc.run();
SELECT wfproc.state('e-1');
SELECT * FROM wfproc.verify('e-1');
-- an instance that has closed
SELECT wfproc.redact('e-2', 2, 'asked for by Max'), wfproc.redact('e-2', 1, 'and that');
SELECT seq, event, payload - 'by' AS payload FROM wfproc.history('e-2');
SELECT status, result FROM wfproc.instances WHERE id = 'e-2';
SELECT wfproc.redact('e-2', 2, 'again');
SELECT * FROM wfproc.verify('e-2');
SELECT wfproc.state('e-2');
SELECT count(*) AS problems FROM wfproc.check_seal(:'seal_2');
SELECT id, seq - 3 AS after FROM wfproc.snapshot s JOIN wfproc.instance USING (instance_id) WHERE id IN ('e-1', 'e-2') ORDER BY id;
-- one that has not begun has nothing to put in its place
SELECT pg_temp.attempt($$SELECT wfproc.redact('e-later', 1, 'why')$$);

\echo == what cannot be folded any more needs its snapshot
SAVEPOINT s;
UPDATE wfproc.snapshot SET state = '{"sum": 1}', state_sha256 = digest('{"sum": 1}', 'sha256') WHERE instance_id = :e1;
SELECT * FROM wfproc.verify('e-1');
ROLLBACK TO s;
DELETE FROM wfproc.snapshot WHERE instance_id = :e1;
SELECT * FROM wfproc.verify('e-1');
ROLLBACK TO s;
ALTER TABLE wfproc.event DISABLE TRIGGER append_only;
UPDATE wfproc.event SET payload = '{"n": 41, "name": "Eve"}' WHERE instance_id = :e1 AND seq = 2;
SELECT * FROM wfproc.verify('e-1');
ROLLBACK TO s;
ALTER TABLE wfproc.event DISABLE TRIGGER append_only;
UPDATE wfproc.event SET payload = '{"n": 41, "name": "Ines é"}', payload_sha256 = NULL WHERE instance_id = :e1 AND seq = 2;
SELECT * FROM wfproc.verify('e-1');
ROLLBACK TO s;
ALTER TABLE wfproc.event DISABLE TRIGGER append_only;
UPDATE wfproc.event SET payload = '{}', payload_sha256 = digest(payload::text, 'sha256') WHERE instance_id = :e3 AND seq = 2;
SELECT * FROM wfproc.verify('e-3');
ROLLBACK TO s;

\echo == in a read-only transaction
SET LOCAL transaction_read_only = on;
SELECT count(*) AS problems FROM wfproc.check_seal(:'seal_2');
SELECT bool_and(ok) AS ok FROM wfproc.verify_all('evidence', 10);
SELECT pg_temp.attempt('SELECT wfproc.seal()');
SELECT pg_temp.attempt($$SELECT wfproc.redact('e-1', 1, 'why')$$);
ROLLBACK;
