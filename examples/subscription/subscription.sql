/*
 * subscription.sql: a magazine that is paid for monthly: three years of it, replayed in one go.
 *
 * A process has a clock of its own: the time of the latest event that it has handled.  A process that is started today
 * for a subscription of three years ago has a clock that is three years behind, and its timers go by that: they fire in
 * their places in the past, one after the other, until it has caught up.  From then on it lives.  There is no code for
 * "import" and none for "catch up": it is the same handler.
 *
 * Run it in any database that has the extension, as a superuser; it leaves nothing behind:
 *
 *     psql -aq -f examples/subscription/subscription.sql
 */

BEGIN;
SET LOCAL TimeZone = 'UTC';
SET LOCAL DateStyle = 'ISO';

-- A subscription has a timer for the next renewal.  It is paid by a card, which is a process too: the answer, "paid" or
-- "declined", is an event that comes back.  A charge that was declined is tried again by a timer, after three days.
-- The n-th renewal is counted from the first day, so that the 31st stays the 31st where there is one.
CREATE FUNCTION subscription(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    months int;
BEGIN
    CASE event
        WHEN 'start' THEN
            PERFORM wfproc.set_timer('renewal', at => wfproc.now());
            RETURN payload || jsonb_build_object('since', wfproc.now(), 'months', 0, 'declined', 0, 'paid', '[]'::jsonb);
        WHEN 'renewal' THEN
            months := (state->>'months')::int + 1;
            PERFORM wfproc.send(state->>'card', 'charge', '{"euro": 9}');
            PERFORM wfproc.set_timer('renewal', at => (state->>'since')::timestamptz + make_interval(months => months));
            RETURN state || jsonb_build_object('months', months, 'declined', 0);
        WHEN 'paid' THEN
            RETURN jsonb_set(state, '{paid}', state->'paid' || to_jsonb(wfproc.event_at()::date)) || '{"declined": 0}';
        WHEN 'declined' THEN
            IF (state->>'declined')::int = 2 THEN
                PERFORM wfproc.fail('the card was declined three times');
            ELSE
                PERFORM wfproc.set_timer('retry', after => '3 days');
            END IF;
            RETURN state || jsonb_build_object('declined', (state->>'declined')::int + 1);
        WHEN 'retry' THEN
            PERFORM wfproc.send(state->>'card', 'charge', '{"euro": 9}');
            RETURN state;
        WHEN 'unsubscribe' THEN
            -- event_at() is when that was said; the clock, now(), may have gone on since, where it is heard of late:
            -- what was paid in between is given back
            PERFORM wfproc.cancel_timer('renewal');
            PERFORM wfproc.cancel_timer('retry');
            RETURN state || jsonb_build_object('back', (
                SELECT 9 * count(*) FROM jsonb_array_elements_text(state->'paid') d WHERE d::date > wfproc.event_at()::date));
        WHEN 'resubscribe' THEN
            PERFORM wfproc.set_timer('renewal', at => wfproc.now());
            RETURN state || jsonb_build_object('since', wfproc.now(), 'months', 0);
    END CASE;
END $$;

-- A card, which can be blocked.
CREATE FUNCTION card(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event = 'charge' THEN
        PERFORM wfproc.send(wfproc.sender(), CASE WHEN (state->>'blocked')::bool THEN 'declined' ELSE 'paid' END, payload);
        RETURN state;
    END IF;
    RETURN jsonb_build_object('blocked', event = 'blocked');
END $$;

-- Unit tests: the 31st of January, a month later; and the third time that the card was declined.
SELECT a->>'action' AS action, a->>'name' AS name, a->>'at' AS at
FROM wfproc.try_step('subscription', '{"card": "c", "since": "2023-01-31 09:00Z", "months": 0}', 'renewal'),
     jsonb_array_elements(actions) a;
SELECT * FROM wfproc.try_step('subscription', '{"declined": 2}', 'declined');

SELECT wfproc.define('subscription', 'subscription', accepts => '{unsubscribe,resubscribe}');
SELECT wfproc.define('card', 'card', accepts => '{blocked,unblocked}');

/*
 * Three years in one go.  Today is the 31st of January, 2026; the subscription began on the 31st of January, 2023.  All that
 * came from outside is sent, in no order, with the time at which it happened; the renewals come by themselves.
 */
SET LOCAL wfproc.fake_now = '2026-01-31 12:00';
SELECT wfproc.start('card', 'late/card', at => '2023-01-01');
SELECT wfproc.start('subscription', 'late/ada', '{"card": "late/card"}', at => '2023-01-31 09:00');
CREATE TABLE outside (at timestamptz, who text, event text);
INSERT INTO outside VALUES
    ('2024-09-10 18:00', 'ada', 'resubscribe'),
    ('2024-05-20 20:15', 'ada', 'unsubscribe'),
    ('2023-08-25 07:00', 'card', 'blocked'),
    ('2023-09-05 10:00', 'card', 'unblocked');
SELECT count(wfproc.send('late/' || who, event, at => at)) AS sent FROM outside;
SELECT wfproc.run() AS handled;

-- the renewals are where they belong: the last day of short months, none in the pause
SELECT extract(year FROM at) AS year, string_agg(to_char(at, 'DD.MM.'), ' ' ORDER BY at) AS renewals
FROM wfproc.history('late/ada') WHERE event = 'renewal' GROUP BY 1 ORDER BY 1;
-- the card was blocked in August: declined, tried again twice
SELECT seq, at, event, split_part(sender, '/', 2) AS sender FROM wfproc.history('late/ada')
WHERE at BETWEEN '2023-08-31' AND '2023-09-30 12:00';
-- where it is now, and what comes next
SELECT state - 'paid' AS state, jsonb_array_length(state->'paid') AS paid FROM wfproc.state('late/ada') AS s(state);
SELECT at, event, timer FROM wfproc.agenda('late/ada');
-- ten days later it has: by the same handler.  "live" tells history from life: it is true from the time on at which start()
-- was called, so that a letter to the customer, say, would not be sent for what is long past.
SET LOCAL wfproc.fake_now = '2026-02-10 18:00';
SELECT wfproc.run() AS handled;
SELECT live, count(*), max(at) AS upto FROM wfproc.history('late/ada') GROUP BY live ORDER BY live;

/*
 * The same, lived through: three years, each time that something is due.  set_config() is SET LOCAL for a loop.
 */
SET LOCAL wfproc.fake_now = '2023-01-01';
SELECT wfproc.start('card', 'live/card');
SET LOCAL wfproc.fake_now = '2023-01-31 09:00';
SELECT wfproc.start('subscription', 'live/ada', '{"card": "live/card"}');
SELECT wfproc.run() AS handled;
DO $$
DECLARE
    day timestamptz := '2023-01-31 09:00';
BEGIN
    LOOP
        SELECT min(at) INTO day
        FROM (SELECT at FROM outside UNION ALL SELECT at FROM wfproc.agenda('live/ada')) e WHERE at > day;
        EXIT WHEN day IS NULL OR day > '2026-02-10 18:00';
        PERFORM set_config('wfproc.fake_now', day::text, true);
        PERFORM wfproc.send('live/' || who, event) FROM outside WHERE at = day;
        PERFORM wfproc.run();
    END LOOP;
END $$;
-- Is it the same?  All that says what happened is compared, without the part of the ids that tells the runs apart.
CREATE VIEW story AS
    SELECT run, split_part(id, '/', 2) AS who, seq, r.at, r.event, split_part(sender, '/', 2) AS sender,
           replace(payload::text, run || '/', '') AS payload, replace(state::text, run || '/', '') AS state
    FROM (SELECT id, split_part(id, '/', 1) AS run FROM wfproc.instances WHERE workflow IN ('subscription', 'card')) i,
         wfproc.replay(i.id) r JOIN wfproc.history(i.id) h USING (seq);
SELECT who, count(*) AS events, count(*) FILTER (WHERE runs <> '{late,live}') AS differ
FROM (SELECT who, array_agg(run ORDER BY run) AS runs FROM story
      GROUP BY who, seq, at, event, sender, payload, state) s
GROUP BY who ORDER BY who;

-- Each log leads to its state, and nobody has changed a row.
SELECT count(*) AS logs, bool_and(ok) AS all_ok FROM wfproc.instances i, wfproc.verify(i.id)
WHERE workflow IN ('subscription', 'card');

-- What if a letter turns up that she had unsubscribed in November?  It is too late for its place in the log: it is handled
-- now, and keeps its date.  Three months are given back.  And all of that in a transaction that is rolled back.
SELECT sha256 AS log_before FROM wfproc.digest('late/ada') \gset
SAVEPOINT what_if;
SELECT wfproc.send('late/ada', 'unsubscribe', at => '2025-11-20') > 0 AS sent;
SELECT wfproc.run() AS handled;
SELECT at, event FROM wfproc.history('late/ada') ORDER BY seq DESC LIMIT 3;
SELECT wfproc.state('late/ada')->'back' AS euro_back, count(*) AS timers FROM wfproc.agenda('late/ada');
ROLLBACK TO what_if;
SELECT sha256 = :'log_before' AS nothing_has_changed, (SELECT count(*) FROM wfproc.agenda('late/ada')) AS timers
FROM wfproc.digest('late/ada');

ROLLBACK;
