-- I16: nobody changes the log; I18: what the extension consists of, and who may use it
\set QUIET on
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;

CREATE SCHEMA surface_test;
SET search_path = surface_test;

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

CREATE VIEW members AS
    SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON d.refobjid = e.oid AND d.refclassid = 'pg_extension'::regclass
    WHERE e.extname = 'wfproc' AND d.deptype = 'e';

\echo '--- I18: functions: language, volatility, parallel safety'
SELECT p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')', l.lanname,
       CASE p.provolatile WHEN 'v' THEN 'volatile' WHEN 's' THEN 'stable' ELSE 'immutable' END,
       CASE p.proparallel WHEN 'u' THEN 'unsafe' WHEN 'r' THEN 'restricted' ELSE 'safe' END, p.proisstrict
FROM members m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid JOIN pg_language l ON l.oid = p.prolang
ORDER BY p.proname COLLATE "C", 1;
\echo 'in C, or with a pinned search_path; none is SECURITY DEFINER; none can be parallel; none is leakproof'
SELECT p.oid::regprocedure FROM members m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid JOIN pg_language l ON l.oid = p.prolang
WHERE (l.lanname <> 'c' AND (p.proconfig IS NULL OR NOT 'search_path=pg_catalog, pg_temp' = ANY (p.proconfig)))
   OR p.prosecdef OR p.proparallel <> 'u' OR p.proleakproof;
\echo 'all members are in schema wfproc, and have a comment'
SELECT pg_describe_object(m.classid, m.objid, 0) FROM members m
WHERE m.classid = 'pg_proc'::regclass AND (SELECT pronamespace FROM pg_proc WHERE oid = m.objid) <> 'wfproc'::regnamespace
   OR m.classid = 'pg_class'::regclass AND (SELECT relnamespace FROM pg_class WHERE oid = m.objid) <> 'wfproc'::regnamespace
   OR m.classid = 'pg_type'::regclass AND (SELECT typnamespace FROM pg_type WHERE oid = m.objid) <> 'wfproc'::regnamespace;
SELECT pg_describe_object(m.classid, m.objid, 0) FROM members m
WHERE obj_description(m.objid, m.classid::regclass::name) IS NULL AND m.classid NOT IN ('pg_type'::regclass, 'pg_namespace'::regclass);
-- newer servers count row types among the members
SELECT count(*) > 50, string_agg(DISTINCT classid::regclass::text, ' ' ORDER BY classid::regclass::text) FROM members WHERE classid <> 'pg_type'::regclass;

\echo '--- I18: relations; no reg* columns; keys in collation "C"; all tables but home and scrub are dumped'
SELECT c.relkind, c.relname, c.relacl IS NOT NULL OR NULL AS acl, c.relpersistence, c.relrowsecurity OR NULL AS rls,
       c.reloptions
FROM members m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid WHERE c.relkind <> 'i'
ORDER BY c.relkind, c.relname;
SELECT a.attrelid::regclass, a.attname, a.atttypid::regtype FROM members m JOIN pg_attribute a ON m.classid = 'pg_class'::regclass AND a.attrelid = m.objid
WHERE a.attnum > 0 AND a.atttypid::regtype::text LIKE 'reg%';
SELECT i.indexrelid::regclass, a.attname FROM members m JOIN pg_index i ON m.classid = 'pg_class'::regclass AND i.indrelid = m.objid
JOIN pg_attribute a ON a.attrelid = i.indexrelid WHERE a.attcollation NOT IN (0, 'pg_catalog."C"'::regcollation) ORDER BY 1, 2;
SELECT c.relname FROM members m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid, pg_extension e
WHERE e.extname = 'wfproc' AND c.relkind IN ('r', 'S') AND NOT c.oid = ANY (e.extconfig) ORDER BY 1;
SELECT extrelocatable, extversion, array_length(extconfig, 1) = array_length(extcondition, 1), '' = ALL (extcondition) FROM pg_extension WHERE extname = 'wfproc';
\echo 'foreign keys, triggers and rules: one trigger, of the log, always on'
SELECT conname FROM pg_constraint WHERE contype = 'f' AND conrelid IN (SELECT objid FROM members);
SELECT tgrelid::regclass, tgname, tgenabled, tgtype FROM pg_trigger WHERE tgrelid IN (SELECT objid FROM members);

