-- what handlers ask for and what is asked of them from outside: every action and every control verb, carried out
\set QUIET on
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';
SET IntervalStyle = 'postgres';

CREATE SCHEMA actions_test;
SET search_path = actions_test;

-- runs a statement; its result, or its SQLSTATE, message and hint
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

-- moves the clock of this transaction
CREATE FUNCTION clock_to(at timestamptz) RETURNS void LANGUAGE sql AS $$
    SELECT set_config('wfproc.fake_now', at::text, true)
$$;

-- one line about an instance
CREATE FUNCTION about(id text) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(', ', i.id, i.status, 'attempts ' || NULLIF(i.attempts, 0), 'waiting ' || NULLIF(i.waiting, 0),
                     'retry at ' || i.retry_at, 'parent ' || i.parent, 'attributes ' || NULLIF(i.attributes, '{}')::text,
                     CASE WHEN i.cancelling THEN 'cancelling' END, 'closed at ' || i.closed_at, 'result ' || i.result::text,
                     i.error)
    FROM wfproc.instances i WHERE i.id = about.id
$$;

-- a payload without what it tells its receiver to do, and without what differs from run to run
CREATE FUNCTION bare(payload jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT CASE WHEN jsonb_typeof(payload) <> 'object' THEN payload
           ELSE payload - '{do,mail_id}'::text[] || CASE WHEN payload ->> 'by' = session_user THEN '{"by": "me"}' ELSE '{}' END::jsonb END
$$;

-- its log
CREATE FUNCTION log_of(id text) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT concat_ws(' ', seq, event, 'at', at, bare(payload), 'from ' || sender, 'key ' || idempotency_key, 'reply ' || reply::text,
                     CASE WHEN NOT live THEN 'not live' END)
    FROM wfproc.history(id) ORDER BY seq
$$;

-- its mailbox
CREATE FUNCTION agenda_of(id text) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT concat_ws(' ', event, 'at', at, bare(payload), 'from ' || sender, CASE WHEN timer THEN 'timer' END,
                     CASE WHEN postponed THEN 'postponed' END, CASE WHEN due THEN 'due' END)
    FROM wfproc.agenda(id)
$$;

CREATE FUNCTION dead() RETURNS SETOF text LANGUAGE sql AS $$
    SELECT concat_ws(' ', workflow, id, event, 'at', at, bare(payload), 'from ' || sender, '|', reason) FROM wfproc.dead_letters
    WHERE workflow LIKE 'act%' ORDER BY mail_id
$$;

-- whether all logs hold, whatever their instances have come to: no divergence, no faulty chain, numbers without a gap
CREATE FUNCTION sound() RETURNS bool LANGUAGE sql AS $$
    SELECT bool_and((wfproc.verify(i.id)).ok AND NOT EXISTS (SELECT FROM wfproc.replay(i.id) WHERE diverged))
           AND NOT EXISTS (SELECT FROM wfproc.event e GROUP BY e.instance_id HAVING count(*) <> max(seq))
    FROM wfproc.instances i WHERE i.workflow LIKE 'act%'
$$;

-- all leave memory, with a snapshot
CREATE FUNCTION put_away() RETURNS bool LANGUAGE sql AS $$
    SELECT bool_and(wfproc.passivate(id)) AND wfproc.run() = 0 FROM wfproc.instances
    WHERE workflow LIKE 'act%' AND status IN ('running', 'paused')
$$;

-- one action, as an event's payload says it
CREATE FUNCTION do_one(d jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    who text := COALESCE(d ->> 'send', d ->> 'cancel', d ->> 'terminate', d ->> 'monitor', d ->> 'demonitor');
BEGIN
    who := CASE who WHEN '$self' THEN wfproc.self() WHEN '$parent' THEN wfproc.parent() WHEN '$sender' THEN wfproc.sender()
           ELSE who END;
    CASE (SELECT k FROM jsonb_object_keys(d) k
          WHERE k = ANY ('{send,start,timer,cancel_timer,set_attributes,reply,monitor,demonitor,cancel,terminate,defer_cancel,complete,fail,reject,postpone,raise}'))
        WHEN 'send' THEN
            PERFORM wfproc.send(who, d ->> 'event', d -> 'payload', (d ->> 'at')::timestamptz, d ->> 'key', d ->> 'or_start');
        WHEN 'start' THEN
            IF d ? 'id' THEN
                PERFORM wfproc.start(d ->> 'start', d ->> 'id', d -> 'input', (d ->> 'at')::timestamptz, (d ->> 'version')::int,
                                     d -> 'attributes', (d ->> 'live_from')::timestamptz, COALESCE(d ->> 'if_exists', 'error'),
                                     COALESCE(d ->> 'on_parent_close', 'leave'));
            ELSE
                PERFORM wfproc.start(d ->> 'start');
            END IF;
        WHEN 'timer' THEN
            PERFORM wfproc.set_timer(d ->> 'timer', (d ->> 'after')::interval, (d ->> 'at')::timestamptz, d -> 'payload',
                                     d ->> 'until');
        WHEN 'cancel_timer' THEN PERFORM wfproc.cancel_timer(d ->> 'cancel_timer');
        WHEN 'set_attributes' THEN PERFORM wfproc.set_attributes(d -> 'set_attributes');
        WHEN 'reply' THEN PERFORM wfproc.reply(d -> 'reply');
        WHEN 'monitor' THEN PERFORM wfproc.monitor(who);
        WHEN 'demonitor' THEN PERFORM wfproc.demonitor(who);
        WHEN 'cancel' THEN PERFORM wfproc.cancel(who, d ->> 'reason', (d ->> 'deadline')::interval);
        WHEN 'terminate' THEN PERFORM wfproc.terminate(who, d ->> 'reason');
        WHEN 'defer_cancel' THEN PERFORM wfproc.defer_cancel((d ->> 'deadline')::interval);
        WHEN 'complete' THEN PERFORM wfproc.complete(NULLIF(d -> 'complete', 'null'));
        WHEN 'fail' THEN PERFORM wfproc.fail(d ->> 'fail');
        WHEN 'reject' THEN PERFORM wfproc.reject(d ->> 'reject');
        WHEN 'postpone' THEN PERFORM wfproc.postpone();
        WHEN 'raise' THEN RAISE EXCEPTION '%', d ->> 'raise';
    END CASE;
END $$;

-- does what its events tell it to: "do" holds actions, "set" changes the state; an action in "undo" is asked for in a block
-- that is then rolled back, one in "try" in a block that takes its error; "unless": what the state must have, else postpone().
-- What it is to do when it is cancelled is in its state.
CREATE FUNCTION act(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    d jsonb;
    caught jsonb := '[]';
BEGIN
    IF payload ? 'unless' AND NOT state @> (payload -> 'unless') THEN
        PERFORM wfproc.postpone();
        RETURN state;
    END IF;
    FOR d IN SELECT jsonb_array_elements(CASE WHEN event = 'cancel' THEN state -> 'on_cancel' ELSE payload -> 'do' END) LOOP
        IF d ? 'try' THEN
            BEGIN
                PERFORM do_one(d -> 'try');
            EXCEPTION WHEN OTHERS THEN
                caught := caught || to_jsonb(SQLSTATE || ': ' || SQLERRM);
            END;
        ELSIF d ? 'undo' THEN
            BEGIN
                PERFORM do_one(e) FROM jsonb_array_elements(d -> 'undo') e;
                RAISE EXCEPTION USING ERRCODE = 'ZZ001';
            EXCEPTION WHEN SQLSTATE 'ZZ001' THEN
                NULL;
            END;
        ELSE
            PERFORM do_one(d);
        END IF;
    END LOOP;
    IF caught <> '[]' THEN
        state := state || jsonb_build_object('caught', caught);
    END IF;
    RETURN state || COALESCE(payload -> 'set', '{}');
END $$;
SELECT wfproc.define('act', 'act', max_attempts => 3, retry_delay => '10 s');
-- owns workflows as well
CREATE ROLE actions_other;
GRANT USAGE, CREATE ON SCHEMA actions_test TO actions_other;
SELECT wfproc.grant_usage('actions_other');

\echo '--- send(): a chain, to itself, to the sender; each message is stamped with its sender''s clock'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('act', 'a'), wfproc.start('act', 'b'), wfproc.start('act', 'c');
SELECT wfproc.run();
SELECT clock_to('2030-01-01 12:00+00');
SELECT wfproc.send('a', 'go', '{"do": [{"send": "b", "event": "hop", "payload": {"n": 1, "do": [
    {"send": "c", "event": "hop", "payload": {"n": 2, "do": [{"send": "$sender", "event": "back"}]}}]}},
    {"send": "$self", "event": "to myself"}]}', '2030-01-01 06:00+00') > 0;
SELECT wfproc.run();
SELECT log_of('a');
SELECT log_of('b');
SELECT log_of('c');
\echo 'what the chain was: actions of each step, in their order'
SELECT seq, jsonb_path_query_array(actions, '$[*].event') FROM wfproc.replay('a');
SELECT actions FROM wfproc.replay('c') WHERE seq = 2;
\echo 'an event that came late: its message has the clock of the sender, not the old stamp'
SELECT wfproc.send('a', 'late', '{"do": [{"send": "b", "event": "of late"}]}', '2030-01-01 01:00+00') > 0;
SELECT wfproc.run();
SELECT log_of('b') OFFSET 3;
\echo 'a stamp of its own: in the future it waits, in the past it is handled next'
SELECT wfproc.send('a', 'go', '{"do": [{"send": "b", "event": "tomorrow", "at": "2030-01-02 00:00+00"},
    {"send": "b", "event": "yesterday", "at": "2029-12-31 00:00+00", "payload": null}]}') > 0;
SELECT wfproc.run();
SELECT log_of('b') OFFSET 4;
SELECT agenda_of('b');
SELECT put_away();
SELECT clock_to('2030-01-02 00:00+00');
SELECT wfproc.run();
SELECT log_of('b') OFFSET 5;
SELECT sound();
ROLLBACK;

\echo '--- of one stamp: what comes from outside first, then what processes sent, in the order of sending'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('act', 'a'), wfproc.start('act', 'b');
SELECT wfproc.send('a', 'go', '{"do": [{"send": "b", "event": "first of a"}, {"send": "b", "event": "second of a"}]}') > 0;
SELECT wfproc.send('b', 'go', '{"do": [{"timer": "timer", "after": "0"}, {"send": "b", "event": "of b"}]}') > 0;
SELECT wfproc.send('b', 'from outside') > 0;
SELECT wfproc.run();
SELECT log_of('b');
SELECT sound();
ROLLBACK;

