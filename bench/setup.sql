-- What the benchmarks use: each has a database of its own with this in it.
CREATE EXTENSION wfproc CASCADE;
CREATE SCHEMA bench;

-- A small but real handler: counts, adds up, keeps a few keys.
CREATE FUNCTION bench.account(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    CASE event
        WHEN 'start' THEN
            RETURN '{"events": 0, "balance": 0}';
        WHEN 'deposit' THEN
            RETURN state || jsonb_build_object('events', (state ->> 'events')::int + 1,
                                               'balance', (state ->> 'balance')::int + (payload ->> 'amount')::int,
                                               'last', payload ->> 'ref');
        ELSE
            RETURN state;
    END CASE;
END $$;

-- A smaller one: counts, and keeps a key of the event.
CREATE FUNCTION bench.counter(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event = 'start' THEN
        RETURN '{"events": 0}';
    END IF;
    state['events'] = to_jsonb((state ->> 'events')::int + 1);
    state['last'] = payload['ref'];
    RETURN state;
END $$;

-- The least that a handler can do.
CREATE FUNCTION bench.idle(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    RETURN state;
END $$;

-- Completes at its second event after the start, or at "go".
CREATE FUNCTION bench.trip(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event = 'go' OR event = 'arrived' THEN
        PERFORM wfproc.complete(payload);
    END IF;
    RETURN state || jsonb_build_object('last', event);
END $$;

-- A state of 200 bytes.
CREATE FUNCTION bench.parcel(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event = 'start' THEN
        RETURN payload;
    END IF;
    RETURN state || jsonb_build_object('last', event);
END $$;

SELECT wfproc.define('account', 'bench.account'),
       wfproc.define('long', 'bench.account', snapshot_every => 1000000),
       wfproc.define('counter', 'bench.counter'),
       wfproc.define('idle', 'bench.idle'),
       wfproc.define('trip', 'bench.trip'),
       wfproc.define('parcel', 'bench.parcel') \g /dev/null

-- The tables that plain inserts go to: as wfproc.event and wfproc.mailbox, and as small as can be.
CREATE TABLE bench.event (LIKE wfproc.event, PRIMARY KEY (instance_id, seq));
CREATE TABLE bench.mailbox (LIKE wfproc.mailbox, PRIMARY KEY (instance_id, at, origin, mail_id));
CREATE INDEX ON bench.mailbox (shard, at);
CREATE TABLE bench.single (n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload jsonb NOT NULL);

-- The last n rows of the log, numbered, for bench.copy_log().
CREATE TABLE bench.log (n bigint PRIMARY KEY, LIKE wfproc.event);

-- INSERT ... SELECT of those rows in batches of a thousand, each committed.
CREATE PROCEDURE bench.copy_log(total bigint) LANGUAGE plpgsql AS $$
BEGIN
    FOR low IN 1 .. total BY 1000 LOOP
        INSERT INTO bench.event (instance_id, seq, at, recorded_at, mail_id, digest, live, name, payload, sender, idempotency_key, reply, hash)
            SELECT instance_id, seq, at, recorded_at, mail_id, digest, live, name, payload, sender, idempotency_key, reply, hash
            FROM bench.log WHERE n >= low AND n < low + 1000;
        COMMIT;
    END LOOP;
END $$;

-- Waits until the worker has handled so many events since its start.
CREATE PROCEDURE bench.wait_handled(wanted bigint) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. 60000 LOOP
        IF (SELECT COALESCE(sum(events), 0) FROM wfproc.workers) >= wanted THEN
            RETURN;
        END IF;
        COMMIT;
        PERFORM pg_sleep(0.002);
    END LOOP;
    RAISE EXCEPTION 'only % of % events were handled', (SELECT sum(events) FROM wfproc.workers), wanted;
END $$;

-- Processor time of a process in seconds, in steps of 10 ms.
CREATE FUNCTION bench.cpu(pid int) RETURNS numeric LANGUAGE sql AS $$
    SELECT (split_part(s, ' ', 12)::numeric + split_part(s, ' ', 13)::numeric) / 100
    FROM regexp_replace(pg_read_file('/proc/' || pid || '/stat', 0, 10000), '^.*\) ', '') s
$$;
