-- start(), send(), unsend(), reschedule(): arguments, bad inputs, sets, keys, rollback, and hostile text everywhere
\set QUIET on
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';

CREATE SCHEMA start_send_test;
SET search_path = start_send_test;

-- runs a statement; its result, or its SQLSTATE, message and hint
CREATE FUNCTION try(sql text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    result text;
    message text;
    detail text;
    hint text;
BEGIN
    EXECUTE sql INTO result;
    RETURN NEXT 'ok: ' || COALESCE(result, 'null');
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN NEXT SQLSTATE || ': ' || message;
    IF detail <> '' THEN
        RETURN NEXT '  detail: ' || detail;
    END IF;
    IF hint <> '' THEN
        RETURN NEXT '  hint: ' || hint;
    END IF;
END $$;

-- tries a statement in which $1 is a literal
CREATE FUNCTION try_with(sql text, value text) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT try(replace(sql, '$1', COALESCE(quote_literal(value), 'NULL')))
$$;

CREATE FUNCTION clock_to(at timestamptz) RETURNS void LANGUAGE sql AS $$
    SELECT set_config('wfproc.fake_now', at::text, true)
$$;

CREATE FUNCTION keep(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event = 'end' THEN
        PERFORM wfproc.complete();
    END IF;
    RETURN state || jsonb_build_object(event, payload);
END $$;
SELECT wfproc.define('ss', 'keep');
SELECT wfproc.define('ss_accepts', 'keep', accepts => '{paid,shipped}');

CREATE FUNCTION mails(id text) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT concat_ws(' ', event, 'at', at, payload, 'key ' || idempotency_key) FROM wfproc.agenda(id, max => 100000)
$$;

\echo '--- start(): defaults'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('ss') ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$';
SELECT count(DISTINCT wfproc.start('ss')) FROM generate_series(1, 100);
SELECT wfproc.start('ss', 'ss-1');
SELECT id, workflow, version, status, parent, attributes, started_at, live_from, closed_at, result, error, attempts, retry_at, cancelling, finding, waiting, lag FROM wfproc.instances WHERE id = 'ss-1';
SELECT mails('ss-1');
SELECT wfproc.state('ss-1'), wfproc.digest('ss-1') IS NOT NULL, (wfproc.verify('ss-1')).ok;
SELECT wfproc.run();
SELECT wfproc.state('ss-1');
\echo 'all arguments'
SELECT wfproc.start('ss', 'ss-2', '{"amount": 1.50}', '2029-01-01 00:00+00', 1, '{"customer": 7}', '-infinity', 'error');
SELECT id, workflow, version, status, parent, attributes, started_at, live_from, closed_at, result, error, attempts, retry_at, cancelling, finding, waiting, lag FROM wfproc.instances WHERE id = 'ss-2';
SELECT wfproc.start('ss', 'ss-3', at => '2030-06-01 00:00+00', live_from => 'infinity');
SELECT wfproc.send('ss-3', 'before it starts') > 0;
SELECT wfproc.run();
SELECT wfproc.state('ss-2'), wfproc.state('ss-3');
SELECT clock_to('2030-06-01 00:00+00');
SELECT wfproc.run();
SELECT seq, event, at FROM wfproc.history('ss-3');
ROLLBACK;

\echo '--- start(): an id that is taken'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('ss', 'ss-1', '{"first": true}');
SELECT try($$ SELECT wfproc.start('ss', 'ss-1') $$);
SELECT try($$ SELECT wfproc.start('ss', 'ss-1', if_exists => 'ignore') $$);
SELECT try($$ SELECT wfproc.start('ss_accepts', 'ss-1', if_exists => 'ignore') $$);
SELECT try($$ SELECT wfproc.start('ss', 'ss-1', if_exists => 'replace') $$);
SELECT try($$ SELECT wfproc.start('ss', 'ss-1', if_exists => NULL) $$);
\echo 'NULL is no id that was left out, nor is what looks like one'
SELECT try($$ SELECT wfproc.start('ss', 'order/' || NULL) $$);
SELECT try($$ SELECT wfproc.start('ss', '') $$);
SELECT try($$ SELECT length(wfproc.start('ss')) $$);
SELECT try($$ SELECT length(wfproc.start('ss', input => '{}')) $$);
SELECT try($$ SELECT wfproc.start('ss', 'twice') FROM generate_series(1, 2) ORDER BY 1 DESC $$);
SELECT count(wfproc.start('ss', 'thrice', if_exists => 'ignore')) FROM generate_series(1, 3);
SELECT mails('ss-1');
SELECT mails('thrice');
ROLLBACK;

\echo '--- bad input to start()'
SELECT try_with('SELECT wfproc.start($1)', w) FROM unnest(ARRAY[NULL, '', 'nothing', 'SS', repeat('x', 256), E'a\tb', E'a\u0085b']) w;
SELECT try_with('SELECT wfproc.start(''ss'', $1)', id) FROM unnest(ARRAY['', repeat('x', 256), repeat('ü', 128), E'a\nb', E'\u007f', E'\u0080']) id;
SELECT try_with('SELECT wfproc.start(''ss'', at => $1)', at) FROM unnest('{infinity,-infinity,2030-02-30,nonsense}'::text[]) at;
SELECT try($$ SELECT wfproc.start('ss', version => 2) $$);
SELECT try($$ SELECT wfproc.start('ss', version => 0) $$);
SELECT try($$ SELECT wfproc.start('ss', version => -1) $$);
SELECT try($$ SELECT wfproc.start('ss', attributes => '[]') $$);
SELECT try($$ SELECT wfproc.start('ss', attributes => '1') $$);
SELECT try($$ SELECT wfproc.start('ss', input => '{"a": "\u0000"}') $$);
SELECT try($$ SELECT wfproc.start('ss', input => '{"a": }') $$);
BEGIN;
SET LOCAL wfproc.max_payload = 2000;
SELECT try_with('SELECT wfproc.start(''ss'', ''big'', input => to_jsonb($1::text))', repeat('x', 2000));
SELECT try_with('SELECT wfproc.start(''ss'', ''big'', input => to_jsonb($1::text))', repeat('x', 1998));
SELECT try($$ SELECT wfproc.start('ss', 'number', input => '1e2000') $$);
SELECT try($$ SELECT wfproc.start('ss', 'number', input => '1e1999') $$);
SELECT try($$ SELECT wfproc.start('ss', 'escapes', attributes => jsonb_build_object('a', repeat(chr(1), 332))) $$);
SELECT try($$ SELECT wfproc.start('ss', 'escapes', attributes => jsonb_build_object('a', repeat(chr(1), 331))) $$);
ROLLBACK;
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT try($$ SELECT wfproc.start('ss', repeat('x', 255)) = repeat('x', 255) $$);
SELECT try($$ SELECT wfproc.start('ss', repeat('ü', 127) || 'x') = repeat('ü', 127) || 'x' $$);
SELECT try($$ SELECT wfproc.start('ss', 'null input', NULL, attributes => NULL) $$);
SELECT mails('null input');
ROLLBACK;

\echo '--- send(): arguments'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('ss', 'ss-1', at => '2030-01-01 00:00+00');
SELECT wfproc.send('ss-1', 'a') > 0, wfproc.send('ss-1', 'b', '[1, "two"]', '2030-01-02 00:00+00', 'key') > 0,
       wfproc.send('ss-1', 'c', NULL, NULL, NULL, NULL) > 0, wfproc.send('ss-1', 'd', '{"nested": null}', '1900-01-01 00:00+00') > 0,
       wfproc.send('ss-1', 'e', 'null') > 0;
SELECT mails('ss-1');
SELECT mail_id < lead(mail_id) OVER (ORDER BY mail_id) FROM wfproc.agenda('ss-1') OFFSET 0 LIMIT 1;
\echo 'agenda() by pages'
SELECT event, mail_id AS b FROM wfproc.agenda('ss-1', max => 2) OFFSET 1 \gset
SELECT event FROM wfproc.agenda('ss-1', after => :b, max => 2);
SELECT try($$ SELECT wfproc.agenda('ss-1', max => 0) $$);
SELECT try($$ SELECT wfproc.agenda('ss-1', after => NULL) $$);
SELECT clock_to('2030-02-01 00:00+00');
SELECT wfproc.run();
SELECT seq, event, idempotency_key FROM wfproc.history('ss-1', after => 2, max => 3);
ROLLBACK;

\echo '--- send(or_start): starts the instance where there is none'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.send('new-1', 'hello', '{"n": 1}', or_start => 'ss') > 0;
SELECT wfproc.send('new-1', 'hello', '{"n": 2}', or_start => 'ss') > 0;
SELECT wfproc.send('new-2', 'old', at => '2020-01-01 00:00+00', or_start => 'ss') > 0;
SELECT mails('new-1');
SELECT mails('new-2');
SELECT try($$ SELECT wfproc.send('new-3', 'hello', or_start => 'nothing') $$);
SELECT try($$ SELECT wfproc.send('new-3', 'hello', or_start => '') $$);
SELECT wfproc.run();
SELECT wfproc.state('new-1');
SELECT id, started_at, live_from FROM wfproc.instances WHERE id LIKE 'new-%';
\echo 'one that is not of that workflow'
SELECT try($$ SELECT wfproc.send('new-1', 'paid', or_start => 'ss_accepts') > 0 $$);
\echo 'an event that the workflow does not accept starts nothing'
SELECT try($$ SELECT wfproc.send('new-4', 'lost', or_start => 'ss_accepts') > 0 $$);
SELECT count(*) FROM wfproc.instances WHERE id IN ('new-3', 'new-4');
ROLLBACK;

\echo '--- live_from: a start that is no older than wfproc.live_tolerance is live from its stamp on'
BEGIN;
SELECT clock_to('2030-01-01 12:00+00');
CREATE FUNCTION starts(name text) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT wfproc.start('ss', name || n, at => at), wfproc.send(name || 'or ' || n, 'hello', at => at, or_start => 'ss')
    FROM unnest('{NULL,2030-01-01 12:00:01+00,2030-01-01 11:59:59.999999+00,2030-01-01 11:00:00+00,2030-01-01 10:59:59.999999+00,2020-01-01 00:00+00}'::timestamptz[])
         WITH ORDINALITY u(at, n);
    SELECT concat_ws(' ', id, 'started', started_at, 'live from', CASE live_from WHEN started_at THEN 'there' ELSE live_from::text END)
    FROM wfproc.instances WHERE starts_with(id, name) ORDER BY id;
$$;
SELECT starts('an hour ');
SET LOCAL wfproc.live_tolerance = '1d';
SELECT starts('a day ');
SET LOCAL wfproc.live_tolerance = 0;
SELECT starts('none ');
SELECT try($$ SET LOCAL wfproc.live_tolerance = -1 $$);
ROLLBACK;

\echo '--- bad input to send()'
BEGIN;
SELECT wfproc.start('ss', 'ss-1'), wfproc.start('ss_accepts', 'ss-a'), wfproc.start('ss', 'ss-closed');
SELECT wfproc.send('ss-closed', 'end') > 0, wfproc.run();
SELECT try_with('SELECT wfproc.send($1, ''e'')', id) FROM unnest(ARRAY[NULL, '', 'nobody', 'ss-closed', repeat('x', 256), E'a\tb']) id;
SELECT try_with('SELECT wfproc.send(''ss-1'', $1) > 0', e)
FROM unnest(ARRAY[NULL, '', repeat('x', 256), E'a\rb', 'start', 'cancel', 'child.done', 'child.', '$pause', '$', 'Start', 'children', 'a$b', ' ']) e;
SELECT try_with('SELECT wfproc.send(''ss-a'', $1) > 0', e) FROM unnest('{paid,shipped,Paid,start,refunded}'::text[]) e;
SELECT try_with('SELECT wfproc.send(''ss-1'', ''e'', at => $1) > 0', at) FROM unnest('{infinity,-infinity}'::text[]) at;
SELECT try_with('SELECT wfproc.send(''ss-1'', ''e'', idempotency_key => $1) > 0', key) FROM unnest(ARRAY['', repeat('x', 256), E'a\tb']) key;
SELECT try($$ SELECT wfproc.send('ss-1', 'e', '{"a": "\u0000"}') $$);
SELECT try($$ SELECT wfproc.send('ss-1', 'e', '{') $$);
SELECT try_with('SELECT wfproc.send(''ss-1'', ''e'', to_jsonb($1::text))', repeat('x', 1048576));
SELECT try($$ SELECT wfproc.send('ss-1', 'e', (SELECT jsonb_agg('1e100000'::jsonb) FROM generate_series(1, 100))) $$);
SELECT try($$ SELECT wfproc.history('ss-1', max => 0) $$);
SELECT try($$ SELECT wfproc.history('ss-1', max => 100001) $$);
SELECT try($$ SELECT wfproc.history('ss-1', NULL) $$);
SELECT try($$ SELECT wfproc.replay('ss-1', -1) $$);
SELECT try_with('SELECT wfproc.' || f || '($1)', id)
FROM unnest('{state,digest,history,agenda,replay,verify,pause,resume,snapshot,passivate,await}'::text[]) f, unnest(ARRAY[NULL, '', 'nobody']) id;
SELECT try('SELECT wfproc.await(''ss-1'')');
SELECT try('SELECT wfproc.await(''ss-1'', ''-1 s'')');
ROLLBACK;

\echo '--- idempotency keys'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('ss', 'ss-1'), wfproc.start('ss', 'ss-2');
SELECT wfproc.send('ss-1', 'paid', '{"amount": 1}', idempotency_key => 'k') AS first \gset
SELECT wfproc.send('ss-1', 'paid', '{"amount": 1}', idempotency_key => 'k') = :first AS same,
       wfproc.send('ss-1', 'paid', '{"amount":1}', idempotency_key => 'k') = :first AS same,
       wfproc.send('ss-2', 'paid', '{"amount": 1}', idempotency_key => 'k') <> :first AS another;
SELECT regexp_replace(t, :'first', 'FIRST') FROM try($$ SELECT wfproc.send('ss-1', 'paid', '{"amount": 2}', idempotency_key => 'k') $$) t;
SELECT regexp_replace(t, :'first', 'FIRST') FROM try($$ SELECT wfproc.send('ss-1', 'shipped', '{"amount": 1}', idempotency_key => 'k') $$) t;
SELECT regexp_replace(t, :'first', 'FIRST') FROM try($$ SELECT wfproc.send('ss-1', 'paid', '{"amount": 1}', '2030-01-01', idempotency_key => 'k') $$) t;
SELECT mails('ss-1');
SELECT wfproc.run();
\echo 'also when it has been handled, and when the instance has closed'
SELECT wfproc.send('ss-1', 'paid', '{"amount": 1}', idempotency_key => 'k') = :first;
SELECT wfproc.send('ss-1', 'end') > 0, wfproc.run();
SELECT wfproc.send('ss-1', 'paid', '{"amount": 1}', idempotency_key => 'k') = :first;
SELECT try($$ SELECT wfproc.send('ss-1', 'paid', '{"amount": 1}', idempotency_key => 'k2') $$);
SELECT seq, event, idempotency_key FROM wfproc.history('ss-1');
\echo 'a stamp that was given is part of the event'
SELECT wfproc.send('ss-2', 'e', at => '2031-01-01 00:00+00', idempotency_key => 't') AS first \gset
SELECT wfproc.send('ss-2', 'e', at => '2031-01-01 01:00+01', idempotency_key => 't') = :first;
SELECT left(t, 5) FROM try($$ SELECT wfproc.send('ss-2', 'e', at => '2031-01-02 00:00+00', idempotency_key => 't') $$) t LIMIT 1;
\echo 'with its savepoint goes its key'
SAVEPOINT s;
SELECT wfproc.send('ss-2', 'e', idempotency_key => 'gone') > 0;
ROLLBACK TO s;
SELECT wfproc.send('ss-2', 'other', idempotency_key => 'gone') > 0;
\echo 'and with or_start'
SELECT wfproc.send('ss-3', 'hello', idempotency_key => 'k', or_start => 'ss') AS first \gset
SELECT wfproc.send('ss-3', 'hello', idempotency_key => 'k', or_start => 'ss') = :first;
SELECT count(*) FROM wfproc.agenda('ss-3');
ROLLBACK;

\echo '--- unsend() and reschedule()'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('ss', 'ss-1'), wfproc.start('ss', 'ss-2');
SELECT wfproc.send('ss-1', 'a') AS a, wfproc.send('ss-1', 'b', '{"n": 1}', idempotency_key => 'kb') AS b, wfproc.send('ss-1', 'c', at => '2030-03-01 00:00+00') AS c \gset
SELECT wfproc.unsend('ss-1', :a), wfproc.unsend('ss-1', :a), wfproc.unsend('ss-2', :b), wfproc.unsend('ss-1', -1), wfproc.unsend('ss-1', NULL) IS NULL;
SELECT wfproc.reschedule('ss-1', :b, '2030-02-01 00:00+00'), wfproc.reschedule('ss-1', :a, '2030-02-01 00:00+00'), wfproc.reschedule('ss-2', :b, '2030-02-01 00:00+00');
SELECT mails('ss-1');
SELECT mail_id = :b FROM wfproc.agenda('ss-1') WHERE event = 'b';
SELECT try_with('SELECT wfproc.reschedule(''ss-1'', 1, $1)', at) FROM unnest('{infinity,-infinity}'::text[]) at;
SELECT try($$ SELECT wfproc.unsend('nobody', 1) $$);
SELECT try(format($$ SELECT wfproc.unsend('ss-1', %s) $$, mail_id)) FROM wfproc.agenda('ss-1') WHERE event = 'start';
SELECT try(format($$ SELECT wfproc.reschedule('ss-1', %s, '2031-01-01') $$, mail_id)) FROM wfproc.agenda('ss-1') WHERE event = 'start';
SELECT wfproc.run();
SELECT wfproc.reschedule('ss-1', :c, '2029-01-01 00:00+00');
SELECT wfproc.run();
SELECT clock_to('2030-02-01 00:00+00');
SELECT wfproc.run();
SELECT seq, event, at, payload, idempotency_key FROM wfproc.history('ss-1');
SELECT wfproc.unsend('ss-1', :b), wfproc.reschedule('ss-1', :c, '2030-02-01 00:00+00');
SELECT wfproc.send('ss-1', 'b', '{"n": 1}', idempotency_key => 'kb') = :b;
SAVEPOINT s;
SELECT wfproc.send('ss-1', 'd') AS d \gset
SELECT wfproc.unsend('ss-1', :d);
ROLLBACK TO s;
SELECT count(*) FROM wfproc.agenda('ss-1');
SELECT wfproc.verify('ss-1');
ROLLBACK;

\echo '--- sets: one statement, in the caller''s transaction; ROLLBACK takes all of it back'
SELECT (SELECT count(*) FROM wfproc.instance) AS instances, (SELECT count(*) FROM wfproc.idempotency) AS keys,
       (SELECT count(*) FROM wfproc.event WHERE name = 'e') AS events \gset
BEGIN;
SELECT count(wfproc.start('ss', 'set-' || n)) FROM generate_series(1, 2000) n;
SELECT count(wfproc.send('set-' || n, 'e', jsonb_build_object('n', n), idempotency_key => 'k' || n)) FROM generate_series(1, 2000) n;
SELECT wfproc.run();
SELECT count(*), sum((wfproc.state(id) #>> '{e,n}')::int) FROM wfproc.instances WHERE id LIKE 'set-%';
SELECT count(NULLIF(wfproc.unsend('set-' || n, wfproc.send('set-' || n, 'taken back')), false)) FROM generate_series(1, 10) n;
SELECT wfproc.run();
ROLLBACK;
SELECT (SELECT count(*) FROM wfproc.instance) - :instances, (SELECT count(*) FROM wfproc.idempotency) - :keys,
       (SELECT count(*) FROM wfproc.mailbox WHERE name = 'e'), (SELECT count(*) FROM wfproc.event WHERE name = 'e') - :events;
BEGIN;
SELECT wfproc.start('ss', 'ss-1');
SAVEPOINT s;
SELECT count(wfproc.send('ss-1', 'lost')) FROM generate_series(1, 5000);
ROLLBACK TO s;
SELECT wfproc.send('ss-1', 'kept') > 0;
SELECT wfproc.run();
SELECT seq, event FROM wfproc.history('ss-1');
ROLLBACK;

\echo '--- names are data: quotes, percent signs, backslashes, spaces, upper case'
CREATE TABLE victim (n int);
CREATE TABLE hostile (n int GENERATED ALWAYS AS IDENTITY, t text);
INSERT INTO hostile (t) VALUES
    ($q$'; DROP TABLE start_send_test.victim; --$q$), ($q$"; DROP TABLE start_send_test.victim; --$q$),
    ($q$x'); DROP TABLE start_send_test.victim; SELECT ('$q$), ($q$x$$; DROP TABLE start_send_test.victim; $$$q$),
    ($q$\'; DROP TABLE start_send_test.victim; --$q$), ('%s%n%s%n %I %L $1 {0}'), ('a b"c''d\e'), ('wfproc.event; DROP TABLE start_send_test.victim'),
    ('pg_catalog.now()'), ('''||(SELECT pg_sleep(0))||'''), (U&'\2028 \FEFF ü 漢字 😀');
BEGIN;
SELECT t = wfproc.start('ss', t, jsonb_build_object(t, t), attributes => jsonb_build_object(t, t)),
       wfproc.send(t, t, jsonb_build_object(t, t), idempotency_key => t) = wfproc.send(t, t, jsonb_build_object(t, t), idempotency_key => t)
FROM (SELECT * FROM hostile ORDER BY n) h;
SELECT wfproc.run() >= 22;
SELECT bool_and(wfproc.state(t) = jsonb_build_object('start', jsonb_build_object(t, t), t, jsonb_build_object(t, t))), bool_and((wfproc.verify(t)).ok)
FROM hostile;
SELECT bool_and(i.attributes = jsonb_build_object(t, t)) FROM hostile JOIN wfproc.instances i ON i.id = t;
SELECT bool_and(wfproc.define(t, 'keep', accepts => ARRAY[t]) = 1), bool_and(wfproc.start(t, 'of ' || t) = 'of ' || t), bool_and(wfproc.send('of ' || t, t) > 0),
       bool_and(wfproc.pause('of ' || t, t)) FROM hostile;
SELECT wfproc.run();
SELECT count(*), bool_and(h.payload ->> 'reason' = t) FROM hostile, wfproc.history('of ' || t) h WHERE h.event = '$pause';
ROLLBACK;

SELECT DISTINCT left(e, 5) FROM hostile, try_with('SELECT wfproc.send(''nobody'', ''e'', or_start => $1)', t) e WHERE e !~ '^  ';

\echo '--- every text argument of every function takes hostile text for what it is: text'
CREATE FUNCTION benign(type regtype, name text) RETURNS text LANGUAGE sql AS $$
    SELECT CASE WHEN name = 'workflow' THEN '''ss''' WHEN name = 'handler' THEN '''start_send_test.keep''' WHEN name = 'role' THEN 'current_user'
                WHEN name = 'privilege' THEN '''read''' WHEN name = 'if_exists' THEN '''ignore''' WHEN name = 'on_parent_close' THEN '''leave''' WHEN name = 'on_failure' THEN '''pause'''
                WHEN name = 'timeout' THEN '''0''' WHEN name IN ('version', 'max') THEN '1' WHEN name IN ('or_start', 'migrate', 'accepts', 'input', 'helpers', 'migrates_from') THEN 'NULL'
                WHEN name IN ('max_attempts', 'snapshot_every') THEN '10' WHEN type IN ('int'::regtype, 'bigint') THEN '0' WHEN type = 'text'::regtype THEN '''ss-1'''
                WHEN type = 'jsonb'::regtype THEN '''{}''' WHEN type = 'interval'::regtype THEN '''1 s''' WHEN type = 'bool'::regtype THEN 'false'
                WHEN type = 'jsonpath'::regtype THEN '''$''' ELSE 'now()' END
$$;
CREATE TABLE calls AS
    SELECT p.proname, a.argument, a.n, h.n AS hostile,
           format('%s wfproc.%I(%s)', CASE p.prokind WHEN 'p' THEN 'CALL' ELSE 'SELECT' END, p.proname,
                  (SELECT string_agg(format('%I => ', p.proargnames[i]) ||
                                     CASE WHEN i <> a.n THEN benign(p.proargtypes[i - 1], p.proargnames[i])
                                          WHEN p.proargtypes[i - 1] = 'text[]'::regtype THEN format('ARRAY[%L]', h.t) ELSE format('%L', h.t) END, ', ')
                   FROM generate_series(1, p.pronargs) i)) AS call
    FROM pg_proc p, hostile h,
         LATERAL (SELECT i AS n, p.proargnames[i] AS argument FROM generate_series(1, p.pronargs) i WHERE p.proargtypes[i - 1] IN ('text'::regtype, 'text[]'::regtype)) a
    WHERE p.pronamespace = 'wfproc'::regnamespace;
CREATE FUNCTION sqlstate_of(sql text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        EXECUTE sql;
        RAISE EXCEPTION 'undone' USING ERRCODE = 'ZZZZZ';
    EXCEPTION WHEN OTHERS THEN
        RETURN CASE SQLSTATE WHEN 'ZZZZZ' THEN 'done' ELSE SQLSTATE END;
    END;
END $$;
BEGIN;
SELECT wfproc.start('ss', 'ss-1');
SELECT proname, argument, string_agg(DISTINCT result, ' ' ORDER BY result)
FROM (SELECT proname, argument, n, sqlstate_of(call) AS result FROM calls) c
GROUP BY proname, argument, n ORDER BY proname, n;
ROLLBACK;
SELECT count(*) FROM victim;

DROP SCHEMA start_send_test CASCADE;
