# Bench.pm: what the benchmarks of this folder have in common: a private server, statements with their time, statistics,
# the report.
#
# A benchmark is a file NAME.pl whose value is a sub; it is called with a fresh database "bench" that has setup.sql in it,
# and returns rows of the report: [what, wfproc's figures, the figures beside them, result, bar, whether it is met].
package Bench;

use strict;
use warnings;

use Exporter 'import';
use FindBin;
use List::Util qw(sum);
use Time::HiRes qw(sleep time);

our @EXPORT = qw(start_server stop_server fresh_database note sql timed workers_on workers_off worker_pid worker_cpu
  handled wait_handled handled_of handled_after pgbench configure memory_of median percentile rounds us per_second compare
  machine report);

my ($folder, $data);

# Durability is what it is by default: fsync, synchronous_commit and full_page_writes are on.
my $configuration = <<'END';
listen_addresses = ''
shared_preload_libraries = 'wfproc'
shared_buffers = 1GB
max_wal_size = 8GB
checkpoint_timeout = 30min
wfproc.workers = 1
END

sub note { print STDERR "@_\n" }

sub run_quietly
{
	my @command = @_;
	open(my $out, '-|', @command) or die "$command[0]: $!\n";
	my $text = do { local $/; <$out> } // '';
	close($out) or die "@command: failed\n$text";
	return $text;
}

sub start_server
{
	($folder) = @_;
	$data = "$folder/data";
	mkdir $folder;
	$ENV{PGHOST} = $folder;
	$ENV{PGUSER} = 'postgres';
	$ENV{PGDATABASE} = 'postgres';
	$ENV{PGOPTIONS} = '-c client_min_messages=warning';
	delete @ENV{qw(PGPORT PGSERVICE PGPASSWORD)};
	run_quietly('initdb', '-D', $data, '-U', 'postgres', '-A', 'trust', '--no-locale', '-E', 'UTF8', '-N');
	open(my $conf, '>>', "$data/postgresql.conf") or die "$data/postgresql.conf: $!\n";
	print $conf $configuration, "unix_socket_directories = '$folder'\n";
	close($conf);
	run_quietly('pg_ctl', '-D', $data, '-l', "$folder/log", '-w', '-s', 'start');
}

sub stop_server
{
	return unless defined $data && -e "$data/postmaster.pid";
	run_quietly('pg_ctl', '-D', $data, '-m', 'fast', '-w', '-s', 'stop');
}

END { my $status = $?; eval { stop_server() }; $? = $status }

