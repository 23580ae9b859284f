/*
 * contract.sql: rental contracts, and a law that changes them on the 1st of July.
 *
 * A program that is changed is changed for all its data and at once, at whatever hour it is installed.  A contract is another
 * matter: what happened until June is to be judged by the old rules for ever, what happens from July on by the new ones, and
 * the new ones are known in May.  Here each contract is a process: what happens to it is an event in its log, and its state is
 * what the events so far have led to.  The change of the rules is an event too, with a date: it is agreed on, rehearsed and
 * taken back like anything else that lies in the future, and stays in the log when it has come.
 *
 * Run it in any database that has the extension, as a superuser; it leaves nothing behind:
 *
 *     psql -aq -f examples/contract/contract.sql
 */

BEGIN;
SET LOCAL TimeZone = 'UTC';
SET LOCAL DateStyle = 'ISO';

-- Version 1, the old law.  A handler says what an event makes of a state.  The start has the terms: {"rent", "area"}.  On the
-- first day of each month the rent falls due: that is a timer, an event that the contract sends to itself.
CREATE FUNCTION contract(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event IN ('start', 'rent due') THEN
        PERFORM wfproc.set_timer('rent due', at => date_trunc('month', wfproc.now()) + interval '1 month');
    END IF;
    CASE event
        WHEN 'start' THEN RETURN payload || '{"owed": 0}';
        WHEN 'rent due' THEN RETURN state || jsonb_build_object('owed', (state->>'owed')::numeric + (state->>'rent')::numeric);
        WHEN 'paid' THEN RETURN state || jsonb_build_object('owed', (state->>'owed')::numeric - (payload->>'euro')::numeric);
        WHEN 'measured' THEN RETURN state || payload;
    END CASE;
END $$;
SELECT wfproc.define('contract', 'contract', accepts => '{paid,measured}');

/*
 * Spring.  fake_now is what this session takes for the time; run() handles what is due by then, as the workers do on a server
 * in use.  Four contracts begin in February, and pay in the first days of each month.
 */
SET LOCAL wfproc.fake_now = '2026-02-01 09:00';
SELECT wfproc.start('contract', id, terms, attributes => jsonb_build_object('use', split_part(id, '-', 1))) AS contract
FROM (VALUES ('flat-1', '{"rent": 900, "area": 75}'::jsonb), ('flat-2', '{"rent": 500, "area": 60}'),
             ('flat-3', '{"rent": 640}'), ('shop-1', '{"rent": 1500, "area": 110}')) AS c(id, terms);
SELECT count(wfproc.send(id, 'paid', jsonb_build_object('euro', rent), at => day)) AS payments
FROM (VALUES ('flat-1', 900), ('flat-2', 500), ('flat-3', 640), ('shop-1', 1500)) AS c(id, rent),
     generate_series('2026-03-03 10:00'::timestamptz, '2026-05-03 10:00', '1 month') AS day;
SET LOCAL wfproc.fake_now = '2026-05-10 09:00';
SELECT wfproc.run() AS handled;
SELECT id, seq AS events, version, state FROM wfproc.states('contract');

/*
 * May.  A law is passed: from the 1st of July on the rent of a flat is 10 a square metre at most.  That is version 2: it caps
 * the rent of contracts that begin, and after a measurement.  The function "cap" turns over the state of those that run.
 */
CREATE FUNCTION contract_capped(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event IN ('start', 'rent due') THEN
        PERFORM wfproc.set_timer('rent due', at => date_trunc('month', wfproc.now()) + interval '1 month');
    END IF;
    CASE event
        WHEN 'start' THEN RETURN payload || jsonb_build_object('owed', 0,
                              'rent', least((payload->>'rent')::numeric, 10 * (payload->>'area')::numeric));
        WHEN 'rent due' THEN RETURN state || jsonb_build_object('owed', (state->>'owed')::numeric + (state->>'rent')::numeric);
        WHEN 'paid' THEN RETURN state || jsonb_build_object('owed', (state->>'owed')::numeric - (payload->>'euro')::numeric);
        WHEN 'measured' THEN RETURN state || payload || jsonb_build_object(
                              'rent', least((state->>'rent')::numeric, 10 * (payload->>'area')::numeric));
    END CASE;
END $$;
CREATE FUNCTION cap(state jsonb, from_version int, to_version int) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF state->'area' IS NULL THEN
        RAISE EXCEPTION 'nobody has measured it';
    END IF;
    RETURN state || jsonb_build_object('rent', least((state->>'rent')::numeric, 10 * (state->>'area')::numeric));
END $$;
SELECT wfproc.define('contract', 'contract_capped', migrate => 'cap') AS version;
-- published, and so far nobody has it: what is signed in May is under the old law, too
SELECT wfproc.set_current_version('contract', 1) AS current_version_was;

-- The rehearsal; it writes nothing.  First question: had this been the law all along, in which contracts would it have made a
-- difference, and what is the first event at which it shows?  (It is also asked of the shop: whom the version is for is a matter
-- of the roll-out, below.)
SELECT id, outcome, first_seq, state->'rent' AS rent, new_state->'rent' AS new_rent
FROM wfproc.check_version('contract', 2, 'history');
-- Second: would an upgrade succeed, as things stand?
SELECT id, outcome, new_state->'rent' AS new_rent, error FROM wfproc.check_version('contract', 2, 'upgrade');
-- It would not for flat-3.  Better to know that in May: somebody goes there with a tape measure.
SELECT wfproc.send('flat-3', 'measured', '{"area": 58}') > 0 AS sent;
SELECT wfproc.run() AS handled;
SELECT id, outcome, new_state->'rent' AS new_rent, error FROM wfproc.check_version('contract', 2, 'upgrade');

-- The roll-out for all flats, on the 1st of July.  It is one row, however many they are; each meets it on its way.
SELECT wfproc.rollout('contract', 2, at => '2026-07-01', attributes => '{"use": "flat"}') AS rollout \gset
-- Shops are not concerned.  The owner of this one has promised the tenant the same by letter: an upgrade of its own, which lies
-- on its agenda.
SELECT wfproc.upgrade('shop-1', 2, at => '2026-07-01') AS upgrade \gset
SELECT at, event, payload->'version' AS version FROM wfproc.agenda('shop-1');

/*
 * June.  The tenant of flat-1 asks what there will be to pay.  A forecast lives through what is on the agenda, and what follows
 * from it, and supposes what we want: here, payments of 750.  Nothing of that happens.
 */
SET LOCAL wfproc.fake_now = '2026-06-15 09:00';
SELECT count(wfproc.send(id, 'paid', jsonb_build_object('euro', rent), at => '2026-06-03 10:00')) AS payments
FROM (VALUES ('flat-1', 900), ('flat-3', 640), ('shop-1', 1500)) AS c(id, rent);
SELECT wfproc.run() AS handled;
SELECT at, event, state->'rent' AS rent, state->'owed' AS owed
FROM wfproc.forecast('flat-1', until => '2026-08-31',
                     extra => '[{"event": "paid", "payload": {"euro": 750}, "at": "2026-07-03"},
                                {"event": "paid", "payload": {"euro": 750}, "at": "2026-08-03"}]');
-- all of them, on the evening of the 1st of July
SELECT id, state->'rent' AS rent, state->'owed' AS owed FROM wfproc.forecasts('contract', until => '2026-07-01 20:00');
-- The shop is sold, and the new owner has promised nothing.  Until its time an upgrade can be taken back.
SELECT wfproc.unsend('shop-1', :upgrade) AS taken_back;

/*
 * July.  The day has come, and nobody had to be there.  On the 6th the bank hands in a payment for flat-2 that was made in
 * June: it keeps its stamp, and is handled now, when we know of it, under the law of now.
 */
SET LOCAL wfproc.fake_now = '2026-07-04 09:00';
SELECT count(wfproc.send(id, 'paid', jsonb_build_object('euro', rent), at => '2026-07-03 10:00')) AS payments
FROM (VALUES ('flat-1', 750), ('flat-2', 500), ('flat-3', 580), ('shop-1', 1500)) AS c(id, rent);
SELECT wfproc.run() AS handled;
SET LOCAL wfproc.fake_now = '2026-07-06 09:00';
SELECT wfproc.send('flat-2', 'paid', '{"euro": 500}', at => '2026-06-29 18:00') > 0 AS sent;
SELECT wfproc.run() AS handled;
SELECT status, pending, done, failed FROM wfproc.rollouts WHERE rollout_id = :rollout;
SELECT seq, at, event, state->'rent' AS rent, state->'owed' AS owed FROM wfproc.replay('flat-1') WHERE at > '2026-06-01';
SELECT h.seq, h.at, h.recorded_at, h.event, r.state->'owed' AS owed
FROM wfproc.history('flat-2') h JOIN wfproc.replay('flat-2') r USING (seq) WHERE h.at > '2026-06-01';

-- Before and after, of all, in one query: on the evening of the 30th of June, and when the 1st of July had begun
SELECT id, june.version, june.state->'rent' AS rent, june.state->'owed' AS owed, '|' AS "|",
       july.version, july.state->'rent' AS rent, july.state->'owed' AS owed
FROM wfproc.states('contract', as_of => '2026-06-30 23:59') june
JOIN wfproc.states('contract', as_of => '2026-07-01 00:00') july USING (id);
-- What flat-2 owed on the 5th of July, and what we thought on that day that it did
SELECT wfproc.state('flat-2', as_of => '2026-07-05')->'owed' AS owed,
       wfproc.state('flat-2', as_of => '2026-07-05', known_at => '2026-07-05')->'owed' AS thought;

-- The logs can be checked at any time: each event is handled again, by the version that it was handled by, and must lead to
-- the same.
SELECT id, version, ok, reason FROM wfproc.instances JOIN wfproc.verify_all('contract') USING (id) ORDER BY id;

ROLLBACK;
