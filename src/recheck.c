/*
 * recheck.c: what the log of an instance says of the instance's row in wfproc.instance.
 *
 * Called by verify.c for each row of the log, and with the actions of each step as it is folded again; then the row is
 * compared.  Nothing is written or raised.
 *
 * Only what the log determines is looked at.  It does not have: attempts, crashes and retry_at, and the error that goes with
 * them; attributes given to start(); timers.  Where a log cannot be folded, or its instance was forked or imported, the status
 * may be one that no row says: the column "unlogged" is what claims that, and then only the status that the log has is not
 * asked for.  Of rows that are left out by the fold (redact(), accepted differences) their handler's actions are not known.
 */
#include "postgres.h"

#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "action.h"
#include "attributes.h"
#include "check.h"
#include "object.h"
#include "recheck.h"

void
wf_recheck_init(WfRecheck *recheck)
{
	memset(recheck, 0, sizeof(WfRecheck));
	recheck->memory = CurrentMemoryContext;
	recheck->status.known = recheck->status.error_known = recheck->cancelling_known = true;
	recheck->attributes = wf_check_empty_object();
}

static char *
keep_text(const WfRecheck *recheck, const char *text)
{
	return text == NULL ? NULL : MemoryContextStrdup(recheck->memory, text);
}

static Jsonb *
keep_jsonb(const WfRecheck *recheck, Jsonb *value)
{
	return value == NULL ? NULL : memcpy(MemoryContextAlloc(recheck->memory, VARSIZE(value)), value, VARSIZE(value));
}

/*
 * An event of the engine's own says what the status is; error: as the row has it then.
 */
static void
set_status(WfRecheck *recheck, const WfLogRow *row, TimestampTz clock, WfStatus status, const char *error)
{
	recheck->status.seq = row->seq;
	recheck->status.known = true;
	recheck->status.status = status;
	recheck->status.error_known = row->event.payload_sha256 == NULL;
	recheck->status.error = keep_text(recheck, error);
	recheck->status.at = clock;
}

/*
 * Why an instance is paused is in its row where it has paused by itself.  A role may be called "engine", but what it asks for
 * has a number.
 */
static const char *
pause_error(const WfEvent *event)
{
	const char *by = wf_object_get_text(event->payload, "by");

	if (event->mail_id != 0 || by == NULL || strcmp(by, "engine") != 0)
		return NULL;
	return wf_object_get_text(event->payload, "reason");
}

/*
 * What came before was another instance's.
 */
static void
set_forked(WfRecheck *recheck, const WfLogRow *row)
{
	recheck->forked = true;
	recheck->status.seq = row->seq;
	recheck->status.known = false;
	recheck->status.error_known = false;
}

void
wf_recheck_row(WfRecheck *recheck, const WfLogRow *row, TimestampTz clock)
{
	const char *name = row->event.name;

	if (strcmp(name, "$redact") == 0)
		/* also of one that has closed */
		return;
	recheck->last_seq = row->seq;
	recheck->last_handled = !WF_IS_ENGINE_EVENT(name);
	if (strcmp(name, "start") == 0 && recheck->start_seq == 0)
	{
		recheck->start_seq = row->seq;
		recheck->started_at = row->event.at;
		recheck->start_sender = keep_text(recheck, row->event.sender);
	}
	else if (strcmp(name, "$pause") == 0)
		set_status(recheck, row, clock, WF_PAUSED, pause_error(&row->event));
	else if (strcmp(name, "$resume") == 0 || strcmp(name, "$skip") == 0)
		set_status(recheck, row, clock, WF_RUNNING, NULL);
	else if (strcmp(name, "$terminate") == 0)
		set_status(recheck, row, clock, WF_TERMINATED, wf_object_get_text(row->event.payload, "reason"));
	else if (strcmp(name, "$fail") == 0)
		set_status(recheck, row, clock, WF_FAILED, wf_object_get_text(row->event.payload, "reason"));
	else if (strcmp(name, "$fork") == 0)
		set_forked(recheck, row);
}

