/*
 * approval.sql: a purchase that somebody has to approve: reminders, escalation, and two kinds of processes that talk.
 *
 * A program would keep a row with a status, and a nightly job would look for rows that are late.  Here each purchase is a
 * process with a life of its own: what happens to it is an event, its state is what the events so far have led to, and
 * it sets itself timers, which are events that come later.  Each manager is a process too, and gets the purchase as a
 * message.  Nothing looks for late rows: the process that is late wakes up.
 *
 * Run it in any database that has the extension, as a superuser; it leaves nothing behind:
 *
 *     psql -aq -f examples/approval/approval.sql
 */

BEGIN;
SET LOCAL TimeZone = 'UTC';
SET LOCAL DateStyle = 'ISO';

-- A handler is a function: from the state so far and an event to the next state.  It writes nothing itself; send() and
-- set_timer() note what is to be done when the step has ended well.
-- The input of a purchase is {"what", "managers": [the ids of those to be asked, one after the other]}; "desk" is whose
-- desk it is on.  Both timers last until_state_changes => 'desk': when it leaves the desk, for whatever reason, they are
-- cancelled, and no code has to think of that.
CREATE FUNCTION approval(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event IN ('approve', 'reject', 'ask') AND wfproc.sender() IS DISTINCT FROM state->>'desk' THEN
        PERFORM wfproc.reject('it is not on that desk');
        RETURN state;
    END IF;
    CASE event
        WHEN 'start' THEN
            state := payload || jsonb_build_object('desk', payload->'managers'->0, 'level', 0, 'reminders', 0);
        WHEN 'reminder' THEN
            PERFORM wfproc.send(state->>'desk', 'remind');
            PERFORM wfproc.set_timer('reminder', after => '2 days', until_state_changes => 'desk');
            RETURN state || jsonb_build_object('reminders', (state->>'reminders')::int + 1);
        WHEN 'escalation' THEN
            PERFORM wfproc.send(state->>'desk', 'withdraw');
            state := state || jsonb_build_object('level', (state->>'level')::int + 1);
            state := state || jsonb_build_object('desk', state->'managers'->(state->>'level')::int);
            IF state->>'desk' IS NULL THEN      -- nobody is left to be asked
                PERFORM wfproc.complete('{"decision": "lapsed"}');
                RETURN state;
            END IF;
        WHEN 'ask' THEN                         -- a question to who wants it: the manager's time does not run meanwhile
            RETURN state || jsonb_build_object('desk', 'applicant', 'question', payload->'text');
        WHEN 'answer' THEN
            state := state || payload || jsonb_build_object('desk', state->'managers'->(state->>'level')::int);
        WHEN 'approve', 'reject' THEN
            PERFORM wfproc.complete(jsonb_build_object('decision', event, 'by', wfproc.sender()));
            RETURN state || '{"desk": null}';
    END CASE;
    -- it has come to a desk: the message to the manager, and the two timers
    PERFORM wfproc.send(state->>'desk', 'request', jsonb_build_object('what', state->'what'));
    PERFORM wfproc.set_timer('reminder', after => '2 days', until_state_changes => 'desk');
    PERFORM wfproc.set_timer('escalation', after => '5 days', until_state_changes => 'desk');
    RETURN state;
END $$;

-- A manager: what is on the desk, by the id of the purchase, with the times that it was mentioned.  "request", "remind" and
-- "withdraw" come from purchases (sender() says from which); the rest is what the manager does, with the purchase's id.
CREATE FUNCTION manager(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    purchase text := coalesce(payload->>'id', wfproc.sender());
BEGIN
    IF event = 'start' THEN
        RETURN state;
    ELSIF event = 'withdraw' THEN
        RETURN state - purchase;
    ELSIF event = 'request' OR event = 'remind' THEN
        RETURN state || jsonb_build_object(purchase, coalesce((state->>purchase)::int, 0) + 1);
    ELSIF NOT state ? purchase THEN
        PERFORM wfproc.reject('there is nothing of that id on this desk');
        RETURN state;
    END IF;
    PERFORM wfproc.send(purchase, event, payload - 'id');
    RETURN state - purchase;
END $$;

-- Unit tests.  One step, of which nothing stays: the state that it leads to, and what it asks for.  fake_now is what this
-- session takes for the time: Monday morning.
SET LOCAL wfproc.fake_now = '2026-03-02 09:00';
SELECT a->>'action' AS action, coalesce(a->>'id', a->>'name') AS "id or timer", a->>'at' AS at, a->'payload' AS payload
FROM wfproc.try_step('approval', '{}', 'start', '{"what": "a kettle", "managers": ["ben", "cleo"]}'),
     jsonb_array_elements(actions) a;
SELECT * FROM wfproc.try_step('manager', '{"p-1": 2}', 'approve', '{"id": "p-1"}');
SELECT * FROM wfproc.try_step('manager', '{"p-1": 2}', 'approve', '{"id": "p-2"}');

-- From now on processes of these kinds can be started.  What comes from outside must be on the list; what processes send
-- to each other need not.
SELECT wfproc.define('approval', 'approval', accepts => '{answer}');
SELECT wfproc.define('manager', 'manager', accepts => '{approve,reject,ask}');

/*
 * Live, step by step.  run() handles what is due by the time that fake_now says; on a server in use the workers do that,
 * by the clock on the wall.
 */

-- Monday morning, still
SELECT wfproc.start('manager', 'live/ben'), wfproc.start('manager', 'live/cleo');
SELECT wfproc.start('approval', 'live/kettle', '{"what": "a kettle", "managers": ["live/ben", "live/cleo"]}');
SELECT wfproc.run() AS handled;
SELECT wfproc.state('live/ben') AS "Ben's desk";
SELECT at, event, timer FROM wfproc.agenda('live/kettle');

-- Thursday: Ben has been reminded, and asks something: the timers are gone
SET LOCAL wfproc.fake_now = '2026-03-05 10:00';
SELECT wfproc.run() AS handled;
SELECT wfproc.state('live/ben') AS "Ben's desk";
SELECT wfproc.send('live/ben', 'ask', '{"id": "live/kettle", "text": "How many cups?"}') > 0 AS sent;
SELECT wfproc.run() AS handled;
SELECT count(*) AS timers FROM wfproc.agenda('live/kettle');

-- Monday: the answer; Ben's five days begin anew
SET LOCAL wfproc.fake_now = '2026-03-09 08:00';
SELECT wfproc.send('live/kettle', 'answer', '{"answer": "eight"}') > 0 AS sent;
SELECT wfproc.run() AS handled;
SELECT at, event, timer FROM wfproc.agenda('live/kettle');

-- Sunday: he has let them pass; it is on Cleo's desk now
SET LOCAL wfproc.fake_now = '2026-03-15 12:00';
SELECT wfproc.run() AS handled;
SELECT wfproc.state('live/ben') AS "Ben's desk", wfproc.state('live/cleo') AS "Cleo's desk";

-- What if she said no?  A rollback takes all of it back: the message, the steps, their log.
SELECT seq AS seq_before, sha256 AS log_before FROM wfproc.digest('live/kettle') \gset
SAVEPOINT what_if;
SELECT wfproc.send('live/cleo', 'reject', '{"id": "live/kettle", "why": "we drink coffee"}') > 0 AS sent;
SELECT wfproc.run() AS handled;
SELECT status, result FROM wfproc.instances WHERE id = 'live/kettle';
ROLLBACK TO what_if;
SELECT status, seq = :seq_before AND sha256 = :'log_before' AS nothing_has_changed
FROM wfproc.instances i, wfproc.digest(i.id) WHERE id = 'live/kettle';

-- She says yes.  A second yes, by somebody who has not seen hers, is refused: a dead letter.
SELECT wfproc.send('live/cleo', 'approve', '{"id": "live/kettle"}') > 0 AS sent;
SELECT wfproc.send('live/ben', 'approve', '{"id": "live/kettle"}') > 0 AS sent;
SELECT wfproc.run() AS handled;
SELECT status, result FROM wfproc.instances WHERE id = 'live/kettle';
SELECT id, at, event, reason FROM wfproc.dead_letters WHERE workflow = 'manager';

/*
 * The same as a catch-up.  Weeks later somebody enters what has happened, each event with the time at which it did, and all
 * of it is handled in one go.  The timers fire in their places between the events, as they did live: each process has its
 * own clock, which is the stamp of what it handles, and processes that catch up together meet in the order of the stamps.
 */
SET LOCAL wfproc.fake_now = '2026-04-01';
SELECT wfproc.start('manager', id, at => '2026-03-02 09:00') FROM unnest('{late/ben,late/cleo}'::text[]) AS id;
SELECT wfproc.start('approval', 'late/kettle', '{"what": "a kettle", "managers": ["late/ben", "late/cleo"]}',
                    at => '2026-03-02 09:00');
SELECT count(wfproc.send(id, event, payload, at => at::timestamptz)) AS sent FROM (VALUES
    ('late/cleo', 'approve', '{"id": "late/kettle"}'::jsonb, '2026-03-15 12:00'),
    ('late/ben', 'approve', '{"id": "late/kettle"}', '2026-03-15 12:00'),
    ('late/kettle', 'answer', '{"answer": "eight"}', '2026-03-09 08:00'),
    ('late/ben', 'ask', '{"id": "late/kettle", "text": "How many cups?"}', '2026-03-05 10:00')) AS e(id, event, payload, at);
SELECT wfproc.run() AS handled;
SELECT seq, at, event, split_part(sender, '/', 2) AS sender, payload FROM wfproc.history('late/kettle') WHERE seq > 1;

-- Are the two the same?  All that says what happened is compared, without the part of the ids that tells the runs apart;
-- when it was recorded is left out.
CREATE VIEW story AS
    SELECT run, split_part(id, '/', 2) AS who, seq, r.at, r.event, split_part(sender, '/', 2) AS sender,
           replace(payload::text, run || '/', '') AS payload, replace(state::text, run || '/', '') AS state
    FROM (SELECT id, split_part(id, '/', 1) AS run FROM wfproc.instances WHERE workflow IN ('approval', 'manager')) i,
         wfproc.replay(i.id) r JOIN wfproc.history(i.id) h USING (seq);
SELECT who, count(*) AS events, count(*) FILTER (WHERE runs <> '{late,live}') AS differ
FROM (SELECT who, array_agg(run ORDER BY run) AS runs FROM story
      GROUP BY who, seq, at, event, sender, payload, state) s
GROUP BY who ORDER BY who;

-- A log can be checked at any time: the handler is called for each event again, and must come to the same.
SELECT count(*) AS logs, bool_and(ok) AS all_ok FROM wfproc.instances i, wfproc.verify(i.id)
WHERE workflow IN ('approval', 'manager');

ROLLBACK;
