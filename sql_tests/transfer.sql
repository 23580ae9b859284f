-- export_log(), import_log(), export_xes(): a log goes to another database and back
\set QUIET on
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';

CREATE SCHEMA transfer_test;
SET search_path = transfer_test;

-- both databases need the same handler; it remembers all that it was sent
SELECT $helpers$
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
CREATE FUNCTION remember(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event = 'end' THEN
        PERFORM wfproc.complete(payload);
    ELSIF event = 'stop' THEN
        PERFORM wfproc.fail('had to');
    ELSIF event = 'ask' THEN
        PERFORM wfproc.reply('{"answer": 42}');
        PERFORM wfproc.send(wfproc.self(), 'hear', '"self"');
        PERFORM wfproc.set_attributes('{"asked": true}');
    ELSIF event = 'bring up' THEN
        PERFORM wfproc.start('memory', wfproc.self() || '/child', live_from => 'infinity');
    END IF;
    RETURN state || jsonb_build_object('n', wfproc.seq(), 'last', payload, 'by', wfproc.sender(), 'who', wfproc.self(),
        'chance', wfproc.random(), 'parent', wfproc.parent());
END $$;
SELECT wfproc.define('memory', 'remember');
$helpers$ AS helpers \gset
:helpers

BEGIN;
SET LOCAL wfproc.fake_now = '2020-01-01 00:00:00.000001+00';
SELECT wfproc.start('memory', 'closed <&"''> ü 𝄞', '{"a": 1.50, "": null, "x": "\u001f\\\"\ud834\udd1e", "deep": [[[[{}]]]], "big": 1e40, "small": -0.00001}',
    attributes => '{"customer": 7}');
SELECT wfproc.send('closed <&"''> ü 𝄞', 'ask', idempotency_key => 'k1') > 0;
SELECT wfproc.send('closed <&"''> ü 𝄞', 'hear', 'null', '2020-01-01 00:00:00+00') > 0;
SELECT wfproc.run();
SELECT wfproc.send('closed <&"''> ü 𝄞', 'end', '[1, "two"]') > 0;
SELECT wfproc.run();
SELECT wfproc.start('memory', 'open'), wfproc.start('memory', 'failed'), wfproc.start('memory', 'empty', live_from => '-infinity');
SELECT wfproc.send('open', 'bring up') > 0, wfproc.send('failed', 'stop') > 0;
SELECT wfproc.run();
SELECT wfproc.pause('open', 'for now');
SELECT wfproc.start('memory', 'erased', '{"secret": 1}');
SELECT wfproc.send('erased', 'hear') > 0;
SELECT wfproc.run();
SELECT wfproc.redact('erased', 1, 'privacy');
SELECT wfproc.run();
COMMIT;

\echo '--- a line for the instance, then one for each event'
SELECT line - 'versions' FROM wfproc.export_log('closed <&"''> ü 𝄞') line;
SELECT line -> 'versions' = (SELECT jsonb_build_object('1', encode(code_sha256, 'hex')) FROM wfproc.versions WHERE workflow = 'memory')
FROM wfproc.export_log('open') line LIMIT 1;
SELECT line - 'versions' - 'format' FROM wfproc.export_log('failed') line LIMIT 1;
SELECT line - 'versions' - 'format' FROM wfproc.export_log('open/child') line LIMIT 1;
\echo 'where payloads were erased the state goes along, since the log alone does not lead to it any more'
SELECT (line - '{versions,format}'::text[]) #- '{snapshot,state,chance}' FROM wfproc.export_log('erased') line LIMIT 1;
SELECT line - 'hash' - 'digest' FROM wfproc.export_log('erased') line WHERE line ->> 'event' IN ('start', 'hear');
\echo 'whatever the time zone of who asks'
CREATE TEMP TABLE here AS SELECT i.id, jsonb_agg(line) lines, count(*) n FROM wfproc.instances i, wfproc.export_log(i.id) line
WHERE workflow = 'memory' GROUP BY i.id;
SET TimeZone = 'Asia/Kolkata';
SET DateStyle = 'German';
SELECT count(*) FROM here WHERE lines <> (SELECT jsonb_agg(line) FROM wfproc.export_log(id) line);
RESET TimeZone;
RESET DateStyle;
SELECT id, n, (wfproc.digest(id)).seq, (wfproc.digest(id)).sha256 = decode(lines -> -1 ->> 'hash', 'hex') FROM here ORDER BY id;

\echo '--- an outsider recomputes the chain from the lines alone'
WITH RECURSIVE chain(id, seq, hash) AS (
    SELECT id, 0, sha256(convert_to('wfproc/1' || id, 'UTF8')) FROM here
    UNION ALL
    SELECT c.id, c.seq + 1, sha256(c.hash || convert_to(concat_ws(chr(31), e ->> 'seq',
        (extract(epoch FROM (e ->> 'at')::timestamptz) * 1000000)::bigint, (extract(epoch FROM (e ->> 'recorded_at')::timestamptz) * 1000000)::bigint,
        e ->> 'event', COALESCE(e ->> 'payload_sha256', encode(sha256(convert_to((e -> 'payload')::text, 'UTF8')), 'hex')), COALESCE(e ->> 'sender', ''),
        COALESCE(e ->> 'idempotency_key', ''), e ->> 'digest'), 'UTF8'))
    FROM chain c JOIN here h USING (id), LATERAL (SELECT lines -> (c.seq + 1)) l(e) WHERE e IS NOT NULL)
SELECT c.id, bool_and(encode(c.hash, 'hex') = lines -> c.seq ->> 'hash') FROM chain c JOIN here h USING (id) WHERE c.seq > 0 GROUP BY c.id ORDER BY c.id;

SELECT jsonb_object_agg(id, lines) AS logs, :'DBNAME' AS home, jsonb_object_agg(id, encode((wfproc.digest(id)).sha256, 'hex')) AS digests FROM here \gset

\echo '--- into another database'
CREATE DATABASE transfer_other ENCODING 'UTF8' TEMPLATE template0;
\c transfer_other
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';
CREATE EXTENSION wfproc CASCADE;
CREATE TEMP TABLE arrived AS SELECT key AS id, value AS lines FROM jsonb_each(:'logs');
SELECT wfproc.import_log(lines) FROM arrived WHERE id = 'open';
:helpers
\echo 'numbers and ids are others here'
SELECT wfproc.define('other', 'remember'), wfproc.start('other', 'first'), setval('wfproc.instance_seq', 1000);
SELECT wfproc.import_log(lines) FROM arrived ORDER BY id;
SELECT id, workflow, version, status, parent, attributes, started_at, live_from, closed_at, result, error, attempts, waiting
FROM wfproc.instances WHERE workflow = 'memory' ORDER BY id;
SELECT id, v.ok, v.first_bad_seq, v.reason, encode((wfproc.digest(id)).sha256, 'hex') = :'digests'::jsonb ->> id
FROM wfproc.verify_all('memory') v FULL JOIN arrived USING (id) ORDER BY id;
SELECT wfproc.state('closed <&"''> ü 𝄞') - '{chance}'::text[];
SELECT wfproc.state('erased') - '{chance}'::text[];
SELECT seq, event, reply, live, idempotency_key, sender FROM wfproc.history('closed <&"''> ü 𝄞');
\echo 'and out again: the same lines, but that what was open is paused here'
SELECT id, lines = (SELECT jsonb_agg(line) FROM wfproc.export_log(id) line), (lines #- '{0,status}') = (SELECT jsonb_agg(line) #- '{0,status}' FROM wfproc.export_log(id) line)
FROM arrived ORDER BY id;
\echo 'it goes on here once it is resumed'
BEGIN;
SET LOCAL wfproc.fake_now = '2020-02-01';
SELECT try($$SELECT wfproc.import_log('[]')$$);
SELECT wfproc.resume('empty'), wfproc.send('empty', 'hear', '"you"') > 0;
SELECT wfproc.run() >= 0;
COMMIT;
SELECT wfproc.await_state('empty', '$.last == "you"') - 'chance';
SELECT * FROM wfproc.verify('empty');
SELECT jsonb_agg(line) AS empty_log FROM wfproc.export_log('empty') line \gset
SELECT encode(sha256, 'hex') AS empty_digest FROM wfproc.digest('empty') \gset

\echo '--- what does not fit'
SELECT try(format('SELECT wfproc.import_log(%L)', lines)) FROM arrived WHERE id = 'open';
\echo 'another name for the workflow; that there is other code is said'
CREATE OR REPLACE FUNCTION remember(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{"other": "code"}'::jsonb $$;
SELECT wfproc.define('renamed', 'remember');
SELECT replace(jsonb_agg(line)::text, 'open/child', 'open/child 2')::jsonb AS lines FROM wfproc.export_log('open/child') line \gset
SELECT try(format('SELECT wfproc.import_log(%L)', :'lines'));
SELECT $helpers$
CREATE FUNCTION rate() RETURNS int LANGUAGE sql AS $$ SELECT 5 $$;
CREATE FUNCTION bill(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN jsonb_build_object('rate', rate()); END $$;
SELECT wfproc.define('bill', 'bill', helpers => '{rate()}');
$helpers$ AS bill \gset
:bill
SELECT wfproc.start('bill', 'bill 1');
SELECT wfproc.await_state('bill 1', '$.rate == 5');
SELECT jsonb_agg(line) AS bill_log FROM wfproc.export_log('bill 1') line \gset
CREATE DATABASE transfer_third ENCODING 'UTF8' TEMPLATE template0;
\c transfer_third
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';
CREATE EXTENSION wfproc CASCADE;
CREATE TEMP TABLE arrived AS SELECT key AS id, value AS lines FROM jsonb_each(:'logs');
:helpers
CREATE FUNCTION another(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{"other": "code"}'::jsonb $$;
SELECT wfproc.define('renamed', 'another');
\echo 'the log that grew there has the same digest here'
SELECT wfproc.import_log(:'empty_log');
SELECT encode(sha256, 'hex') = :'empty_digest' FROM wfproc.digest('empty');
SELECT * FROM wfproc.verify('empty');
\echo 'under another name, and with other code'
SELECT wfproc.import_log(lines, 'renamed') FROM arrived WHERE id = 'failed';
SELECT workflow, version, status FROM wfproc.instances WHERE id = 'failed';
SELECT ok, first_bad_seq FROM wfproc.verify('failed');
\echo 'the same code, but another helper'
:bill
CREATE OR REPLACE FUNCTION rate() RETURNS int LANGUAGE sql AS $$ SELECT 6 $$;
SELECT wfproc.define('dearer', 'bill', helpers => '{rate()}');
BEGIN;
SELECT wfproc.import_log(:'bill_log', 'dearer');
SELECT * FROM wfproc.verify('bill 1');
ROLLBACK;
SELECT wfproc.import_log(:'bill_log');
SELECT * FROM wfproc.verify('bill 1');
\echo 'a child without its parent'
SELECT try(format('SELECT wfproc.import_log(%L)', lines)) FROM arrived WHERE id = 'open/child';
\echo 'each of these changes to a log is found'
SELECT what, try(format('SELECT wfproc.import_log(%L)', changed)) FROM arrived, LATERAL (VALUES
    (1, 'payload', jsonb_set(lines, '{1,payload,a}', '2')),
    (2, 'name', jsonb_set(lines, '{2,event}', '"asked"')),
    (3, 'stamp', jsonb_set(lines, '{2,at}', '"2020-01-01T00:00:00.000002+00:00"')),
    (4, 'time of recording', jsonb_set(lines, '{2,recorded_at}', '"2020-01-01T00:00:00+00:00"')),
    (5, 'digest', jsonb_set(lines, '{2,digest}', '"1"')),
    (6, 'key', lines #- '{3,idempotency_key}'),
    (7, 'sender', jsonb_set(lines, '{2,sender}', '"me"')),
    (8, 'hash', jsonb_set(lines, '{2,hash}', lines #> '{1,hash}')),
    (9, 'seq', jsonb_set(lines, '{2,seq}', '3')),
    (10, 'row missing', lines - 2),
    (11, 'first row missing', lines - 1),
    (12, 'rows swapped', jsonb_set(jsonb_set(lines, '{2}', lines -> 3), '{3}', lines -> 2)),
    (13, 'row twice', jsonb_insert(lines, '{2}', lines -> 2)),
    (14, 'scale of a number', jsonb_set(lines, '{1,payload,a}', '1.5')),
    (15, 'id', jsonb_set(lines, '{0,id}', '"me"'))) v(n, what, changed)
WHERE id LIKE 'closed%' ORDER BY n;
\echo 'a payload that was erased: its SHA-256 holds the chain together'
SELECT wfproc.import_log(jsonb_set(jsonb_set(lines, '{4,payload_sha256}', to_jsonb(encode(sha256(convert_to((lines #> '{4,payload}')::text, 'UTF8')), 'hex'))),
    '{4,payload}', '"forged"')) IS NOT NULL FROM arrived WHERE id LIKE 'closed%';
SELECT payload FROM wfproc.history((SELECT id FROM arrived WHERE id LIKE 'closed%')) WHERE seq = 4;

\echo '--- bad input'
SELECT what, try(format('SELECT wfproc.import_log(%L)', changed)) FROM arrived, LATERAL (VALUES
    (1, 'NULL', NULL), (2, 'no array', '{}'), (3, 'a scalar', '7'), (4, 'no lines', '[]'), (5, 'no object', '[7]'),
    (6, 'another format', jsonb_set(lines, '{0,format}', '"xes"')),
    (7, 'no such workflow', jsonb_set(lines, '{0,workflow}', '"none"')),
    (8, 'no such version', jsonb_set(lines, '{0,version}', '9')),
    (9, 'no such version', jsonb_set(lines, '{0,versions}', '{"7": "00"}')),
    (9, 'no such first version', jsonb_set(lines, '{0,first_version}', '99')),
    (9, 'version 0', jsonb_set(lines, '{0,first_version}', '0')),
    (9, 'version -1', jsonb_set(lines, '{0,first_version}', '-1')),
    (9, 'a version beyond all', jsonb_set(lines, '{0,version}', '4294967297')),
    (9, 'versions has a key that is no number', jsonb_set(lines, '{0,versions}', '{"one": "00"}')),
    (9, 'versions has a key that is no int', jsonb_set(lines, '{0,versions}', '{"4294967297": "00"}')),
    (9, 'snapshot of no such version', jsonb_set(lines, '{0,snapshot}', '{"seq": 1, "changed_seq": 1, "at": "2020-01-01", "version": 9, "state": {}}')),
    (10, 'version is no number', jsonb_set(lines, '{0,version}', '"1"')),
    (11, 'versions is no object', jsonb_set(lines, '{0,versions}', '[]')),
    (12, 'error too long', jsonb_set(lines, '{0,error}', to_jsonb(repeat('x', 8193)))),
    (12, 'unknown status', jsonb_set(lines, '{0,status}', '"asleep"')),
    (13, 'closed, but when?', jsonb_set(lines, '{0,status}', '"failed"')),
    (14, 'started at infinity', jsonb_set(lines, '{0,started_at}', '"infinity"')),
    (15, 'no attributes', lines #- '{0,attributes}'),
    (16, 'no id', lines #- '{0,id}'),
    (16, 'snapshot is no object', jsonb_set(lines, '{0,snapshot}', '7')),
    (16, 'snapshot without a state', jsonb_set(lines, '{0,snapshot}', '{"seq": 1, "changed_seq": 1, "at": "2020-01-01", "version": 1}')),
    (16, 'snapshot of what is not there', jsonb_set(lines, '{0,snapshot}', '{"seq": 9, "changed_seq": 9, "at": "2020-01-01", "version": 1, "state": {}}')),
    (16, 'snapshot changed after its event', jsonb_set(lines, '{0,snapshot}', '{"seq": 1, "changed_seq": 2, "at": "2020-01-01", "version": 1, "state": {}}')),
    (17, 'id too long', jsonb_set(lines, '{0,id}', to_jsonb(repeat('x', 256)))),
    (18, 'event is no object', jsonb_set(lines, '{1}', '7')),
    (19, 'no payload', lines #- '{1,payload}'),
    (20, 'no hash', jsonb_set(lines, '{1,hash}', '"abc"')),
    (21, 'digest is no number', jsonb_set(lines, '{1,digest}', '"x"')),
    (21, 'live is no bool', jsonb_set(lines, '{1,live}', '"x"')),
    (21, 'no events', jsonb_path_query_array(lines, '$[0]')),
    (22, 'name with a control character', jsonb_set(lines, '{1,event}', '"a\u001f"'))) v(n, what, changed)
WHERE id = 'open' ORDER BY n, what;
SELECT try($$SELECT wfproc.export_log(NULL)$$);
SELECT try($$SELECT wfproc.export_log('nobody')$$);
SELECT try($$SELECT wfproc.export_xes('nothing')$$);
SELECT count(*) FROM wfproc.instances WHERE id = 'open';
\echo 'what other errors are about says their context'
DO $$
DECLARE
    lines jsonb;
    context text;
BEGIN
    FOR lines IN SELECT jsonb_set(a.lines, path, value) FROM arrived a, (VALUES ('{0,version}'::text[], '1e40'::jsonb), ('{1,at}', '"x"'), ('{2,digest}', '"x"')) v(path, value) WHERE id = 'open' LOOP
        BEGIN
            PERFORM wfproc.import_log(lines);
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS context = PG_EXCEPTION_CONTEXT;
            RAISE WARNING '%: %', SQLSTATE, split_part(context, E'\n', 1);
        END;
    END LOOP;
END $$;

\echo '--- rights: read to export, the owner alone imports'
CREATE ROLE transfer_reader;
CREATE SCHEMA transfer_test;
ALTER FUNCTION try SET SCHEMA transfer_test;
GRANT USAGE ON SCHEMA transfer_test TO transfer_reader;
SET search_path = public, transfer_test;
CREATE SCHEMA mine AUTHORIZATION transfer_reader;
SELECT wfproc.grant_usage('transfer_reader');
\echo 'the workers of other databases are for who may see all statistics'
SELECT count(*) > 0 FROM wfproc.worker_slots() s JOIN pg_database d ON d.oid = s.database WHERE d.datname <> current_database();
SET ROLE transfer_reader;
SELECT count(*) FROM wfproc.worker_slots() s JOIN pg_database d ON d.oid = s.database WHERE d.datname <> current_database();
RESET ROLE;
GRANT SELECT ON arrived TO transfer_reader;
SET ROLE transfer_reader;
SELECT try($$SELECT count(*) FROM wfproc.export_log('empty')$$);
SELECT try($$SELECT wfproc.export_xes('memory')$$);
\echo 'a log of their own workflow, but it would tell an instance of another that its child has closed'
CREATE FUNCTION mine.nothing(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT state $$;
SELECT wfproc.define('theirs', 'mine.nothing');
SET client_min_messages = error;
SELECT try(format('SELECT wfproc.import_log(%L, ''theirs'')', jsonb_set(lines, '{0,parent}', '"empty"'))) FROM arrived WHERE id = 'open';
SET client_min_messages = warning;
RESET ROLE;
SELECT wfproc.grant_access('memory', 'transfer_reader', 'operate');
SET ROLE transfer_reader;
SELECT try($$SELECT count(*) FROM wfproc.export_log('empty')$$);
SELECT try(format('SELECT wfproc.import_log(%L)', lines)) FROM arrived WHERE id = 'open';
RESET ROLE;
BEGIN READ ONLY;
SELECT count(*) FROM wfproc.export_log('empty');
SELECT try(format('SELECT wfproc.import_log(%L)', lines)) FROM arrived WHERE id = 'open';
COMMIT;
\c :home
SET search_path = transfer_test;
SET client_min_messages = warning;
DROP DATABASE transfer_other WITH (FORCE);
DROP DATABASE transfer_third WITH (FORCE);
DROP ROLE transfer_reader;

\echo '--- XES'
SELECT wfproc.export_xes('memory');
SELECT xml_is_well_formed_document(wfproc.export_xes('memory')::text);
SELECT xpath('//x:trace/x:string[@key="concept:name"]/@value', wfproc.export_xes('memory'), '{{x,http://www.xes-standard.org/}}');
SELECT wfproc.define('idle', 'remember');
SELECT xml_is_well_formed_document(wfproc.export_xes('idle')::text), xpath('count(//x:trace)', wfproc.export_xes('idle'), '{{x,http://www.xes-standard.org/}}');

\echo '--- a large log is exported row by row, and comes in in one piece'
BEGIN;
SET LOCAL wfproc.fake_now = '2020-01-01';
CREATE FUNCTION counts(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('n', COALESCE((state ->> 'n')::int, 0) + 1) $$;
SELECT wfproc.define('counting', 'counts'), wfproc.start('counting', 'many');
SELECT count(wfproc.send('many', 'one', jsonb_build_object('n', n, 'text', repeat('x', n % 500)))) FROM generate_series(1, 20000) n;
SELECT sum(wfproc.run()) FROM generate_series(1, 10);
SELECT jsonb_agg(line) AS lines, count(*) FROM wfproc.export_log('many') line \gset
SELECT :count, wfproc.state('many');
SELECT sha256 AS before FROM wfproc.digest('many') \gset
ALTER TABLE wfproc.event DISABLE TRIGGER append_only;
UPDATE wfproc.instance SET id = 'gone' WHERE id = 'many';
SELECT wfproc.import_log(:'lines');
SELECT sha256 = :'before', seq FROM wfproc.digest('many');
SELECT * FROM wfproc.verify('many');
SELECT wfproc.state('many');
ROLLBACK;

\echo '--- a version that is gone: its instances pause and say so, and can be terminated'
SELECT wfproc.define('vanishing', 'remember');
CREATE FUNCTION counts_on(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT state || jsonb_build_object('n', COALESCE((state ->> 'n')::int, 0) + 1) $$;
SELECT wfproc.define('vanishing', 'counts_on');
BEGIN;
SET LOCAL wfproc.fake_now = '2020-01-01';
SELECT wfproc.start('vanishing', 'v-first', version => 1), wfproc.start('vanishing', 'v-later', version => 1), 
    wfproc.start('vanishing', 'v-sound', version => 2);
SELECT wfproc.run();
SELECT wfproc.upgrade('v-later', 2) > 0;
SELECT wfproc.run();
\echo 'the one that its log begins under, and the one that it has'
UPDATE wfproc.instance SET first_version = 99 WHERE id = 'v-later';
DELETE FROM wfproc.version WHERE workflow_id = (SELECT workflow_id FROM wfproc.workflow WHERE name = 'vanishing') AND version = 1;
SELECT wfproc.grant_access('vanishing', 'pg_monitor', 'read');
SELECT count(wfproc.send(id, 'hear')) FROM wfproc.instances WHERE workflow = 'vanishing';
SELECT wfproc.run();
SELECT id, status, error FROM wfproc.instances WHERE workflow = 'vanishing' ORDER BY id;
SELECT try(format('SELECT wfproc.state(%L)', id)) FROM wfproc.instances WHERE workflow = 'vanishing' ORDER BY id;
SELECT id, (wfproc.verify(id)).* FROM wfproc.instances WHERE workflow = 'vanishing' ORDER BY id;
\echo 'neither can go on, and both can be closed'
SELECT wfproc.resume(id) FROM wfproc.instances WHERE workflow = 'vanishing' AND status = 'paused';
SELECT wfproc.run();
SELECT id, status FROM wfproc.instances WHERE workflow = 'vanishing' ORDER BY id;
SELECT wfproc.terminate(id, 'of no use') FROM wfproc.instances WHERE workflow = 'vanishing' AND status = 'paused';
SELECT wfproc.run();
SELECT id, status, error FROM wfproc.instances WHERE workflow = 'vanishing' ORDER BY id;
ROLLBACK;
