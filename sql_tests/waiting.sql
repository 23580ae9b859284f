-- await_state(), call(), and what await() has in common with them: arguments, conditions, refusals, replies
\set QUIET on
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';

CREATE SCHEMA waiting_test;
SET search_path = waiting_test;

-- runs a statement; its result, or its SQLSTATE, message and hint
CREATE FUNCTION try(sql text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    result text;
    message text;
    hint text;
BEGIN
    EXECUTE sql INTO result;
    RETURN NEXT 'ok: ' || COALESCE(result, 'null');
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
    RETURN NEXT SQLSTATE || ': ' || message;
    IF hint <> '' THEN
        RETURN NEXT '  hint: ' || hint;
    END IF;
END $$;

-- whether the state fits now
CREATE FUNCTION fits(id text, condition jsonpath) RETURNS bool LANGUAGE sql AS $$
    SELECT wfproc.await_state(id, condition, '0') IS NOT NULL
$$;

-- merges the payload into its state; answers what is asked
CREATE FUNCTION merge(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    CASE event
        WHEN 'end' THEN PERFORM wfproc.complete();
        WHEN 'ask' THEN PERFORM wfproc.reply(jsonb_build_object('of', wfproc.self(), 'asked', payload));
        WHEN 'answer null' THEN PERFORM wfproc.reply('null');
        WHEN 'refuse' THEN PERFORM wfproc.reject('not wanted');
        WHEN 'wait' THEN EXECUTE 'CALL wfproc.call(''nobody'', ''e'')';
        ELSE NULL;
    END CASE;
    RETURN state || payload;
END $$;
SELECT wfproc.define('waiting', 'merge', retry_delay => '1 day');
SELECT wfproc.define('waiting_accepts', 'merge', accepts => '{ask}');

\echo '--- await_state(): arguments'
BEGIN;
SET LOCAL wfproc.fake_now = '2030-01-01 00:00+00';
SELECT wfproc.start('waiting', 'w-1');
SELECT try($$ SELECT wfproc.await_state(NULL, '$.a') $$);
SELECT try($$ SELECT wfproc.await_state('', '$.a') $$);
SELECT try($$ SELECT wfproc.await_state(repeat('x', 256), '$.a') $$);
SELECT try($$ SELECT wfproc.await_state('nobody', '$.a') $$);
SELECT try($$ SELECT wfproc.await_state('w-1', NULL) $$);
SELECT try($$ SELECT wfproc.await_state('w-1', '$.a ==') $$);
SELECT try($$ SELECT wfproc.await_state('w-1', '$.a', '-1 s') $$);
\echo 'this transaction has started it: nobody else can handle anything of it'
SELECT try($$ SELECT wfproc.await_state('w-1', '$.a == 1') $$);
SELECT try($$ SELECT wfproc.await_state('w-1', '$.a == 1', NULL) $$);
SELECT try($$ SELECT wfproc.await_state('w-1', '$.a == 1', '0') $$);
SELECT try($$ SELECT status FROM wfproc.await('w-1') $$);
ROLLBACK;

\echo '--- await_state(): conditions'
BEGIN;
SET LOCAL wfproc.fake_now = '2030-01-01 00:00+00';
SELECT wfproc.start('waiting', 'w-1');
\echo 'before the first event the state is {}'
SELECT fits('w-1', '$'), fits('w-1', '$.paid'), fits('w-1', '!exists($.paid)');
SELECT wfproc.send('w-1', 'e', '{"paid": true, "open": false, "n": 5, "zero": 0, "text": "five", "none": null, "lines": [{"q": 1}, {"q": 7}], "empty": []}') > 0;
SELECT wfproc.run();
SELECT wfproc.await_state('w-1', '$.paid == true', '0');
\echo 'true or false'
SELECT c, fits('w-1', c::jsonpath)
FROM unnest(ARRAY['$.paid == true', '$.paid == false', '$.open == false', '$.paid', '$.open', '$.n > 4', '$.n > 5', '$.n > 4 && $.paid == true',
                  '$.n > 5 || $.open == true', '!($.n > 5)', 'exists($.lines)', 'exists($.nothing)', '$.text starts with "fi"',
                  '$.text like_regex "^F"', '$.lines[*].q > 6', 'strict $.n == 5']) c;
\echo 'a path that finds something'
SELECT c, fits('w-1', c::jsonpath)
FROM unnest(ARRAY['$.n', '$.text', '$.none', '$.nothing', '$.lines', '$.empty', '$.empty[*]', '$.lines[*] ? (@.q > 6)', '$.lines[*] ? (@.q > 7)', '$.n + 1', 'strict $.nothing']) c;
\echo 'neither true nor false is no fit, and an error neither'
SELECT c, fits('w-1', c::jsonpath)
FROM unnest(ARRAY['$.text > 5', '!($.text > 5)', '($.text > 5) is unknown', '1 / $.zero > 0', '1 / $.zero', 'strict $.nothing == 1', '$.n starts with "5"']) c;
\echo 'one that fits already is no wait'
SELECT wfproc.await_state('w-1', '$.n == 5', '10 s') -> 'n', wfproc.await_state('w-1', '$.n', NULL) -> 'n';
\echo 'an instance that has closed: its last state, or NULL'
SELECT wfproc.send('w-1', 'end', '{"n": 6}') > 0;
SELECT wfproc.run();
SELECT wfproc.await_state('w-1', '$.n == 6', '10 s') -> 'n', wfproc.await_state('w-1', '$.n == 5', '10 s') IS NULL, wfproc.await_state('w-1', '$.n == 5', NULL) IS NULL;
SELECT wfproc.await_state('w-1', '$.n == 6', '0') = wfproc.state('w-1');
ROLLBACK;

\echo '--- await_state(): the log does not replay'
BEGIN;
SET LOCAL wfproc.fake_now = '2030-01-01 00:00+00';
CREATE FUNCTION fickle(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('v', current_setting('waiting.v', true))
$$;
SELECT wfproc.define('fickle', 'fickle');
SET LOCAL waiting.v = 'old';
SELECT wfproc.start('fickle', 'f-1'), wfproc.run();
SELECT wfproc.await_state('f-1', '$.v == "old"', '0');
SET LOCAL waiting.v = 'new';
SELECT try($$ SELECT wfproc.await_state('f-1', '$.v == "old"', '0') $$);
ROLLBACK;

\echo '--- rights: await_state() needs read, call() needs send'
CREATE ROLE waiting_reader;
CREATE ROLE waiting_sender;
SELECT wfproc.grant_usage('waiting_reader'), wfproc.grant_usage('waiting_sender');
SELECT wfproc.grant_access('waiting', 'waiting_reader', 'read'), wfproc.grant_access('waiting', 'waiting_sender', 'send');
GRANT USAGE ON SCHEMA waiting_test TO waiting_reader, waiting_sender;
SELECT wfproc.start('waiting', 'w-2', '{"ready": true}');
SELECT wfproc.await_state('w-2', '$.ready == true', '60 s');
SET ROLE waiting_reader;
SELECT try($$ SELECT wfproc.await_state('w-2', '$.ready == true', '60 s') $$);
CALL wfproc.call('w-2', 'ask');
SET ROLE waiting_sender;
SELECT try($$ SELECT wfproc.await_state('w-2', '$.ready == true', '0') $$);
CALL wfproc.call('w-2', 'ask', '{"n": 1}', '60 s');
RESET ROLE;

\echo '--- call(): where it cannot commit'
BEGIN;
CALL wfproc.call('w-2', 'ask');
ROLLBACK;
SELECT try($$ CALL wfproc.call('w-2', 'ask') $$);
DO $$
DECLARE
    reply jsonb;
BEGIN
    CALL wfproc.call('w-2', 'ask', NULL, '60 s', NULL, reply);
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING '%: %', SQLSTATE, SQLERRM;
END $$;
SET default_transaction_read_only = on;
CALL wfproc.call('w-2', 'ask');
RESET default_transaction_read_only;
\echo 'and inside a handler'
BEGIN;
SET LOCAL wfproc.fake_now = '2030-01-01 00:00+00';
SELECT try($$ SELECT wfproc.try_step('merge', '{}', 'wait') $$);
ROLLBACK;

\echo '--- call(): arguments'
CALL wfproc.call(NULL, 'ask');
CALL wfproc.call('', 'ask');
CALL wfproc.call('nobody', 'ask');
CALL wfproc.call('w-2', NULL);
CALL wfproc.call('w-2', '');
CALL wfproc.call('w-2', 'start');
CALL wfproc.call('w-2', '$pause');
CALL wfproc.call('w-2', 'ask', timeout => '-1 s');
CALL wfproc.call('w-2', 'ask', idempotency_key => '');
SELECT wfproc.start('waiting_accepts', 'w-a');
CALL wfproc.call('w-a', 'paid');
\echo 'none of that has sent anything'
SELECT event, payload FROM wfproc.history('w-2');

\echo '--- call(): replies'
CALL wfproc.call('w-2', 'ask', '{"n": 2}', '60 s');
CALL wfproc.call('w-2', 'ask', timeout => '60 s', reply => '"is not looked at"');
CALL wfproc.call('w-2', 'answer null', timeout => NULL);
CALL wfproc.call('w-2', 'silent', timeout => '60 s');
CALL wfproc.call('w-a', 'ask', '{"n": 1}', '60 s');
\echo 'a large one'
CREATE TABLE replies (n int GENERATED ALWAYS AS IDENTITY, reply jsonb);
DO $$
DECLARE
    reply jsonb;
BEGIN
    CALL wfproc.call('w-2', 'ask', jsonb_build_object('large', repeat('x', 100000)), '60 s', NULL, reply);
    INSERT INTO replies (reply) VALUES (reply);
    COMMIT;
    CALL wfproc.call('w-2', 'ask', '{"after": "a commit"}', '60 s', NULL, reply);
    INSERT INTO replies (reply) VALUES (reply);
END $$;
SELECT n, length(reply #>> '{asked,large}'), reply #> '{asked,after}' FROM replies ORDER BY n;
\echo 'the same call with the same key: the same reply, and no other event'
CALL wfproc.call('w-2', 'ask', '{"n": 3}', '60 s', 'k');
CALL wfproc.call('w-2', 'ask', '{"n": 3}', '60 s', 'k');
CALL wfproc.call('w-2', 'ask', '{"n": 3}', '0', 'k');
SELECT count(*) FROM wfproc.history('w-2') WHERE idempotency_key = 'k';
\set SHOW_CONTEXT never
\set VERBOSITY sqlstate
CALL wfproc.call('w-2', 'ask', '{"n": 4}', '60 s', 'k');
\set VERBOSITY default
\echo 'in a transaction that would keep its snapshot'
SET default_transaction_isolation = 'repeatable read';
CALL wfproc.call('w-2', 'ask', '{"n": 5}', '60 s');
SET default_transaction_isolation = 'serializable';
CALL wfproc.call('w-2', 'ask', '{"n": 6}', '60 s');
RESET default_transaction_isolation;

\echo '--- call(): no reply in time; the event stays'
SELECT wfproc.pause('w-2');
CALL wfproc.call('w-2', 'ask', '{"n": 7}', '0');
CALL wfproc.call('w-2', 'ask', '{"n": 8}', '1 ms', 'later');
SELECT event, payload, idempotency_key FROM wfproc.agenda('w-2') WHERE event = 'ask';
SELECT wfproc.resume('w-2');
CALL wfproc.call('w-2', 'ask', '{"n": 8}', '60 s', 'later');
\echo 'one that was taken back'
SELECT wfproc.pause('w-2');
CALL wfproc.call('w-2', 'ask', '{"n": 9}', '0', 'back');
SELECT mail_id AS back FROM wfproc.agenda('w-2') WHERE idempotency_key = 'back' \gset
SELECT wfproc.unsend('w-2', :back);
\set VERBOSITY sqlstate
CALL wfproc.call('w-2', 'ask', '{"n": 9}', '60 s', 'back');
\set VERBOSITY default
SELECT wfproc.resume('w-2');

\echo '--- call(): dead letters, and an instance that closes'
\set VERBOSITY sqlstate
CALL wfproc.call('w-2', 'refuse', timeout => '60 s', idempotency_key => 'refused');
CALL wfproc.call('w-2', 'refuse', timeout => '0', idempotency_key => 'refused');
\set VERBOSITY default
SELECT event, reason FROM wfproc.dead_letters WHERE id = 'w-2';
CALL wfproc.call('w-2', 'end', timeout => '60 s', idempotency_key => 'end');
CALL wfproc.call('w-2', 'ask');
CALL wfproc.call('w-2', 'ask', '{"n": 3}', '60 s', 'k');
CALL wfproc.call('w-2', 'end', timeout => '60 s', idempotency_key => 'end');
SELECT status FROM wfproc.await('w-2', '60 s');
SELECT wfproc.verify('w-2');

SELECT wfproc.revoke_access('waiting', 'waiting_reader', 'read'), wfproc.revoke_access('waiting', 'waiting_sender', 'send');
\set VERBOSITY terse
DROP OWNED BY waiting_reader, waiting_sender;
DROP ROLE waiting_reader, waiting_sender;
SELECT wfproc.send('w-a', 'ask', idempotency_key => 'last') > 0;
DROP SCHEMA waiting_test CASCADE;