\echo '--- I18: PUBLIC has nothing'
SELECT p.oid::regprocedure FROM members m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid
WHERE p.proacl IS NULL OR EXISTS (SELECT FROM aclexplode(p.proacl) a WHERE a.grantee = 0);
SELECT c.oid::regclass FROM members m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid
WHERE EXISTS (SELECT FROM aclexplode(c.relacl) a WHERE a.grantee = 0 OR a.grantee <> c.relowner);
SELECT nspname FROM pg_namespace n WHERE (n.nspname = 'wfproc' OR n.nspname LIKE 'wfproc\_code\_%') AND EXISTS (SELECT FROM aclexplode(n.nspacl) a WHERE a.grantee = 0);

\echo '--- I16: nobody changes a log'
CREATE ROLE regress_surface_owner SUPERUSER;
CREATE ROLE regress_surface_user;
CREATE ROLE regress_surface_spoilt;
CREATE ROLE regress_surface_nobody;
SELECT wfproc.grant_usage(r) FROM unnest('{regress_surface_user,regress_surface_spoilt}'::text[]) r;
-- what an administrator should never do
GRANT ALL ON ALL TABLES IN SCHEMA wfproc TO regress_surface_spoilt;
GRANT USAGE, CREATE ON SCHEMA surface_test TO PUBLIC;
CREATE FUNCTION h(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT state || jsonb_build_object(event, payload)';
SELECT wfproc.define('surface', 'h');
SELECT wfproc.grant_access('surface', 'regress_surface_user', 'operate'), wfproc.grant_access('surface', 'regress_surface_spoilt', 'operate');
CREATE VIEW surface_test.log AS SELECT * FROM wfproc.event;
GRANT ALL ON log TO PUBLIC;
CREATE TABLE attempts (n int GENERATED ALWAYS AS IDENTITY, sql text);
INSERT INTO attempts (sql) VALUES
    ('UPDATE wfproc.event SET payload = ''{}'''), ('UPDATE wfproc.event SET payload = ''{}'' WHERE false'), ('UPDATE ONLY wfproc.event SET seq = seq + 1'),
    ('DELETE FROM wfproc.event'), ('DELETE FROM wfproc.event WHERE seq < 0'), ('TRUNCATE wfproc.event'), ('TRUNCATE wfproc.event, wfproc.snapshot CASCADE'),
    ('MERGE INTO wfproc.event e USING (SELECT 1 AS one) s ON e.seq = s.one WHEN MATCHED THEN UPDATE SET payload = ''{}'''),
    ('MERGE INTO wfproc.event e USING (SELECT 1 AS one) s ON e.seq = s.one WHEN MATCHED THEN DELETE'),
    ('INSERT INTO wfproc.event SELECT * FROM wfproc.event ON CONFLICT (instance_id, seq) DO UPDATE SET payload = ''{}'''),
    ('WITH gone AS (DELETE FROM wfproc.event RETURNING *) SELECT count(*) FROM gone'),
    ('UPDATE surface_test.log SET payload = ''{}'''), ('DELETE FROM surface_test.log');
GRANT SELECT ON attempts TO PUBLIC;
BEGIN;
SELECT wfproc.start('surface', 'surface-1', '{"a": 1}'), wfproc.send('surface-1', 'e') > 0;
SELECT wfproc.run();
SELECT count(*), sum(seq) FROM wfproc.event e JOIN wfproc.instance i USING (instance_id) WHERE i.id = 'surface-1';
SELECT sha256 AS before FROM wfproc.digest('surface-1') \gset
-- 14 knows no MERGE
CREATE FUNCTION all_attempts() RETURNS SETOF text LANGUAGE sql AS $$
    SELECT regexp_replace(sql, '''', '''', 'g') || ' | ' || (SELECT string_agg(t, '') FROM surface_test.try(
        CASE WHEN sql LIKE 'MERGE%' AND current_setting('server_version_num')::int < 150000 THEN 'DELETE FROM wfproc.event' ELSE sql END) t
        WHERE t NOT LIKE '  hint%') FROM surface_test.attempts ORDER BY n
