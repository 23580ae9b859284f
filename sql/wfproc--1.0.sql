/* wfproc 1.0: tables, then the functions in the order of src/api.c, then the views, then rights. */

\echo Use "CREATE EXTENSION wfproc CASCADE" to load this file. \quit

/*
 * Where it may be installed: a schema that somebody else made beforehand would leave that role in control of it.
 */
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) n.nspowner
                   WHERE n.nspname OPERATOR(pg_catalog.=) 'wfproc'::pg_catalog.name
                     AND (r.rolname OPERATOR(pg_catalog.=) CURRENT_USER OR r.rolsuper)) THEN
        RAISE EXCEPTION 'schema "wfproc" exists and belongs to another role'
            USING ERRCODE = '42501', HINT = 'Drop the schema, or give it to the role that installs the extension.';
    END IF;
    IF pg_catalog.getdatabaseencoding() OPERATOR(pg_catalog.<>) 'UTF8'::pg_catalog.name THEN
        RAISE EXCEPTION 'wfproc requires a UTF8 database (this one is %)', pg_catalog.getdatabaseencoding()
            USING ERRCODE = '0A000', HINT = 'Create the database with ENCODING ''UTF8''.';
    END IF;
END $$;

/*
 * Tables.  Only the engine writes them; users reach them through the functions and views below.  Keys are COLLATE "C" so
 * that a new version of the system's collations cannot reorder them.
 */

CREATE TABLE wfproc.home (
    one bool PRIMARY KEY DEFAULT true CHECK (one),
    token uuid NOT NULL,
    database oid NOT NULL
);
COMMENT ON TABLE wfproc.home IS 'this installation''s token and database; never dumped, so that a copy of a database knows that it is one';
INSERT INTO wfproc.home (token, database)
    SELECT pg_catalog.gen_random_uuid(), d.oid FROM pg_catalog.pg_database d
    WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database();

CREATE SEQUENCE wfproc.workflow_seq AS int;
COMMENT ON SEQUENCE wfproc.workflow_seq IS 'workflow_id';
CREATE SEQUENCE wfproc.instance_seq;
COMMENT ON SEQUENCE wfproc.instance_seq IS 'instance_id';
CREATE SEQUENCE wfproc.rollout_seq AS int;
COMMENT ON SEQUENCE wfproc.rollout_seq IS 'rollout_id';
CREATE SEQUENCE wfproc.mail_seq;
COMMENT ON SEQUENCE wfproc.mail_seq IS 'mail_id';

CREATE TABLE wfproc.workflow (
    workflow_id int PRIMARY KEY,
    name text COLLATE "C" NOT NULL CONSTRAINT workflow_name_key UNIQUE,
    owner text COLLATE "C" NOT NULL,
    current_version int NOT NULL,
    home uuid NOT NULL,
    accepts text[],
    max_attempts int NOT NULL CHECK (max_attempts BETWEEN 1 AND 1000),
    on_failure text NOT NULL CHECK (on_failure IN ('pause', 'fail', 'dead_letter')),
    retry_delay interval NOT NULL,
    handler_timeout interval NOT NULL,
    snapshot_every int NOT NULL CHECK (snapshot_every >= 1),
    watch bool NOT NULL,
    dead_letter_events bool NOT NULL,
    cancel_deadline interval
);
COMMENT ON TABLE wfproc.workflow IS 'definitions: name, owner (a role, by name), current version, home, settings';

CREATE TABLE wfproc.version (
    workflow_id int NOT NULL,
    version int NOT NULL,
    handler text NOT NULL,
    code text NOT NULL,
    code_sha256 bytea NOT NULL,
    migrate text,
    migrate_code text,
    migrate_sha256 bytea,
    migrates_from int,
    search_path text NOT NULL,
    defined_at timestamptz NOT NULL,
    PRIMARY KEY (workflow_id, version)
);
COMMENT ON TABLE wfproc.version IS 'published versions: the text of the handler''s code and its SHA-256; never changed once written';

CREATE TABLE wfproc.version_helper (
    workflow_id int NOT NULL,
    version int NOT NULL,
    name text COLLATE "C" NOT NULL,
    arguments text COLLATE "C" NOT NULL,
    code text NOT NULL,
    code_sha256 bytea NOT NULL,
    PRIMARY KEY (workflow_id, version, name, arguments)
);
COMMENT ON TABLE wfproc.version_helper IS 'functions that a version''s code calls and has copies of: name, types of the arguments, text and its SHA-256; never changed once written';

CREATE TABLE wfproc.rollout (
    rollout_id int PRIMARY KEY,
    workflow_id int NOT NULL,
    version int NOT NULL,
    from_version int,
    at timestamptz NOT NULL,
    attributes jsonb NOT NULL,
    max_failures int NOT NULL CHECK (max_failures >= 1),
    failures int NOT NULL DEFAULT 0,
    created_by text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL,
    cancelled_at timestamptz,
    stopped_at timestamptz
);
COMMENT ON TABLE wfproc.rollout IS 'upgrades of all instances of a workflow, or some, at a stamp; a worker counts failures, and stops it after max_failures';

CREATE TABLE wfproc.instance (
    instance_id bigint PRIMARY KEY,
    id text COLLATE "C" NOT NULL CONSTRAINT instance_id_key UNIQUE,
    workflow_id int NOT NULL,
    version int NOT NULL,
    first_version int NOT NULL,
    attempts int NOT NULL DEFAULT 0,
    crashes int NOT NULL DEFAULT 0,
    status text COLLATE "C" NOT NULL DEFAULT 'running'
        CHECK (status IN ('running', 'paused', 'completed', 'failed', 'cancelled', 'terminated')),
    cancelling bool NOT NULL DEFAULT false,
    state_timers bool NOT NULL DEFAULT false,
    unlogged bool NOT NULL DEFAULT false,
    started_at timestamptz NOT NULL,
    live_from timestamptz NOT NULL,
    closed_at timestamptz,
    retry_at timestamptz,
    parent text COLLATE "C",
    attributes jsonb NOT NULL DEFAULT '{}',
    result jsonb,
    error text,
    error_context text
) WITH (fillfactor = 80);
CREATE INDEX instance_attributes_idx ON wfproc.instance USING gin (attributes jsonb_path_ops);
COMMENT ON TABLE wfproc.instance IS 'one row an instance; written by the holder of its shard when something changes for good, not for every event';
COMMENT ON COLUMN wfproc.instance.first_version IS 'the version that its log begins under; version is the one that it has come to';
COMMENT ON COLUMN wfproc.instance.cancelling IS 'its handler has deferred a cancel: complete() will close it as cancelled';
COMMENT ON COLUMN wfproc.instance.state_timers IS 'it has ever set a timer that a change of its state cancels';
COMMENT ON COLUMN wfproc.instance.unlogged IS 'its status is paused or terminated without a row of the log that says so: its log could not be folded, or it was forked or imported';

