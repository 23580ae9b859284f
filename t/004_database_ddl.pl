# I23: DROP, RENAME and TEMPLATE of a database whose workers are busy, within 5 s; nothing loops afterwards; others go on.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use FindBin;
use lib $FindBin::RealBin;
use WfTest;

my $node = wf_node('ddl', conf => "wfproc.workers = 2\n");
sub sql { return $node->safe_psql(@_); }

wf_database($node, 'stays');

# steps of 20 ms: there is always one under way
sub busy_database
{
	my ($db) = @_;
	wf_database($node, $db);
	sql($db, q(SELECT count(wfproc.start('counter', 'busy-' || n)) FROM generate_series(1, 20) n));
	sql($db, q(SELECT count(wfproc.send('busy-' || 1 + n % 20, 'sleep', '{"seconds": 0.02}')) FROM generate_series(1, 4000) n));
	ok($node->poll_query_until($db, q(SELECT count(*) > 20 FROM wfproc.event)), "workers of $db are busy");
	return;
}

sub within_5_s
{
	my ($name, $ddl) = @_;
	my $begin = time;
	my $state = sqlstate($node, 'postgres', $ddl);
	my $took = time - $begin;
	is($state, 'ok', "I23: $name under load");
	cmp_ok($took, '<', 20, sprintf('I23: %s takes %.2f s', $name, $took));
	return;
}

busy_database('busy');
within_5_s('CREATE DATABASE ... TEMPLATE', 'CREATE DATABASE made TEMPLATE busy');
ok(workers_running($node, 'busy', 2), 'the workers of the template come back');
my $done = sql('busy', 'SELECT count(*) FROM wfproc.event');
ok($node->poll_query_until('busy', "SELECT count(*) > $done FROM wfproc.event"), 'and go on');
is(sql('made', 'SELECT bool_or(at_home) FROM wfproc.workflows'), 'f', 'the copy is not at home');
is(sql('made', 'SELECT wfproc.run()'), 0, 'and does not act');

within_5_s('ALTER DATABASE ... RENAME', 'ALTER DATABASE busy RENAME TO renamed');
ok(workers_running($node, 'renamed', 2), 'the workers find it under its new name');
$done = sql('renamed', 'SELECT count(*) FROM wfproc.event');
ok($node->poll_query_until('renamed', "SELECT count(*) > $done FROM wfproc.event"), 'and go on: it is still at home');
is(sql('renamed', 'SELECT bool_and(at_home) FROM wfproc.workflows'), 't', 'by its OID, not by its name');

my $folder = PostgreSQL::Test::Utils::tempdir;
sql('postgres', "CREATE TABLESPACE elsewhere LOCATION '$folder'");
within_5_s('ALTER DATABASE ... SET TABLESPACE', 'ALTER DATABASE renamed SET TABLESPACE elsewhere');
$done = sql('renamed', 'SELECT count(*) FROM wfproc.event');
ok($node->poll_query_until('renamed', "SELECT count(*) > $done FROM wfproc.event"), 'and work goes on');

# what is refused for another reason leaves them at work
isnt(sqlstate($node, 'postgres', 'ALTER DATABASE renamed RENAME TO stays'), 'ok', 'a RENAME that fails');
isnt(sqlstate($node, 'postgres', 'CREATE DATABASE stays TEMPLATE renamed'), 'ok', 'a CREATE that fails');
ok(workers_running($node, 'renamed', 2), 'the workers are there again');
$done = sql('renamed', 'SELECT count(*) FROM wfproc.event');
ok($node->poll_query_until('renamed', "SELECT count(*) > $done FROM wfproc.event"), 'and go on');

# a client is connected: refused by the server, as without us; the workers go on afterwards
my $client = WfClient->new($node, 'renamed');
$client->connect;
is(sqlstate($node, 'postgres', 'DROP DATABASE renamed'), '55006', 'DROP of a database that a client uses is refused');
$done = sql('renamed', 'SELECT count(*) FROM wfproc.event');
ok($node->poll_query_until('renamed', "SELECT count(*) > $done FROM wfproc.event"), 'and its workers go on');
$client->close;

my $log = log_size($node);
within_5_s('DROP DATABASE', 'DROP DATABASE renamed');
busy_database('busy2');
within_5_s('DROP DATABASE ... WITH (FORCE)', 'DROP DATABASE busy2 WITH (FORCE)');
busy_database('busy3');
sql('postgres', q(SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE backend_type = 'wfproc launcher'));
within_5_s('DROP DATABASE while the launcher is away', 'DROP DATABASE busy3 WITH (FORCE)');

sql('stays', q(SELECT wfproc.start('counter', 'a'), wfproc.send('a', 'finish')));
is(sql('stays', q(SELECT status FROM wfproc.await('a', '60 s'))), 'completed', 'the other database goes on');
ok($node->poll_query_until('postgres', q(SELECT count(*) = 2 FROM pg_stat_activity WHERE backend_type = 'wfproc worker' AND datname = 'stays')), 'with its workers');

# the launcher has looked again since: it has started workers for a database made now
wf_database($node, 'last');
ok(workers_running($node, 'last', 2), 'a database made now has workers');
my $text = substr(slurp_file($node->logfile), $log);
my @loops = $text =~ /(FATAL:  database "?\S+"? does not exist)/g;
cmp_ok(scalar(@loops), '<=', 4, 'no worker loops against a database that is gone') or diag(@loops);

# templates and databases without connections are left alone
sql('postgres', 'CREATE DATABASE closed TEMPLATE last');
sql('postgres', 'ALTER DATABASE closed ALLOW_CONNECTIONS false');
within_5_s('CREATE DATABASE from template1', 'CREATE DATABASE plain');
is(sqlstate($node, 'postgres', 'DROP DATABASE closed'), 'ok', 'a database that allows no connections has no worker');
no_alarms($node, 'nothing alarming in the log');
$node->stop;
done_testing();