\echo '--- send() with a key: once, however often it is asked for; another event under it is a dead letter'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('act', 'a'), wfproc.start('act', 'b');
SELECT wfproc.send('a', 'go', '{"do": [{"send": "b", "event": "e", "key": "k"}, {"send": "b", "event": "e", "key": "k"},
    {"send": "b", "event": "other", "key": "k"}, {"send": "$self", "event": "e", "key": "k"}]}') > 0;
SELECT wfproc.run();
SELECT wfproc.send('a', 'again', '{"do": [{"send": "b", "event": "e", "key": "k"}]}') > 0;
SELECT wfproc.run();
SELECT log_of('a');
SELECT log_of('b');
SELECT dead();
\echo 'the same key from outside is the same event'
SELECT wfproc.send('b', 'e', idempotency_key => 'k') = mail_id FROM wfproc.history('b') WHERE event = 'e';
SELECT regexp_replace(t, 'mail_id \d+', 'mail_id N') FROM try($$ SELECT wfproc.send('b', 'e', '{"other": 1}', idempotency_key => 'k') > 0 $$) t;
SELECT wfproc.run();
\echo 'with a stamp it is another event, even with the stamp that it would have had'
SELECT wfproc.send('a', 'stamp', '{"do": [{"send": "b", "event": "e", "key": "s"}, {"send": "b", "event": "e", "key": "s", "at": "2030-01-01 00:00+00"}]}') > 0;
SELECT wfproc.run();
SELECT dead() OFFSET 1;
\echo 'of one that has closed, in this turn or in one before, the key stands for the first as well'
SELECT wfproc.send('b', 'end', '{"do": [{"complete": null}]}') > 0;
SELECT wfproc.send('a', 'go', '{"do": [{"send": "b", "event": "e", "key": "now"}, {"send": "b", "event": "e", "key": "now"}, {"send": "b", "event": "other", "key": "now"}]}') > 0;
SELECT wfproc.run();
SELECT wfproc.send('a', 'go', '{"do": [{"send": "b", "event": "e", "key": "then"}, {"send": "b", "event": "e", "key": "then"}, {"send": "b", "event": "other", "key": "then"}]}') > 0;
SELECT wfproc.run();
SELECT dead() OFFSET 2;
SELECT sound();
ROLLBACK;

\echo '--- what cannot be delivered is a dead letter, and nobody fails for it'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('act', 'a'), wfproc.start('act', 'closed');
SELECT wfproc.send('closed', 'end', '{"do": [{"complete": null}]}') > 0;
SELECT wfproc.run();
SELECT clock_to('2030-01-01 01:00+00');
SELECT wfproc.send('a', 'go', '{"do": [{"send": "nobody", "event": "e", "payload": {"n": 1}}, {"send": "closed", "event": "e"},
    {"send": "$self", "event": "after all that"}]}') > 0;
SELECT wfproc.run();
SELECT log_of('a');
SELECT dead();
SELECT about('a');
\echo 'the sender may want an event instead'
SELECT wfproc.define('act', 'act', dead_letter_events => true);
SELECT wfproc.send('a', 'go', '{"do": [{"send": "nobody", "event": "e", "payload": {"n": 2}}, {"send": "closed", "event": "e"}]}') > 0;
SELECT wfproc.run();
SELECT log_of('a') OFFSET 3;
SELECT count(*) FROM wfproc.dead_letters WHERE sender = 'a';
\echo 'which is news of an instance, and has no answer: that would come from somebody without any right'
CREATE FUNCTION answers(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event = 'go' THEN
        PERFORM wfproc.send('a', 'e'), wfproc.start('act_other', 'a'), wfproc.monitor('closed');
    END IF;
    PERFORM wfproc.reply(to_jsonb(event));
    RETURN state;
END $$;
SET LOCAL ROLE actions_other;
SELECT wfproc.define('act_other', 'answers', dead_letter_events => true), wfproc.start('act_other', 'o');
SELECT wfproc.send('o', 'go') > 0;
RESET ROLE;
SELECT wfproc.run();
SELECT log_of('o') OFFSET 1;
SELECT log_of('a') OFFSET 6;
SELECT sound();
ROLLBACK;

\echo '--- a child: knows its parent, which hears of its end'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('act', 'p', '{"do": [{"start": "act", "id": "good", "input": {"do": [{"send": "$parent", "event": "hello"}]}, "attributes": {"colour": "red"}},
    {"start": "act", "id": "bad"}, {"start": "act", "id": "ugly"}, {"start": "act", "id": "lost"}, {"start": "act"}]}');
SELECT wfproc.run();
SELECT about(id) FROM wfproc.instances WHERE parent = 'p' ORDER BY id;
SELECT wfproc.send('good', 'end', '{"do": [{"complete": {"sum": 7}}]}') > 0, wfproc.send('bad', 'end', '{"do": [{"fail": "no luck"}]}') > 0,
       wfproc.cancel('ugly', 'not wanted'), wfproc.terminate('lost', 'enough');
SELECT wfproc.run();
SELECT log_of('p');
SELECT about(id) FROM wfproc.instances WHERE parent = 'p' ORDER BY id;
SELECT log_of('good');
SELECT log_of('lost');
\echo 'the one that nobody named has the id that it would have in a replay'
SELECT id = (SELECT id FROM wfproc.instances WHERE parent = 'p' AND status = 'running') FROM (SELECT wfproc.run()) r, wfproc.instances WHERE parent = 'p' AND id ~ '^[0-9a-f-]{36}$';
SELECT actions -> 4 FROM wfproc.replay('p') WHERE seq = 1;
SELECT sound();
\echo 'ignore: a child that is there stays as it is'
SELECT wfproc.send('p', 'again', '{"do": [{"start": "act", "id": "good", "if_exists": "ignore"}]}') > 0;
SELECT wfproc.run();
SELECT dead();
\echo 'a child of a child, its stamp and version; in the future it waits'
SELECT wfproc.send('p', 'more', '{"do": [{"start": "act", "id": "g1", "at": "2030-01-01 02:00+00", "version": 1, "live_from": "infinity",
    "input": {"do": [{"start": "act", "id": "g2", "input": {"do": [{"complete": 2}]}}]}}]}') > 0;
SELECT wfproc.run();
SELECT about('g1'), about('g2') IS NULL;
SELECT clock_to('2030-01-01 02:00+00');
SELECT wfproc.run();
SELECT about('g1'), about('g2');
SELECT log_of('g1');
SELECT log_of('g2');
SELECT sound();
ROLLBACK;

\echo '--- a child that cannot be started is one that has failed, though never begun'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.define('act_other', 'act'), wfproc.define('act_told', 'act', dead_letter_events => true);
SELECT wfproc.start('act_other', 'taken'), wfproc.start('act', 'p'), wfproc.start('act_told', 'q');
SELECT wfproc.run();
SELECT clock_to('2030-01-01 12:00+00');
SELECT wfproc.send(id, 'go', '{"do": [{"start": "act", "id": "taken", "input": {"n": 1}, "on_parent_close": "terminate"}, {"start": "nothing", "id": "x"}, {"start": "act", "id": "x", "version": 7},
    {"start": "act", "id": "taken", "if_exists": "ignore"}, {"start": "act_other", "id": "taken", "if_exists": "ignore"},
    {"start": "act", "id": "later", "at": "2031-01-01 00:00+00"}, {"start": "nothing", "at": "2031-01-01 00:00+00"}, {"send": "$self", "event": "after all that"}]}', '2030-01-01 06:00+00') > 0
FROM unnest('{p,q}'::text[]) id;
SELECT wfproc.send('p', 'later', at => '2030-01-01 07:00+00') > 0;
SELECT wfproc.run();
SELECT regexp_replace(log, '[0-9a-f-]{36}', 'generated', 'g') FROM log_of('p') log;
\echo 'whatever it wants to know of dead letters; of the child that is there both hear the same'
SELECT regexp_replace(log, '[0-9a-f-]{36}', 'generated', 'g') FROM log_of('q') log;
SELECT log_of('taken');
SELECT dead();
SELECT agenda_of('later');
\echo 'so too where the child that has the id is its own, which goes on'
SELECT wfproc.send('p', 'again', '{"do": [{"start": "act", "id": "c", "input": {"set": {"n": 1}}}, {"start": "act", "id": "c", "input": {"set": {"n": 2}}}]}') > 0;
SELECT wfproc.run();
SELECT log_of('p') OFFSET 8;
SELECT wfproc.state('c'), about('c');
\echo 'a paused parent hears of it when it goes on; one that has closed in that step does not: then there is a dead letter'
SELECT wfproc.send('p', 'last', '{"do": [{"start": "act", "id": "taken"}]}') > 0, wfproc.send('q', 'last', '{"do": [{"start": "act", "id": "taken"}, {"complete": null}]}') > 0;
SELECT wfproc.run(1);
SELECT wfproc.pause('p'), wfproc.run() > 0, agenda_of('p');
SELECT wfproc.resume('p'), wfproc.run();
SELECT log_of('p') OFFSET 11;
SELECT dead();
SELECT sound();
ROLLBACK;
\echo 'a right is missing: that of the workflow''s owner counts'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SET LOCAL ROLE actions_other;
SELECT wfproc.define('act_other', 'act'), wfproc.start('act_other', 'o', '{"do": [{"start": "act", "id": "x"}]}');
RESET ROLE;
SELECT wfproc.run();
SELECT log_of('o');
SELECT dead();
SELECT sound();
ROLLBACK;

\echo '--- what happens to the children when their parent closes'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('act', 'p-' || how, '{"do": [{"start": "act", "id": "left"}, {"start": "act", "id": "cancelled", "on_parent_close": "cancel"},
    {"start": "act", "id": "terminated", "on_parent_close": "terminate"}]}') FROM (VALUES ('complete')) v (how);
