/*
 * auction.sql: an auction that closes by itself, tells the winner and the losers, and does not hear who comes too late.
 *
 * The auction and each bidder are processes: each has a state of its own that nobody else can write, and they do nothing
 * but send each other events.  Two bidders who outbid each other do so within one transaction and in memory; what is left
 * of it is a row in the log of each for every event, from which anybody can see who bid what, and in which order.
 *
 * Run it in any database that has the extension, as a superuser; it leaves nothing behind:
 *
 *     psql -aq -f examples/auction/auction.sql
 */

BEGIN;
SET LOCAL TimeZone = 'UTC';
SET LOCAL DateStyle = 'ISO';

-- The auction.  Who bids is the sender, or, where a bid comes from outside (there sender() is NULL), who it names.
-- reject() makes an event a dead letter: it changes nothing, and is kept with the reason.
CREATE FUNCTION auction(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    bidder text := coalesce(wfproc.sender(), payload->>'bidder');
    loser text;
BEGIN
    CASE event
        WHEN 'start' THEN
            PERFORM wfproc.set_timer('hammer', at => (payload->>'closes')::timestamptz);
            RETURN payload || '{"leader": null, "bidders": []}';
        WHEN 'bid' THEN
            IF (payload->>'amount')::int <= (state->>'price')::int THEN
                PERFORM wfproc.reject(format('the price is %s already', state->>'price'));
                RETURN state;
            END IF;
            IF state->>'leader' <> bidder THEN
                PERFORM wfproc.send(state->>'leader', 'outbid', jsonb_build_object('price', payload->'amount'));
            END IF;
            IF NOT state->'bidders' ? bidder THEN
                state := jsonb_set(state, '{bidders}', state->'bidders' || to_jsonb(bidder));
            END IF;
            RETURN state || jsonb_build_object('price', payload->'amount', 'leader', bidder);
        WHEN 'hammer' THEN
            FOR loser IN SELECT jsonb_array_elements_text((state->'bidders') - (state->>'leader')) LOOP
                PERFORM wfproc.send(loser, 'lost', jsonb_build_object('price', state->'price'));
            END LOOP;
            IF state->>'leader' IS NOT NULL THEN
                PERFORM wfproc.send(state->>'leader', 'won', jsonb_build_object('price', state->'price'));
            END IF;
            -- closes the process; how a step ends comes last
            PERFORM wfproc.complete(jsonb_build_object('sold_to', state->'leader', 'price', state->'price'));
            RETURN state;
    END CASE;
END $$;

-- A bidder is told once where to bid, and how far to go; then it answers for itself.
CREATE FUNCTION bidder(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    CASE event
        WHEN 'start' THEN
            RETURN '{"limit": 0, "too_late": 0}';
        WHEN 'instruct' THEN
            PERFORM wfproc.send(payload->>'auction', 'bid', jsonb_build_object('amount', payload->'open'));
            RETURN state || (payload - 'open');
        WHEN 'outbid' THEN
            IF (payload->>'price')::int + 10 <= (state->>'limit')::int THEN
                PERFORM wfproc.send(state->>'auction', 'bid', jsonb_build_object('amount', (payload->>'price')::int + 10));
            END IF;
            RETURN state;
        WHEN 'won', 'lost' THEN
            RETURN state || jsonb_build_object('end', event, 'price', payload->'price');
        WHEN 'dead_letter' THEN                 -- what it has sent could not be delivered
            RETURN state || jsonb_build_object('too_late', (state->>'too_late')::int + 1, 'why', payload->'reason');
    END CASE;
END $$;

-- Unit tests: one step each, of which nothing stays.
SELECT new_state->'price' AS price, actions
FROM wfproc.try_step('auction', '{"price": 100, "leader": "ann", "bidders": ["ann"]}',
                     'bid', '{"bidder": "bob", "amount": 110}');
SELECT actions
FROM wfproc.try_step('auction', '{"price": 100, "leader": "ann", "bidders": ["ann"]}',
                     'bid', '{"bidder": "bob", "amount": 90}');
SELECT jsonb_pretty(actions) AS actions
FROM wfproc.try_step('auction', '{"price": 110, "leader": "bob", "bidders": ["ann", "bob"]}', 'hammer');

-- dead_letter_events: bidders are told, by an event, what could not be delivered
SELECT wfproc.define('auction', 'auction', accepts => '{bid}');
SELECT wfproc.define('bidder', 'bidder', accepts => '{instruct}', dead_letter_events => true);

/*
 * Live: fake_now is what this session takes for the time, run() handles what is due by then.
 */

-- six o'clock
SET LOCAL wfproc.fake_now = '2026-03-20 18:00';
SELECT wfproc.start('auction', 'live/moped', '{"price": 90, "closes": "2026-03-20 20:00Z"}');
SELECT wfproc.start('bidder', id) FROM unnest('{live/ann,live/bob,live/cat}'::text[]) id;
SELECT wfproc.run() AS handled;
SELECT at, event, timer FROM wfproc.agenda('live/moped');

-- Ann is there, and goes up to 150
SET LOCAL wfproc.fake_now = '2026-03-20 18:10';
SELECT wfproc.send('live/ann', 'instruct', '{"auction": "live/moped", "open": 100, "limit": 150}') > 0 AS sent;
SELECT wfproc.run() AS handled;
-- Bob goes up to 200.  The two settle it between them, in one go.
SET LOCAL wfproc.fake_now = '2026-03-20 18:20';
SELECT wfproc.send('live/bob', 'instruct', '{"auction": "live/moped", "open": 110, "limit": 200}') > 0 AS sent;
SELECT wfproc.run() AS handled;
SELECT seq, at, split_part(sender, '/', 2) AS bidder, payload FROM wfproc.history('live/moped') WHERE event = 'bid';

-- Cat bids over the telephone, once well, once too little
SET LOCAL wfproc.fake_now = '2026-03-20 19:00';
SELECT wfproc.send('live/moped', 'bid', '{"bidder": "live/cat", "amount": 160}') > 0 AS sent;
SELECT wfproc.run() AS handled;
SET LOCAL wfproc.fake_now = '2026-03-20 19:30';
SELECT wfproc.send('live/moped', 'bid', '{"bidder": "live/cat", "amount": 165}') > 0 AS sent;
SELECT wfproc.run() AS handled;
SELECT split_part(state->>'leader', '/', 2) AS leader, state->'price' AS price FROM wfproc.state('live/moped') s(state);
SELECT at, event, payload->'amount' AS amount, reason FROM wfproc.dead_letters WHERE id = 'live/moped';

-- What if Ann were given more?  Tried in a transaction that is taken back: the messages, the steps, their logs.
SELECT sha256 AS log_before FROM wfproc.digest('live/moped') \gset
SAVEPOINT what_if;
SET LOCAL wfproc.fake_now = '2026-03-20 19:40';
SELECT wfproc.send('live/ann', 'instruct', '{"auction": "live/moped", "open": 180, "limit": 250}') > 0 AS sent;
SELECT wfproc.run() AS handled;
SELECT split_part(state->>'leader', '/', 2) AS leader, state->'price' AS price FROM wfproc.state('live/moped') s(state);
ROLLBACK TO what_if;
SELECT split_part(state->>'leader', '/', 2) AS leader, state->'price' AS price, sha256 = :'log_before' AS nothing_has_changed
FROM wfproc.state('live/moped') s(state), wfproc.digest('live/moped');

-- Eight o'clock, to the microsecond: at one time, events from outside come before those from processes, and those in the
-- order in which they were made.  So Cat's last bid counts; the hammer falls, for its timer was set at six; and Bob's
-- answer to her is too late.
SET LOCAL wfproc.fake_now = '2026-03-20 20:00';
SELECT wfproc.send('live/moped', 'bid', '{"bidder": "live/cat", "amount": 185}') > 0 AS sent;
SELECT wfproc.run() AS handled;
SELECT status, result FROM wfproc.instances WHERE id = 'live/moped';
-- and Ann comes back when all is over
SET LOCAL wfproc.fake_now = '2026-03-20 20:05';
SELECT wfproc.send('live/ann', 'instruct', '{"auction": "live/moped", "open": 300, "limit": 300}') > 0 AS sent;
SELECT wfproc.run() AS handled;
SELECT split_part(id, '/', 2) AS bidder, state->>'end' AS "end", state->'price' AS price, state->'too_late' AS too_late,
       state->>'why' AS why
FROM wfproc.instances i, wfproc.state(i.id) s(state) WHERE workflow = 'bidder' ORDER BY id;

/*
 * The evening again, entered the next morning in one go, with the times of the evening.  Nobody acts in the order of the
 * statements below: all of them meet in the order of the stamps, and what they say to each other has its place in between.
 */
SET LOCAL wfproc.fake_now = '2026-03-21 09:00';
SELECT wfproc.start('auction', 'late/moped', '{"price": 90, "closes": "2026-03-20 20:00Z"}', at => '2026-03-20 18:00');
SELECT wfproc.start('bidder', id, at => '2026-03-20 18:00') FROM unnest('{late/ann,late/bob,late/cat}'::text[]) id;
SELECT count(wfproc.send(id, event, payload, at => at::timestamptz)) AS sent FROM (VALUES
    ('late/ann', 'instruct', '{"auction": "late/moped", "open": 300, "limit": 300}'::jsonb, '2026-03-20 20:05'),
    ('late/moped', 'bid', '{"bidder": "late/cat", "amount": 185}', '2026-03-20 20:00'),
    ('late/moped', 'bid', '{"bidder": "late/cat", "amount": 165}', '2026-03-20 19:30'),
    ('late/moped', 'bid', '{"bidder": "late/cat", "amount": 160}', '2026-03-20 19:00'),
    ('late/bob', 'instruct', '{"auction": "late/moped", "open": 110, "limit": 200}', '2026-03-20 18:20'),
    ('late/ann', 'instruct', '{"auction": "late/moped", "open": 100, "limit": 150}', '2026-03-20 18:10')
    ) AS e(id, event, payload, at);
SELECT wfproc.run() AS handled;

-- The same?  All that says what happened is compared, without the part of the ids that tells the runs apart.
CREATE VIEW story AS
    SELECT run, split_part(id, '/', 2) AS who, seq, r.at, r.event, split_part(sender, '/', 2) AS sender,
           replace(payload::text, run || '/', '') AS payload, replace(state::text, run || '/', '') AS state
    FROM (SELECT id, split_part(id, '/', 1) AS run FROM wfproc.instances WHERE workflow IN ('auction', 'bidder')) i,
         wfproc.replay(i.id) r JOIN wfproc.history(i.id) h USING (seq);
SELECT who, count(*) AS events, count(*) FILTER (WHERE runs <> '{late,live}') AS differ
FROM (SELECT who, array_agg(run ORDER BY run) AS runs FROM story
      GROUP BY who, seq, at, event, sender, payload, state) s
GROUP BY who ORDER BY who;
SELECT split_part(id, '/', 1) AS run, count(*) AS dead_letters FROM wfproc.dead_letters
WHERE workflow = 'auction' GROUP BY 1 ORDER BY 1;

-- Each log leads to its state, and nobody has changed a row.
SELECT count(*) AS logs, bool_and(ok) AS all_ok FROM wfproc.instances i, wfproc.verify(i.id)
WHERE workflow IN ('auction', 'bidder');

ROLLBACK;
