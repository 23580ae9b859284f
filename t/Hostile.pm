# Hostile: who attacks and what is done to the server in t/030_hostile.pl, and what must come of it.
#
# An attacker is {finds, cards, attack}: which fault it is about, how often it is in a deck, and a sub that returns its
# steps and fates.  A step is SQL, committed once whatever is killed meanwhile; or a sub.  Fates are conditions in SQL that must
# come true.  A maintainer is SQL or a sub, done again and again while the attacks last.
package Hostile;

use strict;
use warnings;

use JSON::PP;
use POSIX ();
use Time::HiRes qw(time);

use PostgreSQL::Test::Utils;
use Test::More;

use WfTest;

# seconds: without any progress; for all of a seed
use constant STALLED => 45;
use constant TOO_LONG => 240;
# what a worker may take at most, in MB; what a seed may add to the server's log
use constant MEMORY => 400;
use constant LOG_BYTES => 20_000_000;
# so many crashes pause an instance, so that innocents do not come to harm by MAX_KILLS
use constant MAX_CRASHES => 3;
use constant MAX_KILLS => 2;

my $json = JSON::PP->new->canonical;

my @states = qw(00000 01000 02000 08006 0A000 21000 22012 23505 25006 25P02 28000 2F003 34000 38000 39P01 3D000 40001 40003 40P01 42501 42704
  53000 53100 53200 53300 53400 54000 54001 55000 55006 55P03 57000 57P01 57P02 57P03 57P04 57P05 58000 58030 72000 F0000 HV000 HV00N P0000 P0001 P0004
  XX000 XX001 XX002 WF001 WF002);
my @tables    = qw(mailbox mailbox mailbox event instance snapshot kept_snapshot link dead_letter idempotency workflow version);
my @catalogue = qw(pg_operator pg_proc pg_class pg_type pg_cast pg_index pg_attribute pg_namespace pg_amop pg_opclass);