SELECT wfproc.run();
SELECT put_away();
SELECT clock_to('2030-01-01 01:00+00');
SELECT wfproc.send('p-complete', 'end', '{"do": [{"complete": null}]}') > 0;
SELECT wfproc.run();
SELECT about(id) FROM wfproc.instances WHERE parent = 'p-complete' ORDER BY id;
SELECT log_of('cancelled');
SELECT log_of('terminated');
SELECT dead();
SELECT sound();
ROLLBACK;
\echo 'so too where it is terminated, where it fails, and where it starts them in its very last step'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('act', 'p-terminate', '{"do": [{"start": "act", "id": "child of terminated", "on_parent_close": "cancel"}]}');
SELECT wfproc.start('act', 'p-fail', '{"do": [{"start": "act", "id": "child of failed", "on_parent_close": "terminate"}]}');
SELECT wfproc.start('act', 'p-last', '{"do": [{"start": "act", "id": "last left"}, {"start": "act", "id": "last cancelled", "on_parent_close": "cancel"},
    {"start": "act", "id": "last terminated", "on_parent_close": "terminate"}, {"complete": null}]}');
SELECT wfproc.run();
SELECT wfproc.terminate('p-terminate'), wfproc.send('p-fail', 'end', '{"do": [{"fail": "why not"}]}') > 0;
SELECT wfproc.run();
SELECT about(id) FROM wfproc.instances WHERE workflow = 'act' ORDER BY id;
SELECT log_of('last cancelled');
SELECT log_of('last terminated');
SELECT dead();
SELECT sound();
ROLLBACK;
\echo 'a child that could not be started is another''s, and is let be'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('act', 'other');
SELECT wfproc.run();
SELECT wfproc.start('act', 'p', '{"do": [{"start": "act", "id": "other", "on_parent_close": "terminate"}, {"complete": null}]}');
SELECT wfproc.start('act', 'q', '{"do": [{"start": "act", "id": "other", "on_parent_close": "cancel"}]}');
SELECT wfproc.run();
SELECT wfproc.send('q', 'end', '{"do": [{"complete": null}]}') > 0;
SELECT wfproc.run();
SELECT about('p'), about('q'), about('other');
SELECT log_of('other');
SELECT dead();
\echo 'what the handler does to it itself is done'
SELECT wfproc.start('act', 'r', '{"do": [{"start": "act", "id": "other", "on_parent_close": "cancel"}, {"cancel": "other", "reason": "by hand"}, {"complete": null}]}');
SELECT wfproc.run();
SELECT about('other');
SELECT sound();
ROLLBACK;

\echo '--- monitor(): hears of the end, once; demonitor(): does not; at once where it is over already, or never was'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('act', id) FROM unnest('{w,v,one,two,three,over}'::text[]) id;
SELECT wfproc.send('over', 'end', '{"do": [{"complete": "done"}]}') > 0;
SELECT wfproc.run();
SELECT wfproc.send('w', 'watch', '{"do": [{"monitor": "one"}, {"monitor": "one"}, {"monitor": "two"}, {"monitor": "three"}, {"monitor": "over"},
    {"monitor": "nobody"}, {"demonitor": "two"}, {"demonitor": "nobody"}, {"demonitor": "over"}]}') > 0;
SELECT wfproc.send('v', 'watch', '{"do": [{"monitor": "one"}, {"monitor": "three"}, {"monitor": "w"}, {"monitor": "$self"}]}') > 0;
SELECT wfproc.run();
SELECT put_away();
SELECT wfproc.send('v', 'look away', '{"do": [{"demonitor": "three"}]}') > 0;
SELECT wfproc.run();
SELECT wfproc.send('one', 'end', '{"do": [{"complete": 1}]}') > 0, wfproc.send('two', 'end', '{"do": [{"complete": 2}]}') > 0,
       wfproc.send('three', 'end', '{"do": [{"fail": "3"}]}') > 0;
SELECT wfproc.run();
SELECT log_of('w');
SELECT log_of('v');
SELECT wfproc.terminate('w', 'out');
SELECT wfproc.send('v', 'end', '{"do": [{"complete": null}]}', '2030-01-01 01:00+00') > 0;
SELECT clock_to('2030-01-01 01:00+00');
SELECT wfproc.run();
SELECT log_of('v') OFFSET 4;
SELECT count(*) FROM wfproc.link l JOIN wfproc.instance i USING (instance_id) WHERE i.status <> 'running';
SELECT dead();
SELECT sound();
ROLLBACK;

\echo '--- timers: after, at, in the past, replaced, cancelled, ties, microseconds'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('act', 'a', '{"do": [{"timer": "hour", "after": "1 hour", "payload": {"n": 1}}, {"timer": "month", "after": "1 month"},
    {"timer": "tie 1", "at": "2030-01-01 00:30+00"}, {"timer": "tie 2", "at": "2030-01-01 00:30+00"}, {"timer": "tie 3", "at": "2030-01-01 00:30+00"},
    {"timer": "micro 2", "at": "2030-01-01 00:00:00.000002+00"}, {"timer": "micro 1", "at": "2030-01-01 00:00:00.000001+00"},
    {"timer": "replaced", "after": "1 s", "payload": {"n": "old"}}, {"timer": "replaced", "after": "2 s", "payload": {"n": "new"}},
    {"timer": "cancelled", "after": "1 s"}, {"cancel_timer": "cancelled"}, {"cancel_timer": "never set"}]}');
SELECT wfproc.run();
SELECT agenda_of('a');
SELECT jsonb_path_query(actions, '$[*] ? (exists (@.at))') - 'payload' FROM wfproc.replay('a');
SELECT wfproc.run();
\echo 'to the microsecond'
SELECT clock_to('2030-01-01 00:00:00.000001+00');
SELECT wfproc.run();
SELECT log_of('a') OFFSET 1;
SELECT clock_to('2030-01-01 00:10+00');
SELECT wfproc.run();
SELECT put_away();
\echo 'from memory or from the mailbox: replaced to later and to sooner, cancelled, replaced by the step that it starts'
SELECT wfproc.send('a', 'change', '{"do": [{"timer": "hour", "after": "2 hours", "payload": {"n": 2}}, {"timer": "month", "at": "2030-01-01 00:11+00", "payload":
    {"do": [{"timer": "month", "after": "1 minute", "payload": {"n": "second"}}]}}, {"cancel_timer": "tie 2"}]}') > 0;
SELECT wfproc.run();
SELECT agenda_of('a');
SELECT clock_to('2030-01-01 12:00+00');
SELECT wfproc.run();
SELECT log_of('a') OFFSET 3;
SELECT agenda_of('a');
\echo 'in the past: next, at its own stamp, and the clock stands'
SELECT wfproc.send('a', 'past', '{"do": [{"timer": "past", "at": "2030-01-01 00:05+00", "payload": {"do": [{"send": "$self", "event": "now"}]}}]}') > 0;
SELECT wfproc.send('a', 'after') > 0;
SELECT wfproc.run();
SELECT log_of('a') OFFSET 10;
\echo 'cancelled when it was due already, in the same turn'
SELECT wfproc.send('a', 'set', '{"do": [{"timer": "x", "after": "1 s"}, {"timer": "y", "after": "1 s"}, {"timer": "z", "after": "1 s"}]}', '2030-01-01 13:00+00') > 0;
SELECT wfproc.send('a', 'stop', '{"do": [{"cancel_timer": "y"}]}', '2030-01-01 13:00:01+00') > 0;
SELECT clock_to('2030-01-01 14:00+00');
SELECT wfproc.run();
SELECT log_of('a') OFFSET 14;
SELECT put_away();
\echo 'the same with rows in the mailbox: all are due, the first cancels another'
SELECT wfproc.send('a', 'set', '{"do": [{"timer": "x", "after": "1 hour", "payload": {"do": [{"cancel_timer": "z"}, {"timer": "y", "after": "1 minute"}]}},
    {"timer": "y", "after": "1 hour"}, {"timer": "z", "after": "1 hour"}]}') > 0;
SELECT wfproc.run();
SELECT clock_to('2030-01-01 16:00+00');
SELECT wfproc.run();
SELECT log_of('a') OFFSET 18;
SELECT agenda_of('a');
SELECT sound();
\echo 'closed: its timers are gone, and are no dead letters'
SELECT wfproc.send('a', 'end', '{"do": [{"timer": "x", "after": "1 hour"}, {"timer": "y", "after": "0"}, {"complete": null}]}') > 0;
SELECT wfproc.run();
SELECT about('a');
SELECT dead();
SELECT sound();
ROLLBACK;

\echo '--- timers: cancelled by a change of a key of the state'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('act', 'a', '{"set": {"phase": 1, "other": null}, "do": [{"timer": "phase", "after": "1 minute", "until": "phase"}, {"timer": "other", "after": "1 minute", "until": "other"},
    {"timer": "plain", "after": "1 minute"}]}');
SELECT wfproc.run();
SELECT agenda_of('a');
\echo 'not by another key, not by the same value'
SELECT wfproc.send('a', 'e', '{"set": {"n": 1, "phase": 1}}') > 0;
SELECT wfproc.run();
SELECT agenda_of('a');
SELECT put_away();
\echo 'by another value; the step that changes it may set it anew'
SELECT wfproc.send('a', 'e', '{"set": {"phase": 2}}') > 0;
SELECT wfproc.run();
SELECT agenda_of('a');
SELECT wfproc.send('a', 'e', '{"set": {"phase": 3}, "do": [{"timer": "phase", "after": "2 minutes", "until": "phase"}]}') > 0;
SELECT wfproc.run();
SELECT agenda_of('a');
\echo 'by a value in the place of null'
SELECT wfproc.send('a', 'e', '{"set": {"other": 1}}') > 0;
SELECT wfproc.run();
SELECT clock_to('2030-01-01 01:00+00');
SELECT wfproc.run();
SELECT log_of('a') OFFSET 5;
\echo 'a rejected event changes nothing'
SELECT wfproc.send('a', 'set', '{"do": [{"timer": "t", "after": "1 minute", "until": "phase"}]}') > 0;
SELECT wfproc.send('a', 'e', '{"set": {"phase": 9}, "do": [{"reject": "no"}]}') > 0;
SELECT wfproc.run();
SELECT agenda_of('a');
SELECT dead();
SELECT sound();
ROLLBACK;

\echo 'a key that the state has neither before nor after the step is a typing error: the step fails, also in a replay'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('act', 'k', '{"set": {"old": 1}}'), wfproc.start('act', 'typo', '{"set": {"phase": 1}, "do": [{"timer": "t", "after": "1 minute", "until": "fase"}]}'),
    wfproc.start('act', 'rejects', '{"set": {"phase": 1}}');
