/*
 * action.c: what a handler asks for while it runs.
 *
 * The SQL functions here are called by handlers, inside the call that handler.c makes.  An action does nothing but add
 * itself to the step's list; process.c hashes the list, draft.c and deliver.c carry it out once the step has ended well.
 *
 * Whether an action is refused depends on its arguments and on the step alone, never on what a table says: a handler may
 * catch the error and go on, and must do the same in a replay.  So an event for nobody is no error here, but a dead letter
 * later.  Limits that are settings do not count in a replay, for they may have been others then.
 *
 * What was asked for inside an EXCEPTION block of the handler that is rolled back is taken back with it.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "action.h"
#include "attributes.h"
#include "check.h"
#include "clock.h"
#include "guc.h"
#include "link.h"
#include "object.h"
#include "step.h"

PG_FUNCTION_INFO_V1(wfproc_set_timer);
PG_FUNCTION_INFO_V1(wfproc_cancel_timer);
PG_FUNCTION_INFO_V1(wfproc_set_attributes);
PG_FUNCTION_INFO_V1(wfproc_reply);
PG_FUNCTION_INFO_V1(wfproc_monitor);
PG_FUNCTION_INFO_V1(wfproc_demonitor);
PG_FUNCTION_INFO_V1(wfproc_defer_cancel);
PG_FUNCTION_INFO_V1(wfproc_complete);
PG_FUNCTION_INFO_V1(wfproc_fail);
PG_FUNCTION_INFO_V1(wfproc_reject);
PG_FUNCTION_INFO_V1(wfproc_postpone);

/* the SQL function of each kind */
static const char *const names[] = {
	[WF_ACTION_SEND] = "send",
	[WF_ACTION_START] = "start",
	[WF_ACTION_SET_TIMER] = "set_timer",
	[WF_ACTION_CANCEL_TIMER] = "cancel_timer",
	[WF_ACTION_SET_ATTRIBUTES] = "set_attributes",
	[WF_ACTION_REPLY] = "reply",
	[WF_ACTION_MONITOR] = "monitor",
	[WF_ACTION_DEMONITOR] = "demonitor",
	[WF_ACTION_CANCEL] = "cancel",
	[WF_ACTION_TERMINATE] = "terminate",
	[WF_ACTION_DEFER_CANCEL] = "defer_cancel",
	[WF_ACTION_COMPLETE] = "complete",
	[WF_ACTION_FAIL] = "fail",
	[WF_ACTION_REJECT] = "reject",
	[WF_ACTION_POSTPONE] = "postpone"
};

#define IS_FINAL(kind) ((kind) >= WF_ACTION_COMPLETE)

/*
 * A subtransaction of the handler's has ended: its actions become its parent's, or are taken back.
 */
static void
at_subtransaction_end(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	int			level = GetCurrentTransactionNestLevel();

	if (MyWfStep == NULL || (event != SUBXACT_EVENT_ABORT_SUB && event != SUBXACT_EVENT_COMMIT_SUB))
		return;
	for (int i = list_length(MyWfStep->actions) - 1; i >= 0; i--)
	{
		WfAction   *action = list_nth(MyWfStep->actions, i);

		if (action->nesting < level)
			break;
		if (event == SUBXACT_EVENT_COMMIT_SUB)
			action->nesting = level - 1;
		else
			MyWfStep->actions = list_truncate(MyWfStep->actions, i);
	}
}

/*
 * Registers the callback; once per process.
 */
void
wf_action_init(void)
{
	RegisterSubXactCallback(at_subtransaction_end, NULL);
}

/*
 * The last action of a step, or NULL: where any closes it, it is that.
 */
const WfAction *
wf_action_last(const List *actions)
{
	return actions == NIL ? NULL : llast(actions);
}

/*
 * A migrate function has no event to answer, nor to put off, and an upgrade is no end.
 */
