/*
 * record.c: writes down what the steps of a turn have led to.
 *
 * Called by turn.c once the steps are over, in the turn's transaction, which holds the locks of the shards concerned.
 * Everything a turn writes is written here: log, mailboxes, instances, snapshots, dead letters, links, keys.
 *
 * Mail that was handed over in memory and not handled gets its row here, in the order in which it was made, so that its
 * mail_id says what its place in memory said.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/async.h"
#include "storage/proc.h"
#include "utils/snapmgr.h"

#include "deliver.h"
#include "errors.h"
#include "eventlog.h"
#include "idempotency.h"
#include "inbox.h"
#include "instance.h"
#include "mailbox.h"
#include "record.h"
#include "snapshot.h"
#include "spi.h"
#include "wakeup.h"

/* how long to wait for an id or a key that another transaction is about to use */
#define KEY_TIMEOUT_MS 10
/* where watchers listen */
#define WATCH_CHANNEL "wfproc"

/*
 * Somebody else is at an instance of this turn at this very moment: the turn is off, and is repeated without it.
 */
static void
conflict(int64 instance_id, const char *message)
{
	wf_turn_conflict = instance_id;
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg_internal("%s", message),
			 errhint("Try again.")));
}

static void
delete_mail(const WfMail *mail)
{
	if (wf_mailbox_delete(mail) != WF_MAIL_DELETED)
		conflict(mail->instance_id,
				 psprintf("event " INT64_FORMAT " is being withdrawn or rescheduled by another transaction",
						  mail->event.mail_id));
}

/*
 * Deletes what was handled, and timers that will not fire.
 */
static void
delete_all(WfTurn *turn)
{
	ListCell   *lc;

	foreach(lc, turn->output.handled)
		delete_mail(lfirst(lc));
	foreach(lc, turn->output.withdrawals)
	{
		const WfWithdrawal *withdrawal = lfirst(lc);

		(void) wf_mailbox_remove(withdrawal->instance_id, &withdrawal->place, turn->output.snapshot);
	}
}

/*
 * Writes what may have to wait for somebody else's key: in a worker not for long, for the others of the turn wait as well.
 * Where it is taken the turn is repeated without the instance concerned, and finds that out.
 */
static void
write_keys(WfTurn *turn, void (*write) (WfTurn *turn, int64 *instance_id))
{
	MemoryContext caller = CurrentMemoryContext;
	int			lock_timeout = LockTimeout;
	int64		instance_id = 0;

	if (turn->worker)
		LockTimeout = KEY_TIMEOUT_MS;
	PG_TRY();
	{
		write(turn, &instance_id);
		LockTimeout = lock_timeout;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		LockTimeout = lock_timeout;
		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		if (wf_error_is_taken(error))
			conflict(instance_id, "the id of a child, or an idempotency key, is being used by another transaction");
		ReThrowError(error);
	}
	PG_END_TRY();
}

/*
 * The rows of instances that have begun with this turn, each parent's for themselves: so it is known whose id is taken.
 */
static void
insert_newborns(WfTurn *turn, int64 *instance_id)
{
	WfInstance **rows = palloc(list_length(turn->newborns) * sizeof(WfInstance *));
	int			count = 0;
	ListCell   *lc;

	foreach(lc, turn->newborns)
	{
		WfDraft    *draft = lfirst(lc);

		if (count > 0 && draft->parent_id != *instance_id)
		{
			wf_instance_insert(rows, count);
			count = 0;
		}
		*instance_id = draft->parent_id;
		rows[count++] = &draft->row;
	}
	wf_instance_insert(rows, count);
}

/*
 * Claims the idempotency keys that processes have used.  It is their sender that waits where one is taken.
 */
static void
claim_keys(WfTurn *turn, int64 *instance_id)
{
	ListCell   *lc;
	int64		first;

	PushActiveSnapshot(GetTransactionSnapshot());
	foreach(lc, turn->output.claims)
	{
		WfClaim    *claim = lfirst(lc);

		*instance_id = claim->sender;
		if (!wf_idempotency_claim(claim->mail->instance_id, &claim->mail->event, claim->with_at, &first))
			conflict(claim->sender,
					 psprintf("idempotency key \"%s\" is being used by another transaction", claim->mail->event.key));
	}
	PopActiveSnapshot();
}

/*
 * Mail that is to have a row, or another one than it has.
 */
static void
spill(WfTurn *turn, WfMail *mail)
{
	if (ItemPointerIsValid(&mail->tid))
		delete_mail(mail);
	turn->output.posts = lappend(turn->output.posts, mail);
}