CREATE TABLE wfproc.event (
    instance_id bigint NOT NULL,
    seq bigint NOT NULL,
    at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    mail_id bigint,
    digest bigint NOT NULL,
    live bool NOT NULL,
    name text COLLATE "C" NOT NULL,
    payload jsonb NOT NULL,
    sender text COLLATE "C",
    idempotency_key text COLLATE "C",
    reply jsonb,
    payload_sha256 bytea,
    hash bytea NOT NULL,
    PRIMARY KEY (instance_id, seq)
);
COMMENT ON TABLE wfproc.event IS 'the event log: what each instance has handled; append only';
COMMENT ON COLUMN wfproc.event.at IS 'when it happened, by its stamp';
COMMENT ON COLUMN wfproc.event.recorded_at IS 'when its step was committed, by the wall clock';
COMMENT ON COLUMN wfproc.event.digest IS 'first 8 bytes of the SHA-256 of the state and the actions that it led to';
COMMENT ON COLUMN wfproc.event.live IS 'whether the instance''s clock had reached its live_from, which is what live() said; before a $fork that of its source';
COMMENT ON COLUMN wfproc.event.reply IS 'what the handler answered by reply()';
COMMENT ON COLUMN wfproc.event.payload_sha256 IS 'of a payload that redact() has erased: its SHA-256, which stays in the chain; NULL: the payload is there';
COMMENT ON COLUMN wfproc.event.hash IS 'SHA-256 over the previous row''s hash and this row';

CREATE TABLE wfproc.mailbox (
    instance_id bigint NOT NULL,
    at timestamptz NOT NULL,
    origin smallint NOT NULL CHECK (origin IN (0, 1)),
    mail_id bigint NOT NULL,
    shard smallint NOT NULL,
    postponed bigint,
    name text COLLATE "C" NOT NULL,
    payload jsonb NOT NULL,
    sender text COLLATE "C",
    timer text COLLATE "C",
    state_key text COLLATE "C",
    idempotency_key text COLLATE "C",
    PRIMARY KEY (instance_id, at, origin, mail_id)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 10000);
CREATE INDEX mailbox_due_idx ON wfproc.mailbox (shard, at);
COMMENT ON TABLE wfproc.mailbox IS 'events that their instance has not handled yet; those stamped in the future are its agenda; insert and delete only';
COMMENT ON COLUMN wfproc.mailbox.origin IS '0: from outside, 1: from a process, which of events of one stamp comes later';
COMMENT ON COLUMN wfproc.mailbox.postponed IS 'the last seq of its instance''s log when its handler postponed it';
COMMENT ON COLUMN wfproc.mailbox.timer IS 'the name of the timer that it is';
COMMENT ON COLUMN wfproc.mailbox.state_key IS 'the key of the state whose change cancels the timer';

CREATE TABLE wfproc.dead_letter (
    mail_id bigint PRIMARY KEY,
    instance_id bigint,
    workflow_id int NOT NULL,
    id text COLLATE "C" NOT NULL,
    at timestamptz NOT NULL,
    name text COLLATE "C" NOT NULL,
    payload jsonb NOT NULL,
    sender text COLLATE "C",
    idempotency_key text COLLATE "C",
    reason text NOT NULL,
    died_at timestamptz NOT NULL
);
CREATE INDEX dead_letter_instance_idx ON wfproc.dead_letter (instance_id);
COMMENT ON TABLE wfproc.dead_letter IS 'events that will not be handled: rejected, given up, or addressed to an instance that had closed or does not exist';
COMMENT ON COLUMN wfproc.dead_letter.instance_id IS 'the addressee; NULL: there is none';
COMMENT ON COLUMN wfproc.dead_letter.workflow_id IS 'the addressee''s workflow, or the sender''s where there is no addressee';

CREATE TABLE wfproc.link (
    instance_id bigint NOT NULL,
    kind text COLLATE "C" NOT NULL CHECK (kind IN ('monitor', 'cancel', 'terminate')),
    peer text COLLATE "C" NOT NULL,
    PRIMARY KEY (instance_id, kind, peer)
);
COMMENT ON TABLE wfproc.link IS 'what happens when an instance closes: monitor: the peer is told; cancel, terminate: the peer is a child, and that is done to it. Written by the holder of the instance''s shard';

CREATE TABLE wfproc.snapshot (
    instance_id bigint PRIMARY KEY,
    seq bigint NOT NULL,
    changed_seq bigint NOT NULL,
    at timestamptz NOT NULL,
    taken_at timestamptz NOT NULL,
    version int NOT NULL,
    state jsonb NOT NULL,
    log_sha256 bytea NOT NULL,
    state_sha256 bytea NOT NULL
) WITH (fillfactor = 70);
COMMENT ON TABLE wfproc.snapshot IS 'an instance''s state at a seq, bound to the hash of the log up to it; only a shortcut, never the truth';
COMMENT ON COLUMN wfproc.snapshot.changed_seq IS 'the last event up to seq that changed the state: what was postponed since then is not offered again yet';

CREATE TABLE wfproc.kept_snapshot (
    instance_id bigint NOT NULL,
    seq bigint NOT NULL,
    changed_seq bigint NOT NULL,
    at timestamptz NOT NULL,
    taken_at timestamptz NOT NULL,
    version int NOT NULL,
    state jsonb NOT NULL,
    log_sha256 bytea NOT NULL,
    state_sha256 bytea NOT NULL,
    PRIMARY KEY (instance_id, seq)
);
COMMENT ON TABLE wfproc.kept_snapshot IS 'snapshots of the past, for states of the past: after each 500th event; a state of more than 32 kB after each 1,000th, of more than 64 kB after each 2,000th, and so on';

CREATE TABLE wfproc.idempotency (
    instance_id bigint NOT NULL,
    key text COLLATE "C" NOT NULL,
    mail_id bigint NOT NULL,
    event_sha256 bytea NOT NULL,
    PRIMARY KEY (instance_id, key)
);
COMMENT ON TABLE wfproc.idempotency IS 'keys given to send(): the event that each stands for';

CREATE TABLE wfproc.acl (
    workflow_id int NOT NULL,
    role text COLLATE "C" NOT NULL,
    privilege text COLLATE "C" NOT NULL CHECK (privilege IN ('send', 'read', 'operate')),
    PRIMARY KEY (workflow_id, role, privilege)
);
COMMENT ON TABLE wfproc.acl IS 'who may do what with a workflow besides its owner; roles by name';

CREATE TABLE wfproc.seal (
    number bigint PRIMARY KEY,
    at timestamptz NOT NULL,
    instances bigint NOT NULL,
    events bigint NOT NULL,
    root bytea NOT NULL,
    previous bytea NOT NULL,
    hash bytea NOT NULL,
    horizon xid8,
    memory bytea
);
COMMENT ON COLUMN wfproc.seal.horizon IS 'of transactions before that one it has all that they wrote';
COMMENT ON COLUMN wfproc.seal.memory IS 'the start of the server, the database and its home in which the engine notes what changes from then on; NULL: it does not';
COMMENT ON TABLE wfproc.seal IS 'seals: a Merkle root over the heads of all logs and the code of all versions, chained by their hashes';

CREATE TABLE wfproc.seal_leaf (
    instance_id bigint NOT NULL,
    number bigint NOT NULL,
    id text COLLATE "C" NOT NULL,
    seq bigint,
    hash bytea,
    PRIMARY KEY (instance_id, number)
);
COMMENT ON TABLE wfproc.seal_leaf IS 'heads of logs as sealed: a row in the first seal that has that head; seq NULL: the instance had gone';

CREATE TABLE wfproc.seal_version (
    workflow_id int NOT NULL,
    version int NOT NULL,
    number bigint NOT NULL,
    name text COLLATE "C" NOT NULL,
    hash bytea,
    PRIMARY KEY (workflow_id, version, number)
);
COMMENT ON TABLE wfproc.seal_version IS 'the code of versions as sealed: a row in the first seal that has it so; hash NULL: it had gone';