static void
check_migrating(const WfStep *step, WfActionKind kind)
{
	if (WF_IS_ENGINE_EVENT(step->event->name) &&
		(IS_FINAL(kind) || kind == WF_ACTION_REPLY || kind == WF_ACTION_DEFER_CANCEL))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s() was called in a migrate function", names[kind]),
				 errhint("It belongs to an event: send() one to self(), which the new version's handler handles.")));
}

/*
 * The step that asks for an action, where it may ask for one more.
 */
static WfStep *
begin(WfActionKind kind)
{
	WfStep	   *step = wf_step_acting(names[kind]);
	const WfAction *last = wf_action_last(step->actions);

	check_migrating(step, kind);
	if (last != NULL && IS_FINAL(last->kind))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s() was called after %s() in the same step", names[kind], names[last->kind]),
				 errhint("%s() says how the step ends: call it once, and last.", names[last->kind])));
	if (!step->replaying && list_length(step->actions) >= wf_max_actions)
	{
		step->overrun = MemoryContextStrdup(step->memory,
											psprintf("a step may ask for %d actions at most", wf_max_actions));
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("%s", step->overrun),
				 errhint("Do the rest in a later step, after an event that this one sends to itself; the limit is wfproc.max_actions.")));
	}
	return step;
}

/*
 * Notes an action whose arguments have been checked.
 */
static WfAction *
note(WfStep *step, WfActionKind kind)
{
	MemoryContext old = MemoryContextSwitchTo(step->memory);
	WfAction   *action = palloc0(sizeof(WfAction));

	action->kind = kind;
	action->at = action->live_from = WF_NO_STAMP;
	action->nesting = GetCurrentTransactionNestLevel();
	step->actions = lappend(step->actions, action);
	MemoryContextSwitchTo(old);
	return action;
}

static char *
keep_string(const WfStep *step, const char *string)
{
	return string == NULL ? NULL : MemoryContextStrdup(step->memory, string);
}

static Jsonb *
keep_jsonb(const WfStep *step, Jsonb *value)
{
	return value == NULL ? NULL : memcpy(MemoryContextAlloc(step->memory, VARSIZE(value)), value, VARSIZE(value));
}

/*
 * Refuses a value that is too large, for good: see overrun.
 */
static void
check_size(WfStep *step, Jsonb *value, const char *argument)
{
	PG_TRY();
	{
		wf_check_size(value, wf_max_payload, argument, "wfproc.max_payload");
	}
	PG_CATCH();
	{
		MemoryContext old = MemoryContextSwitchTo(step->memory);

		step->overrun = CopyErrorData()->message;
		MemoryContextSwitchTo(old);
		PG_RE_THROW();
	}
	PG_END_TRY();
}

/*
 * A jsonb argument within wfproc.max_payload; NULL for SQL NULL.
 */
static Jsonb *
get_jsonb(FunctionCallInfo fcinfo, int argno, const char *argument, WfStep *step)
{
	Jsonb	   *value;

	if (PG_ARGISNULL(argno))
		return NULL;
	value = PG_GETARG_JSONB_P(argno);
	if (!step->replaying)
		check_size(step, value, argument);
	return value;
}

/*
 * The same; SQL NULL is {}.
 */
static Jsonb *
get_payload(FunctionCallInfo fcinfo, int argno, const char *argument, WfStep *step)
{
	Jsonb	   *value = get_jsonb(fcinfo, argno, argument, step);

	return value != NULL ? value : wf_check_empty_object();
}

static Jsonb *
get_attributes(FunctionCallInfo fcinfo, int argno, WfStep *step)
{
	Jsonb	   *value = get_payload(fcinfo, argno, "attributes", step);

	if (!JB_ROOT_IS_OBJECT(value))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("attributes must be a JSON object"),
				 errhint("For example {\"customer\": 7}.")));
	return value;
}

/*
 * A finite stamp, or WF_NO_STAMP for SQL NULL.
 */
static TimestampTz
get_stamp(FunctionCallInfo fcinfo, int argno, const char *argument)
{
	if (PG_ARGISNULL(argno))
		return WF_NO_STAMP;
	wf_clock_check_finite(PG_GETARG_TIMESTAMPTZ(argno), argument);
	return PG_GETARG_TIMESTAMPTZ(argno);
}

