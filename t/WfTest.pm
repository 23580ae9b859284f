# WfTest: what the TAP tests share: nodes, handlers, clients that know the outcome of each call, kills, seeds.
#
# Nothing here or in t/*.pl waits for a time: everything polls for a condition.
#   WF_SEED=N    repeats a run that drew at random (each prints its seed)
#   WF_LONG=1    longer runs
package WfTest;

use strict;
use warnings;

use Exporter 'import';
use FindBin;
use IPC::Open2;
use IO::Select;
use POSIX ();
use Time::HiRes qw(time);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(
  long_run seed pick draw
  wf_node wf_database wf_handlers start_child kill_postmaster
  workers_running worker_pids wait_handled wait_until
  permits_file sqlstate log_size no_alarms
  fault_library set_faults
);

# a number for a normal run, another for a long one
sub long_run
{
	my ($normal, $long) = @_;
	return $ENV{WF_LONG} ? $long : $normal;
}

# Seeds rand(), and says how to repeat the run: with WF_SEED, with what a test usually draws, or at random (also WF_SEED=random).
sub seed
{
	my ($usual) = @_;
	my $seed = $ENV{WF_SEED} // $usual // 'random';
	$seed = (time ^ ($$ << 8)) % 1_000_000_007 if $seed eq 'random';
	srand($seed);
	diag("seed $seed (WF_SEED=$seed repeats it)");
	return $seed;
}

sub draw { return int(rand($_[0])); }
sub pick { return $_[ draw(scalar @_) ]; }

