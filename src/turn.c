/*
 * turn.c: one transaction's work: take those whose turn it is, and let them act in the order of their mail's stamps.
 *
 * Called by engine.c within a transaction that holds the locks of the shards concerned.  All that is decided while stepping
 * is in drafts, in the turn's memory; nothing is written before the last step (record.c), and nothing that is kept between
 * turns changes before wf_turn_settle(), which the caller calls once the transaction has committed.
 *
 * The order is that of (at, origin, mail_id) over all processes, with messages handed over in memory in their places, so
 * that those who catch up together meet as they would have met live.  Where more are due than the turn takes, it stops at
 * the stamp of the first that it has not taken.  What goes out of this order, and when a turn ends, is in stepping.c.
 *
 * No query is made per event: mail is read in portions in index order, the log is appended to in one go, and mail is
 * deleted by TID without waiting for anybody.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "acl.h"
#include "catalog.h"
#include "clock.h"
#include "deliver.h"
#include "eventlog.h"
#include "guc.h"
#include "inbox.h"
#include "record.h"
#include "replay.h"
#include "stepping.h"
#include "turn.h"

/* of those due at one time, taken beyond max_instances so that they act in their order */
#define MAX_TIES 1000
/* how long an instance waits whose log cannot be folded, the first time and at most */
#define FIRST_HOLD_US INT64CONST(100000)
#define MAX_HOLD_US USECS_PER_MINUTE
/* how long those wait who would only begin the same turn again */
#define STUCK_DELAY_US USECS_PER_SEC

int64		wf_turn_conflict = 0;

/* an instance whose log could not be folded */
typedef struct Hold
{
	int64		instance_id;	/* hash key */
	int			count;			/* how often in a row */
	TimestampTz until;
} Hold;

static HTAB *holds = NULL;

