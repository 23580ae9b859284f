-- versions: set_current_version(), show_code(), upgrade() at once and dated, migrate chains, roll-outs
\set QUIET on
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';

CREATE SCHEMA upgrade_test;
SET search_path = upgrade_test;

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

CREATE FUNCTION log_of(id text) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT concat_ws(' ', r.seq, r.event, to_char(r.at, 'MM-DD HH24:MI'), r.state) FROM wfproc.replay(id) r ORDER BY r.seq
$$;

-- version 1 counts in n, 2 in count, 3 as 2 but by tens
CREATE FUNCTION h(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE sql AS
    $$ SELECT jsonb_build_object('n', COALESCE((state ->> 'n')::int, 0) + 1) $$;
SELECT wfproc.define('up', 'h');
CREATE OR REPLACE FUNCTION h(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE sql AS
    $$ SELECT jsonb_build_object('count', COALESCE((state ->> 'count')::int, 0) + 1) $$;
CREATE FUNCTION m(state jsonb, from_version int, to_version int) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF state ->> 'n' = '13' THEN
        RAISE EXCEPTION 'no such luck';
    END IF;
    RETURN jsonb_build_object('count', state -> 'n');
END $$;
SELECT wfproc.define('up', 'h', migrate => 'm');
CREATE OR REPLACE FUNCTION h(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE sql AS
    $$ SELECT jsonb_build_object('count', COALESCE((state ->> 'count')::int, 0) + 10) $$;
SELECT wfproc.define('up', 'h');

\echo '--- versions'
SELECT workflow, version, current, handler, migrate, code_sha256 IS NOT NULL FROM wfproc.versions WHERE workflow = 'up' ORDER BY version;
SELECT wfproc.show_code('up', 2);
SELECT wfproc.set_current_version('up', 1), wfproc.set_current_version('up', 1);
SELECT current_version FROM wfproc.workflows WHERE workflow = 'up';
SELECT try($$ SELECT wfproc.set_current_version('up', 4) $$);
SELECT try($$ SELECT wfproc.show_code('up', 4) $$);
\echo 'the same code again is the current version only if it is the current one''s'
SELECT wfproc.define('up', 'h');
SELECT wfproc.set_current_version('up', 1);

\echo '--- upgrade() in the order of stamps: the same live, late and as catch-up'
BEGIN;
SET LOCAL wfproc.fake_now = '2030-01-01 00:00+00';
SELECT wfproc.start('up', 'live', at => '2030-01-01 00:00+00'), wfproc.start('up', 'late', at => '2030-01-01 00:00+00');
SELECT wfproc.upgrade('live', 2, '2030-01-02 12:00+00') IS NOT NULL, wfproc.upgrade('late', 2, '2030-01-02 12:00+00') IS NOT NULL;
SELECT event, at, payload FROM wfproc.agenda('live') WHERE event = '$upgrade';
SELECT wfproc.send(id, 'e', at => '2030-01-01 00:00+00'::timestamptz + n * interval '1 day') > 0 FROM unnest('{live,late}'::text[]) id, generate_series(1, 3) n;
SET LOCAL wfproc.fake_now = '2030-01-01 00:00+00';
SELECT wfproc.run();
SET LOCAL wfproc.fake_now = '2030-01-02 00:00+00';
SELECT wfproc.run(1);
SET LOCAL wfproc.fake_now = '2030-02-01 00:00+00';
SELECT wfproc.run();
SELECT log_of('live');
SELECT count(*) FROM (SELECT log_of('live') EXCEPT SELECT log_of('late')) d;
SELECT id, version, (wfproc.verify(id)).ok FROM wfproc.instances WHERE id IN ('live', 'late') ORDER BY id;
SELECT wfproc.passivate('live'), wfproc.send('live', 'e') > 0, wfproc.run();
SELECT wfproc.state('live'), wfproc.state('live', as_of => '2030-01-02 12:00+00'), wfproc.state('live', as_of => '2030-01-02 11:59+00');
ROLLBACK;

\echo '--- at once, over two versions; and nothing where there is nothing to do'
BEGIN;
SET LOCAL wfproc.fake_now = '2030-01-01 00:00+00';
SELECT wfproc.start('up', 'u'), wfproc.run();
SELECT wfproc.upgrade('u', 3) > 0, wfproc.send('u', 'e') > 0, wfproc.run();
SELECT log_of('u');
SELECT wfproc.upgrade('u', 3) IS NULL;
SELECT (wfproc.verify('u')).*;
\echo 'there is no way back without a migrate function'
SELECT try($$ SELECT wfproc.upgrade('u', 1) $$);
SELECT wfproc.upgrade('u', 2) > 0, wfproc.run();
SELECT version FROM wfproc.instances WHERE id = 'u';
ROLLBACK;

\echo '--- a dated one can be taken back until it is due'
BEGIN;
SET LOCAL wfproc.fake_now = '2030-01-01 00:00+00';
SELECT wfproc.start('up', 'u'), wfproc.run();
SELECT wfproc.unsend('u', wfproc.upgrade('u', 2, '2030-06-01 00:00+00'));
SET LOCAL wfproc.fake_now = '2031-01-01 00:00+00';
SELECT wfproc.run(), version FROM wfproc.instances WHERE id = 'u';
ROLLBACK;

\echo '--- migrate fails: paused, with the reason, and nothing is lost'
BEGIN;
SET LOCAL wfproc.fake_now = '2030-01-01 00:00+00';
SELECT wfproc.start('up', 'u');
SELECT count(wfproc.send('u', 'e')) FROM generate_series(1, 12);
SELECT wfproc.run();
SELECT wfproc.upgrade('u', 2, '2030-01-02 00:00+00') > 0, wfproc.send('u', 'after', at => '2030-01-03 00:00+00') > 0;
SET LOCAL wfproc.fake_now = '2030-01-04 00:00+00';
SELECT wfproc.run();
SELECT version, status, error, waiting FROM wfproc.instances WHERE id = 'u';
\echo 'resume() tries it again; taken back, the instance goes on as it was'
SELECT wfproc.resume('u'), wfproc.run();
SELECT version, status, waiting FROM wfproc.instances WHERE id = 'u';
SELECT wfproc.unsend('u', mail_id) FROM wfproc.agenda('u') WHERE event = '$upgrade';
SELECT wfproc.resume('u'), wfproc.run();
SELECT version, status, waiting, wfproc.state(id) FROM wfproc.instances WHERE id = 'u';
\echo 'one at once becomes a dead letter'
SELECT wfproc.start('up', 'v');
SELECT count(wfproc.send('v', 'e')) FROM generate_series(1, 12);
SELECT wfproc.run(), wfproc.upgrade('v', 2) > 0, wfproc.run();
SELECT status, error FROM wfproc.instances WHERE id = 'v';
SELECT event, reason FROM wfproc.dead_letters WHERE id = 'v';
ROLLBACK;

\echo '--- a migrate function on the way that is lost or was altered: no upgrade goes on without it'
SELECT format('wfproc_code_%s_2', workflow_id) AS copies FROM wfproc.workflow WHERE name = 'up' \gset
SELECT pg_get_functiondef(format('%I.m(jsonb, int, int)', :'copies')::regprocedure) AS published \gset
BEGIN;
SET LOCAL wfproc.fake_now = '2030-01-01 00:00+00';
SELECT wfproc.start('up', 'over', version => 1), wfproc.start('up', 'to', version => 1), wfproc.start('up', 'gone by', version => 1), wfproc.run();
SELECT wfproc.upgrade('gone by', 3) > 0, wfproc.run();
DROP FUNCTION :copies.m;
SELECT wfproc.upgrade('over', 3, '2030-01-02') > 0, wfproc.upgrade('to', 2) > 0, wfproc.send('over', 'e', at => '2030-01-03') > 0;
SELECT id, outcome, replace(error, :'copies', 'COPIES') FROM wfproc.check_version('up', 3, 'upgrade') ORDER BY id;
SET LOCAL wfproc.fake_now = '2030-01-04 00:00+00';
SELECT wfproc.run();
SELECT id, version, status, replace(error, :'copies', 'COPIES'), waiting FROM wfproc.instances WHERE id IN ('over', 'to') ORDER BY id;
\echo 'nor is a log that has gone by it folded without it'
SELECT ok, first_bad_seq, replace(reason, :'copies', 'COPIES') FROM wfproc.verify('gone by');
SELECT replace(r, :'copies', 'COPIES') FROM unnest(ARRAY['state', 'replay']) f, try(format('SELECT wfproc.%I(%L)', f, 'gone by')) r;
CREATE FUNCTION :copies.m(state jsonb, from_version int, to_version int) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{"forged": 1}'::jsonb $$;
SELECT ok, first_bad_seq, replace(reason, :'copies', 'COPIES') FROM wfproc.verify('gone by');
SELECT wfproc.resume('over'), wfproc.run();
SELECT version, status, replace(error, :'copies', 'COPIES') FROM wfproc.instances WHERE id = 'over';
\echo 'as it was again'
:published;
SELECT wfproc.resume('over'), wfproc.run();
SELECT log_of('over');
SELECT id, version, status, (wfproc.verify(id)).* FROM wfproc.instances WHERE id IN ('over', 'to', 'gone by') ORDER BY id;
ROLLBACK;

\echo '--- a paused instance, and one that fails, can be upgraded at once'
BEGIN;
SET LOCAL wfproc.fake_now = '2030-01-01 00:00+00';
SELECT wfproc.start('up', 'u'), wfproc.run(), wfproc.pause('u'), wfproc.run();
SELECT wfproc.upgrade('u', 2) > 0, wfproc.run();
SELECT version, status, wfproc.state(id) FROM wfproc.instances WHERE id = 'u';
ROLLBACK;

\echo '--- rollout(): one row, which each instance meets on its way'
BEGIN;
SET LOCAL wfproc.fake_now = '2030-01-01 00:00+00';
SELECT wfproc.start('up', 'r-' || n, attributes => jsonb_build_object('region', CASE WHEN n < 4 THEN 'eu' ELSE 'us' END)) FROM generate_series(1, 5) n;
SELECT wfproc.run();
SELECT wfproc.rollout('up', 2, '2030-01-02 00:00+00', attributes => '{"region": "eu"}') AS rollout \gset
SELECT wfproc.send('r-' || n, 'e', at => '2030-01-01 12:00+00'), wfproc.send('r-' || n, 'e', at => '2030-01-02 12:00+00') FROM generate_series(1, 2) n \g /dev/null
SELECT wfproc.send('r-5', 'e', at => '2030-01-02 12:00+00') > 0;
SET LOCAL wfproc.fake_now = '2030-01-03 00:00+00';
SELECT wfproc.run();
SELECT log_of('r-1');
SELECT id, version, wfproc.state(id) FROM wfproc.instances WHERE id LIKE 'r-_' ORDER BY id;
SELECT workflow, version, at, attributes, status, pending, done, failed FROM wfproc.rollouts WHERE rollout_id = :rollout;
SELECT wfproc.cancel_rollout(:rollout), wfproc.cancel_rollout(:rollout);
SELECT wfproc.send('r-3', 'e') > 0, wfproc.run();
SELECT version FROM wfproc.instances WHERE id = 'r-3';
SELECT bool_and((wfproc.verify(id)).ok) FROM wfproc.instances WHERE id LIKE 'r-_';
ROLLBACK;
\echo 'it stops by itself after so many failures'
BEGIN;
SET LOCAL wfproc.fake_now = '2030-01-01 00:00+00';
SELECT count(wfproc.start('up', 'r-' || n)) FROM generate_series(1, 3) n;
SELECT count(wfproc.send('r-' || n, 'e')) FROM generate_series(1, 2) n, generate_series(1, 12);
SELECT wfproc.run();
SELECT wfproc.rollout('up', 2, max_failures => 2) AS rollout \gset
SELECT count(wfproc.send('r-' || n, 'e')) FROM generate_series(1, 2) n;
SELECT wfproc.run();
SELECT status, failed, done FROM wfproc.rollouts WHERE rollout_id = :rollout;
SELECT wfproc.send('r-3', 'e') > 0, wfproc.run();
SELECT id, version, status FROM wfproc.instances WHERE id LIKE 'r-_' ORDER BY id;
ROLLBACK;

\echo 'also within one turn: no more than so many instances pause; the others go on as they were'
BEGIN;
SET LOCAL wfproc.fake_now = '2030-01-01 00:00+00';
SELECT count(wfproc.start('up', 'r-' || n, version => 1)) FROM generate_series(1, 50) n;
SELECT count(wfproc.send('r-' || n, 'e', at => '2030-01-01 00:00+00')) FROM generate_series(1, 50) n, generate_series(1, 12) WHERE n % 2 = 0;
SELECT wfproc.run();
SELECT wfproc.rollout('up', 2, '2030-01-02 00:00+00', max_failures => 3) AS rollout \gset
SELECT count(wfproc.send('r-' || n, 'e', at => timestamptz '2030-01-03 00:00+00' + n * interval '1 min')) FROM generate_series(1, 50) n;
SET LOCAL wfproc.fake_now = '2030-01-04 00:00+00';
SELECT wfproc.run();
SELECT status, failed, done FROM wfproc.rollouts WHERE rollout_id = :rollout;
SELECT version, status, count(*), min(substr(id, 3)::int), max(substr(id, 3)::int) FROM wfproc.instances WHERE id LIKE 'r-%' GROUP BY 1, 2 ORDER BY 1, 2;
ROLLBACK;

\echo '--- before it begins, while it fails, with events that were postponed'
CREATE FUNCTION picky(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event = 'odd' THEN
        RAISE EXCEPTION 'not in this version';
    ELSIF event = 'later' THEN
        PERFORM wfproc.postpone();
    END IF;
    RETURN state || jsonb_build_object(event, 1);
END $$;
SELECT wfproc.define('picky', 'picky', max_attempts => 3);
CREATE OR REPLACE FUNCTION picky(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT state || jsonb_build_object(event, 2) $$;
SELECT wfproc.define('picky', 'picky'), wfproc.set_current_version('picky', 1);
BEGIN;
SET LOCAL wfproc.fake_now = '2030-01-01 00:00+00';
\echo 'at once, before start: the log begins with it; dated before start: after start; at start itself: after it'
SELECT wfproc.start('picky', id, at => '2030-01-05 00:00+00') FROM unnest('{at once,dated,tied,rolled}'::text[]) id;
SELECT wfproc.upgrade('at once', 2) > 0, wfproc.upgrade('dated', 2, '2030-01-02 00:00+00') > 0, wfproc.upgrade('tied', 2, '2030-01-05 00:00+00') > 0;
SELECT wfproc.run();
SELECT id, version, status FROM wfproc.instances WHERE workflow = 'picky' ORDER BY id;
SET LOCAL wfproc.fake_now = '2030-01-06 00:00+00';
SELECT wfproc.run();
SELECT wfproc.rollout('picky', 2, '2030-01-04 00:00+00') AS rollout \gset
SELECT wfproc.send(id, 'e', at => '2030-01-06 00:00+00') > 0 FROM unnest('{at once,dated,tied,rolled}'::text[]) id;
SELECT wfproc.run(), wfproc.cancel_rollout(:rollout);
SELECT id, log_of(id), (wfproc.verify(id)).ok FROM wfproc.instances WHERE workflow = 'picky' ORDER BY id;
\echo 'what was postponed is offered again; what fails is tried again at once'
SELECT wfproc.start('picky', 'p'), wfproc.send('p', 'later') > 0, wfproc.send('p', 'odd') > 0, wfproc.run();
SELECT status, attempts, retry_at IS NOT NULL, waiting, error FROM wfproc.instances WHERE id = 'p';
SELECT wfproc.upgrade('p', 2) > 0, wfproc.run();
SELECT status, attempts, version, waiting FROM wfproc.instances WHERE id = 'p';
SELECT wfproc.resume('p'), wfproc.run();
SELECT log_of('p'), status, attempts, error FROM wfproc.instances WHERE id = 'p';
\echo 'one that was paused by its failures, too'
SELECT wfproc.start('picky', 'q'), wfproc.send('q', 'odd') > 0, wfproc.run();
SELECT wfproc.retry_now('q'), wfproc.run();
SELECT wfproc.retry_now('q'), wfproc.run();
SELECT status, error, wfproc.upgrade('q', 2) > 0, wfproc.resume('q'), wfproc.run() FROM wfproc.instances WHERE id = 'q';
SELECT log_of('q'), status, (wfproc.verify(id)).ok FROM wfproc.instances WHERE id = 'q';
ROLLBACK;

\echo '--- roll-outs one after the other, some for one version only; and the same upgrade twice'
BEGIN;
SET LOCAL wfproc.fake_now = '2030-01-01 00:00+00';
SELECT wfproc.start('up', 'r', version => 1), wfproc.start('up', 's', version => 2), wfproc.run();
SELECT wfproc.rollout('up', 3, '2030-01-04', from_version => 2) > 0, wfproc.rollout('up', 2, '2030-01-02', from_version => 1) > 0, wfproc.rollout('up', 2, '2030-01-03') > 0;
SELECT wfproc.upgrade('s', 3, '2030-01-03') > 0, wfproc.upgrade('s', 3, '2030-01-03') > 0;
SET LOCAL wfproc.fake_now = '2030-02-01 00:00+00';
SELECT wfproc.send('r', 'e', at => '2030-01-10') > 0, wfproc.send('s', 'e', at => '2030-01-10') > 0, wfproc.run();
SELECT id, log_of(id) FROM wfproc.instances WHERE id IN ('r', 's') ORDER BY id;
SELECT version, from_version, status, pending, done FROM wfproc.rollouts WHERE workflow = 'up' ORDER BY at;
ROLLBACK;

\echo '--- a migrate function that fails is gone round by one that takes the same states'
CREATE FUNCTION counts(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE sql AS
    $$ SELECT state || jsonb_build_object('n', COALESCE((state ->> 'n')::int, 0) + 1) $$;
CREATE FUNCTION turns(state jsonb, from_version int, to_version int) RETURNS jsonb LANGUAGE plpgsql AS
    $$ BEGIN IF state ->> 'n' = '2' THEN RAISE EXCEPTION 'cannot divide by %', state; END IF; RETURN state || jsonb_build_object('v2', format('%s-%s', from_version, to_version)); END $$;
CREATE FUNCTION turns_well(state jsonb, from_version int, to_version int) RETURNS jsonb LANGUAGE sql AS
    $$ SELECT state || jsonb_build_object('v' || to_version, format('%s-%s', from_version, to_version)) $$;
SELECT wfproc.define('round', 'counts'), wfproc.define('round', 'counts', migrate => 'turns'),
       wfproc.define('round', 'counts', migrate => 'turns_well', migrates_from => 1), wfproc.define('round', 'counts', migrate => 'turns_well');
\echo 'the same again is the same, where it begins being part of that'
SELECT wfproc.define('round', 'counts', migrate => 'turns_well'), wfproc.define('round', 'counts', migrate => 'turns_well', migrates_from => 2);
SELECT version, migrate, migrates_from FROM wfproc.versions WHERE workflow = 'round' ORDER BY version;
BEGIN;
SET LOCAL wfproc.fake_now = '2030-01-01 00:00+00';
SELECT wfproc.start('round', 'stuck', version => 1), wfproc.start('round', 'well', version => 1), wfproc.start('round', 'far', version => 1), wfproc.start('round', 'from 2', version => 2);
SELECT wfproc.send('stuck', 'e') > 0, wfproc.upgrade('stuck', 2, '2030-01-02 00:00+00') > 0, wfproc.send('stuck', 'e', at => '2030-01-03 00:00+00') > 0;
SELECT wfproc.upgrade('well', 2) > 0;
SET LOCAL wfproc.fake_now = '2030-02-01 00:00+00';
SELECT wfproc.run();
SELECT id, version, status, error FROM wfproc.instances WHERE workflow = 'round' ORDER BY id;
\echo 'a rehearsal goes the same way'
SELECT v, outcome, error FROM unnest('{2,3,5}'::int[]) v, wfproc.check_version('round', v, 'upgrade') WHERE id = 'stuck' ORDER BY v;
SELECT wfproc.upgrade('stuck', 3) > 0, wfproc.upgrade('well', 3) > 0, wfproc.upgrade('far', 4) > 0, wfproc.upgrade('from 2', 5) > 0;
SELECT wfproc.run();
\echo 'what it was to be upgraded to is passed, so its dated upgrade is one back: that needs its own migrate, which version 2 has'
SELECT wfproc.unsend('stuck', mail_id) FROM wfproc.agenda('stuck') WHERE event = '$upgrade';
SELECT wfproc.resume('stuck');
SELECT wfproc.run();
SELECT id, version, status, error, wfproc.state(id), wfproc.verify(id) FROM wfproc.instances WHERE workflow = 'round' ORDER BY id;
SELECT log_of('stuck');
ROLLBACK;
\echo 'what waits counts: back to the version that it has is no upgrade to nothing'
BEGIN;
SET LOCAL wfproc.fake_now = '2030-03-01 00:00+00';
SELECT wfproc.start('round', id, version => version) FROM (VALUES ('back', 2), ('no way', 1)) v(id, version);
SELECT wfproc.run();
SELECT wfproc.upgrade('back', 2) IS NULL;
SELECT wfproc.upgrade('back', 3) > 0, wfproc.upgrade('back', 3) IS NULL, wfproc.upgrade('back', 2) > 0, wfproc.upgrade('back', 2) IS NULL;
SELECT wfproc.upgrade('no way', 2) > 0;
SELECT try($$ SELECT wfproc.upgrade('no way', 1) $$);
SELECT wfproc.run();
SELECT id, version, status, error FROM wfproc.instances WHERE id IN ('back', 'no way') ORDER BY id;
SELECT log_of('back');
ROLLBACK;
SELECT try($$ SELECT wfproc.define('round', 'counts', migrates_from => 1) $$);
SELECT try($$ SELECT wfproc.define('round', 'counts', migrate => 'turns', migrates_from => 0) $$);
SELECT try($$ SELECT wfproc.define('round', 'counts', migrate => 'turns', migrates_from => 6) $$);

\echo '--- what a migrate function asks for is part of the upgrade'
CREATE FUNCTION book(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event = 'start' THEN
        PERFORM wfproc.set_timer('old', '30 days');
        PERFORM wfproc.set_timer('moved', '40 days');
    ELSIF event = 'later' THEN
        PERFORM wfproc.postpone();
    END IF;
    RETURN state || jsonb_build_object('events', COALESCE(state ->> 'events', '') || ' ' || event);
END $$;
CREATE FUNCTION book_2(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE sql AS
    $$ SELECT state || jsonb_build_object('events', COALESCE(state ->> 'events', '') || ' ' || event || ':2') $$;
CREATE FUNCTION to_2(state jsonb, from_version int, to_version int) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM wfproc.cancel_timer('old');
    PERFORM wfproc.set_timer('moved', '10 days', payload => '{"by": "migrate"}');
    PERFORM wfproc.set_timer('soon', '1 hour');
    PERFORM wfproc.send(wfproc.self(), 'hello', '{"to": "me"}');
    PERFORM wfproc.send('book/peer', 'greeting');
    PERFORM wfproc.start('book', wfproc.self() || '/child', on_parent_close => 'terminate');
    PERFORM wfproc.set_attributes(jsonb_build_object('from', from_version));
    RETURN state || jsonb_build_object('at', wfproc.now(), 'seq', wfproc.seq());
END $$;
CREATE FUNCTION to_3(state jsonb, from_version int, to_version int) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM wfproc.set_attributes('{"three": true}');
    PERFORM wfproc.send(wfproc.self(), 'hello', '{"by": 3}');
    RETURN state;
END $$;
SELECT wfproc.define('book', 'book'), wfproc.define('book', 'book_2', migrate => 'to_2'), wfproc.define('book', 'book_2', migrate => 'to_3');
SELECT wfproc.set_current_version('book', 1);
BEGIN;
SET LOCAL wfproc.fake_now = '2030-01-01 00:00+00';
SELECT wfproc.start('book', id) FROM unnest('{book/one,book/three,book/late,book/peer}'::text[]) id;
SELECT wfproc.run();
SELECT id, outcome, new_state, jsonb_pretty(new_actions) FROM wfproc.check_version('book', 2, 'upgrade') WHERE id = 'book/one';
SELECT id, outcome, jsonb_array_length(new_actions), new_actions -> 8 FROM wfproc.check_version('book', 3, 'upgrade') WHERE id = 'book/one';
SELECT wfproc.upgrade('book/one', 2) > 0, wfproc.upgrade('book/three', 3, '2030-01-02 00:00+00') > 0;
SET LOCAL wfproc.fake_now = '2030-01-02 00:00+00';
SELECT wfproc.run();
SELECT seq, event, jsonb_path_query_array(actions, '$[*].action') FROM wfproc.replay('book/three') ORDER BY seq;
SELECT log_of(id) FROM unnest('{book/one,book/three,book/peer,book/one/child}'::text[]) id;
SELECT id, version, status, attributes, parent FROM wfproc.instances WHERE workflow = 'book' ORDER BY id;
SELECT event, at, payload FROM wfproc.agenda('book/one');
\echo 'and of the state that a replay comes to'
SELECT wfproc.passivate('book/one'), wfproc.passivate('book/three'), wfproc.send('book/one', 'e') > 0, wfproc.send('book/three', 'e') > 0, wfproc.run();
SELECT id, (wfproc.verify(id)).* FROM wfproc.instances WHERE workflow = 'book' ORDER BY id;
\echo 'a fork has another self()'
SELECT try($$ SELECT wfproc.fork('book/three', 3, 'book/fork') $$);
SELECT seq, event FROM wfproc.forecast('book/three', until => '2030-02-15') ORDER BY seq;
SAVEPOINT tampered;
UPDATE wfproc.instance SET attributes = '{"three": true}' WHERE id = 'book/three';
SELECT (wfproc.verify('book/three')).*;
ROLLBACK TO tampered;
\echo 'by a roll-out: what it asks for comes before the event that met it, where its stamp is earlier, as what was postponed does'
SELECT wfproc.send('book/late', 'later', at => '2030-01-02 12:00+00') > 0, wfproc.run();
SELECT wfproc.rollout('book', 2, '2030-01-10 00:00+00', from_version => 1) > 0;
SET LOCAL wfproc.fake_now = '2030-01-12 00:00+00';
SELECT wfproc.run(), wfproc.send('book/late', 'e', at => '2030-01-11 00:00+00') > 0, wfproc.run();
SELECT log_of('book/late'), (wfproc.verify('book/late')).ok;
SELECT wfproc.terminate('book/late'), wfproc.run();
SELECT status FROM wfproc.instances WHERE id = 'book/late/child';
ROLLBACK;
\echo 'nothing of it where it raises; and what ends a step has no place in it'
CREATE FUNCTION asks(state jsonb, from_version int, to_version int) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM wfproc.send(wfproc.self(), 'hello');
    BEGIN
        PERFORM wfproc.send(wfproc.self(), 'taken back');
        RAISE EXCEPTION 'caught';
    EXCEPTION WHEN raise_exception THEN
        NULL;
    END;
    EXECUTE 'SELECT wfproc.' || (state ->> 'call');
    RETURN state;
END $$;
CREATE FUNCTION keeps(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT state || payload $$;
SELECT wfproc.define('asks', 'keeps'), wfproc.define('asks', 'keeps', migrate => 'asks'), wfproc.set_current_version('asks', 1);
BEGIN;
SET LOCAL wfproc.fake_now = '2030-01-01 00:00+00';
SELECT count(wfproc.start('asks', call, jsonb_build_object('call', call))) FROM unnest(ARRAY['complete()', 'fail(''no'')', 'reject(''no'')', 'reply(''{}'')',
    'postpone()', 'defer_cancel()', 'seq()', 'monitor(''postpone()'')']) call;
SELECT wfproc.run();
SELECT count(wfproc.upgrade(id, 2)) FROM wfproc.instances WHERE workflow = 'asks';
SELECT wfproc.run();
SELECT id, version, status, error, (SELECT count(*) FROM wfproc.history(id) WHERE event = 'hello') AS heard, (wfproc.verify(id)).ok
FROM wfproc.instances WHERE workflow = 'asks' ORDER BY id;
SELECT r.seq, r.event, r.actions FROM wfproc.replay('seq()') r ORDER BY 1;
ROLLBACK;

\echo '--- control_all(''upgrade''): who has no event coming meets a roll-out now'
BEGIN;
SET LOCAL wfproc.fake_now = '2030-01-01 00:00+00';
SELECT wfproc.rollout('round', 3, '2030-01-01', from_version => 2) > 0, wfproc.rollout('round', 2, '2030-01-01', from_version => 3) > 0;
SELECT wfproc.start('round', 'circle', version => 2), wfproc.run(), wfproc.send('circle', 'e') > 0;
\echo 'roll-outs that go round in a circle: once for each event'
SELECT wfproc.run(), version FROM wfproc.instances WHERE id = 'circle';
SELECT log_of('circle');
ROLLBACK;
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
SELECT wfproc.define('upgrade_idle', 'counts'), wfproc.define('upgrade_idle', 'counts', migrate => 'turns'), wfproc.set_current_version('upgrade_idle', 1);
SELECT count(wfproc.start('upgrade_idle', 'idle-' || n, attributes => jsonb_build_object('odd', n % 2 = 1))) FROM generate_series(1, 1003) n;
SELECT wfproc.start('upgrade_idle', 'idle-later', at => '2999-01-01') IS NOT NULL;
CALL until_true($$ (SELECT count(*) = 1003 FROM wfproc.event e JOIN wfproc.instance i USING (instance_id) WHERE i.id LIKE 'idle-%') $$);
\echo 'without a roll-out: nothing'
CALL wfproc.control_all('upgrade', 'upgrade_idle');
SELECT wfproc.rollout('upgrade_idle', 2, '2999-01-01') > 0;
CALL wfproc.control_all('upgrade', 'upgrade_idle');
SELECT wfproc.rollout('upgrade_idle', 2, attributes => '{"odd": true}') AS odd \gset
CALL wfproc.control_all('upgrade', 'upgrade_idle', '{"odd": false}');
CALL wfproc.control_all('upgrade', 'upgrade_idle');
CALL until_true(format($$ (SELECT pending = 0 FROM wfproc.rollouts WHERE rollout_id = %s) $$, :odd));
SELECT i.version, i.attributes, count(*) FROM wfproc.instances i WHERE i.workflow = 'upgrade_idle' GROUP BY 1, 2 ORDER BY 1, 2;
CALL wfproc.control_all('upgrade', 'upgrade_idle');
SELECT seq, event, payload - 'by' - 'rollout' FROM wfproc.history('idle-3') ORDER BY seq;
\echo 'it stops after so many failures, and those that it did not get to stay as they are'
SELECT count(wfproc.send('idle-' || n, 'e')) FROM generate_series(2, 40, 2) n;
CALL until_true($$ (SELECT count(*) = 20 FROM wfproc.event e JOIN wfproc.instance i USING (instance_id) WHERE i.id LIKE 'idle-%' AND e.name = 'e') $$);
SELECT wfproc.rollout('upgrade_idle', 2, max_failures => 3) AS even \gset
CALL wfproc.control_all('upgrade', 'upgrade_idle', '{"odd": false}');
CALL until_true(format($$ (SELECT status = 'stopped' FROM wfproc.rollouts WHERE rollout_id = %s) $$, :even));
CALL until_true($$ NOT EXISTS (SELECT FROM wfproc.mailbox WHERE name = '$rollout') $$);
SELECT count(*) FILTER (WHERE status = 'paused') BETWEEN 3 AND 6 AS few, bool_and(error LIKE 'upgrade to version 2: %') FILTER (WHERE status = 'paused') AS why,
       bool_or(status = 'paused' AND version <> 1) AS none FROM wfproc.instances WHERE workflow = 'upgrade_idle';
SELECT bool_and((wfproc.verify(id)).ok) FROM wfproc.instances WHERE id LIKE 'idle-__';
CALL wfproc.control_all('terminate', 'upgrade_idle');
CALL until_true($$ NOT EXISTS (SELECT FROM wfproc.instances WHERE workflow = 'upgrade_idle' AND closed_at IS NULL) $$);

\echo '--- bad input'
SELECT try($$ SELECT wfproc.upgrade('nobody', 2) $$);
SELECT wfproc.start('up', 'bad');
SELECT status FROM wfproc.await('bad', '0');
SELECT try($$ SELECT wfproc.upgrade('bad', 9) $$);
SELECT try($$ SELECT wfproc.upgrade('bad', NULL) $$);
SELECT try($$ SELECT wfproc.upgrade('bad', 2, 'infinity') $$);
SELECT try($$ SELECT wfproc.rollout('nothing', 2) $$);
SELECT try($$ SELECT wfproc.rollout('up', 2, max_failures => 0) $$);
SELECT try($$ SELECT wfproc.rollout('up', 1, from_version => 3) $$);
SELECT try($$ SELECT wfproc.cancel_rollout(0) $$);
CREATE ROLE upgrade_stranger;
SELECT wfproc.grant_usage('upgrade_stranger');
GRANT USAGE ON SCHEMA upgrade_test TO upgrade_stranger;
SET ROLE upgrade_stranger;
SELECT try($$ SELECT wfproc.upgrade('bad', 2) $$);
SELECT try($$ SELECT wfproc.rollout('up', 2) $$);
SELECT try($$ SELECT wfproc.set_current_version('up', 2) $$);
SELECT try($$ SELECT wfproc.show_code('up', 2) $$);
SELECT count(*) FROM wfproc.versions;
RESET ROLE;
\echo 'who may only send does not take an upgrade back, nor move it'
SELECT wfproc.grant_access('up', 'upgrade_stranger', 'send');
SELECT wfproc.upgrade('bad', 2, '2999-01-01') AS upgrade \gset
SET ROLE upgrade_stranger;
SELECT try(format('SELECT wfproc.unsend(%L, %s)', 'bad', :upgrade));
SELECT try(format('SELECT wfproc.reschedule(%L, %s, now())', 'bad', :upgrade));
RESET ROLE;
SELECT wfproc.reschedule('bad', :upgrade, '2999-01-02'), wfproc.unsend('bad', :upgrade), wfproc.revoke_access('up', 'upgrade_stranger', 'send');
DROP OWNED BY upgrade_stranger;
DROP ROLE upgrade_stranger;
\echo 'what is not there, is no object, is over'
SELECT try(format('SELECT wfproc.%s', call)) FROM unnest(ARRAY[
    'upgrade(NULL, 2)', 'upgrade(''bad'', 0)', 'upgrade(''bad'', -1)', 'upgrade(''bad'', 2, ''-infinity'')', 'upgrade('''', 2)',
    'rollout(NULL, 2)', 'rollout(''up'', NULL)', 'rollout(''up'', 9)', 'rollout(''up'', 2, ''infinity'')', 'rollout(''up'', 2, from_version => 9)',
    'rollout(''up'', 2, attributes => ''[]'')', 'rollout(''up'', 2, max_failures => NULL)',
    'cancel_rollout(NULL)', 'set_current_version(''up'', NULL)', 'set_current_version(''nothing'', 1)', 'show_code(''nothing'', 1)', 'show_code(''up'', 0)',
    'check_version(''up'', 9)', 'check_version(''nothing'', 1)', 'check_version(''up'', NULL)', 'outcomes(''up'', 9)', 'replay(''bad'', version => 9)', 'start(''up'', version => 9)']) call;
SELECT wfproc.cancel_rollout(wfproc.rollout('up', 2, attributes => NULL));
\echo 'in a transaction that only reads'
BEGIN READ ONLY;
SELECT try(format('SELECT wfproc.%s', call)) FROM unnest(ARRAY['upgrade(''bad'', 2)', 'rollout(''up'', 2)', 'cancel_rollout(1)', 'set_current_version(''up'', 2)']) call;
SELECT length(wfproc.show_code('up', 1)) > 0, count(*) FROM wfproc.check_version('up', 2) WHERE id = 'bad';
COMMIT;
\echo 'in a handler'
CREATE FUNCTION meddles(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE 'SELECT count(*) FROM wfproc.' || event;
    RETURN state;
END $$;
SELECT try(format('SELECT wfproc.try_step(%L, %L, %L)', 'meddles', '{}', call)) FROM unnest(ARRAY[
    'upgrade(''bad'', 2)', 'rollout(''up'', 2)', 'cancel_rollout(1)', 'set_current_version(''up'', 2)', 'check_version(''up'', 2)', 'outcomes(''up'', 2)']) call;
SELECT wfproc.terminate('bad');
SELECT status FROM wfproc.await('bad', '30 s');
\echo 'of one that has closed'
SELECT try($$ SELECT wfproc.upgrade('bad', 2) $$);
SELECT try($$ SELECT wfproc.upgrade('bad', 2, '2999-01-01') $$);
DROP SCHEMA upgrade_test CASCADE;
