/*
 * turn.c: one transaction's work: take those whose turn it is, read their mail, step, write.
 *
 * Called by engine.c within a transaction that holds the locks of the shards concerned.  All that is decided while stepping
 * is in drafts, in the turn's memory; nothing is written before the last step, and nothing that is kept between turns
 * changes before wf_turn_settle(), which the caller calls once the transaction has committed.
 *
 * No query is made per event: mail is read instance by instance in index order, the log is appended to in one go, and mail
 * is deleted by TID without waiting for anybody.
 */
#include "postgres.h"

#include "access/xact.h"
#include "lib/pairingheap.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "acl.h"
#include "eventlog.h"
#include "guc.h"
#include "handler.h"
#include "replay.h"
#include "snapshot.h"
#include "turn.h"

/* least and greatest share of one instance in a turn's events */
#define MIN_SHARE 32
#define MAX_SHARE_DIVISOR 4
/* a turn ends early when its steps have taken that long, or its mail that much memory */
#define MAX_TURN_US (200 * 1000)
#define FAIR_TURN_US (5 * 1000)
#define MAX_TURN_BYTES (64 * 1024 * 1024)
/* control events, and mail left to an instance that has closed, per instance and turn */
#define MAX_CONTROL 100
#define MAX_BURIED 10000

int64		wf_turn_conflict = 0;

/*
 * Folds the log of an instance that is not in memory.
 */
static void
load_fold(WfDraft *draft, Snapshot snapshot)
{
	WfDivergence divergence;

	if (draft->version->problem != NULL)
	{
		wf_draft_break(draft, draft->version->problem);
		return;
	}
	wf_replay_load(draft->workflow, &draft->row, snapshot, &draft->fold, &draft->snapshot_seq, &divergence);
	if (divergence.seq != 0)
		wf_draft_break(draft, psprintf("diverged at seq " INT64_FORMAT ": %s", divergence.seq, divergence.reason));
}

/*
 * An instance from the tables.  NULL where it is not there (yet: its transaction may be under way).
 */
static WfDraft *
activate(int64 instance_id, Snapshot snapshot)
{
	WfDraft    *draft = palloc0(sizeof(WfDraft));

	if (!wf_instance_read(instance_id, snapshot, &draft->row))
		return NULL;
	draft->unread_at = DT_NOEND;
	return draft;
}

/*
 * Whether this turn may act for the workflow: it is at home here, and run()'s caller has the right.
 */
static bool
may_act(const WfTurn *turn, const WfWorkflow *workflow)
{
	return workflow->at_home && (turn->worker || wf_acl_may(workflow, GetUserId(), WF_PRIV_OPERATE));
}

/*
 * The draft of one instance, or NULL where this turn has nothing to do with it.
 */
static WfDraft *
make_draft(WfTurn *turn, int64 instance_id, Snapshot snapshot)
{
	WfProcess  *process = wf_resident_find(turn->residents, instance_id);
	WfDraft    *draft = process != NULL ? wf_draft_from_process(process) : activate(instance_id, snapshot);

	if (draft == NULL)
		return NULL;
	draft->workflow = wf_workflow_get(draft->row.workflow_id);
	if (!may_act(turn, draft->workflow))
		return NULL;
	draft->version = wf_workflow_version(draft->workflow, draft->row.version);
	if (process == NULL && !WF_IS_CLOSED(draft->row.status))
		load_fold(draft, snapshot);
	else if (draft->version->problem != NULL && !WF_IS_CLOSED(draft->row.status))
		wf_draft_break(draft, draft->version->problem);
	return draft;
}

/*
 * Those from the index on wait for the next turn.
 */
static void
take_fewer(WfTurn *turn, int index)
{
	for (int i = index; i < turn->ready_count; i++)
		wf_scheduler_put(turn->scheduler, turn->ready[i].instance_id, turn->ready[i].low, turn->ready[i].low);
	turn->ready_count = index;
}

/*
 * Makes the drafts of those whose turn it is, as many as can be activated in a fair part of a turn's time.
 */
