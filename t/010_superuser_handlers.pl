# wfproc.superuser_handlers = off: what a superuser owns does not run, and says so; what others own goes on (I19).
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;
use WfTest;

my $node = wf_node('superuser', conf => "wfproc.superuser_handlers = off\n");
wf_database($node, 'postgres');
sub sql { return $node->safe_psql('postgres', $_[0]); }

sql(q(CREATE ROLE mallory; SELECT wfproc.grant_usage('mallory'); GRANT CREATE ON SCHEMA public TO mallory;
      SET ROLE mallory; SELECT wfproc.define('theirs', 'counter')));
sql(q(SELECT wfproc.start('counter', 'ours'), wfproc.start('theirs', 'theirs'), wfproc.send('theirs', 'finish')));
is(sql(q(SELECT status FROM wfproc.await('theirs', '60 s'))), 'completed', 'a handler that no superuser owns runs');
ok($node->poll_query_until('postgres', q(SELECT status = 'paused' FROM wfproc.instances WHERE id = 'ours')), 'one that a superuser owns does not');
like(sql(q(SELECT error FROM wfproc.instances WHERE id = 'ours')), qr/superuser_handlers/, 'and names the setting');
is(sql(q(SELECT count(*) FROM wfproc.history('ours'))), 0, 'nothing of it has been handled');

# a definition that was forged by somebody who got at the table: its owner is now a superuser
sql(q(SELECT wfproc.start('theirs', 'forged')));
ok(wait_handled($node, 'postgres'), 'handled');
sql(q(UPDATE wfproc.workflow SET owner = 'postgres' WHERE name = 'theirs')) if sql('SELECT current_user') eq 'postgres';
sql(q(UPDATE wfproc.workflow SET owner = current_user WHERE name = 'theirs'));
sql(q(SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE backend_type = 'wfproc worker'));
sql(q(SELECT wfproc.send('forged', 'add')));
ok($node->poll_query_until('postgres', q(SELECT status = 'paused' FROM wfproc.instances WHERE id = 'forged')), 'a forged owner gains nothing');
sql(q(UPDATE wfproc.workflow SET owner = 'mallory' WHERE name = 'theirs'));

# allowed again: they go on where they were
sql(q(ALTER SYSTEM SET wfproc.superuser_handlers = on));
$node->reload;
sql(q(SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE backend_type = 'wfproc worker'));
ok($node->poll_query_until('postgres', q(SHOW wfproc.superuser_handlers), 'on'), 'on again');
sql(q(SELECT wfproc.resume('ours'); SELECT wfproc.send('ours', 'finish'); SELECT wfproc.resume('forged'); SELECT wfproc.send('forged', 'finish')));
is(sql(q(SELECT status FROM wfproc.await('ours', '60 s'))), 'completed', 'it goes on');
is(sql(q(SELECT status FROM wfproc.await('forged', '60 s'))), 'completed', 'and so does the other');
is(sql(q(SELECT string_agg(event, ' ' ORDER BY seq) FROM wfproc.history('forged') WHERE event NOT LIKE '$%')), 'start add finish', 'nothing is lost');
$node->stop;
done_testing();
