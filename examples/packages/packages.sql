/*
 * packages.sql: one process per package of a Debian machine.
 *
 * The rows of dpkg's log go into a plain table; a trigger makes events of them, each with the stamp of its line; each
 * event goes to the process of its package, which is started by its first one.  Where the rows are years old, so are the
 * stamps: the process replays what happened to the package, and then goes on living.
 */

CREATE TABLE dpkg_log (
    line bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    package text NOT NULL,
    event text NOT NULL,
    status text,
    version text,
    available text
);
COMMENT ON TABLE dpkg_log IS 'lines of dpkg.log; each insert is an event for the process of its package';

CREATE FUNCTION package_handler(state jsonb, event text, payload jsonb) RETURNS jsonb
LANGUAGE plpgsql AS $$
BEGIN
    CASE event
        WHEN 'start' THEN
            RETURN '{"status": "unknown", "installs": 0, "upgrades": 0, "removals": 0, "triggers": 0}';
        WHEN 'status' THEN
            RETURN state || jsonb_build_object(
                'status', payload->'status', 'version', payload->'version', 'since', wfproc.event_at());
        WHEN 'install' THEN
            RETURN state || jsonb_build_object('installs', (state->>'installs')::int + 1);
        WHEN 'upgrade' THEN
            RETURN state || jsonb_build_object(
                'upgrades', (state->>'upgrades')::int + 1, 'upgraded_from', payload->'version');
        WHEN 'remove', 'purge', 'disappear' THEN
            RETURN state || jsonb_build_object('removals', (state->>'removals')::int + 1);
        WHEN 'trigproc' THEN
            RETURN state || jsonb_build_object('triggers', (state->>'triggers')::int + 1);
        ELSE
            RETURN state;
    END CASE;
END $$;
COMMENT ON FUNCTION package_handler(jsonb, text, jsonb) IS 'what a line of dpkg.log makes of a package';

SELECT wfproc.define('package', 'package_handler',
    accepts => '{status,install,upgrade,configure,trigproc,disappear,remove,purge}');

CREATE TRIGGER dpkg_log_emit AFTER INSERT ON dpkg_log
    REFERENCING NEW TABLE AS rows FOR EACH STATEMENT
    EXECUTE FUNCTION wfproc.emit('id=package', 'event_column=event', 'at=at',
                                 'payload=status,version,available', 'start=package');

/*
 * What dpkg says itself (dpkg-query -W), to compare with.
 */

CREATE TABLE dpkg_now (
    package text PRIMARY KEY,
    version text,
    status text NOT NULL
);
COMMENT ON TABLE dpkg_now IS 'the packages as dpkg-query -W lists them';

CREATE VIEW package AS
    SELECT i.id AS package, s.state->>'status' AS status, s.state->>'version' AS version,
           (s.state->>'since')::timestamptz AS since, (s.state->>'installs')::int AS installs,
           (s.state->>'upgrades')::int AS upgrades, (s.state->>'removals')::int AS removals,
           i.status AS process, i.waiting, i.lag, i.error
    FROM wfproc.instances i CROSS JOIN LATERAL wfproc.state(i.id) AS s(state)
    WHERE i.workflow = 'package';
COMMENT ON VIEW package IS 'the state of each package''s process';

CREATE VIEW package_check AS
    SELECT p.package, p.status, p.version, d.status AS dpkg_status, d.version AS dpkg_version,
           CASE
               WHEN p.status = d.status AND p.version IS NOT DISTINCT FROM d.version THEN NULL
               WHEN p.status = 'not-installed' AND d.package IS NULL THEN NULL
               WHEN p.process <> 'running' THEN format('its process is %s: %s', p.process, p.error)
               WHEN p.waiting > 0 THEN format('%s events wait in its mailbox', p.waiting)
               WHEN o.package IS NOT NULL THEN format('goes on as %s', o.package)
               WHEN d.package IS NULL THEN format('gone from dpkg''s list without a line in the log after %s', p.since)
               ELSE format('changed to %s %s without a line in the log after %s', d.status, d.version, p.since)
           END AS reason
    FROM package p
    LEFT JOIN dpkg_now d ON d.package = p.package
    LEFT JOIN LATERAL (
        SELECT n.package FROM dpkg_now n
        WHERE d.package IS NULL AND split_part(n.package, ':', 1) = split_part(p.package, ':', 1)
        LIMIT 1) o ON true;
COMMENT ON VIEW package_check IS 'each process against dpkg-query; reason is NULL where they agree';
