/*
 * action.c: what a handler may ask and ask for while it runs.
 *
 * The SQL functions here are called by handlers, inside the call that handler.c makes.  An action does nothing but add
 * itself to the step's list; process.c hashes the list and turn.c carries it out.  What a step draws at random is computed
 * from the instance and the seq, so that a replay draws the same.
 */
#include "postgres.h"

#include "fmgr.h"
#include "optimizer/planner.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "action.h"
#include "check.h"
#include "guc.h"
#include "handler.h"

WfStep	   *MyWfStep = NULL;

/* planner calls on the stack since the step began */
static int	planner_depth = 0;
static planner_hook_type next_planner_hook = NULL;

PG_FUNCTION_INFO_V1(wfproc_self);
PG_FUNCTION_INFO_V1(wfproc_now);
PG_FUNCTION_INFO_V1(wfproc_event_at);
PG_FUNCTION_INFO_V1(wfproc_seq);
PG_FUNCTION_INFO_V1(wfproc_sender);
PG_FUNCTION_INFO_V1(wfproc_random);
PG_FUNCTION_INFO_V1(wfproc_uuid);
PG_FUNCTION_INFO_V1(wfproc_complete);
PG_FUNCTION_INFO_V1(wfproc_fail);
PG_FUNCTION_INFO_V1(wfproc_reject);

/*
 * Counts how deep in planning we are: see wf_action_step().
 */
static PlannedStmt *
count_planner_depth(Query *parse, const char *query_string, int cursor_options, ParamListInfo params)
{
	PlannedStmt *result;

	planner_depth++;
	PG_TRY();
	{
		if (next_planner_hook)
			result = next_planner_hook(parse, query_string, cursor_options, params);
		else
			result = standard_planner(parse, query_string, cursor_options, params);
	}
	PG_FINALLY();
	{
		planner_depth--;
	}
	PG_END_TRY();
	return result;
}

void
wf_action_init(void)
{
	next_planner_hook = planner_hook;
	planner_hook = count_planner_depth;
}

/*
 * Makes a step the current one, with planning counted from here, and returns what to hand to wf_action_leave().
 */
int
wf_action_enter(WfStep *step)
{
	int			saved_depth = planner_depth;

	MyWfStep = step;
	planner_depth = 0;
	return saved_depth;
}

void
wf_action_leave(int saved_depth)
{
	MyWfStep = NULL;
	planner_depth = saved_depth;
}

/*
 * The step that the calling SQL function is in.
 */
static WfStep *
current_step(const char *function)
{
	if (MyWfStep == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s() belongs in a handler", function),
				 errhint("It is for the function that was given to wfproc.define(), while it handles an event.")));
	return MyWfStep;
}

/*
 * The same for a function whose call must be counted.  A helper that is declared IMMUTABLE is called when its caller is
 * planned, and then never again: what it asks for would be lost in all later steps, so that is an error.
 */
WfStep *
wf_action_step(const char *function)
{
	WfStep	   *step = current_step(function);

	if (planner_depth > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s() was called while a plan was being made", function),
				 errdetail("The server computes IMMUTABLE functions with constant arguments once, when it plans."),
				 errhint("Declare the helper function that calls it VOLATILE.")));
	return step;
}

static WfAction *
note(WfStep *step, WfActionKind kind)
{
	MemoryContext old = MemoryContextSwitchTo(step->memory);
	WfAction   *action = palloc0(sizeof(WfAction));

	action->kind = kind;
	step->actions = lappend(step->actions, action);
	MemoryContextSwitchTo(old);
	return action;
}

/*
 * The last action of a kind, or NULL.
 */
const WfAction *
wf_action_find(const List *actions, WfActionKind kind)
{
	const WfAction *found = NULL;
	ListCell   *lc;

	foreach(lc, actions)
	{
		const WfAction *action = lfirst(lc);

		if (action->kind == kind)
			found = action;
	}
	return found;
}

static void
push_string(JsonbParseState **parse, JsonbIteratorToken token, const char *string)
{
	JsonbValue	value;

	value.type = jbvString;
	value.val.string.val = unconstify(char *, string);
	value.val.string.len = strlen(string);
	pushJsonbValue(parse, token, &value);
}

