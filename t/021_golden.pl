# Golden logs: what each release has written, kept in golden/RELEASE, is read by this one: imported into a fresh database the
# logs have the hashes that they had, fold to the digests and states that they had, and said again, the scenario gives the same
# logs line by line. A change of a hash, of a digest, of the order of events or of what random() draws fails here.
#
# golden/RELEASE has
#   definitions.sql   publishes the workflows
#   scenario.sql      what happens to them, under a clock that is moved by hand
#   logs.jsonl        all logs, as export_log() gave them; parents before their children
#   expected.jsonl    for each instance the hash of its log, the digest of its last row, its state and how it ended
#
# For a release that writes logs otherwise (more kinds of events, say): copy the first two of the last one into golden/RELEASE,
# change them, and say  make installcheck REGRESS= ISOLATION= PROVE_TESTS=t/021_golden.pl WF_GOLDEN=RELEASE.  That makes the other
# two, where they are not there yet; those of older releases stay as they are for good. (A release that is not out yet may have
# its own made anew: remove the two first.)
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;
use WfTest;

my $golden = "$FindBin::RealBin/golden";
my $node = wf_node('golden', conf => "wfproc.workers = 0\nfsync = off\n");
# who is in the logs as the one who asked
$node->safe_psql('postgres', 'CREATE ROLE golden SUPERUSER LOGIN');

# Runs SQL as golden: what it prints, and what it warns of.
sub run_sql
{
	my ($db, $sql) = @_;
	my ($out, $err) = ('', '');
	my $status = $node->psql($db, "SET client_min_messages = warning;\n$sql", stdout => \$out, stderr => \$err, on_error_stop => 1, extra_params => [ '-U', 'golden' ]);
	return ($status == 0 ? $out : undef, $err);
}

