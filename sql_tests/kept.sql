-- Snapshots of the past: states of the past in long logs begin at one, are the same as without, and what does not fit is not
-- used. Everything happens in one transaction that is rolled back, under a clock that the test moves.
\set QUIET on
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, MDY';

-- runs a statement and returns what it raises
CREATE FUNCTION pg_temp.attempt(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    message text;
BEGIN
    EXECUTE statement;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT;
    RETURN SQLSTATE || ': ' || message;
END $$;

BEGIN;
SET LOCAL wfproc.fake_now = '2024-01-10 12:00';
-- counts and adds up; the state has as much padding as start says; handles nothing below the seq in the setting
CREATE FUNCTION public.kept_adder(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF wfproc.seq() < nullif(current_setting('kept.not_before', true), '')::int THEN
        RAISE EXCEPTION 'told not to handle event %', wfproc.seq();
    END IF;
    IF event = 'start' THEN
        RETURN jsonb_build_object('n', 1, 'sum', 0, 'padding', repeat('x', coalesce((payload ->> 'padding')::int, 0)));
    ELSIF event = 'close' THEN
        PERFORM wfproc.complete('{}');
    END IF;
    RETURN state || jsonb_build_object('n', (state ->> 'n')::int + 1, 'sum', (state ->> 'sum')::int + coalesce((payload ->> 'n')::int, 0));
END $$;
CREATE FUNCTION public.kept_migrate(state jsonb, old int, new int) RETURNS jsonb LANGUAGE sql AS
    $$ SELECT state || jsonb_build_object('version', new) $$;
CREATE VIEW pg_temp.kept AS
    SELECT i.id, k.seq, k.at, k.version, k.state FROM wfproc.kept_snapshot k JOIN wfproc.instance i USING (instance_id);
-- the state after each event, by its handler alone
CREATE FUNCTION pg_temp.truth(id text) RETURNS TABLE (seq bigint, at timestamptz, recorded_at timestamptz, clock timestamptz, state jsonb) LANGUAGE sql AS $$
    SELECT h.seq, h.at, h.recorded_at, max(h.at) OVER (ORDER BY h.seq), r.state FROM wfproc.history(id, 0, 10000) h JOIN wfproc.replay(id) r USING (seq)
$$;
SELECT wfproc.define('kept', 'public.kept_adder', snapshot_every => 100000);

\echo == one turn passes many; one that ends between two, and one at one
SELECT wfproc.start('kept', 'k-1', at => '2024-01-01');
SELECT count(wfproc.send('k-1', 'add', jsonb_build_object('n', n), '2024-01-01'::timestamptz + n * interval '1 min')) FROM generate_series(1, 1299) n;
SELECT wfproc.run();
SELECT seq, at, version, state FROM pg_temp.kept WHERE id = 'k-1' ORDER BY 1;
-- with them goes one of the present, whatever snapshot_every says
SELECT seq FROM wfproc.snapshot JOIN wfproc.instance USING (instance_id) WHERE id = 'k-1';
SELECT count(wfproc.send('k-1', 'add', jsonb_build_object('n', n), '2024-01-01'::timestamptz + n * interval '1 min')) FROM generate_series(1300, 1499) n;
SELECT wfproc.run();
SELECT seq FROM pg_temp.kept WHERE id = 'k-1' ORDER BY 1;
SELECT * FROM wfproc.verify('k-1');
CREATE TABLE pg_temp.truth_1 AS SELECT * FROM pg_temp.truth('k-1');

\echo == as of: around each, and at random
SELECT count(*) AS compared, count(*) FILTER (WHERE wfproc.state('k-1', clock) IS DISTINCT FROM state) AS different
FROM pg_temp.truth_1 WHERE seq IN (1, 2, 498, 499, 500, 501, 502, 999, 1000, 1001, 1250, 1498, 1499, 1500);
SELECT count(*) AS compared, count(*) FILTER (WHERE wfproc.state('k-1', clock + interval '59.999999 s') IS DISTINCT FROM state) AS different
FROM pg_temp.truth_1 WHERE seq % 83 = 0 OR seq IN (499, 500, 999, 1000);
SELECT wfproc.state('k-1', '2023-12-31') AS before, wfproc.state('k-1', 'infinity') = wfproc.state('k-1') AS after;
-- they are what it begins at: nothing before is handled again
SET LOCAL kept.not_before = '501';
SELECT wfproc.state('k-1', clock) = state AS same FROM pg_temp.truth_1 WHERE seq IN (500, 501, 999) ORDER BY seq;
SELECT pg_temp.attempt(format('SELECT wfproc.state(%L, %L)', 'k-1', clock)) FROM pg_temp.truth_1 WHERE seq = 499;
SET LOCAL kept.not_before = '1501';
SELECT wfproc.state('k-1', clock) = state AS same FROM pg_temp.truth_1 WHERE seq IN (1000, 1500);
-- so does the present, where its own snapshot is none
SAVEPOINT whole;
UPDATE wfproc.snapshot SET state = '{}' WHERE instance_id = (SELECT instance_id FROM wfproc.instance WHERE id = 'k-1');
SELECT wfproc.state('k-1') AS state;
ROLLBACK TO whole;
SET LOCAL kept.not_before = '';
SELECT s.seq, s.version, s.state FROM wfproc.states('kept', '2024-01-01 10:00') s;

\echo == known at: events that came late, with older stamps
SET LOCAL wfproc.fake_now = '2024-01-12 12:00';
SELECT count(wfproc.send('k-1', 'late', '{"n": 1000}', '2024-01-01'::timestamptz + n * interval '1 min')) FROM generate_series(1, 700) n;
SELECT wfproc.run();
SET LOCAL wfproc.fake_now = '2024-01-14 12:00';
SELECT count(wfproc.send('k-1', 'add', '{"n": 1}', '2024-01-02'::timestamptz + n * interval '1 min')) FROM generate_series(1, 600) n;
SELECT wfproc.run();
SELECT seq, at FROM pg_temp.kept WHERE id = 'k-1' ORDER BY 1;
DROP TABLE pg_temp.truth_1;
CREATE TABLE pg_temp.truth_1 AS SELECT * FROM pg_temp.truth('k-1');
CREATE TABLE pg_temp.asked AS
    SELECT as_of, known_at FROM unnest('{2023-01-01,2024-01-01 00:00,2024-01-01 08:18,2024-01-01 08:19,2024-01-01 16:39,2024-01-01 16:40,2024-01-01 23:00,2024-01-02 00:59,
        2024-01-02 01:00,2024-01-02 02:00,2024-01-02 09:59,2024-01-02 10:00,2024-01-03,infinity,NULL}'::timestamptz[]) as_of,
        unnest('{2024-01-10 11:59:59,2024-01-10 12:00,2024-01-11,2024-01-12 12:00,2024-01-14 11:59:59.999999,2024-01-14 12:00,infinity,NULL}'::timestamptz[]) known_at;
-- up to the first event that is beyond either
SELECT count(*) AS compared, count(*) FILTER (WHERE got IS DISTINCT FROM coalesce(wanted, '{}')) AS different, count(DISTINCT got) AS states
FROM pg_temp.asked, LATERAL (SELECT wfproc.state('k-1', as_of, known_at) AS got) g, LATERAL (
    SELECT (SELECT state FROM pg_temp.truth_1 t WHERE t.seq = coalesce(min(x.seq) - 1, (SELECT max(seq) FROM pg_temp.truth_1))) AS wanted
    FROM pg_temp.truth_1 x WHERE x.at > as_of OR x.recorded_at > known_at) w;
-- the newest that was known then is what it begins at
SET LOCAL kept.not_before = '1501';
SELECT wfproc.state('k-1', known_at => '2024-01-11') = state AS same FROM pg_temp.truth_1 WHERE seq = 1500;
SELECT wfproc.state('k-1', '2024-01-03', '2024-01-13') = state AS same FROM pg_temp.truth_1 WHERE seq = 2200;
SET LOCAL kept.not_before = '';

\echo == one that does not fit is not used
SET LOCAL client_min_messages = warning;
SELECT instance_id AS k1 FROM wfproc.instance WHERE id = 'k-1' \gset
SAVEPOINT whole;
UPDATE wfproc.kept_snapshot SET state = state || '{"sum": -1}' WHERE instance_id = :k1 AND seq = 1000;
SELECT wfproc.state('k-1', clock) = state AS same FROM pg_temp.truth_1 WHERE seq IN (999, 1001, 1499) ORDER BY seq;
-- the one before it is
SET LOCAL kept.not_before = '501';
SELECT wfproc.state('k-1', clock) = state AS same FROM pg_temp.truth_1 WHERE seq = 1001;
SET LOCAL kept.not_before = '';
SELECT * FROM wfproc.verify('k-1');
ROLLBACK TO whole;
UPDATE wfproc.kept_snapshot SET log_sha256 = sha256(log_sha256) WHERE instance_id = :k1;
SELECT wfproc.state('k-1', clock) = state AS same FROM pg_temp.truth_1 WHERE seq = 1001;
SELECT * FROM wfproc.verify('k-1');
ROLLBACK TO whole;
-- forged, with its hash: verify() finds it, and who folds on from it
UPDATE wfproc.kept_snapshot SET state = state || '{"sum": -1}', state_sha256 = sha256(convert_to((state || '{"sum": -1}')::text, 'UTF8')) WHERE instance_id = :k1 AND seq = 2500;
SELECT wfproc.state('k-1', clock) AS state FROM pg_temp.truth_1 WHERE seq = 2500;
SELECT pg_temp.attempt(format('SELECT wfproc.state(%L, %L)', 'k-1', clock)) FROM pg_temp.truth_1 WHERE seq = 2510;
SELECT * FROM wfproc.verify('k-1');
ROLLBACK TO whole;
UPDATE wfproc.kept_snapshot SET at = at - interval '1 us' WHERE instance_id = :k1 AND seq = 500;
SELECT * FROM wfproc.verify('k-1');
ROLLBACK TO whole;
UPDATE wfproc.kept_snapshot SET version = 2 WHERE instance_id = :k1 AND seq = 2500;
SELECT * FROM wfproc.verify('k-1');
ROLLBACK TO whole;
UPDATE wfproc.kept_snapshot SET seq = 1499 WHERE instance_id = :k1 AND seq = 1500;
SELECT wfproc.state('k-1', clock) = state AS same FROM pg_temp.truth_1 WHERE seq = 1499;
SELECT * FROM wfproc.verify('k-1');
ROLLBACK TO whole;
-- without any: the first event
DELETE FROM wfproc.kept_snapshot WHERE instance_id = :k1;
SELECT wfproc.state('k-1', clock) = state AS same FROM pg_temp.truth_1 WHERE seq = 1001;
SELECT * FROM wfproc.verify('k-1');
ROLLBACK TO whole;

\echo == versions
SELECT wfproc.define('kept', 'public.kept_adder', migrate => 'public.kept_migrate');
SELECT wfproc.start('kept', 'k-2', at => '2024-01-01', version => 1);
SELECT count(wfproc.send('k-2', 'add', jsonb_build_object('n', n), '2024-01-01'::timestamptz + n * interval '1 min')) FROM generate_series(1, 1200) n;
SELECT wfproc.upgrade('k-2', 2, '2024-01-01 11:40:30') > 0 AS sent;
SELECT wfproc.run();
SELECT seq, version, state FROM pg_temp.kept WHERE id = 'k-2' ORDER BY 1;
SELECT count(*) AS compared, count(*) FILTER (WHERE wfproc.state('k-2', clock) IS DISTINCT FROM state) AS different
FROM pg_temp.truth('k-2') WHERE seq IN (499, 500, 501, 700, 701, 702, 703, 999, 1000, 1001, 1202);
SELECT * FROM wfproc.verify('k-2');

\echo == large states are kept less often
SELECT wfproc.start('kept', 'k-large', '{"padding": 40000}', '2024-01-01', version => 1);
SELECT count(wfproc.send('k-large', 'add', '{"n": 1}', '2024-01-01'::timestamptz + n * interval '1 min')) FROM generate_series(1, 1100) n;
SELECT wfproc.run();
SELECT seq, state - 'padding' AS state FROM pg_temp.kept WHERE id = 'k-large' ORDER BY 1;

\echo == a fork has its own; an imported log gets them when it is activated
SELECT wfproc.fork('k-1', 1300, 'k-fork');
SELECT seq, state FROM pg_temp.kept WHERE id = 'k-fork' ORDER BY 1;
SELECT * FROM wfproc.verify('k-fork');
SET LOCAL kept.not_before = '501';
SELECT wfproc.state('k-fork', clock) = state AS same FROM pg_temp.truth_1 WHERE seq = 501;
SET LOCAL kept.not_before = '';
SELECT jsonb_agg(line) AS lines FROM wfproc.export_log('k-2') line \gset
SAVEPOINT whole;
ALTER TABLE wfproc.event DISABLE TRIGGER append_only;
DELETE FROM wfproc.event WHERE instance_id = (SELECT instance_id FROM wfproc.instance WHERE id = 'k-2');
DELETE FROM wfproc.kept_snapshot WHERE instance_id = (SELECT instance_id FROM wfproc.instance WHERE id = 'k-2');
DELETE FROM wfproc.instance WHERE id = 'k-2';
SELECT wfproc.import_log(:'lines');
SELECT count(*) FROM pg_temp.kept WHERE id = 'k-2';
SELECT wfproc.resume('k-2');
SELECT wfproc.run();
SELECT seq, version FROM pg_temp.kept WHERE id = 'k-2' ORDER BY 1;
SELECT * FROM wfproc.verify('k-2');
ROLLBACK TO whole;

\echo == redact: those since what is erased go, and come again
SELECT wfproc.redact('k-1', 700, 'asked for');
SELECT wfproc.run();
SELECT seq FROM pg_temp.kept WHERE id = 'k-1' ORDER BY 1;
SELECT * FROM wfproc.verify('k-1');
SELECT wfproc.state('k-1', clock) = state AS same FROM pg_temp.truth_1 WHERE seq IN (499, 501, 699) ORDER BY seq;
SELECT pg_temp.attempt(format('SELECT wfproc.state(%L, %L)', 'k-1', clock)) FROM pg_temp.truth_1 WHERE seq = 1001;
SELECT count(wfproc.send('k-1', 'add', '{"n": 1}', '2024-01-03'::timestamptz + n * interval '1 min')) FROM generate_series(1, 1500) n;
SELECT wfproc.run();
SELECT seq FROM pg_temp.kept WHERE id = 'k-1' ORDER BY 1;
SELECT wfproc.state('k-1', at) AS state FROM wfproc.history('k-1', 3100, 1);
SELECT * FROM wfproc.verify('k-1');
-- what is kept after it is all that there is to check them by
SAVEPOINT whole;
UPDATE wfproc.kept_snapshot SET state = state || '{"sum": -1}', state_sha256 = sha256(convert_to((state || '{"sum": -1}')::text, 'UTF8')) WHERE instance_id = :k1 AND seq = 3000;
SELECT * FROM wfproc.verify('k-1');
ROLLBACK TO whole;
UPDATE wfproc.kept_snapshot SET state = state || '{"sum": -1}', state_sha256 = sha256(convert_to((state || '{"sum": -1}')::text, 'UTF8')) WHERE instance_id = :k1 AND seq = 4000;
SELECT * FROM wfproc.verify('k-1');
ROLLBACK TO whole;
UPDATE wfproc.kept_snapshot SET at = at - interval '1 us' WHERE instance_id = :k1 AND seq = 3000;
SELECT * FROM wfproc.verify('k-1');
ROLLBACK TO whole;
-- another one, later: those between the two stay
SELECT wfproc.redact('k-1', 3700, 'asked for');
SELECT wfproc.run();
SELECT seq FROM pg_temp.kept WHERE id = 'k-1' ORDER BY 1;
SELECT * FROM wfproc.verify('k-1');
SELECT wfproc.state('k-1', at) AS state FROM wfproc.history('k-1', 3600, 1);
SELECT pg_temp.attempt(format('SELECT wfproc.state(%L, %L)', 'k-1', at)) FROM wfproc.history('k-1', 3700, 1);
SAVEPOINT whole;
UPDATE wfproc.kept_snapshot SET state = state || '{"sum": -1}', state_sha256 = sha256(convert_to((state || '{"sum": -1}')::text, 'UTF8')) WHERE instance_id = :k1 AND seq = 3000;
SELECT * FROM wfproc.verify('k-1');
ROLLBACK TO whole;
UPDATE wfproc.kept_snapshot SET at = at - interval '1 us' WHERE instance_id = :k1 AND seq = 3000;
SELECT * FROM wfproc.verify('k-1');
ROLLBACK TO whole;
DELETE FROM wfproc.snapshot WHERE instance_id = :k1;
SELECT * FROM wfproc.verify('k-1');
ROLLBACK TO whole;
-- of an instance that has closed
SELECT wfproc.send('k-2', 'close') > 0 AS sent;
SELECT wfproc.run();
SELECT wfproc.redact('k-2', 900, 'asked for');
SELECT seq FROM pg_temp.kept WHERE id = 'k-2' ORDER BY 1;
SELECT * FROM wfproc.verify('k-2');
SELECT wfproc.state('k-2', '2024-01-01 12:00') AS state;

\echo == a log that was cut, and has grown again
SELECT wfproc.start('kept', 'k-cut', at => '2024-01-01', version => 1);
SELECT count(wfproc.send('k-cut', 'add', '{"n": 1}', '2024-01-01'::timestamptz + n * interval '1 min')) FROM generate_series(1, 1010) n;
SELECT wfproc.run();
ALTER TABLE wfproc.event DISABLE TRIGGER append_only;
DELETE FROM wfproc.event WHERE seq > 400 AND instance_id = (SELECT instance_id FROM wfproc.instance WHERE id = 'k-cut');
ALTER TABLE wfproc.event ENABLE ALWAYS TRIGGER append_only;
SELECT count(wfproc.send('k-cut', 'add', '{"n": 2}', '2024-01-02'::timestamptz + n * interval '1 min')) FROM generate_series(1, 200) n;
SELECT wfproc.run();
SELECT seq, state FROM pg_temp.kept WHERE id = 'k-cut' ORDER BY 1;
SELECT * FROM wfproc.verify('k-cut');
ROLLBACK;
