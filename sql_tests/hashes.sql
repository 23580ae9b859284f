-- Hashes and digests at the limits of what jsonb can hold: what plain SQL computes with pgcrypto is what the engine has.
-- Everything happens in a transaction that is rolled back, under a clock that stands.
\set QUIET on
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
SET TimeZone = 'UTC';

BEGIN;
SET LOCAL wfproc.fake_now = '9999-12-31 23:59:59.999999+00';

-- the payload goes into the state, and into an action
CREATE FUNCTION public.hashes_keep(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM wfproc.set_timer('later', after => '10000 years', payload => payload);
    RETURN jsonb_build_object('last', payload, event, wfproc.seq());
END $$;
SELECT wfproc.define('hashes', 'public.hashes_keep', snapshot_every => 1000);

CREATE TEMP TABLE given (n serial, what text, literal text);
-- numbers: the greatest, the smallest, signs and scales of zero, ways to write a hundred, more digits than any float
INSERT INTO given (what, literal) SELECT 'number', l FROM unnest(ARRAY['1e131071', '-1e131071', repeat('9', 131072), '1e-16383', '-1e-16383', '-0', '0', '0.0', '0.00',
    '-0.0', '0e10', '0e-10', '1E+2', '1e2', '100', '100.0', '1.00e2', '0.1', '0.' || repeat('3', 16383), '-12345678901234567890.' || repeat('1234567890', 100),
    '9007199254740993', '18446744073709551616', '1.7976931348623157e309', '5e-324']) l;
-- texts: beyond the BMP, escapes, what looks like a separator, both forms of one letter
INSERT INTO given (what, literal) SELECT 'text', l FROM unnest(ARRAY['""', U&'"\+01D11E"', '"\ud834\udd1e"', '"\u001f"', '"\u0001\u007f\u0080\u009f"', '"\"\\\/\b\f\n\r\t"', '"\u2028\u2029\ufeff\uffff"',
    '"\u00e9"', '"e\u0301"', '"\\u0041"', '"\u0041"', U&'"\+10FFFF"', to_jsonb(repeat(U&'\+01F980', 1000))::text]) l;
-- keys: empty, twice, of equal length, that begin alike, beyond the BMP; jsonb sorts them by length first
INSERT INTO given (what, literal) SELECT 'keys', l FROM unnest(ARRAY['{"": 1}', '{"": {"": {"": null}}}', '{"a": 1, "a": 2}', '{"a": 1, "b": 2, "a": {"c": 1, "c": 2}}',
    '{"bb": 1, "ab": 2, "c": 3, "ba": 4, "aa": 5, "": 6, "aaa": 7}', U&'{"\+01D11E": 1, "\+01D11D": 2, "\FFFF": 3, "\00e9\00e9": 4}', '{"\u001f": "\u001f", "a\"b": "\\"}',
    (SELECT jsonb_object_agg(repeat('k', i % 300) || i, i)::text FROM generate_series(1, 2000) i)]) l;
-- shapes: nothing, scalars, a thousand deep, wide, a megabyte
INSERT INTO given (what, literal) SELECT 'shape', l FROM unnest(ARRAY['{}', '[]', 'null', 'true', 'false', '[[]]', '[{}]', '[null]', '{"a": []}', '{"a": {}}', '[[[]], {}, [{}]]',
    repeat('[', 1000) || repeat(']', 1000), repeat('{"a": ', 1000) || '{}' || repeat('}', 1000), repeat('[{"": ', 500) || '1.00' || repeat('}]', 500),
    (SELECT jsonb_agg(i)::text FROM generate_series(1, 10000) i), to_jsonb(repeat('x', 1048000))::text, to_jsonb(repeat(U&'\+01D11E', 260000))::text]) l;

\echo '--- an instance for each kind, whose id, keys and names are not plain either'
SELECT count(wfproc.start('hashes', id, at => '0001-01-01 00:00:00.000001+00 BC')) FROM (SELECT DISTINCT U&'hashes \+01D11E ' || what AS id FROM given) i;
SELECT count(wfproc.send(U&'hashes \+01D11E ' || what, CASE n % 3 WHEN 0 THEN 'e' WHEN 1 THEN U&'\00e9\+01F980' ELSE '<"''\&>' END, literal::jsonb,
                         timestamptz '1969-12-31 23:59:59.999998+00' + n * interval '1 us', CASE WHEN n % 2 = 0 THEN U&'key \+01D11E ' || n END)) FROM given;
-- the oldest stamp that there is, and one that is now
SELECT count(wfproc.send(U&'hashes \+01D11E text', 'e', '{}', at)) FROM unnest('{4714-11-24 00:00:00+00 BC,9999-12-31 23:59:59.999999+00}'::timestamptz[]) at;
SELECT wfproc.run() = (SELECT count(*) + 6 FROM given);
SELECT what, count(*) FROM given GROUP BY 1 ORDER BY 1;

\echo '--- what is in the log is what was sent'
SELECT count(*), count(*) FILTER (WHERE payload::text = literal::jsonb::text) FROM (
    SELECT literal, h.payload FROM given, wfproc.history(U&'hashes \+01D11E ' || what, 0, 1000) h
    WHERE h.at = timestamptz '1969-12-31 23:59:59.999998+00' + n * interval '1 us') x;

\echo '--- the chain, by digest() of pgcrypto'
CREATE FUNCTION pg_temp.check_chain(of text) RETURNS TABLE (rows bigint, fit bigint) LANGUAGE sql AS $$
    WITH RECURSIVE chain AS (
        SELECT 0::bigint AS seq, NULL::bytea AS hash, digest(convert_to('wfproc/1' || of, 'UTF8'), 'sha256') AS computed
      UNION ALL
        SELECT e.seq, e.hash, digest(c.computed || convert_to(array_to_string(ARRAY[
                   e.seq::text, (extract(epoch FROM e.at) * 1000000)::bigint::text, (extract(epoch FROM e.recorded_at) * 1000000)::bigint::text, e.event,
                   encode(digest(convert_to(e.payload::text, 'UTF8'), 'sha256'), 'hex'), coalesce(e.sender, ''), coalesce(e.idempotency_key, ''), e.digest::text], chr(31)), 'UTF8'), 'sha256')
        FROM chain c CROSS JOIN LATERAL wfproc.history(of, c.seq, 1) e)
    SELECT count(*), count(*) FILTER (WHERE hash = computed) FROM chain WHERE seq > 0
$$;
SELECT i.id, c.*, c.rows = (wfproc.digest(i.id)).seq, v.* FROM wfproc.instances i, pg_temp.check_chain(i.id) c, wfproc.verify(i.id) v WHERE workflow = 'hashes' ORDER BY 1;

\echo '--- the digests of states and actions'
SELECT i.id, count(*), count(*) FILTER (WHERE h.digest = ('x' || encode(substr(digest(convert_to(r.state::text || chr(31) || r.actions::text, 'UTF8'), 'sha256'), 1, 8), 'hex'))::bit(64)::bigint),
       count(*) FILTER (WHERE r.actions #> '{0,payload}' = r.state -> 'last')
FROM wfproc.instances i, wfproc.replay(i.id) r, wfproc.history(i.id, 0, 1000) h WHERE i.workflow = 'hashes' AND r.seq = h.seq GROUP BY i.id ORDER BY i.id;

\echo '--- snapshots'
SELECT count(wfproc.snapshot(id)), wfproc.run() FROM wfproc.instances WHERE workflow = 'hashes';
SELECT i.id, s.state_sha256 = digest(convert_to(s.state::text, 'UTF8'), 'sha256'), s.log_sha256 = (wfproc.digest(i.id)).sha256, s.state = wfproc.state(i.id), (wfproc.verify(i.id)).ok
FROM wfproc.snapshot s JOIN wfproc.instance i USING (instance_id) WHERE i.id LIKE U&'hashes \+01D11E %' ORDER BY 1;

\echo '--- what jsonb takes for equal and writes otherwise has another hash; what it writes alike has the same'
SELECT literal, literal::jsonb::text, literal::jsonb = '0', encode(substr(digest(literal::jsonb::text, 'sha256'), 1, 4), 'hex') FROM given
WHERE what = 'number' AND literal::jsonb = '0' ORDER BY n;

\echo '--- out and in again: the same hashes'
CREATE TEMP TABLE exported AS SELECT i.id, jsonb_agg(l) AS lines, (wfproc.digest(i.id)).sha256 FROM wfproc.instances i, wfproc.export_log(i.id) l WHERE workflow = 'hashes' GROUP BY i.id;
-- as text, as a file would have it
ALTER TABLE exported ALTER lines TYPE text;
UPDATE wfproc.instance SET id = 'gone ' || id WHERE id LIKE U&'hashes \+01D11E %';
SELECT count(wfproc.import_log(lines::jsonb)) FROM exported;
SELECT id, sha256 = (wfproc.digest(id)).sha256, (wfproc.digest(id)).seq, (wfproc.verify(id)).* FROM exported ORDER BY 1;

\echo '--- what cannot be in a log'
CREATE FUNCTION pg_temp.attempt(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ': ' || SQLERRM;
END $$;
SELECT left(l, 12), pg_temp.attempt(format('SELECT wfproc.send(%L, %L, %L)', U&'hashes \+01D11E text', 'e', l))
FROM unnest(ARRAY['1e131072', '1e-16384', '"\u0000"', '"\ud834"', '"\udd1e\ud834"', 'NaN', 'Infinity', '01', '1.', '{"a"}', to_jsonb(repeat('x', 1048577))::text]) l;

\echo '--- a large state leaves no memory behind'
CREATE FUNCTION public.hashes_large(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE sql AS
$$ SELECT CASE event WHEN 'start' THEN state ELSE jsonb_build_object('text', repeat('x', 30000000)) END $$;
SELECT wfproc.define('large', 'public.hashes_large');
SELECT wfproc.start('large', 'large', at => '0001-01-01');
SET LOCAL wfproc.max_state = '64MB';
SELECT wfproc.run();
SELECT sum(total_bytes) AS before FROM pg_backend_memory_contexts WHERE name = 'TopMemoryContext' \gset
SELECT count(wfproc.send('large', 'grow'));
SELECT wfproc.run();
SELECT length(wfproc.state('large') ->> 'text');
SELECT sum(total_bytes) - :before < 5000000 AS "kept less than 5 MB" FROM pg_backend_memory_contexts WHERE name = 'TopMemoryContext';
ROLLBACK;