sub sql
{
	my ($db, $sql, $name) = @_;
	my ($out, $err) = run_sql($db, $sql);
	ok(defined $out && $err eq '', $name // 'SQL') or diag(substr($err, 0, 2000)) if defined $name || !defined $out || $err ne '';
	return $out;
}

sub new_database
{
	my ($db, $release) = @_;
	$node->safe_psql('postgres', qq(CREATE DATABASE "$db" OWNER golden));
	sql($db, 'CREATE EXTENSION wfproc CASCADE');
	sql($db, slurp_file("$golden/$release/definitions.sql"), "$db: the workflows are published");
	return;
}

# In the order of their beginning: so parents come first.
my $logs = q(
SELECT line FROM (SELECT i.instance_id, l.n, l.line FROM wfproc.instance i, wfproc.export_log(i.id) WITH ORDINALITY l(line, n)) x ORDER BY instance_id, n;
);
my $expected = q(
SELECT jsonb_build_object('id', i.id, 'seq', d.seq, 'sha256', encode(d.sha256, 'hex'),
           'digest', (SELECT e.digest::text FROM wfproc.event e WHERE e.instance_id = i.instance_id ORDER BY seq DESC LIMIT 1),
           'state', wfproc.state(i.id), 'version', i.version, 'status', CASE WHEN i.closed_at IS NULL THEN 'open' ELSE i.status END, 'result', i.result, 'error', i.error,
           'attributes', i.attributes)
FROM wfproc.instance i, wfproc.digest(i.id) d ORDER BY i.id;
);

sub write_file
{
	my ($name, $text) = @_;
	die "$name is there already, and stays as it is" if -e $name;
	open(my $file, '>', $name) or die "$name: $!";
	print $file "$text\n";
	close($file);
	return;
}

sub make_golden
{
	my ($release) = @_;
	die "no release: $release" unless $release =~ /^[\w.]+$/ && -d "$golden/$release";
	new_database("make $release", $release);
	sql("make $release", slurp_file("$golden/$release/scenario.sql"), "make $release: the scenario is played");
	write_file("$golden/$release/logs.jsonl", sql("make $release", $logs));
	write_file("$golden/$release/expected.jsonl", sql("make $release", $expected));
	return;
}

sub lines_of { my ($release, $name) = @_; return split /\n/, slurp_file("$golden/$release/$name"); }

# Two lists of lines, the first difference shown.
sub same_lines
{
	my ($got, $wanted, $name) = @_;
	my ($n) = grep { ($got->[$_] // '') ne ($wanted->[$_] // '') } 0 .. ($#$got > $#$wanted ? $#$got : $#$wanted);
	ok(!defined $n, $name) and return;
	diag("line $n\n     got: ", substr($got->[$n] // 'none', 0, 1000), "\nexpected: ", substr($wanted->[$n] // 'none', 0, 1000));
	return;
}

# Each log is the lines from one that says its format to the next.
sub import_logs
{
	my ($db, @lines) = @_;
	my @logs;
	for my $line (@lines)
	{
		push @logs, [] if $line =~ /"format": "wfproc log/;
		push @{ $logs[-1] }, $line;
	}
	my $sql = join "\n", map { 'SELECT wfproc.import_log($golden$[' . join(",\n", @$_) . ']$golden$::jsonb);' } @logs;
	# that the code is another one would be a warning
	sql($db, "\\o /dev/null\n$sql", "$db: " . @logs . ' logs are imported, and the code is that of then');
	return;
}

# All that a log may have is in one of them.
sub check_features
{
	my ($db) = @_;
	is(sql($db, q(
SELECT string_agg(want, ', ') FROM unnest('{start,cancel,reply,dead_letter,child.completed,child.failed,child.cancelled,child.terminated,monitor.cancelled,monitor.unknown,$pause,$resume,
$retry,$skip,$fail,$terminate,$attributes,$upgrade,$redact,$fork}'::text[]) want WHERE NOT EXISTS (SELECT FROM wfproc.event WHERE name = want))), '', "$db: all kinds of events");
	is(sql($db, q(
SELECT string_agg(want, ', ') FROM unnest('{send,start,set_timer,cancel_timer,set_attributes,reply,monitor,demonitor,cancel,terminate,defer_cancel,complete,fail,reject}'::text[]) want
WHERE NOT EXISTS (SELECT FROM wfproc.instance i, wfproc.replay(i.id) r WHERE (wfproc.verify(i.id)).ok AND i.id <> 'erased' AND r.actions @> jsonb_build_array(jsonb_build_object('action', want))))), '', "$db: all actions");
	is(sql($db, q(SELECT count(DISTINCT status) FROM wfproc.instance WHERE closed_at IS NOT NULL)), 4, "$db: all ends");
	is(sql($db, q(SELECT bool_or(live) AND bool_or(NOT live) AND bool_or(reply IS NOT NULL) AND bool_or(payload_sha256 IS NOT NULL) AND bool_or(idempotency_key IS NOT NULL) AND bool_or(at < '1970-01-01') FROM wfproc.event)),
		't', "$db: all columns");
	return;
}

sub check_release
{
	my ($release) = @_;
	my @logs     = lines_of($release, 'logs.jsonl');
	my @expected = lines_of($release, 'expected.jsonl');
	cmp_ok(scalar(@logs), '>', 150, "$release: enough lines to mean anything: " . @logs);

	new_database("import $release", $release);
	import_logs("import $release", @logs);
	is(sql("import $release", q(SELECT i.id, v.* FROM wfproc.instances i, wfproc.verify(i.id) v WHERE NOT v.ok)), '', "$release: they verify");
	same_lines([ split /\n/, sql("import $release", $expected) ], \@expected, "$release: hashes, digests, states and ends are what they were");
	check_features("import $release");

	new_database("again $release", $release);
	sql("again $release", "\\o /dev/null\n" . slurp_file("$golden/$release/scenario.sql"), "$release: the scenario is said again");
	same_lines([ split /\n/, sql("again $release", $logs) ], \@logs, "$release: and gives the same logs");
	return;
}

make_golden($ENV{WF_GOLDEN}) if $ENV{WF_GOLDEN};
my @releases = map { m{([^/]+)/definitions\.sql$} } glob("$golden/*/definitions.sql");
cmp_ok(scalar(@releases), '>=', 1, "releases: @releases");
check_release($_) for @releases;
$node->stop;
done_testing();
