-- helpers: functions that a handler calls, and of which a version has copies; and the NOTICE about what it calls otherwise
\set QUIET on
\pset format unaligned
\pset tuples_only on
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, MDY';
SET client_min_messages = warning;
CREATE ROLE regress_helpers_owner;
CREATE ROLE regress_helpers_other;
SELECT wfproc.grant_usage('regress_helpers_owner'), wfproc.grant_usage('regress_helpers_other');

CREATE SCHEMA helpers_test AUTHORIZATION regress_helpers_owner;
CREATE SCHEMA helpers_other AUTHORIZATION regress_helpers_owner;
GRANT USAGE ON SCHEMA helpers_test TO PUBLIC;
SET search_path = helpers_test;

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
    RETURN NEXT SQLSTATE || ': ' || regexp_replace(message, 'wfproc_code_\d+', 'wfproc_code_N');
    IF hint <> '' THEN
        RETURN NEXT '  hint: ' || hint;
    END IF;
END $$;

-- the private schema of a version, for \gset
CREATE FUNCTION schema_of(workflow text, version int) RETURNS text LANGUAGE sql AS
    $$ SELECT format('wfproc_code_%s_%s', workflow_id, $2) FROM wfproc.workflow WHERE name = $1 $$;

-- what there is in it, and who may do what
CREATE VIEW copies AS
    SELECT w.name AS workflow, v.version, p.proname, pg_get_function_identity_arguments(p.oid) AS arguments,
           p.proowner = e.extowner AND n.nspowner = e.extowner AS is_extensions,
           has_schema_privilege('regress_helpers_owner', n.oid, 'USAGE') AND has_function_privilege('regress_helpers_owner', p.oid, 'EXECUTE') AS owner_may,
           has_schema_privilege('regress_helpers_owner', n.oid, 'CREATE') AS owner_may_create,
           has_schema_privilege('regress_helpers_other', n.oid, 'USAGE') OR has_function_privilege('regress_helpers_other', p.oid, 'EXECUTE') AS other_may
    FROM wfproc.workflow w JOIN wfproc.version v USING (workflow_id)
    JOIN pg_namespace n ON n.nspname = format('wfproc_code_%s_%s', w.workflow_id, v.version)
    JOIN pg_proc p ON p.pronamespace = n.oid, pg_extension e
    WHERE e.extname = 'wfproc';
CREATE VIEW found AS
    SELECT i.id, i.version, i.status, regexp_replace(i.error, 'wfproc_code_\d+', 'wfproc_code_N') AS error FROM wfproc.instances i;
GRANT SELECT ON found, copies TO PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA helpers_test TO PUBLIC;