#
# Attackers
#
sub quoted { my ($text) = @_; $text =~ s/'/''/g; return "'$text'"; }
sub payload { return quoted($json->encode({@_})); }

# An instance that starts, is told to misbehave, and is sent something more; and how it must end.
sub villain
{
	my ($workflow, $id, $how, %does) = @_;
	return {
		steps => ["SELECT wfproc.start('$workflow', '$id'); SELECT submit('$id', 'do', " . payload(%does) . "), submit('$id', 'after')"],
		fates => { "$id (" . join(' ', map { "$_ $does{$_}" } sort keys %does) . ") ends as it must: $how" => $how eq 'any' ? "settled('$id')" : "ended('$id', '$how')" }
	};
}

# One that fails for good, in one of the ways to do so.
sub failing { my ($id, %does) = @_; my $how = pick(qw(pause fail dead_letter)); return villain("villain_$how", $id, $how, %does); }

sub together
{
	my (@parts) = @_;
	return { steps => [ map { @{ $_->{steps} } } @parts ], fates => { map { %{ $_->{fates} } } @parts } };
}

# What passes is repeated for minutes before it counts.
sub raising
{
	my ($name, @raised) = @_;
	return together(
		map {
			my @does = (do => 'raise', state => $_, where => pick(qw(here again deep)), pick(0, 1) ? (acts => 1) : ());
			/^(?:08|40|53|55P03)/ ? villain('villain_pause', "$name-$_", 'waits', @does) : failing("$name-$_", @does);
		} @raised);
}

sub distinct { my ($count, @from) = @_; my %drawn; $drawn{ pick(@from) } = 1 while keys %drawn < $count; return sort keys %drawn; }

# Waits within an attack; what does not come then is found by the fates.
sub waiting { my ($sql) = @_; return sub { my ($h) = @_; $h->poll(sub { ($h->ask("SELECT $sql")) eq 't' }); }; }

sub many { my ($workflow, $id, $count) = @_; return "SELECT count(wfproc.start('$workflow', '$id-' || n)) FROM generate_series(1, $count) n"; }
sub started { my ($id, $count) = @_; return "(SELECT count(*) = $count FROM wfproc.event e JOIN wfproc.instance i USING (instance_id) WHERE starts_with(i.id, '$id-') AND e.name = 'start')"; }
sub handled { my ($id, $event, $count) = @_; return "(SELECT count(*) = $count FROM wfproc.event e JOIN wfproc.instance i USING (instance_id) WHERE starts_with(i.id, '$id') AND e.name = '$event')"; }

# Mail that comes while a table is locked and the workers have just begun, with nothing in memory.
sub locked_out
{
	my ($workflow, $count, $held, @does) = @_;
	my $id = "cold_$held-";
	my $submit = sub { return "SELECT submit('$id' || n, '$_[0]', " . payload(@does) . ") FROM generate_series(1, $count) n"; };
	my @stopped;
	return {
		steps => [
			many($workflow, "cold_$held", $count) . ';' . $submit->('do'),
			waiting(handled($id, 'do', $count)),
			sub {
				my ($h) = @_;
				@stopped = $h->workers;
				kill('STOP', @stopped);
				# whatever comes between
				$h->beside(sub { select(undef, undef, undef, 10); kill('CONT', @stopped); });
			},
			$submit->('after'),
			sub {
				my ($h) = @_;
				my $holding = $h->beside(sub { $h->statement("CALL hold('$held', 2)"); });
				$h->poll(sub { $h->ask("SELECT EXISTS (SELECT FROM pg_locks WHERE relation = '$held'::regclass AND mode = 'AccessExclusiveLock')") eq 't' });
				kill('TERM', @stopped);
				kill('CONT', @stopped);
				$h->wait_for($holding);
			}
		],
		fates => { "all who met a lock on $held go on" => handled($id, 'after', $count) }
	};
}

# A step under way while the mailbox, with holes before that step's mail and other mail after it, is written anew.
sub rewrite
{
	my ($holes, $kept, $how) = (8 + draw(30), 50 + draw(100), pick('VACUUM FULL wfproc.mailbox', 'CLUSTER wfproc.mailbox USING mailbox_pkey', 'CLUSTER wfproc.mailbox USING mailbox_due_idx'));
	return {
		steps => [
			"SELECT wfproc.start('patient', 'fill'), wfproc.start('patient', 'slow')",
			waiting(handled('slow', 'start', 1)),
			sub { my ($h) = @_; $h->maintain('VACUUM FULL wfproc.mailbox'); $h->gate->call('SELECT pg_advisory_lock(4713, 2)'); },
			"SELECT submit('fill', 'junk', at => '2090-01-01') FROM generate_series(1, $holes)",
			"SELECT take_back('junk')",
			"SELECT submit('slow', 'do', " . payload(do => 'wait') . "); SELECT submit('fill', 'keep', at => '2091-01-01') FROM generate_series(1, $kept)",
			waiting("EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND (classid, objid) = (4713, 1))"),
			sub {
				my ($h) = @_;
				my $rewriting = $h->beside(sub { $h->maintain($how); });
				# it is done, or waits for the step
				my $waits = q(EXISTS (SELECT FROM pg_locks s, pg_locks r WHERE s.locktype = 'advisory' AND (s.classid, s.objid) = (4713, 1)
					AND r.relation = 'wfproc.mailbox'::regclass AND NOT r.granted AND s.pid = ANY (pg_blocking_pids(r.pid))));
				$h->poll(sub { waitpid($rewriting, POSIX::WNOHANG()) != 0 || $h->ask("SELECT $waits") eq 't' });
				$h->gate->close;
			}
		],
		fates => { 'the slow step is over' => handled('slow', 'do', 1) }
	};
}

# More mail of one stamp than a turn takes.
sub one_stamp
{
	my ($count, $length, $at) = (350, 900_000, pick("'2024-01-01'", "'2026-01-01'"));
	return {
		steps => [
			many('pure', 'doc', $count),
			waiting(started('doc', $count)),
			"SELECT submit('doc-' || n, 'doc', jsonb_build_object('t', repeat('z', $length)), $at) FROM generate_series(1, $count) n"
		],
		fates => { 'documents of one stamp are handled' => handled('doc-', 'doc', $count) }
	};
}

# Many of one stamp while new mail comes without a pause.
sub midnight
{
	my ($count, $swimmers) = (4000 + draw(1000), 40);
	my @floods;
	return {
		steps => [
			many('pure', 'sleeper', $count) . ';' . many('pure', 'swimmer', $swimmers),
			waiting(started('sleeper', $count)),
			sub {
				my ($h) = @_;
				@floods = map { $h->beside(sub { $h->statement("SET synchronous_commit = off", "CALL flood('midnight', $count / 4, 'swimmer-', $swimmers)"); }) } 1 .. 2;
				$h->poll(sub { $h->ask("SELECT EXISTS (SELECT FROM wfproc.event WHERE name = 'swim')") eq 't' });
			},
			"SELECT submit('sleeper-' || n, 'midnight', at => '2026-01-01') FROM generate_series(1, $count) n",
			sub { $_[0]->wait_for(@floods); }
		],
		fates => {
			'events of one stamp are handled'                 => handled('sleeper-', 'midnight', $count),
			'events of one stamp are handled under load, too' => "NOT EXISTS (SELECT FROM flood_end WHERE stalled)"
		}
	};
}

# One end with a big result, of which many are to hear.
sub monitors
{
	my ($count, $length) = (450, 1_000_000);
	return {
		steps => [
			"SELECT wfproc.start('patient', 'hub');" . many('patient', 'watcher', $count)
			  . ";SELECT submit('watcher-' || n, 'do', " . payload(do => 'watch', whom => 'hub') . ") FROM generate_series(1, $count) n",
			waiting("(SELECT count(*) = $count FROM wfproc.link WHERE kind = 'monitor')"),
			"SELECT submit('hub', 'do', " . payload(do => 'complete', length => $length) . ")"
		],
		fates => { 'all who watch hear of the end' => handled('watcher-', 'monitor.completed', $count) }
	};
}

# The end of one with much mail.
sub burial
{
	my ($count, $length) = (500, 1_000_000);
	return {
		steps => [
			"SELECT wfproc.start('pure', 'grave')",
			waiting(handled('grave', 'start', 1)),
			"SELECT wfproc.pause('grave')",
			waiting("(SELECT status = 'paused' FROM wfproc.instances WHERE id = 'grave')"),
			"SELECT submit('grave', 'body', jsonb_build_object('t', repeat('z', $length))) FROM generate_series(1, $count)",
			"SELECT wfproc.terminate('grave')"
		],
		fates => { 'the mail of one that was terminated becomes dead letters' => "(SELECT count(*) = $count FROM wfproc.dead_letter WHERE name = 'body')" }
	};
}

# A limit that has become smaller since.
sub shrunk
{
	my ($count, $seconds) = (4, 0.5 + draw(3) / 10);
	my $define = "SET LOCAL ROLE mallory; SELECT wfproc.define('shrunk', 'villain', max_attempts => 1000, retry_delay => '50 ms', snapshot_every => 100000, handler_timeout => '%s'); RESET ROLE;";
	return {
		steps => [
			sprintf($define, '10 s') . many('shrunk', 'long', $count)
			  . ";SELECT submit('long-' || n, 'do', " . payload(do => 'sleep', seconds => $seconds) . ") FROM generate_series(1, $count) n",
			waiting(handled('long-', 'do', $count)),
			sprintf($define, '200 ms') . "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE 'wfproc worker%' AND datname = current_database();"
			  . "SELECT submit('long-' || n, 'after') FROM generate_series(1, $count) n"
		],
		fates => {
			'steps that took longer than the limit is now are folded' => handled('long-', 'after', $count),
			'their logs verify' => "(SELECT bool_and((wfproc.verify('long-' || n)).ok) FROM generate_series(1, $count) n)"
		}
	};
}

our %attackers = (
	rewrite        => { finds => 'A.1', cards => 2, attack => \&rewrite },
	one_stamp      => { finds => 'A.2', cards => 1, attack => \&one_stamp },
	midnight       => { finds => 'A.2b', cards => 1, attack => \&midnight },
	raise_canceled => { finds => 'A.3', cards => 2, attack => sub { raising('canceled', '57014') } },
	raise          => { finds => 'A.3, A.4', cards => 2, attack => sub { raising('raise', distinct(12, @states)) } },
	session_lock   => { finds => 'A.4', cards => 2, attack => sub { together(map { villain('villain_pause', "lock-$_", 'any', do => 'lock', count => $_) } 1, 3000) } },
	swallow        => { finds => 'A.5', cards => 2, attack => sub { villain('villain_pause', 'swallow', 'pause', do => 'swallow', by => pick(qw(sleep loop lock))) } },
	overrun        => { finds => 'A.5', cards => 2, attack => sub { failing('overrun', do => 'overrun', more => pick(0, 0, 1)) } },
	locked_table   => { finds => 'A.6a', cards => 2, attack => sub { locked_out('patient', 8, 'rates', do => 'read') } },
	locked_catalogue => { finds => 'A.6a', cards => 2, attack => sub { locked_out('pure', 20, 'pg_operator') } },
	shrunk         => { finds => 'A.6b', cards => 2, attack => \&shrunk },
	burial         => { finds => 'A.7a', cards => 1, attack => \&burial },
	monitors       => { finds => 'A.7b', cards => 1, attack => \&monitors },
	long_texts     => { finds => 'A.10', cards => 2, attack => sub { together(map { villain('villain_pause', "say-$_", 'any', do => 'say', by => $_, length => 10_000_000) } qw(fail reject raise detail)) } },
	leaves_behind  => { finds => '-', cards => 2, attack => sub { villain('patient', 'leave', 'goes on', do => 'leave') } },
	endless        => { finds => '-', cards => 2, attack => sub { together(map { failing($_, do => $_) } qw(spin nest recurse)) } },
	hog            => { finds => '-', cards => 2, attack => sub { failing('hog', do => 'hog') } },
);

#
# Maintainers
#
sub index_of { my ($table) = @_; return "wfproc.${table}_pkey"; }

sub signal
{
	my ($h, $signal, @pids) = @_;
	return @pids ? kill($signal, pick(@pids)) : 0;
}

sub killed
{
	my ($h, @pids) = @_;
	$h->{kills}++ if $h->{kills} < MAX_KILLS && @pids && signal($h, 'KILL', @pids);
	return;
}

our %maintainers = (
	'vacuum full' => sub { $_[0]->maintain('VACUUM FULL wfproc.' . pick(@tables)); },
	'cluster'     => sub { my $table = pick(qw(mailbox mailbox event instance snapshot)); $_[0]->maintain("CLUSTER wfproc.$table USING ${table}_pkey"); },
	'reindex'     => sub { $_[0]->maintain('REINDEX TABLE ' . pick('', 'CONCURRENTLY ') . 'wfproc.' . pick(@tables)); },
	'alter table' => sub { $_[0]->maintain('ALTER TABLE wfproc.mailbox ALTER COLUMN postponed TYPE bigint USING postponed + 0'); },
	'lock tables' => sub { $_[0]->maintain('BEGIN; LOCK TABLE wfproc.' . pick(@tables) . '; SELECT pg_sleep(' . (0.1 + draw(8) / 10) . '); COMMIT'); },
	'lock catalogues' => sub { $_[0]->maintain('BEGIN; LOCK TABLE ' . pick(@catalogue) . '; SELECT pg_sleep(' . (0.1 + draw(6) / 10) . '); COMMIT'); },
	'rewrite catalogues' => sub { $_[0]->maintain(pick('VACUUM FULL ', 'REINDEX TABLE ') . pick(@catalogue)); },
	'cancel'    => sub { signal($_[0], 'INT', $_[0]->workers, $_[0]->backends); },
	'terminate' => sub { signal($_[0], 'TERM', $_[0]->workers, $_[0]->backends); },
	'stop'      => sub {
		my ($h) = @_;
		my $pid = pick($h->workers) // return;
		kill('STOP', $pid);
		select(undef, undef, undef, 0.2 + rand(0.8));
		kill('CONT', $pid);
	},
	'kill -9 worker'  => sub { killed($_[0], $_[0]->workers); },
	'kill -9 backend' => sub { killed($_[0], $_[0]->backends); },
	'workers'         => sub { my ($h) = @_; $h->maintain('ALTER SYSTEM SET wfproc.workers = ' . (1 + draw(3))); $h->maintain('SELECT pg_reload_conf()'); },
	'passivate'       => sub { $_[0]->maintain("SELECT wfproc.passivate(id) FROM wfproc.instances WHERE workflow = 'innocent'"); },
);

#
# What a seed draws.  Ten seeds in a row share a deck in which each attacker is, and each maintainer.
#
sub shuffled { my (@cards) = @_; return map { $_->[1] } sort { $a->[0] <=> $b->[0] } map { [ rand(), $_ ] } @cards; }

sub dealt
{
	my ($seed, %kinds) = @_;
	srand(int(($seed - 1) / 10));
	# those who are in the deck twice come to different seeds
	my @deck = map { my $round = $_; shuffled(grep { ($kinds{$_}{cards} // 2) >= $round } sort keys %kinds) } 1, 2;
	my @mine = grep { $_ % 10 == ($seed - 1) % 10 } 0 .. $#deck;
	return distinct_in_order(@deck[@mine]);
}

sub distinct_in_order { my %seen; return grep { !$seen{$_}++ } @_; }
sub listed { my ($names) = @_; return grep { $_ ne 'none' } split /\s*,\s*/, $names; }

# Options: attackers, maintainers => names, else what the seed draws.
sub new
{
	my ($class, $node, $seed, %option) = @_;
	my @attackers   = defined $option{attackers}   ? listed($option{attackers})   : dealt($seed, %attackers);
	my @maintainers = defined $option{maintainers} ? listed($option{maintainers}) : dealt($seed, map { $_ => {} } keys %maintainers);
	srand($seed);
	return bless {
		node => $node, seed => $seed, db => "seed_$seed", attackers => [ shuffled(@attackers) ], maintainers => \@maintainers,
		folder => PostgreSQL::Test::Utils::tempdir(), children => [], found => [], fates => {}, peak => 0, kills => 0, log_from => log_size($node)
	}, $class;
}

sub title { my ($h) = @_; return "seed $h->{seed}: attacked by " . join(', ', @{ $h->{attackers} }) . ' under ' . (join(', ', @{ $h->{maintainers} }) || 'no maintenance'); }

#
# The server, which may be away
#

# One psql: whether it came through, and what it printed.
sub statement
{
	my ($h, @sql) = @_;
	my %option = ref $sql[-1] ? %{ pop @sql } : ();
	local $ENV{PGOPTIONS} = '-c client_min_messages=error -c statement_timeout=60s -c lock_timeout=' . ($option{lock_timeout} // '30s');
	local $ENV{PGCONNECT_TIMEOUT} = 10;
	my ($out, $err) = ('', '');
	my $done = eval {
		IPC::Run::run([ $h->{node}->installed_command('psql'), '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $h->{node}->connstr($h->{db}), map { ('-c', $_) } @sql ],
			'<', '/dev/null', '>', \$out, '2>', \$err);
	};
	chomp($out, $err);
	return ($done, $out, $err);
}

# An answer, when the server is there to give it.
sub ask
{
	my ($h, $sql) = @_;
	my $end = time + STALLED;
	local $ENV{PGOPTIONS} = '-c client_min_messages=error -c statement_timeout=100s -c lock_timeout=30s';
	$h->{session} //= WfClient->new($h->{node}, $h->{db});
	while (1)
	{
		my ($outcome, @lines) = $h->{session}->connect ? $h->{session}->call($sql) : ('failed', 'no connection');
		return join("\n", @lines) if $outcome eq 'ok';
		$h->found_if_over($end, "no answer: @lines");
		$h->{session}->close if $outcome eq 'unknown' || !$h->{session}->connected;
		select(undef, undef, undef, 0.1);
	}
}

# A transaction that is committed once, whatever is killed meanwhile.
sub commit
{
	my ($h, $what, $sql) = @_;
	my $end = time + STALLED;
	while ($h->ask("SELECT count(*) FROM committed WHERE what = '$what'") == 0)
	{
		my ($done, $out, $err) = $h->statement("BEGIN; INSERT INTO committed VALUES ('$what'); $sql; COMMIT");
		last if $done;
		$h->found_if_over($end, "$what cannot be done: $err");
	}
	return;
}

# A session of ours that holds a lock for a while.
sub gate
{
	my ($h) = @_;
	$h->{gate} //= WfClient->new($h->{node}, $h->{db});
	$h->{gate}->connect;
	return $h->{gate};
}

# Maintenance may fail, for who waits too long is cancelled.
sub maintain { my ($h, $sql) = @_; return $h->statement($sql, { lock_timeout => '5s' }); }

sub processes
{
	my ($h, $title) = @_;
	my ($postmaster) = eval { split /\n/, slurp_file($h->{node}->data_dir . '/postmaster.pid') };
	return unless $postmaster && open(my $file, '<', "/proc/$postmaster/task/$postmaster/children");
	my @pids = split ' ', <$file> // '';
	close($file);
	return grep { title_of($_) =~ $title } @pids;
}

sub title_of { my ($pid) = @_; open(my $file, '<', "/proc/$pid/cmdline") or return ''; my $title = <$file> // ''; close($file); return $title; }
sub workers { my ($h) = @_; return $h->processes(qr/wfproc worker/); }
sub backends { my ($h) = @_; return $h->processes(qr/client \Q$h->{db}\E /); }

#
# Children of the test: clients, maintenance
#
sub beside
{
	my ($h, $what) = @_;
	my $number = @{ $h->{children} };
	my $pid = fork() // die $!;
	if ($pid == 0)
	{
		delete @$h{qw(session gate)};
		srand($h->{seed} * 100 + $number);
		$SIG{TERM} = sub { POSIX::_exit(1) };
		eval { $what->($number) };
		print STDERR $@ if $@ && $@ !~ /^found/;
		POSIX::_exit(0);
	}
	push @{ $h->{children} }, $pid;
	return $pid;
}

# Waits for them for as long as there is time.
sub wait_for
{
	my ($h, @pids) = @_;
	my $end = time + STALLED;
	for my $pid (@pids)
	{
		while (waitpid($pid, POSIX::WNOHANG()) == 0)
		{
			if (time > $end) { kill('TERM', $pid); $end = time + 5; }
			$h->look_at_memory;
			select(undef, undef, undef, 0.05);
		}
		@{ $h->{children} } = grep { $_ != $pid } @{ $h->{children} };
	}
	return;
}

sub over { my ($h) = @_; return -e "$h->{folder}/stop"; }

# Sends to innocents what they count, pass on, or are to be reminded of.
sub client
{
	my ($h, $client) = @_;
	local $ENV{PGUSER} = 'client';
	my $session = WfClient->new($h->{node}, $h->{db});
	for (my $number = 1; !$h->over; $number++)
	{
		if (!$session->connect) { $session->close; select(undef, undef, undef, 0.1); next; }
		my ($to, $n, $dice) = (1 + draw($h->{innocents}), $client * 1_000_000 + $number, draw(10));
		my $event = $dice < 5 ? 'add' : $dice < 8 ? 'pass' : 'ring';
		my %payload = (n => $n, $event eq 'pass' ? (to => 'innocent-' . (1 + draw($h->{innocents}))) : ());
		my $at = draw(20) ? 'NULL' : "clock_timestamp() + interval '1 s' * random()";
		$session->call("SELECT submit('innocent-$to', '$event', " . payload(%payload) . ", $at" . ($at eq 'NULL' ? ", $client, $number)" : ')'));
		select(undef, undef, undef, rand(0.02));
	}
	$session->close;
	return;
}

sub maintenance
{
	my ($h) = @_;
	while (!$h->over)
	{
		$maintainers{ pick(@{ $h->{maintainers} }) }->($h);
		select(undef, undef, undef, 0.05 + rand(0.3));
	}
	return;
}

#
# What is found
#
sub found { my ($h, @what) = @_; push @{ $h->{found} }, @what; die "found\n"; }
sub note_wrong { my ($h, $lines) = @_; my %known = map { $_ => 1 } @{ $h->{found} }; push @{ $h->{found} }, grep { !$known{$_} } split(/\n/, $lines); return; }
sub found_if_over { my ($h, $end, $what) = @_; $h->found($what) if time > $end; return; }

sub look_at_memory
{
	my ($h) = @_;
	for my $pid ($h->workers)
	{
		open(my $file, '<', "/proc/$pid/status") or next;
		my ($peak) = map { /^VmHWM:\s+(\d+)/ ? $1 / 1024 : () } <$file>;
		close($file);
		$h->{peak} = $peak if ($peak // 0) > $h->{peak};
	}
	$h->found(sprintf('a worker has taken %d MB', $h->{peak})) if $h->{peak} > MEMORY;
	return;
}

# What may never be, at any time.
sub look
{
	my ($h) = @_;
	$h->look_at_memory;
	my $log = log_size($h->{node}) - $h->{log_from};
	$h->found("the server's log has grown by $log bytes; its last line: " . $h->last_line) if $log > LOG_BYTES;
	$h->note_wrong($h->ask('SELECT what FROM wrong_now ORDER BY 1 LIMIT 3'));
	return;
}

sub log_since
{
	my ($h) = @_;
	open(my $log, '<', $h->{node}->logfile) or die $!;
	seek($log, $h->{log_from}, 0);
	return $log;
}

sub last_line { my ($h) = @_; my $log = $h->log_since; seek($log, -2000, 2); my @lines = <$log>; chomp(@lines); return $lines[-1]; }

# Polls; looks; and gives up where nothing has changed for long, or all takes too long. Returns whether it came true.
sub poll
{
	my ($h, $condition, $measure) = @_;
	my ($since, $last, $end) = (time, '', time + TOO_LONG);
	while (!$condition->())
	{
		$h->look;
		my $now = $measure ? $measure->() : '';
		($since, $last) = (time, $now) if $now ne $last;
		return 0 if time > $since + STALLED || time > $end;
		select(undef, undef, undef, 0.1);
	}
	return 1;
}

sub alarms
{
	my ($h) = @_;
	my $alarm = qr/PANIC:|TRAP:|deadlock detected|could not read block|diverged|cache reference leak|resource was not closed|reference leak|terminated by signal (?:11|6)\b/;
	my $log = $h->log_since;
	my %seen;
	return grep { !$seen{ s/^.*?(?=[A-Z]+:)//r }++ } map { chomp; $_ =~ $alarm ? substr($_, 0, 200) : () } <$log>;
}

#
# A seed
#
sub begin
{
	my ($h) = @_;
	$h->{innocents} = 40;
	my $sql = slurp_file("$FindBin::RealBin/hostile.sql");
	$h->{node}->safe_psql('postgres', "CREATE DATABASE $h->{db}");
	$h->{node}->safe_psql($h->{db}, "SET client_min_messages = error; CREATE EXTENSION wfproc CASCADE; $sql");
	$h->ask("SELECT count(wfproc.start('innocent', 'innocent-' || n)) FROM generate_series(1, $h->{innocents}) n");
	$h->beside(sub { $h->client(@_) }) for 1 .. 2;
	$h->beside(sub { $h->maintenance }) if @{ $h->{maintainers} };
	return;
}

sub attack
{
	my ($h) = @_;
	for my $name (@{ $h->{attackers} })
	{
		my $attack = ($attackers{$name} // die "no attacker is called $name\n")->{attack}->();
		my $number = 0;
		for my $step (@{ $attack->{steps} })
		{
			$number++;
			if (ref $step) { $step->($h); }
			else           { $h->commit("$name $number", $step); }
			$h->look;
		}
		%{ $h->{fates} } = (%{ $h->{fates} }, %{ $attack->{fates} });
	}
	return;
}

# Clients and maintenance end; what was stopped goes on.
sub calm
{
	my ($h) = @_;
	append_to_file("$h->{folder}/stop", '');
	$h->wait_for(@{ $h->{children} });
	kill('CONT', $_) for $h->workers;
	$h->{node}->psql('postgres', 'ALTER SYSTEM RESET wfproc.workers');
	$h->{node}->psql('postgres', 'SELECT pg_reload_conf()');
	return;
}

# All fates, and no mail that is due for an innocent.
sub await_fates
{
	my ($h) = @_;
	$h->{fates}{'all that was sent to innocents is handled'} =
	  q(NOT EXISTS (SELECT FROM wfproc.mailbox m JOIN wfproc.instance i USING (instance_id) JOIN wfproc.workflow w USING (workflow_id) WHERE w.name = 'innocent'));
	my $conditions = quoted($json->encode($h->{fates}));
	my $unmet;
	my $all = $h->poll(sub { $unmet = $h->ask("SELECT * FROM unmet($conditions)"); return $unmet eq ''; },
		sub { return $h->ask('SELECT (SELECT count(*) FROM wfproc.event), (SELECT count(*) FROM wfproc.dead_letter)') . $unmet; });
	push @{ $h->{found} }, map { "not so: $_" } split /\n/, $unmet unless $all;
	return;
}

sub judge
{
	my ($h) = @_;
	$h->note_wrong($h->ask('SELECT what FROM (SELECT row_number() OVER (PARTITION BY left(what, 7)) AS n, what FROM wrong_at_end) w WHERE n <= 3'));
	return;
}

# Runs it, and returns what was found.
sub run
{
	my ($h) = @_;
	my $began = time;
	eval {
		$h->begin;
		$h->attack;
		$h->calm;
		$h->await_fates;
		$h->judge;
		1;
	} or do { push @{ $h->{found} }, "failed: $@" if $@ ne "found\n"; };
	push @{ $h->{found} }, map { "in the log: $_" } ($h->alarms)[ 0 .. 2 ];
	@{ $h->{found} } = grep { defined && $_ ne 'in the log: ' } @{ $h->{found} };
	$_->close for grep { defined } @$h{qw(session gate)};
	$h->end;
	diag(sprintf("%s: %d s, a worker took %d MB at most", $h->title, time - $began, $h->{peak}));
	return @{ $h->{found} };
}

# Leaves the server as it was, whatever still goes on in it.
sub end
{
	my ($h) = @_;
	append_to_file("$h->{folder}/stop", '');
	kill('TERM', @{ $h->{children} });
	waitpid($_, 0) for @{ $h->{children} };
	kill('CONT', $_) for $h->workers;
	if (@{ $h->{found} })
	{
		$h->{node}->stop('immediate');
		$h->{node}->append_conf('postgresql.conf', 'wfproc.enabled = off');
		$h->{node}->start;
	}
	$h->{node}->safe_psql('postgres', "DROP DATABASE $h->{db} WITH (FORCE)");
	$h->{node}->append_conf('postgresql.conf', 'wfproc.enabled = on');
	$h->{node}->reload;
	return;
}

1;
