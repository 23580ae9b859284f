-- The handler of t/013_model.pl and t/014_virtual_time.pl: what it does is in the payload, as a list of operations, and in
-- what was told before with "on".  t/Model.pm has the same in Perl: a change here is one there.

CREATE FUNCTION virtual_begin() RETURNS timestamptz IMMUTABLE RETURN timestamptz '2021-03-01 00:00:00Z';

-- a time as the tests say it: microseconds since the beginning
CREATE FUNCTION virtual_time(us bigint) RETURNS timestamptz IMMUTABLE
RETURN virtual_begin() + us * interval '1 microsecond';
CREATE FUNCTION virtual_us(at timestamptz) RETURNS bigint IMMUTABLE
RETURN CASE WHEN isfinite(at) THEN (extract(epoch FROM at) * 1000000 - extract(epoch FROM virtual_begin()) * 1000000)::bigint END;

-- 5: microseconds after now; "@5": after the beginning; nothing: nothing
CREATE FUNCTION program_at(value text) RETURNS timestamptz
RETURN CASE WHEN value LIKE '@%' THEN virtual_time(substr(value, 2)::bigint)
            ELSE wfproc.now() + value::bigint * interval '1 microsecond' END;

CREATE FUNCTION program_id(value text) RETURNS text
RETURN CASE value WHEN 'self' THEN wfproc.self() WHEN 'parent' THEN wfproc.parent() WHEN 'sender' THEN wfproc.sender() ELSE value END;

