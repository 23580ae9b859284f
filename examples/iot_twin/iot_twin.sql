/*
 * iot_twin.sql: the twin of a device: what it last said, and when it was offline, which is five minutes of silence.
 *
 * A device that is offline says nothing, so there is nothing to react to: somebody must notice that nothing came.  Here the
 * twin does.  It is a process whose events are the rows that are inserted into a table, and it sets a timer that fires
 * unless the next row comes first.  Since the timer goes by the stamps of the rows, and not by the time at which they are
 * loaded, an old log gives the same as the device gave when it spoke.
 *
 * Run it from the top of the repository, in any database that has the extension, as a superuser; it leaves nothing behind:
 *
 *     psql -aq -f examples/iot_twin/iot_twin.sql
 */

BEGIN;
SET LOCAL TimeZone = 'UTC';
SET LOCAL DateStyle = 'ISO';

-- A handler in SQL: it asks for something first, its last statement is the next state.  Each reading sets the timer anew.
-- until_state_changes => 'status' makes it the time-out of being online: a device that says that it is switched off is not
-- missed.  A reading that comes too late for its place (event_at(), its own stamp, is before the clock) is only counted.
CREATE FUNCTION twin(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT wfproc.set_timer('silence', after => '5 minutes', until_state_changes => 'status')
    WHERE event = 'reading' AND wfproc.event_at() = wfproc.now();

    SELECT CASE
        WHEN event = 'start' THEN '{"status": "new", "outages": [], "late": 0}'
        WHEN wfproc.event_at() < wfproc.now() THEN jsonb_set(state, '{late}', to_jsonb((state->>'late')::int + 1))
        WHEN event = 'silence' THEN state || jsonb_build_object('status', 'offline', 'since', wfproc.now())
        WHEN event = 'off' THEN state || '{"status": "off"}'
        WHEN state->>'status' = 'offline' THEN state - 'since' || payload || jsonb_build_object('status', 'online', 'outages',
            state->'outages' || jsonb_build_array(jsonb_build_array(state->'since', wfproc.now())))
        ELSE state || payload || '{"status": "online"}'
    END $$;

-- Unit tests: a reading of a device that was offline; the silence of one that was not.
SELECT new_state - 'outages' AS state, jsonb_array_length(new_state->'outages') AS outages, actions->0->>'name' AS timer
FROM wfproc.try_step('twin', '{"status": "offline", "since": "2026-06-01 10:00Z", "outages": []}', 'reading',
                     '{"celsius": 20}');
SELECT new_state->>'status' AS status, actions FROM wfproc.try_step('twin', '{"status": "online", "outages": []}', 'silence');

SELECT wfproc.define('twin', 'twin', accepts => '{reading,off}');

-- The table, and the trigger that makes each row an event for the twin of its device, with the row's time as its stamp.
-- The first row of a device starts its twin.
CREATE TABLE reading (device text NOT NULL, at timestamptz NOT NULL, event text NOT NULL, celsius numeric);
CREATE TRIGGER reading_emit AFTER INSERT ON reading REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT
    EXECUTE FUNCTION wfproc.emit('id=device', 'event_column=event', 'at=at', 'payload=celsius', 'start=twin');

/*
 * History, loaded late: an hour of June, in one go.  (fake_now is what this session takes for the time; run() handles here
 * and now what the workers would handle after COMMIT.)
 */
SET LOCAL wfproc.fake_now = '2026-07-01';
\copy reading FROM 'examples/iot_twin/readings.csv' WITH (FORMAT csv, HEADER)
SELECT count(*) AS readings FROM reading;
SELECT wfproc.run() AS handled;

CREATE VIEW twins AS
    SELECT i.id AS device, s.state->>'status' AS status, s.state->'celsius' AS celsius, s.state->'outages' AS outages,
           s.state->>'since' AS since, s.state->'late' AS late
    FROM wfproc.instances i, wfproc.state(i.id) AS s(state) WHERE i.workflow = 'twin';
SELECT device, status, celsius FROM twins ORDER BY device;
SELECT device, o->>0 AS offline_from, o->>1 AS upto FROM twins, jsonb_array_elements(outages) o ORDER BY device, o;

-- Five minutes sharp are not yet silence: at one time, what comes from outside goes before a timer.  And nothing was missed
-- while the roof was switched off.
SELECT seq, at, event FROM wfproc.history('cellar') WHERE at BETWEEN '2026-06-01 10:05' AND '2026-06-01 10:40' AND seq > 4;
SELECT seq, at, event FROM wfproc.history('roof') WHERE at BETWEEN '2026-06-01 10:20' AND '2026-06-01 10:42';

-- What plain SQL finds between the rows of the table: readings with more than five minutes to the next row.
SELECT device, at + '5 minutes' AS offline_from, next AS upto
FROM (SELECT device, at, event, lead(at) OVER (PARTITION BY device ORDER BY at) AS next FROM reading) r
WHERE event = 'reading' AND next - at > '5 minutes' ORDER BY device, at;

/*
 * The same hour, live: other twins, and a gateway that hands in every minute what it has.  set_config() is SET LOCAL for a
 * loop.
 */
DO $$
DECLARE
    minute timestamptz;
BEGIN
    FOR minute IN SELECT generate_series('2026-06-01 10:00'::timestamptz, '2026-06-01 11:10', '1 minute') LOOP
        PERFORM set_config('wfproc.fake_now', minute::text, true);
        INSERT INTO reading SELECT 'live/' || device, at, event, celsius FROM reading
            WHERE device NOT LIKE 'live/%' AND at > minute - interval '1 minute' AND at <= minute ORDER BY at;
        PERFORM wfproc.run();
    END LOOP;
END $$;
SET LOCAL wfproc.fake_now = '2026-07-01';
SELECT l.device, l.status, l.since, l.outages = h.outages AS same_outages
FROM twins l JOIN twins h ON l.device = 'live/' || h.device ORDER BY 1;

-- Are the logs the same?  The digest of a row stands for the state and the actions that its event led to.
SELECT device, count(*) AS events, count(*) FILTER (WHERE runs <> '{f,t}') AS differ
FROM (SELECT replace(id, 'live/', '') AS device, array_agg(id LIKE 'live/%' ORDER BY id LIKE 'live/%') AS runs
      FROM wfproc.instances i, wfproc.history(i.id) h WHERE workflow = 'twin'
      GROUP BY 1, seq, at, event, payload, replace(sender, 'live/', ''), digest) s
GROUP BY device ORDER BY device;

-- Each log leads to its state, and nobody has changed a row.
SELECT id, ok FROM wfproc.instances i, wfproc.verify(i.id) WHERE workflow = 'twin' ORDER BY id;

-- What if the barn had kept a reading back for a month, and the roof came to life again?  In a transaction that is rolled
-- back nothing of it has happened: neither rows nor events.
SELECT sha256 AS roof_before FROM wfproc.digest('roof') \gset
SELECT sha256 AS barn_before FROM wfproc.digest('barn') \gset
SAVEPOINT what_if;
INSERT INTO reading VALUES ('barn', '2026-06-01 10:30', 'reading', 9), ('roof', '2026-06-30 23:59', 'reading', 17);
SELECT wfproc.run() AS handled;
SELECT device, status, celsius, late, jsonb_array_length(outages) AS outages FROM twins
WHERE device IN ('barn', 'roof') ORDER BY device;
SELECT event, at, due FROM wfproc.agenda('roof');
ROLLBACK TO what_if;
SELECT r.sha256 = :'roof_before' AND b.sha256 = :'barn_before' AS nothing_has_changed,
       (SELECT count(*) FROM reading) AS readings
FROM wfproc.digest('roof') r, wfproc.digest('barn') b;

ROLLBACK;