static void
make_drafts(WfTurn *turn, Snapshot snapshot)
{
	TimestampTz stop_at = GetCurrentTimestamp() + MAX_TURN_US / 2;

	turn->drafts = palloc(turn->ready_count * sizeof(WfDraft *));
	for (int i = 0; i < turn->ready_count; i++)
	{
		WfDraft    *draft = make_draft(turn, turn->ready[i].instance_id, snapshot);

		CHECK_FOR_INTERRUPTS();
		if (GetCurrentTimestamp() > stop_at)
			take_fewer(turn, i + 1);
		if (draft == NULL)
			continue;
		draft->low = turn->ready[i].low;
		turn->drafts[turn->draft_count++] = draft;
	}
}

/*
 * The first event of an instance is start, whatever older stamps its other mail has.
 */
static void
read_unstarted(WfTurn *turn, WfDraft *draft, int share, Snapshot snapshot)
{
	TimestampTz next_at;
	WfMail	   *start;
	WfMail	   *others;
	int			count;

	if (draft->row.started_at > turn->now ||
		wf_mailbox_read(draft->row.instance_id, draft->row.started_at, draft->row.started_at, 1, snapshot,
						&start, &next_at) == 0)
	{
		draft->unread_at = draft->row.started_at;
		return;
	}
	count = wf_mailbox_read(draft->row.instance_id, DT_NOBEGIN, turn->now, share, snapshot, &others, &draft->unread_at);
	draft->mails = palloc((count + 1) * sizeof(WfMail));
	draft->mails[draft->count++] = *start;
	for (int i = 0; i < count; i++)
		if (others[i].event.mail_id != start->event.mail_id)
			draft->mails[draft->count++] = others[i];
}

/*
 * Reads a draft's mail: control events first and alone, then what is due.
 */
static void
read_mail(WfTurn *turn, WfDraft *draft, int share, Snapshot snapshot)
{
	int64		id = draft->row.instance_id;
	TimestampTz low = draft->low;

	if (low == WF_AT_ONCE)
	{
		draft->count = wf_mailbox_read(id, WF_AT_ONCE, WF_AT_ONCE, MAX_CONTROL, snapshot, &draft->mails, &draft->unread_at);
		if (draft->count > 0)
			return;
		low = draft->unread_at;
	}
	draft->unread_at = low;
	if (!wf_draft_can_go_on(draft, turn->now))
		return;
	if (!draft->fold.started)
		read_unstarted(turn, draft, share, snapshot);
	else if (low <= turn->now)
		draft->count = wf_mailbox_read(id, low, turn->now, share, snapshot, &draft->mails, &draft->unread_at);
}

/*
 * Reads the mail of all drafts, until the turn has enough.
 */
static void
read_all_mail(WfTurn *turn, Snapshot snapshot)
{
	int			share = Max(turn->max_events / turn->draft_count, MIN_SHARE);
	int			wanted = turn->max_events;

	if (turn->draft_count >= MAX_SHARE_DIVISOR)
		share = Min(share, Max(turn->max_events / MAX_SHARE_DIVISOR, MIN_SHARE));
	for (int i = 0; i < turn->draft_count; i++)
	{
		WfDraft    *draft = turn->drafts[i];

		CHECK_FOR_INTERRUPTS();
		if (WF_IS_CLOSED(draft->row.status))
			continue;
		if (wanted > 0 && MemoryContextMemAllocated(turn->memory, false) < MAX_TURN_BYTES)
			read_mail(turn, draft, Min(share, wanted), snapshot);
		else
			draft->unread_at = draft->low;
		wanted -= draft->count;
	}
}

/*
 * Older stamp first, then in the order of sending: a pairingheap gives its greatest.
 */
static int
compare_next_mail(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	const WfDraft *x = pairingheap_const_container(WfDraft, node, a);
	const WfDraft *y = pairingheap_const_container(WfDraft, node, b);
	const WfEvent *left = &x->mails[x->next].event;
	const WfEvent *right = &y->mails[y->next].event;

	if (left->at != right->at)
		return left->at < right->at ? 1 : -1;
	if (left->mail_id != right->mail_id)
		return left->mail_id < right->mail_id ? 1 : -1;
	return 0;
}

