-- forecast(), forecasts() and fork(): what would happen, and what could have happened
\set QUIET on
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';
SET IntervalStyle = 'postgres';

CREATE SCHEMA forecast_test;
SET search_path = forecast_test;

-- runs a statement; its result, or its SQLSTATE, message and hint
CREATE FUNCTION try(sql text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    result text;
    message text;
    hint text;
    detail text;
BEGIN
    EXECUTE sql INTO result;
    RETURN NEXT 'ok: ' || COALESCE(result, 'null');
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT, detail = PG_EXCEPTION_DETAIL;
    RETURN NEXT SQLSTATE || ': ' || message;
    IF detail <> '' THEN
        RETURN NEXT '  detail: ' || detail;
    END IF;
    IF hint <> '' THEN
        RETURN NEXT '  hint: ' || hint;
    END IF;
END $$;

-- moves the clock of this transaction
CREATE FUNCTION clock_to(at timestamptz) RETURNS void LANGUAGE sql AS $$
    SELECT set_config('wfproc.fake_now', at::text, true)
$$;

CREATE FUNCTION show(id text, until timestamptz, extra jsonb = '[]') RETURNS SETOF text LANGUAGE sql AS $$
    SELECT concat_ws(' | ', seq, at, event, state, actions, error) FROM wfproc.forecast(id, until, extra)
$$;

CREATE FUNCTION log_of(id text) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT concat_ws(' ', seq, event, 'at', at, CASE WHEN payload ->> 'by' = session_user THEN payload - 'hash' || '{"by": "me"}' ELSE payload END,
                     'from ' || sender, CASE WHEN NOT live THEN 'not live' END)
    FROM wfproc.history(id) ORDER BY seq
$$;

-- an invoice: is reminded of every 10 days, three times, then fails; a payment is put off while it is disputed
CREATE FUNCTION invoice(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    CASE event
        WHEN 'start' THEN
            PERFORM wfproc.set_timer('remind', interval '10 days');
            RETURN payload || '{"reminders": 0}';
        WHEN 'remind' THEN
            IF (state ->> 'reminders')::int = 2 THEN
                PERFORM wfproc.fail('not paid');
                RETURN state;
            END IF;
            PERFORM wfproc.send('clerk', 'reminder', state);
            PERFORM wfproc.send(wfproc.self(), 'noted');
            PERFORM wfproc.set_timer('remind', interval '10 days');
            RETURN jsonb_set(state, '{reminders}', to_jsonb((state ->> 'reminders')::int + 1));
        WHEN 'paid' THEN
            IF state ? 'disputed' THEN
                PERFORM wfproc.postpone();
                RETURN state;
            END IF;
            PERFORM wfproc.cancel_timer('remind');
            PERFORM wfproc.complete(payload);
        WHEN 'disputed' THEN
            PERFORM wfproc.set_timer('patience', interval '3 days', until_state_changes => 'disputed');
            RETURN state || '{"disputed": true}';
        WHEN 'settled' THEN
            RETURN state - 'disputed';
        WHEN 'patience' THEN
            RETURN state - 'disputed' || '{"gave_in": true}';
        WHEN 'odd' THEN
            RAISE EXCEPTION 'odd event';
        WHEN 'late' THEN
            RETURN state || jsonb_build_object('late_at', wfproc.now());
        WHEN 'ring' THEN
            PERFORM wfproc.set_timer('ring', interval '0');
        WHEN 'who' THEN
            RETURN state || jsonb_build_object('who', wfproc.self());
        WHEN 'child.completed' THEN
            RETURN state || jsonb_build_object('child', wfproc.sender(), 'answer', payload);
        WHEN 'cancel' THEN
            IF state ? 'stubborn' THEN
                PERFORM wfproc.defer_cancel();
            END IF;
        ELSE NULL;
    END CASE;
    RETURN state;
END $$;
SELECT wfproc.define('invoice', 'invoice', max_attempts => 1);

\echo '--- timers that lead to timers; messages to itself arrive, those to others do not'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('invoice', 'i1', '{"amount": 10}');
\echo 'before anything is handled'
SELECT show('i1', '2030-01-15');
SELECT wfproc.run();
SELECT show('i1', '2030-01-15');
SELECT show('i1', '2031-01-01');
\echo 'nothing has happened'
SELECT log_of('i1');
SELECT event, at, timer FROM wfproc.agenda('i1');
SELECT count(*) FROM wfproc.dead_letters WHERE workflow = 'invoice';
\echo 'before the first timer: nothing'
SELECT count(*) FROM wfproc.forecast('i1', '2030-01-10 23:59');
\echo 'what is forecast is what happens'
CREATE TEMP TABLE forecast AS SELECT * FROM wfproc.forecast('i1', '2031-01-01');
SELECT clock_to('2030-01-11'), wfproc.run(), clock_to('2030-01-21'), wfproc.run(), clock_to('2030-01-31'), wfproc.run();
SELECT count(*), bool_and(f.at = r.at AND f.event = r.event AND f.state = r.state AND f.actions = r.actions)
FROM forecast f FULL JOIN (SELECT * FROM wfproc.replay('i1') WHERE seq > 1) r USING (seq);
SELECT status, error FROM wfproc.instances WHERE id = 'i1';
\echo 'an instance that has closed has no future'
SELECT count(*) FROM wfproc.forecast('i1', '2040-01-01');
ROLLBACK;

\echo '--- hypothetical events: in their places, postponed, cancelling timers; a timer that a change of the state cancels'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('invoice', 'i1', '{"amount": 10}');
SELECT wfproc.run();
\echo 'paid in time'
SELECT show('i1', '2031-01-01', '[{"event": "paid", "payload": {"cash": 10}, "at": "2030-01-05T00:00:00Z"}]');
\echo 'not in their order; disputed, then settled: the payment waits'
SELECT show('i1', '2030-01-08', '[{"event": "settled", "at": "2030-01-03"}, {"event": "disputed", "at": "2030-01-02"},
    {"event": "paid", "at": "2030-01-02 12:00"}]');
\echo 'disputed and not settled: its timer'
SELECT show('i1', '2030-01-08', '[{"event": "disputed", "at": "2030-01-02"}, {"event": "paid", "at": "2030-01-02 12:00"}]');
\echo 'without a stamp: now; an answer that is supposed; what comes after the end is not seen'
SELECT show('i1', '2030-01-08', '[{"event": "hello"}, {"event": "child.completed", "sender": "c", "payload": {"id": "c", "result": 1}},
    {"event": "paid", "at": "2030-01-09"}]');
\echo 'a stamp before the clock'
SELECT show('i1', '2030-01-08', '[{"event": "late", "at": "2029-01-01"}]');
\echo 'a handler that raises ends it'
SELECT show('i1', '2031-01-01', '[{"event": "odd", "at": "2030-01-12"}, {"event": "paid", "at": "2030-01-13"}]');
SELECT attempts, status FROM wfproc.instances WHERE id = 'i1';
\echo 'what is in the mailbox comes first'
SELECT wfproc.send('i1', 'disputed', NULL, '2030-01-02') > 0;
SELECT show('i1', '2030-01-03', '[{"event": "settled", "at": "2030-01-02"}]');
SELECT show('i1', '2030-01-03', '[{"event": "cancel", "at": "2030-01-02 06:00"}]');
ROLLBACK;

\echo '--- control events that wait; a paused instance is forecast as if it were resumed'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('invoice', 'i1', '{"amount": 10}');
SELECT wfproc.run();
SELECT wfproc.pause('i1', 'lunch');
SELECT regexp_replace(show('i1', '2030-01-12'), '"by": "[^"]*"', '"by": "me"');
SELECT wfproc.run();
SELECT show('i1', '2030-01-12');
SELECT wfproc.resume('i1');
SELECT show('i1', '2030-01-12');
SELECT wfproc.snapshot('i1'), wfproc.passivate('i1');
SELECT show('i1', '2030-01-12');
SELECT wfproc.terminate('i1', 'enough');
SELECT show('i1', '2030-01-12');
SELECT id, status, seq, clock, state, error FROM wfproc.forecasts('invoice', '2030-01-12');
ROLLBACK;

\echo '--- forecasts(): one row for each open instance'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('invoice', 'i' || n, jsonb_build_object('amount', n), at => '2030-01-01'::timestamptz + n * interval '1 day')
FROM generate_series(0, 4) n;
SELECT clock_to('2030-01-04 00:00+00');
SELECT wfproc.run();
SELECT wfproc.send('i1', 'paid') > 0;
SELECT wfproc.run();
SELECT wfproc.send('i2', 'odd', NULL, '2030-01-06') > 0;
SELECT id, status, seq, clock, state, error FROM wfproc.forecasts('invoice', '2030-01-13 12:00');
\echo 'all at once: had they been paid today'
SELECT id, status, seq, clock, state, error FROM wfproc.forecasts('invoice', '2030-01-13 12:00', '[{"event": "paid"}]');
\echo 'a set to join with'
SELECT status, count(*), sum((state ->> 'amount')::int) FROM wfproc.forecasts('invoice', '2031-01-01') GROUP BY 1 ORDER BY 1;
ROLLBACK;

\echo '--- over upgrades: a forecast goes on under the code that the process will have'
-- a rent: 1 counts months, 2 counts them in another place, and is not for those in arrears; 3 keeps the months of 2 by name
CREATE FUNCTION rent(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event IN ('start', 'month') THEN
        PERFORM wfproc.set_timer('month', interval '30 days');
    END IF;
    RETURN payload || state || jsonb_build_object('months', COALESCE((state ->> 'months')::int, -1) + 1);
END $$;
SELECT wfproc.define('rent', 'rent');
CREATE OR REPLACE FUNCTION rent(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM wfproc.set_timer('month', interval '20 days');
    RETURN state || jsonb_build_object('periods', (state ->> 'periods')::int + 1);
END $$;
CREATE FUNCTION rent_turned_over(state jsonb, from_version int, to_version int) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF state ? 'arrears' THEN
        RAISE EXCEPTION 'pay first';
    END IF;
    RETURN jsonb_build_object('periods', state -> 'months', 'from', from_version);
END $$;
SELECT wfproc.define('rent', 'rent', migrate => 'rent_turned_over');
CREATE OR REPLACE FUNCTION rent(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE sql AS
    $$ SELECT state || jsonb_build_object('last', event) $$;
SELECT wfproc.define('rent', 'rent'), wfproc.set_current_version('rent', 1);
CREATE FUNCTION show_upgraded(id text, until timestamptz, extra jsonb = '[]') RETURNS SETOF text LANGUAGE sql AS $$
    SELECT concat_ws(' | ', seq, at, event, state, jsonb_array_length(actions) || ' actions', error) FROM wfproc.forecast(id, until, extra)
$$;
-- what is in the tables about them: a forecast changes nothing of it
CREATE FUNCTION written() RETURNS text LANGUAGE sql AS $$
    WITH mine AS (SELECT i.* FROM wfproc.instance i JOIN wfproc.workflow w USING (workflow_id) WHERE w.name = 'rent')
    SELECT md5(string_agg(row, ',' ORDER BY row)) FROM (
        SELECT m::text AS row FROM mine m UNION ALL SELECT e::text FROM wfproc.event e JOIN mine USING (instance_id) UNION ALL
        SELECT b::text FROM wfproc.mailbox b JOIN mine USING (instance_id) UNION ALL SELECT s::text FROM wfproc.snapshot s JOIN mine USING (instance_id) UNION ALL
        SELECT d::text FROM wfproc.dead_letter d JOIN mine USING (instance_id) UNION ALL
        SELECT r::text FROM wfproc.rollout r JOIN wfproc.workflow w USING (workflow_id) WHERE w.name = 'rent') x
$$;
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('rent', 'r1'), wfproc.start('rent', 'r2'), wfproc.start('rent', 'r3', '{"arrears": 100}'), wfproc.start('rent', 'r4', attributes => '{"region": "us"}');
SELECT wfproc.run();
\echo 'a dated upgrade, at the stamp of a timer and between two'
SELECT wfproc.upgrade('r1', 2, '2030-03-02') > 0, wfproc.upgrade('r2', 2, '2030-02-10') > 0;
SELECT written() AS before \gset
SELECT show_upgraded('r1', '2030-04-01');
SELECT show_upgraded('r2', '2030-03-15');
\echo 'up to just before it'
SELECT show_upgraded('r2', '2030-02-09 23:59:59');
\echo 'and to the very stamp'
SELECT show_upgraded('r2', '2030-02-10');
SELECT written() = :'before' AS unchanged;
\echo 'one after the other, over two versions'
SELECT wfproc.upgrade('r2', 3, '2030-02-25') > 0;
SELECT written() AS before \gset
SELECT show_upgraded('r2', '2030-03-15');
SELECT written() = :'before' AS unchanged;
\echo 'a roll-out that is to come: before the first event stamped at or after it, supposed ones too'
SELECT wfproc.rollout('rent', 3, '2030-02-15', attributes => '{"region": "us"}') AS rollout \gset
SELECT written() AS before \gset
SELECT show_upgraded('r4', '2030-03-05');
SELECT show_upgraded('r4', '2030-03-05', '[{"event": "moved", "at": "2030-02-15"}, {"event": "early", "at": "2030-02-14"}]');
\echo 'with no event after it there is no upgrade yet'
SELECT count(*) FILTER (WHERE event = '$upgrade') FROM wfproc.forecast('r4', '2030-02-20');
\echo 'it is for some only'
SELECT id, status, seq, state, error FROM wfproc.forecasts('rent', '2030-03-05');
SELECT written() = :'before' AS unchanged;
\echo 'cancelled: none'
SELECT wfproc.cancel_rollout(:rollout);
SELECT count(*), count(*) FILTER (WHERE event = '$upgrade') FROM wfproc.forecast('r4', '2030-03-05');
\echo 'a migrate that fails ends it, and says why; by a date of its own and by a roll-out'
SELECT wfproc.rollout('rent', 2, '2030-02-15', max_failures => 1) AS rollout \gset
SELECT written() AS before \gset
SELECT show_upgraded('r3', '2030-06-01');
SELECT id, status, seq, error FROM wfproc.forecasts('rent', '2030-03-05') WHERE error IS NOT NULL;
SELECT written() = :'before' AS unchanged;
SELECT status, failed FROM wfproc.rollouts WHERE rollout_id = :rollout;
SELECT wfproc.cancel_rollout(:rollout), wfproc.upgrade('r3', 2, '2030-02-15') AS upgrade \gset
SELECT written() AS before \gset
SELECT show_upgraded('r3', '2030-06-01');
SELECT written() = :'before' AS unchanged;
\echo 'taken back: it goes on as it was'
SELECT wfproc.unsend('r3', :upgrade);
SELECT show_upgraded('r3', '2030-03-05');
\echo 'an upgrade at once is dealt with first'
SELECT wfproc.upgrade('r3', 3) > 0;
SELECT show_upgraded('r3', '2030-03-05');
SELECT wfproc.upgrade('r4', 3) > 0;
SELECT written() AS before \gset
SELECT show_upgraded('r4', '2030-03-05');
SELECT written() = :'before' AS unchanged;
\echo 'nothing of all this was done; a read-only transaction may ask as well'
SELECT count(*) FILTER (WHERE status <> 'running' OR version <> 1) FROM wfproc.instances WHERE workflow = 'rent';
SET LOCAL transaction_read_only = on;
SELECT count(*) FROM wfproc.forecasts('rent', '2031-01-01');
ROLLBACK;
\echo 'what is forecast is what happens'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('rent', 'r' || n, CASE WHEN n = 3 THEN '{"arrears": 1}' ELSE '{}' END::jsonb) FROM generate_series(1, 4) n;
SELECT wfproc.run();
SELECT wfproc.upgrade('r1', 2, '2030-02-10') > 0, wfproc.upgrade('r1', 3, '2030-04-25') > 0, wfproc.rollout('rent', 2, '2030-03-01') > 0;
CREATE TEMP TABLE forecast AS SELECT i.id, f.* FROM wfproc.instances i, wfproc.forecast(i.id, '2030-06-01') f WHERE workflow = 'rent';
SELECT clock_to('2030-06-01'), wfproc.run();
SELECT id, count(*), count(*) FILTER (WHERE (f.at, f.event, f.state, f.actions) IS NOT DISTINCT FROM (r.at, r.event, r.state, r.actions)) AS same, count(*) FILTER (WHERE f.event = '$upgrade') AS upgrades
FROM forecast f FULL JOIN (SELECT i.id, r.* FROM wfproc.instances i, wfproc.replay(i.id) r WHERE workflow = 'rent' AND seq > 1) r USING (id, seq) GROUP BY id ORDER BY id;
SELECT id, version, status, error, (wfproc.verify(id)).ok FROM wfproc.instances WHERE workflow = 'rent' ORDER BY id;
ROLLBACK;

\echo '--- a future without an end'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('invoice', 'i1');
SELECT wfproc.run();
SELECT try($$SELECT count(*) FROM wfproc.forecast('i1', '2030-01-02', '[{"event": "ring"}]')$$);
SELECT id, status, error FROM wfproc.forecasts('invoice', '2030-01-02', '[{"event": "ring"}]');
ROLLBACK;

\echo '--- it writes nothing: also in a read-only transaction'
BEGIN;
SELECT clock_to('2020-01-01 00:00+00');
SELECT wfproc.start('invoice', 'done', '{"amount": 1}'), wfproc.send('done', 'disputed') > 0;
SELECT wfproc.run();
SELECT wfproc.send('done', 'settled') > 0, wfproc.send('done', 'paid', '{"cash": 1}') > 0;
SELECT wfproc.run();
COMMIT;
BEGIN READ ONLY;
SELECT count(*) FROM wfproc.forecast('done', '2020-06-01');
SELECT count(*) FROM wfproc.forecasts('invoice', '2020-06-01', '[{"event": "paid"}]');
SELECT try($$SELECT wfproc.fork('done', 1, 'f')$$);
COMMIT;

\echo '--- bad input'
SELECT try($$SELECT wfproc.forecast(NULL, now())$$);
SELECT try($$SELECT wfproc.forecast('nobody', now())$$);
SELECT try($$SELECT wfproc.forecast('done', NULL)$$);
SELECT try($$SELECT wfproc.forecast('done', 'infinity')$$);
SELECT try($$SELECT wfproc.forecasts('nothing', now())$$);
SELECT try($$SELECT wfproc.forecasts('invoice', '-infinity')$$);
SELECT e, try(format('SELECT count(*) FROM wfproc.forecast(''done'', now(), %L)', e)) FROM (VALUES
    ('{}'), ('7'), ('[7]'), ('[[]]'), ('[{}]'), ('[{"event": 1}]'), ('[{"event": ""}]'), ('[{"event": "$pause"}]'),
    ('[{"event": "start"}]'), ('[{"event": "a"}, {"event": "a", "at": "soon"}]'), ('[{"event": "a", "at": "infinity"}]'),
    ('[{"event": "a", "at": 7}]'), ('[{"event": "a", "when": "now"}]'), ('[{"event": "a\tb"}]'), ('[]'), (NULL)) v(e);
SET wfproc.max_payload = 1024;
SELECT try($$SELECT wfproc.forecast('done', now(), jsonb_build_array(jsonb_build_object('event', 'a', 'payload', repeat('x', 2000))))$$);
RESET wfproc.max_payload;

\echo '--- rights: read for a forecast, operate for a fork'
CREATE ROLE forecast_reader;
GRANT USAGE ON SCHEMA forecast_test TO forecast_reader;
SELECT wfproc.grant_usage('forecast_reader');
SET ROLE forecast_reader;
SELECT try($$SELECT count(*) FROM wfproc.forecast('done', now())$$);
SELECT try($$SELECT count(*) FROM wfproc.forecasts('invoice', now())$$);
RESET ROLE;
SELECT wfproc.grant_access('invoice', 'forecast_reader', 'read');
SET ROLE forecast_reader;
SELECT try($$SELECT count(*) FROM wfproc.forecast('done', now())$$);
SELECT try($$SELECT count(*) FROM wfproc.forecasts('invoice', now())$$);
SELECT try($$SELECT wfproc.fork('done', 1, 'f')$$);
RESET ROLE;

\echo '--- in a handler'
CREATE FUNCTION asks(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM wfproc.forecast('done', now());
    RETURN state;
END $$;
CREATE FUNCTION forks(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM wfproc.fork('done', 1, 'f');
    RETURN state;
END $$;
SELECT try($$SELECT wfproc.try_step('asks', '{}', 'x')$$);
SELECT try($$SELECT wfproc.try_step('forks', '{}', 'x')$$);

\echo '--- fork(): what if the invoice had not been settled'
BEGIN;
SELECT clock_to('2020-02-01 00:00+00');
SELECT log_of('done');
SELECT wfproc.fork('done', 2, 'other');
SELECT log_of('other');
SELECT workflow, version, status, error, started_at, live_from, parent FROM wfproc.instances WHERE id = 'other';
SELECT wfproc.state('other');
\echo 'the copy has the stamps and digests of the source, and a chain of its own'
SELECT a.seq, a.recorded_at = b.recorded_at, a.digest = b.digest, a.hash = b.hash
FROM wfproc.history('done') a JOIN wfproc.history('other') b USING (seq) WHERE seq <= 2;
SELECT h.payload ->> 'id', h.payload ->> 'seq', h.payload ->> 'hash' = encode(s.hash, 'hex')
FROM wfproc.history('other') h, wfproc.history('done') s WHERE h.event = '$fork' AND s.seq = 2;
SELECT * FROM wfproc.verify('other');
SELECT count(*), bool_or(diverged) FROM wfproc.replay('other');
SELECT (wfproc.digest('other')).seq;
\echo 'it is paused; its timers were not taken along'
SELECT count(*) FROM wfproc.agenda('other');
SELECT wfproc.send('other', 'late', NULL, '2020-01-20') > 0, wfproc.send('other', 'patience') > 0;
SELECT wfproc.run();
SELECT wfproc.state('other');
SELECT show('other', '2020-03-01');
SELECT wfproc.resume('other');
SELECT wfproc.run();
SELECT log_of('other');
SELECT * FROM wfproc.verify('other');
\echo 'a fork of the fork that runs at once'
SELECT wfproc.fork('other', 6, 'third', false);
SELECT wfproc.send('third', 'paid') > 0;
SELECT wfproc.run();
SELECT log_of('third') OFFSET 5;
SELECT status FROM wfproc.instances WHERE id = 'third';
SELECT * FROM wfproc.verify('third');
\echo 'the source has not changed'
SELECT count(*) FROM wfproc.history('done');
SELECT * FROM wfproc.verify('done');
ROLLBACK;

\echo '--- a past that cannot be another''s; a cancel that was put off stays so'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('invoice', 'i1', '{"stubborn": true}', attributes => '{"a": 1}');
SELECT wfproc.run();
SELECT wfproc.cancel('i1', 'no more');
SELECT wfproc.run();
SELECT wfproc.send('i1', 'who') > 0;
SELECT wfproc.run();
SELECT wfproc.fork('i1', 2, 'f2', false);
SELECT cancelling, attributes FROM wfproc.instances WHERE id = 'f2';
SELECT wfproc.send('f2', 'paid') > 0;
SELECT wfproc.run();
SELECT status FROM wfproc.instances WHERE id = 'f2';
SELECT try($$SELECT wfproc.fork('i1', 3, 'f3')$$);
SELECT count(*) FROM wfproc.instances WHERE id = 'f3';
ROLLBACK;

\echo '--- an instance that closed, and had a payload erased since'
BEGIN;
SELECT clock_to('2020-03-01 00:00+00');
SELECT wfproc.redact('done', 3, 'privacy');
SELECT log_of('done') OFFSET 2;
SELECT try($$SELECT wfproc.fork('done', 5, 'f')$$);
SELECT try($$SELECT wfproc.fork('done', 4, 'f')$$);
SELECT try($$SELECT wfproc.fork('done', 3, 'f')$$);
SELECT try($$SELECT wfproc.fork('done', 2, 'f')$$);
ROLLBACK;

\echo '--- fork(): bad input'
SELECT try($$SELECT wfproc.fork(NULL, 1, 'f')$$);
SELECT try($$SELECT wfproc.fork('nobody', 1, 'f')$$);
SELECT try($$SELECT wfproc.fork('done', NULL, 'f')$$);
SELECT try($$SELECT wfproc.fork('done', 0, 'f')$$);
SELECT try($$SELECT wfproc.fork('done', 5, 'f')$$);
SELECT try($$SELECT wfproc.fork('done', 4, 'f')$$);
SELECT try($$SELECT wfproc.fork('done', 3, NULL)$$);
SELECT try($$SELECT wfproc.fork('done', 3, '')$$);
SELECT try($$SELECT wfproc.fork('done', 3, 'done')$$);
SELECT try($$SELECT wfproc.fork('done', 3, 'f', NULL)$$);
SELECT count(*) FROM wfproc.instances WHERE id = 'f';

\echo '--- a log that does not fit its code has no forecast and no fork'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('invoice', 'i1', '{"amount": 10}');
SELECT wfproc.run();
ALTER TABLE wfproc.event DISABLE TRIGGER append_only;
UPDATE wfproc.event SET payload = '{"amount": 11}' WHERE instance_id = (SELECT instance_id FROM wfproc.instance WHERE id = 'i1');
SELECT try($$SELECT wfproc.forecast('i1', '2030-02-01')$$);
SELECT id, status, seq, error FROM wfproc.forecasts('invoice', '2030-02-01');
SELECT try($$SELECT wfproc.fork('i1', 1, 'f')$$);
ROLLBACK;

DROP OWNED BY forecast_reader;
SELECT wfproc.revoke_access('invoice', 'forecast_reader', 'read');
DROP ROLE forecast_reader;
