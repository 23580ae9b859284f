-- Checking all instances: scrub() and what it remembers; what pauses an instance and what is only shown; resume(accept_state);
-- what verify() says of an instance's row.
-- Everything happens in transactions that are rolled back, under a clock that stands: no worker ever sees it.
\set QUIET on
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, MDY';

CREATE FUNCTION pg_temp.attempt(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    message text;
    hint text;
    result text;
BEGIN
    EXECUTE statement INTO result;
    RETURN 'no error: ' || coalesce(result, 'NULL');
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
    RETURN replace(concat_ws(E'\n', SQLSTATE || ': ' || message, nullif(hint, '')), session_user, 'SUPERUSER');
END $$;

-- what is known of checks
CREATE FUNCTION pg_temp.checks() RETURNS SETOF text LANGUAGE sql AS $$
    SELECT concat_ws(' | ', i.id, i.status, s.checked_at, 'seq ' || s.seq, s.first_bad_seq, s.reason, 'since ' || s.found_at)
    FROM wfproc.scrub s JOIN wfproc.instance i USING (instance_id) WHERE i.id LIKE 'sc-%' ORDER BY i.id
$$;
CREATE FUNCTION pg_temp.log_of(of text) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT concat_ws(' ', seq, event, payload - 'by', 'at ' || at) FROM wfproc.history(of) ORDER BY seq
$$;

BEGIN;
SET LOCAL wfproc.fake_now = '2024-03-01 12:00';
-- adds by a rate that is in a table: whoever changes it changes the past
CREATE TABLE public.scrub_rate (rate int);
INSERT INTO public.scrub_rate VALUES (1);
CREATE FUNCTION public.scrub_adder(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    added int := (SELECT rate FROM public.scrub_rate);
BEGIN
    CASE event
        WHEN 'close' THEN PERFORM wfproc.complete(state);
        WHEN 'refuse' THEN PERFORM wfproc.fail('refused');
        WHEN 'raise' THEN RAISE EXCEPTION 'secret %', payload;
        WHEN 'later' THEN PERFORM wfproc.set_timer('tick', after => interval '60 days', until_state_changes => 'key');
        WHEN 'picky' THEN
            IF added > 5 THEN
                RAISE EXCEPTION 'secret %', payload;
            END IF;
        WHEN 'mark' THEN PERFORM wfproc.set_attributes('{"mark": 1}');
        WHEN 'cancel' THEN
            IF state ? 'deferring' THEN
                PERFORM wfproc.defer_cancel();
            END IF;
        ELSE NULL;
    END CASE;
    RETURN state || payload || jsonb_build_object('sum', coalesce((state ->> 'sum')::int, 0) + added);
END $$;
SELECT wfproc.define('scrub', 'public.scrub_adder', snapshot_every => 1000, max_attempts => 2);
SELECT wfproc.start('scrub', 'sc-' || n, at => '2024-02-01') FROM generate_series(1, 4) n;
SELECT count(wfproc.send('sc-' || n, 'add', NULL, '2024-02-02')) FROM generate_series(1, 4) n, generate_series(1, 2);
SELECT wfproc.send('sc-4', 'close', NULL, '2024-02-03') > 0;
SELECT wfproc.start('scrub', 'sc-later', at => '2024-04-01');
SELECT wfproc.run();

\echo '--- nothing is wrong'
SELECT wfproc.scrub();
SELECT pg_temp.checks();
SELECT * FROM wfproc.findings WHERE id LIKE 'sc-%';
\echo 'those first that were checked longest ago, until there are enough rows'
SET LOCAL wfproc.fake_now = '2024-03-02 12:00';
SELECT wfproc.scrub(4);
SET LOCAL wfproc.fake_now = '2024-03-03 12:00';
SELECT wfproc.scrub(7);
SELECT pg_temp.checks();
SELECT wfproc.scrub(1);
SELECT pg_temp.checks();

\echo '--- what is wrong: shown, told once, and pausing only who could not be activated'
SELECT wfproc.snapshot('sc-2');
SELECT wfproc.run();
SELECT wfproc.send('sc-2', 'add', NULL, '2024-02-04') > 0;
SELECT wfproc.run();
ALTER TABLE wfproc.event DISABLE TRIGGER append_only;
SAVEPOINT tampering;
UPDATE wfproc.event SET payload = '{"x": 1}' WHERE seq = 2 AND instance_id IN (SELECT instance_id FROM wfproc.instance WHERE id ~ '^sc-[124]$');
SET LOCAL wfproc.fake_now = '2024-03-04 12:00';
SELECT wfproc.scrub();
SELECT pg_temp.checks();
SELECT id, workflow, first_bad_seq, reason, found_at, checked_at FROM wfproc.findings WHERE id LIKE 'sc-%' ORDER BY id;
SELECT id, status, error, finding FROM wfproc.instances WHERE id LIKE 'sc-%' ORDER BY id;
\echo 'nothing new: not told again, and found since then'
SET LOCAL wfproc.fake_now = '2024-03-05 12:00';
SELECT wfproc.scrub();
SELECT id, found_at, checked_at FROM wfproc.findings WHERE id LIKE 'sc-%' ORDER BY id;
\echo 'something else of the same: told'
UPDATE wfproc.event SET payload = '{}' WHERE seq = 2 AND instance_id IN (SELECT instance_id FROM wfproc.instance WHERE id = 'sc-4');
UPDATE wfproc.event SET at = at - interval '1 s' WHERE seq = 3 AND instance_id IN (SELECT instance_id FROM wfproc.instance WHERE id = 'sc-4');
SELECT wfproc.scrub();
\echo 'a log that was changed is not accepted'
SELECT pg_temp.attempt($$ SELECT wfproc.resume('sc-1', accept_state => true) $$);
SELECT pg_temp.attempt($$ SELECT wfproc.resume('sc-2', accept_state => true) $$);
\echo 'good again: told; resume() is what makes it run'
UPDATE wfproc.event SET payload = '{}' WHERE seq = 2 AND instance_id IN (SELECT instance_id FROM wfproc.instance WHERE id LIKE 'sc-%');
SET LOCAL client_min_messages = notice;
SELECT wfproc.scrub();
SET LOCAL client_min_messages = warning;
SELECT pg_temp.checks();
SELECT * FROM wfproc.findings WHERE id LIKE 'sc-%';
SELECT * FROM wfproc.verify('sc-1');
SELECT wfproc.resume('sc-1'), wfproc.run();
SELECT id, status, error FROM wfproc.instances WHERE id = 'sc-1';
SELECT pg_temp.log_of('sc-1');
SELECT * FROM wfproc.verify('sc-1');
ROLLBACK TO tampering;

\echo '--- the code does otherwise now'
SET LOCAL wfproc.fake_now = '2024-03-06 12:00';
SELECT wfproc.start('scrub', 'sc-5', '{"key": 1}', at => '2024-02-01'), wfproc.send('sc-5', 'later', NULL, '2024-02-02') > 0, wfproc.send('sc-5', 'picky', NULL, '2024-02-02 01:00') > 0;
SELECT wfproc.run();
SELECT wfproc.snapshot('sc-2'), wfproc.run();
UPDATE public.scrub_rate SET rate = 2;
SELECT wfproc.scrub();
SELECT id, status, error, finding FROM wfproc.instances WHERE id LIKE 'sc-%' ORDER BY id;
\echo 'resume() changes nothing'
SELECT wfproc.resume('sc-1'), wfproc.run();
SELECT id, status, error FROM wfproc.instances WHERE id = 'sc-1';
SELECT pg_temp.log_of('sc-1');
SELECT pg_temp.attempt($$ SELECT wfproc.state('sc-1') $$);
\echo 'resume(accept_state) records it: the state is what the code makes of the log now'
SELECT wfproc.resume('sc-1', accept_state => true), wfproc.resume('sc-1', true);
SELECT wfproc.run();
SELECT id, status, error, finding FROM wfproc.instances WHERE id = 'sc-1';
SELECT pg_temp.log_of('sc-1');
SELECT wfproc.state('sc-1');
SELECT * FROM wfproc.verify('sc-1');
SELECT s.seq, s.state FROM wfproc.snapshot s JOIN wfproc.instance i USING (instance_id) WHERE i.id = 'sc-1';
\echo 'and it goes on; also without the snapshot, and under the old rate'
SELECT wfproc.send('sc-1', 'add', '{"n": 1}', '2024-03-02') > 0, wfproc.run();
DELETE FROM wfproc.snapshot WHERE instance_id = (SELECT instance_id FROM wfproc.instance WHERE id = 'sc-1');
SELECT wfproc.state('sc-1'), wfproc.verify('sc-1');
SELECT wfproc.send('sc-1', 'add', '{"n": 2}', '2024-03-03') > 0, wfproc.run();
SELECT wfproc.state('sc-1'), wfproc.verify('sc-1');
SELECT seq, event, state, diverged FROM wfproc.replay('sc-1');
\echo 'before the acceptance there is no state'
SELECT pg_temp.attempt($$ SELECT wfproc.state('sc-1', as_of => '2024-02-01') $$);
\echo 'a good check clears the finding'
SET LOCAL client_min_messages = notice;
SELECT wfproc.scrub();
SET LOCAL client_min_messages = warning;
SELECT id, first_bad_seq, reason FROM wfproc.findings WHERE id LIKE 'sc-%' ORDER BY id;
\echo 'what comes after it is not accepted by it'
SAVEPOINT again;
UPDATE public.scrub_rate SET rate = 3;
SELECT * FROM wfproc.verify('sc-1');
SELECT wfproc.resume('sc-1', true), wfproc.run();
SELECT * FROM wfproc.verify('sc-1');
SELECT seq, event, payload -> 'seq' AS accepted FROM wfproc.history('sc-1') WHERE event IN ('$accept', '$resume');
ROLLBACK TO again;
\echo 'nor is a change of the log before it'
SAVEPOINT again;
UPDATE wfproc.event SET payload = '{"x": 1}' WHERE seq = 2 AND instance_id = (SELECT instance_id FROM wfproc.instance WHERE id = 'sc-1');
SELECT * FROM wfproc.verify('sc-1');
ROLLBACK TO again;
SAVEPOINT again;
UPDATE wfproc.event SET digest = 1 WHERE name = '$accept' AND instance_id = (SELECT instance_id FROM wfproc.instance WHERE id = 'sc-1');
SELECT * FROM wfproc.verify('sc-1');
ROLLBACK TO again;
\echo 'a difference before a good snapshot: it runs, and what is accepted is the state that it has'
SELECT * FROM wfproc.verify('sc-2');
SELECT wfproc.state('sc-2');
SELECT wfproc.resume('sc-2', true), wfproc.run();
SELECT pg_temp.log_of('sc-2');
SELECT wfproc.state('sc-2'), wfproc.verify('sc-2');
\echo 'the state that was accepted can be erased: then the fold begins at the snapshot'
SELECT wfproc.redact('sc-2', seq, 'asked for') FROM wfproc.history('sc-2') WHERE event = '$accept';
SELECT wfproc.run();
SELECT wfproc.state('sc-2'), wfproc.verify('sc-2');
SELECT wfproc.send('sc-2', 'add', '{"n": 1}', '2024-03-03') > 0, wfproc.run();
SELECT wfproc.state('sc-2'), wfproc.verify('sc-2');
\echo 'a timer until a change of the state is known still'
SELECT wfproc.resume('sc-5', true), wfproc.send('sc-5', 'add', '{"key": 2}', '2024-02-02 12:00') > 0;
SELECT wfproc.run();
SELECT seq, event FROM wfproc.history('sc-5', 2);
SELECT event, timer FROM wfproc.agenda('sc-5');
SELECT * FROM wfproc.verify('sc-5');
\echo 'nothing to be accepted: resume()'
SELECT wfproc.resume('sc-5', true);
SELECT wfproc.pause('sc-5'), wfproc.run();
SELECT wfproc.resume('sc-5', true), wfproc.run();
SELECT event, payload - 'by' FROM wfproc.history('sc-5') ORDER BY seq DESC LIMIT 2;
\echo 'the code does not get through: its message, which may quote a payload, is not told'
SAVEPOINT again;
SELECT wfproc.start('scrub', 'sc-6', at => '2024-02-01'), wfproc.send('sc-6', 'picky', '{"card": 4711}', '2024-02-02') > 0;
SELECT wfproc.run();
UPDATE public.scrub_rate SET rate = 6;
SELECT wfproc.scrub() > 0;
SELECT pg_temp.attempt($$ SELECT wfproc.resume('sc-6', true) $$);
ROLLBACK TO again;
\echo 'snapshots of the past are those of the code of their time'
SAVEPOINT again;
UPDATE public.scrub_rate SET rate = 1;
SELECT wfproc.start('scrub', 'sc-k', at => '2024-02-01');
SELECT count(wfproc.send('sc-k', 'add', NULL, timestamptz '2024-02-02' + n * interval '1 min')) FROM generate_series(1, 520) n;
SELECT wfproc.run();
SELECT k.seq, k.state, s.seq FROM wfproc.kept_snapshot k JOIN wfproc.snapshot s USING (instance_id) JOIN wfproc.instance i USING (instance_id) WHERE i.id = 'sc-k';
UPDATE public.scrub_rate SET rate = 2;
DELETE FROM wfproc.snapshot WHERE instance_id = (SELECT instance_id FROM wfproc.instance WHERE id = 'sc-k');
SELECT * FROM wfproc.verify('sc-k');
SET LOCAL client_min_messages = error;
SELECT wfproc.scrub() > 0;
SET LOCAL client_min_messages = warning;
SELECT wfproc.resume('sc-k', true), wfproc.run();
SELECT wfproc.state('sc-k'), wfproc.verify('sc-k');
SELECT wfproc.state('sc-k', as_of => timestamptz '2024-02-02' + interval '499 min');
SELECT pg_temp.attempt($$ SELECT wfproc.state('sc-k', as_of => timestamptz '2024-02-02' + interval '500 min') $$);
SELECT count(wfproc.send('sc-k', 'add', NULL, timestamptz '2024-02-03' + n * interval '1 min')) FROM generate_series(1, 500) n;
SELECT wfproc.run();
SELECT k.seq, k.state FROM wfproc.kept_snapshot k JOIN wfproc.instance i USING (instance_id) WHERE i.id = 'sc-k' ORDER BY 1;
SELECT wfproc.verify('sc-k');
UPDATE wfproc.kept_snapshot SET changed_seq = changed_seq - 1 WHERE seq = 1000 AND instance_id = (SELECT instance_id FROM wfproc.instance WHERE id = 'sc-k');
SELECT wfproc.verify('sc-k');
ROLLBACK TO again;
\echo 'a fork, and a copy elsewhere, of a log that was accepted'
SELECT wfproc.fork('sc-1', 7, 'sc-fork');
SELECT wfproc.state('sc-fork'), wfproc.verify('sc-fork'), (SELECT status FROM wfproc.instances WHERE id = 'sc-fork');
CREATE TEMP TABLE exported AS SELECT jsonb_agg(l) AS lines FROM wfproc.export_log('sc-1') l;
DELETE FROM wfproc.event WHERE instance_id = (SELECT instance_id FROM wfproc.instance WHERE id = 'sc-1');
DELETE FROM wfproc.snapshot WHERE instance_id = (SELECT instance_id FROM wfproc.instance WHERE id = 'sc-1');
DELETE FROM wfproc.scrub WHERE instance_id = (SELECT instance_id FROM wfproc.instance WHERE id = 'sc-1');
DELETE FROM wfproc.instance WHERE id = 'sc-1';
SELECT wfproc.import_log(lines) FROM exported;
SELECT wfproc.state('sc-1'), wfproc.verify('sc-1');
SELECT wfproc.resume('sc-1'), wfproc.run();
SELECT wfproc.state('sc-1'), wfproc.verify('sc-1');
ROLLBACK TO tampering;

\echo '--- the row of an instance'
-- what is changed in an instance, and what verify() says
CREATE FUNCTION pg_temp.changed(of text, change text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found text;
BEGIN
    EXECUTE format('UPDATE wfproc.instance SET %s WHERE id = %L', change, of);
    found := wfproc.verify(of);
    RAISE EXCEPTION USING ERRCODE = 'P0001', MESSAGE = found;
EXCEPTION WHEN raise_exception THEN
    RETURN of || ': ' || change || ': ' || SQLERRM;
END $$;
SET LOCAL wfproc.fake_now = '2024-03-06 12:00';
SELECT wfproc.start('scrub', 'sc-p', '{}', '2024-02-01', attributes => '{"mine": null, "kept": 1}'), wfproc.pause('sc-p', 'a reason');
SELECT wfproc.start('scrub', 'sc-c', '{"deferring": true}', '2024-02-01'), wfproc.cancel('sc-c', 'enough', NULL);
SELECT wfproc.start('scrub', 'sc-f', '{}', '2024-02-01'), wfproc.send('sc-f', 'mark', NULL, '2024-02-02') > 0, wfproc.send('sc-f', 'refuse', NULL, '2024-02-03') > 0;
SELECT wfproc.start('scrub', 'sc-t', '{}', '2024-02-01'), wfproc.terminate('sc-t', 'no more');
SELECT wfproc.start('scrub', 'sc-r', '{}', '2024-02-01'), wfproc.send('sc-r', 'raise', '{}', '2024-02-02') > 0;
SELECT wfproc.run();
SELECT id, status, cancelling, attempts, closed_at, result, split_part(error, ':', 1) AS error, attributes, wfproc.verify(id) FROM wfproc.instances WHERE id ~ '^sc-[a-z]' ORDER BY id;
SELECT pg_temp.changed('sc-p', c) FROM unnest(ARRAY[$$status = 'running'$$, $$status = 'terminated', closed_at = '2024-02-01'$$, $$error = 'a reason'$$, $$attributes = '{}'$$, $$started_at = '2024-01-01'$$, $$parent = 'sc-1'$$]) c;
SELECT pg_temp.changed('sc-c', c) FROM unnest(ARRAY[$$cancelling = false$$, $$status = 'cancelled', closed_at = '2024-03-06 12:00'$$, $$result = '1'$$, $$error = 'x'$$]) c;
SELECT pg_temp.changed('sc-f', c) FROM unnest(ARRAY[$$status = 'cancelled'$$, $$status = 'running'$$, $$error = NULL$$, $$closed_at = '2024-02-03 00:01'$$, $$result = '{}'$$, $$attributes = '{"mark": 1.0}'$$, $$attributes = '{"mark": 1, "more": 2}'$$, $$cancelling = true$$]) c;
SELECT pg_temp.changed('sc-t', c) FROM unnest(ARRAY[$$error = 'other'$$, $$closed_at = '2024-03-06 12:00'$$, $$status = 'failed'$$, $$version = 2$$, $$first_version = 2$$]) c;
\echo 'retries are not in the log'
SELECT pg_temp.changed('sc-r', c) FROM unnest(ARRAY[$$attempts = 7, error = 'other', retry_at = NULL$$, $$attempts = 0, retry_at = NULL$$, $$attempts = 0, error = NULL$$]) c;
SET LOCAL wfproc.fake_now = '2024-03-06 13:00';
SELECT wfproc.run();
SELECT id, status, attempts, wfproc.verify(id) FROM wfproc.instances WHERE id = 'sc-r';
SELECT wfproc.skip('sc-r'), wfproc.run();
SELECT id, status, attempts, error, wfproc.verify(id) FROM wfproc.instances WHERE id = 'sc-r';
\echo 'one that has not begun'
SELECT pg_temp.changed('sc-later', c) FROM unnest(ARRAY[$$error = NULL$$, $$status = 'paused'$$, $$status = 'completed'$$, $$version = 7$$]) c;
SELECT wfproc.verify('sc-later');
\echo 'where the log cannot be folded, its status is in the row alone'
SAVEPOINT broken;
SELECT format('DROP FUNCTION %s CASCADE', p.oid::regprocedure) AS drop FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE p.proname = 'scrub_adder' AND n.nspname ~ '^wfproc_code_' \gset
:drop;
SET LOCAL client_min_messages = error;
SELECT wfproc.scrub() > 0;
SET LOCAL client_min_messages = warning;
SELECT id, status, regexp_replace(finding, 'code_\d+', 'code_N') FROM wfproc.instances WHERE id IN ('sc-3', 'sc-4', 'sc-p') ORDER BY id;
SELECT wfproc.terminate('sc-3', 'cannot go on'), wfproc.run();
SELECT wfproc.define('scrub', 'public.scrub_adder');
SELECT id, status, error LIKE 'function wfproc_code_%' AS code, wfproc.verify(id) FROM wfproc.instances WHERE id IN ('sc-1', 'sc-3', 'sc-p') ORDER BY id;
SELECT pg_temp.changed('sc-1', $$status = 'terminated', closed_at = now()$$), pg_temp.changed('sc-1', $$unlogged = false$$), pg_temp.changed('sc-3', $$unlogged = false$$);
SELECT wfproc.resume('sc-1'), wfproc.run();
SELECT id, status, error, wfproc.verify(id) FROM wfproc.instances WHERE id = 'sc-1';
ROLLBACK TO broken;

\echo '--- who may, and with what'
CREATE ROLE regress_scrub_reader;
CREATE ROLE regress_scrub_other;
SELECT wfproc.grant_usage(r) FROM unnest('{regress_scrub_reader,regress_scrub_other}'::text[]) r;
SELECT wfproc.grant_access('scrub', 'regress_scrub_reader', 'read');
UPDATE wfproc.event SET payload = '{"x": 1}' WHERE seq = 2 AND instance_id = (SELECT instance_id FROM wfproc.instance WHERE id = 'sc-1');
SELECT wfproc.scrub() > 0;
SET LOCAL ROLE regress_scrub_reader;
SELECT id, reason FROM wfproc.findings WHERE id LIKE 'sc-%';
SELECT pg_temp.attempt('SELECT wfproc.scrub()');
SELECT pg_temp.attempt($$ SELECT wfproc.resume('sc-1', true) $$);
SELECT pg_temp.attempt('SELECT count(*) FROM wfproc.scrub');
SET LOCAL ROLE regress_scrub_other;
SELECT count(*) FROM wfproc.findings;
RESET ROLE;
SELECT pg_temp.attempt('SELECT wfproc.scrub(0)');
SELECT pg_temp.attempt('SELECT wfproc.scrub(-1)');
SELECT pg_temp.attempt($$ SELECT wfproc.resume('sc-3', NULL) $$);
SELECT pg_temp.attempt($$ SELECT wfproc.resume(NULL, true) $$);
SELECT pg_temp.attempt($$ SELECT wfproc.resume('sc-4', true) $$);
SELECT pg_temp.attempt($$ SELECT wfproc.resume('sc-nobody', true) $$);
SELECT pg_temp.attempt($$ SELECT wfproc.resume('sc-later', true) $$);
CREATE FUNCTION public.scrub_caller(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    RETURN jsonb_build_object('said', wfproc.scrub());
EXCEPTION WHEN OTHERS THEN
    RETURN jsonb_build_object('said', SQLSTATE || ': ' || SQLERRM);
END $$;
SELECT wfproc.define('scrub_caller', 'public.scrub_caller');
SELECT wfproc.start('scrub_caller', 'sc-caller'), wfproc.run();
SELECT wfproc.state('sc-caller');
SAVEPOINT read_only;
SET TRANSACTION READ ONLY;
SELECT pg_temp.attempt('SELECT wfproc.scrub()');
ROLLBACK TO read_only;
ROLLBACK;