SELECT wfproc.send('k', 'makes it', '{"set": {"new": 1}, "do": [{"timer": "new", "after": "1 minute", "until": "new"}, {"timer": "old", "after": "1 minute", "until": "old"}]}') > 0;
SELECT wfproc.send('rejects', 'e', '{"do": [{"timer": "t", "after": "1 minute", "until": "fase"}, {"reject": "no"}]}') > 0;
SELECT wfproc.run();
SELECT agenda_of('k');
SELECT agenda_of('typo');
SELECT about('typo'), about('rejects');
\echo 'one that the step takes away is there before it'
CREATE FUNCTION drops(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM wfproc.set_timer('t', '1 s', until_state_changes => 'gone');
    RETURN '{}';
END $$;
SELECT try($$ SELECT new_state FROM wfproc.try_step('drops', '{"gone": 1}', 'e') $$), try($$ SELECT wfproc.try_step('drops', '{"here": 1}', 'e') $$);
SELECT try($$ SELECT wfproc.try_step('actions_test.act', '{"phase": 1}', 'e', '{"do": [{"timer": "t", "after": "1 s", "until": "fase"}]}') $$);
SELECT sound();
ROLLBACK;

\echo '--- reschedule() of a timer: by its instance, under the same number, and logged'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('act', 'm', '{"set": {"phase": 1}, "do": [{"timer": "first", "after": "1 hour"}, {"timer": "second", "after": "2 hours", "until": "phase"}, {"timer": "third", "after": "3 hours", "payload": {"n": 3}}]}');
SELECT wfproc.run();
SELECT mail_id AS first FROM wfproc.agenda('m') WHERE event = 'first' \gset
SELECT mail_id AS second FROM wfproc.agenda('m') WHERE event = 'second' \gset
SELECT mail_id AS third FROM wfproc.agenda('m') WHERE event = 'third' \gset
SELECT wfproc.reschedule('m', :third, '2030-01-01 00:30+00'), wfproc.reschedule('m', :second, '2030-01-02 00:00+00');
\echo 'nothing has moved until its instance has come to it'
SELECT agenda_of('m');
SELECT wfproc.run();
SELECT agenda_of('m');
SELECT count(*) FROM wfproc.agenda('m') WHERE mail_id IN (:first, :second, :third);
SELECT put_away();
\echo 'it fires at its new stamp, and goes with its key of the state as before'
SELECT clock_to('2030-01-01 00:45+00');
SELECT wfproc.run();
SELECT wfproc.send('m', 'e', '{"set": {"phase": 2}}') > 0;
SELECT wfproc.run();
SELECT agenda_of('m');
\echo 'twice, and into the past, while it is paused; one that is replaced or has fired meanwhile is not moved'
SELECT wfproc.pause('m');
SELECT wfproc.run();
SELECT wfproc.reschedule('m', :first, '2031-01-01 00:00+00'), wfproc.reschedule('m', :first, '2029-12-31 00:00+00');
SELECT wfproc.run();
SELECT agenda_of('m');
SELECT wfproc.resume('m');
SELECT wfproc.run();
SELECT wfproc.reschedule('m', :first, '2031-01-01 00:00+00'), wfproc.reschedule('m', :third, '2031-01-01 00:00+00');
SELECT wfproc.send('m', 'set', '{"do": [{"timer": "again", "after": "1 hour"}]}') > 0;
SELECT wfproc.run();
SELECT mail_id AS again FROM wfproc.agenda('m') \gset
SELECT wfproc.send('m', 'replace', '{"do": [{"timer": "again", "after": "2 hours"}]}') > 0;
SELECT wfproc.reschedule('m', :again, '2030-01-01 00:46+00');
SELECT wfproc.run();
SELECT agenda_of('m');
SELECT log_of('m');
\echo 'one that is moved and cancelled, or whose instance closes, in one turn'
SELECT mail_id AS again FROM wfproc.agenda('m') \gset
SELECT wfproc.reschedule('m', :again, '2030-01-01 00:45+00'), wfproc.send('m', 'cancel it', '{"do": [{"cancel_timer": "again"}, {"timer": "last", "after": "1 s"}]}', '2030-01-01 00:40+00') > 0;
SELECT wfproc.run();
SELECT agenda_of('m');
SELECT mail_id AS last FROM wfproc.agenda('m') \gset
SELECT wfproc.reschedule('m', :last, '2030-01-01 00:46+00'), wfproc.send('m', 'end', '{"do": [{"complete": 1}]}') > 0;
SELECT wfproc.run();
SELECT about('m'), (SELECT count(*) FROM wfproc.mailbox m JOIN wfproc.instance i USING (instance_id) WHERE i.id = 'm');
SELECT dead();
SELECT sound();
ROLLBACK;

\echo '--- postpone(): no log row; offered again, oldest first, after a step that changes the state'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('act', 'a');
SELECT wfproc.send('a', 'p2', '{"unless": {"open": 1}}', '2030-01-01 00:02+00') > 0, wfproc.send('a', 'p1', '{"unless": {"open": 1}}', '2030-01-01 00:01+00') > 0,
       wfproc.send('a', 'p3', '{"unless": {"open": 2}, "set": {"got": 3}}', '2030-01-01 00:03+00') > 0, wfproc.send('a', 'e', '{}', '2030-01-01 00:04+00') > 0;
SELECT clock_to('2030-01-01 01:00+00');
SELECT wfproc.run();
SELECT log_of('a');
SELECT agenda_of('a');
SELECT about('a'), wfproc.state('a');
\echo 'a step that changes nothing does not offer them'
SELECT wfproc.send('a', 'e') > 0;
SELECT wfproc.run();
SELECT put_away();
SELECT wfproc.send('a', 'e') > 0;
SELECT wfproc.run();
SELECT agenda_of('a');
\echo 'one that changes the state does: they keep their stamps, and the clock stands'
SELECT wfproc.send('a', 'open', '{"set": {"open": 1}}') > 0;
SELECT wfproc.run();
SELECT log_of('a') OFFSET 4;
SELECT agenda_of('a');
\echo 'postponed again and again, and what was asked for before is dropped each time'
SELECT wfproc.send('a', 'asks', '{"do": [{"send": "$self", "event": "never"}, {"timer": "never", "after": "0"}, {"postpone": 1}], "set": {"never": 1}}') > 0;
SELECT wfproc.run();
SELECT wfproc.send('a', 'open', '{"set": {"open": 3}}') > 0;
SELECT wfproc.run();
SELECT wfproc.send('a', 'open', '{"set": {"open": 2}}') > 0;
SELECT wfproc.run();
SELECT log_of('a') OFFSET 7;
SELECT agenda_of('a');
SELECT wfproc.state('a');
\echo 'a timer that is postponed is an event like any other from then on: a timer of its name is another'
SELECT wfproc.send('a', 'set', '{"do": [{"timer": "t", "after": "1 s", "payload": {"unless": {"open": 5}}}]}') > 0;
SELECT wfproc.run();
SELECT clock_to('2030-01-01 01:00:01+00');
SELECT wfproc.run();
SELECT wfproc.send('a', 'set', '{"do": [{"cancel_timer": "t"}, {"timer": "t", "after": "1 s", "payload": {"n": 2}}]}') > 0;
SELECT wfproc.run();
SELECT agenda_of('a');
SELECT wfproc.send('a', 'open', '{"set": {"open": 5}}') > 0;
SELECT clock_to('2030-01-01 01:00:02+00');
SELECT wfproc.run();
SELECT log_of('a') OFFSET 11;
SELECT agenda_of('a');
\echo 'a postponed event can be taken back'
SELECT wfproc.unsend('a', mail_id) FROM wfproc.agenda('a');
SELECT wfproc.send('a', 'open', '{"set": {"open": 6}}') > 0;
SELECT wfproc.run();
SELECT about('a');
SELECT sound();
\echo 'and goes to the dead letters when the instance closes'
SELECT wfproc.send('a', 'p', '{"unless": {"open": 1}}') > 0;
SELECT wfproc.run();
SELECT wfproc.send('a', 'end', '{"do": [{"complete": null}]}') > 0;
SELECT wfproc.run();
SELECT about('a');
SELECT dead();
SELECT sound();
ROLLBACK;
\echo 'an activation, from a snapshot or not, makes no difference: it is offered when the state or the code has changed'
CREATE FUNCTION tells(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event = 'p' THEN
        RAISE WARNING 'p is offered';
        PERFORM wfproc.postpone();
    END IF;
    RETURN state || COALESCE(payload -> 'set', '{}');
END $$;
SELECT wfproc.define('tells', 'tells');
BEGIN;
SELECT wfproc.start('tells', 'a', '{"set": {"n": 1}}');
SELECT wfproc.run();
SELECT wfproc.send('a', 'p') > 0, wfproc.send('a', 'e') > 0, wfproc.send('a', 'e') > 0;
SELECT wfproc.run();
\echo 'not now'
SELECT wfproc.send('a', 'e') > 0;
SELECT wfproc.run();
SELECT wfproc.snapshot('a');
SELECT wfproc.run();
SELECT wfproc.send('a', 'e') > 0;
SELECT wfproc.run();
\echo 'but now'
SELECT wfproc.send('a', 'e', '{"set": {"n": 2}}') > 0;
SELECT wfproc.run();
SELECT wfproc.snapshot('a');
SELECT wfproc.run();
SELECT wfproc.send('a', 'e') > 0;
SELECT wfproc.run();
\echo 'and now'
CREATE OR REPLACE FUNCTION tells(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event = 'p' THEN
        RAISE WARNING 'p is taken';
    END IF;
    RETURN state || COALESCE(payload -> 'set', '{}');
END $$;
SELECT wfproc.define('tells', 'tells');
SELECT wfproc.upgrade('a', 2) > 0;
SELECT wfproc.run();
SELECT agenda_of('a');
SELECT sound();
ROLLBACK;
\echo 'nor does it spare another event that fails its attempts'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('act', 'a');
SELECT wfproc.run();
SELECT wfproc.send('a', 'p', '{"unless": {"open": 1}}', '2030-01-01 00:01+00') > 0, wfproc.send('a', 'e', '{}', '2030-01-01 00:02+00') > 0,
       wfproc.send('a', 'f', '{"do": [{"raise": "no"}]}', '2030-01-01 00:03+00') > 0;
SELECT clock_to('2030-01-01 01:00+00');
SELECT wfproc.run();
SELECT about('a');
SELECT clock_to('2030-01-01 02:00+00');
SELECT wfproc.run();
SELECT about('a');
SELECT clock_to('2030-01-01 03:00+00');
SELECT wfproc.run();
SELECT about('a');
SELECT agenda_of('a');
SELECT sound();
ROLLBACK;
\echo 'bounded: beyond the bound the step fails'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SET LOCAL wfproc.max_postponed = 2;
SELECT wfproc.start('act', 'a');
SELECT wfproc.send('a', 'p' || n, '{"unless": {"open": 1}}') > 0 FROM generate_series(1, 3) n;
SELECT wfproc.run();
SELECT about('a');
SELECT agenda_of('a');
SET LOCAL wfproc.max_postponed = 3;
SELECT wfproc.retry_now('a');
SELECT wfproc.run();
SELECT about('a');
SELECT wfproc.send('a', 'open', '{"set": {"open": 1}}') > 0;
SELECT wfproc.run();
SELECT log_of('a');
SELECT sound();
ROLLBACK;

\echo '--- reject(): a dead letter at once, logged; nothing else of the step'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('act', 'a');
SELECT wfproc.send('a', 'no', '{"n": 1, "do": [{"send": "$self", "event": "never"}, {"set_attributes": {"n": 1}}, {"timer": "never", "after": "0"}, {"reject": "not this"}], "set": {"n": 1}}') > 0;
SELECT wfproc.run();
SELECT log_of('a');
SELECT about('a'), wfproc.state('a');
SELECT dead();
SELECT seq, actions FROM wfproc.replay('a') WHERE seq = 2;
\echo 'redrive: with its stamp, once'
SELECT wfproc.redrive(mail_id) > mail_id FROM wfproc.dead_letters WHERE id = 'a';
SELECT count(*) FROM wfproc.dead_letters WHERE id = 'a';
SELECT agenda_of('a');
SELECT wfproc.redrive(0) IS NULL;
SELECT wfproc.run();
SELECT log_of('a') OFFSET 2;
SELECT wfproc.send('a', 'end', '{"do": [{"complete": null}]}') > 0;
SELECT wfproc.run();
SELECT try($$ SELECT wfproc.redrive(mail_id) FROM wfproc.dead_letters WHERE id = 'a' $$);
SELECT count(*) FROM wfproc.dead_letters WHERE id = 'a';
SELECT sound();
ROLLBACK;
\echo 'a letter to an id that nobody had: redriven once somebody has it'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('act', 'a', '{"do": [{"send": "b", "event": "early", "payload": {"n": 1}}]}');
SELECT wfproc.run();
SELECT try($$ SELECT wfproc.redrive(mail_id) FROM wfproc.dead_letters WHERE id = 'b' $$);
SELECT wfproc.start('act', 'b', at => '2030-01-01 01:00+00');
SELECT wfproc.redrive(mail_id) > 0 FROM wfproc.dead_letters WHERE id = 'b';
SELECT clock_to('2030-01-01 01:00+00');
SELECT wfproc.run();
SELECT log_of('b');
SELECT dead();
ROLLBACK;

\echo '--- cancel(): the handler sees it in its turn, and the instance closes'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('act', 'plain'), wfproc.start('act', 'tidy', '{"set": {"on_cancel": [{"send": "plain", "event": "bye"}]}}'),
       wfproc.start('act', 'completes', '{"set": {"on_cancel": [{"complete": {"late": true}}]}}'),
       wfproc.start('act', 'fails', '{"set": {"on_cancel": [{"fail": "cannot"}]}}'),
       wfproc.start('act', 'refuses', '{"set": {"on_cancel": [{"reject": "I will not"}]}}'),
       wfproc.start('act', 'defers', '{"set": {"on_cancel": [{"defer_cancel": 1}, {"timer": "tidied", "after": "1 minute", "payload": {"do": [{"complete": {"tidy": true}}]}}]}}'),
       wfproc.start('act', 'postpones', '{"set": {"on_cancel": [{"postpone": 1}]}}'),
       wfproc.start('act', 'raises', '{"set": {"on_cancel": [{"raise": "not so"}]}}'),
       wfproc.start('act', 'drags', '{"set": {"on_cancel": [{"defer_cancel": 1}]}}');
SELECT wfproc.run();
SELECT wfproc.send(id, 'before') > 0 FROM unnest('{tidy,defers}'::text[]) id;
SELECT id, wfproc.cancel(id, 'because') FROM unnest('{tidy,completes,fails,refuses,defers,postpones,raises,drags}'::text[]) id;
\echo 'asked again: nothing changes'
SELECT id, wfproc.cancel(id, 'because') FROM unnest('{tidy,defers}'::text[]) id;
SELECT wfproc.send('tidy', 'too late') > 0;
SELECT agenda_of('defers');
SELECT wfproc.run();
SELECT about(id) FROM wfproc.instances WHERE workflow = 'act' ORDER BY id;
SELECT log_of(id) FROM unnest('{plain,tidy,refuses,defers}'::text[]) id;
SELECT dead();
SELECT id, wfproc.cancel(id, 'because') FROM unnest('{tidy,completes,defers,drags,postpones}'::text[]) id;
SELECT put_away();
\echo 'one that was deferred closes as cancelled when it completes'
SELECT clock_to('2030-01-01 00:01+00');
SELECT wfproc.run();
SELECT about('defers');
SELECT log_of('defers') OFFSET 2;
\echo 'the deadline: whoever is open then is terminated'
SELECT clock_to('2030-01-01 00:04:59.999999+00');
SELECT wfproc.run();
SELECT about(id) FROM wfproc.instances WHERE workflow = 'act' AND status IN ('running', 'paused') ORDER BY id;
SELECT clock_to('2030-01-01 00:05+00');
SELECT wfproc.run();
SELECT about(id) FROM wfproc.instances WHERE workflow = 'act' AND id IN ('refuses', 'postpones', 'raises', 'drags') ORDER BY id;
SELECT log_of('drags') OFFSET 1;
SELECT sound();
ROLLBACK;
\echo 'a deadline of its own, none at all, one that is over at once'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('act', id, '{"set": {"on_cancel": [{"defer_cancel": 1}]}}') FROM unnest('{soon,never,at once}'::text[]) id;
SELECT wfproc.run();
SELECT wfproc.cancel('soon', deadline => '1 s'), wfproc.cancel('never', deadline => NULL), wfproc.cancel('at once', deadline => '0');
SELECT wfproc.run();
SELECT about(id) FROM wfproc.instances WHERE workflow = 'act' ORDER BY id;
SELECT log_of('at once');
SELECT clock_to('2030-01-01 00:00:01+00');
SELECT wfproc.run();
SELECT clock_to('2031-01-01 00:00+00');
SELECT wfproc.run();
SELECT about(id) FROM wfproc.instances WHERE workflow = 'act' ORDER BY id;
SELECT sound();
ROLLBACK;
\echo 'it holds too where the instance cannot handle the cancel: paused, waiting to try again, not begun'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('act', 'paused'), wfproc.start('act', 'failing'), wfproc.start('act', 'not begun', at => '2030-06-01 00:00+00');
SELECT wfproc.run();
SELECT wfproc.pause('paused'), wfproc.send('failing', 'e', '{"do": [{"raise": "no"}]}') > 0;
SELECT wfproc.run();
SELECT id, wfproc.cancel(id, deadline => '5 s') FROM unnest('{paused,failing,not begun}'::text[]) id;
SELECT wfproc.run();
SELECT about(id) FROM wfproc.instances WHERE workflow = 'act' ORDER BY id;
SELECT clock_to('2030-01-01 00:00:05+00');
SELECT wfproc.run();
SELECT about(id) FROM wfproc.instances WHERE workflow = 'act' ORDER BY id;
SELECT log_of(id) FROM unnest('{paused,failing,not begun}'::text[]) id;
SELECT dead();
SELECT sound();
ROLLBACK;
\echo 'who defers may say for how long: the deadline of the cancel, if there is one, is that no more'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('act', id, '{"set": {"on_cancel": [{"defer_cancel": 1, "deadline": "1 hour"}]}}') FROM unnest('{live,endless,pauses,fails,lags,of boss}'::text[]) id;
SELECT wfproc.start('act', 'shorter', '{"set": {"on_cancel": [{"defer_cancel": 1, "deadline": "10 s"}, {"defer_cancel": 1, "deadline": "20 s"}]}}'), wfproc.start('act', 'boss');
SELECT wfproc.run();
SELECT clock_to('2030-01-01 01:00+00');
SELECT id, wfproc.cancel(id, 'because') FROM unnest('{live,pauses,fails,lags,shorter}'::text[]) id;
SELECT wfproc.cancel('endless', 'because', NULL), wfproc.send('boss', 'go', '{"do": [{"cancel": "of boss", "deadline": "1 minute"}]}') > 0, wfproc.pause('lags');
SELECT wfproc.run();
SELECT id, agenda_of(id) FROM unnest('{live,endless,pauses,fails,lags,of boss,shorter}'::text[]) id;
SELECT actions FROM wfproc.replay('live') WHERE event = 'cancel';
SELECT wfproc.pause('pauses'), wfproc.send('fails', 'e', '{"do": [{"raise": "no"}]}') > 0;
SELECT wfproc.run();
SELECT put_away();
SELECT clock_to('2030-01-01 01:04+00');
SELECT wfproc.run();
\echo 'asked by a handler once more, its own time begins again'
SELECT wfproc.send('boss', 'go', '{"do": [{"cancel": "live", "deadline": "1 minute"}]}') > 0;
SELECT wfproc.run();
SELECT agenda_of('live');
\echo 'one that lags defers in its own time, when the deadline of the cancel is long over; one that fails or is paused meanwhile is let be until then'
SELECT clock_to('2030-01-01 01:04:30+00');
SELECT wfproc.resume('lags');
SELECT clock_to('2030-01-01 01:59:59+00');
SELECT wfproc.run() > 0;
SELECT about(id) FROM wfproc.instances WHERE workflow = 'act' ORDER BY id;
SELECT clock_to('2030-01-01 02:00+00');
SELECT wfproc.run() > 0;
SELECT about(id) FROM wfproc.instances WHERE workflow = 'act' AND id <> 'boss' ORDER BY id;
SELECT clock_to('2030-01-01 02:04+00');
SELECT wfproc.run() > 0;
SELECT log_of('live');
SELECT count(*) FROM wfproc.mailbox m JOIN wfproc.instance i USING (instance_id) WHERE i.id IN ('live', 'endless', 'pauses', 'fails', 'lags', 'of boss', 'shorter');
SELECT dead();
SELECT sound();
ROLLBACK;
\echo 'where it does not, its workflow may'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.define('act', 'act', cancel_deadline => '1 hour');
SELECT cancel_deadline FROM wfproc.workflows WHERE workflow = 'act';
SELECT wfproc.start('act', 'as all', '{"set": {"on_cancel": [{"defer_cancel": 1}]}}'), wfproc.start('act', 'own', '{"set": {"on_cancel": [{"defer_cancel": 1, "deadline": "10 s"}]}}');
SELECT wfproc.run();
SELECT wfproc.cancel(id, 'because') FROM unnest('{as all,own}'::text[]) id;
SELECT wfproc.run();
SELECT id, agenda_of(id) FROM unnest('{as all,own}'::text[]) id;
SELECT actions FROM wfproc.replay('as all') WHERE event = 'cancel';
SELECT clock_to('2030-01-01 01:00+00');
SELECT wfproc.run();
SELECT about(id) FROM unnest('{as all,own}'::text[]) id;
SELECT sound();
ROLLBACK;
\echo 'from a handler: cancel and terminate, of others and of itself'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('act', id) FROM unnest('{a,b,c,d,boss}'::text[]) id;
SELECT wfproc.start('act', 'e', '{"set": {"on_cancel": [{"defer_cancel": 1}]}}');
SELECT wfproc.run();
SELECT wfproc.send('boss', 'go', '{"do": [{"cancel": "a", "reason": "over"}, {"terminate": "b", "reason": "over"}, {"cancel": "nobody"}, {"terminate": "nobody"},
    {"cancel": "e", "deadline": "1 minute"}]}') > 0;
SELECT wfproc.send('c', 'go', '{"do": [{"cancel": "$self"}, {"send": "$self", "event": "after it"}]}') > 0;
SELECT wfproc.send('d', 'go', '{"do": [{"terminate": "$self"}, {"send": "$self", "event": "after it"}]}') > 0;
SELECT wfproc.run();
SELECT about(id) FROM wfproc.instances WHERE workflow = 'act' ORDER BY id;
SELECT log_of(id) FROM unnest('{a,b,c,d}'::text[]) id;
SELECT dead();
SELECT agenda_of('e');
SELECT clock_to('2030-01-01 00:01+00');
SELECT wfproc.run();
SELECT about('e');
\echo 'once more: who is closed stays closed, and nobody misses it'
SELECT wfproc.send('boss', 'go', '{"do": [{"cancel": "a"}, {"terminate": "a"}]}') > 0;
SELECT wfproc.run();
SELECT about('a');
SELECT count(*) FROM wfproc.dead_letters WHERE id = 'a';
SELECT sound();
ROLLBACK;

\echo '--- terminate(): at once, before whatever waits, without the handler'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('act', 'a'), wfproc.start('act', 'not begun', at => '2031-01-01 00:00+00');
SELECT wfproc.run();
SELECT clock_to('2030-01-01 01:00+00');
SELECT wfproc.send('a', 'waiting') > 0;
SELECT wfproc.terminate('a', 'enough'), wfproc.terminate('a', 'enough'), wfproc.terminate('not begun', 'never mind');
SELECT wfproc.run();
SELECT about('a'), about('not begun');
SELECT wfproc.terminate('a'), wfproc.cancel('a'), wfproc.skip('a'), wfproc.retry_now('a');
SELECT log_of('a');
SELECT log_of('not begun');
SELECT dead();
SELECT sound();
ROLLBACK;

\echo '--- a failing event: retry_now(), skip(), pause and resume'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('act', 'a');
SELECT wfproc.run();
SELECT wfproc.retry_now('a'), wfproc.skip('a'), wfproc.resume('a');
SELECT wfproc.send('a', 'bad', '{"do": [{"raise": "no"}]}') > 0, wfproc.send('a', 'good') > 0;
SELECT wfproc.run();
SELECT about('a');
\echo 'retry_now: attempts go on being counted'
SELECT wfproc.retry_now('a', 'impatience'), wfproc.retry_now('a', 'impatience');
SELECT wfproc.run();
SELECT about('a');
SELECT put_away();
SELECT wfproc.retry_now('a');
SELECT wfproc.run();
SELECT about('a');
\echo 'paused: retry_now does nothing, resume does'
SELECT wfproc.retry_now('a'), wfproc.resume('a'), wfproc.resume('a');
SELECT wfproc.run();
SELECT about('a');
\echo 'skip: a dead letter, and on with the next'
SELECT wfproc.skip('a', 'hopeless'), wfproc.skip('a', 'hopeless');
SELECT wfproc.run();
SELECT about('a');
SELECT log_of('a');
SELECT dead();
\echo 'skip resumes one that has paused over it'
SELECT wfproc.send('a', 'bad', '{"n": 2, "do": [{"raise": "no"}]}') > 0;
SELECT wfproc.run();
SELECT wfproc.retry_now('a') AND wfproc.run() = 0 AND wfproc.retry_now('a') AND wfproc.run() = 0;
SELECT about('a');
SELECT wfproc.skip('a');
SELECT wfproc.run();
SELECT about('a');
SELECT log_of('a') OFFSET 6;
\echo 'its start cannot be skipped, but the instance can be terminated'
SELECT wfproc.start('act', 'b', '{"do": [{"raise": "no"}]}');
SELECT wfproc.run();
SELECT try($$ SELECT wfproc.skip('b') $$);
SELECT wfproc.terminate('b');
SELECT wfproc.run();
SELECT about('b');
\echo 'a timer that fails and is skipped'
SELECT wfproc.start('act', 'c', '{"do": [{"timer": "t", "after": "0", "payload": {"do": [{"raise": "no"}]}}]}');
SELECT wfproc.run();
SELECT about('c');
SELECT wfproc.skip('c', 'timer');
SELECT wfproc.run();
SELECT about('c');
SELECT wfproc.send('c', 'set', '{"do": [{"timer": "t", "after": "0"}]}') > 0;
SELECT wfproc.run();
SELECT log_of('c');
\echo 'pause with a reason: events wait'
SELECT wfproc.pause('c', 'lunch'), wfproc.pause('c', 'lunch');
SELECT wfproc.send('c', 'e') > 0;
SELECT wfproc.run();
SELECT about('c');
SELECT wfproc.resume('c');
SELECT wfproc.run();
SELECT log_of('c') OFFSET 4;
SELECT sound();
ROLLBACK;
\echo 'given up: what the workflow has chosen'
SELECT wfproc.define('act_fail', 'act', max_attempts => 1, on_failure => 'fail');
SELECT wfproc.define('act_skip', 'act', max_attempts => 1, on_failure => 'dead_letter');
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('act', 'p', '{"do": [{"start": "act_fail", "id": "f"}, {"start": "act_skip", "id": "s"}]}');
SELECT wfproc.run();
SELECT wfproc.send(id, 'bad', '{"do": [{"send": "p", "event": "never"}, {"timer": "never", "after": "0"}, {"raise": "no"}]}') > 0 FROM unnest('{f,s}'::text[]) id;
SELECT wfproc.run();
SELECT about('f'), about('s');
SELECT log_of(id) FROM unnest('{p,f,s}'::text[]) id;
SELECT dead();
SELECT sound();
ROLLBACK;

\echo '--- attributes: of its own, from outside, found by'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('act', 'a', attributes => '{"customer": 7, "vip": true}');
SELECT wfproc.send('a', 'e', '{"do": [{"set_attributes": {"vip": null, "city": "Bonn"}}, {"set_attributes": {"n": 1}}, {"set_attributes": {"n": 2, "no": null}}]}') > 0;
SELECT wfproc.run();
SELECT attributes FROM wfproc.instances WHERE id = 'a';
SELECT id FROM wfproc.instances WHERE attributes @> '{"city": "Bonn"}';
\echo 'from outside: false where nothing changes'
SELECT wfproc.set_attributes('a', '{"n": 2}'), wfproc.set_attributes('a', '{"none": null}'), wfproc.set_attributes('a', '{}'), wfproc.set_attributes('a', '{"n": 3, "city": null}');
SELECT wfproc.run();
SELECT attributes FROM wfproc.instances WHERE id = 'a';
SELECT seq, event, payload - 'by' FROM wfproc.history('a') OFFSET 2;
SELECT payload ->> 'by' = current_user FROM wfproc.history('a') WHERE event = '$attributes';
SELECT wfproc.state('a');
\echo 'also where it is paused'
SELECT wfproc.pause('a');
SELECT wfproc.run();
SELECT wfproc.set_attributes('a', '{"n": null, "customer": null}');
SELECT wfproc.run();
SELECT about('a');
SELECT sound();
ROLLBACK;

\echo '--- reply(): in the log, and to the process that asked'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('act', 'a'), wfproc.start('act', 'b');
SELECT wfproc.send('b', 'question', '{"do": [{"reply": {"answer": 42}}]}') > 0;
SELECT wfproc.send('a', 'go', '{"do": [{"send": "b", "event": "ask", "key": "k-1", "payload": {"do": [{"reply": {"answer": 43}}]}},
    {"send": "b", "event": "ask", "payload": {"do": [{"reply": null}, {"complete": null}]}}, {"reply": "mine"}]}') > 0;
SELECT wfproc.run();
SELECT log_of('b');
SELECT log_of('a');
SELECT dead();
\echo 'a reply to nobody any more'
SELECT wfproc.start('act', 'c');
SELECT wfproc.send('a', 'go', '{"do": [{"send": "c", "event": "ask", "payload": {"do": [{"reply": 1}]}}, {"complete": null}]}') > 0;
SELECT wfproc.run();
SELECT log_of('c');
SELECT dead();
SELECT sound();
ROLLBACK;

\echo '--- live_from: what is before it is the past; children inherit it'
BEGIN;
SELECT clock_to('2030-01-10 00:00+00');
SELECT wfproc.start('act', 'a', at => '2030-01-01 00:00+00', live_from => '2030-01-05 00:00+00');
SELECT wfproc.send('a', 'e' || d, jsonb_build_object('do', jsonb_build_array(jsonb_build_object('start', 'act', 'id', 'child ' || d))),
                   make_timestamptz(2030, 1, d, 0, 0, 0)) > 0 FROM unnest('{2,5,6}'::int[]) d;
SELECT wfproc.send('a', 'late', at => '2030-01-03 00:00+00') > 0;
SELECT wfproc.start('act', 'never', live_from => 'infinity'), wfproc.start('act', 'always', at => '2030-01-01 00:00+00', live_from => '-infinity');
SELECT wfproc.run();
SELECT id, live_from FROM wfproc.instances WHERE workflow = 'act' ORDER BY id;
SELECT log_of(id) FROM unnest('{a,child 2,child 5,child 6,never,always}'::text[]) id;
\echo 'what comes late when the clock has reached it is live'
SELECT wfproc.send('a', 'later', at => '2030-01-03 00:00+00') > 0;
SELECT wfproc.run();
SELECT log_of('a') OFFSET 5;
SELECT sound();
ROLLBACK;

\echo 'what is started or sent now, by the wall clock, is not of the past'
CREATE TABLE emitted (id text, placed_at timestamptz DEFAULT now());
CREATE TRIGGER emitted AFTER INSERT ON emitted FOR EACH ROW EXECUTE FUNCTION wfproc.emit('id=id', 'event=e', 'start=act');
CREATE TABLE stamped (LIKE emitted INCLUDING DEFAULTS);
CREATE TRIGGER stamped AFTER INSERT ON stamped REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT
    EXECUTE FUNCTION wfproc.emit('id=id', 'event=e', 'start=act', 'at=placed_at');
BEGIN;
SELECT count(wfproc.start('act', 'now-' || n)), count(wfproc.send('now-or-' || n, 'e', or_start => 'act')) FROM generate_series(1, 100) n;
INSERT INTO emitted SELECT 'now-emitted-' || n FROM generate_series(1, 100) n;
\echo 'nor is what is stamped with the beginning of its transaction'
SELECT count(wfproc.start('act', 'now-at-' || n, at => now())), count(wfproc.send('now-or-at-' || n, 'e', at => now(), or_start => 'act')) FROM generate_series(1, 100) n;
INSERT INTO stamped SELECT 'now-stamped-' || n FROM generate_series(1, 100) n;
SELECT wfproc.run();
SELECT count(*), count(*) FILTER (WHERE NOT live) FROM wfproc.instances i, wfproc.history(i.id) WHERE i.id LIKE 'now-%';
ROLLBACK;

\echo '--- live(): what a step is told that would act outside'
CREATE FUNCTION outside(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event = 'start' THEN
        PERFORM wfproc.set_timer('remind', '3 days');
        PERFORM wfproc.start('act_outside', payload ->> 'child') WHERE payload ? 'child';
    END IF;
    IF wfproc.live() THEN
        PERFORM wfproc.set_attributes(jsonb_build_object('to do', event));
    END IF;
    RETURN state || jsonb_build_object(event, wfproc.live());
END $$;
CREATE FUNCTION outside_2(state jsonb, from_version int, to_version int) RETURNS jsonb LANGUAGE sql AS
    $$ SELECT state || jsonb_build_object('migrate', wfproc.live()) $$;
SELECT wfproc.define('act_outside', 'outside'), wfproc.define('act_outside', 'outside', migrate => 'outside_2'), wfproc.set_current_version('act_outside', 1);
SELECT wfproc.live();
BEGIN;
SELECT clock_to('2030-01-10 00:00+00');
SELECT wfproc.start('act_outside', 'a', '{"child": "a/child"}', at => '2030-01-01 00:00+00', live_from => '2030-01-05 00:00+00');
SELECT wfproc.send('a', 'e' || d, at => make_timestamptz(2030, 1, d, 0, 0, 0)) > 0 FROM unnest('{2,5,6}'::int[]) d;
SELECT wfproc.upgrade('a', 2, '2030-01-05 12:00+00') > 0, wfproc.upgrade('a', 1, '2030-01-01 12:00+00') > 0;
SELECT wfproc.start('act_outside', 'never', live_from => 'infinity'), wfproc.start('act_outside', 'loaded', at => '2020-01-01 00:00+00'), wfproc.start('act_outside', 'now');
SELECT wfproc.run();
SELECT about(id), wfproc.state(id) FROM wfproc.instances WHERE workflow = 'act_outside' ORDER BY id;
SELECT seq, h.event, live, diverged, state, jsonb_path_query_array(actions, '$[*].action') FROM wfproc.history('a') h JOIN wfproc.replay('a') USING (seq) ORDER BY seq;
SELECT put_away(), wfproc.send('a', 'more') > 0, wfproc.run(), sound();
\echo 'who tries a step is told yes; a rehearsal and what would have been go by the log'
SELECT (wfproc.try_step('outside', '{}', 'x')).new_state;
SELECT id, question, outcome, first_seq FROM wfproc.check_version('act_outside', 2) WHERE id = 'a';
SELECT wfproc.terminate('a', 'enough'), wfproc.run();
\echo 'a copy tells its handler what the original told it'
SELECT wfproc.fork('a', 4, 'fork', paused => false), wfproc.send('fork', 'forked') > 0, wfproc.run();
SELECT seq, event, live FROM wfproc.history('fork') ORDER BY seq;
SELECT wfproc.state('fork'), (wfproc.verify('fork')).*;
ALTER TABLE wfproc.event DISABLE TRIGGER append_only;
UPDATE wfproc.event e SET live = NOT live FROM wfproc.instance i WHERE i.id = 'fork' AND e.instance_id = i.instance_id AND seq = 3;
SELECT (wfproc.verify('fork')).*;
ROLLBACK;

\echo '--- catching up: timers and messages in their places, as if live'
CREATE FUNCTION bill(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event IN ('start', 'month') THEN
        PERFORM wfproc.set_timer('month', after => '1 month');
    END IF;
    IF event = 'month' THEN
        PERFORM wfproc.send('ledger', 'paid', jsonb_build_object('by', wfproc.self(), 'at', wfproc.now()));
    ELSIF event = 'leave' THEN
        PERFORM wfproc.complete();
    END IF;
    RETURN state;
END $$;
SELECT wfproc.define('act_bill', 'bill');
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('act', 'ledger', at => '2029-01-01 00:00+00');
SELECT wfproc.start('act_bill', 'first', at => '2029-09-30 00:00+00'), wfproc.start('act_bill', 'second', at => '2029-10-29 12:00+00');
SELECT wfproc.send('first', 'leave', at => '2029-12-30 00:00+00') > 0;
SELECT wfproc.run();
SELECT log_of('ledger');
SELECT log_of('first');
SELECT about('second');
SELECT agenda_of('second');
SELECT sound();
ROLLBACK;

\echo '--- a SQL-language handler'
CREATE FUNCTION sql_act(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT CASE event
        WHEN 'start' THEN state || jsonb_build_object('asked', wfproc.set_timer('t', after => '1 minute')::text, 'sent', wfproc.send('s-2', 'hello', '{"n": 1}'),
                                                      'child', wfproc.start('act_sql', wfproc.self() || '+'))
        WHEN 't' THEN state || jsonb_build_object('done', wfproc.set_attributes('{"fired": true}')::text, 'closed', wfproc.complete('"by SQL"')::text)
        ELSE state || jsonb_build_object(event, payload)
    END
$$;
CREATE FUNCTION sql_leaf(state jsonb, event text, payload jsonb) RETURNS jsonb BEGIN ATOMIC
    SELECT CASE WHEN event = 'hello' THEN (SELECT state || payload FROM (SELECT wfproc.reply('"got it"'), wfproc.monitor(wfproc.sender())) a) ELSE state END;
END;
SELECT wfproc.define('act_sql', 'sql_leaf');
SELECT wfproc.define('act_sql_root', 'sql_act');
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('act_sql', 's-2'), wfproc.start('act_sql_root', 's-1');
SELECT wfproc.run();
SELECT wfproc.state('s-1'), wfproc.state('s-2');
SELECT agenda_of('s-1');
SELECT clock_to('2030-01-01 00:01+00');
SELECT wfproc.run();
SELECT log_of(id) FROM unnest('{s-1,s-2,s-1+}'::text[]) id;
SELECT about('s-1'), wfproc.state('s-1');
SELECT sound();
ROLLBACK;

\echo '--- an EXCEPTION block that is rolled back takes its actions with it, and nothing else'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('act', 'a');
SELECT wfproc.send('a', 'e', '{"do": [{"send": "$self", "event": "one"}, {"undo": [{"send": "$self", "event": "never"}, {"timer": "never", "after": "0"}, {"start": "act", "id": "never"},
    {"set_attributes": {"never": 1}}, {"reply": "never"}]}, {"send": "$self", "event": "two"}, {"reply": "yes"}]}') > 0;
SELECT wfproc.run();
SELECT log_of('a');
SELECT about('a'), about('never') IS NULL;
\echo 'also what would have ended the step: what came before it is there again'
SELECT wfproc.send('a', 'e', '{"do": [{"send": "$self", "event": "three"}, {"undo": [{"complete": "never"}]}, {"undo": [{"fail": "never"}]}, {"undo": [{"reject": "never"}]}, {"undo": [{"postpone": 1}]},
    {"send": "$self", "event": "four"}]}') > 0;
