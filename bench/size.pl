# Bytes on disk: of an event in the log, and of the mailbox once 200,000 events have gone through it.
use strict;
use warnings;
use Bench;

my $events = 200_000;

sub {
	sql("SELECT count(wfproc.start('account', 'acc-' || n)) FROM generate_series(1, 1000) n");
	wait_handled(1000);
	workers_off();
	sql("SELECT count(wfproc.send('acc-' || 1 + n % 1000, 'deposit', jsonb_build_object('amount', n % 97, 'ref', 'r-' || n))) FROM generate_series(1, $events) n");
	my $full = sql("SELECT pg_total_relation_size('wfproc.mailbox') / $events");
	workers_on();
	wait_handled($events);
	my ($table, $index) = split /\|/, sql("SELECT pg_table_size('wfproc.event') / count(*), pg_indexes_size('wfproc.event') / count(*) FROM wfproc.event");
	my $payload = sql("SELECT round(avg(pg_column_size(payload))) FROM wfproc.event");
	sql('VACUUM wfproc.mailbox');
	my ($mailbox, $mailbox_index) = split /\|/, sql("SELECT pg_table_size('wfproc.mailbox') / 1024, pg_indexes_size('wfproc.mailbox') / 1024");
	return (
		['bytes on disk of an event in the log', "table $table, index $index, with a payload of $payload", '', $table + $index . ' bytes'],
		['bytes on disk of an event in the mailbox; of the mailbox once it is empty and vacuumed', "$full; table $mailbox kB, indexes $mailbox_index kB"]
	);
};
