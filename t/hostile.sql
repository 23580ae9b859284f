-- What t/030_hostile.pl works with: a ledger of all that is sent, handlers that do no wrong, one that does any, and what must hold.

-- The ledger is written by the transaction that sends: so whatever becomes of a call, the two agree.
CREATE TABLE sent (mail_id bigint PRIMARY KEY, id text NOT NULL, event text NOT NULL, payload text NOT NULL, client int, number int);
CREATE TABLE committed (what text PRIMARY KEY);
CREATE TABLE rates (rate int);
INSERT INTO rates VALUES (7);

-- what two payloads have in common that are the same; big ones are not unpacked for that
CREATE FUNCTION fingerprint(payload jsonb) RETURNS text LANGUAGE sql RETURN CASE WHEN pg_column_size(payload) > 5000 THEN 'big' ELSE md5(payload::text) END;

CREATE FUNCTION submit(id text, event text, payload jsonb = '{}', at timestamptz = NULL, client int = NULL, number int = NULL) RETURNS void
LANGUAGE sql AS $$ INSERT INTO sent SELECT wfproc.send(id, event, payload, at), id, event, fingerprint(payload), client, number $$;

CREATE FUNCTION take_back(event text) RETURNS bigint LANGUAGE sql AS $$
    WITH mine AS MATERIALIZED (SELECT s.mail_id, s.id FROM sent s WHERE s.event = take_back.event),
         taken AS MATERIALIZED (SELECT m.mail_id FROM mine m WHERE wfproc.unsend(m.id, m.mail_id)),
         gone AS (DELETE FROM sent s USING taken t WHERE s.mail_id = t.mail_id RETURNING 1)
    SELECT count(*) FROM gone $$;

-- Sends to some without a pause until so many of the others have had their event, or none had for 15 s, which it notes.
CREATE TABLE flood_end (event text, stalled bool);
CREATE PROCEDURE flood(event text, wanted bigint, swimmers text, count int) LANGUAGE plpgsql AS $$
DECLARE
    had bigint := -1;
    has bigint;
    since timestamptz := clock_timestamp();
BEGIN
    LOOP
        FOR i IN 1 .. 100 LOOP
            PERFORM wfproc.send(swimmers || 1 + (random() * (count - 1))::int, 'swim') FROM generate_series(1, 3);
            COMMIT;
        END LOOP;
        SELECT count(*) INTO has FROM wfproc.event e WHERE e.name = flood.event;
        IF has <> had THEN
            since := clock_timestamp();
        END IF;
        had := has;
        EXIT WHEN has >= wanted OR clock_timestamp() > since + interval '15 s';
    END LOOP;
    INSERT INTO flood_end VALUES (event, has < wanted);
    COMMIT;
END $$;

-- Locks a table until a worker has waited for it, and a while longer.
CREATE PROCEDURE hold(held regclass, seconds float) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', held);
    FOR i IN 1 .. 400 LOOP
        EXIT WHEN EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.relation = held AND NOT l.granted AND a.backend_type LIKE 'wfproc worker%');
        PERFORM pg_stat_clear_snapshot(), pg_sleep(0.02);
    END LOOP;
    PERFORM pg_sleep(seconds);
END $$;