static void
set_end(WfRecheck *recheck, int64 seq, TimestampTz clock, WfStatus status, Jsonb *result, const char *error)
{
	if (recheck->end.seq != 0)
		return;
	recheck->end.seq = seq;
	recheck->end.known = recheck->end.error_known = true;
	recheck->end.status = status;
	recheck->end.result = keep_jsonb(recheck, result);
	recheck->end.error = keep_text(recheck, error);
	recheck->end.at = clock;
}

static void
add_attributes(WfRecheck *recheck, int64 seq, Jsonb *changes)
{
	Datum		both = DirectFunctionCall2(jsonb_concat, JsonbPGetDatum(recheck->attributes), JsonbPGetDatum(changes));
	Jsonb	   *old = recheck->attributes;

	recheck->attributes = keep_jsonb(recheck, DatumGetJsonbP(both));
	recheck->attributes_seq = seq;
	if (old != wf_check_empty_object())
		pfree(old);
}

/*
 * From here on nothing is known of them.
 */
static void
forget_attributes(WfRecheck *recheck)
{
	if (recheck->attributes != wf_check_empty_object())
		pfree(recheck->attributes);
	recheck->attributes = wf_check_empty_object();
}

/*
 * One action of a step, as draft_actions.c carries it out.
 */
static void
take_action(WfRecheck *recheck, int64 seq, TimestampTz clock, const WfAction *action)
{
	switch (action->kind)
	{
		case WF_ACTION_SET_ATTRIBUTES:
			add_attributes(recheck, seq, action->json);
			break;
		case WF_ACTION_DEFER_CANCEL:
			recheck->cancelling = recheck->cancelling_known = true;
			break;
		case WF_ACTION_COMPLETE:
			set_end(recheck, seq, clock, recheck->cancelling ? WF_CANCELLED : WF_COMPLETED, action->json, NULL);
			recheck->end.either = !recheck->cancelling_known;
			break;
		case WF_ACTION_FAIL:
			set_end(recheck, seq, clock, WF_FAILED, NULL, action->reason);
			break;
		default:
			break;
	}
}

static void
take_engine_event(WfRecheck *recheck, const WfLogRow *row)
{
	Jsonb	   *changes;

	if (strcmp(row->event.name, "$fork") == 0)
		forget_attributes(recheck);
	if (strcmp(row->event.name, "$attributes") != 0)
		return;
	changes = row->event.payload_sha256 != NULL ? NULL : wf_object_get(row->event.payload, "attributes");
	if (changes != NULL && JB_ROOT_IS_OBJECT(changes))
		add_attributes(recheck, row->seq, changes);
	else
		forget_attributes(recheck);
}

/*
 * After a cancel an instance closes, unless its handler does otherwise.
 */
static bool
is_cancelled_by(const List *actions)
{
	ListCell   *lc;

	foreach(lc, actions)
	{
		WfActionKind kind = ((const WfAction *) lfirst(lc))->kind;

		if (kind == WF_ACTION_DEFER_CANCEL || kind == WF_ACTION_REJECT)
			return false;
	}
	return true;
}

void
wf_recheck_step(WfRecheck *recheck, const WfLogRow *row, TimestampTz clock, const List *actions)
{
	ListCell   *lc;

	if (row->seq <= recheck->folded_seq)
		/* again, from a snapshot */
		return;
	recheck->folded_seq = row->seq;
	if (WF_IS_ENGINE_EVENT(row->event.name))
		take_engine_event(recheck, row);
	foreach(lc, actions)
		take_action(recheck, row->seq, clock, lfirst(lc));
	if (strcmp(row->event.name, "cancel") == 0 && is_cancelled_by(actions))
		set_end(recheck, row->seq, clock, WF_CANCELLED, NULL, wf_object_get_text(row->event.payload, "reason"));
}

void
wf_recheck_skip(WfRecheck *recheck, int64 upto)
{
	if (upto <= recheck->folded_seq)
		return;
	recheck->skipped_from = recheck->folded_seq;
	recheck->skipped_upto = recheck->folded_seq = upto;
	recheck->cancelling_known = recheck->cancelling;
	forget_attributes(recheck);
}

