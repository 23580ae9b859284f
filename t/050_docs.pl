# What README and the examples show is what happens.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use WfTest;

my $top = "$FindBin::RealBin/..";

# README runs as it stands in a fresh database: its first statement is CREATE EXTENSION.
my $node = wf_node('docs');
$node->safe_psql('postgres', 'CREATE DATABASE readme');
{
	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	local $ENV{PGDATABASE} = 'readme';
	my ($out, $err);
	my $ok = run_log([ "$top/tools/docs-check", "$top/README.md" ], '>', \$out, '2>', \$err);
	ok($ok, 'README shows what psql prints') or diag($out . $err);
	my $blocks = () = $out =~ /^(?:not )?ok - /mg;
	cmp_ok($blocks, '>=', 15, 'and has blocks to look at');
}
$node->stop;

# An example's .out is what the regression test of the examples expects.
my $expected = slurp_file("$top/expected/examples.out");
my @outs = glob("$top/examples/*/*.out");
is(scalar @outs, 10, 'the examples have their output beside them');
for my $file (@outs)
{
	ok(index($expected, slurp_file($file)) >= 0, "$file is what the example prints");
}

# Every function, view, column and setting has its place in README.
my $readme = slurp_file("$top/README.md");
my $script = slurp_file("$top/sql/wfproc--1.0.sql");
for my $function (grep { $_ ne 'refuse_change' } $script =~ /^CREATE (?:FUNCTION|PROCEDURE) wfproc\.(\w+)\(/mg)
{
	like($readme, qr/`(?:wfproc\.)?$function\(/, "function $function() is in README");
}
for my $view ($script =~ /^CREATE VIEW wfproc\.(\w+)/mg)
{
	like($readme, qr/^`wfproc\.$view`/m, "view $view is in README");
}
for my $setting (slurp_file("$top/src/guc.c") =~ /"(wfproc\.\w+)"/g)
{
	like($readme, qr/^\| `\Q$setting\E` /m, "setting $setting is in README");
}

done_testing();
