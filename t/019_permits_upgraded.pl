# The permit log, 8,577 events of 1,434 cases, under version 1 up to a stamp and under version 2 after it: once with one stamp
# for all, by a roll-out, once with a stamp for each case, two thirds through its events. For some migrate fails: they pause,
# nothing of theirs is lost, and they go on: half of them under version 2 once they were corrected, half as they were. In the
# end each state is what plain SQL makes of the file.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;
use WfTest;

my $permits = permits_file();
plan skip_all => 'the permit log is not here (WF_PERMITS=file names it)' unless defined $permits;

my $node = wf_node('permits_upgraded', conf => "fsync = off\n");
sub sql { return $node->safe_psql('postgres', $_[0]); }

sql('CREATE EXTENSION wfproc CASCADE');
sql(q(
CREATE FUNCTION permit(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF event = 'start' THEN
        RETURN '{"path": [], "events": 0}';
    ELSIF event = 'approve' THEN
        RETURN state || '{"approved": true}';
    END IF;
    RETURN state || jsonb_build_object('path', (state -> 'path') || to_jsonb(event || ' by ' || COALESCE(payload ->> 'resource', '-')),
                                       'events', (state ->> 'events')::int + 1,
                                       'first', COALESCE(state -> 'first', to_jsonb(wfproc.event_at())),
                                       'late', COALESCE((state ->> 'late')::bool, false) OR wfproc.event_at() > (payload ->> 'deadline')::timestamptz);
END $$;
SELECT wfproc.define(workflow, 'permit', snapshot_every => 5) FROM unnest('{for_all,for_each}'::text[]) workflow;

-- another shape, and a stricter rule
CREATE OR REPLACE FUNCTION permit(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    RETURN jsonb_build_object('before', state -> 'before',
                              'steps', (state -> 'steps') || jsonb_build_array(jsonb_build_array(event, payload -> 'resource')),
                              'strict', (state ->> 'strict')::bool OR COALESCE(wfproc.event_at() > (payload ->> 'deadline')::timestamptz - interval '40 days', false));
END $$;
CREATE FUNCTION permit_turned_over(state jsonb, from_version int, to_version int) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF (state ->> 'events')::int >= 4 AND NOT state ? 'approved' THEN
        RAISE EXCEPTION 'has got too far';
    END IF;
    RETURN jsonb_build_object('before', state, 'steps', '[]'::jsonb, 'strict', false);
END $$;
SELECT wfproc.define(workflow, 'permit', migrate => 'permit_turned_over'), wfproc.set_current_version(workflow, 1) FROM unnest('{for_all,for_each}'::text[]) workflow;

CREATE TABLE permit (case_id text, activity text, at timestamptz, resource text, department text, channel text, deadline timestamptz);
-- when each case is upgraded, in each of the two loads, and whether that fails
CREATE TABLE load (prefix text, case_id text, id text PRIMARY KEY, cut timestamptz, upgraded bool, fails bool, approved bool);
));
my $folder = PostgreSQL::Test::Utils::tempdir;
my @rows = split /\n/, slurp_file($permits);
is(scalar(@rows), 8578, 'the file is what it was');
{
	open(my $file, '>', "$folder/permit.csv") or die $!;
	print $file map { "$_\n" } @rows[ 1 .. $#rows ];
	close($file);
}
sql("COPY permit FROM '$folder/permit.csv' WITH (FORMAT csv)");
sql(q(
INSERT INTO load
    SELECT prefix, case_id, prefix || case_id, cut, upgraded, upgraded AND before >= 4, (row_number() OVER (PARTITION BY prefix, before >= 4 ORDER BY case_id)) % 2 = 0
    FROM (SELECT prefix, case_id, cut, count(*) FILTER (WHERE p.at < cut) AS before, prefix = 'each-' OR bool_or(p.at >= cut) AS upgraded
          FROM permit p JOIN (SELECT 'all-' AS prefix, case_id, (SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY at) FROM permit) AS cut FROM permit GROUP BY case_id
                              UNION ALL
                              SELECT 'each-', case_id, (array_agg(at ORDER BY at))[1 + 2 * count(*) / 3] FROM permit GROUP BY case_id) c USING (case_id)
          GROUP BY prefix, case_id, cut) x;
));
my %failing = map { $_ => sql("SELECT count(*) FROM load WHERE fails AND prefix = '$_'") } qw(all- each-);
cmp_ok($failing{'all-'}, '>', 10, "in some the roll-out fails: $failing{'all-'}");
cmp_ok($failing{'each-'}, '>', 100, "in many the upgrade fails: $failing{'each-'}");
is(sql('SELECT count(*) > 300, count(*) FILTER (WHERE NOT upgraded) > 300 FROM load WHERE NOT fails'), 't|t', 'and in many it does not, or never comes');

# The folds, in plain SQL.
sql(q(
CREATE FUNCTION first_fold(case_id text, until timestamptz) RETURNS jsonb LANGUAGE sql AS $$
    SELECT CASE WHEN count(*) = 0 THEN '{"path": [], "events": 0}'
                ELSE jsonb_build_object('path', jsonb_agg(activity || ' by ' || COALESCE(resource, '-') ORDER BY at), 'events', count(*), 'first', min(at),
                                        'late', COALESCE(bool_or(at > deadline), false)) END
    FROM permit p WHERE p.case_id = first_fold.case_id AND at < until
$$;
CREATE FUNCTION second_fold(case_id text, since timestamptz, before jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('before', before, 'steps', COALESCE(jsonb_agg(jsonb_build_array(activity, resource) ORDER BY at), '[]'),
                              'strict', COALESCE(bool_or(at > deadline - interval '40 days'), false))
    FROM permit p WHERE p.case_id = second_fold.case_id AND at >= since
$$;
-- those that fail, as far as they get
CREATE VIEW at_first AS
    SELECT id, CASE WHEN fails THEN first_fold(case_id, cut) WHEN upgraded THEN second_fold(case_id, cut, first_fold(case_id, cut)) ELSE first_fold(case_id, 'infinity') END AS state
    FROM load;
CREATE VIEW at_last AS
    SELECT id, CASE WHEN upgraded AND (NOT fails OR approved) THEN second_fold(case_id, cut, first_fold(case_id, cut) || CASE WHEN fails THEN '{"approved": true}' ELSE '{}' END::jsonb)
                    ELSE first_fold(case_id, 'infinity') END AS state
    FROM load;
));

sub same_states
{
	my ($fold, $name) = @_;
	is(sql("SELECT id, state, wfproc.state(id) FROM $fold WHERE state IS DISTINCT FROM wfproc.state(id) LIMIT 3"), '', "$name: states as the plain fold");
	is(sql("SELECT count(*) FROM $fold JOIN wfproc.instances USING (id)"), 2 * 1434, "$name: of all cases");
	is(sql(q(SELECT id, v.* FROM wfproc.instances i, wfproc.verify(i.id) v WHERE NOT v.ok LIMIT 3)), '', "$name: verify() is true for all");
	is(sql(q(SELECT count(*) FROM (SELECT instance_id, name FROM wfproc.event UNION ALL SELECT instance_id, name FROM wfproc.mailbox) e WHERE name NOT IN ('start', 'approve', '$upgrade', '$pause', '$resume'))),
		2 * 8577, "$name: nothing is lost or doubled");
	is(sql('SELECT count(*) FROM wfproc.dead_letters'), 0, "$name: nothing is set aside");
	return;
}

sub no_mail
{
	my ($condition, $name) = @_;
	ok($node->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM wfproc.mailbox m JOIN wfproc.instance i USING (instance_id) JOIN load l USING (id) WHERE $condition)"), $name);
	return;
}

#
# Both loads, each of a workflow of its own
#
my $send = q(SELECT count(wfproc.send(l.id, activity, jsonb_build_object('resource', resource, 'department', department, 'deadline', deadline), at))
	FROM load l JOIN (SELECT * FROM permit ORDER BY at) p USING (case_id) WHERE prefix = );
my $start = q(SELECT count(wfproc.start(CASE prefix WHEN 'all-' THEN 'for_all' ELSE 'for_each' END, id, at => (SELECT min(at) FROM permit p WHERE p.case_id = l.case_id)))
	FROM load l WHERE prefix = );
sql("SELECT wfproc.rollout('for_all', 2, cut, max_failures => 10000) FROM load WHERE prefix = 'all-' LIMIT 1");
sql("BEGIN; $start 'all-'; $send 'all-'; COMMIT");
sql("BEGIN; $start 'each-'; SELECT count(wfproc.upgrade(id, 2, cut)) FROM load WHERE prefix = 'each-'; $send 'each-'; COMMIT");
no_mail('NOT fails', 'all are handled');
ok($node->poll_query_until('postgres', q(SELECT bool_and(status = 'paused') FROM load JOIN wfproc.instances USING (id) WHERE fails)), 'or paused');
same_states('at_first', 'up to the upgrade');
is(sql(q(SELECT DISTINCT error FROM load JOIN wfproc.instances USING (id) WHERE fails OR error IS NOT NULL)), 'upgrade to version 2: P0001: has got too far', 'with the reason');
is(sql(q(SELECT id FROM load l JOIN wfproc.instances i USING (id) WHERE fails AND waiting <> (SELECT count(*) + (prefix = 'each-')::int FROM permit p WHERE p.case_id = l.case_id AND at >= cut))), '', 'the rest of their events waits');
is(sql('SELECT workflow, failed, status, done FROM wfproc.rollouts'),
	"for_all|$failing{'all-'}|in force|" . sql(q(SELECT count(*) FROM load WHERE prefix = 'all-' AND upgraded AND NOT fails)), 'view rollouts says so');

# a correction before the stamp of the upgrade comes first
sql(q(SELECT wfproc.send(id, 'approve', at => cut - interval '1 us') FROM load WHERE fails AND approved));
sql(q(SELECT wfproc.resume(id) FROM load WHERE fails AND approved));
no_mail('NOT fails OR approved', 'those that were corrected go on');
# the others are let off
sql(q(SELECT wfproc.cancel_rollout(rollout_id) FROM wfproc.rollouts));
is(sql(q(SELECT count(*) FROM load, wfproc.agenda(id) a WHERE fails AND NOT approved AND a.event = '$upgrade' AND wfproc.unsend(id, a.mail_id))), sql(q(SELECT count(*) FROM load WHERE fails AND NOT approved AND prefix = 'each-')), 'upgrades are taken back');
sql(q(SELECT wfproc.resume(id) FROM load WHERE fails AND NOT approved));
no_mail('true', 'and the others');
same_states('at_last', 'in the end');
is(sql(q(SELECT id FROM load JOIN wfproc.instances i USING (id) WHERE (i.version, i.status) IS DISTINCT FROM (CASE WHEN upgraded AND (NOT fails OR approved) THEN 2 ELSE 1 END, 'running'))), '', 'each under its version');
is(sql(q(SELECT count(*), count(DISTINCT instance_id) FROM wfproc.event WHERE name = '$upgrade')), sql(q(SELECT count(*), count(*) FROM load WHERE upgraded AND (NOT fails OR approved))), 'upgraded once');
no_alarms($node, 'nothing alarming in the log');
$node->stop;
done_testing();