/*
 * send(id, event, payload, at, idempotency_key, or_start) in a handler.
 */
void
wf_action_send(FunctionCallInfo fcinfo)
{
	WfStep	   *step = begin(WF_ACTION_SEND);
	char	   *id = wf_check_name(fcinfo, 0, "id");
	char	   *event = wf_check_name(fcinfo, 1, "event");
	Jsonb	   *payload = get_payload(fcinfo, 2, "payload", step);
	TimestampTz at = get_stamp(fcinfo, 3, "at");
	char	   *key = wf_check_optional_name(fcinfo, 4, "idempotency_key");
	char	   *or_start = wf_check_optional_name(fcinfo, 5, "or_start");
	WfAction   *action;

	wf_check_event_name(event, true);
	action = note(step, WF_ACTION_SEND);
	action->id = keep_string(step, id);
	action->name = keep_string(step, event);
	action->json = keep_jsonb(step, payload);
	action->at = at;
	action->key = keep_string(step, key);
	action->or_start = keep_string(step, or_start);
}

/*
 * if_exists and on_parent_close: true where the value is another than the default.
 */
static bool
get_if_exists(FunctionCallInfo fcinfo, int argno)
{
	char	   *value;

	wf_check_not_null(fcinfo, argno, "if_exists");
	value = text_to_cstring(PG_GETARG_TEXT_PP(argno));
	if (strcmp(value, "ignore") != 0 && strcmp(value, "error") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("if_exists must be error or ignore, got \"%s\"", value),
				 errhint("ignore leaves the instance that is there as it is; in a handler, error makes the event child.failed.")));
	return strcmp(value, "ignore") == 0;
}

static char *
get_on_parent_close(FunctionCallInfo fcinfo, int argno)
{
	char	   *value;
	bool		none;
	WfLinkKind	kind;

	wf_check_not_null(fcinfo, argno, "on_parent_close");
	value = text_to_cstring(PG_GETARG_TEXT_PP(argno));
	if (!wf_link_parse_on_close(value, &none, &kind))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("on_parent_close must be leave, cancel or terminate, got \"%s\"", value),
				 errhint("It is what happens to the child when this instance closes.")));
	return none ? NULL : value;
}

static int
get_version(FunctionCallInfo fcinfo, int argno)
{
	if (PG_ARGISNULL(argno))
		return 0;
	if (PG_GETARG_INT32(argno) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"version\" must be positive, got %d", PG_GETARG_INT32(argno)),
				 errhint("Leave it out for the current one.")));
	return PG_GETARG_INT32(argno);
}

/*
 * start(workflow, id, input, at, version, attributes, live_from, if_exists, on_parent_close) in a handler.  Returns the
 * child's id.
 */
char *
wf_action_start(FunctionCallInfo fcinfo)
{
	WfStep	   *step = begin(WF_ACTION_START);
	char	   *workflow = wf_check_name(fcinfo, 0, "workflow");
	char	   *id = wf_check_new_id(fcinfo, 1);
	Jsonb	   *input = get_payload(fcinfo, 2, "input", step);
	TimestampTz at = get_stamp(fcinfo, 3, "at");
	int			version = get_version(fcinfo, 4);
	Jsonb	   *attributes = get_attributes(fcinfo, 5, step);
	bool		ignore_existing = get_if_exists(fcinfo, 7);
	char	   *on_parent_close = get_on_parent_close(fcinfo, 8);
	WfAction   *action = note(step, WF_ACTION_START);

	action->name = keep_string(step, workflow);
	action->id_generated = id == NULL;
	action->id = keep_string(step, id != NULL ? id : wf_step_draw_uuid("start"));
	action->json = keep_jsonb(step, input);
	action->at = at;
	action->version = version;
	action->attributes = keep_jsonb(step, attributes);
	/* infinite is meant here: everything acts, or nothing */
	action->live_from = PG_ARGISNULL(6) ? WF_NO_STAMP : PG_GETARG_TIMESTAMPTZ(6);
	action->ignore_existing = ignore_existing;
	action->on_parent_close = keep_string(step, on_parent_close);
	return action->id;
}