-- Whoever folds its log finds the same chain.  A setting that somebody left behind would show, too.
CREATE FUNCTION innocent(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    CASE event
        WHEN 'pass' THEN PERFORM wfproc.send(payload ->> 'to', 'passed', payload - 'to');
        WHEN 'ring' THEN PERFORM wfproc.set_timer('bell ' || (payload ->> 'n'), after => interval '20 ms', payload => payload);
        ELSE NULL;
    END CASE;
    RETURN jsonb_build_object('n', COALESCE((state ->> 'n')::int, 0) + 1, 'chain', md5(concat_ws('|', state ->> 'chain', event, payload)),
        'session', concat_ws('|', current_setting('DateStyle'), current_setting('TimeZone'), current_setting('extra_float_digits')));
END $$;
CREATE FUNCTION chain_on(chain text, event text, payload jsonb) RETURNS text LANGUAGE sql RETURN md5(concat_ws('|', chain, event, payload));
CREATE AGGREGATE chain(text, jsonb) (SFUNC = chain_on, STYPE = text);

-- Does as its payload says, and counts.
CREATE FUNCTION villain(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    junk text[];
    long text;
    c refcursor;
    statement text;
BEGIN
    IF payload ? 'acts' THEN
        PERFORM wfproc.send(wfproc.self(), 'never'), wfproc.set_timer('never', after => interval '1 ms');
    END IF;
    CASE payload ->> 'do'
        WHEN 'raise' THEN
            CASE payload ->> 'where'
                WHEN 'again' THEN
                    BEGIN
                        RAISE EXCEPTION 'villain' USING ERRCODE = payload ->> 'state';
                    EXCEPTION WHEN OTHERS OR query_canceled THEN
                        RAISE;
                    END;
                WHEN 'deep' THEN
                    PERFORM villain(state, event, payload || '{"where": "here"}');
                ELSE
                    RAISE EXCEPTION 'villain' USING ERRCODE = payload ->> 'state';
            END CASE;
        WHEN 'swallow' THEN
            LOOP
                BEGIN
                    CASE payload ->> 'by'
                        WHEN 'sleep' THEN PERFORM pg_sleep(1000);
                        WHEN 'lock' THEN PERFORM pg_advisory_xact_lock(4710, n) FROM generate_series(1, 10) n; PERFORM pg_sleep(10);
                        ELSE LOOP NULL; END LOOP;
                    END CASE;
                EXCEPTION WHEN OTHERS OR query_canceled THEN
                    NULL;
                END;
            END LOOP;
        WHEN 'overrun' THEN
            BEGIN
                PERFORM pg_sleep(100);
            EXCEPTION WHEN query_canceled THEN
                NULL;
            END;
            PERFORM pg_sleep((payload ->> 'more')::float);
        WHEN 'spin' THEN
            LOOP NULL; END LOOP;
        WHEN 'nest' THEN
            BEGIN
                PERFORM villain(state, event, payload);
            EXCEPTION WHEN OTHERS THEN
                PERFORM villain(state, event, payload);
            END;
        WHEN 'recurse' THEN PERFORM villain(state, event, payload);
        WHEN 'hog' THEN
            FOR i IN 1 .. 2000 LOOP
                junk[i] := repeat(chr(97 + i % 26), 1000000);
            END LOOP;
        WHEN 'lock' THEN PERFORM pg_advisory_lock(4711, n) FROM generate_series(1, (payload ->> 'count')::int) n;
        WHEN 'sleep' THEN PERFORM pg_sleep((payload ->> 'seconds')::float);
        WHEN 'wait' THEN    -- until the test opens the gate
            PERFORM pg_advisory_xact_lock_shared(4713, 1);
            WHILE NOT pg_try_advisory_xact_lock_shared(4713, 2) LOOP
                PERFORM pg_sleep(0.01);
            END LOOP;
        WHEN 'leave' THEN
            PERFORM set_config('DateStyle', 'German', false), set_config('TimeZone', 'Asia/Kathmandu', false), set_config('extra_float_digits', '-3', false),
                set_config('search_path', 'nowhere', false), set_config('statement_timeout', '1', false), set_config('lock_timeout', '1', false),
                set_config('work_mem', '64', false), set_config('plpgsql.extra_errors', 'all', false), set_config('enable_indexscan', 'off', false);
            FOREACH statement IN ARRAY ARRAY['CREATE TEMP TABLE sent (n int)', 'PREPARE p AS SELECT 1', 'LISTEN wfproc', 'DECLARE c CURSOR WITH HOLD FOR SELECT 1',
                'SELECT lo_open(1, 262144)', 'SELECT pg_advisory_lock(4711, 4711)', 'SET SESSION AUTHORIZATION DEFAULT', 'NOTIFY wfproc', 'LOCK TABLE rates'] LOOP
                BEGIN
                    EXECUTE statement;
                EXCEPTION WHEN OTHERS THEN
                    NULL;
                END;
            END LOOP;
            OPEN c FOR SELECT generate_series(1, 1000000);
            FETCH c INTO long;
        WHEN 'say' THEN
            long := repeat('x', (payload ->> 'length')::int);
            CASE payload ->> 'by'
                WHEN 'fail' THEN PERFORM wfproc.fail(long);
                WHEN 'reject' THEN PERFORM wfproc.reject(long);
                WHEN 'detail' THEN RAISE EXCEPTION 'villain' USING DETAIL = long, HINT = long;
                ELSE RAISE EXCEPTION '%', long;
            END CASE;
        WHEN 'read' THEN state := state || jsonb_build_object('rate', (SELECT rate FROM rates));
        WHEN 'watch' THEN PERFORM wfproc.monitor(payload ->> 'whom');
        WHEN 'complete' THEN PERFORM wfproc.complete(jsonb_build_object('long', repeat('z', (payload ->> 'length')::int)));
        ELSE NULL;
    END CASE;
    RETURN state || jsonb_build_object('n', COALESCE((state ->> 'n')::int, 0) + 1);
END $$;

-- pure, and its plans are cold after a restart
CREATE FUNCTION pure(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    a int := COALESCE((state ->> 'n')::int, 0);
BEGIN
    RETURN state || jsonb_build_object('n', a + 1);
END $$;

GRANT SELECT, UPDATE ON rates TO mallory;
SELECT wfproc.grant_usage('mallory');
ALTER FUNCTION villain OWNER TO mallory;
ALTER FUNCTION pure OWNER TO mallory;
-- a lock that is held counts as an attempt of whoever meets it ten times
SELECT wfproc.define('innocent', 'innocent', max_attempts => 1000, retry_delay => '50 ms');
SET ROLE mallory;
SELECT wfproc.define('villain_' || f, 'villain', max_attempts => 2, on_failure => f, retry_delay => '20 ms', handler_timeout => '300 ms') FROM unnest('{pause,fail,dead_letter}'::text[]) f;
SELECT wfproc.define('patient', 'villain', max_attempts => 1000, retry_delay => '50 ms', handler_timeout => '1 min', snapshot_every => 100000);
SELECT wfproc.define('pure', 'pure', max_attempts => 1000, retry_delay => '50 ms', snapshot_every => 100000);
RESET ROLE;

--
-- What must hold
--

-- Each place in which a mail can be.  One that was rejected or skipped is a dead letter beside its row of the log.
CREATE VIEW places AS
    SELECT e.mail_id, i.id, e.name AS event, e.payload, 'log' AS place FROM wfproc.event e JOIN wfproc.instance i USING (instance_id)
    WHERE e.mail_id IS NOT NULL AND e.sender IS NULL AND e.name NOT LIKE '$%' AND e.name <> 'start'
    UNION ALL
    SELECT m.mail_id, i.id, m.name, m.payload, 'mailbox' FROM wfproc.mailbox m JOIN wfproc.instance i USING (instance_id)
    WHERE m.sender IS NULL AND m.name NOT LIKE '$%' AND m.name <> 'start'
    UNION ALL
    SELECT d.mail_id, d.id, d.event, d.payload, 'dead letter' FROM wfproc.dead_letters d
    WHERE d.sender IS NULL AND NOT EXISTS (SELECT FROM wfproc.event e WHERE e.mail_id = d.mail_id AND e.name = d.event);

CREATE FUNCTION logged(which text) RETURNS bigint LANGUAGE sql AS $$
    SELECT count(*) FROM wfproc.event e JOIN wfproc.instance i USING (instance_id) WHERE i.id = which AND e.name NOT LIKE '$%' $$;

-- Whether a villain has ended as it must: it has started, misbehaved ("do"), and was sent another event ("after").
CREATE FUNCTION ended(which text, how text) RETURNS bool LANGUAGE sql AS $$
    SELECT CASE how
        WHEN 'pause' THEN i.status = 'paused' AND i.error NOT LIKE 'diverged%' AND i.waiting = 2 AND logged(which) = 1
        WHEN 'fail' THEN i.status = 'failed' AND i.waiting = 0 AND logged(which) = 1
        WHEN 'dead_letter' THEN i.status = 'running' AND i.waiting = 0 AND logged(which) = 2
            AND EXISTS (SELECT FROM wfproc.dead_letters d WHERE d.id = which AND d.event = 'do')
        WHEN 'waits' THEN i.status = 'running' AND i.waiting = 2 AND logged(which) = 1
        WHEN 'rejected' THEN i.status = 'running' AND i.waiting = 0 AND logged(which) = 3
            AND EXISTS (SELECT FROM wfproc.dead_letters d WHERE d.id = which AND d.event = 'do')
        ELSE i.status = 'running' AND i.waiting = 0 AND i.attempts = 0 AND logged(which) = 3
        END
    FROM wfproc.instances i WHERE i.id = which $$;

CREATE FUNCTION settled(which text) RETURNS bool LANGUAGE sql AS $$
    SELECT bool_or(ended(which, how)) FROM unnest('{pause,fail,dead_letter,rejected,goes on}'::text[]) how $$;

-- Which of the conditions, {what: SQL}, do not hold (yet), and how things are instead.
CREATE FUNCTION unmet(conditions jsonb) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    c record;
    met bool;
BEGIN
    FOR c IN SELECT key, value FROM jsonb_each_text(conditions) LOOP
        BEGIN
            EXECUTE 'SELECT ' || c.value INTO met;
            IF met IS NOT TRUE THEN
                RETURN NEXT c.key;
            END IF;
        EXCEPTION WHEN OTHERS THEN
            RETURN NEXT c.key || ' (' || SQLSTATE || ': ' || SQLERRM || ')';
        END;
    END LOOP;
END $$;

-- What is wrong as soon as it is seen, whoever did what.
CREATE VIEW wrong_now AS
    SELECT format('%s of workflow %s is %s: %s', i.id, w.name, i.status, left(i.error, 100)) AS what
    FROM wfproc.instance i JOIN wfproc.workflow w USING (workflow_id)
    WHERE w.name = 'innocent' AND i.status <> 'running' OR i.error LIKE 'diverged%';

-- what processes have been told by others and by themselves, or will be
CREATE VIEW told AS SELECT name, payload FROM wfproc.event WHERE sender IS NOT NULL UNION ALL SELECT name, payload FROM wfproc.mailbox WHERE sender IS NOT NULL;

-- What is wrong at the end.
CREATE VIEW wrong_at_end AS
    SELECT format('lost: event %s of %s (mail_id %s)', s.event, s.id, s.mail_id) AS what FROM sent s WHERE NOT EXISTS (SELECT FROM places p WHERE p.mail_id = s.mail_id)
    UNION ALL
    SELECT format('doubled: mail_id %s of %s is in %s', p.mail_id, min(p.id), string_agg(p.place, ', ')) FROM places p GROUP BY p.mail_id HAVING count(*) > 1
    UNION ALL
    SELECT format('not as sent: mail_id %s of %s', s.mail_id, s.id) FROM sent s JOIN places p USING (mail_id) WHERE (s.id, s.event, s.payload) IS DISTINCT FROM (p.id, p.event, fingerprint(p.payload))
    UNION ALL
    SELECT format('invented: event %s of %s', p.event, p.id) FROM places p WHERE p.event <> 'swim' AND NOT EXISTS (SELECT FROM sent s WHERE s.mail_id = p.mail_id)
    UNION ALL
    SELECT format('out of order: client %s''s event %s of %s', client, number, id)
    FROM (SELECT s.client, s.number, s.id, lag(s.number) OVER (PARTITION BY s.client, s.id ORDER BY e.seq) AS before
          FROM sent s JOIN wfproc.event e USING (mail_id) WHERE s.client IS NOT NULL) o
    WHERE before > number
    UNION ALL
    SELECT format('message %s -> %s %s times', e.payload ->> 'n', e.payload ->> 'to', count(p.name))
    FROM wfproc.event e LEFT JOIN told p ON p.name = 'passed' AND p.payload = e.payload - 'to' WHERE e.name = 'pass' GROUP BY e.payload HAVING count(p.name) <> 1
    UNION ALL
    SELECT format('timer %s rang %s times', e.payload ->> 'n', count(b.name))
    FROM wfproc.event e LEFT JOIN told b ON b.name = 'bell ' || (e.payload ->> 'n') WHERE e.name = 'ring' GROUP BY e.payload HAVING count(b.name) <> 1
    UNION ALL
    SELECT format('%s has the state %s, and its log gives %s after %s', f.id, s, f.chain, f.n)
    FROM (SELECT i.id, count(*) AS n, chain(e.name, e.payload ORDER BY e.seq) AS chain FROM wfproc.event e JOIN wfproc.instance i USING (instance_id)
          JOIN wfproc.workflow w USING (workflow_id) WHERE w.name = 'innocent' AND e.name NOT LIKE '$%' GROUP BY i.id) f, wfproc.state(f.id) s
    WHERE (s ->> 'n', s ->> 'chain', s ->> 'session') IS DISTINCT FROM (f.n::text, f.chain, 'ISO, MDY|UTC|1')
    UNION ALL
    SELECT format('verify(%s): %s at seq %s', i.id, v.reason, v.first_bad_seq) FROM wfproc.instance i, wfproc.verify(i.id) v WHERE NOT v.ok
    UNION ALL
    SELECT format('%s of the %s has a text of %s bytes', id, what, length)
    FROM (SELECT id, 'instance' AS what, octet_length(error) AS length FROM wfproc.instance UNION ALL SELECT id, 'dead letter', octet_length(reason) FROM wfproc.dead_letter) t
    WHERE length > 1100000
    UNION ALL
    SELECT format('pid %s (%s) keeps %s advisory locks', a.pid, a.backend_type, count(*)) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'advisory' AND l.classid BETWEEN 4710 AND 4713 GROUP BY a.pid, a.backend_type
    UNION ALL
    SELECT what FROM wrong_now;
