-- who may do what: owners, members, grants, and roles that come and go
\set QUIET on
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;

CREATE ROLE regress_priv_owner;
CREATE ROLE regress_priv_member IN ROLE regress_priv_owner;
CREATE ROLE regress_priv_heir NOINHERIT IN ROLE regress_priv_owner;
CREATE ROLE regress_priv_reader;
CREATE ROLE regress_priv_sender;
CREATE ROLE regress_priv_operator;
CREATE ROLE regress_priv_stranger;

CREATE SCHEMA priv_test;
GRANT USAGE, CREATE ON SCHEMA priv_test TO PUBLIC;
SET search_path = priv_test;

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

\echo '--- nothing for PUBLIC: every function, table and view of the schema is closed'
SELECT p.oid::regprocedure FROM pg_proc p
WHERE p.pronamespace = 'wfproc'::regnamespace AND has_function_privilege('regress_priv_stranger', p.oid, 'EXECUTE');
SELECT c.oid::regclass FROM pg_class c
WHERE c.relnamespace = 'wfproc'::regnamespace
  AND (c.relkind IN ('r', 'v') AND has_table_privilege('regress_priv_stranger', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')
       OR c.relkind = 'S' AND has_sequence_privilege('regress_priv_stranger', c.oid, 'USAGE, SELECT, UPDATE'));
SELECT has_schema_privilege('regress_priv_stranger', 'wfproc', 'USAGE');
SET ROLE regress_priv_stranger;
SELECT try($$ SELECT wfproc.define('priv', 'h') $$);
RESET ROLE;

\echo '--- grant_usage() opens functions and views, and no table'
SELECT wfproc.grant_usage(r) FROM unnest('{regress_priv_owner,regress_priv_heir,regress_priv_reader,regress_priv_sender,
    regress_priv_operator,regress_priv_stranger}'::text[]) r;
SELECT p.oid::regprocedure FROM pg_proc p
WHERE p.pronamespace = 'wfproc'::regnamespace AND NOT has_function_privilege('regress_priv_stranger', p.oid, 'EXECUTE')
ORDER BY 1;
SELECT c.oid::regclass FROM pg_class c
WHERE c.relnamespace = 'wfproc'::regnamespace AND c.relkind IN ('r', 'v')
  AND has_table_privilege('regress_priv_stranger', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')
ORDER BY c.relname;
SELECT try($$ SELECT wfproc.grant_usage(NULL) $$);
SELECT try($$ SELECT wfproc.grant_usage('regress_priv_nobody') $$);

\echo '--- whoever defines a workflow owns it'
SET ROLE regress_priv_owner;
CREATE FUNCTION h(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    RETURN state || jsonb_build_object('user', current_user);
END $$;
SELECT wfproc.define('priv', 'h');
SELECT workflow, owner FROM wfproc.workflows;
SELECT wfproc.start('priv', 'priv-1');
RESET ROLE;

\echo '--- and only the owner, its members and superusers publish it and grant'
SET ROLE regress_priv_stranger;
SELECT try($$ SELECT wfproc.define('priv', 'h') $$);
SELECT try($$ SELECT wfproc.grant_access('priv', 'regress_priv_stranger', 'operate') $$);
SELECT try($$ SELECT wfproc.revoke_access('priv', 'regress_priv_owner', 'operate') $$);
RESET ROLE;
SET ROLE regress_priv_heir;
SELECT try($$ SELECT wfproc.define('priv', 'h') $$);
RESET ROLE;
SET ROLE regress_priv_member;
SELECT try($$ SELECT wfproc.define('priv', 'h') $$);
RESET ROLE;
SELECT try($$ SELECT wfproc.define('priv', 'h') $$);

\echo '--- grants'
SET ROLE regress_priv_owner;
SELECT wfproc.grant_access('priv', 'regress_priv_reader', 'read');
SELECT wfproc.grant_access('priv', 'regress_priv_reader', 'read');
SELECT wfproc.grant_access('priv', 'regress_priv_sender', 'send');
SELECT wfproc.grant_access('priv', 'regress_priv_operator', 'operate');
SELECT try($$ SELECT wfproc.grant_access('priv', 'regress_priv_reader', 'write') $$);
SELECT try($$ SELECT wfproc.grant_access('priv', 'regress_priv_nobody', 'read') $$);
SELECT try($$ SELECT wfproc.grant_access('nothing', 'regress_priv_reader', 'read') $$);
SELECT try($$ SELECT wfproc.grant_access('priv', NULL, 'read') $$);
RESET ROLE;

\echo '--- what each may: send, read, operate'
CREATE TABLE priv AS SELECT workflow_id AS w FROM wfproc.workflow WHERE name = 'priv';
GRANT SELECT ON priv TO PUBLIC;
CREATE FUNCTION may() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(p || ' ' || wfproc.may((SELECT w FROM priv_test.priv), p), ', ')
    FROM unnest('{send,read,operate}'::text[]) p
$$;
SET ROLE regress_priv_owner;
SELECT may();
SET ROLE regress_priv_member;
SELECT may();
SET ROLE regress_priv_heir;
SELECT may();
SET ROLE regress_priv_reader;
SELECT may();
SET ROLE regress_priv_sender;
SELECT may();
SET ROLE regress_priv_operator;
SELECT may();
SET ROLE regress_priv_stranger;
SELECT may();
SELECT wfproc.may(-1, 'read'), wfproc.may(NULL, 'read') IS NULL;
SELECT try($$ SELECT wfproc.may(1, 'write') $$);
RESET ROLE;
SELECT may();

\echo '--- which the functions ask for'
SET ROLE regress_priv_reader;
SELECT try($$ SELECT count(*) FROM wfproc.instances WHERE id = 'priv-1' $$);
SELECT try($$ SELECT wfproc.state('priv-1') IS NOT NULL $$);
SELECT try($$ SELECT wfproc.send('priv-1', 'hello') $$);
SELECT try($$ SELECT wfproc.start('priv') $$);
SELECT try($$ SELECT wfproc.pause('priv-1') $$);
SET ROLE regress_priv_sender;
SELECT try($$ SELECT count(*) FROM wfproc.instances WHERE id = 'priv-1' $$);
SELECT try($$ SELECT wfproc.state('priv-1') $$);
SELECT try($$ SELECT wfproc.send('priv-1', 'hello') > 0 $$);
SELECT try($$ SELECT wfproc.pause('priv-1') $$);
SET ROLE regress_priv_stranger;
SELECT try($$ SELECT count(*) FROM wfproc.workflows $$);
SELECT try($$ SELECT count(*) FROM wfproc.instances $$);
SELECT try($$ SELECT count(*) FROM wfproc.dead_letters $$);
SELECT try($$ SELECT wfproc.state('priv-1') $$);
SELECT try($$ SELECT wfproc.history('priv-1') $$);
SELECT try($$ SELECT wfproc.verify('priv-1') $$);
SELECT try($$ SELECT wfproc.send('priv-1', 'hello') $$);
SELECT try($$ SELECT wfproc.adopt() $$);
SELECT try($$ SELECT * FROM wfproc.event $$);
SELECT try($$ DELETE FROM wfproc.acl $$);
RESET ROLE;

\echo '--- who is in a worker''s memory is for who may read it'
CALL wfproc.call('priv-1', 'hello');
DO $$
BEGIN
    WHILE NOT EXISTS (SELECT FROM wfproc.registry WHERE id = 'priv-1') AND clock_timestamp() < statement_timestamp() + interval '30 s' LOOP
    END LOOP;
END $$;
SET ROLE regress_priv_reader;
SELECT count(*) FROM wfproc.residents() r, wfproc.registry g WHERE g.id = 'priv-1' AND (g.pid, g.since) = (r.pid, r.since);
SET ROLE regress_priv_stranger;
SELECT count(*) FROM wfproc.residents();
RESET ROLE;

\echo '--- what processes and the engine have sent is no business of who may only send'
SET ROLE regress_priv_owner;
CREATE FUNCTION priv_test.family(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event = 'start' AND payload ? 'child' THEN
        PERFORM wfproc.start('priv_family', payload ->> 'child', '{"ends": true}');
        PERFORM wfproc.monitor(payload ->> 'child');
        PERFORM wfproc.set_timer('timer', '1 hour');
    ELSIF payload ? 'ends' THEN
        PERFORM wfproc.send(wfproc.parent(), 'hello');
        PERFORM wfproc.set_timer('leave', '1 minute');
    ELSIF event = 'leave' THEN
        PERFORM wfproc.complete();
    ELSIF event = 'ask' THEN
        PERFORM wfproc.reply('1');
    END IF;
    RETURN state;
END $$;
SELECT wfproc.define('priv_family', 'priv_test.family');
SELECT wfproc.grant_access('priv_family', 'regress_priv_sender', 'send'), wfproc.grant_access('priv_family', 'regress_priv_operator', 'operate');
RESET ROLE;
BEGIN;
SET LOCAL wfproc.fake_now = '2030-01-01 00:00+00';
SELECT wfproc.start('priv_family', 'parent', '{"child": "child"}');
SELECT wfproc.run(1);
SELECT wfproc.pause('parent', 'for now');
SELECT wfproc.run();
SET LOCAL wfproc.fake_now = '2030-01-01 00:10+00';
SELECT wfproc.run();
SELECT wfproc.send('parent', 'from outside') > 0;
CREATE TEMP TABLE mail AS SELECT mail_id, event FROM wfproc.agenda('parent');
GRANT SELECT ON mail TO PUBLIC;
SELECT event FROM mail ORDER BY mail_id;
SET LOCAL ROLE regress_priv_sender;
SELECT event, try(format('SELECT wfproc.unsend(%L, %s)', 'parent', mail_id)), try(format('SELECT wfproc.reschedule(%L, %s, %L)', 'parent', mail_id, '2031-01-01')) FROM mail ORDER BY mail_id;
SET LOCAL ROLE regress_priv_operator;
\echo 'an operator may, and the log says so'
SELECT event, try(format('SELECT wfproc.reschedule(%L, %s, %L)', 'parent', mail_id, '2029-01-01 00:00+00')) FROM mail WHERE event <> 'from outside' ORDER BY mail_id;
SELECT event, try(format('SELECT wfproc.unsend(%L, %s)', 'parent', mail_id)) FROM mail WHERE event LIKE '%.completed' ORDER BY mail_id;
RESET ROLE;
SELECT wfproc.resume('parent');
SELECT wfproc.run();
SELECT seq, event, payload - 'mail_id', (payload ->> 'mail_id')::bigint IN (SELECT mail_id FROM mail) FROM wfproc.history('parent') WHERE seq > 1 AND event <> ALL ('{$pause,$resume}');
SELECT wfproc.verify('parent');
ROLLBACK;

\echo '--- taking back works at once, in the same transaction and by rollback'
SET ROLE regress_priv_owner;
SELECT wfproc.revoke_access('priv', 'regress_priv_reader', 'send'), wfproc.revoke_access('priv', 'regress_priv_nobody', 'read');
BEGIN;
SELECT wfproc.revoke_access('priv', 'regress_priv_reader', 'read');
SET LOCAL ROLE regress_priv_reader;
SELECT may();
ROLLBACK;
SET ROLE regress_priv_reader;
SELECT may();
RESET ROLE;
BEGIN;
SAVEPOINT s;
SELECT wfproc.revoke_access('priv', 'regress_priv_reader', 'read');
SET LOCAL ROLE regress_priv_reader;
SELECT may();
ROLLBACK TO s;
SET LOCAL ROLE regress_priv_reader;
SELECT may();
COMMIT;

\echo '--- a grant to a role reaches its members'
GRANT regress_priv_reader TO regress_priv_stranger;
SET ROLE regress_priv_stranger;
SELECT may();
RESET ROLE;
REVOKE regress_priv_reader FROM regress_priv_stranger;
SET ROLE regress_priv_stranger;
SELECT may();
RESET ROLE;

\echo '--- publishing needs EXECUTE, and a language that is trusted'
CREATE FUNCTION closed(jsonb, text, jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';
REVOKE EXECUTE ON FUNCTION closed FROM PUBLIC;
CREATE FUNCTION untrusted(jsonb, text, jsonb) RETURNS jsonb LANGUAGE internal AS 'jsonb_in';
CREATE SCHEMA priv_closed;
CREATE FUNCTION priv_closed.h(jsonb, text, jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';
SET ROLE regress_priv_owner;
SELECT try($$ SELECT wfproc.define('priv_bad', 'closed') $$);
SELECT try($$ SELECT wfproc.define('priv_bad', 'untrusted') $$);
SELECT try($$ SELECT wfproc.define('priv_bad', 'priv_closed.h') $$);
RESET ROLE;

\echo '--- a step runs as the owner, whoever runs it'
SET ROLE regress_priv_operator;
BEGIN;
SELECT wfproc.start('priv', 'priv-2');
SELECT wfproc.run() > 0;
SELECT wfproc.state('priv-2');
COMMIT;
RESET ROLE;

\echo '--- making the copy runs the owner''s code as the owner at most: a literal checks the domain in it'
SET ROLE regress_priv_owner;
CREATE TABLE seen (who text);
CREATE FUNCTION look(int) RETURNS bool LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO priv_test.seen VALUES (current_user);
    BEGIN
        RESET ROLE;
    EXCEPTION WHEN OTHERS THEN
        NULL;
    END;
    INSERT INTO priv_test.seen VALUES (current_user);
    RETURN true;
END $$;
CREATE DOMAIN looked AS int CHECK (priv_test.look(VALUE));
CREATE TYPE pair AS (a looked);
RESET ROLE;
SET SESSION AUTHORIZATION regress_priv_owner;
CREATE FUNCTION atomic(state jsonb, event text, payload jsonb) RETURNS jsonb
BEGIN ATOMIC
    SELECT to_jsonb('(1)'::pair);
END;
TRUNCATE seen;
SELECT wfproc.define('priv_atomic', 'atomic');
RESET SESSION AUTHORIZATION;
SELECT DISTINCT who FROM seen;
TRUNCATE seen;
SET SESSION AUTHORIZATION regress_priv_owner;
CREATE OR REPLACE FUNCTION atomic(state jsonb, event text, payload jsonb) RETURNS jsonb
BEGIN ATOMIC
    SELECT to_jsonb('(2)'::pair);
END;
TRUNCATE seen;
RESET SESSION AUTHORIZATION;
SELECT wfproc.define('priv_atomic', 'priv_test.atomic');
SELECT DISTINCT who FROM seen;

\echo '--- nobody gets into the schema of a copy'
SELECT n.nspname AS copy FROM pg_namespace n, priv WHERE n.nspname = format('wfproc_code_%s_1', w) \gset
SELECT has_schema_privilege(r, :'copy', 'USAGE, CREATE'), has_function_privilege(r, format('%I.h(jsonb, text, jsonb)', :'copy'), 'EXECUTE')
FROM unnest('{regress_priv_owner,regress_priv_stranger}'::text[]) r;

\echo '--- an owner that is renamed away is gone; its instances wait and say so, and go on when it is back'
ALTER ROLE regress_priv_owner RENAME TO regress_priv_renamed;
SELECT try($$ SELECT wfproc.define('priv', 'priv_test.h', max_attempts => 7) $$);
SET ROLE regress_priv_renamed;
SELECT try($$ SELECT wfproc.define('priv', 'priv_test.h', max_attempts => 7) $$);
SELECT may();
RESET ROLE;
SELECT try($$ SELECT state FROM wfproc.replay('priv-2') $$);
ALTER ROLE regress_priv_renamed RENAME TO regress_priv_owner;
SELECT try($$ SELECT wfproc.define('priv', 'priv_test.h', max_attempts => 7) $$);
SELECT try($$ SELECT state FROM wfproc.replay('priv-2') $$);

\echo '--- a role that is gone has no grant, and what was granted to it can be taken back'
SET ROLE regress_priv_owner;
SELECT wfproc.grant_access('priv', 'regress_priv_stranger', 'read');
RESET ROLE;
SET client_min_messages = error;
DROP OWNED BY regress_priv_stranger;
DROP ROLE regress_priv_stranger;
SET ROLE regress_priv_owner;
SELECT wfproc.revoke_access('priv', 'regress_priv_stranger', 'read');
RESET ROLE;

DROP SCHEMA priv_test, priv_closed CASCADE;
DROP OWNED BY regress_priv_owner, regress_priv_member, regress_priv_heir, regress_priv_reader, regress_priv_sender,
    regress_priv_operator;
DROP ROLE regress_priv_owner, regress_priv_member, regress_priv_heir, regress_priv_reader, regress_priv_sender,
    regress_priv_operator;
