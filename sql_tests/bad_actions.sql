-- bad input to what a handler asks for and to what is asked from outside: each says what is wrong, and nothing comes of it
\set QUIET on
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';
SET IntervalStyle = 'postgres';

CREATE SCHEMA bad_actions_test;
SET search_path = bad_actions_test;

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

CREATE FUNCTION about(id text) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(', ', i.id, i.status, 'attempts ' || NULLIF(i.attempts, 0), 'waiting ' || NULLIF(i.waiting, 0), 'parent ' || i.parent,
                     'closed at ' || i.closed_at, 'result ' || i.result::text, i.error)
    FROM wfproc.instances i WHERE i.id = about.id
$$;

CREATE FUNCTION log_of(id text) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT concat_ws(' ', seq, event, payload - 'calls', 'from ' || sender) FROM wfproc.history(id) ORDER BY seq
$$;

CREATE FUNCTION dead() RETURNS SETOF text LANGUAGE sql AS $$
    SELECT concat_ws(' ', workflow, id, event, 'from ' || sender, '|', reason) FROM wfproc.dead_letters
    WHERE workflow LIKE 'bad%' ORDER BY mail_id
$$;

-- calls what its events say, each a SQL expression; those in "tries" each in a block that takes its error
CREATE FUNCTION bad(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    call text;
    caught jsonb := '[]';
BEGIN
    FOR call IN SELECT jsonb_array_elements_text(payload -> 'calls') LOOP
        EXECUTE 'SELECT ' || call;
    END LOOP;
    FOR call IN SELECT jsonb_array_elements_text(payload -> 'tries') LOOP
        BEGIN
            EXECUTE 'SELECT ' || call;
        EXCEPTION WHEN OTHERS THEN
            caught := caught || to_jsonb(SQLSTATE);
        END;
    END LOOP;
    RETURN CASE WHEN caught = '[]' THEN state ELSE state || jsonb_build_object('caught', caught) END;
END $$;
SELECT wfproc.define('bad', 'bad', max_attempts => 2, retry_delay => '10 s');

-- calls these in one step of an event, of which nothing stays: the actions that it has then asked for, or the error
CREATE FUNCTION step(VARIADIC calls text[]) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT try(format($s$ SELECT actions FROM wfproc.try_step('bad_actions_test.bad', '{}', 'e', jsonb_build_object('calls', %L::text[])) $s$, calls))
$$;

CREATE FUNCTION step_with(call text, value text) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT step(replace(call, '$1', COALESCE(quote_literal(value), 'NULL')))
$$;

\echo '--- outside a handler there is nobody to act for'
SELECT try('SELECT wfproc.' || call) FROM unnest('{self(),parent(),now(),event_at(),seq(),sender(),random(),uuid(),complete(),"fail(''x'')","reject(''x'')",postpone(),"set_timer(''t'', ''1 s'')","cancel_timer(''t'')","set_attributes(''{}''::jsonb)","reply(''1'')","monitor(''x'')","demonitor(''x'')",defer_cancel()}'::text[]) call;

\echo '--- timers: when'
SELECT step_with($$ wfproc.set_timer('t', at => $1) $$, at) FROM unnest('{infinity,-infinity,"2030-01-01 00:00+00",294277-01-01,0001-01-01 BC,nonsense}'::text[]) at;
SELECT step_with($$ wfproc.set_timer('t', '2030-01-01 00:00+00'::timestamptz - wfproc.now() + $1) $$, after) FROM unnest('{0,"-1 day","100 years","400000 years",nonsense}'::text[]) after;
SELECT step($$ wfproc.set_timer('t') $$);
SELECT step($$ wfproc.set_timer('t', NULL, NULL) $$);
SELECT step($$ wfproc.set_timer('t', '1 s', '2030-01-01') $$);
\echo 'names'
SELECT step_with($$ wfproc.set_timer($1, at => '2030-01-01 00:00+00') $$, name)
FROM unnest(ARRAY[NULL, '', repeat('x', 256), repeat('ü', 128), E'a\tb', E'\u007f', E'a\u0085b', 'start', 'cancel', 'reply', 'dead_letter', 'child.completed', 'child.', 'monitor.x', '$t', '$',
                  'Start', 'child', 'mon.itor', repeat('x', 255)]) name;
SELECT step_with($$ wfproc.cancel_timer($1) $$, name) FROM unnest(ARRAY[NULL, '', repeat('x', 256), E'a\nb', 'none such']) name;
SELECT step_with($$ wfproc.set_timer('t', at => '2030-01-01 00:00+00', until_state_changes => $1) $$, key) FROM unnest(ARRAY['', repeat('x', 256), E'a\nb', 'key']) key;
\echo 'payload'
SELECT step($$ wfproc.set_timer('t', at => '2030-01-01 00:00+00', payload => NULL) $$);
SELECT step($$ wfproc.set_timer('t', at => '2030-01-01 00:00+00', payload => '[1]') $$);
BEGIN;
SET LOCAL wfproc.max_payload = 1024;
SELECT step($$ wfproc.set_timer('t', at => '2030-01-01 00:00+00', payload => to_jsonb(repeat('x', 1023))) $$);
SELECT step($$ wfproc.send('x', 'e', to_jsonb(repeat('x', 1023))) $$);
SELECT step($$ wfproc.start('bad', input => to_jsonb(repeat('x', 1023))) $$);
SELECT step($$ wfproc.start('bad', attributes => jsonb_build_object('x', repeat('x', 1023))) $$);
SELECT step($$ wfproc.reply(to_jsonb(repeat('x', 1023))) $$);
SELECT step($$ wfproc.complete(to_jsonb(repeat('x', 1023))) $$);
SELECT step($$ wfproc.set_attributes(jsonb_build_object('x', repeat('x', 1023))) $$);
ROLLBACK;

\echo '--- send()'
SELECT step_with($$ wfproc.send($1, 'e') $$, id) FROM unnest(ARRAY[NULL, '', repeat('x', 256), E'a\nb', 'nobody']) id;
SELECT step_with($$ wfproc.send('x', $1) $$, event) FROM unnest(ARRAY[NULL, '', repeat('x', 256), E'a\nb', 'start', 'cancel', 'reply', 'dead_letter', 'child.completed', 'monitor.unknown', '$terminate', 'fine']) event;
SELECT step_with($$ wfproc.send('x', 'e', at => $1) $$, at) FROM unnest('{infinity,-infinity}'::text[]) at;
SELECT step_with($$ wfproc.send('x', 'e', idempotency_key => $1) $$, key) FROM unnest(ARRAY['', repeat('x', 256), E'a\nb']) key;
SELECT step_with($$ wfproc.send('x', 'e', or_start => $1) $$, workflow) FROM unnest(ARRAY['', repeat('x', 256), E'a\nb', 'no such workflow']) workflow;
\echo 'from outside'
BEGIN;
SELECT try($$ SELECT wfproc.send('nobody', 'e', or_start => 'no such workflow') $$);
SELECT try($$ SELECT wfproc.send('nobody', 'e', or_start => '') $$);
SELECT try($$ SELECT wfproc.send('nobody', 'e') $$);
SELECT try($$ SELECT wfproc.send('nobody', 'cancel', or_start => 'bad') $$);
SELECT count(*) FROM wfproc.instances WHERE id = 'nobody';
ROLLBACK;

\echo '--- start()'
SELECT step_with($$ wfproc.start($1) $$, workflow) FROM unnest(ARRAY[NULL, '', repeat('x', 256), E'a\nb']) workflow;
SELECT step_with($$ wfproc.start('bad', $1) $$, id) FROM unnest(ARRAY[NULL, '', repeat('x', 256), E'a\nb']) id;
SELECT step_with($$ wfproc.start('bad', 'x', at => $1) $$, at) FROM unnest('{infinity,-infinity}'::text[]) at;
SELECT step_with($$ wfproc.start('bad', 'x', version => $1) $$, version) FROM unnest('{0,-1,2147483647}'::text[]) version;
SELECT step_with($$ wfproc.start('bad', 'x', attributes => $1) $$, attributes) FROM unnest('{NULL,[],1,"null","\"x\""}'::text[]) attributes;
SELECT step_with($$ wfproc.start('bad', 'x', if_exists => $1) $$, value) FROM unnest(ARRAY[NULL, '', 'replace', 'IGNORE']) value;
SELECT step_with($$ wfproc.start('bad', 'x', on_parent_close => $1) $$, value) FROM unnest(ARRAY[NULL, '', 'kill', 'Cancel']) value;
\echo 'outside a handler nothing has a parent'
SELECT try_with($$ SELECT wfproc.start('bad', 'x', on_parent_close => $1) $$, value) FROM unnest(ARRAY[NULL, 'cancel', 'terminate', 'kill']) value;

\echo '--- the rest'
SELECT step_with($$ wfproc.monitor($1) $$, id) FROM unnest(ARRAY[NULL, '', repeat('x', 256), E'a\nb']) id;
SELECT step_with($$ wfproc.demonitor($1) $$, id) FROM unnest(ARRAY[NULL, '', repeat('x', 256), E'a\nb']) id;
SELECT step_with($$ wfproc.cancel($1) $$, id) FROM unnest(ARRAY[NULL, '', repeat('x', 256), E'a\nb']) id;
SELECT step_with($$ wfproc.terminate($1) $$, id) FROM unnest(ARRAY[NULL, '', repeat('x', 256), E'a\nb']) id;
SELECT step_with($$ wfproc.cancel('x', deadline => $1) $$, deadline) FROM unnest('{-1 s,102 years,1 week}'::text[]) deadline;
SELECT step_with($$ wfproc.set_attributes($1::jsonb) $$, attributes) FROM unnest('{NULL,[],1,"null","\"x\"","{}"}'::text[]) attributes;
SELECT step($$ wfproc.set_attributes('x', '{}') $$);
SELECT step($$ wfproc.fail(NULL) $$);
SELECT step($$ wfproc.reject(NULL) $$);
SELECT step($$ wfproc.reply('1') $$, $$ wfproc.reply('2') $$);
SELECT step($$ wfproc.reply(NULL) $$);
SELECT step($$ wfproc.defer_cancel() $$);
SELECT step_with($$ wfproc.defer_cancel($1) $$, deadline) FROM unnest('{-1 s,102 years,1 week}'::text[]) deadline;
SELECT try($$ SELECT actions FROM wfproc.try_step('bad_actions_test.bad', '{}', 'cancel', '{"calls": ["wfproc.defer_cancel()"]}') $$);
SELECT try($$ SELECT actions FROM wfproc.try_step('bad_actions_test.bad', '{}', 'start', '{"calls": ["wfproc.postpone()"]}') $$);

\echo '--- a reason is 8192 bytes at most, in a replay as well'
SELECT call, left(step(format('wfproc.' || call, quote_literal(repeat(c, n)))), 72)
FROM unnest('{fail(%s),reject(%s),"cancel(''x'', %s)","terminate(''x'', %s)"}'::text[]) call, (VALUES ('x', 8192), ('x', 8193), ('ü', 4096), ('ü', 4097)) v(c, n);
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('bad', 'r');
SELECT wfproc.send('r', 'e', '{"tries": ["wfproc.terminate(''x'', repeat(''x'', 8193))", "wfproc.fail(repeat(''x'', 100000))", "wfproc.send(wfproc.self(), ''yes'')"]}') > 0;
SELECT wfproc.run();
SELECT about('r'), wfproc.state('r'), wfproc.verify('r');
SELECT log_of('r');
SELECT call, try(format('SELECT wfproc.' || call, quote_literal(repeat('x', n))))
FROM unnest('{"pause(''r'', %s)","cancel(''r'', %s)","terminate(''r'', %s)","retry_now(''r'', %s)","skip(''r'', %s)","redact(''r'', 1, %s)"}'::text[]) call, unnest('{8193,8192}'::int[]) n
ORDER BY n DESC, call;
ROLLBACK;
CALL wfproc.control_all('pause', 'bad', reason => repeat('x', 8193));
\echo 'attributes: all of an instance''s together'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SET LOCAL wfproc.max_payload = 1024;
SELECT wfproc.start('bad', 'at', attributes => jsonb_build_object('a', repeat('x', 500)));
SELECT wfproc.send('at', 'e', '{"tries": ["wfproc.set_attributes(jsonb_build_object(''b'', repeat(''x'', 480)))", "wfproc.set_attributes(jsonb_build_object(''c'', repeat(''x'', 20)))"]}') > 0;
SELECT wfproc.run();
SELECT about('at'), (SELECT length(attributes::text) FROM wfproc.instances WHERE id = 'at');
SELECT try($$ SELECT wfproc.set_attributes('at', jsonb_build_object('b', repeat('x', 520))) $$);
\echo 'of two that wait, one has no room'
SELECT wfproc.set_attributes('at', jsonb_build_object(key, repeat('x', 300))) FROM unnest('{b,c}'::text[]) key;
SELECT wfproc.run();
SELECT (SELECT array_agg(key) FROM jsonb_object_keys(attributes) key) FROM wfproc.instances WHERE id = 'at';
SELECT dead();
RESET wfproc.max_payload;
SELECT wfproc.verify('at');
ROLLBACK;

\echo '--- what acts at once has no place in a handler'
SELECT step('wfproc.' || call) FROM unnest('{run(),"pause(''x'')","resume(''x'')","retry_now(''x'')","skip(''x'')",redrive(1),"snapshot(''x'')","passivate(''x'')","unsend(''x'', 1)","reschedule(''x'', 1, now())","state(''x'')","verify(''x'')","await(''x'')","define(''x'', ''bad'')","grant_access(''bad'', ''postgres'', ''send'')","try_step(''bad'', ''{}'', ''e'')",adopt()}'::text[]) call;

\echo '--- after what ends a step there is nothing more'
SELECT step($$ wfproc.complete() $$, $$ wfproc.complete() $$);
SELECT step($$ wfproc.complete() $$, $$ wfproc.fail('x') $$);
SELECT step($$ wfproc.fail('x') $$, $$ wfproc.complete() $$);
SELECT step($$ wfproc.reject('x') $$, $$ wfproc.postpone() $$);
SELECT step($$ wfproc.postpone() $$, $$ wfproc.reject('x') $$);
SELECT step($$ wfproc.complete() $$, 'wfproc.' || call) FROM unnest('{"send(''x'', ''e'')",start(''bad''),"set_timer(''t'', ''1 s'')",cancel_timer(''t''),"set_attributes(''{}''::jsonb)",reply(''1''),monitor(''x''),demonitor(''x''),cancel(''x''),terminate(''x'')}'::text[]) call;
\echo 'what came before is asked for all the same, but for what undoes the step'
SELECT step($$ wfproc.send('x', 'e', at => '2030-01-01 00:00+00') $$, $$ wfproc.complete() $$);
SELECT step($$ wfproc.send('x', 'e') $$, $$ wfproc.fail('why') $$);
SELECT step($$ wfproc.send('x', 'e') $$, $$ wfproc.reject('why') $$);
SELECT step($$ wfproc.send('x', 'e') $$, $$ wfproc.postpone() $$);

\echo '--- for real: the step fails, nothing of it comes to be, and it is tried again and then given up'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('bad', 'b-' || n) FROM generate_series(1, 4) n;
SELECT wfproc.send('b-1', 'e', '{"calls": ["wfproc.complete()", "wfproc.complete()"]}') > 0, wfproc.send('b-2', 'e', '{"calls": ["wfproc.complete()", "wfproc.fail(''x'')"]}') > 0,
       wfproc.send('b-3', 'e', '{"calls": ["wfproc.send(wfproc.self(), ''never'')", "wfproc.set_timer(''t'', at => ''infinity'')"]}') > 0,
       wfproc.send('b-4', 'e', '{"calls": ["wfproc.complete()", "wfproc.send(''b-1'', ''after'')"]}') > 0;
SELECT wfproc.run();
SELECT about('b-' || n) FROM generate_series(1, 4) n;
SELECT clock_to('2030-01-01 00:00:10+00');
SELECT wfproc.run();
SELECT about('b-' || n) FROM generate_series(1, 4) n;
SELECT log_of('b-3');
SELECT (wfproc.verify('b-' || n)).ok FROM generate_series(1, 4) n;
ROLLBACK;

\echo '--- a handler that catches the error of an action and goes on: the others stand'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('bad', 'c');
SELECT wfproc.send('c', 'e', '{"tries": ["wfproc.set_timer(''t'', at => ''infinity'')", "wfproc.set_timer(''t'', ''1 s'')", "wfproc.send(wfproc.self(), ''$no'')", "wfproc.send(wfproc.self(), ''yes'')",
    "wfproc.reply(''1'')", "wfproc.reply(''2'')", "wfproc.start(''bad'', ''c-child'', on_parent_close => ''no'')", "wfproc.complete()", "wfproc.complete()", "wfproc.send(wfproc.self(), ''too late'')"]}') > 0;
