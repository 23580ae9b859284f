# Set-based send(): SELECT wfproc.send(id, ...) of 200,000 rows in one transaction, for 1,000 instances. Beside it: a plain
# INSERT ... SELECT of the same rows, as they are in the mailbox then, into a table with its columns and two indexes.
use strict;
use warnings;
use Bench;

my $events = 200_000;

sub {
	sql("SELECT count(wfproc.start('idle', 'idle-' || n)) FROM generate_series(1, 1000) n");
	wait_handled(1000);
	workers_off();
	sql("CREATE TABLE bench.input AS SELECT 'idle-' || 1 + n % 1000 AS id, jsonb_build_object('amount', n % 97, 'ref', 'r-' || n) AS payload
		 FROM generate_series(1, $events) n; VACUUM ANALYZE bench.input");
	my @rounds = rounds(sub {
		# neither has room of before
		sql("SET session_replication_role = replica; DELETE FROM wfproc.mailbox; VACUUM FULL wfproc.mailbox; TRUNCATE bench.mailbox; CHECKPOINT");
		my ($send, $send_cpu) = timed("SELECT wfproc.send(id, 'deposit', payload) FROM bench.input");
		sql('DROP TABLE IF EXISTS bench.rows; CREATE TABLE bench.rows AS SELECT * FROM wfproc.mailbox; VACUUM ANALYZE bench.rows; CHECKPOINT');
		my ($insert, $insert_cpu) = timed('INSERT INTO bench.mailbox SELECT * FROM bench.rows');
		note(sprintf('  %.1f us (%.1f cpu), insert %.1f us (%.1f cpu)', map { $_ * 1e6 / $events } $send, $send_cpu, $insert, $insert_cpu));
		return [$send, $send_cpu, $insert, $insert_cpu];
	});
	return compare('send() per second, set-based', $events, \@rounds, '0.4', 0.4);
};
