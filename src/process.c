/*
 * process.c: the fold, (state, event) -> (state', actions): one event through a handler, and the digest of what came of it.
 *
 * Called by turn.c, which then writes it down and acts, and by replay.c, which compares.  Nothing here reads a clock, a
 * table or shared memory: the same fold, event and code give the same result.
 */
#include "postgres.h"

#include "utils/fmgrprotos.h"

#include "check.h"
#include "handler.h"
#include "object.h"
#include "process.h"
#include "step.h"

/*
 * The fold of an empty log, but for the hash, which is the log's affair.
 */
void
wf_process_init_fold(WfFold *fold, int version)
{
	memset(fold, 0, sizeof(WfFold));
	fold->clock = DT_NOBEGIN;
	fold->version = version;
	fold->state = wf_check_empty_object();
}

/*
 * First 8 bytes of the SHA-256 of the state's and the actions' text, joined by chr(31).
 */
int64
wf_process_digest(Jsonb *state, const List *actions)
{
	Jsonb	   *as_jsonb = actions == NIL ? NULL : wf_action_as_jsonb(actions);
	StringInfo	buf = wf_hash_buffer();
	uint8		sha256[WF_SHA256_LEN];
	uint64		digest = 0;
	WfBytes		part;

	wf_hash_append_jsonb(buf, state);
	appendStringInfoChar(buf, 0x1f);
	if (as_jsonb == NULL)
		appendStringInfoString(buf, "[]");
	else
		wf_hash_append_jsonb(buf, as_jsonb);
	part.data = buf->data;
	part.len = buf->len;
	wf_hash_sha256(&part, 1, sha256);
	wf_hash_buffer_done();
	for (int i = 0; i < 8; i++)
		digest = digest << 8 | sha256[i];
	return (int64) digest;
}

/*
 * The version that a $upgrade names; 0: none.
 */
int
wf_process_upgrade_to(const WfEvent *event)
{
	Jsonb	   *value = wf_object_get(event->payload, "version");
	JsonbValue	number;

	if (value == NULL || !JB_ROOT_IS_SCALAR(value) || !JsonbExtractScalar(&value->root, &number) || number.type != jbvNumeric)
		return 0;
	return DatumGetInt32(DirectFunctionCall1(numeric_int4, NumericGetDatum(number.val.numeric)));
}

/*
 * The state that an $accept says is the one from here on; NULL: it is none, or its payload was erased.
 */
Jsonb *
wf_process_accepted_state(const WfEvent *event)
{
	Jsonb	   *state = strcmp(event->name, "$accept") == 0 ? wf_object_get(event->payload, "state") : NULL;

	return state != NULL && JB_ROOT_IS_OBJECT(state) ? state : NULL;
}

/*
 * Why a version cannot be run, for users.
 */
char *
wf_process_problem(const WfWorkflow *workflow, const WfVersion *version)
{
	return psprintf("version %d of workflow \"%s\" cannot be run: %s", version->version, workflow->name, version->problem);
}

/*
 * The version that an upgrade comes to next: on the way up one after the other, unless a later one takes states of this one;
 * on the way down there is but one step.
 */
int
wf_process_next_on_way(WfWorkflow *workflow, int from, int to)
{
	if (to <= from)
		return to;
	for (int number = to; number > from + 1; number--)
	{
		const WfVersion *version = wf_workflow_version_of_row(workflow, number);

		if (version->migrates_from != 0 && version->migrates_from <= from)
			return number;
	}
	return from + 1;
}

/*
 * A version on the way of an upgrade whose migrate function is needed and cannot be run; NULL: none.
 */
const WfVersion *
wf_process_blocked_by(WfWorkflow *workflow, int from, int to)
{
	while (from != to)
	{
		const WfVersion *version;

		from = wf_process_next_on_way(workflow, from, to);
		version = wf_workflow_version_of_row(workflow, from);
		if (version->has_migrate && version->problem != NULL)
			return version;
	}
	return NULL;
}

static ErrorData *
blocked_error(const WfWorkflow *workflow, const WfVersion *version)
{
	ErrorData  *error = palloc0(sizeof(ErrorData));

	error->sqlerrcode = version->problem_code;
	error->message = wf_process_problem(workflow, version);
	return error;
}

/*
 * The state under another version.  NULL with *error where a migrate function raises, or is not what was published: to go on
 * without it would make a state that no later replay comes to.
 */
static Jsonb *
migrate(WfWorkflow *workflow, WfStep *step, Jsonb *state, int from, int to, ErrorData **error)
{
	int			last = from;
	int			number = from;
	const WfVersion *blocked = wf_process_blocked_by(workflow, from, to);

	*error = blocked == NULL ? NULL : blocked_error(workflow, blocked);
	if (blocked != NULL)
		return NULL;
	while (number != to && state != NULL)
	{
		WfVersion  *version;

		number = wf_process_next_on_way(workflow, number, to);
		version = wf_workflow_version_of_row(workflow, number);
		if (version->has_migrate)
		{
			state = wf_handler_migrate(workflow, version, step, state, last, number, error);
			last = number;
		}
	}
	return state;
}