CREATE TABLE wfproc.seal_node (
    level int NOT NULL,
    nth bigint NOT NULL,
    instances bigint NOT NULL,
    events bigint NOT NULL,
    hash bytea NOT NULL,
    PRIMARY KEY (level, nth)
);
COMMENT ON TABLE wfproc.seal_node IS 'the last seal''s tree, so that the next seal computes anew only what has changed: nodes of level 0 for 32 instance_ids each, of level 1 for 32 of those';

CREATE TABLE wfproc.scrub (
    instance_id bigint PRIMARY KEY,
    checked_at timestamptz NOT NULL,
    seq bigint NOT NULL,
    first_bad_seq bigint,
    reason text,
    found_at timestamptz
) WITH (fillfactor = 80);
CREATE INDEX scrub_finding_idx ON wfproc.scrub (instance_id) WHERE reason IS NOT NULL;
COMMENT ON TABLE wfproc.scrub IS 'when each instance was last checked, up to which seq, and what was found; written by the holder of its shard';

/* all but home and scrub: a copy is not the original, and nobody has checked it yet */
SELECT pg_catalog.pg_extension_config_dump('wfproc.workflow_seq', '');
SELECT pg_catalog.pg_extension_config_dump('wfproc.instance_seq', '');
SELECT pg_catalog.pg_extension_config_dump('wfproc.mail_seq', '');
SELECT pg_catalog.pg_extension_config_dump('wfproc.workflow', '');
SELECT pg_catalog.pg_extension_config_dump('wfproc.version', '');
SELECT pg_catalog.pg_extension_config_dump('wfproc.version_helper', '');
SELECT pg_catalog.pg_extension_config_dump('wfproc.rollout_seq', '');
SELECT pg_catalog.pg_extension_config_dump('wfproc.rollout', '');
SELECT pg_catalog.pg_extension_config_dump('wfproc.instance', '');
SELECT pg_catalog.pg_extension_config_dump('wfproc.event', '');
SELECT pg_catalog.pg_extension_config_dump('wfproc.mailbox', '');
SELECT pg_catalog.pg_extension_config_dump('wfproc.dead_letter', '');
SELECT pg_catalog.pg_extension_config_dump('wfproc.link', '');
SELECT pg_catalog.pg_extension_config_dump('wfproc.snapshot', '');
SELECT pg_catalog.pg_extension_config_dump('wfproc.kept_snapshot', '');
SELECT pg_catalog.pg_extension_config_dump('wfproc.idempotency', '');
SELECT pg_catalog.pg_extension_config_dump('wfproc.acl', '');
SELECT pg_catalog.pg_extension_config_dump('wfproc.seal', '');
SELECT pg_catalog.pg_extension_config_dump('wfproc.seal_leaf', '');
SELECT pg_catalog.pg_extension_config_dump('wfproc.seal_version', '');
SELECT pg_catalog.pg_extension_config_dump('wfproc.seal_node', '');

CREATE FUNCTION wfproc.refuse_change() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', 'wfproc_refuse_change';
COMMENT ON FUNCTION wfproc.refuse_change() IS 'trigger of wfproc.event: raises 42501, the log is append-only';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON wfproc.event
    FOR EACH STATEMENT EXECUTE FUNCTION wfproc.refuse_change();
ALTER TABLE wfproc.event ENABLE ALWAYS TRIGGER append_only;
COMMENT ON TRIGGER append_only ON wfproc.event IS 'the log is append-only, also under session_replication_role';

/*
 * Definitions and rights.
 */

CREATE FUNCTION wfproc.define(workflow text, handler text, migrate text = NULL, accepts text[] = NULL,
        max_attempts int = NULL, on_failure text = NULL, retry_delay interval = NULL,
        handler_timeout interval = NULL, snapshot_every int = NULL, watch bool = NULL, dead_letter_events bool = NULL,
        cancel_deadline interval = NULL, helpers regprocedure[] = NULL, migrates_from int = NULL)
    RETURNS int LANGUAGE c AS 'MODULE_PATHNAME', 'wfproc_define';
COMMENT ON FUNCTION wfproc.define(text, text, text, text[], int, text, interval, interval, int, bool, bool, interval, regprocedure[], int) IS
'publishes the function handler(jsonb, text, jsonb) as the workflow''s next version, with copies of the helpers that it calls, and returns its number; the same code again gives the same version; settings left NULL keep their value; a NOTICE names functions that the code calls and has no copy of; migrates_from: the migrate function takes states of that version and later ones, so that an upgrade goes past those in between; 42883 no such function, 42P13 wrong shape, 42723 a helper in another''s place, 42501 not the owner';

CREATE FUNCTION wfproc.try_step(handler text, state jsonb, event text, payload jsonb = '{}',
        OUT new_state jsonb, OUT actions jsonb)
    LANGUAGE c AS 'MODULE_PATHNAME', 'wfproc_try_step';
COMMENT ON FUNCTION wfproc.try_step(text, jsonb, text, jsonb) IS
'the unit test of a handler: calls it once as the caller, read-only, and returns the next state and the actions that it asked for; writes nothing';

CREATE FUNCTION wfproc.grant_access(workflow text, role text, privilege text)
    RETURNS bool LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'wfproc_grant_access';
COMMENT ON FUNCTION wfproc.grant_access(text, text, text) IS
'lets a role send to, read or operate (which includes both) a workflow''s instances; false where it could already; owner only';

CREATE FUNCTION wfproc.revoke_access(workflow text, role text, privilege text)
    RETURNS bool LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'wfproc_revoke_access';
COMMENT ON FUNCTION wfproc.revoke_access(text, text, text) IS 'takes back what grant_access() gave; false where there was nothing to take';

CREATE FUNCTION wfproc.may(workflow_id int, privilege text)
    RETURNS bool LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'wfproc_may';
COMMENT ON FUNCTION wfproc.may(int, text) IS 'whether the current user may send to, read or operate that workflow''s instances';

CREATE FUNCTION wfproc.adopt()
    RETURNS int LANGUAGE c AS 'MODULE_PATHNAME', 'wfproc_adopt';
COMMENT ON FUNCTION wfproc.adopt() IS
'makes this database the home of all workflows that a dump, a template or replication brought here, so that they act; returns how many; owner of the extension only';

CREATE FUNCTION wfproc.set_current_version(workflow text, version int)
    RETURNS int LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'wfproc_set_current_version';
COMMENT ON FUNCTION wfproc.set_current_version(text, int) IS
'makes that version the one that new instances begin with; returns the one before; owner only; 42704 no such version';

CREATE FUNCTION wfproc.show_code(workflow text, version int)
    RETURNS text LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'wfproc_show_code';
COMMENT ON FUNCTION wfproc.show_code(text, int) IS
'the code of a version''s handler as it was published, from the argument list on, and that of its migrate function and its helpers where it has some';

CREATE FUNCTION wfproc.rollout(workflow text, version int, at timestamptz = NULL, from_version int = NULL, attributes jsonb = '{}',
        max_failures int = 10)
    RETURNS int LANGUAGE c AS 'MODULE_PATHNAME', 'wfproc_rollout';
COMMENT ON FUNCTION wfproc.rollout(text, int, timestamptz, int, jsonb, int) IS
'upgrades all instances of a workflow, each before its first event stamped at or after that time (NULL: now): those of from_version (NULL: any lower one) whose attributes contain the given ones; stops after max_failures of migrate; one without an event keeps its version until control_all(''upgrade'', ...); returns its number; owner only';