CREATE FUNCTION program_do(state jsonb, ops jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    op jsonb;
    a text[];
    id text;
BEGIN
    FOR op IN SELECT o FROM jsonb_array_elements(ops) o LOOP
        SELECT array_agg(v) INTO a FROM jsonb_array_elements_text(op) v;
        id := program_id(a[2]);
        CASE a[1]
            WHEN 'set' THEN state := state || jsonb_build_object(a[2], op -> 2);
            WHEN 'unset' THEN state := state - a[2];
            WHEN 'on' THEN state := state || jsonb_build_object('on ' || a[2], op -> 2);
            WHEN 'send' THEN
                IF id IS NOT NULL THEN
                    PERFORM wfproc.send(id, a[3], op -> 3, program_at(a[5]), a[6], a[7]);
                END IF;
            WHEN 'tell' THEN
                state := state || jsonb_build_object('told', COALESCE((state ->> 'told')::int, 0) + 1);
                PERFORM wfproc.send(id, 'm', (op -> 2) || jsonb_build_object('c', state -> 'told'));
            WHEN 'start' THEN
                PERFORM wfproc.start(a[3], id, op -> 3, program_at(a[5]), if_exists => a[7], on_parent_close => a[6]);
            WHEN 'timer' THEN
                IF NOT state ? a[5] THEN
                    state := state || jsonb_build_object(a[5], 0);
                END IF;
                PERFORM wfproc.set_timer(a[2], at => program_at(a[3]), payload => op -> 3, until_state_changes => a[5]);
            WHEN 'cancel_timer' THEN PERFORM wfproc.cancel_timer(a[2]);
            WHEN 'attributes' THEN PERFORM wfproc.set_attributes(op -> 1);
            WHEN 'reply' THEN PERFORM wfproc.reply(op -> 1);
            WHEN 'monitor' THEN PERFORM wfproc.monitor(id);
            WHEN 'demonitor' THEN PERFORM wfproc.demonitor(id);
            WHEN 'cancel' THEN PERFORM wfproc.cancel(id, a[3], a[4]::bigint * interval '1 microsecond');
            WHEN 'terminate' THEN PERFORM wfproc.terminate(id, a[3]);
            WHEN 'defer_cancel' THEN PERFORM wfproc.defer_cancel(a[2]::bigint * interval '1 microsecond');
            WHEN 'complete' THEN PERFORM wfproc.complete(op -> 1);
            WHEN 'fail' THEN PERFORM wfproc.fail(a[2]);
            WHEN 'reject' THEN PERFORM wfproc.reject(a[2]);
            WHEN 'postpone_unless' THEN
                IF NOT state ? a[2] THEN
                    PERFORM wfproc.postpone();
                    RETURN state;
                END IF;
            WHEN 'raise' THEN RAISE EXCEPTION 'told to';
            WHEN 'try' THEN
                BEGIN
                    state := program_do(state, op -> 1);
                EXCEPTION WHEN OTHERS THEN    -- a limit fails the step all the same
                    state := state || jsonb_build_object('caught', SQLSTATE);
                END;
            WHEN 'gate' THEN PERFORM pg_advisory_xact_lock_shared(4712);    -- waits while a test holds it closed
            ELSE RAISE EXCEPTION 'unknown operation %', a[1];
        END CASE;
    END LOOP;
    RETURN state;
END $$;

-- Counts its events, but for quiet ones; with "sum" in the state, that depends on all that it was ever told.
CREATE FUNCTION program(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    reaction jsonb;
BEGIN
    IF NOT payload ? 'quiet' THEN
        state := state || jsonb_build_object('n', COALESCE((state ->> 'n')::int, 0) + 1);
    END IF;
    IF state ? 'sum' THEN
        state := state || jsonb_build_object('sum', md5(concat_ws('|', state ->> 'sum', event, payload, wfproc.sender(), wfproc.event_at(),
            wfproc.now(), wfproc.seq(), wfproc.self(), wfproc.parent(), wfproc.random(), wfproc.uuid())));
    END IF;
    state := program_do(state, COALESCE(payload -> 'do', '[]'));
    reaction := state -> ('on ' || event);
    RETURN CASE WHEN reaction IS NULL THEN state ELSE program_do(state, reaction) END;
END $$;

-- What is given from outside: [["start", ...], ["send", ...], ...]; what is refused is ignored.
CREATE FUNCTION program_inputs(inputs jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    op jsonb;
    a text[];
BEGIN
    FOR op IN SELECT o FROM jsonb_array_elements(inputs) o LOOP
        SELECT array_agg(v) INTO a FROM jsonb_array_elements_text(op) v;
        BEGIN
            CASE a[1]
                WHEN 'start' THEN PERFORM wfproc.start(a[3], a[2], op -> 4, virtual_time(a[4]::bigint), live_from => virtual_time(a[6]::bigint));
                WHEN 'send' THEN PERFORM wfproc.send(a[2], a[3], op -> 4, virtual_time(a[4]::bigint), a[6], a[7]);
                WHEN 'cancel' THEN PERFORM wfproc.cancel(a[2], a[3], a[4]::bigint * interval '1 microsecond');
                WHEN 'attributes' THEN PERFORM wfproc.set_attributes(a[2], op -> 2);
                WHEN 'resume' THEN PERFORM wfproc.resume(a[2]);
                WHEN 'reschedule' THEN PERFORM wfproc.reschedule(a[2], mail_id, virtual_time(a[3]::bigint)) FROM wfproc.agenda(a[2]) WHERE timer LIMIT 1;
                ELSE EXECUTE format('SELECT wfproc.%I($1, $2)', a[1]) USING a[2], a[3];
            END CASE;
        EXCEPTION
            -- an unknown id, one that exists, a closed instance, a start that cannot be skipped, a key used for another event
            WHEN undefined_object OR duplicate_object OR object_not_in_prerequisite_state OR unique_violation THEN NULL;
        END;
    END LOOP;
END $$;

-- All that the model predicts of the instances whose id begins so: log, status, mailbox.
CREATE FUNCTION program_instances(prefix text) RETURNS SETOF jsonb LANGUAGE sql
BEGIN ATOMIC
    SELECT jsonb_build_object(
        'id', i.id, 'status', i.status, 'result', i.result, 'error', i.error, 'attempts', i.attempts, 'attributes', i.attributes,
        'parent', i.parent, 'started', virtual_us(i.started_at), 'live_from', virtual_us(i.live_from), 'state', wfproc.state(i.id),
        'log', (SELECT COALESCE(jsonb_agg(jsonb_build_array(e.seq, virtual_us(e.at), e.name, e.payload - '{mail_id,at}'::text[], e.sender, e.idempotency_key,
                                                            e.reply, e.live::int) ORDER BY e.seq), '[]')
                FROM wfproc.event e WHERE e.instance_id = i.instance_id),
        'waiting', (SELECT COALESCE(jsonb_agg(jsonb_build_array(virtual_us(m.at), m.origin, m.name, m.payload, m.sender, m.idempotency_key, m.timer)
                                              ORDER BY m.at, m.origin, m.mail_id), '[]')
                    FROM wfproc.mailbox m WHERE m.instance_id = i.instance_id))
    FROM wfproc.instance i WHERE starts_with(i.id, prefix);
END;
CREATE FUNCTION program_dead_letters(prefix text) RETURNS SETOF jsonb LANGUAGE sql
BEGIN ATOMIC
    SELECT jsonb_build_array(d.id, virtual_us(d.at), d.event, d.payload, d.sender, d.idempotency_key, d.reason)
    FROM wfproc.dead_letters d WHERE starts_with(d.id, prefix);
END;