# Runs statements in one session, each in a transaction of its own; returns what they print, a row a line.
sub sql
{
	my ($text, %option) = @_;
	open(my $in, '>', "$folder/script.sql") or die "$folder/script.sql: $!\n";
	print $in $text, ";\n";
	close($in);
	my $out = run_quietly('psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $option{database} // 'bench', '-f', "$folder/script.sql");
	chomp $out;
	return $out;
}

# Seconds that a statement, with its commit, has taken: by the clock, and of its backend's processor time.
sub timed
{
	my ($statement) = @_;
	my $out = sql(<<"END");
SELECT pg_catalog.clock_timestamp() AS t0, bench.cpu(pg_catalog.pg_backend_pid()) AS c0 \\gset
$statement \\g /dev/null
SELECT extract(epoch FROM pg_catalog.clock_timestamp() - :'t0'::timestamptz), bench.cpu(pg_catalog.pg_backend_pid()) - :c0
END
	return split /\|/, $out;
}

sub fresh_database
{
	configure('wfproc.enabled' => 'on');
	sql('DROP DATABASE IF EXISTS bench WITH (FORCE)', database => 'postgres');
	sql('CREATE DATABASE bench', database => 'postgres');
	run_quietly('psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', 'bench', '-f', "$FindBin::RealBin/setup.sql");
}

# Sets settings of the server, or puts them back where the value is undef, and has them read.
sub configure
{
	my %setting = @_;
	sql(join('; ', map { defined $setting{$_} ? "ALTER SYSTEM SET $_ = '$setting{$_}'" : "ALTER SYSTEM RESET $_" } sort keys %setting) . '; SELECT pg_reload_conf()',
		database => 'postgres');
}

sub worker_pid
{
	return sql('SELECT max(pid) FROM wfproc.workers');
}

# Stops the worker, and waits until it has gone.
sub workers_off
{
	configure('wfproc.enabled' => 'off');
	sleep 0.02 while worker_pid() ne '';
}

sub workers_on { configure('wfproc.enabled' => 'on') }

# Events that the worker has handled since it was started.
sub handled { return sql('SELECT COALESCE(sum(events), 0) FROM wfproc.workers') }

# Waits until it has handled so many; returns when that was seen, in seconds since 1970.
sub wait_handled
{
	my ($count) = @_;
	return sql("CALL bench.wait_handled($count); SELECT extract(epoch FROM clock_timestamp())");
}

# Sends by a statement and waits until the worker has handled so many events more; returns seconds from the beginning.
sub handled_of
{
	my ($count, @statements) = @_;
	my $before = handled();
	my $began = time;
	sql($_) for @statements;
	return wait_handled($before + $count) - $began;
}

# The same for events that follow from one statement: seconds from its commit, seen by the session that has sent it.
sub handled_after
{
	my ($count, $statement) = @_;
	my $wanted = handled() + $count;
	return sql(<<"END");
$statement \\g /dev/null
SELECT pg_catalog.clock_timestamp() AS committed \\gset
CALL bench.wait_handled($wanted);
SELECT extract(epoch FROM pg_catalog.clock_timestamp() - :'committed'::timestamptz)
END
}

# Seconds of processor time that the worker has used.
sub worker_cpu { return sql('SELECT bench.cpu(max(pid)) FROM wfproc.workers') }

# Bytes of memory that a process has to itself.
sub memory_of
{
	my ($pid) = @_;
	return 1024 * sql("SELECT substring(pg_read_file('/proc/$pid/status', 0, 10000) FROM 'RssAnon:\\s+(\\d+)')");
}

# Runs pgbench with the scripts; returns for each the latencies of its transactions, in milliseconds.
sub pgbench
{
	my ($scripts, @options) = @_;
	my (@files, @latencies);
	unlink glob("$folder/pgbench_log*");
	for my $i (0 .. $#$scripts)
	{
		open(my $file, '>', "$folder/script$i") or die "$folder/script$i: $!\n";
		print $file $scripts->[$i];
		close($file);
		push @files, '-f', "$folder/script$i";
		push @latencies, [];
	}
	run_quietly('pgbench', '-n', '-M', 'prepared', '-l', "--log-prefix=$folder/pgbench_log", @files, @options, 'bench');
	for my $log (glob("$folder/pgbench_log*"))
	{
		open(my $in, '<', $log) or die "$log: $!\n";
		while (<$in>)
		{
			my @field = split;
			push @{$latencies[$field[3]]}, $field[2] / 1000;
		}
	}
	return @latencies;
}

#
# Statistics
#

sub percentile
{
	my ($percent, @values) = @_;
	my @sorted = sort { $a <=> $b } @values;
	return $sorted[int($percent / 100 * $#sorted + 0.5)];
}

sub median { return percentile(50, @_) }

# Calls it three times with the round's number, and returns what each gave.
sub rounds
{
	my ($measure) = @_;
	return map { $measure->($_) } 1 .. 3;
}

# Seconds as microseconds for each of so many, and as a rate.
sub us { my ($seconds, $count) = @_; return sprintf('%.1f', $seconds * 1e6 / $count) }

sub per_second
{
	my ($seconds, $count) = @_;
	my $rate = int($count / $seconds);
	1 while $rate =~ s/^(\d+)(\d{3})/$1,$2/;
	return $rate;
}

# A row of the report from rounds of [seconds, processor seconds, the same of the insert], for so many rows each.
sub compare
{
	my ($what, $count, $rounds, $bar, $least) = @_;
	my $each = sub { my ($i) = @_; return join(', ', map { us($_->[$i], $count) } @$rounds) };
	my $ratio = median(map { $_->[2] / $_->[0] } @$rounds);
	my $cpu_ratio = median(map { $_->[3] / $_->[1] } @$rounds);
	return [
		$what,
		per_second(median(map { $_->[0] } @$rounds), $count) . '/s; us each: ' . $each->(0) . ' (cpu ' . $each->(1) . ')',
		'INSERT ... SELECT, us each: ' . $each->(2) . ' (cpu ' . $each->(3) . ')',
		sprintf('%.2f of its rate (%.2f by cpu)', $ratio, $cpu_ratio), $bar // '', defined $least ? $ratio >= $least : undef
	];
}

#
# The report
#

sub first_match
{
	my ($file, $pattern) = @_;
	open(my $in, '<', $file) or return '?';
	while (<$in>) { return $1 if /$pattern/ }
	return '?';
}

sub machine
{
	my $cores = grep { /^processor/ } split /\n/, run_quietly('cat', '/proc/cpuinfo');
	my $memory = first_match('/proc/meminfo', qr/^MemTotal:\s+(\d+)/) / 1024 / 1024;
	my $settings = sql(<<'END');
SELECT string_agg(name || ' = ' || current_setting(name), ', ' ORDER BY name) FROM pg_settings
WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes', 'wal_level', 'shared_buffers', 'max_wal_size')
   OR name LIKE 'wfproc.%' AND source <> 'default' AND name <> 'wfproc.enabled'
END
	my $fsync = sprintf('%.2f', median(map { $_ * 1 } @{(pgbench(["INSERT INTO bench.single (payload) VALUES ('{}');\n"], '-t', 500))[0]}));
	return sprintf("%d cores (%s), %.0f GB of memory, Linux %s, %s. %s. A committed single INSERT takes %s ms.",
		$cores, first_match('/proc/cpuinfo', qr/^model name\s*:\s*(.*)/), $memory, run_quietly('uname', '-r') =~ s/\s+$//r,
		sql('SELECT substring(version() FROM \'^\S+ \S+\')'), ucfirst("settings: $settings"), $fsync);
}

sub report
{
	my ($machine, $minutes, @rows) = @_;
	my $text = <<"END";
# Benchmarks

Written by `make bench`, which takes about $minutes minutes. Each figure is the median of three rounds in one run, in which
both sides take turns; raw figures of the rounds stand beside it. What each one measures is said at the top of its file in
[bench/](../bench/).

$machine

| what | wfproc | beside it | result | bar | |
|---|---|---|---|---|---|
END
	for my $row (@rows)
	{
		my @cells = @$row;
		$cells[5] = !defined $cells[5] ? '' : $cells[5] ? 'met' : '**not met**';
		$text .= '| ' . join(' | ', map { $_ // '' } @cells) . " |\n";
	}
	return $text . notes();
}

# What is to be said of the figures: bench/NOTES.md, by hand.
sub notes
{
	open(my $in, '<', "$FindBin::RealBin/NOTES.md") or return '';
	local $/;
	return "\n" . <$in>;
}

1;