static void
spill_inbox(WfTurn *turn, WfDraft *draft)
{
	ListCell   *lc;

	foreach(lc, draft->aside)
	{
		WfMail	   *mail = lfirst(lc);

		if (!mail->rewrite)
			continue;
		mail->postponed = draft->fold.seq;
		spill(turn, mail);
	}
	foreach(lc, wf_inbox_rest(draft))
	{
		WfMail	   *mail = lfirst(lc);

		/* timers come from their list, which says which are still wanted */
		if (mail->timer == NULL)
			draft->low = Min(draft->low, mail->event.at);
		if (mail->timer == NULL && (mail->rewrite || !ItemPointerIsValid(&mail->tid)))
			spill(turn, mail);
	}
	foreach(lc, draft->timers.timers)
	{
		WfTimer    *timer = lfirst(lc);

		if (timer->mail != NULL && timer->mail_id == 0)
			spill(turn, timer->mail);
	}
}

/*
 * What the next turn is to look at: the oldest of what stays.
 */
static void
note_rest(WfDraft *draft)
{
	ListCell   *lc;

	draft->low = draft->more_control ? WF_AT_ONCE : draft->unread_at;
	draft->postponed_low = DT_NOEND;
	if (draft->urgent != NULL)
		draft->deadline_at = draft->urgent->event.at;
	if (draft->deadline != NULL)
		draft->deadline_at = Min(draft->deadline_at, draft->deadline->event.at);
	if (draft->next < draft->count)
		draft->low = Min(draft->low, draft->mails[draft->next].event.at);
	foreach(lc, draft->aside)
		draft->postponed_low = Min(draft->postponed_low, ((WfMail *) lfirst(lc))->event.at);
}

/*
 * Whether nothing of its mail but start can be handled now.
 */
static bool
waits_for_start(const WfDraft *draft)
{
	return draft->loaded && !draft->absent && !draft->fold.started && !WF_IS_CLOSED(draft->row.status);
}

/*
 * Of one that waits for its start: whether all that may come before that is known.  Where its mailbox has not been looked
 * through, there may be the deadline of a cancel.
 */
static bool
knows_its_start(const WfTurn *turn, const WfDraft *draft)
{
	if (draft->newborn)
		return draft->low != WF_AT_ONCE;
	return draft->low != WF_AT_ONCE && draft->low != DT_NOEND &&
		(draft->start != NULL || draft->row.started_at > turn->now);
}

static void
spill_all(WfTurn *turn)
{
	ListCell   *lc;

	foreach(lc, wf_lineup_drafts(turn->lineup))
	{
		WfDraft    *draft = lfirst(lc);

		note_rest(draft);
		if (!WF_IS_CLOSED(draft->row.status) || !draft->loaded)
			spill_inbox(turn, draft);
		if (waits_for_start(draft) && knows_its_start(turn, draft))
			draft->low = draft->row.started_at;
	}
}

/*
 * What was postponed before this turn comes first: it has a number.
 */
static int
compare_posts(const ListCell *a, const ListCell *b)
{
	const WfMail *x = lfirst(a);
	const WfMail *y = lfirst(b);

	if (x->order != y->order)
		return x->order < y->order ? -1 : 1;
	return x->event.mail_id < y->event.mail_id ? -1 : x->event.mail_id > y->event.mail_id;
}

/*
 * Whether this turn sees to it that the mail is handled in time.  What is part of a cascade without end waits for all that
 * is due by now.
 */
static bool
is_own(WfTurn *turn, const WfMail *mail)
{
	WfDraft    *draft = wf_lineup_find(turn->lineup, mail->instance_id);

	if (draft != NULL ? draft->absent : !wf_deliver_is_mine(turn, mail->instance_id))
		return false;
	if (mail->postponed != WF_NOT_POSTPONED)
		return true;
	if (draft == NULL || mail->too_deep)
	{
		WfReady    *later = palloc0(sizeof(WfReady));

		later->instance_id = mail->instance_id;
		later->low = mail->event.at;
		later->last = mail->too_deep;
		later->due = mail->too_deep ? Max(mail->event.at, turn->now) : mail->event.at;
		turn->output.later = lappend(turn->output.later, later);
	}
	else
	{
		if (strcmp(mail->event.name, "$terminate") == 0)
			draft->deadline_at = Min(draft->deadline_at, mail->event.at);
		if (!waits_for_start(draft))
			draft->low = Min(draft->low, mail->event.at);
	}
	return true;
}

static void
write_posts(WfTurn *turn)
{
	WfMailWriter *writer;
	ListCell   *lc;

	spill_all(turn);
	if (turn->output.posts == NIL)
		return;
	list_sort(turn->output.posts, compare_posts);
	writer = wf_mailbox_writer_open(list_length(turn->output.posts));
	foreach(lc, turn->output.posts)
		wf_mailbox_writer_put_mail(writer, lfirst(lc), !is_own(turn, lfirst(lc)));
	wf_mailbox_writer_close(writer);
}

/*
 * The rows of timers have their numbers now.
 */
static void
number_timers(WfTurn *turn)
{
	ListCell   *lc;
	ListCell   *lc2;

	foreach(lc, wf_lineup_drafts(turn->lineup))
	{
		foreach(lc2, ((WfDraft *) lfirst(lc))->timers.timers)
		{
			WfTimer    *timer = lfirst(lc2);

			if (timer->mail != NULL)
				timer->mail_id = timer->mail->event.mail_id;
		}
	}
}