/*
 * An event of the engine's own: numbered, hashed and timed like any other; no handler sees it.  What migrate functions ask
 * for is the step's.
 */
static WfStepEnd
engine_step(WfWorkflow *workflow, WfStep *step, const WfFold *before, WfFold *after, ErrorData **error)
{
	Jsonb	   *accepted = wf_process_accepted_state(step->event);
	int			version;

	*after = *before;
	after->seq = step->seq;
	after->clock = step->now;
	if (accepted != NULL)
	{
		after->state = accepted;
		/* whatever a fold had before */
		after->changed_seq = after->seq;
	}
	if (strcmp(step->event->name, "$upgrade") != 0)
		return WF_STEP_DONE;
	version = wf_process_upgrade_to(step->event);
	if (version == 0 || version == before->version)
		return WF_STEP_DONE;
	after->state = migrate(workflow, step, before->state, before->version, version, error);
	after->version = version;
	return after->state != NULL ? WF_STEP_DONE : WF_STEP_FAILED;
}

/*
 * Whether two states are the same; jsonb has one form for each value, but for the scale of numbers.
 */
bool
wf_process_same_state(const Jsonb *a, const Jsonb *b)
{
	return a == b || (VARSIZE(a) == VARSIZE(b) && memcmp(a, b, VARSIZE(a)) == 0);
}

/*
 * Other code may take what was postponed, too.
 */
static void
note_change(const WfFold *before, WfFold *after)
{
	if (before->version != after->version || !wf_process_same_state(before->state, after->state))
		after->changed_seq = after->seq;
}

/*
 * A timer that is to last until a key of the state changes, of which the step has neither met nor made one; NULL: none.
 */
static const WfAction *
find_keyless(const List *actions, Jsonb *before, Jsonb *after)
{
	ListCell   *lc;

	foreach(lc, actions)
	{
		const WfAction *action = lfirst(lc);

		if (action->kind == WF_ACTION_SET_TIMER && action->state_key != NULL &&
			wf_object_get(before, action->state_key) == NULL && wf_object_get(after, action->state_key) == NULL)
			return action;
	}
	return NULL;
}

static ErrorData *
keyless_error(const WfAction *action)
{
	ErrorData  *error = palloc0(sizeof(ErrorData));

	error->elevel = ERROR;
	error->sqlerrcode = ERRCODE_INVALID_PARAMETER_VALUE;
	error->message = psprintf("timer \"%s\" is to last until \"%s\" changes, and the state has no such key", action->name,
							  action->state_key);
	error->hint = "until_state_changes names a key that the state has before the step or after it: one that is to come later can be null until then.";
	return error;
}

/*
 * One step.  Fills *after (but for its hash, which covers the time at which the row is written), *actions and *digest, in
 * the current memory context.  *error is set where the handler raised.  replaying: an event of the log is handled again.
 * Called within a stretch of handler.h.
 */
WfStepEnd
wf_process_step(WfWorkflow *workflow, WfVersion *version, const WfInstance *instance, const WfFold *before,
				const WfEvent *event, bool replaying, WfFold *after, List **actions, int64 *digest, ErrorData **error)
{
	WfStep		step = {0};
	const WfAction *last;
	const WfAction *keyless;
	Jsonb	   *state;

	step.instance = instance;
	step.seq = before->seq + 1;
	step.now = Max(before->clock, event->at);
	step.event = event;
	/* a copied log keeps what its rows were where they were made */
	step.live = replaying ? event->live : step.now >= instance->live_from;
	step.replaying = replaying;
	step.memory = CurrentMemoryContext;
	if (WF_IS_ENGINE_EVENT(event->name))
	{
		if (engine_step(workflow, &step, before, after, error) == WF_STEP_FAILED)
			return WF_STEP_FAILED;
		note_change(before, after);
		/* those of migrate functions */
		*actions = step.actions;
		*digest = wf_process_digest(after->state, *actions);
		return WF_STEP_DONE;
	}
	state = wf_handler_call(workflow, version, &step, before->state, error);
	if (state == NULL)
		return WF_STEP_FAILED;

	*actions = step.actions;
	last = wf_action_last(step.actions);
	/* these leave nothing of what was asked for before */
	if (last != NULL && (last->kind == WF_ACTION_REJECT || last->kind == WF_ACTION_POSTPONE))
		*actions = list_make1(unconstify(WfAction *, last));
	keyless = find_keyless(*actions, before->state, state);
	if (keyless != NULL)
	{
		*error = keyless_error(keyless);
		return WF_STEP_FAILED;
	}
	*after = *before;
	if (last != NULL && last->kind == WF_ACTION_POSTPONE)
		return WF_STEP_POSTPONED;
	after->seq = step.seq;
	after->clock = step.now;
	after->started = true;
	if (last == NULL || last->kind != WF_ACTION_REJECT)
		after->state = state;
	note_change(before, after);
	*digest = wf_process_digest(after->state, *actions);
	return WF_STEP_DONE;
}
