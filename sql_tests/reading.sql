-- What reads an instance: history, agenda, digest, state, replay, verify; and the hash chain recomputed in plain SQL.
-- Everything happens in transactions that are rolled back, under a clock that stands: no worker ever sees it.
\set QUIET on
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, MDY';

-- runs a statement and returns what it raises: SQLSTATE, message and hint
CREATE FUNCTION pg_temp.attempt(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    message text;
    hint text;
BEGIN
    EXECUTE statement;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(E'\n', SQLSTATE || ': ' || message, nullif(hint, ''));
END $$;

BEGIN;
SET LOCAL wfproc.fake_now = '2024-03-01 12:00';

-- counts, remembers, and does what settings of this test say, which no real handler should
CREATE FUNCTION public.reading_counter(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('reading.fail_at', true) = wfproc.seq()::text THEN
        RAISE EXCEPTION 'told to fail at %', wfproc.seq();
    END IF;
    IF event = 'close' THEN
        PERFORM wfproc.complete(payload);
    ELSIF event = 'refuse' THEN
        PERFORM wfproc.reject('not wanted');
    END IF;
    RETURN state || jsonb_build_object(
        'count', coalesce((state->>'count')::int, 0) + 1 + coalesce(nullif(current_setting('reading.add', true), '')::int, 0),
        'last', event, 'now', wfproc.now());
END $$;
SELECT wfproc.define('reading', 'public.reading_counter');

SELECT wfproc.start('reading', 'r-1', '{"from": "Zürich"}', '2024-02-01 08:00');
SELECT wfproc.send('r-1', 'second', '{"n": 1e20, "text": "a\"b"}', '2024-02-02 08:00', 'key-2') > 0 AS sent;
SELECT wfproc.send('r-1', 'third', '[]', '2024-02-03 08:00') > 0 AS sent;
SELECT wfproc.send('r-1', 'refuse', NULL, '2024-02-04 08:00') > 0 AS sent;

-- before anything was handled
SELECT wfproc.state('r-1');
SELECT seq, sha256 = sha256(convert_to('wfproc/1' || 'r-1', 'UTF8')) AS first_hash FROM wfproc.digest('r-1');
SELECT * FROM wfproc.verify('r-1');
SELECT count(*) FROM wfproc.history('r-1');
SELECT count(*) FROM wfproc.replay('r-1');

SELECT wfproc.run();
-- comes late: its stamp stays, the clock does not go back
SELECT wfproc.send('r-1', 'late', '{}', '2024-02-02 12:00') > 0 AS sent;
SET LOCAL wfproc.fake_now = '2024-03-01 12:00:00.000001';
SELECT wfproc.run();

\echo == history
SELECT seq, at, recorded_at, event, payload, sender, mail_id IS NOT NULL AS has_mail_id, idempotency_key, length(hash)
FROM wfproc.history('r-1');
SELECT seq, event FROM wfproc.history('r-1', 3);
SELECT seq, event FROM wfproc.history('r-1', 1, 2);
SELECT seq, event FROM wfproc.history('r-1', 5);
SELECT seq, event FROM wfproc.history('r-1', -7, 1);

\echo == digest
SELECT d.seq, d.sha256 = h.hash AS is_last_hash FROM wfproc.digest('r-1') d JOIN wfproc.history('r-1') h USING (seq);

\echo == state and replay
SELECT wfproc.state('r-1');
SELECT * FROM wfproc.replay('r-1');
SELECT seq, state FROM wfproc.replay('r-1', 2);
SELECT count(*) FROM wfproc.replay('r-1', 0);

\echo == verify
SELECT * FROM wfproc.verify('r-1');
-- settings of the session do not reach the handler
SET LOCAL TimeZone = 'Asia/Kathmandu';
SET LOCAL DateStyle = 'German';
SELECT ok FROM wfproc.verify('r-1');
SET LOCAL TimeZone = 'UTC';
SET LOCAL DateStyle = 'ISO, MDY';

\echo == the chain in plain SQL, with digest() of pgcrypto
-- docs/DESIGN.md has this query for auditors
CREATE FUNCTION pg_temp.recomputed(instance_id bigint) RETURNS TABLE (seq bigint, hash bytea, expected bytea)
LANGUAGE sql AS $$
    WITH RECURSIVE field AS (
        SELECT e.seq, e.hash, convert_to(concat_ws(chr(31), e.seq,
                   (extract(epoch FROM e.at) * 1000000)::bigint, (extract(epoch FROM e.recorded_at) * 1000000)::bigint,
                   e.name, encode(digest(e.payload::text, 'sha256'), 'hex'),
                   coalesce(e.sender, ''), coalesce(e.idempotency_key, ''), e.digest), 'UTF8') AS text
        FROM wfproc.event e WHERE e.instance_id = recomputed.instance_id
    ), chain AS (
        SELECT 0::bigint AS seq, NULL::bytea AS hash, digest('wfproc/1' || i.id, 'sha256') AS expected
        FROM wfproc.instance i WHERE i.instance_id = recomputed.instance_id
        UNION ALL
        SELECT f.seq, f.hash, digest(c.expected || f.text, 'sha256') FROM chain c JOIN field f ON f.seq = c.seq + 1
    )
    SELECT c.seq, c.hash, c.expected FROM chain c WHERE c.seq > 0
$$;
SELECT instance_id AS r1 FROM wfproc.instance WHERE id = 'r-1' \gset
SELECT seq, hash = expected AS fits FROM pg_temp.recomputed(:r1);

-- a longer log, with control events, keys, a failed attempt, large and odd payloads
SELECT wfproc.start('reading', 'r-long', at => '2024-01-01');
SELECT count(wfproc.send('r-long', 'step', jsonb_build_object('i', i, 'text', repeat(chr(64 + i % 60), i * 40), 'number', 1.50 * i),
                         '2024-01-01'::timestamptz + i * interval '1 hour', CASE WHEN i % 3 = 0 THEN 'key ' || i END))
FROM generate_series(1, 300) i;
SELECT wfproc.run();
SELECT wfproc.pause('r-long', 'to see it');
SELECT wfproc.send('r-long', 'step', '{"odd": "\u001f\n\\ é 日本 \ud83d\ude00", "big": 1e1000}', '2024-02-01') > 0 AS sent;
SELECT wfproc.run();
SELECT wfproc.resume('r-long');
SELECT wfproc.run();
SELECT instance_id AS rlong FROM wfproc.instance WHERE id = 'r-long' \gset
SELECT count(*), bool_and(hash = expected) AS all_fit FROM pg_temp.recomputed(:rlong);
SELECT seq, event, payload->>'by' = current_user AS by_me FROM wfproc.history('r-long', 301);
SELECT * FROM wfproc.verify('r-long');

\echo == agenda
SELECT wfproc.start('reading', 'r-agenda', at => '2024-03-01 11:00');
SELECT wfproc.send('r-agenda', 'now', NULL, '2024-03-01 12:00:00.000001') AS m1 \gset
SELECT wfproc.send('r-agenda', 'later', '{"a": 1}', '2024-03-02', 'k') AS m2 \gset
SELECT wfproc.send('r-agenda', 'later still', '{}', '2024-03-03') AS m3 \gset
SELECT wfproc.send('r-agenda', 'same time', '{}', '2024-03-02') AS m4 \gset
SELECT wfproc.pause('r-agenda', 'see it');
SELECT at, event, payload - 'by' AS payload, sender, idempotency_key, due FROM wfproc.agenda('r-agenda');
SELECT mail_id AS m0, event FROM wfproc.agenda('r-agenda', max => 1) \gset
SELECT event FROM wfproc.agenda('r-agenda', max => 2);
-- page by page
SELECT event FROM wfproc.agenda('r-agenda', :m1, 2);
SELECT event FROM wfproc.agenda('r-agenda', :m4, 2);
SELECT event FROM wfproc.agenda('r-agenda', :m3, 2);
-- what came before an event that is gone was handled too
SELECT wfproc.run();
SELECT event, due FROM wfproc.agenda('r-agenda', :m0);

\echo == a snapshot
SELECT wfproc.snapshot('r-1');
SELECT wfproc.run();
SELECT seq, at, version, state FROM wfproc.snapshot WHERE instance_id = :r1;
SELECT wfproc.state('r-1');
SELECT * FROM wfproc.verify('r-1');
-- it is used: the handler is not called for what it covers
SET LOCAL reading.fail_at = '2';
SELECT wfproc.state('r-1') ->> 'count' AS count;
-- verify() folds everything
SELECT * FROM wfproc.verify('r-1');
SET LOCAL client_min_messages = error;
SELECT seq, state IS NULL AS no_state, diverged FROM wfproc.replay('r-1');
SET LOCAL reading.fail_at = '';

\echo == a handler that is not what it was
SET LOCAL reading.add = '10';
SELECT * FROM wfproc.verify('r-1');
SET LOCAL client_min_messages = warning;
SELECT seq, state->>'count' AS count, diverged FROM wfproc.replay('r-1');
-- only what comes after the snapshot is compared when the state is asked for
SELECT wfproc.state('r-1') ->> 'count' AS count;
SAVEPOINT before_error;
SELECT wfproc.send('r-1', 'sixth', '{}', '2024-02-20') > 0 AS sent;
SET LOCAL reading.add = '';
SELECT wfproc.run();
SET LOCAL reading.add = '10';
SELECT pg_temp.attempt($$SELECT wfproc.state('r-1')$$);
SET LOCAL reading.fail_at = '6';
SELECT pg_temp.attempt($$SELECT wfproc.state('r-1')$$);
ROLLBACK TO before_error;
SET LOCAL reading.add = '';
SET LOCAL reading.fail_at = '';

\echo == what a superuser did to the snapshot
UPDATE wfproc.snapshot SET state = state || '{"count": 99}' WHERE instance_id = :r1;
SELECT wfproc.state('r-1') ->> 'count' AS count;
SELECT * FROM wfproc.verify('r-1');
UPDATE wfproc.snapshot SET state_sha256 = digest(state::text, 'sha256') WHERE instance_id = :r1;
SELECT wfproc.state('r-1') ->> 'count' AS count;
SELECT * FROM wfproc.verify('r-1');
UPDATE wfproc.snapshot SET log_sha256 = '\x00' WHERE instance_id = :r1;
SELECT wfproc.state('r-1') ->> 'count' AS count;
SELECT * FROM wfproc.verify('r-1');
UPDATE wfproc.snapshot SET seq = 77 WHERE instance_id = :r1;
SELECT wfproc.state('r-1') ->> 'count' AS count;
SELECT * FROM wfproc.verify('r-1');
DELETE FROM wfproc.snapshot WHERE instance_id = :r1;

\echo == what a superuser did to the log
ALTER TABLE wfproc.event DISABLE TRIGGER append_only;
SAVEPOINT whole;
UPDATE wfproc.event SET payload = '{"from": "Bern"}' WHERE instance_id = :r1 AND seq = 1;
SELECT * FROM wfproc.verify('r-1');
SELECT pg_temp.attempt($$SELECT wfproc.state('r-1')$$);
ROLLBACK TO whole;
UPDATE wfproc.event SET at = at + interval '1 us' WHERE instance_id = :r1 AND seq = 3;
SELECT * FROM wfproc.verify('r-1');
ROLLBACK TO whole;
UPDATE wfproc.event SET sender = 'x' WHERE instance_id = :r1 AND seq = 4;
SELECT * FROM wfproc.verify('r-1');
ROLLBACK TO whole;
UPDATE wfproc.event SET digest = digest + 1 WHERE instance_id = :r1 AND seq = 4;
SELECT * FROM wfproc.verify('r-1');
-- with the chain mended, the handler still says what it led to
UPDATE wfproc.event e SET hash = r.expected FROM pg_temp.recomputed(:r1) r WHERE e.instance_id = :r1 AND e.seq = r.seq;
SELECT bool_and(hash = expected) AS mended FROM pg_temp.recomputed(:r1);
SELECT * FROM wfproc.verify('r-1');
ROLLBACK TO whole;
DELETE FROM wfproc.event WHERE instance_id = :r1 AND seq = 2;
SELECT * FROM wfproc.verify('r-1');
SET LOCAL client_min_messages = error;
SELECT seq, event, diverged FROM wfproc.replay('r-1');
SET LOCAL client_min_messages = warning;
ROLLBACK TO whole;
-- a tail that was cut off shows only beside a digest that was kept elsewhere
DELETE FROM wfproc.event WHERE instance_id = :r1 AND seq = 5;
SELECT * FROM wfproc.verify('r-1');
SELECT seq FROM wfproc.digest('r-1');
ROLLBACK TO whole;
ALTER TABLE wfproc.event ENABLE ALWAYS TRIGGER append_only;

\echo == append only
SELECT pg_temp.attempt('UPDATE wfproc.event SET name = name');
SELECT pg_temp.attempt('DELETE FROM wfproc.event WHERE false');
SELECT pg_temp.attempt('TRUNCATE wfproc.event');
SET LOCAL session_replication_role = replica;
SELECT pg_temp.attempt('DELETE FROM wfproc.event');
SET LOCAL session_replication_role = origin;

\echo == a closed instance is still there to read
SELECT wfproc.send('r-1', 'close', '{"sum": 6}', '2024-02-10') > 0 AS sent;
SELECT wfproc.run();
SELECT status, result FROM wfproc.instances WHERE id = 'r-1';
SELECT seq, event FROM wfproc.history('r-1', 5);
SELECT state->>'count' AS count, actions FROM wfproc.replay('r-1') WHERE seq = 6;
SELECT ok FROM wfproc.verify('r-1');
SELECT count(*) FROM wfproc.agenda('r-1');

\echo == arguments
SELECT f, pg_temp.attempt(format('SELECT * FROM wfproc.%s(NULL)', f))
FROM unnest('{state,digest,history,agenda,replay,verify}'::text[]) f;
SELECT f, pg_temp.attempt(format($$SELECT * FROM wfproc.%s('r-0''; --')$$, f))
FROM unnest('{state,digest,history,agenda,replay,verify}'::text[]) f;
SELECT a, pg_temp.attempt(format($$SELECT * FROM wfproc.history('r-1', %s)$$, a))
FROM unnest('{"NULL","0, NULL","0, 0","0, -1","0, 100001","0, 100000"}'::text[]) a;
SELECT a, pg_temp.attempt(format($$SELECT * FROM wfproc.agenda('r-1', %s)$$, a))
FROM unnest('{"NULL","0, NULL","0, 0","0, 100001","9223372036854775807, 1"}'::text[]) a;
SELECT pg_temp.attempt($$SELECT * FROM wfproc.replay('r-1', -1)$$);
SELECT pg_temp.attempt($$SELECT wfproc.refuse_change()$$);

\echo == rights
CREATE ROLE regress_reading_none;
CREATE ROLE regress_reading_send;
CREATE ROLE regress_reading_read;
CREATE ROLE regress_reading_operate;
SELECT wfproc.grant_usage(r) FROM unnest('{regress_reading_none,regress_reading_send,regress_reading_read,regress_reading_operate}'::text[]) r;
SELECT wfproc.grant_access('reading', 'regress_reading_' || p, p) FROM unnest('{send,read,operate}'::text[]) p;
SET LOCAL ROLE regress_reading_none;
SELECT f, split_part(pg_temp.attempt(format($$SELECT * FROM wfproc.%s('r-1')$$, f)), E'\n', 1)
FROM unnest('{state,digest,history,agenda,replay,verify}'::text[]) f;
SELECT count(*) FROM wfproc.instances;
SET LOCAL ROLE regress_reading_send;
SELECT split_part(pg_temp.attempt($$SELECT wfproc.state('r-1')$$), E'\n', 1);
SET LOCAL ROLE regress_reading_read;
SELECT f, pg_temp.attempt(format($$SELECT * FROM wfproc.%s('r-1')$$, f))
FROM unnest('{state,digest,history,agenda,replay,verify}'::text[]) f;
SELECT pg_temp.attempt('SELECT * FROM wfproc.event');
SET LOCAL ROLE regress_reading_operate;
SELECT ok FROM wfproc.verify('r-1');
RESET ROLE;

\echo == not inside a handler
CREATE FUNCTION public.reading_nosy(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format($q$SELECT count(*) FROM wfproc.%s('r-1')$q$, payload->>'f');
    RETURN state;
END $$;
SELECT f, pg_temp.attempt(format($$SELECT * FROM wfproc.try_step('public.reading_nosy', '{}', 'e', '{"f": "%s"}')$$, f))
FROM unnest('{state,replay,verify}'::text[]) f;

\echo == read only
SET LOCAL transaction_read_only = on;
SELECT wfproc.state('r-1') ->> 'count' AS count;
SELECT count(*) FROM wfproc.history('r-1');
SELECT count(*) FROM wfproc.replay('r-1');
SELECT ok FROM wfproc.verify('r-1');
SELECT seq FROM wfproc.digest('r-1');
SELECT count(*) FROM wfproc.agenda('r-agenda');
ROLLBACK;

\echo '--- find_instances(): by attributes, with an index, and only what the caller may read'
BEGIN;
CREATE FUNCTION public.reading_idle(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT state';
SELECT wfproc.define('find_mine', 'public.reading_idle'), wfproc.define('find_theirs', 'public.reading_idle');
SELECT count(wfproc.start('find_mine', 'find-' || n, attributes => jsonb_build_object('n', n % 3, 'all', true))) FROM generate_series(1, 9) n;
SELECT wfproc.start('find_theirs', 'find-x', attributes => '{"n": 1}');
SELECT * FROM wfproc.find_instances('{"n": 1}');
SELECT id FROM wfproc.find_instances('{"n": 1, "all": true}', 'find_mine', 'running', after => 'find-1', max => 1);
SELECT count(*) FROM wfproc.find_instances('{}', 'find_mine', 'paused');
CREATE ROLE find_reader;
SELECT wfproc.grant_usage('find_reader'), wfproc.grant_access('find_theirs', 'find_reader', 'read');
SET LOCAL ROLE find_reader;
SELECT id FROM wfproc.find_instances('{"n": 1}');
RESET ROLE;
SAVEPOINT s;
SELECT wfproc.find_instances(NULL);
ROLLBACK TO s;
SELECT wfproc.find_instances('[]');
ROLLBACK TO s;
SELECT wfproc.find_instances('{}', 'nothing');
ROLLBACK TO s;
SELECT wfproc.find_instances('{}', max => 0);
ROLLBACK;