$$;
\echo 'superuser, who is also the owner'
SELECT all_attempts();
SELECT try('DELETE FROM wfproc.event');
\echo 'another superuser'
SET LOCAL ROLE regress_surface_owner;
SELECT split_part(all_attempts(), ' | ', 2), count(*) FROM generate_series(1, 1) GROUP BY 1;
RESET ROLE;
\echo 'as a replica: triggers that are not "always" are off there'
SET LOCAL session_replication_role = replica;
SELECT a, count(*) FROM (SELECT split_part(all_attempts(), ' | ', 2) AS a) s GROUP BY 1 ORDER BY 1;
SET LOCAL session_replication_role = origin;
\echo 'a user of the extension, with the right to operate'
SET LOCAL ROLE regress_surface_user;
SELECT a, count(*) FROM (SELECT split_part(all_attempts(), ' | ', 2) AS a) s GROUP BY 1 ORDER BY 1;
SELECT try('INSERT INTO wfproc.event SELECT * FROM wfproc.event');
-- the message is another one in other versions of the server
SELECT left(r, 5) FROM try('COPY wfproc.event FROM PROGRAM ''cat''') r LIMIT 1;
SELECT try('ALTER TABLE wfproc.event DISABLE TRIGGER append_only');
SELECT try('DROP TRIGGER append_only ON wfproc.event');
SELECT try('SET session_replication_role = replica');
RESET ROLE;
\echo 'one to whom the tables were granted'
SET LOCAL ROLE regress_surface_spoilt;
SELECT a, count(*) FROM (SELECT split_part(all_attempts(), ' | ', 2) AS a) s GROUP BY 1 ORDER BY 1;
SELECT try('ALTER TABLE wfproc.event DISABLE TRIGGER append_only');
SELECT try('DROP TRIGGER append_only ON wfproc.event');
SELECT try('SET session_replication_role = replica');
RESET ROLE;
\echo 'and anybody'
SET LOCAL ROLE regress_surface_nobody;
SELECT a, count(*) FROM (SELECT split_part(all_attempts(), ' | ', 2) AS a) s GROUP BY 1 ORDER BY 1;
RESET ROLE;
SELECT sha256 = :'before', (wfproc.verify('surface-1')).* FROM wfproc.digest('surface-1');
ROLLBACK;

\echo '--- a user of the extension reads and writes no table of it, and sees no code of others'
SET ROLE regress_surface_user;
SELECT c, t, try(format(c, t)) FROM unnest('{workflow,version,version_helper,instance,event,mailbox,dead_letter,snapshot,idempotency,acl,home}'::text[]) t,
    unnest('{SELECT * FROM wfproc.%s,DELETE FROM wfproc.%s}'::text[]) c
EXCEPT SELECT c, t, '42501: permission denied for table ' || t FROM unnest('{workflow,version,version_helper,instance,event,mailbox,dead_letter,snapshot,idempotency,acl,home}'::text[]) t,
    unnest('{SELECT * FROM wfproc.%s,DELETE FROM wfproc.%s}'::text[]) c;
SELECT try('INSERT INTO wfproc.mailbox SELECT * FROM wfproc.mailbox');
SELECT try('SELECT nextval(''wfproc.mail_seq'')');
SELECT try('SELECT wfproc.refuse_change()');
SELECT try('CREATE TABLE wfproc.mine (n int)');
CREATE TABLE surface_test.mine (n int);
SELECT try('CREATE TRIGGER t AFTER INSERT ON surface_test.mine EXECUTE FUNCTION wfproc.refuse_change()');
RESET ROLE;

DROP SCHEMA surface_test CASCADE;
DROP OWNED BY regress_surface_user, regress_surface_spoilt, regress_surface_nobody, regress_surface_owner;
DROP ROLE regress_surface_user, regress_surface_spoilt, regress_surface_nobody, regress_surface_owner;