SELECT wfproc.run();
SELECT log_of('a') OFFSET 4;
SELECT about('a');
SELECT dead();
SELECT sound();
ROLLBACK;

\echo '--- cascades: a chain that is deeper than wfproc.max_cascade goes on in the next turn'
CREATE FUNCTION chain(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    n int := (payload ->> 'n')::int;
BEGIN
    IF n > 0 THEN
        PERFORM wfproc.send(CASE wfproc.self() WHEN 'chain-1' THEN 'chain-2' ELSE 'chain-1' END, 'hop', jsonb_build_object('n', n - 1));
    END IF;
    RETURN jsonb_build_object('n', COALESCE((state ->> 'n')::int, 0) + 1);
END $$;
SELECT wfproc.define('act_chain', 'chain');
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('act_chain', 'chain-1'), wfproc.start('act_chain', 'chain-2');
SELECT wfproc.run();
SELECT wfproc.send('chain-1', 'hop', '{"n": 3500}') > 0;
SELECT wfproc.run();
SELECT wfproc.state('chain-1'), wfproc.state('chain-2');
SELECT waiting FROM wfproc.instances WHERE id LIKE 'chain-%';
SELECT count(*), count(DISTINCT payload) FROM wfproc.history('chain-1', max => 100000) WHERE event = 'hop';
\echo 'run(max_events) stops in it; what it has not reached waits in the mailbox'
SELECT wfproc.send('chain-1', 'hop', '{"n": 50}') > 0;
SELECT wfproc.run(10);
SELECT sum(waiting) FROM wfproc.instances WHERE id LIKE 'chain-%';
SELECT wfproc.run(10), wfproc.run();
SELECT sum(waiting) FROM wfproc.instances WHERE id LIKE 'chain-%';
SELECT sound();
ROLLBACK;

\echo '--- fan-out, and the bound of actions'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('act', 'hub'), count(wfproc.start('act', 'spoke-' || n)) FROM generate_series(1, 100) n;
SELECT wfproc.run();
SELECT wfproc.send('hub', 'fan', jsonb_build_object('do', jsonb_agg(jsonb_build_object('send', 'spoke-' || n, 'event', 'hit')))) > 0 FROM generate_series(1, 100) n;
SELECT wfproc.run();
SELECT count(*), count(DISTINCT i.id) FROM wfproc.instances i, wfproc.history(i.id) h WHERE i.id LIKE 'spoke-%' AND h.event = 'hit' AND h.sender = 'hub';
SET LOCAL wfproc.max_actions = 99;
SELECT wfproc.send('hub', 'fan', jsonb_build_object('do', jsonb_agg(jsonb_build_object('send', 'spoke-' || n, 'event', 'hit')))) > 0 FROM generate_series(1, 100) n;
SELECT wfproc.run();
SELECT about('hub');
\echo 'a replay asks no limits that may have been others then'
SELECT sound();
SET LOCAL wfproc.max_actions = 100;
SELECT wfproc.retry_now('hub');
SELECT wfproc.run();
SELECT count(*) FROM wfproc.instances i, wfproc.history(i.id) h WHERE i.id LIKE 'spoke-%' AND h.event = 'hit' AND h.sender = 'hub';
SELECT sound();
ROLLBACK;

\echo '--- a failing step has sent nothing, set nothing, started nothing'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.start('act', 'a'), wfproc.start('act', 'b');
SELECT wfproc.send('a', 'bad', '{"do": [{"send": "b", "event": "never"}, {"timer": "never", "after": "0"}, {"start": "act", "id": "never"}, {"set_attributes": {"never": 1}}, {"monitor": "b"}, {"terminate": "b"}, {"raise": "no"}]}') > 0;
SELECT wfproc.run();
SELECT about('a'), about('b'), about('never') IS NULL;
SELECT log_of('b');
\echo 'a receiver that fails loses nothing: what was handed over in memory is in its mailbox'
SELECT wfproc.send('b', 'go', '{"do": [{"send": "b", "event": "bad", "payload": {"do": [{"raise": "no"}]}}, {"send": "b", "event": "next"}]}') > 0;
SELECT wfproc.run();
SELECT about('b');
SELECT agenda_of('b');
SELECT wfproc.skip('b');
SELECT wfproc.run();
SELECT log_of('b');
\echo 'so it is with one that is paused'
SELECT wfproc.pause('b');
SELECT wfproc.skip('a');
SELECT wfproc.send('a', 'go', '{"do": [{"send": "b", "event": "waits"}]}') > 0;
SELECT wfproc.run();
SELECT about('b');
SELECT agenda_of('b');
SELECT wfproc.resume('b');
SELECT wfproc.run();
SELECT about('b');
SELECT sound();
ROLLBACK;

\echo '--- send(..., or_start): from outside and from a handler'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT wfproc.send('o-1', 'e', '{"n": 1}', or_start => 'act') > 0, wfproc.send('o-1', 'e', '{"n": 2}', or_start => 'act') > 0;
SELECT wfproc.start('act', 'a', '{"do": [{"send": "o-1", "event": "e", "payload": {"n": 3}, "or_start": "act"}, {"send": "o-2", "event": "e", "payload": {"n": 1}, "or_start": "act"},
    {"send": "o-2", "event": "e", "payload": {"n": 2}, "or_start": "act"}, {"send": "o-3", "event": "e", "or_start": "nothing"}, {"send": "o-4", "event": "e", "at": "2030-01-02 00:00+00", "or_start": "act"}]}');
