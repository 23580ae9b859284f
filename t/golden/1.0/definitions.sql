-- The workflows of the golden logs of this release. Once logs.jsonl beside it is there, this file is not changed any more:
-- see t/021_golden.pl.

-- A helper, which versions 1 and 2 have a copy of.
CREATE FUNCTION golden_rest(payload jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT CASE jsonb_typeof(payload) WHEN 'object' THEN payload - 'do' ELSE payload END $$;

-- What it does is in the payload, as a list of operations. Version 1 notes what it saw in "seen".
CREATE FUNCTION golden(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    op jsonb;
    a text[];
BEGIN
    FOR op IN SELECT o FROM jsonb_array_elements(CASE WHEN jsonb_typeof(payload -> 'do') = 'array' THEN payload -> 'do' ELSE '[]' END) o LOOP
        a := ARRAY(SELECT jsonb_array_elements_text(op));
        CASE a[1]
            WHEN 'set' THEN state := state || jsonb_build_object(a[2], op -> 2);
            WHEN 'unset' THEN state := state - a[2];
            WHEN 'note' THEN state := state || jsonb_build_object('random', wfproc.random(), 'uuid', wfproc.uuid(), 'again', wfproc.random(), 'now', wfproc.now(),
                'event_at', wfproc.event_at(), 'seq', wfproc.seq(), 'self', wfproc.self(), 'parent', wfproc.parent(), 'sender', wfproc.sender());
            WHEN 'send' THEN PERFORM wfproc.send(a[2], a[3], op -> 3, wfproc.now() + a[5]::interval, a[6]);
            WHEN 'answer' THEN PERFORM wfproc.send(wfproc.sender(), a[2], op -> 2);
            WHEN 'or start' THEN PERFORM wfproc.send(a[2], a[3], op -> 3, or_start => a[5]);
            WHEN 'start' THEN PERFORM wfproc.start(a[2], a[3], op -> 3, wfproc.now() + a[5]::interval, attributes => '{"born": "here"}', on_parent_close => a[6]);
            WHEN 'timer' THEN PERFORM wfproc.set_timer(a[2], after => a[3]::interval, payload => op -> 3);
            WHEN 'timer at' THEN PERFORM wfproc.set_timer(a[2], at => a[3]::timestamptz, payload => op -> 3, until_state_changes => a[5]);
            WHEN 'cancel timer' THEN PERFORM wfproc.cancel_timer(a[2]);
            WHEN 'attributes' THEN PERFORM wfproc.set_attributes(op -> 1);
            WHEN 'reply' THEN PERFORM wfproc.reply(op -> 1);
            WHEN 'monitor' THEN PERFORM wfproc.monitor(a[2]);
            WHEN 'demonitor' THEN PERFORM wfproc.demonitor(a[2]);
            WHEN 'cancel' THEN PERFORM wfproc.cancel(a[2], a[3], a[4]::interval);
            WHEN 'terminate' THEN PERFORM wfproc.terminate(a[2], a[3]);
            WHEN 'defer cancel' THEN PERFORM wfproc.defer_cancel();
            WHEN 'complete' THEN PERFORM wfproc.complete(op -> 1);
            WHEN 'fail' THEN PERFORM wfproc.fail(a[2]);
            WHEN 'reject' THEN PERFORM wfproc.reject(a[2]);
            WHEN 'postpone unless' THEN
                IF NOT state ? a[2] THEN
                    PERFORM wfproc.postpone();
                    RETURN state;
                END IF;
            WHEN 'raise unless' THEN
                IF NOT state ? a[2] THEN
                    RAISE EXCEPTION 'there is no %', a[2];
                END IF;
            WHEN 'undone' THEN
                BEGIN
                    PERFORM wfproc.send('nobody', 'never', '{}');
                    RAISE EXCEPTION 'back';
                EXCEPTION WHEN raise_exception THEN state := state || '{"undone": true}';
                END;
            ELSE RAISE EXCEPTION 'unknown operation %', a[1];
        END CASE;
    END LOOP;
    IF event = 'cancel' AND state ? 'stubborn' THEN
        PERFORM wfproc.defer_cancel();
    END IF;
    RETURN state || jsonb_build_object('seen', COALESCE(state -> 'seen', '[]') || to_jsonb(event), 'last', golden_rest(payload));
END $$;
SELECT wfproc.define('golden', 'golden', max_attempts => 2, retry_delay => '1 min', snapshot_every => 4, dead_letter_events => true, helpers => '{golden_rest(jsonb)}');
SELECT wfproc.define('golden fails', 'golden', max_attempts => 1, on_failure => 'fail', helpers => '{golden_rest(jsonb)}');
SELECT wfproc.define('golden skips', 'golden', max_attempts => 1, on_failure => 'dead_letter', helpers => '{golden_rest(jsonb)}');

-- version 2 counts instead, and what it does is the same
DO $do$
BEGIN
    EXECUTE replace(replace(pg_get_functiondef('golden'::regproc), $$'seen', COALESCE(state -> 'seen', '[]') || to_jsonb(event)$$,
                            $$'count', COALESCE((state ->> 'count')::int, 0) + 1$$), 'there is no %', 'version 2 misses %');
END $do$;
CREATE FUNCTION golden_turned_over(state jsonb, from_version int, to_version int) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF state ? 'immovable' THEN
        RAISE EXCEPTION 'it cannot be moved from % to %', from_version, to_version;
    END IF;
    RETURN state - 'seen' || jsonb_build_object('count', jsonb_array_length(COALESCE(state -> 'seen', '[]')), 'from', from_version, 'to', to_version);
END $$;
SELECT wfproc.define('golden', 'golden', migrate => 'golden_turned_over', helpers => '{golden_rest(jsonb)}');
-- the original is no more
DROP FUNCTION golden_rest;

-- version 3 is in SQL and does nothing more; back to version 2 its migrate leads
CREATE OR REPLACE FUNCTION golden(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT state || jsonb_build_object('count', (state ->> 'count')::numeric + 0.50, 'third', event)
$$;
CREATE OR REPLACE FUNCTION golden_turned_over(state jsonb, from_version int, to_version int) RETURNS jsonb LANGUAGE sql AS $$
    SELECT state || jsonb_build_object('path', COALESCE(state -> 'path', '[]') || jsonb_build_array(from_version, to_version))
$$;
SELECT wfproc.define('golden', 'golden', migrate => 'golden_turned_over');
SELECT wfproc.set_current_version('golden', 1);