static Hold *
find_hold(int64 instance_id, HASHACTION action)
{
	HASHCTL		ctl = {.keysize = sizeof(int64),.entrysize = sizeof(Hold),.hcxt = TopMemoryContext};
	bool		found;
	Hold	   *hold;

	if (holds == NULL && action != HASH_ENTER)
		return NULL;
	if (holds == NULL)
		holds = hash_create("wfproc holds", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	hold = hash_search(holds, &instance_id, action, &found);
	if (action == HASH_ENTER && !found)
		hold->count = 0;
	return hold;
}

/*
 * The log could not be folded, for a reason that says nothing about it: the instance takes no part in this turn, and is tried
 * again ever later.  One to be terminated needs no fold, so that it can always be got rid of.
 */
static void
hold(WfTurn *turn, WfDraft *draft, const WfDivergence *divergence)
{
	Hold	   *hold;

	if (wf_inbox_is_terminated(draft, turn->output.snapshot))
	{
		(void) find_hold(draft->instance_id, HASH_REMOVE);
		draft->broken = true;
		return;
	}
	hold = find_hold(draft->instance_id, HASH_ENTER);
	hold->until = wf_clock_now() + Min(FIRST_HOLD_US << Min(hold->count++, 20), MAX_HOLD_US);
	draft->absent = true;
	wf_draft_hold(draft, hold->until);
	ereport(LOG,
			(errmsg("wfproc: the log of instance \"%s\" could not be folded for now: SQLSTATE %.5s",
					draft->row.id, divergence->passing),
			 errdetail("Its events wait.  The message is in wfproc.instances.")));
	if (draft->row.status != WF_RUNNING || draft->row.attempts > 0 || draft->row.crashes > 0)
		return;
	draft->row.retry_at = hold->until;
	draft->row.error = divergence->passing;
	draft->row.error_context = divergence->passing_context;
	draft->row_changed = true;
}

/*
 * Whether it is too early to try again: mail that comes meanwhile must not have a worker try all the time.
 */
static bool
is_on_hold(const WfTurn *turn, WfDraft *draft)
{
	const Hold *hold = turn->worker ? find_hold(draft->instance_id, HASH_FIND) : NULL;

	if (hold == NULL || hold->until <= turn->now || wf_inbox_is_terminated(draft, turn->output.snapshot))
		return false;
	draft->absent = true;
	wf_draft_hold(draft, hold->until);
	return true;
}

/*
 * The log could be folded: whatever has held the instance is over.
 */
static void
let_go(WfDraft *draft)
{
	(void) find_hold(draft->instance_id, HASH_REMOVE);
	if (draft->row.status == WF_RUNNING && draft->row.attempts == 0 && draft->row.crashes == 0)
		wf_draft_clear_failures(draft);
}

/*
 * Whether workers have died of folding this log, and nobody has asked since to have it tried again.
 */
static bool
is_left_alone(const WfDraft *draft)
{
	WfMail	   *mails;
	int			count;

	if (draft->row.status != WF_PAUSED || !draft->row.unlogged || draft->row.error == NULL ||
		draft->row.crashes < wf_max_crashes)
		return false;
	count = wf_mailbox_read_control(draft->instance_id, &mails);
	for (int i = 0; i < count; i++)
		if (strcmp(mails[i].event.name, "$resume") == 0)
			return false;
	return true;
}

/*
 * An instance that has only just been created: its log is empty, so that it has no snapshots and no timers either, and there
 * is nothing to be folded.
 */
static void
begin_fold(WfDraft *draft)
{
	wf_replay_first_fold(&draft->row, &draft->fold);
	draft->snapshot_seq = 0;
	draft->timers.known = true;
}

/*
 * Folds the log of an instance that is not in memory.  woken_by_start: it may have none.
 */
static void
load_fold(WfTurn *turn, WfDraft *draft, bool woken_by_start)
{
	WfDivergence divergence;

	if (draft->version->problem != NULL)
	{
		wf_draft_break(draft, draft->version->problem);
		return;
	}
	if (is_left_alone(draft))
	{
		wf_draft_break(draft, draft->row.error);
		return;
	}
	if (is_on_hold(turn, draft))
		return;
	if (woken_by_start && wf_eventlog_last(draft->instance_id, turn->output.snapshot, NULL) == 0)
	{
		begin_fold(draft);
		return;
	}
	wf_suspect_begin(draft->instance_id, WF_SUSPECT_FOLD);
	wf_replay_activate(draft->workflow, &draft->row, turn->output.snapshot, &draft->fold, &draft->snapshot_seq, &divergence,
					   &draft->kept);
	wf_suspect_end();
	if (divergence.passing != NULL)
	{
		hold(turn, draft, &divergence);
		return;
	}
	let_go(draft);
	if (divergence.seq == 0)
		return;
	wf_draft_break(draft, psprintf("diverged at seq " INT64_FORMAT ": %s%s", divergence.seq, divergence.reason,
								   wf_replay_question(&divergence)));
	draft->acceptable = divergence.stuck_seq == 0 && draft->fold.started;
}

/*
 * Whether this turn may act for the workflow: it is at home here, and run()'s caller has the right.
 */
bool
wf_turn_may_act(const WfTurn *turn, const WfWorkflow *workflow)
{
	return workflow->at_home && (turn->worker || wf_acl_may(workflow, turn->userid, WF_PRIV_OPERATE));
}

/*
 * The last of a resident process and of one from the tables: what a draft needs besides the fold.  Mail that was postponed
 * is read again each time, whatever the wake-up says.
 */
static void
get_ready(WfTurn *turn, WfDraft *draft, TimestampTz postponed_low)
{
	draft->loaded = true;
	if (draft->unread_at != WF_AT_ONCE)
		draft->unread_at = Min(draft->unread_at, postponed_low);
	draft->postponed_low = postponed_low;
	draft->workflow = wf_workflow_find(draft->row.workflow_id);
	draft->absent = draft->workflow == NULL || !wf_turn_may_act(turn, draft->workflow);
	if (!draft->absent)
		draft->version = wf_workflow_version_of_row(draft->workflow, draft->row.version);
}

/*
 * Fills the draft of a process that is in memory.
 */
static void
load_resident(WfTurn *turn, WfDraft *draft, const WfProcess *process)
{
	wf_draft_from_process(draft, process);
	if (draft->held_until <= turn->now)
		draft->held_until = 0;
	get_ready(turn, draft, process->postponed_low);
	if (!draft->absent && draft->version->problem != NULL)
		wf_draft_break(draft, draft->version->problem);
}

/*
 * Fills a draft from the tables.  Its instance may not be there (yet: its transaction may be under way).
 */
static void
activate(WfTurn *turn, WfDraft *draft)
{
	TimestampTz low = draft->unread_at;

	if (!wf_instance_read(draft->instance_id, turn->output.snapshot, &draft->row))
	{
		draft->loaded = draft->absent = true;
		return;
	}
	get_ready(turn, draft, WF_NO_STAMP);
	if (!draft->absent && !WF_IS_CLOSED(draft->row.status))
		load_fold(turn, draft, low != WF_AT_ONCE && low <= draft->row.started_at);
	if (draft->row.state_timers && !draft->broken && !draft->absent)
		wf_timers_load(&draft->timers, draft->instance_id, turn->output.snapshot, NIL);
}

/*
 * The mail of an instance that turns out to have closed is dealt with; of one not to be acted for here it is put back.
 */
static void
loaded(WfTurn *turn, WfDraft *draft)
{
	if (draft->absent)
	{
		ListCell   *lc;

		foreach(lc, wf_inbox_rest(draft))
			turn->output.posts = lappend(turn->output.posts, lfirst(lc));
	}
	else if (WF_IS_CLOSED(draft->row.status))
		wf_deliver_closed(turn, draft);
	wf_lineup_update(turn->lineup, draft);
}

/*
 * Whether the turn has in its memory what it may have: what can be left to another one is.
 */
bool
wf_turn_is_full(const WfTurn *turn)
{
	return MemoryContextMemAllocated(turn->memory, true) >= WF_MAX_TURN_BYTES;
}

/*
 * Whether the draft is of a process in memory; then it is filled.
 */
bool
wf_turn_find_resident(WfTurn *turn, WfDraft *draft)
{
	WfProcess  *process = wf_resident_find(turn->residents, draft->instance_id);

	if (process == NULL)
		return false;
	load_resident(turn, draft, process);
	loaded(turn, draft);
	return true;
}

/*
 * Activates those that are not in memory, as many as that time and a turn's memory allow, and at least the one whose turn it
 * is.  Outside of a stretch of steps: folding a log is one of its own.
 */
void
wf_turn_load_cold(WfTurn *turn, WfDraft *first, int64 us)
{
	TimestampTz stop_at = GetCurrentTimestamp() + us;
	List	   *drafts = list_copy(wf_lineup_drafts(turn->lineup));
	ListCell   *lc;

	activate(turn, first);
	loaded(turn, first);
	foreach(lc, drafts)
	{
		WfDraft    *draft = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		if (GetCurrentTimestamp() > stop_at || wf_turn_is_full(turn))
			break;
		if (draft->loaded || !draft->in_lineup)
			continue;
		if (wf_turn_find_resident(turn, draft))
			continue;
		activate(turn, draft);
		loaded(turn, draft);
	}
	list_free(drafts);
}

/*
 * Where to read an instance's mail from: what a sweep under way is to find yet must not be passed over.
 */
TimestampTz
wf_turn_low(const WfTurn *turn, int64 instance_id, TimestampTz low)
{
	if ((turn->unswept & (UINT64CONST(1) << wf_shard_of(instance_id))) == 0)
		return low;
	return Min(low, WF_NO_STAMP);
}

/*
 * Takes those whose turn it is; the turn stops before what the first of those is to handle who are due and not taken.
 */
static void
take_ready(WfTurn *turn)
{
	TimestampTz next;

	turn->ready_size = turn->max_instances + (turn->single ? 0 : MAX_TIES);
	turn->ready = palloc(turn->ready_size * sizeof(WfReady));
	turn->ready_count = wf_scheduler_take(turn->scheduler, turn->now, turn->max_instances, turn->ready_size, turn->ready);
	turn->taken_count = turn->ready_count;
	next = wf_scheduler_next(turn->scheduler);
	if (!turn->single && next <= turn->now)
		/* among more ties than are taken, order is given up */
		turn->before = Min(turn->before, turn->ready_count == turn->ready_size ? next + 1 : next);
	for (int i = 0; i < turn->ready_count; i++)
	{
		WfDraft    *draft = wf_lineup_add(turn->lineup, turn->ready[i].instance_id,
										  wf_turn_low(turn, turn->ready[i].instance_id, turn->ready[i].low));

		if (turn->ready[i].last)
			draft->floor = turn->ready[i].due;
		if (turn->ready[i].fresh)
			turn->fresh = lappend(turn->fresh, draft);
	}
}

/*
 * Remembers an instance that is in the turn without having been due: low is DT_NOEND where it was not waited for.
 */
void
wf_turn_add_ready(WfTurn *turn, int64 instance_id, TimestampTz low)
{
	if (turn->ready_count == turn->ready_size)
	{
		turn->ready_size = Max(turn->ready_size * 2, 64);
		turn->ready = repalloc(turn->ready, turn->ready_size * sizeof(WfReady));
	}
	turn->ready[turn->ready_count].instance_id = instance_id;
	turn->ready[turn->ready_count].low = turn->ready[turn->ready_count].due = low;
	turn->ready[turn->ready_count].last = turn->ready[turn->ready_count].fresh = false;
	turn->ready_count++;
}

static void
begin(WfTurn *turn)
{
	turn->output.now = turn->now;
	turn->lineup = wf_lineup_create(turn->now);
	turn->newborn_addresses = wf_addresses_create(turn->memory);
	turn->output.snapshot = RegisterSnapshot(GetLatestSnapshot());
}

/*
 * One turn.  Returns how many events were handled; nothing is taken back from the scheduler where that is none.  On an
 * error the caller calls wf_turn_put_back() once it has rolled back.
 */
int
wf_turn_run(WfTurn *turn)
{
	MemoryContext old = MemoryContextSwitchTo(turn->memory);
	int			handled;

	wf_turn_conflict = 0;
	wf_workflow_refresh();
	begin(turn);
	take_ready(turn);
	handled = wf_stepping_run(turn);
	wf_record_all(turn);

	/*
	 * held until here: it keeps VACUUM from giving a TID that was read to
	 * another row
	 */
	UnregisterSnapshot(turn->output.snapshot);
	MemoryContextSwitchTo(old);
	return handled;
}

/*
 * A worker died as it folded the log of this instance: that is counted without folding it.  Where that makes it pause, or it
 * was to be tried once more, what it was asked is dealt with: a request to resume is not to be tried for ever.
 */
static void
blame_fold(WfTurn *turn, const WfSuspect *suspect)
{
	WfDraft    *draft = wf_lineup_find(turn->lineup, suspect->instance_id);

	if (draft == NULL)
	{
		draft = wf_lineup_add(turn->lineup, suspect->instance_id, DT_NOEND);
		draft->loaded = draft->stopped = true;
		draft->absent = !wf_instance_read(draft->instance_id, turn->output.snapshot, &draft->row);
		if (!draft->absent)
			get_ready(turn, draft, WF_NO_STAMP);
	}
	if (draft->absent || draft->broken)
		return;
	wf_draft_blame(draft, &turn->output, suspect);
	if (draft->broken)
		wf_draft_obey_unfolded(draft, &turn->output);
}

/*
 * A worker died as this instance handled an event.
 */
static void
blame_step(WfTurn *turn, const WfSuspect *suspect)
{
	WfDraft    *draft = wf_lineup_find(turn->lineup, suspect->instance_id);

	/* counted already, and not to be folded here */
	if (draft != NULL && draft->stopped)
		return;
	if (draft == NULL)
	{
		draft = wf_lineup_add(turn->lineup, suspect->instance_id, DT_NOEND);
		activate(turn, draft);
	}
	if (!draft->absent)
		wf_draft_blame(draft, &turn->output, suspect);
}

/*
 * Counts that a worker died while these instances handled these events; writes it down.  One that was only being checked is
 * scrub.c's affair.
 */
void
wf_turn_blame(WfTurn *turn, const WfSuspect *suspects, int count)
{
	MemoryContext old = MemoryContextSwitchTo(turn->memory);

	wf_workflow_refresh();
	begin(turn);
	for (int i = 0; i < count; i++)
		if (suspects[i].seq == WF_SUSPECT_FOLD)
			blame_fold(turn, &suspects[i]);
	for (int i = 0; i < count; i++)
		if (suspects[i].seq > 0)
			blame_step(turn, &suspects[i]);
	wf_record_all(turn);
	UnregisterSnapshot(turn->output.snapshot);
	MemoryContextSwitchTo(old);
}

/*
 * Activates an instance from the tables, whether or not it is in memory, so that one whose log cannot be folded pauses.
 * Returns whether that is so: then what is in memory is to be dropped once the transaction has committed.
 */
bool
wf_turn_recheck(WfTurn *turn, int64 instance_id)
{
	MemoryContext old = MemoryContextSwitchTo(turn->memory);
	WfDraft    *draft;

	wf_workflow_refresh();
	begin(turn);
	draft = wf_lineup_add(turn->lineup, instance_id, DT_NOEND);
	activate(turn, draft);
	wf_record_all(turn);
	UnregisterSnapshot(turn->output.snapshot);
	MemoryContextSwitchTo(old);
	return draft->broken && !draft->absent;
}

/*
 * When an instance is to be looked at again, DT_NOEND: when it is woken.  Neither a pause nor a retry holds up control events
 * and deadlines.
 */
static TimestampTz
next_due(const WfDraft *draft)
{
	if (wf_draft_is_held(draft))
		return draft->held_until;
	if (draft->low == WF_AT_ONCE || !draft->loaded || WF_IS_CLOSED(draft->row.status))
		return draft->low;
	if (draft->broken || draft->row.status == WF_PAUSED)
		return draft->deadline_at;
	return Min(Max(draft->low, draft->row.retry_at), draft->deadline_at);
}

/*
 * Puts a draft's instance back into the scheduler, where it still has mail and can go on, for not before a time.
 */
static void
put_back(WfTurn *turn, const WfDraft *draft, TimestampTz not_before)
{
	TimestampTz due = Max(next_due(draft), not_before);

	if (due != DT_NOEND && (wf_draft_is_held(draft) || !draft->absent) && due <= turn->horizon)
		wf_scheduler_put(turn->scheduler, draft->instance_id, Min(draft->low, due), due);
}

static void
keep_resident(WfTurn *turn, const WfDraft *draft)
{
	WfProcess  *process = wf_resident_store(turn->residents, &draft->row, &draft->fold, &draft->timers, turn->now);

	process->snapshot_seq = draft->snapshot_seq;
	process->repeats = draft->repeats;
	process->held_until = draft->held_until;
	process->postponed_low = draft->postponed_low;
}

/*
 * Whoever writes to it from now on is answered without looking it up.
 */
static void
note_closed(WfTurn *turn, const WfDraft *draft)
{
	WfAddress	address = {draft->instance_id, draft->row.workflow_id, true};

	wf_addresses_add(turn->addresses, draft->row.id, &address);
}

/*
 * Whether the next turn would find all as this one did, and do the same, for ever: nobody has acted, and all are due as
 * before.  While a sweep is under way it is that which gets on.
 */
static bool
is_stuck(const WfTurn *turn)
{
	if (turn->acted || turn->unswept != 0 || turn->taken_count == 0)
		return false;
	for (int i = 0; i < turn->taken_count; i++)
	{
		const WfReady *ready = &turn->ready[i];
		const WfDraft *draft = wf_lineup_find(turn->lineup, ready->instance_id);

		if (draft->absent || draft->low > ready->low || next_due(draft) > ready->due)
			return false;
	}
	return true;
}

/*
 * The last resort, if there is a fault in stepping.c: they wait, so that others get on, and it is told, once each time.
 */
static TimestampTz
stuck_until(const WfTurn *turn)
{
	if (!is_stuck(turn))
		return DT_NOBEGIN;
	Assert(false);
	ereport(WARNING,
			(errcode(ERRCODE_INTERNAL_ERROR),
			 errmsg("wfproc: a turn of %d instances, the first with instance_id " INT64_FORMAT ", has ended without having handled anything",
					turn->taken_count, turn->ready[0].instance_id),
			 errdetail("They are looked at again in %d s.", (int) (STUCK_DELAY_US / USECS_PER_SEC))));
	return turn->now + STUCK_DELAY_US;
}

/*
 * The turn has committed: its drafts are now what the processes are.
 */
void
wf_turn_settle(WfTurn *turn)
{
	TimestampTz not_before = stuck_until(turn);
	ListCell   *lc;

	foreach(lc, wf_lineup_drafts(turn->lineup))
	{
		WfDraft    *draft = lfirst(lc);

		if (draft->loaded && !draft->absent)
		{
			if (WF_IS_CLOSED(draft->row.status))
				note_closed(turn, draft);
			if (draft->broken || draft->wants_passivation || WF_IS_CLOSED(draft->row.status))
				wf_resident_drop(turn->residents, draft->instance_id);
			else
				keep_resident(turn, draft);
		}
		put_back(turn, draft, not_before);
	}
	foreach(lc, turn->output.later)
	{
		const WfReady *later = lfirst(lc);

		if (later->due > turn->horizon)
			continue;
		if (later->last)
			wf_scheduler_put_last(turn->scheduler, later->instance_id, later->low, later->due);
		else
			wf_scheduler_put(turn->scheduler, later->instance_id, later->low, later->due);
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

		if (ready->low != DT_NOEND)
			wf_scheduler_put(turn->scheduler, ready->instance_id, ready->low,
							 ready->instance_id == except ? except_due : ready->low);
	}
}