SELECT wfproc.run();
SELECT log_of(id) FROM unnest('{o-1,o-2}'::text[]) id;
SELECT about('o-1'), about('o-2'), about('o-3') IS NULL, about('o-4');
SELECT dead();
SELECT clock_to('2030-01-02 00:00+00');
SELECT wfproc.run();
SELECT log_of('o-4');
\echo 'one that has closed is not started again'
SELECT wfproc.send('o-1', 'end', '{"do": [{"complete": null}]}') > 0;
SELECT wfproc.run();
SELECT try($$ SELECT wfproc.send('o-1', 'e', or_start => 'act') $$);
SELECT wfproc.send('a', 'go', '{"do": [{"send": "o-1", "event": "e", "or_start": "act"}]}') > 0;
SELECT wfproc.run();
SELECT dead() OFFSET 1;
SELECT sound();
ROLLBACK;

\echo '--- set-based'
BEGIN;
SELECT clock_to('2030-01-01 00:00+00');
SELECT count(wfproc.start('act', 'set-' || n, attributes => jsonb_build_object('odd', n % 2 = 1))) FROM generate_series(1, 6) n;
SELECT wfproc.run();
SELECT count(*) FILTER (WHERE wfproc.cancel(id, 'all of them')) FROM wfproc.instances WHERE attributes @> '{"odd": true}' AND id LIKE 'set-%';
SELECT wfproc.run();
SELECT status, count(*) FROM wfproc.instances WHERE id LIKE 'set-%' GROUP BY 1 ORDER BY 1;
ROLLBACK;