CREATE FUNCTION wfproc.cancel_rollout(rollout_id int)
    RETURNS bool LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'wfproc_cancel_rollout';
COMMENT ON FUNCTION wfproc.cancel_rollout(int) IS 'no more instances are upgraded by it; those that were stay so; false where it was over already; owner only';

/*
 * Instances and their events.
 */

/* an id that is left out is one that nobody can give, so that NULL, as of 'order/' || NULL, is an error */
CREATE FUNCTION wfproc.start(workflow text, id text = E'\x1f', input jsonb = '{}', at timestamptz = NULL, version int = NULL,
        attributes jsonb = '{}', live_from timestamptz = NULL, if_exists text = 'error', on_parent_close text = 'leave')
    RETURNS text LANGUAGE c AS 'MODULE_PATHNAME', 'wfproc_start';
COMMENT ON FUNCTION wfproc.start(text, text, jsonb, timestamptz, int, jsonb, timestamptz, text, text) IS
'starts an instance and returns its id (generated where it is left out); its first event is start with the input, stamped at; if_exists: error (42710) or ignore. In a handler: asks for a child to be started; on_parent_close: leave, cancel or terminate it when this instance closes; it gets child.failed for one that cannot be started';

CREATE FUNCTION wfproc.send(id text, event text, payload jsonb = NULL, at timestamptz = NULL, idempotency_key text = NULL,
        or_start text = NULL)
    RETURNS bigint LANGUAGE c AS 'MODULE_PATHNAME', 'wfproc_send';
COMMENT ON FUNCTION wfproc.send(text, text, jsonb, timestamptz, text, text) IS
'puts an event into an instance''s mailbox, stamped at (NULL: now), as part of the caller''s transaction, and returns its mail_id; with a key the same event again returns the first mail_id, another event 23505; or_start: the workflow to start where there is no such id. In a handler: asks for the event to be sent when the step has ended, stamped now() by default, and returns NULL; what cannot be delivered becomes a dead letter';

CREATE FUNCTION wfproc.unsend(id text, mail_id bigint)
    RETURNS bool LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'wfproc_unsend';
COMMENT ON FUNCTION wfproc.unsend(text, bigint) IS 'takes an event out of the mailbox; false where it was handled already or is not there; what a process or the engine has sent: operate, and logged as $unsend';

CREATE FUNCTION wfproc.reschedule(id text, mail_id bigint, at timestamptz)
    RETURNS bool LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'wfproc_reschedule';
COMMENT ON FUNCTION wfproc.reschedule(text, bigint, timestamptz) IS 'gives an event in the mailbox, or a timer, another stamp; false where it was handled already or is not there; a timer, and what a process or the engine has sent: operate, and logged as $reschedule';

CREATE FUNCTION wfproc.pause(id text, reason text = NULL)
    RETURNS bool LANGUAGE c AS 'MODULE_PATHNAME', 'wfproc_pause';
COMMENT ON FUNCTION wfproc.pause(text, text) IS 'asks for an instance to stop handling events; they wait in its mailbox; false where it is paused already';

CREATE FUNCTION wfproc.resume(id text, accept_state bool = false)
    RETURNS bool LANGUAGE c AS 'MODULE_PATHNAME', 'wfproc_resume';
COMMENT ON FUNCTION wfproc.resume(text, bool) IS
'asks for a paused or retrying instance to go on at once, with its attempts counted anew; false where it is neither. accept_state: where the present code does otherwise than the log says, what it makes of the log is the state from now on, logged as $accept with that state; 55000 where the log itself was changed, or the code does not get through it';

CREATE FUNCTION wfproc.cancel(id text, reason text = NULL, deadline interval = '5 minutes')
    RETURNS bool LANGUAGE c AS 'MODULE_PATHNAME', 'wfproc_cancel';
COMMENT ON FUNCTION wfproc.cancel(text, text, interval) IS
'sends an instance the event cancel, with {"by", "reason"}; it closes as cancelled unless its handler closes it otherwise or calls defer_cancel(); terminated where it is still open after the deadline (NULL: none); false where it is closed or a cancel waits already. In a handler: asks for that, and returns NULL';

CREATE FUNCTION wfproc.terminate(id text, reason text = NULL)
    RETURNS bool LANGUAGE c AS 'MODULE_PATHNAME', 'wfproc_terminate';
COMMENT ON FUNCTION wfproc.terminate(text, text) IS
'closes an instance at once, without its handler; false where it is closed or that is asked for already. In a handler: asks for that, and returns NULL';

CREATE FUNCTION wfproc.retry_now(id text, reason text = NULL)
    RETURNS bool LANGUAGE c AS 'MODULE_PATHNAME', 'wfproc_retry_now';
COMMENT ON FUNCTION wfproc.retry_now(text, text) IS 'asks for an instance that waits to try an event again to do so at once; attempts go on being counted; false where it does not wait';

CREATE FUNCTION wfproc.skip(id text, reason text = NULL)
    RETURNS bool LANGUAGE c AS 'MODULE_PATHNAME', 'wfproc_skip';
COMMENT ON FUNCTION wfproc.skip(text, text) IS
'asks for the event that an instance fails to handle to become a dead letter, and for the instance to go on with the next; false where none fails';

CREATE FUNCTION wfproc.redrive(mail_id bigint)
    RETURNS bigint LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'wfproc_redrive';
COMMENT ON FUNCTION wfproc.redrive(bigint) IS
'sends a dead letter to its instance again, with its stamp, and returns the new mail_id; NULL where it is not among the dead letters (any more); 42704 unknown, 55000 closed instance';

CREATE FUNCTION wfproc.set_attributes(id text, attributes jsonb)
    RETURNS bool LANGUAGE c AS 'MODULE_PATHNAME', 'wfproc_set_attributes_of';
COMMENT ON FUNCTION wfproc.set_attributes(text, jsonb) IS
'asks for keys of an instance''s attributes to be set (null removes one), logged with who asked; false where they are so already';

CREATE PROCEDURE wfproc.control_all(verb text, workflow text, attributes jsonb = '{}', status text = NULL, reason text = NULL,
        INOUT affected bigint = 0)
    LANGUAGE c AS 'MODULE_PATHNAME', 'wfproc_control_all';
COMMENT ON PROCEDURE wfproc.control_all(text, text, jsonb, text, text, bigint) IS
'cancel, terminate, pause, resume, retry_now or skip for all open instances of a workflow whose attributes contain the given ones and that have the status (NULL: any), in batches of 1,000, each committed; upgrade: those that a roll-out in force concerns meet it now, and not before their next event; affected: of how many that changes anything';

CREATE FUNCTION wfproc.upgrade(id text, version int, at timestamptz = NULL)
    RETURNS bigint LANGUAGE c AS 'MODULE_PATHNAME', 'wfproc_upgrade';
COMMENT ON FUNCTION wfproc.upgrade(text, int, timestamptz) IS
'switches an instance to another version: at once (NULL), also where it is paused or fails, or in the order of its events at a stamp, until which unsend() takes it back; its state is turned over by the migrate functions; logged as $upgrade; returns its mail_id, NULL where the instance has that version, or comes to it by what waits to be done at once; a lower version needs a migrate function (55000)';

CREATE FUNCTION wfproc.snapshot(id text)
    RETURNS bool LANGUAGE c AS 'MODULE_PATHNAME', 'wfproc_snapshot';
