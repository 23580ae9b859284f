-- I19: what the owner of a workflow can try in order to become somebody else, by run() of a superuser and by a worker
\set QUIET on
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;

CREATE ROLE regress_attacks_mallory;
CREATE ROLE regress_attacks_alice;
SELECT wfproc.grant_usage(r) FROM unnest('{regress_attacks_mallory,regress_attacks_alice}'::text[]) r;
CREATE SCHEMA attacks AUTHORIZATION regress_attacks_mallory;
GRANT USAGE ON SCHEMA attacks TO PUBLIC;
CREATE SCHEMA attacks_private;
CREATE TABLE attacks_private.secret (s text);
INSERT INTO attacks_private.secret VALUES ('the secret');

-- everything below that is mallory's own
SET SESSION AUTHORIZATION regress_attacks_mallory;
SET search_path = attacks;

CREATE TABLE spoils (who text, how text);
GRANT INSERT ON spoils TO PUBLIC;

-- tries a statement, and says who it is afterwards; of some that the servers' versions word differently, the SQLSTATE alone
CREATE FUNCTION attempt(sql text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        EXECUTE sql;
    EXCEPTION WHEN OTHERS THEN
        RETURN SQLSTATE || CASE WHEN sql ~ 'PROGRAM|pg_terminate' THEN '' ELSE ': ' || SQLERRM END;
    END;
    RETURN 'done, as ' || current_user;
END $$;
CREATE TABLE attempts (n int GENERATED ALWAYS AS IDENTITY, sql text);
INSERT INTO attempts (sql) VALUES
    ('RESET ROLE'), ('SET ROLE postgres'), ('SET LOCAL ROLE NONE'), ('RESET SESSION AUTHORIZATION'), ('SET SESSION AUTHORIZATION DEFAULT'),
    ('SELECT set_config(''role'', ''none'', false)'), ('SELECT set_config(''session_authorization'', ''default'', false)'),
    ('SELECT * FROM attacks_private.secret'), ('SELECT * FROM pg_authid'), ('SELECT pg_read_file(''/etc/passwd'')'),
    ('COPY attacks.spoils TO PROGRAM ''true'''), ('ALTER ROLE regress_attacks_mallory SUPERUSER'), ('CREATE ROLE regress_attacks_new SUPERUSER'),
    ('DECLARE c CURSOR WITH HOLD FOR SELECT current_user'), ('CREATE TEMP TABLE t (n int)'), ('LISTEN c'), ('UNLISTEN *'), ('PREPARE p AS SELECT current_user'),
    ('DEALLOCATE ALL'), ('DISCARD ALL'), ('DISCARD PLANS'), ('LOAD ''wfproc'''), ('SET session_replication_role = replica'), ('SET session_preload_libraries = ''x'''),
    ('SET wfproc.fake_now = ''2030-01-01'''), ('SET wfproc.handler_memory = ''2GB'''), ('SET wfproc.max_state = 1000000'),
    ('SELECT pg_terminate_backend(pg_backend_pid())'), ('SELECT pg_advisory_unlock_all()'), ('COMMIT'), ('ROLLBACK'), ('SAVEPOINT s'), ('PREPARE TRANSACTION ''x'''),
    ('SET TRANSACTION READ WRITE'), ('INSERT INTO attacks.spoils VALUES (current_user, ''insert'')'), ('SELECT lo_from_bytea(0, ''x'')'),
    ('CREATE FUNCTION attacks.f() RETURNS int LANGUAGE sql AS ''SELECT 1'''), ('DO ''BEGIN COMMIT; END'''), ('CALL attacks.commits()'),
    ('SELECT * FROM wfproc.event'), ('DELETE FROM wfproc.mailbox'), ('SELECT wfproc.adopt()'), ('SELECT wfproc.grant_usage(''regress_attacks_mallory'')');
CREATE PROCEDURE commits() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$;

CREATE FUNCTION h(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event = 'end' THEN
        PERFORM wfproc.complete();
        RETURN state;
    ELSIF event <> 'start' THEN
        RETURN state || jsonb_build_object(event, attacks.attempt(payload ->> 'sql'));
    END IF;
    RETURN jsonb_build_object('user', current_user);
END $$;
SELECT wfproc.define('attacks', 'h');

-- a helper that was declared IMMUTABLE, so that planning calls it
CREATE FUNCTION folded(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN attacks.attempt(t); END $$;
CREATE FUNCTION hf(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    RETURN state || jsonb_build_object(event, folded('SELECT * FROM attacks_private.secret'), 'reset', folded('RESET ROLE'));
END $$;
SELECT wfproc.define('attacks_folded', 'hf');
RESET SESSION AUTHORIZATION;

\echo '--- by run() of a superuser'
SET search_path = pg_catalog;
BEGIN;
SELECT wfproc.start('attacks', 'attacks-1');
SELECT count(wfproc.send('attacks-1', 'a' || n, jsonb_build_object('sql', sql))) FROM (SELECT * FROM attacks.attempts ORDER BY n) a;
SELECT wfproc.start('attacks_folded', 'attacks-2');
SELECT wfproc.run();
SELECT s ->> 'user' FROM wfproc.state('attacks-1') s;
-- before 16 the server lets a large object be made, but none is left
SELECT a.sql || ' | ' || CASE WHEN a.sql ~ 'lo_' THEN (SELECT count(*) FROM pg_largeobject_metadata)::text ELSE s ->> ('a' || n) END
FROM wfproc.state('attacks-1') s, attacks.attempts a ORDER BY n;
SELECT wfproc.state('attacks-2');
SELECT current_user = session_user, current_setting('role'), current_setting('wfproc.fake_now');
\echo 'the caller is whole: it writes, and nothing that was tried is left'
INSERT INTO attacks_private.secret VALUES ('another');
SELECT count(*) FROM attacks.spoils;
SELECT array_agg(s ->> ('a' || n) ORDER BY n) AS by_run FROM wfproc.state('attacks-1') s, attacks.attempts a \gset
ROLLBACK;
SELECT count(*) FROM pg_largeobject_metadata;
SELECT rolname, rolsuper FROM pg_roles WHERE rolname LIKE 'regress_attacks%' ORDER BY 1;

\echo '--- by a worker: the same answers'
BEGIN;
SELECT wfproc.start('attacks', 'attacks-1');
SELECT count(wfproc.send('attacks-1', 'a' || n, jsonb_build_object('sql', sql))) FROM (SELECT * FROM attacks.attempts ORDER BY n) a;
SELECT wfproc.send('attacks-1', 'end') > 0;
COMMIT;
SELECT status FROM wfproc.await('attacks-1', '60 s');
SELECT a.sql, s ->> ('a' || n) AS worker, (:'by_run'::text[])[row_number() OVER (ORDER BY n)] AS run FROM wfproc.state('attacks-1') s, attacks.attempts a
EXCEPT SELECT a.sql, s ->> ('a' || n), s ->> ('a' || n) FROM wfproc.state('attacks-1') s, attacks.attempts a;
SELECT wfproc.verify('attacks-1');
SELECT count(*) FROM pg_largeobject_metadata;
SELECT count(*) FROM attacks.spoils;
SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'wfproc worker' AND datname = current_database();

\echo '--- by those who only read: verify() and state() of a superuser, of another user with the right to'
SELECT s ->> 'user' FROM wfproc.state('attacks-1') s;
SET ROLE regress_attacks_mallory;
SELECT wfproc.grant_access('attacks', 'regress_attacks_alice', 'operate');
SET ROLE regress_attacks_alice;
SELECT s ->> 'user' FROM wfproc.state('attacks-1') s;
SELECT ok FROM wfproc.verify('attacks-1');
RESET ROLE;

\echo '--- try_step() runs a handler as who asks for it, and so does not lend the rights of its owner, nor take them'
CREATE FUNCTION attacks_private.h(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('user', current_user, 'secret', s) FROM attacks_private.secret $$;
SET ROLE regress_attacks_alice;
SELECT new_state FROM wfproc.try_step('attacks.h', '{}', 'start');
CREATE FUNCTION pg_temp.code() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM wfproc.try_step('attacks_private.h', '{}', 'start');
    RETURN 'done';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ': ' || SQLERRM;
END $$;
SELECT pg_temp.code();
RESET ROLE;

\echo '--- operators, functions and casts in a search_path: the SQL of the extension does not find them'
SET SESSION AUTHORIZATION regress_attacks_mallory;
SET search_path = attacks, pg_catalog;
CREATE FUNCTION note(how text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE WARNING 'captured: % as %', how, current_user;
END $$;
CREATE FUNCTION eq(bigint, bigint) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN PERFORM attacks.note('bigint'); RETURN true; END $$;
CREATE FUNCTION eq(text, text) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN PERFORM attacks.note('text'); RETURN true; END $$;
CREATE FUNCTION eq(int, int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN PERFORM attacks.note('int'); RETURN true; END $$;
CREATE FUNCTION eq(uuid, uuid) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN PERFORM attacks.note('uuid'); RETURN true; END $$;
CREATE FUNCTION eq(oid, oid) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN PERFORM attacks.note('oid'); RETURN true; END $$;
CREATE FUNCTION eq(name, name) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN PERFORM attacks.note('name'); RETURN true; END $$;
CREATE OPERATOR = (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = eq);
CREATE OPERATOR = (LEFTARG = text, RIGHTARG = text, FUNCTION = eq);
CREATE OPERATOR = (LEFTARG = int, RIGHTARG = int, FUNCTION = eq);
CREATE OPERATOR = (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = eq);
CREATE OPERATOR = (LEFTARG = oid, RIGHTARG = oid, FUNCTION = eq);
CREATE OPERATOR = (LEFTARG = name, RIGHTARG = name, FUNCTION = eq);
CREATE FUNCTION format(text, VARIADIC text[]) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM attacks.note('format'); RETURN 'SELECT 1'; END $$;
CREATE FUNCTION unnest(anyarray) RETURNS SETOF anyelement LANGUAGE plpgsql AS $$ BEGIN PERFORM attacks.note('unnest'); RETURN; END $$;
CREATE FUNCTION digest(text, text) RETURNS bytea LANGUAGE plpgsql AS $$ BEGIN PERFORM attacks.note('digest'); RETURN ''; END $$;
CREATE TABLE event (n int);
CREATE TABLE workflow (n int);
CREATE TABLE pg_database (oid oid, datname name);
-- that it would be noticed
SELECT 1::bigint = 2::bigint;
RESET SESSION AUTHORIZATION;
SET search_path = attacks, pg_catalog;
\echo 'a superuser with that path'
BEGIN;
SELECT wfproc.start('attacks', 'attacks-3'), wfproc.send('attacks-3', 'x', '{"sql": "SELECT 1"}', idempotency_key => 'k') > 0, wfproc.send('attacks-3', 'x', '{"sql": "SELECT 1"}', idempotency_key => 'k') > 0;
SELECT wfproc.run();
SELECT wfproc.state('attacks-3') ->> 'x', (wfproc.verify('attacks-3')).ok, (wfproc.digest('attacks-3')).seq;
SELECT count(*) FROM wfproc.history('attacks-3');
SELECT count(*) > 0 FROM wfproc.instances;
SELECT count(*) > 0 FROM wfproc.workflows;
SELECT count(*) >= 0 FROM wfproc.workers;
SELECT count(*) >= 0 FROM wfproc.registry;
SELECT count(*) >= 0 FROM wfproc.dead_letters;
SELECT wfproc.pause('attacks-3'), wfproc.resume('attacks-3'), wfproc.unsend('attacks-3', 0);
SELECT wfproc.grant_access('attacks', 'regress_attacks_alice', 'send'), wfproc.revoke_access('attacks', 'regress_attacks_alice', 'send');
SELECT wfproc.grant_usage('regress_attacks_alice');
SELECT wfproc.define('attacks', 'attacks.h');
SELECT wfproc.may(1, 'read') IS NOT NULL;
SELECT wfproc.adopt() >= 0;
ROLLBACK;
RESET search_path;

\echo '--- the handler replaced, dropped, or handed to somebody else after define(): what was published runs'
SET SESSION AUTHORIZATION regress_attacks_mallory;
CREATE OR REPLACE FUNCTION attacks.h(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{"replaced": true}'::jsonb $$;
RESET SESSION AUTHORIZATION;
BEGIN;
SELECT wfproc.start('attacks', 'attacks-4'), wfproc.send('attacks-4', 'x', '{"sql": "SELECT 1"}') > 0, wfproc.run();
SELECT wfproc.state('attacks-4') ->> 'x';
ROLLBACK;
DROP FUNCTION attacks.h;
BEGIN;
SELECT wfproc.start('attacks', 'attacks-4'), wfproc.send('attacks-4', 'x', '{"sql": "SELECT 1"}') > 0, wfproc.run();
SELECT wfproc.state('attacks-4') ->> 'x';
ROLLBACK;
\echo 'its owner cannot get at the copy'
SELECT format('wfproc_code_%s_1', workflow_id) AS copy FROM wfproc.workflow WHERE name = 'attacks' \gset
SET SESSION AUTHORIZATION regress_attacks_mallory;
SELECT left(attacks.attempt(format(a, :'copy')), 5) FROM unnest(ARRAY[
    'CREATE OR REPLACE FUNCTION %I.h(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE sql AS ''SELECT state''',
    'CREATE FUNCTION %I.other() RETURNS int LANGUAGE sql AS ''SELECT 1''', 'ALTER FUNCTION %I.h(jsonb, text, jsonb) SECURITY DEFINER',
    'DROP FUNCTION %I.h(jsonb, text, jsonb)', 'SELECT %I.h(''{}'', ''x'', ''{}'')', 'DROP SCHEMA %I CASCADE', 'ALTER SCHEMA %I RENAME TO x']) a;
RESET SESSION AUTHORIZATION;

CREATE TABLE attacks_private.kept AS SELECT * FROM wfproc.version WHERE workflow_id = (SELECT workflow_id FROM wfproc.workflow WHERE name = 'attacks');
\echo '--- a forged definition: text and hash of other code; what would run is not that'
UPDATE wfproc.version SET code = replace(code, 'complete', 'fail'), code_sha256 = sha256(convert_to(replace(code, 'complete', 'fail'), 'UTF8'))
WHERE workflow_id = (SELECT workflow_id FROM wfproc.workflow WHERE name = 'attacks');
\c -
\set QUIET on
BEGIN;
SELECT wfproc.start('attacks', 'attacks-5'), wfproc.run();
SELECT status, regexp_replace(error, '_\d+_1', '_n_1') FROM wfproc.instances WHERE id = 'attacks-5';
ROLLBACK;
UPDATE wfproc.version v SET code = k.code, code_sha256 = k.code_sha256 FROM attacks_private.kept k WHERE (v.workflow_id, v.version) = (k.workflow_id, k.version);
\c -
BEGIN;
SELECT wfproc.start('attacks', 'attacks-5'), wfproc.run();
SELECT status, error FROM wfproc.instances WHERE id = 'attacks-5';
ROLLBACK;
\echo 'nor a function that is not the code, such as one that runs with the rights of the owner of the extension'
BEGIN;
ALTER FUNCTION :copy.h(jsonb, text, jsonb) SECURITY DEFINER;
SELECT wfproc.start('attacks', 'attacks-5'), wfproc.run();
SELECT status, regexp_replace(error, '_\d+_1', '_n_1') FROM wfproc.instances WHERE id = 'attacks-5';
ROLLBACK;
\echo 'nor one in a language that is no longer trusted'
\c -
BEGIN;
UPDATE pg_language SET lanpltrusted = false WHERE lanname = 'plpgsql';
SELECT wfproc.start('attacks', 'attacks-5'), wfproc.run();
SELECT status, regexp_replace(error, '_\d+_1', '_n_1') FROM wfproc.instances WHERE id = 'attacks-5';
ROLLBACK;

\echo '--- rights that are taken away after define() count'
SET SESSION AUTHORIZATION regress_attacks_mallory;
SELECT wfproc.define('attacks_alone', 'attacks.hf');
RESET SESSION AUTHORIZATION;
REVOKE USAGE ON SCHEMA wfproc FROM regress_attacks_mallory;
BEGIN;
SELECT wfproc.start('attacks', 'attacks-6'), wfproc.send('attacks-6', 'end') > 0, wfproc.run();
SELECT status, error FROM wfproc.instances WHERE id = 'attacks-6';
ROLLBACK;
GRANT USAGE ON SCHEMA wfproc TO regress_attacks_mallory;
ALTER ROLE regress_attacks_mallory RENAME TO regress_attacks_gone;
BEGIN;
SELECT wfproc.start('attacks', 'attacks-6'), wfproc.run();
SELECT status, error FROM wfproc.instances WHERE id = 'attacks-6';
ROLLBACK;
ALTER ROLE regress_attacks_gone RENAME TO regress_attacks_mallory;

SET client_min_messages = warning;
\echo '--- what a handler leaves behind in the session that runs it: nothing, and what was there before stays'
SET SESSION AUTHORIZATION regress_attacks_mallory;
CREATE FUNCTION attacks.leave(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    c refcursor;
    n int;
BEGIN
    IF event = 'end' THEN
        PERFORM wfproc.complete();
    ELSIF event = 'leave' THEN
        PERFORM attacks.attempt(a) FROM unnest(ARRAY['SELECT pg_advisory_lock(4711)', 'SELECT pg_advisory_lock_shared(4711, n) FROM generate_series(1, 100) n',
            'SELECT pg_advisory_lock(4712)', 'PREPARE left_behind AS SELECT 1', 'DECLARE left_behind CURSOR WITH HOLD FOR SELECT 1',
            'CREATE TEMP TABLE left_behind (n int)', 'LISTEN left_behind', 'SELECT lo_open(1, 262144)', 'SET work_mem = ''64kB''', 'SET SESSION statement_timeout = 1',
            'SELECT set_config(''attacks.left'', ''behind'', false)']) a;
        OPEN c FOR SELECT generate_series(1, 100);
        FETCH c INTO n;
    END IF;
    RETURN state;
END $$;
SELECT wfproc.define('attacks_leave', 'attacks.leave');
RESET SESSION AUTHORIZATION;
CREATE VIEW attacks_private.left_behind AS
    SELECT 'lock' AS what FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()
    UNION ALL SELECT 'statement' FROM pg_prepared_statements
    UNION ALL SELECT 'cursor' FROM pg_cursors
    UNION ALL SELECT 'channel' FROM pg_listening_channels()
    UNION ALL SELECT 'table' FROM pg_class WHERE relname = 'left_behind' AND relpersistence = 't'
    UNION ALL SELECT 'setting' WHERE current_setting('work_mem') = '64kB' OR current_setting('statement_timeout') = '1ms' OR current_setting('attacks.left', true) = 'behind';
SELECT count(pg_advisory_lock(4712)) FROM generate_series(1, 2);
BEGIN;
SELECT wfproc.start('attacks_leave', 'attacks-7'), wfproc.send('attacks-7', 'leave') > 0, wfproc.run();
SELECT * FROM attacks_private.left_behind;
COMMIT;
SELECT pg_advisory_unlock(4712), pg_advisory_unlock(4712);
SELECT * FROM attacks_private.left_behind;
SELECT wfproc.start('attacks_leave', 'attacks-8'), wfproc.send('attacks-8', 'leave') > 0;
SELECT wfproc.send('attacks-8', 'end') > 0;
SELECT status FROM wfproc.await('attacks-8', '60 s');
SELECT * FROM attacks_private.left_behind;
SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory' AND a.backend_type = 'wfproc worker' AND a.datname = current_database();
SELECT ok FROM wfproc.verify('attacks-8');
SELECT * FROM attacks_private.left_behind;

SET client_min_messages = error;
DROP SCHEMA attacks, attacks_private CASCADE;
DROP OWNED BY regress_attacks_mallory, regress_attacks_alice;
DROP ROLE regress_attacks_mallory, regress_attacks_alice;