# A server that preloads the library. Options: conf => text, start => 0, streaming => 1, preload => 0, install_path => of another
# server's programs, initdb => [ options ].
sub wf_node
{
	my ($name, %option) = @_;
	# in this order, for the modules of 14 take other options for a host and a port
	my @programs = $option{install_path} ? (own_host => 0, install_path => $option{install_path}) : ();
	my $node = bless PostgreSQL::Test::Cluster->new($name, @programs), 'WfNode';
	$node->init(
		extra            => [ '--encoding=UTF8', '--no-locale', @{ $option{initdb} // [] } ],
		allows_streaming => $option{streaming} ? 1 : 0);
	# the modules of 14 set what newer servers do not know
	system('sed', '-i', '/^stats_temp_directory/d', $node->data_dir . '/postgresql.conf') if $option{install_path};
	$node->append_conf('postgresql.conf',
		"shared_preload_libraries = 'wfproc'") unless exists $option{preload} && !$option{preload};
	$node->append_conf(
		'postgresql.conf', qq(
fsync = on
max_worker_processes = 32
max_connections = 60
max_prepared_transactions = 10
log_min_messages = info
log_statement = none
restart_after_crash = on
autovacuum_naptime = 1s
deadlock_timeout = 100ms
) . ($option{conf} // ''));
	$node->start unless exists $option{start} && !$option{start};
	return $node;
}

# A database with the extension and the handlers below.
sub wf_database
{
	my ($node, $db) = @_;
	$node->safe_psql('postgres', qq(CREATE DATABASE "$db")) unless $db eq 'postgres';
	$node->safe_psql($db, 'CREATE EXTENSION wfproc CASCADE');
	wf_handlers($node, $db);
	return;
}

# counter: counts its events and adds up what they bring; reject, raise, sleep and finish do so.
# owner: the same, and raises where two processes handle the same instance (ids end in their number).
sub wf_handlers
{
	my ($node, $db) = @_;
	$node->safe_psql(
		$db, q(
CREATE FUNCTION counter(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    CASE event
        WHEN 'reject' THEN PERFORM wfproc.reject('told to');
        WHEN 'raise' THEN RAISE EXCEPTION 'told to';
        WHEN 'sleep' THEN PERFORM pg_sleep((payload ->> 'seconds')::float);
        WHEN 'finish' THEN PERFORM wfproc.complete(state);
        ELSE NULL;
    END CASE;
    RETURN jsonb_build_object('n', COALESCE((state ->> 'n')::bigint, 0) + 1,
                              'sum', COALESCE((state ->> 'sum')::bigint, 0) + COALESCE((payload ->> 'n')::bigint, 0));
END $$;
CREATE FUNCTION owner(state jsonb, event text, payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock(4711, substring(wfproc.self() from '\d+$')::int) THEN
        RAISE EXCEPTION 'two owners of %', wfproc.self();
    END IF;
    IF event = 'reject' THEN
        PERFORM wfproc.reject('told to');
    ELSIF event = 'finish' THEN
        PERFORM wfproc.complete(state);
    END IF;
    RETURN jsonb_build_object('n', COALESCE((state ->> 'n')::bigint, 0) + 1,
                              'sum', COALESCE((state ->> 'sum')::bigint, 0) + COALESCE((payload ->> 'n')::bigint, 0));
END $$;
SELECT wfproc.define('counter', 'counter');
));
	return;
}

# Starts the server as a child of ours, so that its end can be waited for: where nobody reaps a postmaster that was killed,
# its successor takes the dead process for a live one.  Processes of the one before may need a moment to leave; until they
# have, the server refuses to start.
sub start_child
{
	my ($node) = @_;
	my $give_up = time + 20;
	fork_server($node);
	wait_until(
		sub {
			if (waitpid($node->{wf_child}, POSIX::WNOHANG()) == $node->{wf_child})
			{
				BAIL_OUT('the server did not start, see ' . $node->logfile) if time > $give_up;
				fork_server($node);
			}
			return $node->raw_connect_works && accepts($node);
		},
		'the server accepts connections');
	$node->_update_pid(1);
	return;
}

sub fork_server
{
	my ($node) = @_;
	my $pid = fork() // BAIL_OUT("fork: $!");
	if ($pid == 0)
	{
		open(STDIN,  '<',  '/dev/null');
		open(STDOUT, '>>', $node->logfile);
		open(STDERR, '>&', \*STDOUT);
		POSIX::setsid();
		exec($node->installed_command('postgres'), '-D', $node->data_dir) or POSIX::_exit(127);
	}
	$node->{wf_child} = $pid;
	return;
}

sub accepts
{
	my ($node) = @_;
	return run_silently($node->installed_command('pg_isready'), '-q', '-h', $node->host, '-p', $node->port);
}

sub run_silently
{
	my @command = @_;
	my ($out, $err) = ('', '');
	return IPC::Run::run(\@command, '<', '/dev/null', '>', \$out, '2>', \$err);
}

sub children_of
{
	my ($pid) = @_;
	return split ' ', `ps -o pid= --ppid $pid`;
}

# Where a process was killed a moment before its postmaster, and held a lock of shared memory, those that wait for that lock stay
# for ever, since nobody is left to tell them. They are given time to leave by themselves first, as all others must.
sub end_orphans
{
	my (@pids) = @_;
	my $give_up = time + 10;
	while (@pids && time < $give_up)
	{
		@pids = grep { kill 0, $_ } @pids;
		select(undef, undef, undef, 0.02);
	}
	return unless @pids;
	diag("left behind by a postmaster that was killed: @pids");
	kill 'KILL', @pids;
	return;
}

# kill -9, and waits for the end of the postmaster; SIGQUIT is what an immediate shutdown sends.
sub kill_postmaster
{
	my ($node, $signal) = @_;
	my $pid = $node->{wf_child};
	my @children = children_of($pid);
	kill($signal // 'KILL', $pid);
	waitpid($pid, 0);
	end_orphans(@children) if ($signal // 'KILL') eq 'KILL';
	delete $node->{wf_child};
	$node->{_pid} = undef;
	return;
}

# Polls a Perl condition.
sub wait_until
{
	my ($condition, $what) = @_;
	my $end = time + $PostgreSQL::Test::Utils::timeout_default;
	while (time < $end)
	{
		return 1 if $condition->();
		select(undef, undef, undef, 0.02);
	}
	diag("timed out waiting until $what");
	return 0;
}

sub worker_pids
{
	my ($node, $db) = @_;
	return split /\n/,
	  $node->safe_psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'wfproc worker%' AND datname = '$db' ORDER BY pid");
}

# Waits until the database has so many workers and each holds shards.
sub workers_running
{
	my ($node, $db, $count) = @_;
	return $node->poll_query_until('postgres',
		"SELECT count(*) = $count FROM pg_stat_activity WHERE backend_type LIKE 'wfproc worker%' AND datname = '$db'");
}

# Waits until no event that is due and could be handled is left.
sub wait_handled
{
	my ($node, $db) = @_;
	return $node->poll_query_until(
		$db, q(
SELECT NOT EXISTS (SELECT FROM wfproc.mailbox m JOIN wfproc.instance i USING (instance_id)
                   WHERE m.at <= clock_timestamp() AND i.status <> 'paused' AND i.attempts = 0)));
}

# The permit log, or nothing.
sub permits_file
{
	for my $file ($ENV{WF_PERMITS}, $ENV{WFPROC_PERMITS}, '../shared/data/permits.csv')
	{
		return $file if defined $file && -r $file;
	}
	return;
}

# The SQLSTATE of a statement, or ok.
sub sqlstate
{
	my ($node, $db, $sql) = @_;
	my ($status, $out, $err) = $node->psql($db, "\\set VERBOSITY sqlstate\n$sql");
	return $err =~ /(?:ERROR|FATAL):\s+(\w{5})/ ? $1 : $status == 0 ? 'ok' : "status $status: $err";
}

# What a server is to be started with so that set_faults() can move its clock and make a sync fail (faultshim.c): environment
# variables. Nothing where there is no C compiler.
sub fault_library
{
	my ($folder) = @_;
	my $cc = $ENV{CC} // 'cc';
	my %environment = (LD_PRELOAD => "$folder/faultshim.so", WF_FAULTS => "$folder/faults");
	return if system("$cc -O2 -shared -fPIC -o $environment{LD_PRELOAD} $FindBin::RealBin/faultshim.c -ldl 2>$folder/cc.log") != 0;
	open(my $file, '>', $environment{WF_FAULTS}) or die $!;
	print $file pack('q q', 0, 0);
	close($file);
	return \%environment;
}

# the clock's offset in seconds, and which fdatasync from now fails (0: none)
sub set_faults
{
	my ($environment, $seconds, $sync) = @_;
	open(my $file, '+<', $environment->{WF_FAULTS}) or die $!;
	syswrite($file, pack('q q', $seconds * 1_000_000, $sync));
	close($file);
	return;
}

sub log_size { return -s $_[0]->logfile; }

# What must never be in a log.
sub no_alarms
{
	my ($node, $name, @more) = @_;
	my @found;
	my $alarms = join '|', map { quotemeta } 'deadlock detected', 'PANIC:', 'TRAP:', 'two owners', 'diverged', 'duplicate key value',
	  'terminated by signal 11', 'terminated by signal 6', 'cache reference leak', 'resource was not closed',
	  'snapshot reference leak', 'relation reference leak', @more;
	my $alarm = qr/$alarms/;
	open(my $log, '<', $node->logfile) or die $!;
	while (my $line = <$log>)
	{
		push @found, $line if $line =~ $alarm;
	}
	close($log);
	chomp(@found);
	is(join("\n", @found[ 0 .. ($#found > 9 ? 9 : $#found) ]), '', $name);
	return;
}

#
# A node that gets killed: a psql that ends before it has read its input, since it could not connect, is one that failed,
# where IPC::Run would have the test die of a broken pipe.
#
package WfNode;

use strict;
use warnings;
our @ISA = ('PostgreSQL::Test::Cluster');

sub psql
{
	my ($self, @arguments) = @_;
	my @result = eval { $self->SUPER::psql(@arguments) };
	return wantarray ? @result : $result[0] unless $@;
	my %option = @arguments[ 2 .. $#arguments ];
	die $@ if $option{on_error_die} || $@ !~ /Broken pipe/;
	return wantarray ? (2, '', 'broken pipe') : 2;
}

sub poll_query_until
{
	my ($self, @arguments) = @_;
	while (1)
	{
		my $result = eval { $self->SUPER::poll_query_until(@arguments) };
		return $result unless $@;
		die $@ unless $@ =~ /Broken pipe/;
	}
}

#
# A client: psql beside us, which tells how each call ended: ok, failed, or unknown where the connection was lost.
#
package WfClient;

use strict;
use warnings;
use IPC::Open2;
use IO::Select;

sub new
{
	my ($class, $node, $db) = @_;
	return bless { node => $node, db => $db, pid => 0 }, $class;
}

sub connected { return $_[0]->{pid} != 0; }

# Connects unless it is; false where the server does not let it in.
sub connect
{
	my ($self) = @_;
	return 1 if $self->{pid};
	local $ENV{PGCONNECT_TIMEOUT} = 10;
	my $psql = $self->{node}->installed_command('psql');
	my $conn = $self->{node}->connstr($self->{db});
	$self->{pid} = open2($self->{out}, $self->{in}, "exec '$psql' -XAtq -d \"$conn\" 2>&1");
	my ($outcome) = $self->call("SET client_min_messages = error");
	return $outcome eq 'ok';
}

# Runs statements as one simple query; returns (outcome, output lines).
sub call
{
	my ($self, $sql) = @_;
	local $SIG{PIPE} = 'IGNORE';
	return ('failed', 'not connected') unless $self->{pid};
	my $mark = '@@' . ++$self->{calls} . '@@';
	print { $self->{in} } "$sql;\n\\echo $mark\n";
	$self->{in}->flush;
	my ($buffer, $select) = ('', IO::Select->new($self->{out}));
	while (1)
	{
		if (!$select->can_read(120))
		{
			kill 'KILL', $self->{pid};
			$self->close;
			return ('unknown', 'no answer within 120 s');
		}
		if (sysread($self->{out}, $buffer, 65536, length $buffer) <= 0)
		{
			$self->close;
			return ('unknown', split(/\n/, $buffer));
		}
		last if $buffer =~ s/^\Q$mark\E\n//m;
	}
	my @lines = split /\n/, $buffer;
	# a connection that is lost leaves open whether the COMMIT before it came through
	return ('unknown', @lines) if grep { /(FATAL|PANIC):|server closed the connection|connection to server was lost/ } @lines;
	return ((grep { /ERROR:/ } @lines) ? 'failed' : 'ok', @lines);
}

sub close
{
	my ($self) = @_;
	return unless $self->{pid};
	local $SIG{PIPE} = 'IGNORE';
	close($self->{in});
	close($self->{out});
	waitpid($self->{pid}, 0);
	$self->{pid} = 0;
	return;
}

1;