COMMENT ON FUNCTION wfproc.snapshot(text) IS 'asks for a snapshot of an instance to be taken';

CREATE FUNCTION wfproc.passivate(id text)
    RETURNS bool LANGUAGE c AS 'MODULE_PATHNAME', 'wfproc_passivate';
COMMENT ON FUNCTION wfproc.passivate(text) IS 'asks for an instance to leave its worker''s memory, with a snapshot';

CREATE FUNCTION wfproc.run(max_events int = NULL)
    RETURNS bigint LANGUAGE c AS 'MODULE_PATHNAME', 'wfproc_run';
COMMENT ON FUNCTION wfproc.run(int) IS
'handles due events here and now, in the caller''s transaction, and returns how many; what a worker is responsible for is left to it, but for instances that this transaction has started; READ COMMITTED only (25001)';

CREATE FUNCTION wfproc.await(id text, timeout interval = '30 s', OUT status text, OUT result jsonb)
    LANGUAGE c AS 'MODULE_PATHNAME', 'wfproc_await';
COMMENT ON FUNCTION wfproc.await(text, interval) IS
'waits until an instance has closed and returns its status and result; the status that it has then where the time-out (0: do not wait, NULL: no limit) comes first; 55000 where this transaction has itself started or written to it';

CREATE FUNCTION wfproc.await_state(id text, condition jsonpath, timeout interval = '30 s')
    RETURNS jsonb LANGUAGE c AS 'MODULE_PATHNAME', 'wfproc_await_state';
COMMENT ON FUNCTION wfproc.await_state(text, jsonpath, interval) IS
'waits until an instance''s state fits the condition ($.paid == true, or a path that finds something) and returns the state; NULL where the time-out (0: do not wait, NULL: no limit) comes first or the instance closes without; 55000 where this transaction has itself started or written to it';

CREATE PROCEDURE wfproc.call(id text, event text, payload jsonb = NULL, timeout interval = '30 s', idempotency_key text = NULL,
        INOUT reply jsonb = NULL)
    LANGUAGE c AS 'MODULE_PATHNAME', 'wfproc_call';
COMMENT ON PROCEDURE wfproc.call(text, text, jsonb, interval, text, jsonb) IS
'sends an event, commits, waits until it is handled and returns what its handler gave to reply(), NULL where nothing; asking again with the same key returns the same reply; 57014 where the time-out comes first (the event stays), 55000 where it became a dead letter; 2D000 inside a transaction block';

/*
 * Reading.  These never act, and work on a standby.
 */

CREATE FUNCTION wfproc.state(id text, as_of timestamptz = NULL, known_at timestamptz = NULL)
    RETURNS jsonb LANGUAGE c AS 'MODULE_PATHNAME', 'wfproc_state';
COMMENT ON FUNCTION wfproc.state(text, timestamptz, timestamptz) IS
'the state after the last handled event, from the snapshot and the log after it; {} before the first. as_of: up to the last event at which the instance''s clock was not later; known_at: up to the last that was recorded by then; NULL: no limit';

CREATE FUNCTION wfproc.states(workflow text, as_of timestamptz = NULL, known_at timestamptz = NULL,
        OUT id text, OUT seq bigint, OUT version int, OUT state jsonb)
    RETURNS SETOF record LANGUAGE c AS 'MODULE_PATHNAME', 'wfproc_states';
COMMENT ON FUNCTION wfproc.states(text, timestamptz, timestamptz) IS
'the same for all instances of a workflow that had begun by then, in the order of their ids';

CREATE FUNCTION wfproc.digest(id text, OUT seq bigint, OUT sha256 bytea)
    LANGUAGE c AS 'MODULE_PATHNAME', 'wfproc_digest';
COMMENT ON FUNCTION wfproc.digest(text) IS 'the last seq of an instance''s log and the hash that stands for all of it';

CREATE FUNCTION wfproc.history(id text, after bigint = 0, max int = 1000,
        OUT seq bigint, OUT at timestamptz, OUT recorded_at timestamptz, OUT event text, OUT payload jsonb,
        OUT sender text, OUT mail_id bigint, OUT idempotency_key text, OUT reply jsonb, OUT live bool, OUT digest bigint,
        OUT hash bytea)
    RETURNS SETOF record LANGUAGE c AS 'MODULE_PATHNAME', 'wfproc_history';
COMMENT ON FUNCTION wfproc.history(text, bigint, int) IS 'an instance''s log, at most max rows after the given seq';

CREATE FUNCTION wfproc.find_instances(wanted jsonb, of_workflow text = NULL, with_status text = NULL, after text = '', max int = 1000,
        OUT id text, OUT workflow text, OUT status text, OUT attributes jsonb)
    RETURNS SETOF record LANGUAGE c AS 'MODULE_PATHNAME', 'wfproc_find_instances';
COMMENT ON FUNCTION wfproc.find_instances(jsonb, text, text, text, int) IS
'instances whose attributes contain the given ones, found by an index, among those that the caller may read; at most max of them, in the order of their ids after the given one';

CREATE FUNCTION wfproc.agenda(id text, after bigint = 0, max int = 1000,
        OUT mail_id bigint, OUT at timestamptz, OUT event text, OUT payload jsonb, OUT sender text, OUT idempotency_key text,
        OUT timer bool, OUT postponed bool, OUT due bool)
    RETURNS SETOF record LANGUAGE c AS 'MODULE_PATHNAME', 'wfproc_agenda';
COMMENT ON FUNCTION wfproc.agenda(text, bigint, int) IS 'an instance''s mailbox in the order in which it will be handled, at most max rows, after the given mail_id''s place';

CREATE FUNCTION wfproc.replay(id text, upto bigint = NULL, version int = NULL,
        OUT seq bigint, OUT at timestamptz, OUT event text, OUT state jsonb, OUT actions jsonb, OUT diverged bool)
    RETURNS SETOF record LANGUAGE c AS 'MODULE_PATHNAME', 'wfproc_replay';
COMMENT ON FUNCTION wfproc.replay(text, bigint, int) IS
'folds the log from its first event through the handler (of that version throughout; NULL: of those that handled it): a row per event with the state and actions that it leads to, and whether they differ from what was logged';

CREATE FUNCTION wfproc.verify(id text, OUT ok bool, OUT first_bad_seq bigint, OUT reason text)
    LANGUAGE c AS 'MODULE_PATHNAME', 'wfproc_verify';
COMMENT ON FUNCTION wfproc.verify(text) IS 'folds the whole log and checks the chain of hashes, each digest, the snapshot, the code, and what the log says of the instance''s row; the first that does not fit, and why';

CREATE FUNCTION wfproc.check_version(workflow text, version int, question text = 'both', sample int = NULL,
        OUT id text, OUT question text, OUT outcome text, OUT first_seq bigint, OUT state jsonb, OUT new_state jsonb,
        OUT actions jsonb, OUT new_actions jsonb, OUT error text)
    RETURNS SETOF record LANGUAGE c AS 'MODULE_PATHNAME', 'wfproc_check_version';
COMMENT ON FUNCTION wfproc.check_version(text, int, text, int) IS
'rehearses a version: a row per instance and question. history: would its log replay the same under that version? same: it would; differs: at first_seq it comes to another state or other actions; fails: there its handler raises, or the log does not hold; with states and actions of both. upgrade: would an upgrade now succeed, and then what is due? same: it would, to new_state, with new_actions of migrate functions; fails: it would be refused, or migrate or the handler would raise at first_seq. sample: that many instances, spread evenly; NULL: all. Writes nothing';

