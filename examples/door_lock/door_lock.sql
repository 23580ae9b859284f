/*
 * door_lock.sql: the lock of a door, and the test of an evening, which leaves nothing behind.
 *
 * Run it in any database that has the extension, as a superuser:
 *
 *     psql -aq -f examples/door_lock/door_lock.sql
 */

BEGIN;
SET LOCAL TimeZone = 'UTC';
SET LOCAL DateStyle = 'ISO';

-- the workflow, in ten lines
CREATE FUNCTION door_lock(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT CASE event
        WHEN 'start' THEN '{"locked": true, "opened": 0}'
        WHEN 'unlock' THEN state || jsonb_build_object('locked', false, 'by', payload->'by')
        WHEN 'lock' THEN state || '{"locked": true}'
        WHEN 'open' THEN CASE WHEN (state->>'locked')::bool THEN state
                              ELSE state || jsonb_build_object('opened', (state->>'opened')::int + 1) END
        ELSE state
    END $$;
SELECT wfproc.define('door_lock', 'door_lock', accepts => '{unlock,lock,open}');

-- its unit test: one step, nothing written
SELECT * FROM wfproc.try_step('door_lock', '{"locked": true, "opened": 0}', 'unlock', '{"by": "Ada"}');
SELECT * FROM wfproc.try_step('door_lock', '{"locked": true, "opened": 0}', 'open');

-- the test of a whole evening: the clock is ours
SET LOCAL wfproc.fake_now = '2024-05-01 18:00';
SELECT wfproc.start('door_lock', 'test-door');
SELECT count(wfproc.send('test-door', event, payload, at => at::timestamptz)) AS sent FROM (VALUES
    ('unlock', '{"by": "Ada"}'::jsonb, '2024-05-01 18:10'),
    ('lock', '{"by": "clock"}', '2024-05-01 18:40'),        -- in the future: it waits on the agenda
    ('open', '{}', '2024-05-01 18:15'),
    ('open', '{}', '2024-05-01 19:00')) AS evening(event, payload, at);

-- at six nothing has happened but the start
SELECT wfproc.run() AS handled;
SELECT at, event, due FROM wfproc.agenda('test-door');

-- at half past six the door is open
SET LOCAL wfproc.fake_now = '2024-05-01 18:30';
SELECT wfproc.run() AS handled;
SELECT wfproc.state('test-door');

-- at eight it is locked again, and was opened once
SET LOCAL wfproc.fake_now = '2024-05-01 20:00';
SELECT wfproc.run() AS handled;
SELECT wfproc.state('test-door') = '{"locked": true, "opened": 1, "by": "Ada"}' AS as_expected;
SELECT seq, at, event, state FROM wfproc.replay('test-door');
SELECT * FROM wfproc.verify('test-door');

ROLLBACK;