\echo '--- control_all(): many, in batches that are committed'
-- until this is seen, the worker has not handled what was asked for
CREATE PROCEDURE until_true(condition text) LANGUAGE plpgsql AS $$
DECLARE
    give_up timestamptz := clock_timestamp() + interval '60 s';
    met bool;
BEGIN
    LOOP
        EXECUTE 'SELECT ' || condition INTO met;
        EXIT WHEN met;
        IF clock_timestamp() > give_up THEN RAISE 'waited in vain: %', condition; END IF;
        COMMIT;
    END LOOP;
END $$;
SELECT count(wfproc.start('act', 'many-' || n, at => '2199-01-01 00:00+00', attributes => jsonb_build_object('even', n % 2 = 0))) FROM generate_series(1, 2500) n;
SELECT wfproc.start('act_fail', 'another', at => '2199-01-01 00:00+00', attributes => '{"even": true}');
CALL wfproc.control_all('pause', 'act', '{"even": true}', reason => 'half of them');
CALL until_true($$ (SELECT count(*) = 1250 FROM wfproc.instances WHERE workflow = 'act' AND status = 'paused') $$);
SELECT DISTINCT event, payload ->> 'reason', payload ->> 'by' = current_user FROM wfproc.instances i, wfproc.history(i.id) WHERE workflow = 'act' AND status = 'paused';
\echo 'again: nothing to do'
CALL wfproc.control_all('pause', 'act', '{"even": true}');
CALL wfproc.control_all('resume', 'act', status => 'running');
CALL wfproc.control_all('retry_now', 'act');
CALL wfproc.control_all('skip', 'act');
CALL wfproc.control_all('pause', 'act', '{"even": 7}');
\echo 'by status'
CALL wfproc.control_all('terminate', 'act', status => 'paused', reason => 'the rest');
CALL until_true($$ (SELECT count(*) = 1250 FROM wfproc.instances WHERE workflow = 'act' AND status = 'terminated') $$);
CALL wfproc.control_all('resume', 'act');
CALL wfproc.control_all('cancel', 'act', '{}', NULL, NULL);
CALL wfproc.control_all('cancel', 'act', '{}', NULL, NULL);
CALL wfproc.control_all('terminate', 'act', '{}', NULL, NULL);
CALL until_true($$ (SELECT count(*) = 2500 FROM wfproc.instances WHERE workflow = 'act' AND status = 'terminated') $$);
CALL wfproc.control_all('terminate', 'act');
SELECT about('another') LIKE 'another, running%';
SELECT try($$ CALL wfproc.control_all('pause', 'act') $$);
BEGIN;
CALL wfproc.control_all('pause', 'act');
ROLLBACK;
SELECT wfproc.terminate('another');
CALL until_true($$ (SELECT status = 'terminated' FROM wfproc.instances WHERE id = 'another') $$);
SELECT count(*) FROM wfproc.mailbox m JOIN wfproc.instance i USING (instance_id) WHERE i.id LIKE 'many-%';
SELECT sound();