static void
note_with_reason(FunctionCallInfo fcinfo, WfActionKind kind, int argno)
{
	WfStep	   *step = begin(kind);
	char	   *id = wf_check_name(fcinfo, 0, "id");
	char	   *reason = wf_check_reason(fcinfo, argno);
	WfAction   *action = note(step, kind);

	action->id = keep_string(step, id);
	action->reason = keep_string(step, reason);
}

/*
 * The argument deadline, or -1 for SQL NULL.
 */
static int64
get_deadline(FunctionCallInfo fcinfo, int argno)
{
	return PG_ARGISNULL(argno) ? -1 : wf_check_delay(fcinfo, argno, "deadline");
}

/*
 * cancel(id, reason, deadline) in a handler.
 */
void
wf_action_cancel(FunctionCallInfo fcinfo)
{
	int64		deadline_us = get_deadline(fcinfo, 2);

	note_with_reason(fcinfo, WF_ACTION_CANCEL, 1);
	((WfAction *) llast(MyWfStep->actions))->deadline_us = deadline_us;
}

/*
 * terminate(id, reason) in a handler.
 */
void
wf_action_terminate(FunctionCallInfo fcinfo)
{
	note_with_reason(fcinfo, WF_ACTION_TERMINATE, 1);
}

/*
 * When a timer is to fire: after or at, exactly one of them.
 */
static TimestampTz
get_timer_stamp(FunctionCallInfo fcinfo, const WfStep *step)
{
	TimestampTz at;

	if (PG_ARGISNULL(1) == PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("set_timer() takes either after or at"),
				 errhint("For example set_timer('reminder', after => '3 days').")));
	if (PG_ARGISNULL(1))
		at = PG_GETARG_TIMESTAMPTZ(2);
	else
		at = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval, TimestampTzGetDatum(step->now),
													 PG_GETARG_DATUM(1)));
	wf_clock_check_finite(at, PG_ARGISNULL(1) ? "at" : "after");
	return at;
}

/*
 * set_timer(name, after, at, payload, until_state_changes)
 */
Datum
wfproc_set_timer(PG_FUNCTION_ARGS)
{
	WfStep	   *step = begin(WF_ACTION_SET_TIMER);
	char	   *name = wf_check_name(fcinfo, 0, "name");
	TimestampTz at = get_timer_stamp(fcinfo, step);
	Jsonb	   *payload = get_payload(fcinfo, 3, "payload", step);
	char	   *state_key = wf_check_optional_name(fcinfo, 4, "until_state_changes");
	WfAction   *action;

	wf_check_event_name(name, true);
	action = note(step, WF_ACTION_SET_TIMER);
	action->name = keep_string(step, name);
	action->at = at;
	action->json = keep_jsonb(step, payload);
	action->state_key = keep_string(step, state_key);
	PG_RETURN_VOID();
}

Datum
wfproc_cancel_timer(PG_FUNCTION_ARGS)
{
	WfStep	   *step = begin(WF_ACTION_CANCEL_TIMER);
	char	   *name = wf_check_name(fcinfo, 0, "name");

	note(step, WF_ACTION_CANCEL_TIMER)->name = keep_string(step, name);
	PG_RETURN_VOID();
}

/*
 * Refuses attributes that would be too large with those that are there: each change may be small, and there are many.
 */
static void
check_all_attributes(WfStep *step, Jsonb *changes)
{
	Jsonb	   *all = step->instance->attributes;
	ListCell   *lc;

	if (all == NULL)
		all = wf_check_empty_object();
	foreach(lc, step->actions)
	{
		const WfAction *action = lfirst(lc);

		if (action->kind == WF_ACTION_SET_ATTRIBUTES)
			all = wf_attributes_merge(all, action->json);
	}
	check_size(step, wf_attributes_merge(all, changes), "the set of attributes");
}

