-- wfproc.emit(): inserts into a user's table become events.  Most of this happens in transactions that are rolled back, so
-- that no worker sees it.
\set QUIET on
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, MDY';
-- whatever other tests have left
DROP EXTENSION wfproc CASCADE;
CREATE EXTENSION wfproc;

-- runs a statement and returns what it raises: SQLSTATE, message, hint and context
CREATE FUNCTION pg_temp.attempt(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    message text;
    hint text;
    context text;
BEGIN
    EXECUTE statement;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT, context = PG_EXCEPTION_CONTEXT;
    RETURN concat_ws(E'\n', SQLSTATE || ': ' || message, nullif(hint, ''), substring(context from '^trigger [^\n]*'));
END $$;

BEGIN;
SET LOCAL wfproc.fake_now = '2024-03-01 12:00';

CREATE FUNCTION public.emit_list(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event = 'close' THEN
        PERFORM wfproc.complete();
    END IF;
    RETURN state || jsonb_build_object('events', coalesce(state->'events', '[]') || to_jsonb(event));
END $$;
SELECT wfproc.define('emit', 'public.emit_list');
SELECT wfproc.define('emit picky', 'public.emit_list', accepts => '{good,better}');

-- what is in the mailboxes, without numbers that depend on other tests
CREATE VIEW pg_temp.mail AS
    SELECT i.id, m.at, m.name, m.payload, m.sender, m.shard = m.instance_id % 64 AS shard_fits
    FROM wfproc.mailbox m JOIN wfproc.instance i USING (instance_id) ORDER BY m.mail_id;

\echo == a statement trigger and a row trigger do the same
CREATE TABLE public.emit_statement (n int, case_id text, what text, happened timestamptz, "Free Text" text);
CREATE TABLE public.emit_row (LIKE public.emit_statement);
CREATE TRIGGER emit AFTER INSERT ON public.emit_statement REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT
    EXECUTE FUNCTION wfproc.emit('id=case_id', 'event_column=what', 'at=happened', 'start=emit');
CREATE TRIGGER emit AFTER INSERT ON public.emit_row FOR EACH ROW
    EXECUTE FUNCTION wfproc.emit('id=case_id', 'event_column=what', 'at=happened', 'start=emit');
SAVEPOINT empty;
INSERT INTO public.emit_statement VALUES
    (1, 'a', 'second', '2024-01-02', 'Zoë'), (2, 'b', 'first', '2024-01-01', NULL), (3, 'a', 'first', '2024-01-01', '"');
SELECT * FROM pg_temp.mail;
SELECT id, version, status, started_at, live_from, attributes FROM wfproc.instances ORDER BY id;
SELECT wfproc.run();
SELECT id, wfproc.state(id) FROM unnest('{a,b}'::text[]) id;
-- now they exist
INSERT INTO public.emit_statement VALUES (4, 'b', 'third', '2024-01-03'), (5, 'a', 'earlier', '2023-01-01');
INSERT INTO public.emit_statement SELECT WHERE false;
SELECT * FROM pg_temp.mail;
SELECT wfproc.run();
SELECT id, wfproc.state(id) FROM unnest('{a,b}'::text[]) id;
ROLLBACK TO empty;
INSERT INTO public.emit_row VALUES
    (1, 'a', 'second', '2024-01-02', 'Zoë'), (2, 'b', 'first', '2024-01-01', NULL), (3, 'a', 'first', '2024-01-01', '"');
-- here the first row starts the instance, and at its own stamp
SELECT * FROM pg_temp.mail;
SELECT wfproc.run();
SELECT id, wfproc.state(id) FROM unnest('{a,b}'::text[]) id;
INSERT INTO public.emit_row VALUES (4, 'b', 'third', '2024-01-03'), (5, 'a', 'earlier', '2023-01-01');
SELECT * FROM pg_temp.mail;
ROLLBACK TO empty;

\echo == rows that are stamped a moment before are live from their stamp on, old ones from now on
SET LOCAL wfproc.fake_now = '2024-06-01 12:00';
INSERT INTO public.emit_statement VALUES (1, 'new', 'first', '2024-06-01 11:59:59.9'), (2, 'old', 'first', '2024-01-01'), (3, 'both', 'second', '2024-06-01 12:00'),
    (4, 'both', 'first', '2024-05-31');
INSERT INTO public.emit_row VALUES (1, 'new row', 'first', '2024-06-01 11:59:59.9'), (2, 'old row', 'first', '2024-01-01');
SELECT id, started_at, live_from FROM wfproc.instances WHERE workflow = 'emit' ORDER BY id;
SELECT wfproc.run();
SELECT id, array_agg(live ORDER BY seq) AS live FROM wfproc.instances, wfproc.history(id) WHERE workflow = 'emit' GROUP BY id ORDER BY id;
ROLLBACK TO empty;

\echo == COPY
COPY public.emit_statement FROM stdin WITH (FORMAT csv);
1,c,first,2024-01-01,"x, y"
2,d,first,2024-01-02,
3,c,second,2024-01-03,
\.
SELECT id, at, name, payload FROM pg_temp.mail;
ROLLBACK TO empty;

\echo == the order is that of the rows, also for many
INSERT INTO public.emit_statement SELECT i, 'm' || i % 700, 'e' || i, '2024-01-01' FROM generate_series(1, 5000) i;
SELECT count(*), count(DISTINCT id) FROM pg_temp.mail;
SELECT bool_and(payload->>'n' = (i)::text) AS in_order
FROM (SELECT payload, row_number() OVER () AS i FROM pg_temp.mail WHERE name <> 'start') m;
SELECT wfproc.run();
SELECT wfproc.state('m7');
ROLLBACK TO empty;

\echo == large rows
INSERT INTO public.emit_statement SELECT i, 'large', 'e', '2024-01-01', repeat(md5(i::text), i * 20) FROM generate_series(1, 100) i;
SELECT wfproc.run();
SELECT count(*), max(length(payload->>'Free Text')) FROM wfproc.history('large');
SELECT * FROM wfproc.verify('large');
SELECT bool_and(h.payload = to_jsonb(t)) AS same
FROM public.emit_statement t JOIN wfproc.history('large') h ON h.seq = t.n + 1;
ROLLBACK TO empty;

\echo == forms of the arguments
CREATE TABLE public.emit_types (id int, "When" timestamp, day date, v varchar(10), u uuid, c char(5), b boolean,
    payload jsonb, dropped int);
ALTER TABLE public.emit_types DROP COLUMN dropped;
SAVEPOINT forms;
-- a constant event, a number as id, no stamp: now
CREATE TRIGGER emit AFTER INSERT ON public.emit_types REFERENCING NEW TABLE AS n FOR EACH STATEMENT
    EXECUTE FUNCTION wfproc.emit('id=id', 'event=inserted', 'start=emit');
INSERT INTO public.emit_types VALUES (7, '2024-01-01 10:00', '2024-01-02', 'v', 'c0ffee00-0000-0000-0000-000000000000', 'c', true, '{"a": [1, 2]}');
SELECT * FROM pg_temp.mail WHERE name <> 'start';
ROLLBACK TO forms;
-- identifiers as in SQL; a timestamp is local time; some columns
CREATE TRIGGER emit AFTER INSERT ON public.emit_types REFERENCING NEW TABLE AS n FOR EACH STATEMENT
    EXECUTE FUNCTION wfproc.emit('id=U', 'event_column=v', 'at="When"', 'payload=payload, ID,"When"', 'start=emit');
SET LOCAL TimeZone = 'Asia/Kathmandu';
INSERT INTO public.emit_types VALUES (7, '2024-01-01 10:00', '2024-01-02', 'v', 'c0ffee00-0000-0000-0000-000000000000', 'c', true, '{"a": [1, 2]}');
SET LOCAL TimeZone = 'UTC';
SELECT * FROM pg_temp.mail WHERE name <> 'start';
ROLLBACK TO forms;
-- a date; casts to text as ::text has them
CREATE TRIGGER emit AFTER INSERT ON public.emit_types FOR EACH ROW
    EXECUTE FUNCTION wfproc.emit('id=b', 'event_column=c', 'at=day', 'payload=c', 'start=emit');
INSERT INTO public.emit_types VALUES (7, '2024-01-01 10:00', '2024-01-02', 'v', 'c0ffee00-0000-0000-0000-000000000000', 'c', true, '{"a": [1, 2]}');
SELECT * FROM pg_temp.mail WHERE name <> 'start';
ROLLBACK TO empty;

\echo == more than one trigger, ON CONFLICT, partitions, a rollback
CREATE TABLE public.emit_parts (id text, n int PRIMARY KEY) PARTITION BY RANGE (n);
CREATE TABLE public.emit_part_1 PARTITION OF public.emit_parts FOR VALUES FROM (0) TO (10);
CREATE TABLE public.emit_part_2 (n int NOT NULL, gone int, id text);
ALTER TABLE public.emit_part_2 DROP COLUMN gone;
ALTER TABLE public.emit_parts ATTACH PARTITION public.emit_part_2 FOR VALUES FROM (10) TO (20);
CREATE TRIGGER emit_all AFTER INSERT ON public.emit_parts REFERENCING NEW TABLE AS n FOR EACH STATEMENT
    EXECUTE FUNCTION wfproc.emit('id=id', 'event=all', 'start=emit');
CREATE TRIGGER emit_each AFTER INSERT ON public.emit_parts FOR EACH ROW
    EXECUTE FUNCTION wfproc.emit('id=id', 'event=each', 'start=emit');
INSERT INTO public.emit_parts VALUES ('p', 1), ('p', 11), ('q', 12);
SELECT id, name, payload FROM pg_temp.mail;
INSERT INTO public.emit_parts VALUES ('p', 1), ('p', 2) ON CONFLICT DO NOTHING;
SELECT id, name, payload FROM pg_temp.mail OFFSET 8;
ROLLBACK TO empty;
SELECT count(*) FROM pg_temp.mail;

\echo == without start= the instance must be there
CREATE TABLE public.emit_plain (id text, event text, at timestamptz, note text);
CREATE TRIGGER emit AFTER INSERT ON public.emit_plain REFERENCING NEW TABLE AS n FOR EACH STATEMENT
    EXECUTE FUNCTION wfproc.emit('id=id', 'event_column=event', 'at=at');
CREATE TABLE public.emit_plain_row (LIKE public.emit_plain);
CREATE TRIGGER emit AFTER INSERT ON public.emit_plain_row FOR EACH ROW
    EXECUTE FUNCTION wfproc.emit('id=id', 'event_column=event', 'at=at');
SELECT wfproc.start('emit picky', 'picky'), wfproc.start('emit', 'open'), wfproc.start('emit', 'closed');
SELECT wfproc.send('closed', 'close') > 0 AS sent;
SELECT wfproc.run();
INSERT INTO public.emit_plain VALUES ('open', 'x', now()), ('picky', 'good', now());
SELECT id, name FROM pg_temp.mail;

\echo == what send() refuses is refused, with the first bad row named
SET LOCAL wfproc.max_payload = 1024;
CREATE TABLE pg_temp.bad (n int, rows text);
INSERT INTO pg_temp.bad VALUES
    (1, $$('open', 'x', now()), ('nobody', 'x', now()), ('nobody else', 'x', now())$$),
    (2, $$('open', 'x', now()), ('closed', 'x', now())$$),
    (3, $$(NULL, 'x', now())$$),
    (4, $$('open', NULL, now())$$),
    (5, $$('open', 'x', NULL)$$),
    (6, $$('open', 'x', 'infinity')$$),
    (7, $$('open', 'x', '-infinity')$$),
    (8, $$('open', 'x', now()), ('picky', 'bad', now())$$),
    (9, $$('open', 'start', now())$$),
    (10, $$('open', '$pause', now())$$),
    (11, $$('open', 'child.done', now())$$),
    (12, $$('open', '', now())$$),
    (13, $$('', 'x', now())$$),
    (14, $$(repeat('x', 256), 'x', now())$$),
    (15, $$('open', repeat('x', 256), now())$$),
    (16, $$(E'o\ten', 'x', now())$$),
    (17, $$('open', 'x', '2024-01-01 00:00:00.123456Z', repeat('x', 1100))$$),
    (18, $$('open''; DROP TABLE wfproc.mailbox; --', 'x', now())$$);
SELECT n, pg_temp.attempt(format('INSERT INTO public.emit_plain VALUES %s', rows)) FROM pg_temp.bad ORDER BY n;
SELECT b.n, replace(pg_temp.attempt(format('INSERT INTO public.emit_plain_row VALUES %s', b.rows)), 'emit_plain_row', 'emit_plain')
           = pg_temp.attempt(format('INSERT INTO public.emit_plain VALUES %s', b.rows))
               AS same_as_statement
FROM pg_temp.bad b ORDER BY n;
SELECT count(*) FROM pg_temp.mail;
RESET wfproc.max_payload;
ROLLBACK TO empty;

\echo == triggers that cannot work
CREATE TABLE public.emit_wrong (id text, at timestamptz, j jsonb);
CREATE FUNCTION pg_temp.with_trigger(what text, arguments text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    EXECUTE format('CREATE TRIGGER wrong %s EXECUTE FUNCTION wfproc.emit(%s)', what, arguments);
    result := pg_temp.attempt($q$INSERT INTO public.emit_wrong VALUES ('x', now())$q$);
    DROP TRIGGER wrong ON public.emit_wrong;
    RETURN result;
END $$;
SELECT what, pg_temp.with_trigger(what, $$'id=id', 'event=e'$$)
FROM unnest('{"BEFORE INSERT ON public.emit_wrong FOR EACH ROW",
              "BEFORE INSERT ON public.emit_wrong FOR EACH STATEMENT",
              "AFTER INSERT OR UPDATE ON public.emit_wrong FOR EACH ROW",
              "AFTER INSERT ON public.emit_wrong FOR EACH STATEMENT"}'::text[]) what;
SELECT arguments, pg_temp.with_trigger('AFTER INSERT ON public.emit_wrong FOR EACH ROW', arguments)
FROM unnest(ARRAY[$$$$, $$'id=id'$$, $$'event=e'$$, $$'id=id', 'event=e', 'event_column=id'$$, $$'id=id', 'id=at', 'event=e'$$,
    $$'id=id', 'event=e', 'when=at'$$, $$'id=id', 'event=e', 'at'$$, $$'id=nothing', 'event=e'$$, $$'id=ID, at', 'event=e'$$,
    $$'id=', 'event=e'$$, $$'id="id', 'event=e'$$, $$'id=id', 'event=e', 'at=id'$$, $$'id=id', 'event=e', 'payload=id,nothing'$$,
    $$'id=id', 'event=e', 'payload='$$, $$'id=tableoid', 'event=e'$$, $$'id=id', 'event=e', 'start=no such workflow'$$,
    $$'id=id', 'event=start', 'start=emit'$$, $$'id=id', 'event=', 'start=emit'$$]) arguments;
CREATE TRIGGER update AFTER UPDATE ON public.emit_wrong FOR EACH ROW EXECUTE FUNCTION wfproc.emit('id=id', 'event=e');
INSERT INTO public.emit_wrong VALUES ('x');
SELECT pg_temp.attempt($$UPDATE public.emit_wrong SET id = 'y'$$);
SELECT pg_temp.attempt($$SELECT wfproc.emit()$$);
-- a column that has got another name since
CREATE TABLE public.emit_renamed (id text);
CREATE TRIGGER emit AFTER INSERT ON public.emit_renamed FOR EACH ROW EXECUTE FUNCTION wfproc.emit('id=id', 'event=e', 'start=emit');
INSERT INTO public.emit_renamed VALUES ('x');
ALTER TABLE public.emit_renamed RENAME COLUMN id TO key;
SELECT pg_temp.attempt($$INSERT INTO public.emit_renamed VALUES ('x')$$);
ROLLBACK TO empty;

\echo == rights are those of the owner of the table
CREATE ROLE regress_emit_owner;
CREATE ROLE regress_emit_clerk;
GRANT CREATE ON SCHEMA public TO regress_emit_owner;
SELECT wfproc.grant_usage('regress_emit_owner');
SET LOCAL ROLE regress_emit_owner;
CREATE TABLE public.emit_owned (id text);
CREATE TRIGGER emit AFTER INSERT ON public.emit_owned REFERENCING NEW TABLE AS n FOR EACH STATEMENT
    EXECUTE FUNCTION wfproc.emit('id=id', 'event=e', 'start=emit');
GRANT INSERT ON public.emit_owned TO regress_emit_clerk;
RESET ROLE;
SELECT wfproc.start('emit', 'there');
-- not even for a superuser who inserts
SELECT split_part(pg_temp.attempt($$INSERT INTO public.emit_owned VALUES ('x')$$), E'\n', 1);
SELECT split_part(pg_temp.attempt($$INSERT INTO public.emit_owned VALUES ('there')$$), E'\n', 1);
SELECT wfproc.grant_access('emit', 'regress_emit_owner', 'send');
-- the clerk has no right to anything of wfproc
SET LOCAL ROLE regress_emit_clerk;
INSERT INTO public.emit_owned VALUES ('x'), ('there');
SELECT split_part(pg_temp.attempt($$SELECT wfproc.send('x', 'e')$$), E'\n', 1);
RESET ROLE;
SELECT id, name FROM pg_temp.mail;

\echo == conversions that users have made run as who inserts, never as the owner of the extension
CREATE TABLE public.emit_seen (role text);
GRANT INSERT ON public.emit_seen TO PUBLIC;
SET LOCAL ROLE regress_emit_owner;
CREATE TYPE public.emit_odd AS ENUM ('trapped');
CREATE FUNCTION public.emit_odd_to_text(public.emit_odd) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.emit_seen VALUES ('text: ' || current_user);
    RETURN enumlabel FROM pg_enum WHERE enumtypid = 'public.emit_odd'::regtype;
END $$;
CREATE CAST (public.emit_odd AS text) WITH FUNCTION public.emit_odd_to_text(public.emit_odd);
CREATE FUNCTION public.emit_odd_to_json(public.emit_odd) RETURNS json LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.emit_seen VALUES ('json: ' || current_user);
    RETURN '"as json"';
END $$;
CREATE CAST (public.emit_odd AS json) WITH FUNCTION public.emit_odd_to_json(public.emit_odd);
CREATE TABLE public.emit_trap (id public.emit_odd);
CREATE TRIGGER emit AFTER INSERT ON public.emit_trap REFERENCING NEW TABLE AS n FOR EACH STATEMENT
    EXECUTE FUNCTION wfproc.emit('id=id', 'event=e', 'start=emit');
GRANT INSERT ON public.emit_trap TO regress_emit_clerk;
SET LOCAL ROLE regress_emit_clerk;
INSERT INTO public.emit_trap VALUES ('trapped');
RESET ROLE;
SELECT DISTINCT role FROM public.emit_seen ORDER BY 1;
SELECT id, name, payload FROM pg_temp.mail WHERE id = 'trapped';
ROLLBACK;

\echo == not inside a handler
BEGIN;
CREATE TEMP TABLE emit_temp (id text);
CREATE FUNCTION public.emit_sly(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO pg_temp.emit_temp VALUES ('x');
    RETURN state;
END $$;
SELECT wfproc.define('emit', 'public.emit_sly');
CREATE TRIGGER emit AFTER INSERT ON pg_temp.emit_temp FOR EACH ROW EXECUTE FUNCTION wfproc.emit('id=id', 'event=e', 'start=emit');
SELECT pg_temp.attempt($$SELECT wfproc.try_step('public.emit_sly', '{}', 'e')$$);
-- nor in a read-only transaction, in which a temporary table can be written
SET LOCAL transaction_read_only = on;
SELECT pg_temp.attempt($$INSERT INTO pg_temp.emit_temp VALUES ('x')$$);
ROLLBACK;

\echo == committed, and handled by whoever is there
CREATE FUNCTION public.emit_count(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    state := jsonb_build_object('count', coalesce((state->>'count')::int, 0) + 1);
    IF (state->>'count')::int = 101 THEN
        PERFORM wfproc.complete(state);
    END IF;
    RETURN state;
END $$;
SELECT wfproc.define('emit committed', 'public.emit_count');
CREATE TABLE public.emit_committed (id text);
CREATE TRIGGER emit AFTER INSERT ON public.emit_committed REFERENCING NEW TABLE AS n FOR EACH STATEMENT
    EXECUTE FUNCTION wfproc.emit('id=id', 'event=e', 'start=emit committed');
INSERT INTO public.emit_committed SELECT 'committed ' || i % 10 FROM generate_series(1, 1000) i;
SELECT id, a.status, a.result, (wfproc.verify(id)).ok
FROM (SELECT 'committed ' || i AS id FROM generate_series(0, 9) i) t, wfproc.await(id) a ORDER BY id;
DROP TABLE public.emit_committed;