SELECT wfproc.run();
SELECT about('c'), wfproc.state('c');
SELECT log_of('c');
SELECT actions FROM wfproc.replay('c') WHERE seq = 2;
SELECT dead();
SELECT wfproc.verify('c');
ROLLBACK;
\echo 'but for that of a limit, which fails the step even so: a replay knows nothing of what the limits were'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SET LOCAL wfproc.max_actions = 3;
SELECT wfproc.start('bad', 'c'), wfproc.start('bad', 'd');
SELECT wfproc.send('c', 'e', '{"tries": ["wfproc.send(wfproc.self(), ''1'')", "wfproc.send(wfproc.self(), ''2'')", "wfproc.send(wfproc.self(), ''3'')", "wfproc.send(wfproc.self(), ''4'')"]}') > 0;
SET LOCAL wfproc.max_payload = 1024;
SELECT wfproc.send('d', 'e', '{"tries": ["wfproc.send(wfproc.self(), ''1'', to_jsonb(repeat(''x'', 1023)))", "wfproc.send(wfproc.self(), ''2'')"]}') > 0;
SELECT wfproc.run();
SELECT about('c'), about('d');
RESET wfproc.max_actions;
RESET wfproc.max_payload;
SELECT wfproc.verify('c'), wfproc.verify('d');
SELECT log_of('c');
SELECT log_of('d');
ROLLBACK;
SELECT try($$ SET wfproc.max_actions = 0 $$);
SELECT try($$ SET wfproc.max_actions = 1000001 $$);
SELECT try($$ SET wfproc.max_postponed = 0 $$);
SELECT try($$ SET wfproc.max_cascade = 10 $$);