static bool
same_text(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static bool
same_jsonb(Jsonb *a, Jsonb *b)
{
	uint8		x[WF_SHA256_LEN];
	uint8		y[WF_SHA256_LEN];

	if (a == NULL || b == NULL)
		return a == b;
	wf_hash_jsonb(a, x);
	wf_hash_jsonb(b, y);
	return memcmp(x, y, WF_SHA256_LEN) == 0;
}

/*
 * Of an instance that is open.
 */
static const char *
check_open(const WfRecheckStatus *expected, const WfInstance *row)
{
	/* with a time to try again: it waits until its log can be folded */
	bool		failing = row->attempts > 0 || row->crashes > 0 || row->retry_at != DT_NOBEGIN;

	/* one that is paused may be blamed for a crash, too */
	bool		error_known = expected->known && expected->error_known && !row->unlogged && row->crashes == 0;

	if (WF_IS_CLOSED(row->status))
		return row->status == WF_TERMINATED && row->unlogged ? NULL : "status";
	if (expected->known && row->status != expected->status && !(row->status == WF_PAUSED && row->unlogged))
		return "status";
	if (row->closed_at != 0)
		return "closed_at";
	if (row->result != NULL)
		return "result";
	if (row->status == WF_RUNNING ? !failing && row->error != NULL :
		error_known && !same_text(row->error, expected->error))
		return "error";
	return NULL;
}

/*
 * Of one that has closed, by a row of the log.
 */
static const char *
check_closed(const WfRecheckStatus *expected, const WfInstance *row)
{
	if (row->status != expected->status && !(expected->either && row->status == WF_CANCELLED))
		return "status";
	if (row->closed_at != expected->at)
		return "closed_at";
	if (!same_jsonb(row->result, expected->result))
		return "result";
	if (expected->error_known && !same_text(row->error, expected->error))
		return "error";
	return NULL;
}

static const char *
check_status(const WfRecheck *recheck, const WfInstance *row, int64 *seq)
{
	const WfRecheckStatus *expected = recheck->end.seq > recheck->status.seq ? &recheck->end : &recheck->status;

	*seq = expected->seq;
	/* whether a step that was not folded has closed it */
	if (recheck->last_handled && recheck->last_seq > recheck->skipped_from && recheck->last_seq <= recheck->skipped_upto)
		return NULL;
	return WF_IS_CLOSED(expected->status) && expected->known ? check_closed(expected, row) : check_open(expected, row);
}

/*
 * All that was set is set: setting it again changes nothing.
 */
static bool
has_attributes(const WfRecheck *recheck, const WfInstance *row)
{
	return JB_ROOT_COUNT(recheck->attributes) == 0 ||
		same_jsonb(wf_attributes_merge(row->attributes, recheck->attributes), row->attributes);
}

/*
 * A parent sends its child start, and so does who sends to somebody that is to be started for it.
 */
static bool
has_parent(const WfRecheck *recheck, const WfInstance *row)
{
	if (row->parent == NULL || recheck->start_seq == 0)
		return true;
	return !recheck->forked && same_text(row->parent, recheck->start_sender);
}

static bool
has_cancelling(const WfRecheck *recheck, const WfInstance *row)
{
	if (WF_IS_CLOSED(row->status))
		return !row->cancelling;
	return !recheck->cancelling_known || row->cancelling == recheck->cancelling;
}

const char *
wf_recheck_instance(const WfRecheck *recheck, const WfInstance *instance, const WfFold *fold, int64 *seq)
{
	const char *problem = check_status(recheck, instance, seq);

	if (problem != NULL)
		return problem;
	*seq = fold->seq;
	if (instance->version != fold->version)
		return "version";
	if (!has_cancelling(recheck, instance))
		return "cancelling";
	*seq = recheck->attributes_seq;
	if (!has_attributes(recheck, instance))
		return "attributes";
	*seq = recheck->start_seq;
	if (recheck->start_seq != 0 && instance->started_at != recheck->started_at)
		return "started_at";
	if (!has_parent(recheck, instance))
		return "parent";
	return NULL;
}
