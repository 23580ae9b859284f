-- define(): publishing versions, their settings, their private copies, and what is refused
\set QUIET on
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;

CREATE SCHEMA define_test;
SET search_path = define_test, public;

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

-- the private copies of a workflow, with their version instead of the number that the workflow happens to have
CREATE VIEW copies AS
    SELECT w.name, v.version, p.proname, pg_get_function_identity_arguments(p.oid) AS arguments, p.prosrc,
           p.proowner = e.extowner AND n.nspowner = e.extowner AS is_extensions,
           p.proacl, n.nspacl, p.oid AS function, n.nspname AS schema
    FROM wfproc.workflow w JOIN wfproc.version v USING (workflow_id)
    JOIN pg_namespace n ON n.nspname = format('wfproc_code_%s_%s', w.workflow_id, v.version)
    JOIN pg_proc p ON p.pronamespace = n.oid, pg_extension e
    WHERE e.extname = 'wfproc';

-- a transaction of its own: starts an instance, handles what is due, and says how it went
CREATE FUNCTION go(workflow text, id text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM wfproc.start(workflow, id);
    PERFORM wfproc.run();
    RETURN (SELECT concat_ws(' ', i.id, 'version', i.version, i.status, wfproc.state(i.id), i.error)
            FROM wfproc.instances i WHERE i.id = go.id);
END $$;

\echo '--- the first version, with the default settings'
CREATE FUNCTION h(state jsonb, event text, payload jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    RETURN h.state || '{"code": "one"}';
END $$;
SELECT wfproc.define('define', 'h');
SELECT workflow, owner = current_user, current_version, handler, at_home, accepts, max_attempts, on_failure, retry_delay,
       handler_timeout, snapshot_every FROM wfproc.workflows WHERE workflow = 'define';

\echo '--- the same code again: the same version; settings that are given change, others stay'
SELECT wfproc.define('define', 'define_test.h', accepts => '{paid,shipped}', max_attempts => 3);
SELECT wfproc.define('define', 'H', on_failure => 'dead_letter', retry_delay => '2 min', handler_timeout => '500 ms',
                     snapshot_every => 7);
SELECT current_version, accepts, max_attempts, on_failure, retry_delay, handler_timeout, snapshot_every
FROM wfproc.workflows WHERE workflow = 'define';

\echo '--- an instance keeps its version, and a version its code'
SELECT go('define', 'define-1');
CREATE OR REPLACE FUNCTION h(state jsonb, event text, payload jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    RETURN h.state || '{"code": "two"}';
END $$;
SELECT go('define', 'define-2');
SELECT wfproc.define('define', 'h');
SELECT go('define', 'define-3');
SELECT state, diverged FROM wfproc.replay('define-1');
DROP FUNCTION h;
SELECT go('define', 'define-4');
SELECT state, diverged FROM wfproc.replay('define-1');
SELECT name, version, proname, arguments, is_extensions, proacl IS NOT NULL AND nspacl IS NOT NULL AS closed FROM copies
WHERE name = 'define' ORDER BY version;

\echo '--- the hash is that of the text; the text begins with the arguments'
SELECT version, handler, split_part(code, E'\n', 1), code_sha256 = public.digest(code, 'sha256')
FROM wfproc.version JOIN wfproc.workflow USING (workflow_id) WHERE name = 'define' ORDER BY version;

\echo '--- text and hash do not depend on the session''s settings'
CREATE TYPE color AS ENUM ('red', 'green');
CREATE FUNCTION atomic(state jsonb, event text, payload jsonb) RETURNS jsonb
BEGIN ATOMIC
    SELECT atomic.state || jsonb_build_object('code', 'red'::color, 'at', timestamptz '2020-02-29 12:00+00', 'x', 0.1::float8);
END;
SELECT wfproc.define('define_atomic', 'atomic');
SET quote_all_identifiers = on;
SET TimeZone = 'Asia/Tokyo';
SET DateStyle = 'SQL, DMY';
SET extra_float_digits = -5;
SELECT wfproc.define('define_atomic', 'atomic');
SELECT go('define_atomic', 'define-atomic');
RESET quote_all_identifiers;
RESET TimeZone;
RESET DateStyle;
RESET extra_float_digits;
SELECT wfproc.define('define_atomic', 'atomic');

\echo '--- another search_path is another version'
SET search_path = define_test, "$user", pg_temp, nowhere;
SELECT wfproc.define('define_atomic', 'atomic');
SET search_path = define_test, public;
SELECT version, search_path FROM wfproc.version JOIN wfproc.workflow USING (workflow_id) WHERE name = 'define_atomic'
ORDER BY version;

\echo '--- names that need quotes'
CREATE SCHEMA "Define ""Test";
CREATE FUNCTION "Define ""Test"."It's $function$ --"(jsonb, text, jsonb) RETURNS jsonb LANGUAGE plpgsql AS
$$BEGIN RETURN '{"code": "$function$"}'; END$$;
SELECT wfproc.define('define ''quotes"', '"Define ""Test"."It''s $function$ --"');
SELECT handler FROM wfproc.workflows WHERE workflow = 'define ''quotes"';
SELECT go('define ''quotes"', 'define-quotes');

\echo '--- migrate is published with the handler'
CREATE FUNCTION h(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT state';
CREATE FUNCTION m(state jsonb, from_version int, to_version int) RETURNS jsonb LANGUAGE sql AS 'SELECT state';
SELECT wfproc.define('define_migrate', 'h', migrate => 'm');
SELECT wfproc.define('define_migrate', 'h', migrate => 'm');
CREATE OR REPLACE FUNCTION m(state jsonb, from_version int, to_version int) RETURNS jsonb LANGUAGE sql AS 'SELECT state || ''{}''';
SELECT wfproc.define('define_migrate', 'h', migrate => 'm');
SELECT wfproc.define('define_migrate', 'h');
SELECT version, proname, arguments, prosrc FROM copies WHERE name = 'define_migrate' ORDER BY version, proname;

\echo '--- functions in C are not copied'
CREATE FUNCTION internal(jsonb, text, jsonb) RETURNS jsonb LANGUAGE internal AS 'jsonb_in';
SELECT wfproc.define('define_internal', 'internal');
SELECT handler, code FROM wfproc.version JOIN wfproc.workflow USING (workflow_id) WHERE name = 'define_internal';
SELECT count(*) FROM copies WHERE name = 'define_internal';

\echo '--- a copy that was altered is not run, nor one that is missing; the same define() again repairs both'
SELECT wfproc.define('define_copy', 'h');
SELECT schema AS copy FROM copies WHERE name = 'define_copy' \gset
SELECT go('define_copy', 'define-copy-1');
CREATE OR REPLACE FUNCTION :copy.h(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT payload';
SELECT replace(r, :'copy', 'COPY') FROM try($$ SELECT state FROM wfproc.replay('define-copy-1') $$) r;
SELECT replace(r, :'copy', 'COPY') FROM go('define_copy', 'define-copy-2') r;
SELECT wfproc.define('define_copy', 'h');
SELECT try($$ SELECT state FROM wfproc.replay('define-copy-1') $$);
DROP FUNCTION :copy.h;
SELECT replace(r, :'copy', 'COPY') FROM try($$ SELECT state FROM wfproc.replay('define-copy-1') $$) r;
SELECT wfproc.define('define_copy', 'h');
SELECT try($$ SELECT state FROM wfproc.replay('define-copy-1') $$);

\echo '--- all or nothing'
BEGIN;
SELECT wfproc.define('define_rollback', 'h');
SELECT go('define_rollback', 'define-rollback');
ROLLBACK;
SELECT try($$ SELECT wfproc.start('define_rollback') $$);
BEGIN;
SAVEPOINT s;
SELECT wfproc.define('define_rollback', 'h');
SELECT go('define_rollback', 'define-rollback');
ROLLBACK TO s;
SELECT try($$ SELECT wfproc.start('define_rollback') $$);
COMMIT;
SELECT count(*) FROM copies WHERE name = 'define_rollback';

\echo '--- a body that is kept as a tree: what counts is what a text is read to, not how this server prints it'
CREATE TABLE pairs (a int, b text);
CREATE FUNCTION tree(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE sql
BEGIN ATOMIC
    SELECT tree.state || jsonb_build_object('n', count(*)) AS result FROM pairs
    WHERE (a, b) = (1, 'x') AND (a, b) IN (SELECT 1, 'x');
END;
\echo 'its print is read to another tree than its own, whose print is another one'
SELECT wfproc.define('define_tree', 'tree'), wfproc.define('define_tree', 'tree');
SELECT pg_get_functiondef('tree(jsonb, text, jsonb)'::regprocedure) LIKE '%(((%', pg_get_functiondef(function) LIKE '%(((%' FROM copies WHERE name = 'define_tree';
SELECT go('define_tree', 'define-tree-1');
SELECT wfproc.verify('define-tree-1');
\echo 'the text of another server: other words for the same tree'
CREATE PROCEDURE as_printed(find text, put text) LANGUAGE plpgsql AS $$
BEGIN
    UPDATE wfproc.version SET code = replace(code, find, put), code_sha256 = sha256(convert_to(replace(code, find, put), 'UTF8'))
    WHERE workflow_id = (SELECT workflow_id FROM wfproc.workflow WHERE name = 'define_tree') AND code LIKE '%' || find || '%';
    ASSERT FOUND;
    -- changes nothing, but has the version loaded again
    EXECUTE (SELECT format('ALTER FUNCTION %s COST 100', function::regprocedure) FROM copies WHERE name = 'define_tree');
END $$;
CREATE VIEW tree AS SELECT ok, reason FROM wfproc.verify('define-tree-1');
CALL as_printed('pairs.a', 'a');
CALL as_printed('SELECT (', E'SELECT /* so */\n\n (');
-- as a dump would have restored it
DO $$ BEGIN EXECUTE pg_get_functiondef('tree(jsonb, text, jsonb)'::regprocedure); END $$;
SELECT * FROM tree;
SELECT wfproc.define('define_tree', 'tree');
SELECT go('define_tree', 'define-tree-2');
BEGIN READ ONLY;
SELECT * FROM tree;
COMMIT;
\echo 'another tree, another header, more than a function, what cannot be read'
BEGIN;
CALL as_printed('= 1', '= 2');
SELECT regexp_replace(reason, '\d+_1', 'N_1') FROM tree;
ROLLBACK;
BEGIN;
CALL as_printed('LANGUAGE sql', E'LANGUAGE sql\n STABLE');
SELECT regexp_replace(reason, '\d+_1', 'N_1') FROM tree;
ROLLBACK;
BEGIN;
CALL as_printed('END', 'END; SELECT 1');
SELECT regexp_replace(reason, '\d+_1', 'N_1') FROM tree;
ROLLBACK;
BEGIN;
CALL as_printed('pairs', 'nowhere');
SELECT regexp_replace(reason, '\d+_1', 'N_1') FROM tree;
ROLLBACK;
\echo 'a copy that was altered is found, and made anew from what was published'
DO $$ BEGIN EXECUTE (SELECT format('ALTER FUNCTION %s STABLE', function::regprocedure) FROM copies WHERE name = 'define_tree'); END $$;
SELECT regexp_replace(reason, '\d+_1', 'N_1') FROM tree;
SELECT wfproc.define('define_tree', 'tree');
SELECT * FROM tree;

\echo '--- functions that cannot be handlers'
CREATE FUNCTION returns_set(jsonb, text, jsonb) RETURNS SETOF jsonb LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION returns_text(jsonb, text, jsonb) RETURNS text LANGUAGE sql AS 'SELECT $2';
CREATE FUNCTION definer(jsonb, text, jsonb) RETURNS jsonb LANGUAGE sql SECURITY DEFINER AS 'SELECT $1';
CREATE FUNCTION other_arguments(jsonb, jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';
CREATE PROCEDURE procedure(jsonb, text, jsonb) LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION transition(jsonb, jsonb, text, jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';
CREATE AGGREGATE aggregate(jsonb, text, jsonb) (SFUNC = transition, STYPE = jsonb);
SELECT try($$ SELECT wfproc.define('define_bad', 'returns_set') $$);
SELECT try($$ SELECT wfproc.define('define_bad', 'returns_text') $$);
SELECT try($$ SELECT wfproc.define('define_bad', 'definer') $$);
SELECT try($$ SELECT wfproc.define('define_bad', 'other_arguments') $$);
SELECT try($$ SELECT wfproc.define('define_bad', 'procedure') $$);
SELECT try($$ SELECT wfproc.define('define_bad', 'aggregate') $$);
SELECT try($$ SELECT wfproc.define('define_bad', 'nowhere.h') $$);
SELECT try($$ SELECT wfproc.define('define_bad', 'h(jsonb, text, jsonb)') $$);
SELECT try($$ SELECT wfproc.define('define_bad', 'h; DROP TABLE wfproc.event') $$);
SELECT try($$ SELECT wfproc.define('define_bad', '') $$);
SELECT try($$ SELECT wfproc.define('define_bad', 'h', migrate => 'h') $$);

\echo '--- arguments that cannot be'
SELECT try($$ SELECT wfproc.define(NULL, 'h') $$);
SELECT try($$ SELECT wfproc.define('define_bad', NULL) $$);
SELECT try($$ SELECT wfproc.define('', 'h') $$);
SELECT try($$ SELECT wfproc.define(repeat('x', 256), 'h') $$);
SELECT try($$ SELECT wfproc.define(repeat(E'\u00e9', 127), 'h') $$);
SELECT try($$ SELECT wfproc.define(E'define\nbad', 'h') $$);
SELECT try($$ SELECT wfproc.define(E'define\u0085bad', 'h') $$);
SELECT try($$ SELECT wfproc.define('define_bad', 'h', accepts => '{a,NULL}') $$);
SELECT try($$ SELECT wfproc.define('define_bad', 'h', accepts => '{a,b,a}') $$);
SELECT try($$ SELECT wfproc.define('define_bad', 'h', accepts => '{{a},{b}}') $$);
SELECT try($$ SELECT wfproc.define('define_bad', 'h', accepts => '{""}') $$);
SELECT try($$ SELECT wfproc.define('define_bad', 'h', accepts => '{start}') $$);
SELECT try($$ SELECT wfproc.define('define_bad', 'h', accepts => '{cancel}') $$);
SELECT try($$ SELECT wfproc.define('define_bad', 'h', accepts => '{child.completed}') $$);
SELECT try($$ SELECT wfproc.define('define_bad', 'h', accepts => '{$pause}') $$);
SELECT try($$ SELECT wfproc.define('define_bad', 'h', max_attempts => 0) $$);
SELECT try($$ SELECT wfproc.define('define_bad', 'h', max_attempts => 1001) $$);
SELECT try($$ SELECT wfproc.define('define_bad', 'h', on_failure => 'explode') $$);
SELECT try($$ SELECT wfproc.define('define_bad', 'h', retry_delay => '0 s') $$);
SELECT try($$ SELECT wfproc.define('define_bad', 'h', retry_delay => '-1 h') $$);
SELECT try($$ SELECT wfproc.define('define_bad', 'h', retry_delay => '178000000 years') $$);
SELECT try($$ SELECT wfproc.define('define_bad', 'h', handler_timeout => '25 h') $$);
SELECT try($$ SELECT wfproc.define('define_bad', 'h', cancel_deadline => '0') $$);
SELECT try($$ SELECT wfproc.define('define_bad', 'h', cancel_deadline => '101 years') $$);
SELECT try($$ SELECT wfproc.define('define_bad', 'h', snapshot_every => 0) $$);

\echo '--- places where nothing can be defined'
BEGIN READ ONLY;
SELECT try($$ SELECT wfproc.define('define_bad', 'h') $$);
COMMIT;
CREATE FUNCTION defines(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM wfproc.define('define_bad', 'define_test.h');
    RETURN state;
END $$;
SELECT try($$ SELECT wfproc.try_step('defines', '{}', 'event') $$);

\echo '--- none of that left anything behind'
SELECT count(*) FROM wfproc.workflow WHERE name = 'define_bad';

\echo '--- a schema of somebody else''s is in the way'
CREATE ROLE regress_define_squatter;
SELECT format('wfproc_code_%s_1', nextval('wfproc.workflow_seq') + 1) AS squatted \gset
CREATE SCHEMA :squatted AUTHORIZATION regress_define_squatter;
SELECT replace(r, :'squatted', 'SCHEMA') FROM try($$ SELECT wfproc.define('define_squatted', 'h') $$) r;
DROP SCHEMA :squatted;
DROP ROLE regress_define_squatter;

\echo '--- adopt(): a database that has another token, or is another one, than at install'
BEGIN;
SELECT count(*) AS workflows FROM wfproc.workflow \gset
SELECT wfproc.adopt();
UPDATE wfproc.workflow SET home = gen_random_uuid() WHERE name IN ('define', 'define_copy');
SELECT workflow, at_home FROM wfproc.workflows WHERE workflow IN ('define', 'define_copy', 'define_atomic') ORDER BY 1;
SELECT wfproc.adopt();
SELECT workflow, at_home FROM wfproc.workflows WHERE workflow IN ('define', 'define_copy', 'define_atomic') ORDER BY 1;
UPDATE wfproc.home SET database = 1;
SELECT count(*) FROM wfproc.workflows WHERE at_home;
SELECT wfproc.adopt() = :workflows;
SELECT count(*) = :workflows FROM wfproc.workflows WHERE at_home;
ROLLBACK;

\echo '--- whatever becomes of the originals, of their owner''s rights and settings: history and what comes after stay the same'
CREATE ROLE regress_define_owner;
CREATE ROLE regress_define_other;
SELECT wfproc.grant_usage('regress_define_owner');
CREATE SCHEMA define_originals AUTHORIZATION regress_define_owner;
SET ROLE regress_define_owner;
SET search_path = define_originals;
CREATE FUNCTION steady(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM wfproc.set_attributes(jsonb_build_object('seen', event));
    RETURN state || jsonb_build_object('n', COALESCE((state ->> 'n')::int, 0) + 1, 'at', wfproc.now());
END $$;
CREATE FUNCTION steady_sql(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE sql AS
    $$ SELECT steady_sql.state || jsonb_build_object('n', COALESCE((steady_sql.state ->> 'n')::int, 0) + 1, 'at', wfproc.now()) $$;
CREATE FUNCTION steady_atomic(state jsonb, event text, payload jsonb) RETURNS jsonb
BEGIN ATOMIC
    SELECT steady_atomic.state || jsonb_build_object('n', COALESCE((steady_atomic.state ->> 'n')::int, 0) + 1, 'at', wfproc.now());
END;
CREATE FUNCTION steady_turned(state jsonb, from_version int, to_version int) RETURNS jsonb LANGUAGE plpgsql AS
    $$ BEGIN RETURN state || jsonb_build_object('from', from_version, 'to', to_version); END $$;
SELECT f, wfproc.define(f, f) FROM unnest('{steady,steady_sql,steady_atomic}'::text[]) f;
SELECT f, wfproc.define(f, f, migrate => 'steady_turned') FROM unnest('{steady,steady_sql,steady_atomic}'::text[]) f;
RESET ROLE;
SET search_path = define_test, public;
-- a past under both versions, in a transaction of its own, which no worker sees before it is over
BEGIN;
SET LOCAL wfproc.fake_now = '2020-01-01 00:00+00';
SELECT wfproc.start(w, w, version => 1), wfproc.send(w, 'first') > 0, wfproc.upgrade(w, 2, '2020-01-01 00:00+00') > 0, wfproc.send(w, 'second') > 0 FROM unnest('{steady,steady_sql,steady_atomic}'::text[]) w;
SELECT wfproc.run();
COMMIT;
-- how the three are: whether they verify, and what their replay is. One more event is handled by each, and taken back.
CREATE FUNCTION how() RETURNS TABLE (id text, ok bool, replayed text, further jsonb) LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        PERFORM set_config('wfproc.fake_now', '2020-01-02 00:00+00', true);
        PERFORM wfproc.start(w, 'new ' || w, version => 1), wfproc.send('new ' || w, 'e'), wfproc.upgrade('new ' || w, 2, '2020-01-02 00:00+00'), wfproc.send('new ' || w, 'e')
        FROM unnest('{steady,steady_sql,steady_atomic}'::text[]) w;
        PERFORM wfproc.run();
        id := (SELECT jsonb_object_agg(i.id, jsonb_build_array(i.status, i.version, wfproc.state(i.id))) FROM wfproc.instances i WHERE i.id LIKE 'new steady%');
        RAISE EXCEPTION USING MESSAGE = id, ERRCODE = 'P9999';
    EXCEPTION WHEN SQLSTATE 'P9999' THEN
        further := SQLERRM;
    END;
    RETURN QUERY SELECT i.id, (wfproc.verify(i.id)).ok, (SELECT md5(string_agg(r::text, ',')) FROM wfproc.replay(i.id) r), further -> ('new ' || i.id)
        FROM wfproc.instances i WHERE i.id LIKE 'steady%';
END $$;
CREATE TABLE how_before AS SELECT * FROM how();
SELECT id, ok, further FROM how_before ORDER BY id COLLATE "C";
CREATE FUNCTION change(sql text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE sql;
    RETURN COALESCE((SELECT 'CHANGED: ' || string_agg(h::text, ', ') FROM (TABLE how_before EXCEPT SELECT * FROM how()) h), 'as before: ')
        || replace(sql, quote_ident(current_database()), 'this');
END $$;
SELECT change(sql) FROM unnest(ARRAY[
    'ALTER FUNCTION define_originals.steady SET TimeZone = ''Asia/Tokyo''',
    'ALTER FUNCTION define_originals.steady SET search_path = pg_temp',
    'ALTER FUNCTION define_originals.steady SECURITY DEFINER',
    'ALTER FUNCTION define_originals.steady IMMUTABLE STRICT COST 1000',
    'ALTER FUNCTION define_originals.steady_turned SET TimeZone = ''Asia/Tokyo''',
    'ALTER FUNCTION define_originals.steady OWNER TO regress_define_other',
    'ALTER FUNCTION define_originals.steady_turned OWNER TO regress_define_other',
    'REVOKE EXECUTE ON FUNCTION define_originals.steady, define_originals.steady_sql, define_originals.steady_turned FROM PUBLIC, regress_define_owner',
    'ALTER FUNCTION define_originals.steady_sql RENAME TO renamed',
    'ALTER FUNCTION define_originals.steady_atomic SET SCHEMA define_test',
    'CREATE OR REPLACE FUNCTION define_originals.steady(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE sql AS ''SELECT payload''',
    'CREATE OR REPLACE FUNCTION define_originals.steady_turned(state jsonb, from_version int, to_version int) RETURNS jsonb LANGUAGE sql AS ''SELECT NULL::jsonb''',
    'ALTER ROLE regress_define_owner SET TimeZone = ''Asia/Tokyo''',
    'ALTER ROLE regress_define_owner NOLOGIN NOINHERIT CONNECTION LIMIT 0 VALID UNTIL ''2000-01-01''',
    format('ALTER DATABASE %I SET search_path = pg_temp', current_database()),
    'ALTER SCHEMA define_originals OWNER TO regress_define_other',
    'REVOKE ALL ON SCHEMA define_originals FROM regress_define_owner',
    'DROP FUNCTION define_originals.steady',
    'DROP SCHEMA define_originals CASCADE',
    'DROP FUNCTION define_test.steady_atomic']) sql;
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I RESET search_path', current_database()); END $$;
\echo 'a handler runs as its owner: without the right to what it calls it fails, which is said, and nothing is written'
REVOKE USAGE ON SCHEMA wfproc FROM regress_define_owner;
SET client_min_messages = error;
SELECT id, further FROM how() ORDER BY id COLLATE "C";
SELECT id, v.* FROM unnest('{steady,steady_sql}'::text[]) id, wfproc.verify(id) v ORDER BY id COLLATE "C";
SELECT try($$ SELECT wfproc.state('steady_sql', '2020-01-01 00:00+00') $$);
SET client_min_messages = warning;
SELECT change('GRANT USAGE ON SCHEMA wfproc TO regress_define_owner');
\echo 'nor is it run when its owner is gone; when the role is there again, it is'
ALTER ROLE regress_define_owner RENAME TO regress_define_gone;
SELECT id, v.* FROM unnest('{steady,steady_atomic}'::text[]) id, wfproc.verify(id) v ORDER BY id COLLATE "C";
SELECT try($$ SELECT count(*) FROM wfproc.replay('steady') $$);
SELECT change('ALTER ROLE regress_define_gone RENAME TO regress_define_owner');
SELECT count(wfproc.terminate(id)) FROM wfproc.instances WHERE workflow LIKE 'steady%';
SELECT count(*) FROM wfproc.instances i, wfproc.await(i.id, '30 s') a WHERE workflow LIKE 'steady%' AND a.status = 'terminated';
DROP OWNED BY regress_define_owner, regress_define_other;
DROP ROLE regress_define_owner, regress_define_other;
DROP SCHEMA define_test, "Define ""Test" CASCADE;
