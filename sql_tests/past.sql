-- The past: state() and states() as of an instant, by stamp and by what was recorded; replay() under another version;
-- compare(). Everything happens in one transaction that is rolled back, under a clock that the test moves.
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
SET LOCAL wfproc.fake_now = '2024-01-10 12:00';

-- a balance
CREATE FUNCTION public.past_account(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('past.fail_at', true) = wfproc.seq()::text THEN
        RAISE EXCEPTION 'told to fail at %', wfproc.seq();
    END IF;
    IF event = 'close' THEN
        PERFORM wfproc.complete(state);
    END IF;
    RETURN state || jsonb_build_object('balance', coalesce((state->>'balance')::int, 0) + coalesce((payload->>'amount')::int, 0),
                                       'last', event);
END $$;
SELECT wfproc.define('past', 'public.past_account');

SELECT wfproc.start('past', 'p-1', at => '2024-01-01 08:00');
SELECT wfproc.send('p-1', 'paid in', '{"amount": 100}', '2024-01-02 08:00') > 0 AS sent;
SELECT wfproc.send('p-1', 'paid in', '{"amount": 10}', '2024-01-05 08:00') > 0 AS sent;
SELECT wfproc.send('p-1', 'paid out', '{"amount": -30}', '2024-01-08 08:00') > 0 AS sent;
SELECT wfproc.run();
-- comes to be known two days later: its stamp stays, the clock does not go back
SET LOCAL wfproc.fake_now = '2024-01-12 12:00';
SELECT wfproc.send('p-1', 'forgotten', '{"amount": 1000}', '2024-01-03 08:00') > 0 AS sent;
SELECT wfproc.run();
SET LOCAL wfproc.fake_now = '2024-01-20 12:00';
SELECT wfproc.send('p-1', 'paid in', '{"amount": 1}', '2024-01-15 08:00') > 0 AS sent;
SELECT wfproc.run();
SELECT seq, at, recorded_at, event, payload FROM wfproc.history('p-1');

\echo == as of
CREATE VIEW pg_temp.instant AS
    SELECT n, at::timestamptz FROM unnest('{-infinity,2023-12-31,2024-01-01 08:00,2024-01-02 07:59:59.999999,2024-01-02 08:00,
        2024-01-07,2024-01-08 08:00,2024-01-14,2024-01-15 08:00,2030-01-01,infinity,NULL}'::text[]) WITH ORDINALITY u(at, n);
SELECT at, wfproc.state('p-1', at) FROM pg_temp.instant ORDER BY n;
-- the event that came late is part of the state of the day at which the clock stood when it was handled, not of the 3rd
SELECT wfproc.state('p-1', '2024-01-04') ->> 'balance' AS the_4th, wfproc.state('p-1', '2024-01-08 08:00') ->> 'balance' AS the_8th;

\echo == known at
SELECT known_at, wfproc.state('p-1', known_at => known_at) -> 'balance' AS balance
FROM unnest('{2024-01-01,2024-01-10 11:59:59,2024-01-10 12:00,2024-01-12 12:00,2024-01-19,2024-01-20 12:00,infinity}'::timestamptz[]) known_at;

\echo == both: what was known then of what was so then
SELECT as_of, known_at, wfproc.state('p-1', as_of, known_at) -> 'balance' AS balance
FROM unnest('{2024-01-02 08:00,2024-01-08 08:00,2024-01-15 08:00}'::timestamptz[]) as_of,
     unnest('{2024-01-10 12:00,2024-01-12 12:00,2024-01-20 12:00}'::timestamptz[]) known_at
ORDER BY 1, 2;
-- by hand
WITH clocked AS (
    SELECT h.*, max(at) OVER (ORDER BY seq) AS clock, coalesce((payload->>'amount')::int, 0) AS amount FROM wfproc.history('p-1') h)
SELECT as_of, known_at, (SELECT sum(amount) FROM clocked WHERE clock <= as_of AND recorded_at <= known_at) AS balance
FROM unnest('{2024-01-02 08:00,2024-01-08 08:00,2024-01-15 08:00}'::timestamptz[]) as_of,
     unnest('{2024-01-10 12:00,2024-01-12 12:00,2024-01-20 12:00}'::timestamptz[]) known_at
ORDER BY 1, 2;

\echo == the same with a snapshot, which is used where it is not beyond
CREATE TABLE pg_temp.without AS
    SELECT a.at AS as_of, k.at AS known_at, wfproc.state('p-1', a.at, k.at) AS state
    FROM pg_temp.instant a, pg_temp.instant k;
SELECT wfproc.snapshot('p-1');
SELECT wfproc.run();
SELECT wfproc.send('p-1', 'paid in', '{"amount": 5}', '2024-01-19 08:00') > 0 AS sent;
SELECT wfproc.run();
SELECT seq, at FROM wfproc.snapshot WHERE instance_id = (SELECT instance_id FROM wfproc.instance WHERE id = 'p-1');
SELECT count(*) AS compared, count(*) FILTER (WHERE wfproc.state('p-1', as_of, known_at) IS DISTINCT FROM state) AS different
FROM pg_temp.without WHERE as_of <= '2024-01-15 08:00' OR known_at < '2024-01-20';
-- the handler is not called for what the snapshot covers
SET LOCAL past.fail_at = '2';
SELECT wfproc.state('p-1', '2024-01-19 08:00') -> 'balance' AS balance, wfproc.state('p-1', '2024-01-16', '2024-01-20 12:00') -> 'balance' AS balance;
SELECT pg_temp.attempt($$SELECT wfproc.state('p-1', '2024-01-14')$$);
SELECT pg_temp.attempt($$SELECT wfproc.state('p-1', known_at => '2024-01-19')$$);
-- nor for what comes after
SET LOCAL past.fail_at = '7';
SELECT wfproc.state('p-1', '2024-01-18') -> 'balance' AS balance;
SELECT pg_temp.attempt($$SELECT wfproc.state('p-1')$$);
SET LOCAL past.fail_at = '';

\echo == states
SELECT wfproc.start('past', 'p-2', '{"amount": 7}', '2024-01-06 08:00');
SELECT wfproc.start('past', 'P-3', '{"amount": 3}', '2024-01-18 08:00');
SELECT wfproc.start('past', 'é', '{"amount": 4}', '2024-01-01 08:00');
SELECT wfproc.send('p-2', 'close', at => '2024-01-09') > 0 AS sent;
SELECT wfproc.run();
SELECT wfproc.start('past', 'p-waits', '{"amount": 3}', '2024-01-18 09:00');
SELECT wfproc.start('past', 'p-future', '{"amount": 3}', '2024-02-18 09:00');
CREATE FUNCTION public.past_other(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT state';
SELECT wfproc.define('past_other', 'public.past_other');
SELECT wfproc.start('past_other', 'p-of another');
SELECT * FROM wfproc.states('past');
SELECT * FROM wfproc.states('past', '2024-01-07');
SELECT * FROM wfproc.states('past', '2024-01-18 08:00', '2024-01-12 12:00');
SELECT count(*) FROM wfproc.states('past', '2023-01-01');
SELECT count(*) FROM wfproc.states('past', 'infinity');
SELECT i.status, sum((s.state->>'balance')::int) FROM wfproc.states('past', '2024-01-10') s JOIN wfproc.instances i USING (id) GROUP BY 1 ORDER BY 1;
-- each agrees with state()
SELECT bool_and(s.state = wfproc.state(s.id, at)) AS agree, count(*) FROM pg_temp.instant, wfproc.states('past', at) s;

\echo == replay under another version
SELECT seq, state, actions, diverged FROM wfproc.replay('p-2');
CREATE OR REPLACE FUNCTION public.past_account(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event = 'close' THEN
        PERFORM wfproc.set_attributes('{"closed": true}');
        PERFORM wfproc.complete(state);
    ELSIF event = 'forgotten' THEN
        RAISE EXCEPTION 'too late';
    END IF;
    RETURN state || jsonb_build_object('balance', coalesce((state->>'balance')::int, 0) + coalesce((payload->>'amount')::int, 0),
                                       'last', event);
END $$;
CREATE FUNCTION public.past_migrate(state jsonb, old int, new int) RETURNS jsonb LANGUAGE sql AS
    $$SELECT state || jsonb_build_object('from', old, 'to', new)$$;
SELECT wfproc.define('past', 'public.past_account', migrate => 'public.past_migrate');
SELECT seq, state, actions, diverged FROM wfproc.replay('p-2', version => 1);
SELECT seq, state, actions, diverged FROM wfproc.replay('p-2', version => 2);
SELECT seq, diverged FROM wfproc.replay('p-2', 1, 2);
-- ends where it gets stuck, and says why
SELECT seq, event, state, diverged FROM wfproc.replay('p-1', version => 2);
SELECT pg_temp.attempt($$SELECT * FROM wfproc.replay('p-2', version => 3)$$);
SELECT pg_temp.attempt($$SELECT * FROM wfproc.replay('p-2', version => 0)$$);
-- a log with an upgrade in it
SELECT wfproc.start('past', 'p-up', '{"amount": 1}', '2024-01-01 08:00', 1);
SELECT wfproc.send('p-up', 'paid in', '{"amount": 2}', '2024-01-02') > 0 AS sent;
SELECT wfproc.upgrade('p-up', 2, '2024-01-03') > 0 AS sent;
SELECT wfproc.send('p-up', 'paid in', '{"amount": 4}', '2024-01-04') > 0 AS sent;
SELECT wfproc.run();
SELECT seq, event, state, diverged FROM wfproc.replay('p-up');
SELECT seq, event, state, diverged FROM wfproc.replay('p-up', version => 1);
SELECT seq, event, state, diverged FROM wfproc.replay('p-up', version => 2);
SELECT * FROM wfproc.verify('p-up');
SELECT as_of, wfproc.state('p-up', as_of), s.seq, s.version
FROM unnest('{2024-01-02,2024-01-03,2024-01-04}'::timestamptz[]) as_of, wfproc.states('past', as_of) s WHERE s.id = 'p-up' ORDER BY 1;

\echo == compare
SELECT wfproc.start('past', id, at => '2024-01-01') FROM unnest('{c-1,c-2,c-longer,c-payload,c-stamp,c-event}'::text[]) id;
SELECT count(wfproc.send('c-' || c, 'paid in', jsonb_build_object('amount', i, 'note', 'x'), '2024-01-01'::timestamptz + i * interval '1 day'))
FROM generate_series(1, 3) i, unnest('{1,2,longer}'::text[]) c;
SELECT wfproc.send('c-longer', 'paid in', '{"amount": 4}', '2024-01-05') > 0 AS sent;
SELECT wfproc.send('c-payload', 'paid in', '{"amount": 1, "note": "y"}', '2024-01-02') > 0 AS sent;
SELECT wfproc.send('c-stamp', 'paid in', '{"amount": 1, "note": "x"}', '2024-01-02 00:00:00.000001') > 0 AS sent;
SELECT wfproc.send('c-event', 'paid out', '{"amount": 1, "note": "x"}', '2024-01-02') > 0 AS sent;
SELECT wfproc.run();
SELECT c.* FROM unnest('{c-1,c-2,c-longer,c-payload,c-stamp,c-event}'::text[]) WITH ORDINALITY u(id, n), wfproc.compare('c-1', id) c ORDER BY n;
SELECT * FROM wfproc.compare('c-longer', 'c-1');
SELECT * FROM wfproc.compare('p-waits', 'c-1');
SELECT * FROM wfproc.compare('p-future', 'p-future');
-- across workflows
SELECT * FROM wfproc.compare('p-of another', 'c-1');

\echo == a log that has lost rows, or their payload
ALTER TABLE wfproc.event DISABLE TRIGGER append_only;
SAVEPOINT whole;
SELECT instance_id AS p1 FROM wfproc.instance WHERE id = 'p-1' \gset
DELETE FROM wfproc.event WHERE instance_id = :p1 AND seq <= 3;
SELECT wfproc.state('p-1') -> 'balance' AS balance;
SELECT pg_temp.attempt($$SELECT wfproc.state('p-1', '2024-01-14')$$);
SELECT pg_temp.attempt($$SELECT * FROM wfproc.states('past', '2024-01-14')$$);
ROLLBACK TO whole;
UPDATE wfproc.event SET payload = '{}', payload_sha256 = digest(payload::text, 'sha256') WHERE instance_id = :p1 AND seq = 2;
SELECT wfproc.state('p-1') -> 'balance' AS balance, wfproc.state('p-1', '2024-01-01 08:00') AS state;
SELECT pg_temp.attempt($$SELECT wfproc.state('p-1', '2024-01-14')$$);
ROLLBACK TO whole;
ALTER TABLE wfproc.event ENABLE ALWAYS TRIGGER append_only;

\echo == arguments
SELECT statement, pg_temp.attempt('SELECT * FROM wfproc.' || statement) FROM unnest(ARRAY[
    'state(NULL, now())', $$state('nobody', now())$$, 'states(NULL)', $$states('nobody')$$,
    $$states('')$$, $$compare(NULL, 'p-1')$$, $$compare('p-1', NULL)$$, $$compare('p-1', 'nobody')$$, $$compare('nobody', 'p-1')$$]) statement;

\echo == rights
CREATE ROLE regress_past_none;
CREATE ROLE regress_past_read;
SELECT wfproc.grant_usage(r) FROM unnest('{regress_past_none,regress_past_read}'::text[]) r;
SELECT wfproc.grant_access('past', 'regress_past_read', 'read');
CREATE FUNCTION pg_temp.attempt_all() RETURNS TABLE (statement text, result text) LANGUAGE sql AS $$
    SELECT statement, split_part(pg_temp.attempt('SELECT * FROM wfproc.' || statement), E'\n', 1) FROM unnest(ARRAY[
        $q$state('p-1', '2024-01-14')$q$, $q$states('past')$q$, $q$replay('p-2', version => 2)$q$, $q$compare('p-1', 'p-2')$q$,
        $q$compare('p-2', 'p-of another')$q$]) statement $$;
SET LOCAL ROLE regress_past_none;
SELECT * FROM pg_temp.attempt_all();
SET LOCAL ROLE regress_past_read;
SELECT * FROM pg_temp.attempt_all();
RESET ROLE;

\echo == not inside a handler
CREATE FUNCTION public.past_nosy(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('SELECT count(*) FROM wfproc.%s', payload->>'f');
    RETURN state;
END $$;
SELECT f, pg_temp.attempt(format($$SELECT * FROM wfproc.try_step('public.past_nosy', '{}', 'e', jsonb_build_object('f', %L))$$, f))
FROM unnest(ARRAY[$$states('past')$$, $$compare('p-1', 'p-2')$$]) f;

\echo == read only
SET LOCAL transaction_read_only = on;
SELECT * FROM pg_temp.attempt_all();
ROLLBACK;
