-- I13: the same log gives the same states, byte for byte, whatever the settings of who folds it
\set QUIET on
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';

CREATE SCHEMA determinism_test;
SET search_path = determinism_test;

-- whatever is written out or read in by way of a setting
CREATE TYPE pair AS (d date, f float8);
CREATE FUNCTION helper(a int) RETURNS text LANGUAGE sql AS $$ SELECT 'ours ' || a $$;
CREATE FUNCTION writes_out(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    p pair := ('2030-02-03', 0.1);
    words text[];
    message text;
BEGIN
    SELECT array_agg(w ORDER BY w) INTO words FROM unnest('{Zoë,ada,Ada,émile,zoe,_x}'::text[]) w;
    BEGIN
        RAISE EXCEPTION 'own message %', wfproc.now();
    EXCEPTION WHEN raise_exception THEN
        message := SQLERRM;
    END;
    RETURN state || jsonb_build_object(
        'event', event,
        'n', COALESCE((state ->> 'n')::int, 0) + 1,
        'stamp', wfproc.now()::text,
        'stamp json', to_jsonb(wfproc.event_at()),
        'date', '2030-02-03'::date::text,
        'date in', '01/02/2030'::date,
        'local', '2030-07-01 12:00'::timestamptz,
        'truncated', date_trunc('day', wfproc.now()),
        'char', to_char(wfproc.now(), 'Day DD Month YYYY HH24:MI TZ'),
        'local char', to_char(wfproc.now(), 'TMDay TMMonth'),
        'abbreviation', '2030-01-15 12:00 EST'::timestamptz,
        'interval', (interval '1 year 2 months 3 days 04:05:06.7')::text,
        'float', (0.1::float8 + 0.2)::text,
        'float4', (1.0::float4 / 3)::text,
        'float json', to_jsonb(1e300::float8 / 3),
        'bytea', '\x00ff41'::bytea::text,
        'bytea in', encode(E'\\001\\377'::bytea, 'hex'),
        'money', 1234.5::money::text,
        'number', to_char(1234567.891, '9G999G999D99L'),
        'xml', xmlelement(name a, xmlattributes('x' AS b), 'c<d', '\x41'::bytea)::text,
        'array', '{a,NULL,b}'::text[]::text,
        'row', p::text,
        'words', words,
        'upper', upper('straße émile'),
        'quoted', format('%I.%I %L', 'plain', 'Needs Quotes', E'back\\slash'),
        'tsvector', to_tsvector('The runners are running')::text,
        'null equals', (payload -> 'none') = NULL IS NULL,
        'helper', helper(7),
        'sum', (SELECT sum(x) FROM unnest(ARRAY[1e20, 1, -1e20, 3.7]::float8[]) x),
        'aggregate', (SELECT string_agg(g::text, ',' ORDER BY g % 7, g) FROM generate_series(1, 40) g),
        'random', wfproc.random(),
        'uuid', wfproc.uuid(),
        'self', wfproc.self(),
        'message', message,
        'path', current_setting('search_path'));
END $$;
SELECT wfproc.define('determinism', 'writes_out', snapshot_every => 1000) > 0;
CREATE FUNCTION in_sql(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT state || jsonb_build_object(event, ARRAY[wfproc.now()::text, (0.1::float8 * 3)::text, helper(1), format('%I', 'x'), '2030-01-15 12:00 EST'::timestamptz::text])
$$;
SELECT wfproc.define('determinism_sql', 'in_sql') > 0;

CREATE TABLE settings (name text, value text);
INSERT INTO settings VALUES
    ('TimeZone', 'America/New_York'), ('TimeZone', 'Asia/Kathmandu'), ('TimeZone', 'UTC'),
    ('DateStyle', 'German, DMY'), ('DateStyle', 'SQL, DMY'), ('DateStyle', 'Postgres, MDY'),
    ('IntervalStyle', 'iso_8601'), ('IntervalStyle', 'sql_standard'), ('IntervalStyle', 'postgres_verbose'),
    ('extra_float_digits', '-10'), ('extra_float_digits', '0'), ('extra_float_digits', '3'),
    ('bytea_output', 'escape'), ('lc_monetary', 'C.UTF-8'), ('lc_numeric', 'C.UTF-8'), ('lc_time', 'C.UTF-8'), ('lc_messages', 'C.UTF-8'),
    ('xmlbinary', 'hex'), ('xmloption', 'document'), ('default_text_search_config', 'pg_catalog.english'),
    ('array_nulls', 'off'), ('transform_null_equals', 'on'), ('backslash_quote', 'on'), ('standard_conforming_strings', 'off'),
    ('escape_string_warning', 'off'), ('quote_all_identifiers', 'on'), ('timezone_abbreviations', 'Australia'),
    ('search_path', 'pg_catalog'), ('search_path', 'determinism_evil, determinism_test'), ('row_security', 'off'),
    ('jit', 'on'), ('jit_above_cost', '0'), ('plan_cache_mode', 'force_generic_plan'), ('plan_cache_mode', 'force_custom_plan'),
    ('enable_sort', 'off'), ('enable_hashagg', 'off'), ('enable_material', 'off'), ('enable_nestloop', 'off'), ('enable_seqscan', 'off'),
    ('force_parallel_mode', 'regress'), ('max_parallel_workers_per_gather', '0'), ('work_mem', '64kB'), ('from_collapse_limit', '1'),
    ('geqo_threshold', '2'), ('default_transaction_isolation', 'serializable'), ('default_transaction_read_only', 'on'),
    ('client_encoding', 'LATIN1'), ('client_min_messages', 'error'), ('application_name', 'other'), ('gin_fuzzy_search_limit', '1'),
    ('session_replication_role', 'replica'), ('check_function_bodies', 'off'), ('createrole_self_grant', ''), ('plpgsql.extra_warnings', 'none'),
    ('plpgsql.variable_conflict', 'use_column'), ('statement_timeout', '60s'), ('idle_in_transaction_session_timeout', '60s');
DELETE FROM settings WHERE name NOT IN (SELECT s.name FROM pg_settings s) AND name NOT LIKE 'plpgsql.%';
CREATE SCHEMA determinism_evil;
CREATE FUNCTION determinism_evil.helper(a int) RETURNS text LANGUAGE sql AS $$ SELECT 'theirs ' || a $$;
CREATE FUNCTION determinism_evil.format(text, VARIADIC text[]) RETURNS text LANGUAGE sql AS $$ SELECT 'theirs'::text $$;

-- starts, sends and handles; the digest of each step and the last state
CREATE FUNCTION life() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('wfproc.fake_now', '2030-02-03 04:05:06.789+00', true);
    PERFORM wfproc.start('determinism', 'determinism-1', '{"a": 1.50, "b": "\u00e9"}', at => '2030-01-02 03:04:05.678901+00');
    PERFORM wfproc.send('determinism-1', 'e', '{"x": [1, 2.0]}', at => '2030-01-03 00:00+00'), wfproc.send('determinism-1', 'f');
    PERFORM wfproc.start('determinism_sql', 'determinism-2'), wfproc.send('determinism-2', 'e');
    PERFORM wfproc.run();
    RETURN (SELECT string_agg(concat_ws(' ', e.seq, e.digest, encode(e.hash, 'hex')), ' ' ORDER BY i.id, e.seq)
            FROM wfproc.event e JOIN wfproc.instance i USING (instance_id) WHERE i.id LIKE 'determinism-%');
END $$;

-- the same with a setting, and with it undone; says where that made a difference
CREATE FUNCTION differs(setting text, value text, expected text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
    state jsonb;
    kept text := current_setting(setting, true);
BEGIN
    BEGIN
        PERFORM set_config(setting, value, true);
        result := determinism_test.life();
        RAISE EXCEPTION USING ERRCODE = 'ZZZZZ', MESSAGE = result;
    EXCEPTION WHEN SQLSTATE 'ZZZZZ' THEN
        result := SQLERRM;
    END;
    RETURN CASE WHEN result IS DISTINCT FROM expected THEN 'differs' END;
END $$;

\echo '--- what the handler saw'
BEGIN;
SELECT count(*) FROM life();
SELECT key || ': ' || value FROM jsonb_each(wfproc.state('determinism-1')) ORDER BY key;
SELECT key || ': ' || value FROM jsonb_each(wfproc.state('determinism-2')) ORDER BY key;
ROLLBACK;

\echo '--- the log of this life, which never changes (another digest here is another result of the engine)'
BEGIN;
SELECT regexp_split_to_table(life(), ' (?=\d+ -?\d+ [0-9a-f]{64})');
ROLLBACK;

\echo '--- running it under another setting leads to the same log, byte for byte'
BEGIN;
SAVEPOINT s;
SELECT life() AS expected \gset
ROLLBACK TO s;
SELECT count(*) >= 45 FROM settings;
SELECT name, value, d FROM (SELECT * FROM settings ORDER BY name, value) x, differs(name, value, :'expected') d WHERE d IS NOT NULL;
ROLLBACK;

\echo '--- and folding it under another setting finds no difference, once and twice'
CREATE FUNCTION folds(setting text, value text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    BEGIN
        PERFORM set_config(setting, value, true);
        SELECT string_agg(concat_ws(' ', i.id, v.reason), ', ') INTO result
        FROM unnest('{determinism-1,determinism-2,determinism-1}'::text[]) i(id), wfproc.verify(i.id) v WHERE NOT v.ok;
        RAISE EXCEPTION USING ERRCODE = 'ZZZZZ', MESSAGE = COALESCE(result, '');
    EXCEPTION WHEN SQLSTATE 'ZZZZZ' THEN
        RETURN NULLIF(SQLERRM, '');
    END;
END $$;
BEGIN;
SELECT length(life()) > 0;
SELECT name, value, d FROM (SELECT * FROM settings ORDER BY name, value) x, folds(name, value) d WHERE d IS NOT NULL;
SELECT wfproc.state('determinism-1') AS state \gset
SET LOCAL TimeZone = 'Asia/Kathmandu';
SET LOCAL DateStyle = 'German';
SELECT wfproc.state('determinism-1') = :'state';
ROLLBACK;

\echo '--- I12: with a snapshot after any event the state and the digests are those without one'
CREATE FUNCTION with_snapshot(k int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    BEGIN
        PERFORM set_config('wfproc.fake_now', '2030-02-03 04:05:06.789+00', true);
        PERFORM wfproc.start('determinism', 'determinism-4', at => '2030-01-01 00:00+00');
        PERFORM wfproc.send('determinism-4', 'e' || n, to_jsonb(n), at => '2030-01-01 00:00+00'::timestamptz + n * 7 % 5 * interval '1 hour') FROM generate_series(1, 9) n;
        IF k > 0 THEN
            PERFORM wfproc.run(k);
            PERFORM wfproc.snapshot('determinism-4');
        END IF;
        PERFORM wfproc.run();
        SELECT concat_ws(' ', md5(wfproc.state(i.id)::text), (SELECT md5(string_agg(h.digest::text, ' ' ORDER BY h.seq)) FROM wfproc.history(i.id) h),
                         wfproc.verify(i.id), (SELECT s.seq FROM wfproc.snapshot s WHERE s.instance_id = i.instance_id)) INTO result
        FROM wfproc.instance i WHERE i.id = 'determinism-4';
        RAISE EXCEPTION USING ERRCODE = 'ZZZZZ', MESSAGE = result;
    EXCEPTION WHEN SQLSTATE 'ZZZZZ' THEN
        RETURN SQLERRM;
    END;
END $$;
SELECT count(DISTINCT split_part(r, ' ', 1)), count(DISTINCT split_part(r, ' ', 2)), string_agg(split_part(r, ' ', 3) || split_part(r, ' ', 4), ' ' ORDER BY k)
FROM generate_series(0, 10) k, with_snapshot(k) r;

\echo '--- a worker''s log is the same as that of run()'
CREATE FUNCTION plain(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event = 'end' THEN
        PERFORM wfproc.complete();
    END IF;
    RETURN writes_out(state, event, payload) || jsonb_build_object('settings', (SELECT jsonb_object_agg(s, current_setting(s)) FROM unnest(
        '{TimeZone,DateStyle,IntervalStyle,extra_float_digits,bytea_output,lc_monetary,lc_numeric,lc_time,xmlbinary,xmloption,default_text_search_config,array_nulls,transform_null_equals,backslash_quote,standard_conforming_strings,row_security,jit,search_path}'::text[]) s));
END $$;
SELECT wfproc.define('determinism_plain', 'plain') > 0;
BEGIN;
SELECT wfproc.start('determinism_plain', 'determinism-3', at => '2020-01-01 00:00+00'), wfproc.send('determinism-3', 'end', at => '2020-01-02 00:00+00') > 0;
SELECT wfproc.run();
SELECT array_agg(digest ORDER BY seq) AS digests FROM wfproc.history('determinism-3') \gset
ROLLBACK;
BEGIN;
SELECT wfproc.start('determinism_plain', 'determinism-3', at => '2020-01-01 00:00+00'), wfproc.send('determinism-3', 'end', at => '2020-01-02 00:00+00') > 0;
COMMIT;
SELECT status FROM wfproc.await('determinism-3', '60 s');
SELECT array_agg(digest ORDER BY seq) = :'digests' FROM wfproc.history('determinism-3');
SELECT wfproc.verify('determinism-3');

DROP SCHEMA determinism_test, determinism_evil CASCADE;
