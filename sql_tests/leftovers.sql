-- What a handler can leave behind in a session, of a worker and of who calls run(): nothing. Nor does it take what the session has.
\set QUIET on
\pset format unaligned
\pset tuples_only on
SET client_min_messages = error;
CREATE SCHEMA leftovers;
SET search_path = leftovers;

-- what a session has
CREATE FUNCTION inventory() RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(', ',
        (SELECT 'locks ' || string_agg(concat_ws(' ', mode, objid), ' ' ORDER BY objid, mode) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'),
        (SELECT 'cursors ' || string_agg(name, ' ' ORDER BY name) FROM pg_cursors WHERE name <> '' AND name NOT LIKE '<unnamed%'),
        (SELECT 'statements ' || string_agg(name, ' ' ORDER BY name) FROM pg_prepared_statements),
        (SELECT 'channels ' || string_agg(c, ' ') FROM pg_listening_channels() c),
        (SELECT 'relations ' || count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()),
        (SELECT 'settings ' || string_agg(concat_ws('=', n, current_setting(n, true)), ' ' ORDER BY n)
         FROM unnest('{leftovers.mine,work_mem,statement_timeout,TimeZone,wfproc.max_state}'::text[]) n
         WHERE COALESCE(current_setting(n, true), '') <> ''),
        'large objects ' || (SELECT count(*) FROM pg_largeobject_metadata))
$$;

-- each tries one thing in a step that succeeds, and one that fails
CREATE TABLE tries (n int GENERATED ALWAYS AS IDENTITY, sql text);
INSERT INTO tries (sql) VALUES
    ('SELECT pg_advisory_lock(1)'), ('SELECT pg_advisory_lock(1, 2)'), ('SELECT pg_advisory_lock_shared(1)'), ('SELECT pg_try_advisory_lock(1)'),
    ('SELECT pg_try_advisory_lock_shared(1, 2)'), ('SELECT pg_advisory_unlock(99)'), ('SELECT pg_advisory_unlock_shared(99)'), ('SELECT pg_advisory_unlock_all()'),
    ('SELECT count(pg_advisory_lock(n)) FROM generate_series(1, 3) n'), ('SELECT n FROM generate_series(1, 3) n ORDER BY pg_advisory_lock(n)::text'),
    ('SELECT leftovers.locks_1()'), ('SELECT leftovers.locks_2()'), ('DO ''DECLARE x text; BEGIN x := pg_advisory_lock(5); END'''),
    ('SELECT 1::bigint::leftovers.key'), ('SELECT 1 OPERATOR(leftovers.@@@) 2'), ('SELECT leftovers.agg(n::bigint) FROM generate_series(1, 3) n'),
    ('SELECT pg_advisory_xact_lock(7)'), ('SELECT pg_try_advisory_xact_lock_shared(8)'), ('LOCK TABLE leftovers.tries IN ACCESS EXCLUSIVE MODE'),
    ('SELECT pg_cancel_backend(pg_backend_pid())'), ('SELECT pg_terminate_backend(0)'),
    ('SELECT pg_logical_emit_message(false, ''p'', ''text'')'), ('SELECT setseed(0.5)'),
    ('DECLARE theirs CURSOR FOR SELECT 1'), ('CLOSE ALL'), ('PREPARE p AS SELECT 1'), ('LISTEN c'), ('UNLISTEN *'), ('NOTIFY c'), ('CREATE TEMP TABLE t (n int)'),
    ('DISCARD ALL'), ('DEALLOCATE ALL'), ('SET work_mem = ''1MB'''), ('SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY'),
    ('SELECT set_config(''leftovers.mine'', ''x'', false)'), ('SELECT set_config(''statement_timeout'', ''1h'', false)'), ('RESET ALL'),
    ('SELECT count(*) FROM lo_create(0)');
CREATE FUNCTION locks_1() RETURNS text LANGUAGE plpgsql AS $$ DECLARE t text; BEGIN t := pg_advisory_lock(3); RETURN t; END $$;
CREATE FUNCTION locks_2() RETURNS void LANGUAGE sql AS $$ SELECT pg_advisory_lock(4) $$;
CREATE TYPE key AS (n text);
CREATE FUNCTION as_key(bigint) RETURNS key LANGUAGE sql AS $$ SELECT ROW(pg_advisory_lock($1)::text)::leftovers.key $$;
CREATE CAST (bigint AS key) WITH FUNCTION as_key(bigint);
CREATE OPERATOR @@@ (LEFTARG = int, RIGHTARG = int, FUNCTION = pg_try_advisory_lock);
CREATE AGGREGATE agg (bigint) (SFUNC = int8pl, STYPE = bigint, FINALFUNC = pg_try_advisory_lock, INITCOND = '0');

CREATE FUNCTION h(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event = 'end' THEN
        PERFORM wfproc.complete();
    ELSIF event = 'look' THEN
        RETURN state || jsonb_build_object('inventory', leftovers.inventory());
    ELSIF event = 'fail' THEN
        EXECUTE payload ->> 'sql';
        RAISE EXCEPTION 'told to';
    ELSIF event <> 'start' THEN
        BEGIN
            EXECUTE payload ->> 'sql';
        EXCEPTION WHEN OTHERS THEN
            RETURN state || jsonb_build_object(event, SQLSTATE || ': ' || SQLERRM);
        END;
        RETURN state || jsonb_build_object(event, 'done');
    END IF;
    RETURN state;
END $$;
SELECT wfproc.define('leftovers', 'h', max_attempts => 1, on_failure => 'dead_letter');

-- cursors that each step opens and leaves; a fixed name would be taken in the next
CREATE FUNCTION opens(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    c refcursor := 'fixed';
    n int;
BEGIN
    OPEN c FOR SELECT 1;
    FETCH c INTO n;
    RETURN state || jsonb_build_object('n', COALESCE((state ->> 'n')::int, 0) + n);
END $$;
SELECT wfproc.define('leftovers_opens', 'opens');

\echo '--- by run(): what the session has is what it had, also its locks and cursors'
PREPARE mine AS SELECT 1;
LISTEN mine;
SET leftovers.mine = 'kept';
SELECT pg_advisory_lock(99), pg_advisory_lock_shared(99);
BEGIN;
DECLARE mine CURSOR FOR SELECT 'mine';
SELECT inventory() AS before \gset
SELECT wfproc.start('leftovers', 'leftovers-1');
SELECT count(wfproc.send('leftovers-1', 'a' || n, jsonb_build_object('sql', sql))), count(wfproc.send('leftovers-1', 'fail', jsonb_build_object('sql', sql))) FROM (SELECT * FROM tries ORDER BY n) a;
SELECT wfproc.run();
SELECT a.sql || ' | ' || COALESCE(s ->> ('a' || n), '?') FROM wfproc.state('leftovers-1') s, tries a ORDER BY n;
SELECT inventory() = :'before', inventory();
FETCH mine;
\echo 'nor does try_step(), verify() or state()'
SELECT new_state FROM wfproc.try_step('h', '{}', 'try', '{"sql": "SELECT pg_advisory_lock(1)"}');
SELECT ok FROM wfproc.verify('leftovers-1');
SELECT inventory() = :'before';
SELECT wfproc.start('leftovers_opens', 'leftovers-2');
SELECT count(wfproc.send('leftovers-2', 'e')) FROM generate_series(1, 5);
SELECT wfproc.run();
SELECT wfproc.state('leftovers-2'), (wfproc.verify('leftovers-2')).ok, inventory() = :'before';
ROLLBACK;
SELECT pg_advisory_unlock_all();
DEALLOCATE mine;
UNLISTEN *;
RESET leftovers.mine;

\echo '--- by a worker'
BEGIN;
SELECT wfproc.start('leftovers', 'leftovers-1');
SELECT count(wfproc.send('leftovers-1', 'a' || n, jsonb_build_object('sql', sql))), count(wfproc.send('leftovers-1', 'fail', jsonb_build_object('sql', sql))) FROM (SELECT * FROM tries ORDER BY n) a;
SELECT wfproc.start('leftovers_opens', 'leftovers-2');
SELECT count(wfproc.send('leftovers-2', 'e')) FROM generate_series(1, 5);
COMMIT;
SELECT reached FROM wfproc.await_state('leftovers-2', '$.n == 6', '60 s') reached;
SELECT reached IS NOT NULL FROM wfproc.await_state('leftovers-1', 'exists($.a38)', '60 s') reached;
SELECT wfproc.send('leftovers-1', 'look') > 0, wfproc.send('leftovers-1', 'end') > 0;
SELECT status FROM wfproc.await('leftovers-1', '60 s');
SELECT wfproc.state('leftovers-1') ->> 'inventory';
SELECT a.sql || ' | ' || COALESCE(s ->> ('a' || n), '?') FROM wfproc.state('leftovers-1') s, tries a ORDER BY n;
SELECT mode FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database());

\echo '--- settings that PL/pgSQL and the planner go by do not change a result'
CREATE FUNCTION sensitive(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    a int;
    b int;
    flag bool := (payload ->> 'flag')::bool;
    called bool;
BEGIN
    SELECT 1 INTO a, b;
    BEGIN
        ASSERT event <> 'assert', 'must not be';
    EXCEPTION WHEN assert_failure THEN
        state := state || '{"asserted": true}';
    END;
    BEGIN
        a := 1 / 0;
    EXCEPTION WHEN division_by_zero THEN
        state := state || jsonb_build_object('message', SQLERRM);
    END;
    SELECT wfproc.send(wfproc.self(), 'sent', '{"flag": false}', at => '2100-01-01') IS NOT NULL AND flag INTO called;
    RETURN state || jsonb_build_object('n', COALESCE((state ->> 'n')::int, 0) + 1, 'called', called);
END $$;
SELECT wfproc.define('leftovers_sensitive', 'sensitive');
CREATE FUNCTION digests(setting text, value text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer text;
BEGIN
    PERFORM set_config(setting, value, true);
    PERFORM set_config('wfproc.fake_now', '2030-01-01', true);
    PERFORM wfproc.start('leftovers_sensitive', 'leftovers-3', '{"flag": false}', at => '2029-01-01');
    PERFORM wfproc.send('leftovers-3', e, '{"flag": false}', at => '2029-01-01') FROM unnest('{a,b,assert,c,d,e,f,g,h}'::text[]) e;
    PERFORM wfproc.run();
    SELECT string_agg(digest::text, ' ' ORDER BY seq) || ' ' || (SELECT string_agg(v::text, ' ') FROM wfproc.verify('leftovers-3') v) INTO answer FROM wfproc.history('leftovers-3');
    RAISE EXCEPTION USING ERRCODE = 'ZZZZZ', MESSAGE = answer;
EXCEPTION WHEN SQLSTATE 'ZZZZZ' THEN
    RETURN SQLERRM;
END $$;
SELECT digests('work_mem', '4MB') AS plain \gset
SELECT right(:'plain', 5), array_length(string_to_array(:'plain', ' '), 1);
SELECT setting, value, digests(setting, value) = :'plain' FROM (VALUES ('plpgsql.extra_errors', 'all'), ('plpgsql.extra_warnings', 'all'),
    ('plpgsql.check_asserts', 'off'), ('plpgsql.variable_conflict', 'use_column'), ('plan_cache_mode', 'force_custom_plan'), ('plan_cache_mode', 'auto'),
    ('gin_fuzzy_search_limit', '1')) s(setting, value);

\echo '--- each setting of a session is fixed for handlers, or cannot change a result, or README''s Limits name it: one that a new server brings shows here'
SELECT name FROM pg_settings WHERE context IN ('user', 'superuser') AND category NOT LIKE 'Reporting and Logging%' AND category NOT LIKE 'Statistics%'
    AND category NOT LIKE 'Query Tuning%' AND category NOT LIKE 'Resource Usage%' AND category NOT LIKE 'Write-Ahead Log%'
    AND category NOT LIKE 'Replication%' AND category NOT LIKE 'Connections and Authentication%' AND category NOT LIKE 'Vacuuming%' AND name NOT LIKE 'vacuum%'
    AND name NOT LIKE 'wfproc.%' AND name NOT LIKE 'plpgsql.%'
    AND name <> ALL (-- fixed
        '{array_nulls,backslash_quote,bytea_output,DateStyle,default_text_search_config,extra_float_digits,gin_fuzzy_search_limit,IntervalStyle,jit,lc_messages,
          lc_monetary,lc_numeric,lc_time,quote_all_identifiers,row_security,search_path,standard_conforming_strings,TimeZone,timezone_abbreviations,
          transform_null_equals,xmlbinary,xmloption}'::text[])
    AND name <> ALL (-- no result depends on them
        '{application_name,check_function_bodies,client_encoding,client_min_messages,createrole_self_grant,default_table_access_method,default_tablespace,default_toast_compression,
          default_transaction_deferrable,default_transaction_isolation,default_transaction_read_only,transaction_deferrable,transaction_isolation,
          transaction_read_only,dynamic_library_path,extension_control_path,extension_destdir,escape_string_warning,event_triggers,exit_on_error,file_copy_method,
          gin_pending_list_limit,icu_validation_level,idle_in_transaction_session_timeout,idle_session_timeout,local_preload_libraries,lo_compat_privileges,
          output_plugin_libraries,session_preload_libraries,session_replication_role,synchronize_seqscans,temp_tablespaces,client_connection_check_interval}'::text[])
    AND name <> ALL (-- limits that end a step, or what tables it reads
        '{deadlock_timeout,lock_timeout,statement_timeout,transaction_timeout,restrict_nonsystem_relation_kind}'::text[])
    AND category NOT LIKE 'Developer Options%'
ORDER BY 1;
DROP SCHEMA leftovers CASCADE;