\echo '--- a helper that is computed when its caller is planned, and then never again'
CREATE FUNCTION helper(t text) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
    PERFORM wfproc.send(wfproc.self(), t);
    RETURN 1;
END $$;
CREATE FUNCTION planned(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event = 'e' THEN
        RETURN state || jsonb_build_object('n', helper('constant'));
    END IF;
    RETURN state;
END $$;
SELECT wfproc.define('bad_planned', 'planned');
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('bad_planned', 'p');
SELECT wfproc.send('p', 'e') > 0;
SELECT wfproc.run();
SELECT about('p');
ROLLBACK;
SELECT try($$ SELECT wfproc.try_step('planned', '{}', 'e') $$);

\echo '--- a handler can neither write nor act at once'
CREATE TABLE written (n int);
SELECT step('(WITH w AS (INSERT INTO bad_actions_test.written VALUES (1) RETURNING n) SELECT n FROM w)');
SELECT step($$ setval('wfproc.mail_seq', 1) $$);
SELECT count(*) FROM written;

\echo '--- control verbs: NULL, bad ids, unknown, closed'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('bad', 'closed'), wfproc.start('bad', 'open');
SELECT wfproc.send('closed', 'e', '{"calls": ["wfproc.complete()"]}') > 0;
SELECT wfproc.run();
SELECT call, try(format('SELECT wfproc.' || call, quote_nullable(id)))
FROM unnest('{pause(%s),resume(%s),cancel(%s),terminate(%s),retry_now(%s),skip(%s),snapshot(%s),passivate(%s),"set_attributes(%s, ''{\"a\": 1}'')"}'::text[]) call, unnest(ARRAY[NULL, '', E'a\nb', 'nobody', 'closed']) WITH ORDINALITY i (id, n)
ORDER BY call, n;
SELECT try($$ SELECT wfproc.cancel('open', deadline => '-1 s') $$);
SELECT try($$ SELECT wfproc.cancel('open', deadline => '102 years') $$);
SELECT try($$ SELECT wfproc.set_attributes('open', '[]') $$);
SELECT try($$ SELECT wfproc.set_attributes('open', '1') $$);
SELECT try($$ SELECT wfproc.set_attributes('open', NULL) $$);
SELECT try($$ SELECT wfproc.redrive(NULL) $$);
SELECT try($$ SELECT wfproc.redrive(-1) $$);
SELECT try($$ SELECT wfproc.redrive(9223372036854775807) $$);
SELECT about('open');
SET LOCAL wfproc.max_payload = 1024;
SELECT try($$ SELECT wfproc.cancel('open', repeat('x', 2000)) $$);
SELECT try($$ SELECT wfproc.terminate('open', repeat('x', 2000)) $$);
SELECT try($$ SELECT wfproc.pause('open', repeat('x', 2000)) $$);
SELECT try($$ SELECT wfproc.set_attributes('open', jsonb_build_object('x', repeat('x', 2000))) $$);
ROLLBACK;
\echo 'in a read-only transaction'
BEGIN;
SELECT wfproc.start('bad', 'open');
SET TRANSACTION READ ONLY;
SELECT try('SELECT wfproc.' || call) FROM unnest('{pause(''open''),cancel(''open''),terminate(''open''),retry_now(''open''),skip(''open''),redrive(1),"set_attributes(''open'', ''{\"a\": 1}'')"}'::text[]) call;
ROLLBACK;

\echo '--- what the engine relies on cannot be taken back or moved from outside; a timer can be moved'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('bad', 'open', '{"calls": ["wfproc.set_timer(''t'', ''1 hour'')"]}');
SELECT wfproc.run();
SELECT wfproc.cancel('open');
SELECT event, try(format('SELECT wfproc.unsend(%L, %s)', 'open', mail_id)) FROM wfproc.agenda('open');
SELECT event, try(format('SELECT wfproc.reschedule(%L, %s, %L)', 'open', mail_id, '2031-01-01')) FROM wfproc.agenda('open');
ROLLBACK;

\echo '--- control_all()'
CALL wfproc.control_all(NULL, 'bad');
CALL wfproc.control_all('', 'bad');
CALL wfproc.control_all('drop', 'bad');
CALL wfproc.control_all('CANCEL', 'bad');
CALL wfproc.control_all('cancel', NULL);
CALL wfproc.control_all('cancel', '');
CALL wfproc.control_all('cancel', 'no such workflow');
CALL wfproc.control_all('cancel', 'bad', '[]');
CALL wfproc.control_all('cancel', 'bad', '1');
CALL wfproc.control_all('cancel', 'bad', NULL);
CALL wfproc.control_all('cancel', 'bad', status => 'completed');
CALL wfproc.control_all('cancel', 'bad', status => 'nonsense');
CALL wfproc.control_all('cancel', 'bad', affected => 7);
SELECT try($$ SELECT wfproc.control_all('cancel', 'bad') $$);
\echo 'from a procedure, which may commit; and from a function, which may not'
DO $$
DECLARE
    n bigint;
BEGIN
    CALL wfproc.control_all('cancel', 'bad', affected => n);
    RAISE WARNING 'affected: %', n;
END $$;
BEGIN;
DO $$
DECLARE
    n bigint;
BEGIN
    CALL wfproc.control_all('cancel', 'bad', affected => n);
END $$;
ROLLBACK;

\echo '--- rights: a client''s, and those of the owner of a sender''s workflow'
CREATE ROLE bad_owner;
CREATE ROLE bad_client;
CREATE ROLE bad_nobody;
SELECT wfproc.grant_usage(r) FROM unnest('{bad_owner,bad_client,bad_nobody}'::text[]) r;
GRANT CREATE, USAGE ON SCHEMA bad_actions_test TO bad_owner;
GRANT USAGE ON SCHEMA bad_actions_test TO bad_client, bad_nobody;
SET ROLE bad_owner;
CREATE FUNCTION owned(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    call text;
BEGIN
    FOR call IN SELECT jsonb_array_elements_text(payload -> 'calls') LOOP
        EXECUTE 'SELECT ' || call;
    END LOOP;
    RETURN state;
END $$;
SELECT wfproc.define('bad_owned', 'owned');
SELECT wfproc.grant_access('bad_owned', 'bad_client', 'send');
RESET ROLE;
SELECT wfproc.define('bad_accepts', 'bad', accepts => '{fine}');
SELECT wfproc.grant_access('bad_accepts', 'bad_owner', 'send');
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('bad', 'mine'), wfproc.start('bad_owned', 'theirs'), wfproc.start('bad_accepts', 'picky');
SELECT wfproc.run();
\echo 'a child, a message, a cancel, a terminate, a monitor that the owner has no right to'
SELECT wfproc.send('theirs', 'e', '{"calls": ["wfproc.start(''bad'', ''child'')", "wfproc.send(''mine'', ''e'')", "wfproc.cancel(''mine'')", "wfproc.terminate(''mine'')", "wfproc.monitor(''mine'')",
    "wfproc.send(''unborn'', ''e'', or_start => ''bad'')", "wfproc.send(''picky'', ''fine'')", "wfproc.send(''picky'', ''foul'')", "wfproc.cancel(''picky'')"]}') > 0;
SELECT wfproc.run();
SELECT about('theirs'), about('mine'), about('picky'), about('child') IS NULL, about('unborn') IS NULL;
SELECT log_of('theirs');
SELECT log_of('mine');
SELECT log_of('picky');
SELECT dead();
\echo 'clients'
SET LOCAL ROLE bad_client;
SELECT call, try('SELECT wfproc.' || call)
FROM unnest('{pause(''theirs''),resume(''theirs''),cancel(''theirs''),terminate(''theirs''),retry_now(''theirs''),skip(''theirs''),snapshot(''theirs''),"set_attributes(''theirs'', ''{\"a\": 1}'')","send(''theirs'', ''e'') > 0"}'::text[]) call;
RESET ROLE;
SET LOCAL ROLE bad_nobody;
SELECT call, try('SELECT wfproc.' || call) FROM unnest('{pause(''theirs''),cancel(''theirs''),terminate(''theirs''),"set_attributes(''theirs'', ''{\"a\": 1}'')","send(''theirs'', ''e'')","send(''new'', ''e'', or_start => ''bad_owned'')"}'::text[]) call;
RESET ROLE;
SELECT wfproc.send('theirs', 'e', '{"calls": ["wfproc.reject(''no'')"]}') > 0;
SELECT wfproc.run();
SELECT mail_id AS letter FROM wfproc.dead_letters WHERE id = 'theirs' \gset
SET LOCAL ROLE bad_nobody;
SELECT wfproc.redrive(:letter);
RESET ROLE;
SET LOCAL ROLE bad_client;
SELECT wfproc.redrive(:letter);
RESET ROLE;
SELECT wfproc.grant_access('bad_owned', 'bad_client', 'operate');
SET LOCAL ROLE bad_client;
SELECT wfproc.redrive(:letter) > 0, wfproc.terminate('theirs');
ROLLBACK;
SET ROLE bad_client;
CALL wfproc.control_all('cancel', 'bad_owned');
CALL wfproc.control_all('cancel', 'bad');
RESET ROLE;

DROP SCHEMA bad_actions_test CASCADE;
DROP OWNED BY bad_owner, bad_client, bad_nobody;
DROP ROLE bad_owner, bad_client, bad_nobody;