CREATE FUNCTION wfproc.outcomes(workflow text, version int,
        OUT status text, OUT result jsonb, OUT new_status text, OUT new_result jsonb, OUT instances bigint, OUT example text)
    RETURNS SETOF record LANGUAGE c AS 'MODULE_PATHNAME', 'wfproc_outcomes';
COMMENT ON FUNCTION wfproc.outcomes(text, int) IS
'how the closed instances of a workflow would have ended under another version, given the same events: how many for each pair of what was and what would have been, with one of them; new_status running: it would still be open; error: its handler would have raised';

CREATE FUNCTION wfproc.compare(id1 text, id2 text, OUT seq bigint, OUT event1 text, OUT at1 timestamptz, OUT state1 jsonb,
        OUT event2 text, OUT at2 timestamptz, OUT state2 jsonb)
    LANGUAGE c AS 'MODULE_PATHNAME', 'wfproc_compare';
COMMENT ON FUNCTION wfproc.compare(text, text) IS
'where two logs part: the first seq at which event, stamp, payload or digest differ, with both sides (NULL: that log has ended); all NULL where they are the same';

CREATE FUNCTION wfproc.forecast(id text, until timestamptz, extra jsonb = '[]',
        OUT seq bigint, OUT at timestamptz, OUT event text, OUT state jsonb, OUT actions jsonb, OUT error text)
    RETURNS SETOF record LANGUAGE c AS 'MODULE_PATHNAME', 'wfproc_forecast';
COMMENT ON FUNCTION wfproc.forecast(text, timestamptz, jsonb) IS
'what would happen up to a time: folds on with what is in the agenda, the timers that this leads to, and extra events [{"event": ..., "payload": ..., "at": ...}]; nothing is written or sent, and no answer comes from others';

CREATE FUNCTION wfproc.forecasts(workflow text, until timestamptz, extra jsonb = '[]',
        OUT id text, OUT status text, OUT seq bigint, OUT clock timestamptz, OUT state jsonb, OUT error text)
    RETURNS SETOF record LANGUAGE c AS 'MODULE_PATHNAME', 'wfproc_forecasts';
COMMENT ON FUNCTION wfproc.forecasts(text, timestamptz, jsonb) IS 'where each open instance of a workflow would be at that time, a row each';

CREATE FUNCTION wfproc.fork(id text, seq bigint, new_id text, paused bool = true)
    RETURNS text LANGUAGE c AS 'MODULE_PATHNAME', 'wfproc_fork';
COMMENT ON FUNCTION wfproc.fork(text, bigint, text, bool) IS
'starts a new instance from the past of another: its log up to seq, then $fork, which names the source, its seq and hash; timers and mail are not taken along; returns new_id; 22023 where the log has no such seq, 42710 where new_id exists';

CREATE FUNCTION wfproc.verify_all(workflow text, max int = 1000, after text = '', OUT id text, OUT ok bool, OUT first_bad_seq bigint,
        OUT reason text)
    RETURNS SETOF record LANGUAGE c AS 'MODULE_PATHNAME', 'wfproc_verify_all';
COMMENT ON FUNCTION wfproc.verify_all(text, int, text) IS 'verify() of a workflow''s instances, at most max of them, in the order of their ids after the given one';

CREATE FUNCTION wfproc.scrub(max_rows int = NULL)
    RETURNS bigint LANGUAGE c AS 'MODULE_PATHNAME', 'wfproc_scrub';
COMMENT ON FUNCTION wfproc.scrub(int) IS
'checks instances as a worker does that has nothing else to do, those first that were checked longest ago, until that many rows of logs were checked (NULL: all instances): remembers it, shows what is found in view findings, pauses what could not be activated; returns how many were checked; what a worker is responsible for is left to it; owner of the extension only';

CREATE FUNCTION wfproc.redact(id text, seq bigint, reason text)
    RETURNS bool LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'wfproc_redact';
COMMENT ON FUNCTION wfproc.redact(text, bigint, text) IS
'asks for the payload of an event in the log to be erased: its SHA-256 stays, so the chain still verifies; needs a snapshot at or after seq (55000); logged as $redact; false where it was erased already; operate';

CREATE FUNCTION wfproc.export_log(id text)
    RETURNS SETOF jsonb LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'wfproc_export_log';
COMMENT ON FUNCTION wfproc.export_log(text) IS 'an instance''s log as JSON, a line each: first the instance, then its events with their hashes';

CREATE FUNCTION wfproc.export_xes(workflow text)
    RETURNS xml LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'wfproc_export_xes';
COMMENT ON FUNCTION wfproc.export_xes(text) IS 'the logs of a workflow''s instances as XES (IEEE 1849), for tools of process mining';

CREATE FUNCTION wfproc.import_log(lines jsonb, workflow text = NULL)
    RETURNS text LANGUAGE c AS 'MODULE_PATHNAME', 'wfproc_import_log';
COMMENT ON FUNCTION wfproc.import_log(jsonb, text) IS
'takes a log that export_log() gave, as one JSON array, into this database, with the same hashes, and returns its id; the instance is paused; workflow: another name for it here; 42704 no such workflow or version, 42710 the id exists, 22000 a hash does not fit; owner of the workflow only';

/*
 * Seals.
 */

CREATE FUNCTION wfproc.seal(whole bool = false) RETURNS text LANGUAGE c AS 'MODULE_PATHNAME', 'wfproc_seal';
COMMENT ON FUNCTION wfproc.seal(bool) IS
'writes a seal over the heads of all logs and returns it as text, to be kept elsewhere; it looks at those that the engine may have changed since the last seal, with whole at all, as it also does after a restart; owner of the extension only';

CREATE FUNCTION wfproc.check_seal(seal text, OUT id text, OUT problem text, OUT seq bigint)
    RETURNS SETOF record LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'wfproc_check_seal';
COMMENT ON FUNCTION wfproc.check_seal(text) IS
'what does not fit a seal any more: instances that were removed, cut or changed since, with the first seq that is missing or not as sealed; no rows: each log still has the end that was sealed, and each version its code (what comes before an end is verify()s affair); 22023 no seal, or one of another database; owner of the extension, or pg_read_all_data';

/*
 * Inside a handler.
 */