static pairingheap *
queue_of_drafts(WfTurn *turn)
{
	pairingheap *queue = pairingheap_allocate(compare_next_mail, NULL);

	for (int i = 0; i < turn->draft_count; i++)
		if (turn->drafts[i]->count > 0)
			pairingheap_add(queue, &turn->drafts[i]->node);
	return queue;
}

/* the steps of a turn */
typedef struct Steps
{
	WfTurn	   *turn;
	pairingheap *queue;
	int			handled;
} Steps;

/*
 * Whether the turn has taken long enough, or uses too much memory.  A worker that has been woken meanwhile ends its turn
 * sooner, so that new mail does not wait for all of a backlog's batch.
 */
static bool
is_long_enough(const WfTurn *turn, TimestampTz began)
{
	int64		elapsed = GetCurrentTimestamp() - began;

	return elapsed >= MAX_TURN_US || (turn->worker && elapsed >= FAIR_TURN_US && MyLatch->is_set) ||
		MemoryContextMemAllocated(turn->memory, false) > 2 * MAX_TURN_BYTES;
}

static void
handle_queue(void *arg)
{
	Steps	   *steps = arg;
	TimestampTz began = GetCurrentTimestamp();

	do
	{
		WfDraft    *draft = pairingheap_container(WfDraft, node, pairingheap_remove_first(steps->queue));

		CHECK_FOR_INTERRUPTS();
		if (wf_draft_handle(draft, &steps->turn->output))
			steps->handled++;
		if (!draft->stopped && draft->next < draft->count)
			pairingheap_add(steps->queue, &draft->node);
	} while (!pairingheap_is_empty(steps->queue) && steps->handled < steps->turn->max_events &&
			 !is_long_enough(steps->turn, began));
}

/*
 * Handles the mail of all drafts, by stamp across them.  Returns how many events were handled.
 */
static int
step_all(WfTurn *turn)
{
	Steps		steps = {turn, queue_of_drafts(turn), 0};

	if (!pairingheap_is_empty(steps.queue))
		wf_handler_stretch(handle_queue, &steps);
	return steps.handled;
}

/*
 * Deletes what was handled.  Where somebody else withdraws or moves an event at this very moment, the turn is off.
 */
static void
delete_mail(WfTurn *turn, const WfMail *mail)
{
	if (wf_mailbox_delete(mail) == WF_MAIL_DELETED)
		return;
	wf_turn_conflict = mail->instance_id;
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("event " INT64_FORMAT " is being withdrawn or rescheduled by another transaction", mail->event.mail_id),
			 errhint("Try again.")));
}

/*
 * Moves the mail of an instance that has closed to the dead letters.
 */
static void
bury_rest(WfTurn *turn, WfDraft *draft, Snapshot snapshot)
{
	const char *reason = psprintf("the instance is %s", wf_instance_status_name(draft->row.status));
	WfMail	   *mails;
	int			count = wf_mailbox_read(draft->row.instance_id, DT_NOBEGIN, DT_NOEND, MAX_BURIED, snapshot, &mails,
										&draft->unread_at);

	for (int i = 0; i < count; i++)
	{
		delete_mail(turn, &mails[i]);
		wf_mailbox_bury(&mails[i], draft->row.id, reason);
	}
	draft->count = draft->next = 0;
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
	return since >= draft->workflow->snapshot_every || WF_IS_CLOSED(draft->row.status) ||
		draft->wants_snapshot || draft->wants_passivation;
}

static void
write_draft(WfTurn *turn, WfDraft *draft, Snapshot snapshot)
{
	if (WF_IS_CLOSED(draft->row.status))
		bury_rest(turn, draft, snapshot);
	if (draft->row_changed)
		wf_instance_update(&draft->row);
	if (snapshot_is_due(draft))
	{
		wf_snapshot_store(draft->row.instance_id, &draft->fold);
		draft->snapshot_seq = draft->fold.seq;
	}
}

/*
 * Writes what the steps have led to.
 */
