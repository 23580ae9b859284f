/*
 * what_if.sql: last year's building permits under a stricter rule: which of them would have ended otherwise?
 *
 * Who changes a rule wants to know what it will do, and the best guess is what it would have done.  A table of permits cannot
 * say: it has how they ended, not how they came to that.  Here each permit is a process with a log of what happened to it, and
 * a rule is a function; a new rule is tried on the old logs.
 *
 * Run it from the top of the repository, in any database that has the extension, as a superuser; it leaves nothing behind:
 *
 *     psql -aq -f examples/what_if/what_if.sql
 */

BEGIN;
SET LOCAL TimeZone = 'UTC';
SET LOCAL DateStyle = 'ISO';

-- Last year's rule: what an event makes of the state of a permit.  Up to 50 square metres are granted, more only with a
-- drawing.  The office has eight weeks, which is a timer; when they are over, the permit counts as granted.
CREATE FUNCTION permit(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    CASE event
        WHEN 'start' THEN
            RETURN '{}';
        WHEN 'application' THEN
            PERFORM wfproc.set_timer('eight weeks over', after => '56 days');
            RETURN payload;
        WHEN 'decision' THEN
            PERFORM wfproc.complete(CASE WHEN (state->>'area')::int <= 50 OR state ? 'drawing'
                                         THEN '"granted"' ELSE '"refused"' END::jsonb);
        WHEN 'eight weeks over' THEN
            PERFORM wfproc.complete('"granted"');
        WHEN 'withdrawal' THEN
            PERFORM wfproc.complete('"withdrawn"');
        ELSE                                    -- drawing, objection, hearing: it is noted that there was one
            RETURN state || jsonb_build_object(event, true);
    END CASE;
    RETURN state;
END $$;
SELECT wfproc.define('permit', 'permit');

-- Each row of this table becomes an event for the process of its case, with the row's own time as its stamp.  It is filled
-- with last year.  fake_now is what this session takes for the time, and run() handles all that is due by then: the processes
-- go through their year as if they had been there, timers included.
CREATE TABLE permit_log (case_id text NOT NULL, at timestamptz NOT NULL, event text NOT NULL, what text, area int);
CREATE TRIGGER permit_log_emit AFTER INSERT ON permit_log REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT
    EXECUTE FUNCTION wfproc.emit('id=case_id', 'event_column=event', 'at=at', 'payload=what,area', 'start=permit');
SET LOCAL wfproc.fake_now = '2026-01-15';
\copy permit_log FROM 'examples/what_if/permits_2025.csv' WITH (FORMAT csv, HEADER)
SELECT wfproc.run() AS handled;
SELECT result, count(*) FROM wfproc.instances WHERE workflow = 'permit' GROUP BY result ORDER BY result;

/*
 * The stricter rule, as version 2.  From 40 square metres on a drawing is asked for, and nothing is decided before it is there.
 * Where somebody has objected, there must have been a hearing.  And silence is not consent any more.
 */
CREATE FUNCTION permit_strict(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    CASE event
        WHEN 'start' THEN
            RETURN '{}';
        WHEN 'application' THEN
            PERFORM wfproc.set_timer('eight weeks over', after => '56 days');
            RETURN payload;
        WHEN 'decision' THEN
            IF (state->>'area')::int >= 40 AND NOT state ? 'drawing' THEN
                PERFORM wfproc.set_timer('eight weeks over', after => '56 days');
                RETURN state || '{"asked for a drawing": true}';
            END IF;
            PERFORM wfproc.complete(CASE WHEN state ? 'objection' AND NOT state ? 'hearing'
                                         THEN '"refused"' ELSE '"granted"' END::jsonb);
        WHEN 'eight weeks over' THEN
            PERFORM wfproc.complete('"refused"');
        WHEN 'withdrawal' THEN
            PERFORM wfproc.complete('"withdrawn"');
        ELSE
            RETURN state || jsonb_build_object(event, true);
    END CASE;
    RETURN state;
END $$;
SELECT wfproc.define('permit', 'permit_strict');

-- Which of last year's permits would have ended otherwise?  Each log is handled again by version 2, event by event, and
-- nothing is written or sent.  "running" would still be open at the end of what happened to them.
SELECT status, result, new_status, new_result, instances, example,
       CASE WHEN new_result IS DISTINCT FROM result THEN 'otherwise' ELSE '' END AS "?"
FROM wfproc.outcomes('permit', 2) ORDER BY result, new_result NULLS FIRST;

-- One by one: the first event at which the new rule leads elsewhere, and to what
SELECT c.id, p.what, p.area, i.result, c.first_seq AS seq, h.event,
       coalesce(c.new_actions->0->'result', c.new_state - 'what' - 'area') AS instead
FROM wfproc.check_version('permit', 2, 'history') c
JOIN wfproc.instances i USING (id)
JOIN permit_log p ON p.case_id = c.id AND p.event = 'application'
JOIN wfproc.history(c.id) h ON h.seq = c.first_seq
WHERE c.outcome <> 'same' ORDER BY c.id;

/*
 * What happened to them is last year's: people would have acted otherwise, too.  The garage p-02 would have been asked for a
 * drawing; had there been one, what then?  fork() begins a second life from the first two events of p-02; it is another
 * process, under the stricter rule, and goes another way.
 */
SELECT seq, at, event FROM wfproc.history('p-02');
SELECT wfproc.fork('p-02', seq => 2, new_id => 'p-02, with a drawing', paused => false) AS fork;
SELECT wfproc.upgrade('p-02, with a drawing', 2) > 0 AS upgraded;
SELECT count(wfproc.send('p-02, with a drawing', event, at => at::timestamptz)) AS sent
FROM (VALUES ('decision', '2025-02-20 11:00'), ('drawing', '2025-03-10'), ('decision', '2025-03-12')) AS e(event, at);
SELECT wfproc.run() AS handled;
SELECT seq, at, event, state - 'what' AS state FROM wfproc.replay('p-02, with a drawing');
SELECT id, status, result FROM wfproc.instances WHERE id LIKE 'p-02%' ORDER BY id;
-- p-02 itself is as it was
SELECT * FROM wfproc.verify('p-02');

ROLLBACK;