CREATE FUNCTION wfproc.self() RETURNS text LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'wfproc_self';
COMMENT ON FUNCTION wfproc.self() IS 'in a handler: the id of its instance';
CREATE FUNCTION wfproc.parent() RETURNS text LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'wfproc_parent';
COMMENT ON FUNCTION wfproc.parent() IS 'in a handler: the id of the instance that started this one; NULL where it was started from outside';
CREATE FUNCTION wfproc.now() RETURNS timestamptz LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'wfproc_now';
COMMENT ON FUNCTION wfproc.now() IS 'in a handler: the instance''s clock, the greatest stamp that it has handled';
CREATE FUNCTION wfproc.event_at() RETURNS timestamptz LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'wfproc_event_at';
COMMENT ON FUNCTION wfproc.event_at() IS 'in a handler: the stamp of this event, which is before now() where the event came late';
CREATE FUNCTION wfproc.seq() RETURNS bigint LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'wfproc_seq';
COMMENT ON FUNCTION wfproc.seq() IS 'in a handler: the number that this event has in the log';
CREATE FUNCTION wfproc.live() RETURNS bool LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'wfproc_live';
COMMENT ON FUNCTION wfproc.live() IS
'in a handler: whether this step is live, that is whether the instance''s clock has reached its live_from; in a replay what the log''s column live says';
CREATE FUNCTION wfproc.sender() RETURNS text LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'wfproc_sender';
COMMENT ON FUNCTION wfproc.sender() IS 'in a handler: the id of the instance that sent this event, or that it tells of, its own id for a timer; NULL where it came from outside';
CREATE FUNCTION wfproc.random() RETURNS float8 LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'wfproc_random';
COMMENT ON FUNCTION wfproc.random() IS 'in a handler: a number from 0 up to 1, the same in every replay';
CREATE FUNCTION wfproc.uuid() RETURNS uuid LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'wfproc_uuid';
COMMENT ON FUNCTION wfproc.uuid() IS 'in a handler: a uuid, the same in every replay';
CREATE FUNCTION wfproc.complete(result jsonb = NULL) RETURNS void LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'wfproc_complete';
COMMENT ON FUNCTION wfproc.complete(jsonb) IS 'in a handler: this step closes the instance as completed, with that result';
CREATE FUNCTION wfproc.fail(reason text) RETURNS void LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'wfproc_fail';
COMMENT ON FUNCTION wfproc.fail(text) IS 'in a handler: this step closes the instance as failed, for that reason';
CREATE FUNCTION wfproc.reject(reason text) RETURNS void LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'wfproc_reject';
COMMENT ON FUNCTION wfproc.reject(text) IS 'in a handler: this event becomes a dead letter at once; the state stays as it was; no retry';

CREATE FUNCTION wfproc.postpone() RETURNS void LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'wfproc_postpone';
COMMENT ON FUNCTION wfproc.postpone() IS
'in a handler: not now; this step is undone, and its event is offered again, oldest first, after the next step that changes the state';
CREATE FUNCTION wfproc.set_timer(name text, after interval = NULL, at timestamptz = NULL, payload jsonb = '{}',
        until_state_changes text = NULL)
    RETURNS void LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'wfproc_set_timer';
COMMENT ON FUNCTION wfproc.set_timer(text, interval, timestamptz, jsonb, text) IS
'in a handler: an event of that name will come at a time, or after now() by an interval; replaces the timer of the same name; until_state_changes: a key that the state has before or after the step, whose change cancels the timer';
CREATE FUNCTION wfproc.cancel_timer(name text) RETURNS void LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'wfproc_cancel_timer';
COMMENT ON FUNCTION wfproc.cancel_timer(text) IS 'in a handler: the timer of that name will not fire; nothing where there is none';
CREATE FUNCTION wfproc.set_attributes(attributes jsonb) RETURNS void LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'wfproc_set_attributes';
COMMENT ON FUNCTION wfproc.set_attributes(jsonb) IS 'in a handler: sets keys of the instance''s attributes; null removes one';
CREATE FUNCTION wfproc.reply(reply jsonb) RETURNS void LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'wfproc_reply';
COMMENT ON FUNCTION wfproc.reply(jsonb) IS
'in a handler: answers this event: kept in the log, returned by call(); an instance that sent the event receives the event reply, with {"id", "event", "key", "reply"}';
CREATE FUNCTION wfproc.monitor(id text) RETURNS void LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'wfproc_monitor';
COMMENT ON FUNCTION wfproc.monitor(text) IS
'in a handler: this instance will receive monitor.completed, monitor.failed, monitor.cancelled or monitor.terminated when that one closes; at once where it has closed, monitor.unknown where it does not exist';
CREATE FUNCTION wfproc.demonitor(id text) RETURNS void LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'wfproc_demonitor';
COMMENT ON FUNCTION wfproc.demonitor(text) IS 'in a handler: takes monitor() back';
CREATE FUNCTION wfproc.defer_cancel(deadline interval = NULL) RETURNS void LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'wfproc_defer_cancel';
COMMENT ON FUNCTION wfproc.defer_cancel(interval) IS
'in a handler, for the event cancel: the instance goes on to tidy up; complete() will then close it as cancelled; it has until deadline, counted from now() (NULL: the deadline of the cancel stands)';

/*
 * Events from tables.
 */

CREATE FUNCTION wfproc.emit() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', 'wfproc_emit';
COMMENT ON FUNCTION wfproc.emit() IS
'trigger function that turns inserted rows into events. Arguments, each a key=value: id=column, event=name or event_column=column, at=column, payload=column,column (else the whole row), start=workflow (start an instance where there is none). AFTER INSERT, for each row, or for each statement with a transition table';

/*
 * Views: each shows a role its own workflows and those that it may read.
 */

CREATE FUNCTION wfproc.worker_slots(OUT slot int, OUT pid int, OUT database oid, OUT share int, OUT shares int, OUT shards int,
        OUT started_at timestamptz, OUT events bigint, OUT turns bigint, OUT failed_turns bigint, OUT residents bigint,
        OUT resident_bytes bigint, OUT last_error text)
    RETURNS SETOF record LANGUAGE c AS 'MODULE_PATHNAME', 'wfproc_worker_slots';
COMMENT ON FUNCTION wfproc.worker_slots() IS 'the workers of this database, and to pg_read_all_stats of all others, from shared memory; empty where the library is not preloaded';

CREATE FUNCTION wfproc.residents(OUT instance_id bigint, OUT slot int, OUT pid int, OUT since timestamptz, OUT state_bytes bigint)
    RETURNS SETOF record LANGUAGE c AS 'MODULE_PATHNAME', 'wfproc_residents';
COMMENT ON FUNCTION wfproc.residents() IS 'the processes of this database that are in a worker''s memory now, and that the caller may read';

CREATE VIEW wfproc.workflows WITH (security_barrier) AS
    SELECT w.name AS workflow, w.owner, w.current_version, v.handler, v.defined_at,
           w.home OPERATOR(pg_catalog.=) h.token
             AND h.database OPERATOR(pg_catalog.=) (SELECT d.oid FROM pg_catalog.pg_database d
                 WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()) AS at_home,
           w.accepts, w.max_attempts, w.on_failure, w.retry_delay, w.handler_timeout, w.snapshot_every, w.watch,
           w.dead_letter_events, w.cancel_deadline
    FROM wfproc.workflow w
    JOIN wfproc.version v ON v.workflow_id OPERATOR(pg_catalog.=) w.workflow_id
                         AND v.version OPERATOR(pg_catalog.=) w.current_version
    CROSS JOIN wfproc.home h
    WHERE wfproc.may(w.workflow_id, 'read');
COMMENT ON VIEW wfproc.workflows IS 'definitions with their current version; at_home says whether they act in this database';

CREATE VIEW wfproc.versions WITH (security_barrier) AS
    SELECT w.name AS workflow, v.version, v.version OPERATOR(pg_catalog.=) w.current_version AS current, v.handler, v.code_sha256,
           v.migrate, v.migrate_sha256, v.migrates_from, v.search_path, v.defined_at,
           ARRAY(SELECT pg_catalog.format('%s(%s)', h.name, h.arguments) FROM wfproc.version_helper h
             WHERE h.workflow_id OPERATOR(pg_catalog.=) v.workflow_id AND h.version OPERATOR(pg_catalog.=) v.version
             ORDER BY h.name, h.arguments) AS helpers
    FROM wfproc.version v JOIN wfproc.workflow w ON w.workflow_id OPERATOR(pg_catalog.=) v.workflow_id
    WHERE wfproc.may(v.workflow_id, 'read');