static void
write_all(WfTurn *turn)
{
	Snapshot	snapshot;
	ListCell   *lc;

	foreach(lc, turn->output.handled)
		delete_mail(turn, lfirst(lc));
	wf_eventlog_append(turn->output.log, turn->output.log_count);
	foreach(lc, turn->output.burials)
	{
		const WfBurial *burial = lfirst(lc);

		wf_mailbox_bury(burial->mail, burial->id, burial->reason);
	}
	CommandCounterIncrement();
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	for (int i = 0; i < turn->draft_count; i++)
		write_draft(turn, turn->drafts[i], snapshot);
	UnregisterSnapshot(snapshot);
	CommandCounterIncrement();
}

/*
 * One turn.  Returns how many events were handled; nothing is taken back from the scheduler where that is none.  On an
 * error the caller calls wf_turn_put_back() once it has rolled back.
 */
int
wf_turn_run(WfTurn *turn)
{
	MemoryContext old = MemoryContextSwitchTo(turn->memory);
	Snapshot	snapshot;
	int			handled = 0;

	wf_turn_conflict = 0;
	turn->output.now = turn->now;
	turn->ready = palloc(turn->max_instances * sizeof(WfReady));
	turn->ready_count = wf_scheduler_take(turn->scheduler, turn->now, turn->max_instances, turn->ready);
	wf_workflow_refresh();
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	make_drafts(turn, snapshot);
	if (turn->draft_count > 0)
		read_all_mail(turn, snapshot);
	handled = step_all(turn);
	write_all(turn);

	/*
	 * held until here: it keeps VACUUM from giving a TID that was read to
	 * another row
	 */
	UnregisterSnapshot(snapshot);
	MemoryContextSwitchTo(old);
	return handled;
}

/*
 * Counts that a worker died while these instances handled these events; writes it down.
 */
void
wf_turn_blame(WfTurn *turn, const int64 *instance_ids, const int64 *seqs, int count)
{
	MemoryContext old = MemoryContextSwitchTo(turn->memory);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());

	turn->output.now = turn->now;
	turn->ready = palloc0(count * sizeof(WfReady));
	turn->ready_count = count;
	for (int i = 0; i < count; i++)
		turn->ready[i].instance_id = instance_ids[i];
	wf_workflow_refresh();
	make_drafts(turn, snapshot);
	UnregisterSnapshot(snapshot);
	for (int i = 0; i < turn->draft_count; i++)
		for (int j = 0; j < count; j++)
			if (turn->drafts[i]->row.instance_id == instance_ids[j])
				wf_draft_blame(turn->drafts[i], &turn->output, seqs[j]);
	write_all(turn);
	MemoryContextSwitchTo(old);
}

/*
 * Puts a draft's instance back into the scheduler, where it still has mail and can go on.
 */
static void
put_back(WfTurn *turn, WfDraft *draft)
{
	TimestampTz low = draft->next < draft->count ? draft->mails[draft->next].event.at : draft->unread_at;

	if (draft->next < draft->count && !draft->fold.started)
		low = draft->row.started_at;
	if (low == DT_NOEND || draft->broken || draft->row.status == WF_PAUSED)
		return;
	if (Max(low, draft->row.retry_at) <= turn->horizon)
		wf_scheduler_put(turn->scheduler, draft->row.instance_id, low, Max(low, draft->row.retry_at));
}

/*
 * The turn has committed: its drafts are now what the processes are.
 */
void
wf_turn_settle(WfTurn *turn)
{
	for (int i = 0; i < turn->draft_count; i++)
	{
		WfDraft    *draft = turn->drafts[i];

		if (draft->broken || draft->wants_passivation || WF_IS_CLOSED(draft->row.status))
			wf_resident_drop(turn->residents, draft->row.instance_id);
		else
			wf_resident_store(turn->residents, &draft->row, &draft->fold, draft->snapshot_seq, turn->now)->repeats =
				draft->repeats;
		put_back(turn, draft);
	}
}

/*
 * The turn was rolled back: those whose turn it was are due as before, but for one (0: none) that is due later.
 */
void
wf_turn_put_back(WfTurn *turn, int64 except, TimestampTz except_due)
{
	for (int i = 0; i < turn->ready_count; i++)
	{
		const WfReady *ready = &turn->ready[i];

		wf_scheduler_put(turn->scheduler, ready->instance_id, ready->low,
						 ready->instance_id == except ? except_due : ready->low);
	}
}
