# Helpers come through a dump with their rows, copies and rights; where the rights are left out, instances pause and say so,
# and define() puts it right. A copy that changes is noticed by a worker that runs it.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;
use WfTest;

my $node = wf_node('helpers');
wf_database($node, 'postgres');
my $define = q(SELECT wfproc.define('rent', 'app.rent', migrate => 'app.turn', helpers => '{app.price(int),app.tax(numeric)}'));

$node->safe_psql('postgres', <<'END');
CREATE ROLE landlord;
SELECT wfproc.grant_usage('landlord');
CREATE SCHEMA app AUTHORIZATION landlord;
SET ROLE landlord;
SET search_path = app;
CREATE FUNCTION tax(amount numeric) RETURNS numeric LANGUAGE sql AS $$ SELECT amount * 1.5 $$;
CREATE FUNCTION price(nights int) RETURNS numeric LANGUAGE plpgsql AS $$ BEGIN RETURN tax(nights * 10); END $$;
CREATE FUNCTION rent(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    RETURN jsonb_build_object('total', COALESCE((state ->> 'total')::numeric, 0) + price((payload ->> 'nights')::int));
END $$;
CREATE FUNCTION turn(state jsonb, from_version int, to_version int) RETURNS jsonb LANGUAGE sql AS $$ SELECT state || to_jsonb(price(1)) $$;
END

# the search_path is part of the code
sub as_owner
{
	my ($db, $sql) = @_;
	return $node->safe_psql($db, "SET ROLE landlord; SET search_path = app; $sql");
}
is(as_owner('postgres', $define), 1, 'published');
as_owner('postgres', q(SELECT wfproc.start('rent', 'r', '{"nights": 2}')));
is($node->safe_psql('postgres', q(SELECT wfproc.await_state('r', '$.total == 30') ->> 'total')), '30.0', 'a worker reaches the copies');
as_owner('postgres', q(CREATE OR REPLACE FUNCTION tax(amount numeric) RETURNS numeric LANGUAGE sql AS $$ SELECT 0.0 $$));

#
# Dumps
#
for my $restored ('whole', 'bare')
{
	my $options = $restored eq 'bare' ? '--no-privileges' : '';
	$node->safe_psql('postgres', "CREATE DATABASE $restored");
	command_ok([ 'sh', '-c', sprintf("pg_dump $options -h '%s' -p %d postgres | psql -h '%s' -p %d -X -q -v ON_ERROR_STOP=1 $restored", ($node->host, $node->port) x 2) ], "$restored: pg_dump | psql");
	is($node->safe_psql($restored, 'SELECT name, arguments, code, code_sha256 FROM wfproc.version_helper ORDER BY name'),
		$node->safe_psql('postgres', 'SELECT name, arguments, code, code_sha256 FROM wfproc.version_helper ORDER BY name'), "$restored: the rows");
	$node->safe_psql($restored, 'SELECT wfproc.adopt()');
	$node->safe_psql($restored, q(SELECT wfproc.grant_usage('landlord')));
	$node->safe_psql($restored, q(SELECT wfproc.send('r', 'more', '{"nights": 1}')));
	if ($restored eq 'bare')
	{
		ok($node->poll_query_until($restored, q(SELECT status = 'paused' FROM wfproc.instances WHERE id = 'r')), 'bare: the instance pauses');
		like($node->safe_psql($restored, q(SELECT error FROM wfproc.instances WHERE id = 'r')),
			qr/^role "landlord" has no right to execute function wfproc_code_\d+_1\.\w+\(/, 'bare: and says why');
		# with the helper as it was: the original has changed, and would be another version
		as_owner($restored, q(CREATE OR REPLACE FUNCTION tax(amount numeric) RETURNS numeric LANGUAGE sql AS $$ SELECT amount * 1.5 $$));
		is(as_owner($restored, $define), 1, 'bare: the same version');
		$node->safe_psql($restored, q(SELECT wfproc.resume('r')));
	}
	is($node->safe_psql($restored, q(SELECT wfproc.await_state('r', '$.total == 45', '60 s') ->> 'total')), '45.0', "$restored: goes on with the copies");
	is($node->safe_psql($restored, q(SELECT ok FROM wfproc.verify('r'))), 't', "$restored: verify()");
	is($node->safe_psql($restored, q(DROP EXTENSION wfproc CASCADE; SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'wfproc\_code\_%')), 0, "$restored: all goes with the extension");
}

#
# A worker that has run the copies of helper and migrate function notices that they change
#
my $schema = $node->safe_psql('postgres', q(SELECT format('wfproc_code_%s_1', workflow_id) FROM wfproc.workflow WHERE name = 'rent'));
for my $function ('tax(numeric)', 'turn(jsonb, int, int)')
{
	$node->safe_psql('postgres', "ALTER FUNCTION $schema.$function COST 7");
	$node->safe_psql('postgres', q(SELECT wfproc.send('r', 'more', '{"nights": 1}')));
	ok($node->poll_query_until('postgres', q(SELECT status = 'paused' FROM wfproc.instances WHERE id = 'r')), "$function altered: the instance pauses");
	like($node->safe_psql('postgres', q(SELECT error FROM wfproc.instances WHERE id = 'r')), qr/is not what was published$/, 'and says why');
	$node->safe_psql('postgres', "ALTER FUNCTION $schema.$function COST 100");
	my $before = $node->safe_psql('postgres', q(SELECT seq FROM wfproc.digest('r')));
	$node->safe_psql('postgres', q(SELECT wfproc.resume('r')));
	ok($node->poll_query_until('postgres', qq(SELECT seq >= $before + 2 FROM wfproc.digest('r'))), 'altered back: it goes on');
}
is($node->safe_psql('postgres', q(SELECT wfproc.state('r') ->> 'total')), '60.0', 'with nothing lost');
no_alarms($node, 'nothing alarming in the log');
$node->stop;
done_testing();