static void
bury_all(WfTurn *turn)
{
	ListCell   *lc;

	foreach(lc, turn->output.burials)
	{
		const WfBurial *burial = lfirst(lc);

		wf_mailbox_bury(burial->mail, burial->id, burial->workflow_id, burial->reason);
		/* whoever waits for an answer to it */
		wf_wakeup_note_stepped(burial->mail->instance_id);
	}
}

static void
change_links(WfTurn *turn)
{
	ListCell   *lc;

	foreach(lc, turn->output.link_changes)
	{
		const WfLinkChange *change = lfirst(lc);

		if (change->added)
			wf_link_insert(change->instance_id, change->link);
		else
		{
			/* it may have been added just now */
			CommandCounterIncrement();
			wf_link_delete(change->instance_id, change->link);
		}
	}
}

/*
 * Counts the instances whose upgrade has failed; a roll-out with too many stops.
 */
static void
count_rollout_failures(WfTurn *turn)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT4OID, TIMESTAMPTZOID};
	ListCell   *lc;
	WfSpi		spi;

	PushActiveSnapshot(GetTransactionSnapshot());
	wf_spi_begin(&spi);
	foreach(lc, turn->output.rollout_failures)
	{
		Datum		values[] = {Int32GetDatum(lfirst_int(lc)), TimestampTzGetDatum(turn->now)};

		(void) wf_spi_execute(&plan,
							  "UPDATE wfproc.rollout SET failures = failures + 1,"
							  " stopped_at = CASE WHEN failures + 1 >= max_failures THEN COALESCE(stopped_at, $2) ELSE stopped_at END"
							  " WHERE rollout_id = $1",
							  lengthof(types), types, values, NULL, false, SPI_OK_UPDATE);
	}
	wf_spi_end(&spi);
	PopActiveSnapshot();
	wf_workflow_changed();
}

/*
 * Whether a snapshot of the draft is to be written with this turn.
 */
static bool
snapshot_is_due(const WfDraft *draft)
{
	int64		since = draft->fold.seq - draft->snapshot_seq;

	if (draft->broken || !draft->fold.started || since == 0)
		return false;
	return since >= draft->workflow->snapshot_every || draft->kept.folds != NIL || WF_IS_CLOSED(draft->row.status) ||
		draft->wants_snapshot || draft->wants_passivation;
}

/*
 * Tells watchers, of whom nobody asks for a right: a number, to be looked up with one's own.  What happens in a past that is
 * caught up on concerns nobody outside.
 */
static void
notify(const WfDraft *draft)
{
	if (draft->workflow->watch && draft->live && (draft->attributes_changed || WF_IS_CLOSED(draft->row.status)))
		Async_Notify(WATCH_CHANNEL, psprintf(INT64_FORMAT, draft->instance_id));
}

static void
write_draft(WfDraft *draft)
{
	if (draft->row_changed && !draft->newborn)
		wf_instance_update(&draft->row);
	if (snapshot_is_due(draft))
	{
		wf_snapshot_store(draft->instance_id, &draft->fold);
		draft->snapshot_seq = draft->fold.seq;
	}
	if (!draft->broken)
		wf_snapshot_store_kept(draft->instance_id, &draft->kept);
	if (draft->steps > 0)
		wf_wakeup_note_stepped(draft->instance_id);
	if (draft->row_changed)
		notify(draft);
}

/*
 * After the snapshots, which take the place of what is erased; those of the past since then may contain it.
 */
static void
erase_payloads(WfTurn *turn)
{
	ListCell   *lc;

	foreach(lc, turn->output.redactions)
	{
		const WfRedaction *redaction = lfirst(lc);

		(void) wf_eventlog_erase(redaction->instance_id, redaction->seq);
		wf_snapshot_forget(redaction->instance_id, redaction->seq);
	}
}

/*
 * Writes it all.
 */
void
wf_record_all(WfTurn *turn)
{
	ListCell   *lc;

	delete_all(turn);
	wf_eventlog_append(turn->output.log, turn->output.log_count);
	if (turn->newborns != NIL)
		write_keys(turn, insert_newborns);
	CommandCounterIncrement();
	write_posts(turn);
	if (turn->output.claims != NIL)
		write_keys(turn, claim_keys);
	number_timers(turn);
	bury_all(turn);
	change_links(turn);
	if (turn->output.rollout_failures != NIL)
		count_rollout_failures(turn);
	foreach(lc, wf_lineup_drafts(turn->lineup))
	{
		WfDraft    *draft = lfirst(lc);

		if (draft->loaded && !draft->absent)
			write_draft(draft);
		else if (wf_draft_is_held(draft) && draft->row_changed)
			wf_instance_update(&draft->row);
	}
	erase_payloads(turn);
	CommandCounterIncrement();
}
