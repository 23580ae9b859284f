/*
 * lock_fleet.sql: a thousand door locks, and a supervisor that replaces those that break.
 *
 * A process that is started by another one is its child.  When a child ends, whatever the reason, its parent gets an event
 * that says so: child.completed, child.failed, ...  So there need not be a thousand handlers that can cope with everything:
 * a lock that cannot go on just fails, and one supervisor knows what is to be done then: start a new one in its place, and
 * where that does not help, call somebody.
 *
 * Run it in any database that has the extension, as a superuser; it leaves nothing behind:
 *
 *     psql -aq -f examples/lock_fleet/lock_fleet.sql
 */

BEGIN;
SET LOCAL TimeZone = 'UTC';
SET LOCAL DateStyle = 'ISO';

-- A lock.  It fails in two ways: it says so itself, or it raises an error, as with a PIN that is no number.
CREATE FUNCTION lock(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    CASE event
        WHEN 'start' THEN
            RETURN payload || '{"locked": true}';
        WHEN 'unlock', 'lock' THEN
            RETURN state || jsonb_build_object('locked', event = 'lock');
        WHEN 'pin' THEN
            RETURN state || jsonb_build_object('pin', (payload->>'pin')::int);
        WHEN 'jam' THEN
            PERFORM wfproc.fail('the bolt is stuck');
            RETURN state;
    END CASE;
END $$;

-- The supervisor.  The lock of door 17 is <fleet>.17.1, the one that replaces it <fleet>.17.2 and so on: only doors that
-- are not at their first lock are in its state.  A door gets three locks; then the caretaker is called.
-- "door" passes an event on to the lock of a door, "all" to all of them.
CREATE FUNCTION fleet(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    door text;
    n int;                      -- the number of the door's lock; NULL where it has none that works
BEGIN
    CASE event
        WHEN 'start' THEN
            FOR i IN 1 .. (payload->>'doors')::int LOOP
                PERFORM wfproc.start('lock', format('%s.%s.1', wfproc.self(), i), jsonb_build_object('door', i),
                                     on_parent_close => 'terminate');
            END LOOP;
            RETURN payload || '{"replaced": {}, "out_of_order": []}';
        WHEN 'door', 'all' THEN
            FOR door IN SELECT i FROM generate_series(1, (state->>'doors')::int) i
                        WHERE event = 'all' OR i = (payload->>'door')::int LOOP
                n := coalesce((state->'replaced'->>door)::int, 1);
                IF NOT state->'out_of_order' ? door THEN
                    PERFORM wfproc.send(format('%s.%s.%s', wfproc.self(), door, n), payload->>'event', payload->'with');
                END IF;
            END LOOP;
            RETURN state;
        WHEN 'child.failed' THEN
            door := split_part(payload->>'id', '.', 2);
            n := split_part(payload->>'id', '.', 3)::int + 1;
            IF n > 3 THEN
                PERFORM wfproc.send(state->>'caretaker', 'call', jsonb_build_object('door', door, 'error', payload->'error'));
                RETURN jsonb_set(state, '{out_of_order}', state->'out_of_order' || to_jsonb(door));
            END IF;
            PERFORM wfproc.start('lock', format('%s.%s.%s', wfproc.self(), door, n), jsonb_build_object('door', door::int),
                                 on_parent_close => 'terminate');
            RETURN jsonb_set(state, ARRAY['replaced', door], to_jsonb(n));
        WHEN 'demolish' THEN
            PERFORM wfproc.complete();
            RETURN state;
        ELSE                    -- other ends of children
            RETURN state;
    END CASE;
END $$;

CREATE FUNCTION caretaker(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    RETURN CASE event WHEN 'call' THEN state || jsonb_build_object(payload->>'door', payload->'error') ELSE state END;
END $$;

-- Unit tests: the second lock of door 7 has failed; the third.
SELECT * FROM wfproc.try_step('fleet', '{"replaced": {"7": 2}, "out_of_order": []}', 'child.failed',
                              '{"id": "house.7.2", "error": "the bolt is stuck"}');
SELECT * FROM wfproc.try_step('fleet', '{"replaced": {"7": 3}, "out_of_order": [], "caretaker": "joe"}', 'child.failed',
                              '{"id": "house.7.3", "error": "the bolt is stuck"}');

-- a lock gets one attempt at an event; then it has failed
SELECT wfproc.define('lock', 'lock', accepts => '{}', max_attempts => 1, on_failure => 'fail');
SELECT wfproc.define('fleet', 'fleet', accepts => '{door,all,demolish}');
SELECT wfproc.define('caretaker', 'caretaker', accepts => '{}');

-- what happens to the house from outside
CREATE TABLE outside (at timestamptz, event text, payload jsonb);
INSERT INTO outside VALUES
    ('2026-05-04 08:00', 'all', '{"event": "unlock"}'),
    ('2026-05-04 09:00', 'door', '{"door": 17, "event": "jam"}'),
    ('2026-05-04 10:00', 'door', '{"door": 17, "event": "jam"}'),
    ('2026-05-04 10:00', 'door', '{"door": 400, "event": "jam"}'),
    ('2026-05-04 11:00', 'door', '{"door": 5, "event": "pin", "with": {"pin": "12x4"}}'),
    ('2026-05-04 11:30', 'door', '{"door": 5, "event": "pin", "with": {"pin": "1234"}}'),
    ('2026-05-04 12:00', 'door', '{"door": 17, "event": "jam"}'),
    ('2026-05-04 13:00', 'door', '{"door": 17, "event": "jam"}'),
    ('2026-05-04 18:00', 'all', '{"event": "lock"}');

/*
 * Live: fake_now is what this session takes for the time, run() handles what is due by then.
 */
SET LOCAL wfproc.fake_now = '2026-05-04 07:00';
SELECT wfproc.start('caretaker', 'live/joe');
SELECT wfproc.start('fleet', 'live/house', '{"doors": 1000, "caretaker": "live/joe"}');
SELECT wfproc.run() AS handled;
SELECT count(*) AS locks, count(DISTINCT parent) AS parents FROM wfproc.instances WHERE workflow = 'lock' AND id LIKE 'live/%';

-- The day, hour by hour.  set_config() is SET LOCAL for a loop.
DO $$
DECLARE
    hour timestamptz;
BEGIN
    FOR hour IN SELECT DISTINCT at FROM outside ORDER BY at LOOP
        PERFORM set_config('wfproc.fake_now', hour::text, true);
        PERFORM wfproc.send('live/house', event, payload) FROM (SELECT * FROM outside WHERE at = hour ORDER BY payload) o;
        PERFORM wfproc.run();
    END LOOP;
END $$;
SELECT wfproc.state('live/house');
SELECT wfproc.state('live/joe') AS called;
SELECT status, error, count(*) FROM wfproc.instances WHERE workflow = 'lock' GROUP BY 1, 2 ORDER BY 1, 2;
-- in the evening they are locked, those that were put in during the day too
SELECT state->'locked' AS locked, count(*) FROM wfproc.instances i, wfproc.state(i.id) s(state)
WHERE workflow = 'lock' AND status = 'running' GROUP BY 1;
SELECT seq, at, event, payload->>'id' AS child, payload->>'error' AS error FROM wfproc.history('live/house')
WHERE event LIKE 'child.%';

-- What if the house were pulled down?  Its locks go with it: on_parent_close.  Tried, and taken back.
SELECT sha256 AS log_before FROM wfproc.digest('live/house') \gset
SAVEPOINT what_if;
SELECT wfproc.send('live/house', 'demolish') > 0 AS sent;
SELECT wfproc.run() AS handled;
SELECT workflow, status, count(*) FROM wfproc.instances
WHERE workflow IN ('lock', 'fleet', 'caretaker') GROUP BY 1, 2 ORDER BY 1, 2;
ROLLBACK TO what_if;
SELECT workflow, status, count(*) FROM wfproc.instances
WHERE workflow IN ('lock', 'fleet', 'caretaker') GROUP BY 1, 2 ORDER BY 1, 2;
SELECT sha256 = :'log_before' AS nothing_has_changed FROM wfproc.digest('live/house');

/*
 * The day again, another house, all in one go on the day after.  The locks that break do so in their places, and are
 * replaced in their places: the second "jam" of door 17 meets its second lock, and the caretaker is called at the time.
 */
SET LOCAL wfproc.fake_now = '2026-05-05 09:00';
SELECT wfproc.start('caretaker', 'late/joe', at => '2026-05-04 07:00');
SELECT wfproc.start('fleet', 'late/house', '{"doors": 1000, "caretaker": "late/joe"}', at => '2026-05-04 07:00');
SELECT count(wfproc.send('late/house', event, payload, at => at)) AS sent
FROM (SELECT * FROM outside ORDER BY at, payload) o;
SELECT wfproc.run() AS handled;

-- The same?  All that says what happened is compared, without the part of the ids that tells the runs apart.
CREATE VIEW story AS
    SELECT workflow, run, split_part(id, '/', 2) AS who, seq, r.at, r.event, split_part(sender, '/', 2) AS sender,
           replace(payload::text, run || '/', '') AS payload, replace(state::text, run || '/', '') AS state
    FROM (SELECT workflow, id, split_part(id, '/', 1) AS run FROM wfproc.instances
          WHERE workflow IN ('lock', 'fleet', 'caretaker')) i,
         wfproc.replay(i.id) r JOIN wfproc.history(i.id) h USING (seq);
SELECT workflow, count(DISTINCT who) AS processes, count(*) AS events, count(*) FILTER (WHERE runs <> '{late,live}') AS differ
FROM (SELECT workflow, who, array_agg(run ORDER BY run) AS runs FROM story
      GROUP BY workflow, who, seq, at, event, sender, payload, state) s
GROUP BY workflow ORDER BY workflow;

-- Each log leads to its state, and nobody has changed a row.
SELECT workflow, count(*) AS logs, bool_and(ok) AS all_ok FROM wfproc.instances i, wfproc.verify(i.id)
WHERE workflow IN ('lock', 'fleet', 'caretaker') GROUP BY workflow ORDER BY workflow;

ROLLBACK;