static void
push_jsonb(JsonbParseState **parse, Jsonb *jsonb)
{
	JsonbValue	value;

	if (jsonb != NULL && JB_ROOT_IS_SCALAR(jsonb))
		JsonbExtractScalar(&jsonb->root, &value);
	else if (jsonb != NULL)
	{
		value.type = jbvBinary;
		value.val.binary.data = &jsonb->root;
		value.val.binary.len = VARSIZE(jsonb) - VARHDRSZ;
	}
	else
		value.type = jbvNull;
	pushJsonbValue(parse, WJB_VALUE, &value);
}

static void
push_action(JsonbParseState **parse, const WfAction *action)
{
	static const char *const names[] = {"complete", "fail", "reject"};

	pushJsonbValue(parse, WJB_BEGIN_OBJECT, NULL);
	push_string(parse, WJB_KEY, "action");
	push_string(parse, WJB_VALUE, names[action->kind]);
	if (action->kind == WF_ACTION_COMPLETE)
	{
		push_string(parse, WJB_KEY, "result");
		push_jsonb(parse, action->result);
	}
	else
	{
		push_string(parse, WJB_KEY, "reason");
		push_string(parse, WJB_VALUE, action->reason);
	}
	pushJsonbValue(parse, WJB_END_OBJECT, NULL);
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
		/* an array's element is pushed like a value of its own */
		push_action(&parse, lfirst(lc));
	}
	return JsonbValueToJsonb(pushJsonbValue(&parse, WJB_END_ARRAY, NULL));
}

Datum
wfproc_self(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(current_step("self")->id));
}

Datum
wfproc_now(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(current_step("now")->now);
}

Datum
wfproc_event_at(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(current_step("event_at")->event->at);
}

Datum
wfproc_seq(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(current_step("seq")->seq);
}

Datum
wfproc_sender(PG_FUNCTION_ARGS)
{
	const char *sender = current_step("sender")->event->sender;

	if (sender == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(sender));
}

/*
 * The next 32 bytes that this step draws.
 */
static void
draw(const char *function, uint8 *bytes)
{
	WfStep	   *step = wf_action_step(function);
	char	   *seed = psprintf("wfproc/random%c%s%c" INT64_FORMAT "%c%d", 0x1f, step->id, 0x1f, step->seq, 0x1f,
								step->draws++);
	WfBytes		part = {seed, strlen(seed)};

	wf_hash_sha256(&part, 1, bytes);
}

Datum
wfproc_random(PG_FUNCTION_ARGS)
{
	uint8		bytes[WF_SHA256_LEN];
	uint64		bits = 0;

	draw("random", bytes);
	for (int i = 0; i < 8; i++)
		bits = bits << 8 | bytes[i];
	/* the 53 bits that a double holds exactly */
	PG_RETURN_FLOAT8((double) (bits >> 11) / (double) (UINT64CONST(1) << 53));
}

Datum
wfproc_uuid(PG_FUNCTION_ARGS)
{
	uint8		bytes[WF_SHA256_LEN];
	pg_uuid_t  *uuid = palloc(sizeof(pg_uuid_t));

	draw("uuid", bytes);
	memcpy(uuid->data, bytes, UUID_LEN);
	/* version 8 of RFC 9562: made by a rule of our own */
	uuid->data[6] = (uuid->data[6] & 0x0f) | 0x80;
	uuid->data[8] = (uuid->data[8] & 0x3f) | 0x80;
	PG_RETURN_UUID_P(uuid);
}

Datum
wfproc_complete(PG_FUNCTION_ARGS)
{
	WfStep	   *step = wf_action_step("complete");
	WfAction   *action = note(step, WF_ACTION_COMPLETE);

	if (!PG_ARGISNULL(0))
	{
		MemoryContext old = MemoryContextSwitchTo(step->memory);

		action->result = PG_GETARG_JSONB_P_COPY(0);
		MemoryContextSwitchTo(old);
		wf_check_size(action->result, wf_max_payload, "result", "wfproc.max_payload");
	}
	PG_RETURN_VOID();
}

static Datum
note_with_reason(FunctionCallInfo fcinfo, const char *function, WfActionKind kind)
{
	WfStep	   *step = wf_action_step(function);

	wf_check_not_null(fcinfo, 0, "reason");
	note(step, kind)->reason = MemoryContextStrdup(step->memory, text_to_cstring(PG_GETARG_TEXT_PP(0)));
	PG_RETURN_VOID();
}

Datum
wfproc_fail(PG_FUNCTION_ARGS)
{
	return note_with_reason(fcinfo, "fail", WF_ACTION_FAIL);
}

Datum
wfproc_reject(PG_FUNCTION_ARGS)
{
	return note_with_reason(fcinfo, "reject", WF_ACTION_REJECT);
}