\echo '--- watch: who listens is told of an end and of attributes, but not of the past'
SELECT wfproc.define('act_watched', 'act', watch => true);
LISTEN wfproc;
\echo 'by a number, once in a transaction, which says nothing to who may not look it up'
BEGIN;
SELECT wfproc.start('act_watched', 'seen', '{"do": [{"set_attributes": {"n": 1}}]}'), wfproc.start('act_watched', 'coloured', '{"do": [{"set_attributes": {"n": 1}}]}');
\echo 'nor is one past that is stamped with the beginning of the transaction'
SELECT wfproc.start('act_watched', 'stamped', '{"do": [{"complete": null}]}', at => now());
SELECT instance_id AS seen FROM wfproc.instances WHERE id = 'seen' \gset
SELECT instance_id AS coloured FROM wfproc.instances WHERE id = 'coloured' \gset
SELECT instance_id AS stamped FROM wfproc.instances WHERE id = 'stamped' \gset
\setenv SEEN :seen
\setenv COLOURED :coloured
\setenv STAMPED :stamped
\o |sed "s/PID [0-9]*/PID n/; s/payload \"$SEEN\"/payload \"that of seen\"/; s/payload \"$COLOURED\"/payload \"that of coloured\"/; s/payload \"$STAMPED\"/payload \"that of stamped\"/"
SELECT wfproc.run();
SELECT wfproc.send('seen', 'end', '{"do": [{"complete": null}]}') > 0;
SELECT wfproc.start('act_watched', 'past', '{"do": [{"set_attributes": {"n": 1}}, {"complete": null}]}', live_from => 'infinity');
SELECT wfproc.start('act', 'unwatched', '{"do": [{"set_attributes": {"n": 1}}, {"complete": null}]}');
SELECT wfproc.run();
COMMIT;
\o
UNLISTEN wfproc;
SELECT about(id) ~ ', completed' FROM unnest('{seen,past,stamped,unwatched}'::text[]) id;

DROP SCHEMA actions_test CASCADE;
DROP OWNED BY actions_other;
DROP ROLE actions_other;