SET ROLE regress_helpers_owner;
-- nested, overloaded, recursive, each in another language or form
CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql AS $$ SELECT n * 2 $$;
CREATE FUNCTION fee(n int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN twice(n) + 1; END $$;
CREATE FUNCTION fee(n text) RETURNS int LANGUAGE sql AS $$ SELECT fee(n::int) + 100 $$;
CREATE FUNCTION fact(n int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN CASE WHEN n > 1 THEN n * fact(n - 1) ELSE 1 END; END $$;
CREATE FUNCTION pick(n int, VARIADIC rest int[] DEFAULT '{}', OUT first int, OUT others int) LANGUAGE plpgsql AS
    $$ BEGIN first := n; others := cardinality(rest); END $$;
CREATE FUNCTION h(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    n int := payload ->> 'n';
BEGIN
    IF event = 'path' THEN
        RETURN state || jsonb_build_object('path', current_setting('search_path'));
    END IF;
    RETURN jsonb_build_object('fees', coalesce(state -> 'fees', '[]') || jsonb_build_array(fee(n), fee(n::text), fact(n), (pick(n, 7, 8)).others));
END $$;

\echo '--- without helpers: the same as ever, and a NOTICE'
SET client_min_messages = notice;
SELECT wfproc.define('plain', 'h');
SELECT wfproc.define('plain', 'h');
SET client_min_messages = warning;
SELECT v.code_sha256 = sha256(convert_to(regexp_replace(pg_get_functiondef('h'::regproc), '^CREATE OR REPLACE FUNCTION helpers_test.h\(', ''), 'UTF8')), helpers
FROM wfproc.versions v WHERE workflow = 'plain';
SELECT * FROM copies WHERE workflow = 'plain';
BEGIN;
SELECT wfproc.start('plain', 'plain-1', '{"n": 3}');
SELECT wfproc.send('plain-1', 'path', '{}') > 0;
SELECT wfproc.run();
SELECT wfproc.state('plain-1');
COMMIT;

\echo '--- with helpers: no NOTICE of them; the order in which they are given does not matter'
SET client_min_messages = notice;
SELECT wfproc.define('fees', 'h', helpers => '{fee(int),fee(text),twice(int),fact(int),"pick(int,int[])"}');
SELECT wfproc.define('fees', 'h', helpers => '{"pick(int,int[])",fact(int),helpers_test.twice(int),fee(text),fee(int)}');
SELECT version, current, helpers FROM wfproc.versions WHERE workflow = 'fees';
SELECT * FROM copies WHERE workflow = 'fees' ORDER BY proname, arguments;
SELECT wfproc.show_code('fees', 1);
BEGIN;
SELECT wfproc.start('fees', 'fees-1', '{"n": 3}');
SELECT wfproc.send('fees-1', 'path', '{}') > 0;
SELECT wfproc.run();
SELECT regexp_replace(wfproc.state('fees-1')::text, 'wfproc_code_\d+', 'wfproc_code_N');

\echo '--- whatever is done to the originals'
CREATE OR REPLACE FUNCTION twice(n int) RETURNS int LANGUAGE sql AS $$ SELECT n * 1000 $$;
CREATE OR REPLACE FUNCTION fee(n int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN twice(n) + 5; END $$;
ALTER FUNCTION fee(text) SET search_path = pg_catalog;
ALTER FUNCTION fact(int) RENAME TO factorial;
DROP FUNCTION pick(int, int[]);
SELECT wfproc.send('fees-1', 'more', '{"n": 4}') > 0;
SELECT wfproc.run();
SELECT wfproc.state('fees-1') -> 'fees';
COMMIT;
SELECT seq, state -> 'fees', diverged FROM wfproc.replay('fees-1');
SELECT * FROM wfproc.verify('fees-1');
-- without copies the plain one has changed its history
SELECT ok, first_bad_seq FROM wfproc.verify('plain-1');

\echo '--- a changed helper is a new version, as are more of them, or none'
CREATE OR REPLACE FUNCTION h(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS
    $$ BEGIN RETURN jsonb_build_object('fee', fee((payload ->> 'n')::int)); END $$;
SELECT wfproc.define('fee', 'h', helpers => '{fee(int),twice(int)}');
CREATE OR REPLACE FUNCTION twice(n int) RETURNS int LANGUAGE sql AS $$ SELECT n * 2 $$;
SELECT wfproc.define('fee', 'h', helpers => '{fee(int),twice(int)}');
SELECT wfproc.define('fee', 'h', helpers => '{fee(int),twice(int)}', max_attempts => 1);
SELECT wfproc.define('fee', 'h', helpers => '{fee(int)}');
SELECT wfproc.define('fee', 'h', helpers => '{}');
SELECT wfproc.define('fee', 'h');
SELECT wfproc.define('fee', 'h', helpers => '{fee(int),twice(int)}');
-- the same in another schema is another one
CREATE FUNCTION helpers_other.twice(n int) RETURNS int LANGUAGE sql AS $$ SELECT n * 2 $$;
SELECT wfproc.define('fee', 'h', helpers => '{fee(int),helpers_other.twice(int)}');
SELECT version, helpers FROM wfproc.versions WHERE workflow = 'fee' ORDER BY version;
BEGIN;
SELECT wfproc.start('fee', 'fee-' || n, '{"n": 3}', version => n) FROM generate_series(1, 6) n;
SELECT wfproc.run();
SELECT id, version, status, wfproc.state(id) FROM found WHERE id LIKE 'fee-%' ORDER BY id;
DROP FUNCTION helpers_other.twice(int);
SELECT id, (wfproc.verify(id)).* FROM found WHERE id LIKE 'fee-%' ORDER BY id;

\echo '--- migrate reaches its helpers, and an upgrade goes from one version''s to another''s'
CREATE FUNCTION m(state jsonb, from_version int, to_version int) RETURNS jsonb LANGUAGE sql AS
    $$ SELECT state || jsonb_build_object('migrated', fee((state ->> 'fee')::int)) $$;
SET client_min_messages = notice;
SELECT wfproc.define('fee', 'h', migrate => 'm', helpers => '{twice(int)}');
SELECT wfproc.define('fee', 'h', migrate => 'm', helpers => '{fee(int),twice(int)}');
SET client_min_messages = warning;
CREATE OR REPLACE FUNCTION twice(n int) RETURNS int LANGUAGE sql AS $$ SELECT n * -7 $$;
SELECT wfproc.upgrade('fee-1', 8) > 0;
SELECT wfproc.run();
SELECT wfproc.state('fee-1');
COMMIT;
SELECT * FROM wfproc.verify('fee-1');

\echo '--- polymorphic, set-returning and composite helpers; a default that is one; a SET of its own'
CREATE TYPE pair AS (a int, b text);
CREATE FUNCTION either(x anyelement, y anyelement) RETURNS anyelement LANGUAGE plpgsql AS $$ BEGIN RETURN coalesce(x, y); END $$;
CREATE FUNCTION many(n int) RETURNS TABLE (i int, p pair) LANGUAGE sql AS $$ SELECT i, ROW(i, 'x')::helpers_test.pair FROM generate_series(1, n) i $$;
CREATE FUNCTION first(p pair, "Two Words" int DEFAULT 1) RETURNS int LANGUAGE plpgsql SET extra_float_digits = 0 AS $$ BEGIN RETURN p.a + "Two Words"; END $$;
CREATE FUNCTION "Odd""Name"(n numeric(10, 2) DEFAULT 1.5) RETURNS text LANGUAGE sql AS $$ SELECT n::text $$;
CREATE FUNCTION kinds(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    odd text := "Odd""Name"();
BEGIN
    RETURN jsonb_build_object('odd', odd, 'either', either(NULL, 2), 'text', either('a'::text, 'b'),
                              'sum', (SELECT sum(first(p, "Two Words" => i)) FROM many(3)));
END $$;
SET client_min_messages = notice;
SELECT wfproc.define('kinds', 'kinds', helpers => ARRAY['either(anyelement,anyelement)', 'many(int)', 'first(pair,int)', '"Odd""Name"(numeric)']::regprocedure[]);
SELECT helpers FROM wfproc.versions WHERE workflow = 'kinds';
BEGIN;
SELECT wfproc.start('kinds', 'kinds-1');
SELECT wfproc.run();
SELECT wfproc.state('kinds-1');
COMMIT;
SELECT * FROM wfproc.verify('kinds-1');
RESET ROLE;
RESET client_min_messages;
SET client_min_messages = warning;

\echo '--- a copy that is altered, missing, another''s, closed, or not alone: its instances pause, and define() makes it anew'
SET ROLE regress_helpers_owner;
CREATE FUNCTION k(n int) RETURNS int LANGUAGE sql AS $$ SELECT n + 1 $$;
CREATE FUNCTION h0(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS
    $$ BEGIN RETURN jsonb_build_object('k', k(coalesce((state ->> 'k')::int, 0))); END $$;
SELECT wfproc.define('damage', 'h0', helpers => '{k(int)}');
RESET ROLE;
-- in one transaction: an instance that is well, what is done, how it and verify() take it, and both after define()
CREATE SEQUENCE numbers;
CREATE FUNCTION pg_temp.damage(statement text, repair text DEFAULT 'SELECT') RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    d text := 'damage-' || nextval('numbers');
BEGIN
    PERFORM wfproc.start('damage', d);
    PERFORM wfproc.run();
    EXECUTE replace(statement, 'COPY', schema_of('damage', 1));
    PERFORM wfproc.send(d, 'more');
    PERFORM wfproc.run();
    RETURN QUERY SELECT concat_ws(' ', status, error) FROM found WHERE id = d;
    RETURN QUERY SELECT concat_ws(' ', 'verify', ok, first_bad_seq, regexp_replace(reason, 'wfproc_code_\d+', 'wfproc_code_N')) FROM wfproc.verify(d);
    EXECUTE replace(repair, 'COPY', schema_of('damage', 1));
    RETURN QUERY SELECT 'version ' || wfproc.define('damage', 'h0', helpers => '{k(int)}');
    PERFORM wfproc.resume(d);
    PERFORM wfproc.run();
    RETURN QUERY SELECT concat_ws(' ', status, error, wfproc.state(id)) FROM found WHERE id = d;
    RETURN QUERY SELECT concat_ws(' ', 'verify', ok, reason) FROM wfproc.verify(d);
END $$;
SELECT pg_temp.damage('CREATE OR REPLACE FUNCTION COPY.k(n int) RETURNS int LANGUAGE sql AS $x$ SELECT n + 2 $x$');
SELECT pg_temp.damage('ALTER FUNCTION COPY.k(int) IMMUTABLE');
SELECT pg_temp.damage('ALTER FUNCTION COPY.k(int) SET search_path = pg_catalog');
SELECT pg_temp.damage('DROP FUNCTION COPY.k(int)');
SELECT pg_temp.damage('ALTER FUNCTION COPY.k(int) RENAME TO l', 'DROP FUNCTION COPY.l(int)');
SELECT pg_temp.damage('ALTER FUNCTION COPY.k(int) OWNER TO regress_helpers_other');
SELECT pg_temp.damage('REVOKE EXECUTE ON FUNCTION COPY.k(int) FROM regress_helpers_owner');
SELECT pg_temp.damage('REVOKE USAGE ON SCHEMA COPY FROM regress_helpers_owner');
-- nobody is told of new objects: seen by verify() at once, by others when they load the version for some other reason
SELECT pg_temp.damage('CREATE FUNCTION COPY.l() RETURNS int LANGUAGE sql AS $x$ SELECT 1 $x$', 'DROP FUNCTION COPY.l()');
SELECT pg_temp.damage('CREATE FUNCTION COPY.l() RETURNS int LANGUAGE sql AS $x$ SELECT 1 $x$; ALTER ROLE regress_helpers_other NOLOGIN', 'DROP FUNCTION COPY.l()');
SELECT pg_temp.damage('CREATE TABLE COPY.t (); ALTER ROLE regress_helpers_other NOLOGIN', 'DROP TABLE COPY.t');
SELECT pg_temp.damage('DROP SCHEMA COPY CASCADE');
SELECT * FROM copies WHERE workflow = 'damage' ORDER BY proname;

\echo '--- rows of version_helper that are changed or gone'
SELECT wfproc.seal() AS seal \gset
SELECT * FROM wfproc.check_seal(:'seal');
BEGIN;
UPDATE wfproc.version_helper SET code = code || ' ' WHERE name = 'helpers_test.k';
SELECT * FROM wfproc.check_seal(:'seal');
SELECT * FROM wfproc.verify('damage-1');
ROLLBACK;
BEGIN;
UPDATE wfproc.version_helper SET code_sha256 = sha256(code_sha256) WHERE name = 'helpers_test.k';
SELECT * FROM wfproc.check_seal(:'seal');
SELECT * FROM wfproc.verify('damage-1');
ROLLBACK;
-- what a session has loaded stays until something is published
BEGIN;
UPDATE wfproc.version_helper SET arguments = 'bigint' WHERE name = 'helpers_test.k';
SELECT * FROM wfproc.check_seal(:'seal');
SELECT wfproc.set_current_version('damage', 1);
SELECT ok, first_bad_seq, regexp_replace(reason, 'wfproc_code_\d+', 'wfproc_code_N') FROM wfproc.verify('damage-1');
ROLLBACK;
BEGIN;
DELETE FROM wfproc.version_helper WHERE name = 'helpers_test.k';
SELECT * FROM wfproc.check_seal(:'seal');
SELECT wfproc.set_current_version('damage', 1);
SELECT ok, first_bad_seq, regexp_replace(reason, 'wfproc_code_\d+', 'wfproc_code_N') FROM wfproc.verify('damage-1');
ROLLBACK;
SELECT * FROM wfproc.verify('damage-1');
-- as docs/DESIGN.md says it
WITH code AS (
    SELECT v.workflow_id, v.version, sha256(convert_to(concat_ws(chr(31), 'version', w.name, v.version, v.handler, encode(sha256(convert_to(v.code, 'UTF8')), 'hex'),
           encode(v.code_sha256, 'hex'), '', '', '', v.search_path, (extract(epoch FROM v.defined_at) * 1000000)::bigint,
           h.name, h.arguments, encode(sha256(convert_to(h.code, 'UTF8')), 'hex'), encode(h.code_sha256, 'hex')), 'UTF8')) AS hash
    FROM wfproc.version v JOIN wfproc.workflow w USING (workflow_id) LEFT JOIN wfproc.version_helper h USING (workflow_id, version)
    WHERE w.name IN ('plain', 'damage')
)
SELECT c.hash = s.hash FROM code c JOIN wfproc.seal_version s USING (workflow_id, version);
SELECT extconfig @> ARRAY['wfproc.version_helper'::regclass::oid] AS dumped FROM pg_extension WHERE extname = 'wfproc';

\echo '--- the NOTICE: PL/pgSQL'
SET ROLE regress_helpers_owner;
DO $$
BEGIN
    FOR n IN 1..40 LOOP
        EXECUTE format('CREATE FUNCTION f%s(n int DEFAULT 0) RETURNS int LANGUAGE sql AS $x$ SELECT n $x$', to_char(n, 'FM00'));
    END LOOP;
END $$;
CREATE PROCEDURE p01(INOUT n int) LANGUAGE plpgsql AS $$ BEGIN n := 1; END $$;
CREATE TABLE t (a int, b int);
CREATE FUNCTION all_places(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
<<outermost>>
DECLARE
    n int := f01();
    c CURSOR (x int) FOR SELECT f02(x);
    r record;
    names text[] := ARRAY[f03(1)];
    d refcursor;
BEGIN
    n := f04(n);
    names[f05(1)] := 'x';
    IF f06() = 1 THEN
        n := f07();
    ELSIF f08() = 2 THEN
        n := f09();
    ELSE
        PERFORM f10();
    END IF;
    CASE f11()
        WHEN f12() THEN n := f13();
        ELSE n := f14();
    END CASE;
    LOOP
        n := f15();
        EXIT WHEN f16() > 0;
    END LOOP;
    WHILE f17() > 0 LOOP n := f18(); END LOOP;
    FOR i IN f19()..f20() BY f21() LOOP n := f22(); END LOOP;
    FOR r IN SELECT f23() LOOP n := f24(); END LOOP;
    FOR r IN c(f25()) LOOP n := f26(); END LOOP;
    FOR r IN EXECUTE format('SELECT %s', f27()) USING f28() LOOP n := f29(); END LOOP;
    FOREACH n IN ARRAY ARRAY[f30()] LOOP n := f31(); END LOOP;
    DECLARE
        inner_one int := f32();
    BEGIN
        SELECT f33() INTO STRICT n FROM t WHERE a = f34() GROUP BY b HAVING max(b) > f35();
    EXCEPTION WHEN no_data_found OR division_by_zero THEN
        RAISE EXCEPTION '%', f36() USING HINT = f37()::text;
    END;
    OPEN d FOR SELECT * FROM f38();
    ASSERT f39() > 0, f40()::text;
    CALL p01(n);
    RETURN state;
END $$;
SET client_min_messages = notice;
SELECT wfproc.define('notice', 'all_places');
SET client_min_messages = warning;

CREATE FUNCTION queries() RETURNS SETOF int LANGUAGE plpgsql AS $$
DECLARE
    c refcursor;
    r record;
BEGIN
    RETURN NEXT f01();
    RETURN QUERY SELECT f02();
    RETURN QUERY EXECUTE 'SELECT $1' USING f03();
    EXECUTE 'SELECT ' || f04() USING f05();
    INSERT INTO t (a, b) VALUES (f06(), 1) ON CONFLICT DO NOTHING;
    UPDATE t SET a = f07() WHERE b IN (f08(), 2);
    DELETE FROM t USING f09() x WHERE b = x RETURNING f10() INTO r;
    WITH w AS (SELECT f11() AS q) SELECT INTO r FROM w, LATERAL (SELECT f12(q)) y ORDER BY f13(q) LIMIT f14();
    PERFORM sum(f15()) FILTER (WHERE f16() > 0) OVER (PARTITION BY f17()), coalesce(f18(), 1), ARRAY(SELECT f19()), ROW(f20(), 1);
    PERFORM CASE WHEN f21() = 1 THEN f22() END, f23(n => 3), f24() BETWEEN f25() AND f26(), xmlelement(NAME x, f27()), EXISTS (SELECT f28());
    FETCH RELATIVE f29() FROM c INTO r;
    RETURN;
END $$;
CREATE FUNCTION calls_queries(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE sql AS
    $$ SELECT jsonb_agg(q) FROM queries() q $$;
SET client_min_messages = notice;
SELECT wfproc.define('notice', 'calls_queries', helpers => '{queries()}');
SET client_min_messages = warning;

\echo '--- the NOTICE: SQL, as a string and bound when it was made; operators; defaults of arguments'
CREATE FUNCTION same(a text, b text) RETURNS bool LANGUAGE sql AS $$ SELECT upper(a) = upper(b) $$;
CREATE OPERATOR <=~=> (FUNCTION = same, LEFTARG = text, RIGHTARG = text);
CREATE OPERATOR = (FUNCTION = same, LEFTARG = text, RIGHTARG = text);
CREATE FUNCTION as_string(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('a', f01(), 'b', event <=~=> 'x') FROM t WHERE a = f02() AND event OPERATOR(helpers_test.=) 'x';
    SELECT jsonb_build_object('a', x) FROM f03() x WHERE event = 'x';
    SELECT state || '{}';
$$;
CREATE FUNCTION as_tree(state jsonb, event text, payload jsonb DEFAULT jsonb_build_object('x', f05())) RETURNS jsonb BEGIN ATOMIC
    SELECT jsonb_build_object('a', f04(), 'b', event <=~=> 'x');
END;
CREATE FUNCTION as_return(state jsonb, event text, payload jsonb) RETURNS jsonb RETURN jsonb_build_object('a', f06());
SET client_min_messages = notice;
SELECT wfproc.define('notice', 'as_string');
SELECT wfproc.define('notice', 'as_tree');
SELECT wfproc.define('notice', 'as_return');

\echo '--- the NOTICE: names that fit several, by their number of arguments'
CREATE FUNCTION lower(p pair) RETURNS text LANGUAGE sql AS $$ SELECT p.b $$;
CREATE FUNCTION lower(a text, b int) RETURNS text LANGUAGE sql AS $$ SELECT a $$;
CREATE FUNCTION over(a int) RETURNS int LANGUAGE sql AS $$ SELECT 1 $$;
CREATE FUNCTION over(a text) RETURNS int LANGUAGE sql AS $$ SELECT 1 $$;
CREATE FUNCTION over(a int, b int) RETURNS int LANGUAGE sql AS $$ SELECT 1 $$;
CREATE FUNCTION several(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS
    $$ BEGIN RETURN jsonb_build_object('a', lower(event), 'b', "over"(1)); END $$;
SELECT wfproc.define('notice', 'several');
SELECT wfproc.define('notice', 'several', helpers => '{over(int)}');

\echo '--- the NOTICE: a helper that is not reached: by its schema, from a bound body, under another search_path'
CREATE FUNCTION by_schema(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS
    $$ BEGIN RETURN jsonb_build_object('a', helpers_test.f01(), 'b', f02()); END $$;
SELECT wfproc.define('notice', 'by_schema', helpers => '{f01(int)}');
SELECT wfproc.define('notice', 'by_schema', helpers => '{f01(int),f02(int)}');
SELECT wfproc.define('notice', 'as_return', helpers => '{f06(int)}');
CREATE FUNCTION own_path(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql SET search_path = helpers_test AS
    $$ BEGIN RETURN jsonb_build_object('a', f01()); END $$;
SELECT wfproc.define('notice', 'own_path', helpers => '{f01(int)}');
-- a handler that calls itself, and one that does not know its helper
CREATE FUNCTION itself(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS
    $$ BEGIN RETURN CASE WHEN event = 'x' THEN '{"x": 1}' ELSE itself(state, 'x', payload) END; END $$;
SELECT wfproc.define('notice', 'itself');
SELECT wfproc.define('notice', 'itself', helpers => '{f01(int)}');
BEGIN;
SELECT wfproc.start('notice', 'notice-1');
SELECT wfproc.run();
SELECT status, wfproc.state(id) FROM found WHERE id = 'notice-1';
COMMIT;

\echo '--- no NOTICE: what only looks like a call, what comes with the server or an extension'
CREATE FUNCTION looks(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    f07 text := 'f01() ' || $x$ f02() $x$ || E'\'f03()'; -- f04()
    f08 int[] := '{f}'::text[]; /* f05() /* f06() */ */
BEGIN
    EXECUTE 'SELECT f09()';
    INSERT INTO t (a, b) VALUES (1, 2), (3, 4);
    IF 1 IN (1, 2) AND (f07) = 'x' AND EXISTS (SELECT FROM t AS f10 (a, b)) AND event = 'f11()' THEN
        PERFORM wfproc.set_timer('f12()', '1 day'), digest('x', 'sha256'), count(*), wfproc.now()::varchar(10), coalesce(f07, 'y');
        WITH f13 (a) AS (SELECT 1) SELECT a INTO f08 FROM f13 WHERE a > ALL (SELECT 1) AND event ~ 'x' GROUP BY ROLLUP (a);
    END IF;
    RAISE NOTICE 'f14() %', f07 USING HINT = 'f15()';
    RETURN payload -> 'f16()';
END $$;
RESET ROLE;
GRANT USAGE ON SCHEMA public TO regress_helpers_owner;
SET ROLE regress_helpers_owner;
SET search_path = helpers_test, public;
SELECT wfproc.define('silent', 'looks');
SET search_path = helpers_test;
SET check_function_bodies = off;
CREATE FUNCTION looks_sql(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE sql AS $$
    -- f01()
    SET LOCAL work_mem = '1MB';
    SELECT 'f02()' /* f03() */ FROM (VALUES (1), (2)) f04 (a) JOIN LATERAL (SELECT 1) f05 (b) USING (a);
    SELECT jsonb_build_object('f06()', "left"('abc', 2), 'now', wfproc.now());
$$;
SELECT wfproc.define('silent', 'looks_sql');
-- bodies that cannot be parsed, or name what is not there
CREATE FUNCTION broken(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN f01() ( ; END $$;
SELECT wfproc.define('silent', 'broken');
CREATE OR REPLACE FUNCTION broken(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT f01() ( $$;
SELECT wfproc.define('silent', 'broken');
CREATE OR REPLACE FUNCTION broken(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS
    $$ DECLARE x nowhere.t%ROWTYPE; BEGIN RETURN no_such(nowhere.f(1)); END $$;
SELECT wfproc.define('silent', 'broken');
CREATE OR REPLACE FUNCTION broken(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS
    $$ BEGIN RETURN no_such(nowhere.f(1)); END $$;
SELECT wfproc.define('silent', 'broken');
RESET check_function_bodies;
-- style is no matter of define()
CREATE FUNCTION shadowed(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS
    $$ DECLARE x int; BEGIN DECLARE x int := f01(); BEGIN RETURN state; END; END $$;
SET plpgsql.extra_warnings = 'all';
SET plpgsql.extra_errors = 'all';
SELECT wfproc.define('silent', 'shadowed');
SHOW plpgsql.extra_errors;
RESET plpgsql.extra_errors;
RESET plpgsql.extra_warnings;
SET client_min_messages = warning;

\echo '--- the NOTICE: what the server gives another result of in a replay'
CREATE SEQUENCE counted;
CREATE FUNCTION when_asked() RETURNS timestamptz LANGUAGE sql RETURN clock_timestamp();
CREATE FUNCTION age(p pair) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE FUNCTION turns_old(state jsonb, a int, b int) RETURNS jsonb LANGUAGE sql BEGIN ATOMIC
    SELECT state || jsonb_build_object('t', LOCALTIMESTAMP, 'r', (SELECT max(random()) FROM (SELECT now()) x), 'u', CURRENT_USER);
END;
CREATE FUNCTION changes(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    t timestamptz := now();
    u uuid;
BEGIN
    t := greatest(t, current_timestamp, Now(), localtimestamp(0), transaction_timestamp(), statement_timestamp(), timeofday()::timestamptz);
    IF payload ? 'x' AND current_date > '2024-01-01' THEN
        u := gen_random_uuid();
    END IF;
    PERFORM random(), nextval('counted'), currval('counted'), age(t), localtime, current_time(1), txid_current(), pg_backend_pid(),
            inet_client_addr(), version(), current_setting('TimeZone'), session_user, current_catalog, current_database(), pg_catalog.random(),
            gen_random_bytes(3);
    -- and what stays, or comes to nothing
    PERFORM age(t, t), current_user, current_role, user, current_schema, to_char(t, 'YYYY'), date_trunc('day', t), set_config('x.y', 'z', true), pg_sleep(0),
            pg_notify('x', 'y'), setseed(0), wfproc.random(), wfproc.uuid(), wfproc.now(), jsonb_build_object('a', 1), format('%s', 1), 'now()', generate_series(1, 2),
            pg_advisory_xact_lock(1), f01();
    RETURN state;
END $$;
RESET ROLE;
SET ROLE regress_helpers_owner;
SET search_path = helpers_test, public;
SET client_min_messages = notice;
SELECT wfproc.define('changes', 'changes', migrate => 'turns_old', helpers => '{when_asked(),f01(int)}');
\echo 'as published already'
SELECT wfproc.define('changes', 'changes', migrate => 'turns_old', helpers => '{when_asked(),f01(int)}');
SET client_min_messages = warning;
SET search_path = helpers_test;

\echo '--- what is no helper'
CREATE FUNCTION definer() RETURNS int LANGUAGE sql SECURITY DEFINER AS $$ SELECT 1 $$;
CREATE AGGREGATE agg (int) (SFUNC = int4pl, STYPE = int);
CREATE FUNCTION helpers_other.by_schema(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT state $$;
CREATE FUNCTION helpers_other.m(state jsonb, from_version int, to_version int) RETURNS jsonb LANGUAGE sql AS $$ SELECT state $$;
CREATE FUNCTION helpers_other.f01(n int) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{}'::jsonb $$;
CREATE FUNCTION one_more() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$;
REVOKE EXECUTE ON FUNCTION one_more() FROM PUBLIC;
RESET ROLE;
CREATE FUNCTION in_c(jsonb, text, jsonb) RETURNS jsonb LANGUAGE internal AS 'jsonb_concat';
SELECT try($$ SELECT wfproc.define('bad', 'by_schema', helpers => ARRAY['f01(int)', NULL]::regprocedure[]) $$);
SELECT try($$ SELECT wfproc.define('bad', 'by_schema', helpers => ARRAY[['f01(int)'], ['f02(int)']]::regprocedure[]) $$);
SELECT try($$ SELECT wfproc.define('bad', 'by_schema', helpers => ARRAY['f01(int)', 'f02(int)', 'f01(int)']::regprocedure[]) $$);
SELECT try($$ SELECT wfproc.define('bad', 'by_schema', helpers => ARRAY['f01(int)', 'helpers_other.f01(int)']::regprocedure[]) $$);
SELECT try($$ SELECT wfproc.define('bad', 'by_schema', helpers => ARRAY['by_schema(jsonb,text,jsonb)']::regprocedure[]) $$);
SELECT try($$ SELECT wfproc.define('bad', 'by_schema', helpers => ARRAY['helpers_other.by_schema(jsonb,text,jsonb)']::regprocedure[]) $$);
SELECT try($$ SELECT wfproc.define('bad', 'by_schema', migrate => 'm', helpers => ARRAY['m(jsonb,int,int)']::regprocedure[]) $$);
SELECT try($$ SELECT wfproc.define('bad', 'by_schema', migrate => 'm', helpers => ARRAY['helpers_other.m(jsonb,int,int)']::regprocedure[]) $$);
SELECT try($$ SELECT wfproc.define('bad', 'by_schema', helpers => ARRAY['in_c(jsonb,text,jsonb)']::regprocedure[]) $$);
SELECT try($$ SELECT wfproc.define('bad', 'by_schema', helpers => ARRAY['wfproc.self()']::regprocedure[]) $$);
SELECT try($$ SELECT wfproc.define('bad', 'by_schema', helpers => ARRAY['definer()']::regprocedure[]) $$);
SELECT try($$ SELECT wfproc.define('bad', 'by_schema', helpers => ARRAY['agg(int)']::regprocedure[]) $$);
SELECT try($$ SELECT wfproc.define('bad', 'by_schema', helpers => ARRAY['p01(int)']::regprocedure[]) $$);
SELECT try($$ SELECT wfproc.define('bad', 'by_schema', helpers => ARRAY['rank()']::regprocedure[]) $$);
SELECT try($$ SELECT wfproc.define('bad', 'by_schema', helpers => ARRAY[0]::oid[]::regprocedure[]) $$);
SELECT try($$ SELECT wfproc.define('bad', 'by_schema', helpers => ARRAY[4294967295]::oid[]::regprocedure[]) $$);
SELECT try($$ SELECT wfproc.define('bad', 'by_schema', helpers => array_fill('f01(int)'::regprocedure, ARRAY[1001])) $$);
SELECT try($$ SELECT wfproc.define('bad', 'by_schema', helpers => '{no_such(int)}') $$);
SELECT try($$ SELECT wfproc.define('bad', 'by_schema', helpers => '{f01}') $$);
GRANT CREATE ON SCHEMA helpers_test TO regress_helpers_other;
SET ROLE regress_helpers_other;
SELECT try($$ SELECT wfproc.define('bad', 'by_schema', helpers => ARRAY['one_more()']::regprocedure[]) $$);
-- another's helper, with the right to execute it, runs as who defines
SELECT wfproc.define('of another', 'by_schema', helpers => ARRAY['f02(int)']::regprocedure[]);
RESET ROLE;
SELECT workflow, proname, owner_may, other_may FROM copies WHERE workflow = 'of another' ORDER BY proname;
SELECT count(*) FROM wfproc.workflows WHERE workflow = 'bad';

\echo '--- a superuser needs no grants'
SELECT wfproc.define('superuser', 'h0', helpers => '{k(int)}');
SELECT nspacl::text ~ 'regress' AS schema_granted FROM pg_namespace WHERE nspname = schema_of('superuser', 1);
BEGIN;
SELECT wfproc.start('superuser', 'superuser-1');
SELECT wfproc.run();
SELECT status, wfproc.state(id) FROM found WHERE id = 'superuser-1';
COMMIT;
SELECT * FROM wfproc.verify('superuser-1');

-- and a value that is no array
SELECT try($$ SELECT wfproc.define('bad', 'h0', helpers => 'k(int)') $$);

\echo '--- inside of a rolled back subtransaction nothing stays'
BEGIN;
SAVEPOINT s;
SELECT wfproc.define('gone', 'h0', helpers => '{k(int)}');
ROLLBACK TO s;
SELECT wfproc.define('gone', 'h0', helpers => '{k(int)}');
SELECT wfproc.start('gone', 'gone-1');
SELECT wfproc.run();
SELECT status, wfproc.state(id) FROM found WHERE id = 'gone-1';
ROLLBACK;
SELECT count(*) FROM wfproc.version_helper WHERE workflow_id NOT IN (SELECT workflow_id FROM wfproc.workflow);

SET client_min_messages = error;
DROP SCHEMA helpers_test, helpers_other CASCADE;
DROP OWNED BY regress_helpers_owner, regress_helpers_other;
DROP ROLE regress_helpers_owner, regress_helpers_other;
