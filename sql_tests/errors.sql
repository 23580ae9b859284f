-- what an instance says of a step that failed: the event, where, and why; and errors that no other try can mend
\set QUIET on
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';

CREATE SCHEMA errors_test;
SET search_path = errors_test;

-- without what differs from one server to another
CREATE FUNCTION about(id text) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(', ', i.id, i.status, 'attempts ' || i.attempts, i.error) ||
           COALESCE(E'\n' || regexp_replace(regexp_replace(i.error_context, 'wfproc_code_\d+_', 'wfproc_code_N_', 'g'),
                                            '(SQL expression|PL/pgSQL assignment) [^\n]*\n', '', 'g'), '')
    FROM wfproc.instances i WHERE i.id = about.id
$$;

CREATE FUNCTION inner_function(n text) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    RETURN n::int;
END $$;

CREATE TABLE written (n int);

CREATE FUNCTION h(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    n int;
BEGIN
    CASE event
        WHEN 'start' THEN NULL;
        WHEN 'nested' THEN
            n := inner_function(payload ->> 'n');
        WHEN 'detailed' THEN
            RAISE EXCEPTION 'told to' USING DETAIL = 'the detail', HINT = 'the hint', ERRCODE = 'F0000';
        WHEN 'null' THEN
            RETURN NULL;
        WHEN 'write' THEN
            INSERT INTO written VALUES (1);
        WHEN 'commit' THEN
            COMMIT;
        WHEN 'long' THEN
            RAISE EXCEPTION '%', repeat('ä', 100000) USING DETAIL = repeat('ß', 100000), HINT = repeat('ü', 100000);
        WHEN 'wrapped' THEN
            BEGIN
                n := inner_function('x');
            EXCEPTION WHEN OTHERS THEN
                RAISE;
            END;
    END CASE;
    RETURN state;
END $$;

CREATE FUNCTION m(state jsonb, from_version int, to_version int) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'not so' USING HINT = 'or so';
END $$;

\echo '--- the event, the line, detail and hint'
BEGIN;
SET LOCAL wfproc.fake_now = '2030-01-01 00:00';
SELECT wfproc.define('errors', 'h', max_attempts => 2, retry_delay => '10 s');
SELECT wfproc.start('errors', 'e-' || event) FROM unnest('{nested,detailed,"null",wrapped}'::text[]) event;
SELECT wfproc.send('e-' || event, event, '{"n": "ten"}') > 0 FROM unnest('{nested,detailed,"null",wrapped}'::text[]) event;
SELECT wfproc.run();
SELECT about('e-' || event) FROM unnest('{nested,detailed,"null",wrapped}'::text[]) event;
\echo '--- the last attempt: it stays; the log has the message only'
SET LOCAL wfproc.fake_now = '2030-01-01 01:00';
SELECT wfproc.run();
SELECT about('e-nested');
SELECT seq, event, payload FROM wfproc.history('e-nested') ORDER BY seq;
SELECT wfproc.verify('e-nested');
\echo '--- and it goes with the error'
SELECT wfproc.skip('e-nested', 'n is no number');
SELECT wfproc.run();
SELECT about('e-nested');
ROLLBACK;

\echo '--- no other try can mend a write, or a COMMIT, in a handler: given up at once, with what to do'
BEGIN;
SET LOCAL wfproc.fake_now = '2030-01-01 00:00';
SELECT wfproc.define('errors', 'h');
SELECT wfproc.define('errors_fail', 'h', on_failure => 'fail');
SELECT wfproc.define('errors_dead', 'h', on_failure => 'dead_letter');
SELECT wfproc.start('errors', 'write'), wfproc.start('errors_fail', 'write-fail'), wfproc.start('errors_dead', 'write-dead'), wfproc.start('errors', 'commit');
SELECT wfproc.send(id, split_part(id, '-', 1)) > 0 FROM wfproc.instances WHERE workflow LIKE 'errors%' ORDER BY id COLLATE "C";
SELECT wfproc.run();
SELECT about(id) FROM wfproc.instances WHERE workflow LIKE 'errors%' ORDER BY id COLLATE "C";
SELECT id, event, reason FROM wfproc.dead_letters WHERE workflow = 'errors_dead';
ROLLBACK;

\echo '--- by try_step() too'
DO $$
DECLARE
    hint text;
BEGIN
    PERFORM wfproc.try_step('errors_test.h', '{}', 'write');
EXCEPTION WHEN read_only_sql_transaction THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RAISE WARNING '%', hint;
END $$;

\echo '--- however long: cut between characters'
BEGIN;
SET LOCAL wfproc.fake_now = '2030-01-01 00:00';
SELECT wfproc.define('errors', 'h');
SELECT wfproc.start('errors', 'long');
SELECT wfproc.send('long', 'long') > 0;
SELECT wfproc.run();
SELECT octet_length(error), octet_length(error_context), error = 'P0001: ' || repeat('ä', 498) || '...',
       error_context LIKE E'EVENT:  long, seq 2\nDETAIL:  ' || repeat('ß', 498) || E'...\nHINT:  ' || repeat('ü', 498)
                          || E'...\nCONTEXT:  PL/pgSQL function %(jsonb,text,jsonb) line 18 at RAISE'
    FROM wfproc.instances WHERE id = 'long';
ROLLBACK;

\echo '--- of a migrate function'
BEGIN;
SET LOCAL wfproc.fake_now = '2030-01-01 00:00';
SELECT wfproc.define('errors', 'h');
SELECT wfproc.start('errors', 'up');
SELECT wfproc.run();
SELECT wfproc.define('errors', 'h', migrate => 'm');
SELECT wfproc.upgrade('up', 2) > 0;
SELECT wfproc.run();
SELECT about('up');
ROLLBACK;

\echo '--- what passes is repeated ever later, and then it counts (in a worker: t/028_errors.pl)'
\echo '--- a log that cannot be folded for now: the instance waits, the others go on, and nothing is a difference'
CREATE TABLE switch (id text PRIMARY KEY, code text);
CREATE FUNCTION s(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    code text := (SELECT w.code FROM errors_test.switch w WHERE w.id = wfproc.self());
BEGIN
    IF code IS NOT NULL THEN
        RAISE EXCEPTION 'told to' USING ERRCODE = code;
    END IF;
    RETURN jsonb_build_object('n', COALESCE((state ->> 'n')::int, 0) + 1);
END $$;
BEGIN;
SET LOCAL wfproc.fake_now = '2030-01-01 00:00';
SELECT wfproc.define('errors', 's');
SELECT wfproc.start('errors', id) FROM unnest('{cold,other,ended}'::text[]) id;
SELECT wfproc.run();
INSERT INTO switch VALUES ('cold', '55P03'), ('ended', '57P01');
SELECT wfproc.send(id, 'x') > 0 FROM unnest('{cold,other,ended}'::text[]) id;
SELECT wfproc.run();
SELECT about(id) FROM wfproc.instances WHERE workflow LIKE 'errors%' ORDER BY id COLLATE "C";
SELECT wfproc.state('other');
\echo '--- one that is to be terminated needs no fold'
SELECT wfproc.terminate('ended', 'had enough');
SELECT wfproc.run();
SELECT about('ended');
\echo '--- once it has passed it goes on'
DELETE FROM switch;
SELECT wfproc.run();
SELECT about('cold'), wfproc.state('cold'), wfproc.verify('cold');
ROLLBACK;

DROP SCHEMA errors_test CASCADE;
