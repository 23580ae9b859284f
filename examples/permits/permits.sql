/*
 * permits.sql: applications for a permit, one process each, out of a table that is filled by COPY.
 *
 * The rows are what an office's system has logged: case, activity, time.  The trigger makes each row an event for the
 * process of its case, with the row's own time as its stamp.  Run it from the top of the repository, in one transaction:
 *
 *     psql -aq1 -f examples/permits/permits.sql
 */

SET LOCAL TimeZone = 'UTC';
SET LOCAL DateStyle = 'ISO';

-- the log, as it comes
CREATE TABLE permit_log (
    case_id text NOT NULL,
    activity text NOT NULL,
    at timestamptz NOT NULL,
    resource text,
    department text,
    channel text,
    deadline timestamptz
);

-- what an event makes of a permit: where it is, who has had it, whether it is late
CREATE FUNCTION permit_handler(state jsonb, event text, payload jsonb) RETURNS jsonb
LANGUAGE plpgsql AS $$
BEGIN
    IF event = 'start' THEN
        RETURN '{"steps": 0, "hands": [], "late": false}';
    END IF;
    state := state || jsonb_build_object(
        'steps', (state->>'steps')::int + 1,
        'activity', event,
        'since', wfproc.event_at(),
        'late', coalesce(wfproc.event_at() > (payload->>'deadline')::timestamptz, false));
    IF NOT state->'hands' ? (payload->>'resource') THEN
        state := jsonb_set(state, '{hands}', state->'hands' || (payload->'resource'));
    END IF;
    RETURN state;
END $$;

SELECT wfproc.define('permit', 'permit_handler');

-- inserts become events; the first one of a case starts its process
CREATE TRIGGER permit_log_emit AFTER INSERT ON permit_log
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT
    EXECUTE FUNCTION wfproc.emit('id=case_id', 'event_column=activity', 'at=at',
                                 'payload=resource,department,channel,deadline', 'start=permit');

\copy permit_log FROM 'examples/permits/sample.csv' WITH (FORMAT csv, HEADER)

-- handles them here and now; without this the workers do it after COMMIT
SELECT wfproc.run() AS handled;

-- the processes
CREATE VIEW permit AS
    SELECT i.id AS case_id, s.state->>'activity' AS activity, (s.state->>'since')::timestamptz AS since,
           (s.state->>'steps')::int AS steps, jsonb_array_length(s.state->'hands') AS hands, (s.state->>'late')::bool AS late
    FROM wfproc.instances i CROSS JOIN LATERAL wfproc.state(i.id) AS s(state)
    WHERE i.workflow = 'permit';
SELECT * FROM permit ORDER BY case_id;

-- plain SQL over the table says the same
SELECT count(*) AS cases,
       count(*) FILTER (WHERE p.steps = l.steps AND p.since = l.since AND p.hands = l.hands) AS agree
FROM (SELECT case_id, count(*) AS steps, max(at) AS since, count(DISTINCT resource) AS hands
      FROM permit_log GROUP BY case_id) l
JOIN permit p USING (case_id);

-- one history, and the proof that it leads to that state
SELECT seq, at, event, state->'late' AS late FROM wfproc.replay('permit-003');
SELECT * FROM wfproc.verify('permit-003');