Datum
wfproc_set_attributes(PG_FUNCTION_ARGS)
{
	WfStep	   *step = begin(WF_ACTION_SET_ATTRIBUTES);
	Jsonb	   *attributes;

	wf_check_not_null(fcinfo, 0, "attributes");
	attributes = get_attributes(fcinfo, 0, step);
	if (!step->replaying)
		check_all_attributes(step, attributes);
	note(step, WF_ACTION_SET_ATTRIBUTES)->json = keep_jsonb(step, attributes);
	PG_RETURN_VOID();
}

/*
 * reply(reply): once a step, for there is one place in the log for it.
 */
Datum
wfproc_reply(PG_FUNCTION_ARGS)
{
	WfStep	   *step = begin(WF_ACTION_REPLY);
	Jsonb	   *reply = get_payload(fcinfo, 0, "reply", step);
	ListCell   *lc;

	foreach(lc, step->actions)
		if (((WfAction *) lfirst(lc))->kind == WF_ACTION_REPLY)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("reply() was called twice in the same step"),
				 errhint("An event has one answer; send() sends more.")));
	note(step, WF_ACTION_REPLY)->json = keep_jsonb(step, reply);
	PG_RETURN_VOID();
}

static Datum
note_monitor(FunctionCallInfo fcinfo, WfActionKind kind)
{
	WfStep	   *step = begin(kind);
	char	   *id = wf_check_name(fcinfo, 0, "id");

	note(step, kind)->id = keep_string(step, id);
	PG_RETURN_VOID();
}

Datum
wfproc_monitor(PG_FUNCTION_ARGS)
{
	return note_monitor(fcinfo, WF_ACTION_MONITOR);
}

Datum
wfproc_demonitor(PG_FUNCTION_ARGS)
{
	return note_monitor(fcinfo, WF_ACTION_DEMONITOR);
}

/*
 * defer_cancel(deadline)
 */
Datum
wfproc_defer_cancel(PG_FUNCTION_ARGS)
{
	WfStep	   *step = begin(WF_ACTION_DEFER_CANCEL);
	int64		deadline_us = get_deadline(fcinfo, 0);

	if (strcmp(step->event->name, "cancel") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("defer_cancel() was called for the event \"%s\"", step->event->name),
				 errhint("It is for the event cancel.")));
	note(step, WF_ACTION_DEFER_CANCEL)->deadline_us = deadline_us;
	PG_RETURN_VOID();
}

Datum
wfproc_complete(PG_FUNCTION_ARGS)
{
	WfStep	   *step = begin(WF_ACTION_COMPLETE);
	Jsonb	   *result = get_jsonb(fcinfo, 0, "result", step);

	note(step, WF_ACTION_COMPLETE)->json = keep_jsonb(step, result);
	PG_RETURN_VOID();
}

static Datum
note_end(FunctionCallInfo fcinfo, WfActionKind kind)
{
	WfStep	   *step = begin(kind);
	char	   *reason;

	wf_check_not_null(fcinfo, 0, "reason");
	reason = wf_check_reason(fcinfo, 0);
	note(step, kind)->reason = keep_string(step, reason);
	PG_RETURN_VOID();
}

Datum
wfproc_fail(PG_FUNCTION_ARGS)
{
	return note_end(fcinfo, WF_ACTION_FAIL);
}

Datum
wfproc_reject(PG_FUNCTION_ARGS)
{
	return note_end(fcinfo, WF_ACTION_REJECT);
}

/*
 * postpone().  start cannot wait for anything.
 */
Datum
wfproc_postpone(PG_FUNCTION_ARGS)
{
	WfStep	   *step = begin(WF_ACTION_POSTPONE);

	if (strcmp(step->event->name, "start") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the event start cannot be postponed"),
				 errhint("It is the first event: nothing would come before it.")));
	(void) note(step, WF_ACTION_POSTPONE);
	PG_RETURN_VOID();
}

/*
 * Nothing where there is none.
 */
