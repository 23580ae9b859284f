-- check_version(): would the logs replay the same under another version, would an upgrade succeed now; and outcomes(): how
-- closed instances would have ended. Everything happens in one transaction that is rolled back, under a clock that stands.
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

-- an application for a permit: version 1 grants up to 100, version 2 up to 50 and asks for a name, version 3 keeps "size" as
-- "area", which its migrate turns over, version 4 wants "checked" before "decide"
CREATE FUNCTION public.rehearse_permit(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event = 'decide' AND (state->>'size')::int <= 100 THEN
        PERFORM wfproc.complete('"granted"');
    ELSIF event = 'decide' THEN
        PERFORM wfproc.fail('too large');
    ELSIF event = 'start' THEN
        PERFORM wfproc.set_timer('expired', '30 days');
    ELSIF event = 'expired' THEN
        PERFORM wfproc.complete('"expired"');
    ELSIF event = 'cancel' AND payload->>'reason' = 'slowly' THEN
        PERFORM wfproc.defer_cancel();
    ELSIF event = 'archive' THEN
        PERFORM wfproc.complete('"archived"');
    END IF;
    RETURN state || payload - 'by' - 'reason';
END $$;
SELECT wfproc.define('rehearse', 'public.rehearse_permit', max_attempts => 1);

-- closed ones
CREATE FUNCTION pg_temp.apply(id text, size int, VARIADIC events text[]) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM wfproc.start('rehearse', id, jsonb_build_object('size', size, 'name', id), '2024-02-01');
    FOR i IN 1 .. cardinality(events) LOOP
        PERFORM wfproc.send(id, split_part(events[i], ' ', 1), coalesce(nullif(substr(events[i], strpos(events[i] || ' ', ' ') + 1), ''), '{}')::jsonb,
                            '2024-02-01'::timestamptz + i * interval '1 day');
    END LOOP;
    RETURN id;
END $$;
SELECT pg_temp.apply('small-' || i, 10, 'decide') FROM generate_series(1, 3) i;
SELECT pg_temp.apply('medium', 80, 'note {"text": "a"}', 'decide');
SELECT pg_temp.apply('large', 200, 'decide');
SELECT pg_temp.apply('nameless', 10, 'rename {"name": null}', 'decide');
SELECT pg_temp.apply('odd', 10, 'rename {"name": "zero"}', 'decide');
SELECT pg_temp.apply('late', 10, 'checked {}', 'decide');
SELECT pg_temp.apply('talk', 10, 'note', 'checked', 'archive');
SELECT pg_temp.apply('cancelled', 20, 'note {}');
SELECT pg_temp.apply('slow', 20, 'note {}');
SELECT pg_temp.apply('terminated', 20, 'note {}');
SELECT wfproc.run();
SELECT wfproc.cancel('cancelled', 'no more');
SELECT wfproc.cancel('slow', 'slowly');
SELECT wfproc.terminate('terminated', 'enough');
SELECT wfproc.run();
SELECT wfproc.send('slow', 'archive') > 0 AS sent;
SELECT wfproc.run();
SELECT id, status, result, error FROM wfproc.instances WHERE workflow = 'rehearse' ORDER BY id;
-- open ones
SELECT pg_temp.apply('open', 20, 'note {"text": "b"}');
SELECT pg_temp.apply('open-large', 60, 'note {"text": "c"}');
SELECT pg_temp.apply('open-nameless', 20, 'rename {"name": null}');
SELECT wfproc.run();
-- and mail that is due, for one of them, one that is paused, and one that has not started
SELECT wfproc.pause('open-large', 'wait');
SELECT wfproc.run();
SELECT wfproc.send('open-large', 'decide') > 0 AS sent;
SELECT wfproc.send('open', 'note', '{"text": "d"}') > 0 AS sent;
SELECT pg_temp.apply('new', 70, 'note {"text": "e"}');
SELECT wfproc.start('rehearse', 'future', '{"size": 1}', '2024-04-01');

\echo == the version that they have
SELECT DISTINCT question, outcome, first_seq, new_state IS NULL AS no_new_state, error FROM wfproc.check_version('rehearse', 1) ORDER BY 1, 2;

\echo == version 2: other rules
CREATE OR REPLACE FUNCTION public.rehearse_permit(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event = 'decide' AND state->>'name' IS NULL THEN
        RAISE EXCEPTION 'who is it?' USING ERRCODE = 'P1111';
    ELSIF event = 'decide' AND (state->>'size')::int <= 50 THEN
        PERFORM wfproc.complete('"granted"');
    ELSIF event = 'decide' THEN
        PERFORM wfproc.fail('too large');
    ELSIF event = 'start' THEN
        PERFORM wfproc.set_timer('expired', '30 days');
    ELSIF event = 'expired' THEN
        PERFORM wfproc.complete('"expired"');
    ELSIF event = 'cancel' AND payload->>'reason' = 'slowly' THEN
        PERFORM wfproc.defer_cancel();
    ELSIF event = 'cancel' THEN
        PERFORM wfproc.complete('"let go"');
    ELSIF event = 'archive' THEN
        PERFORM wfproc.complete('"archived"');
    END IF;
    RETURN state || payload - 'by' - 'reason';
END $$;
SELECT wfproc.define('rehearse', 'public.rehearse_permit');
SELECT id, outcome, first_seq, state, new_state FROM wfproc.check_version('rehearse', 2, 'history');
SELECT id, first_seq, actions, new_actions, error FROM wfproc.check_version('rehearse', 2, 'history') WHERE outcome <> 'same';
SELECT id, question, outcome, first_seq, state, new_state, error FROM wfproc.check_version('rehearse', 2, 'upgrade');
SELECT status, result, new_status, new_result, instances, example FROM wfproc.outcomes('rehearse', 1);
SELECT status, result, new_status, new_result, instances, example FROM wfproc.outcomes('rehearse', 2);

\echo == version 3: another shape of the state
CREATE OR REPLACE FUNCTION public.rehearse_permit(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event = 'start' THEN
        PERFORM wfproc.set_timer('expired', '30 days');
        RETURN jsonb_build_object('area', payload->'size', 'name', payload->'name');
    ELSIF state->'area' IS NULL THEN
        RAISE EXCEPTION 'no area';
    ELSIF event = 'decide' AND (state->>'area')::int <= 100 THEN
        PERFORM wfproc.complete('"granted"');
    ELSIF event = 'decide' THEN
        PERFORM wfproc.fail('too large');
    END IF;
    RETURN state || payload - 'by' - 'reason';
END $$;
CREATE FUNCTION public.rehearse_migrate(state jsonb, old int, new int) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF state->>'name' IS NULL THEN
        RAISE EXCEPTION 'no name';
    END IF;
    RETURN state - 'size' || jsonb_build_object('area', state->'size');
END $$;
-- without a migrate, the rehearsal finds it
SELECT wfproc.define('rehearse', 'public.rehearse_permit');
SELECT id, outcome, first_seq, new_state, error FROM wfproc.check_version('rehearse', 3, 'upgrade');
-- with one
ALTER FUNCTION public.rehearse_permit COST 101;
SELECT wfproc.define('rehearse', 'public.rehearse_permit', migrate => 'public.rehearse_migrate') AS version \gset
SELECT :version > 2 AS published;
SELECT id, outcome, first_seq, state, new_state, error FROM wfproc.check_version('rehearse', :version, 'upgrade');
-- and that is what happens
SAVEPOINT rehearsed;
CREATE TABLE pg_temp.rehearsed AS SELECT * FROM wfproc.check_version('rehearse', :version, 'upgrade');
SELECT count(wfproc.upgrade(id, :version)) FROM pg_temp.rehearsed;
SELECT wfproc.run() > 0 AS ran;
SELECT wfproc.resume('open-large');
SELECT wfproc.run() > 0 AS ran;
SELECT id, r.outcome, i.version, i.status, s.state = r.new_state AS same_state, i.error = r.error AS same_error
FROM pg_temp.rehearsed r JOIN wfproc.instances i USING (id) JOIN wfproc.states('rehearse') s USING (id) ORDER BY id;
ROLLBACK TO rehearsed;
SELECT outcome, first_seq, count(*) FROM wfproc.check_version('rehearse', :version, 'history') GROUP BY 1, 2 ORDER BY 1, 2;
SELECT status, result, new_status, new_result, instances, example FROM wfproc.outcomes('rehearse', :version);

\echo == a version that postpones
CREATE OR REPLACE FUNCTION public.rehearse_permit(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event IN ('decide', 'note') AND NOT state ? 'checked' THEN
        PERFORM wfproc.postpone();
    ELSIF event = 'decide' OR event = 'archive' THEN
        PERFORM wfproc.complete(state->'trail');
    ELSIF event = 'checked' THEN
        state := state || '{"checked": true}';
    END IF;
    RETURN state || jsonb_build_object('trail', coalesce(state->>'trail', '') || ' ' || event);
END $$;
SELECT wfproc.define('rehearse', 'public.rehearse_permit') AS version \gset
SELECT pg_temp.apply('in turn', 10, 'checked', 'decide');
SELECT pg_temp.apply('wrong order', 10, 'decide', 'checked');
SELECT wfproc.run();
SELECT seq, event FROM wfproc.history('wrong order');
SELECT id, outcome, first_seq, actions, error FROM wfproc.check_version('rehearse', :version, 'history')
WHERE id IN ('small-1', 'in turn', 'wrong order');
SELECT status, result, new_status, new_result, instances, example FROM wfproc.outcomes('rehearse', :version);
-- what waits is handled as it would be
SELECT wfproc.start('rehearse', 'waits', '{"size": 5, "name": "w"}', '2024-02-01', 1);
SELECT wfproc.run();
SELECT wfproc.pause('waits');
SELECT wfproc.run();
SELECT wfproc.send('waits', e, at => '2024-02-02') > 0 AS sent FROM unnest('{decide,checked,note}'::text[]) e;
SELECT outcome, new_state, error FROM wfproc.check_version('rehearse', :version, 'upgrade') WHERE id = 'waits';
SELECT seq, event FROM wfproc.history('waits');
-- a timer that a step has cancelled does not come
CREATE OR REPLACE FUNCTION public.rehearse_permit(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event = 'checked' THEN
        PERFORM wfproc.cancel_timer('expired');
    ELSIF event = 'expired' THEN
        RAISE EXCEPTION 'it was cancelled';
    ELSIF event = 'start' THEN
        PERFORM wfproc.set_timer('expired', '3 days');
    END IF;
    RETURN state || jsonb_build_object('last', event);
END $$;
SELECT wfproc.define('rehearse', 'public.rehearse_permit') AS version \gset
SET LOCAL wfproc.fake_now = '2024-03-08 12:00';
SELECT outcome, new_state, error FROM wfproc.check_version('rehearse', :version, 'upgrade') WHERE id = 'waits';

-- nor one whose part of the state has changed
CREATE FUNCTION public.rehearse_phase(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event = 'start' THEN
        PERFORM wfproc.set_timer('too long', '1 hour', until_state_changes => 'phase');
    END IF;
    RETURN state || payload || jsonb_build_object('trail', coalesce(state->>'trail', '') || ' ' || event);
END $$;
SELECT wfproc.define('rehearse_phase', 'public.rehearse_phase');
SELECT wfproc.start('rehearse_phase', id, '{"phase": 1}', '2024-03-08 12:00') FROM unnest('{phase-1,phase-2}'::text[]) id;
SELECT wfproc.run();
SELECT wfproc.pause(id) FROM unnest('{phase-1,phase-2}'::text[]) id;
SELECT wfproc.run();
SELECT wfproc.send('phase-1', 'same', '{"phase": 1}', '2024-03-08 12:30') > 0 AS sent;
SELECT wfproc.send('phase-2', 'next', '{"phase": 2}', '2024-03-08 12:30') > 0 AS sent;
SET LOCAL wfproc.fake_now = '2024-03-08 14:00';
SELECT id, outcome, new_state FROM wfproc.check_version('rehearse_phase', 1, 'upgrade');
SELECT wfproc.resume(id) FROM unnest('{phase-1,phase-2}'::text[]) id;
SELECT wfproc.run();
SELECT id, state FROM wfproc.states('rehearse_phase');

\echo == down
SELECT wfproc.start('rehearse', 'high', '{"size": 5, "name": "h"}', '2024-03-05', 5);
SELECT wfproc.run();
SELECT outcome, new_state, error FROM wfproc.check_version('rehearse', 3, 'upgrade') WHERE id = 'high';
SELECT outcome, new_state, error FROM wfproc.check_version('rehearse', 4, 'upgrade') WHERE id = 'high';

\echo == a log that is not as it was
SAVEPOINT whole;
ALTER TABLE wfproc.event DISABLE TRIGGER append_only;
UPDATE wfproc.event SET payload = '{"size": 1}' WHERE seq = 1 AND instance_id = (SELECT instance_id FROM wfproc.instance WHERE id = 'open');
DELETE FROM wfproc.event WHERE seq = 2 AND instance_id = (SELECT instance_id FROM wfproc.instance WHERE id = 'medium');
UPDATE wfproc.event SET payload = '{}', payload_sha256 = digest(payload::text, 'sha256')
WHERE seq = 1 AND instance_id = (SELECT instance_id FROM wfproc.instance WHERE id = 'small-1');
SELECT id, question, outcome, first_seq, error FROM wfproc.check_version('rehearse', 2) WHERE id IN ('open', 'medium', 'small-1');
SELECT * FROM wfproc.outcomes('rehearse', 1) WHERE new_status = 'error';
ROLLBACK TO whole;

-- nor is its own handler
CREATE FUNCTION public.rehearse_moody(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE sql AS
    $$SELECT state || jsonb_build_object('mood', current_setting('rehearse.mood', true))$$;
SET LOCAL rehearse.mood = 'good';
SELECT wfproc.define('rehearse_moody', 'public.rehearse_moody');
SELECT wfproc.start('rehearse_moody', 'moody', at => '2024-03-08');
SELECT wfproc.run();
SELECT outcome FROM wfproc.check_version('rehearse_moody', 1);
SET LOCAL rehearse.mood = 'bad';
SELECT question, outcome, first_seq, state, new_state, error FROM wfproc.check_version('rehearse_moody', 1);

\echo == a sample, spread evenly
CREATE FUNCTION public.rehearse_plain(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT state || payload';
SELECT wfproc.define('rehearse_many', 'public.rehearse_plain');
SELECT count(wfproc.start('rehearse_many', 'm-' || i, at => '2024-02-01')) FROM generate_series(1, 1000) i;
SELECT wfproc.run();
SELECT n, count(*), min(substr(id, 3)::int), max(substr(id, 3)::int), string_agg(id, ' ') FILTER (WHERE n <= 4)
FROM unnest('{1,4,999,1000,2000,NULL}'::int[]) n, wfproc.check_version('rehearse_many', 1, 'history', n) GROUP BY 1 ORDER BY 1;
SELECT question, outcome, count(*) FROM wfproc.check_version('rehearse_many', 1) GROUP BY 1, 2 ORDER BY 1;
SELECT count(*) FROM wfproc.outcomes('rehearse_many', 1);

\echo == arguments
SELECT statement, pg_temp.attempt('SELECT * FROM wfproc.' || statement) FROM unnest(ARRAY[
    'check_version(NULL, 1)', $$check_version('rehearse', NULL)$$, $$check_version('nothing', 1)$$, $$check_version('rehearse', 77)$$,
    $$check_version('rehearse', 1, NULL)$$, $$check_version('rehearse', 1, 'both?')$$, $$check_version('rehearse', 1, sample => 0)$$,
    'outcomes(NULL, 1)', $$outcomes('rehearse', NULL)$$, $$outcomes('nothing', 1)$$, $$outcomes('rehearse', 77)$$]) statement;

\echo == rights
CREATE ROLE regress_rehearse_read;
CREATE ROLE regress_rehearse_operate;
SELECT wfproc.grant_usage(r) FROM unnest('{regress_rehearse_read,regress_rehearse_operate}'::text[]) r;
SELECT wfproc.grant_access('rehearse', 'regress_rehearse_' || p, p) FROM unnest('{read,operate}'::text[]) p;
CREATE FUNCTION pg_temp.attempt_all() RETURNS TABLE (statement text, result text) LANGUAGE sql AS $$
    SELECT statement, split_part(pg_temp.attempt('SELECT * FROM wfproc.' || statement), E'\n', 1) FROM unnest(ARRAY[
        $q$check_version('rehearse', 2)$q$, $q$check_version('rehearse_many', 1)$q$, $q$outcomes('rehearse', 2)$q$,
        $q$outcomes('rehearse_many', 1)$q$]) statement $$;
SET LOCAL ROLE regress_rehearse_read;
SELECT * FROM pg_temp.attempt_all();
SET LOCAL ROLE regress_rehearse_operate;
SELECT * FROM pg_temp.attempt_all();
RESET ROLE;

\echo == not inside a handler
CREATE FUNCTION public.rehearse_nosy(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('SELECT count(*) FROM wfproc.%s', payload->>'f');
    RETURN state;
END $$;
SELECT f, pg_temp.attempt(format($$SELECT * FROM wfproc.try_step('public.rehearse_nosy', '{}', 'e', jsonb_build_object('f', %L))$$, f))
FROM unnest(ARRAY[$$check_version('rehearse', 1)$$, $$outcomes('rehearse', 1)$$]) f;

\echo == nothing is written, so a read-only transaction will do
CREATE TABLE pg_temp.before AS
    SELECT (SELECT sum(hashtext(i::text)) FROM wfproc.instance i) AS instances, (SELECT sum(hashtext(e::text)) FROM wfproc.event e) AS events,
           (SELECT sum(hashtext(m::text)) FROM wfproc.mailbox m) AS mail, (SELECT count(*) FROM wfproc.dead_letter) AS dead;
SET LOCAL transaction_read_only = on;
SELECT * FROM pg_temp.attempt_all();
SELECT before = ROW((SELECT sum(hashtext(i::text)) FROM wfproc.instance i), (SELECT sum(hashtext(e::text)) FROM wfproc.event e),
                    (SELECT sum(hashtext(m::text)) FROM wfproc.mailbox m), (SELECT count(*) FROM wfproc.dead_letter)) AS unchanged
FROM pg_temp.before;
ROLLBACK;