COMMENT ON VIEW wfproc.versions IS 'published versions with the SHA-256 of their code, and the helpers that they have copies of; show_code() shows all of it';

CREATE VIEW wfproc.rollouts WITH (security_barrier) AS
    SELECT r.rollout_id, w.name AS workflow, r.version, r.from_version, r.at, r.attributes, r.created_by, r.created_at,
           CASE WHEN r.cancelled_at IS NOT NULL THEN 'cancelled' WHEN r.stopped_at IS NOT NULL THEN 'stopped' ELSE 'in force' END AS status,
           (SELECT pg_catalog.count(*) FROM wfproc.instance i WHERE i.workflow_id OPERATOR(pg_catalog.=) r.workflow_id
              AND i.closed_at IS NULL AND i.attributes OPERATOR(pg_catalog.@>) r.attributes
              AND (i.version OPERATOR(pg_catalog.=) r.from_version
                OR r.from_version IS NULL AND i.version OPERATOR(pg_catalog.<) r.version)) AS pending,
           (SELECT pg_catalog.count(*) FROM wfproc.instance i WHERE i.workflow_id OPERATOR(pg_catalog.=) r.workflow_id
              AND i.attributes OPERATOR(pg_catalog.@>) r.attributes
              AND i.version OPERATOR(pg_catalog.=) r.version) AS done,
           r.failures AS failed, r.max_failures
    FROM wfproc.rollout r JOIN wfproc.workflow w ON w.workflow_id OPERATOR(pg_catalog.=) r.workflow_id
    WHERE wfproc.may(r.workflow_id, 'read');
COMMENT ON VIEW wfproc.rollouts IS 'upgrades of whole workflows: pending counts open instances that it has still to reach, done those of its version, failed those whose migrate raised';

CREATE VIEW wfproc.instances WITH (security_barrier) AS
    SELECT i.id, w.name AS workflow, i.version, i.status, i.parent, i.attributes, i.started_at, i.live_from, i.closed_at,
           i.result, i.error, i.error_context, i.attempts, i.retry_at, i.cancelling,
           (SELECT s.reason FROM wfproc.scrub s WHERE s.instance_id OPERATOR(pg_catalog.=) i.instance_id) AS finding,
           (SELECT pg_catalog.count(*) FROM wfproc.mailbox m
             WHERE m.instance_id OPERATOR(pg_catalog.=) i.instance_id) AS waiting,
           COALESCE((SELECT GREATEST(pg_catalog.statement_timestamp() OPERATOR(pg_catalog.-) m.at, '0'::interval)
             FROM wfproc.mailbox m
             WHERE m.instance_id OPERATOR(pg_catalog.=) i.instance_id
               AND m.at OPERATOR(pg_catalog.>) '-infinity'::timestamptz
             ORDER BY m.at LIMIT 1), '0'::interval) AS lag,
           i.instance_id
    FROM wfproc.instance i JOIN wfproc.workflow w ON w.workflow_id OPERATOR(pg_catalog.=) i.workflow_id
    WHERE wfproc.may(i.workflow_id, 'read');
COMMENT ON VIEW wfproc.instances IS 'instances with their status; error_context is the event of a step that failed, and what the server said of where and why; finding is what the last check found; waiting counts their mailbox; lag is wall clock minus the stamp of the oldest due event; instance_id is what a notification names';

CREATE VIEW wfproc.findings WITH (security_barrier) AS
    SELECT i.id, w.name AS workflow, s.first_bad_seq, s.reason, s.found_at, s.checked_at
    FROM wfproc.scrub s
    JOIN wfproc.instance i ON i.instance_id OPERATOR(pg_catalog.=) s.instance_id
    JOIN wfproc.workflow w ON w.workflow_id OPERATOR(pg_catalog.=) i.workflow_id
    WHERE s.reason IS NOT NULL AND wfproc.may(i.workflow_id, 'read');
COMMENT ON VIEW wfproc.findings IS 'instances that were not as they should be when they were last checked; found_at is since when that is known';

CREATE VIEW wfproc.registry WITH (security_barrier) AS
    SELECT i.id, w.name AS workflow, r.slot AS worker, r.pid, r.since, r.state_bytes
    FROM wfproc.residents() r
    JOIN wfproc.instance i ON i.instance_id OPERATOR(pg_catalog.=) r.instance_id
    JOIN wfproc.workflow w ON w.workflow_id OPERATOR(pg_catalog.=) i.workflow_id
    WHERE wfproc.may(i.workflow_id, 'read');
COMMENT ON VIEW wfproc.registry IS 'who is in memory now, and in which worker';

CREATE VIEW wfproc.workers AS
    SELECT s.slot AS worker, s.pid, s.share, s.shares, s.shards, s.started_at, s.events, s.turns, s.failed_turns, s.residents,
           s.resident_bytes, s.last_error
    FROM wfproc.worker_slots() s
    WHERE s.database OPERATOR(pg_catalog.=) (SELECT d.oid FROM pg_catalog.pg_database d
        WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database());
COMMENT ON VIEW wfproc.workers IS 'this database''s workers: worker share of shares holds that many shards of 64';

CREATE VIEW wfproc.dead_letters WITH (security_barrier) AS
    SELECT d.mail_id, d.id, w.name AS workflow, d.at, d.name AS event, d.payload, d.sender, d.idempotency_key, d.reason, d.died_at
    FROM wfproc.dead_letter d
    JOIN wfproc.workflow w ON w.workflow_id OPERATOR(pg_catalog.=) d.workflow_id
    WHERE wfproc.may(d.workflow_id, 'read');
COMMENT ON VIEW wfproc.dead_letters IS 'events that will not be handled, with the reason; workflow is the addressee''s, or the sender''s where there is no addressee';

CREATE VIEW wfproc.seals AS
    SELECT s.number, s.at, s.instances, s.events, s.root, s.previous, s.hash FROM wfproc.seal s;
COMMENT ON VIEW wfproc.seals IS 'seals that were written; what proves something is the text that seal() returned, kept elsewhere';

/*
 * Rights: nothing for PUBLIC.  grant_usage() is how an administrator lets a role in; each function then checks what it may.
 */

REVOKE ALL ON ALL ROUTINES IN SCHEMA wfproc FROM PUBLIC;

CREATE FUNCTION wfproc.grant_usage(role text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    f record;
BEGIN
    IF role IS NULL THEN
        RAISE EXCEPTION 'argument "role" must not be null' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    EXECUTE format('GRANT USAGE ON SCHEMA wfproc TO %I', role);
    EXECUTE format('GRANT SELECT ON wfproc.workflows, wfproc.versions, wfproc.rollouts, wfproc.instances, wfproc.findings, wfproc.registry, wfproc.workers, wfproc.dead_letters TO %I', role);
    FOR f IN SELECT p.oid::regprocedure AS signature FROM pg_proc p
             WHERE p.pronamespace = 'wfproc'::regnamespace
               AND p.proname <> ALL ('{refuse_change,adopt,grant_usage}') LOOP
        EXECUTE format('GRANT EXECUTE ON ROUTINE %s TO %I', f.signature, role);
    END LOOP;
END $$;
COMMENT ON FUNCTION wfproc.grant_usage(text) IS
'lets a role use the schema, its functions and views; what it may do with which workflow is decided by ownership and grant_access()';
REVOKE ALL ON FUNCTION wfproc.grant_usage(text) FROM PUBLIC;