static void
push_stamp(JsonbParseState **parse, const char *key, TimestampTz at)
{
	if (at != WF_NO_STAMP)
		wf_object_stamp(parse, key, at);
}

static void
push_start(JsonbParseState **parse, const WfAction *action)
{
	wf_object_text(parse, "workflow", action->name);
	wf_object_text(parse, "id", action->id_generated ? NULL : action->id);
	wf_object_jsonb(parse, "input", action->json);
	push_stamp(parse, "at", action->at);
	if (action->version != 0)
		wf_object_text(parse, "version", psprintf("%d", action->version));
	if (JB_ROOT_COUNT(action->attributes) > 0)
		wf_object_jsonb(parse, "attributes", action->attributes);
	push_stamp(parse, "live_from", action->live_from);
	if (action->ignore_existing)
		wf_object_text(parse, "if_exists", "ignore");
	wf_object_optional(parse, "on_parent_close", action->on_parent_close);
}

static void
push_deadline(JsonbParseState **parse, const WfAction *action)
{
	if (action->deadline_us >= 0)
		wf_object_text(parse, "deadline", psprintf("%.6f s", action->deadline_us / 1e6));
}

/*
 * What an action has besides its name.
 */
static void
push_fields(JsonbParseState **parse, const WfAction *action)
{
	switch (action->kind)
	{
		case WF_ACTION_SEND:
			wf_object_text(parse, "id", action->id);
			wf_object_text(parse, "event", action->name);
			wf_object_jsonb(parse, "payload", action->json);
			push_stamp(parse, "at", action->at);
			wf_object_optional(parse, "idempotency_key", action->key);
			wf_object_optional(parse, "or_start", action->or_start);
			break;
		case WF_ACTION_START:
			push_start(parse, action);
			break;
		case WF_ACTION_SET_TIMER:
			wf_object_text(parse, "name", action->name);
			push_stamp(parse, "at", action->at);
			wf_object_jsonb(parse, "payload", action->json);
			wf_object_optional(parse, "until_state_changes", action->state_key);
			break;
		case WF_ACTION_CANCEL_TIMER:
			wf_object_text(parse, "name", action->name);
			break;
		case WF_ACTION_SET_ATTRIBUTES:
			wf_object_jsonb(parse, "attributes", action->json);
			break;
		case WF_ACTION_REPLY:
			wf_object_jsonb(parse, "reply", action->json);
			break;
		case WF_ACTION_MONITOR:
		case WF_ACTION_DEMONITOR:
			wf_object_text(parse, "id", action->id);
			break;
		case WF_ACTION_CANCEL:
		case WF_ACTION_TERMINATE:
			wf_object_text(parse, "id", action->id);
			wf_object_optional(parse, "reason", action->reason);
			if (action->kind == WF_ACTION_CANCEL)
				push_deadline(parse, action);
			break;
		case WF_ACTION_COMPLETE:
			wf_object_jsonb(parse, "result", action->json);
			break;
		case WF_ACTION_FAIL:
		case WF_ACTION_REJECT:
			wf_object_text(parse, "reason", action->reason);
			break;
		case WF_ACTION_DEFER_CANCEL:
			push_deadline(parse, action);
			break;
		case WF_ACTION_POSTPONE:
			break;
	}
}

/*
 * Actions in the order in which they were asked for: [{"action": "complete", "result": ...}, ...].
 */
Jsonb *
wf_action_as_jsonb(const List *actions)
{
	JsonbParseState *parse = NULL;
	ListCell   *lc;

	pushJsonbValue(&parse, WJB_BEGIN_ARRAY, NULL);
	foreach(lc, actions)
	{
		const WfAction *action = lfirst(lc);

		/* an array's element is pushed like a value of its own */
		pushJsonbValue(&parse, WJB_BEGIN_OBJECT, NULL);
		wf_object_text(&parse, "action", names[action->kind]);
		push_fields(&parse, action);
		pushJsonbValue(&parse, WJB_END_OBJECT, NULL);
	}
	return JsonbValueToJsonb(pushJsonbValue(&parse, WJB_END_ARRAY, NULL));
}
