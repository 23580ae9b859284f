/*
 * step.c: the step under way: who it is, when, and what it draws at random.
 *
 * The SQL functions here are called by handlers, inside the call that handler.c makes.  What a step draws at random is
 * computed from the instance and the seq, so that a replay draws the same.
 */
#include "postgres.h"

#include "fmgr.h"
#include "optimizer/planner.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "hash.h"
#include "step.h"

WfStep	   *MyWfStep = NULL;

/* planner calls on the stack since the step began */
static int	planner_depth = 0;
static planner_hook_type next_planner_hook = NULL;

PG_FUNCTION_INFO_V1(wfproc_self);
PG_FUNCTION_INFO_V1(wfproc_parent);
PG_FUNCTION_INFO_V1(wfproc_now);
PG_FUNCTION_INFO_V1(wfproc_event_at);
PG_FUNCTION_INFO_V1(wfproc_seq);
PG_FUNCTION_INFO_V1(wfproc_live);
PG_FUNCTION_INFO_V1(wfproc_sender);
PG_FUNCTION_INFO_V1(wfproc_random);
PG_FUNCTION_INFO_V1(wfproc_uuid);

/*
 * Counts how deep in planning we are: see wf_step_acting().
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
wf_step_init(void)
{
	next_planner_hook = planner_hook;
	planner_hook = count_planner_depth;
}

/*
 * Makes a step the current one, with planning counted from here, and returns what to hand to wf_step_leave().
 */
int
wf_step_enter(WfStep *step)
{
	int			saved_depth = planner_depth;

	MyWfStep = step;
	planner_depth = 0;
	return saved_depth;
}

void
wf_step_leave(int saved_depth)
{
	MyWfStep = NULL;
	planner_depth = saved_depth;
}

/*
 * The step that the calling SQL function is in.
 */
WfStep *
wf_step_current(const char *function)
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
wf_step_acting(const char *function)
{
	WfStep	   *step = wf_step_current(function);

	if (planner_depth > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s() was called while a plan was being made", function),
				 errdetail("The server computes IMMUTABLE functions with constant arguments once, when it plans."),
				 errhint("Declare the helper function that calls it VOLATILE.")));
	return step;
}

Datum
wfproc_self(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(wf_step_current("self")->instance->id));
}

Datum
wfproc_parent(PG_FUNCTION_ARGS)
{
	const char *parent = wf_step_current("parent")->instance->parent;

	if (parent == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(parent));
}

Datum
wfproc_now(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(wf_step_current("now")->now);
}

Datum
wfproc_event_at(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(wf_step_current("event_at")->event->at);
}

Datum
wfproc_seq(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(wf_step_current("seq")->seq);
}

Datum
wfproc_live(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(wf_step_current("live")->live);
}

Datum
wfproc_sender(PG_FUNCTION_ARGS)
{
	const char *sender = wf_step_current("sender")->event->sender;

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
	WfStep	   *step = wf_step_acting(function);
	char	   *seed = psprintf("wfproc/random%c%s%c" INT64_FORMAT "%c%d", 0x1f, step->instance->id, 0x1f, step->seq, 0x1f,
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

static pg_uuid_t *
draw_uuid(const char *function)
{
	uint8		bytes[WF_SHA256_LEN];
	pg_uuid_t  *uuid = palloc(sizeof(pg_uuid_t));

	draw(function, bytes);
	memcpy(uuid->data, bytes, UUID_LEN);
	/* version 8 of RFC 9562: made by a rule of our own */
	uuid->data[6] = (uuid->data[6] & 0x0f) | 0x80;
	uuid->data[8] = (uuid->data[8] & 0x3f) | 0x80;
	return uuid;
}

Datum
wfproc_uuid(PG_FUNCTION_ARGS)
{
	PG_RETURN_UUID_P(draw_uuid("uuid"));
}

/*
 * A uuid as text, for what a handler leaves to be named.
 */
char *
wf_step_draw_uuid(const char *function)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(draw_uuid(function))));
}
