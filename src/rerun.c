/*
 * rerun.c: an instance that handles events in memory: what it would come to, and how it would end.
 *
 * Called by rehearse.c and outcomes.c within a stretch of handler.h.  It handles one event after the other by one version's
 * code, keeps aside what that postpones, and closes as draft.c would close it.  What concerns others is left out: nothing
 * is sent, no timer comes that is not given as an event.  Neither reads nor writes a table.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "check.h"
#include "errors.h"
#include "object.h"
#include "rerun.h"

/*
 * Begins with an empty log.  Everything is kept in the current memory context.
 */
void
wf_rerun_init(WfRerun *rerun, WfWorkflow *workflow, WfVersion *version, const WfInstance *instance)
{
	memset(rerun, 0, sizeof(WfRerun));
	rerun->workflow = workflow;
	rerun->version = version;
	rerun->instance = instance;
	wf_process_init_fold(&rerun->fold, version->version);
	rerun->memory = CurrentMemoryContext;
	for (int i = 0; i < 2; i++)
		rerun->step_memory[i] = AllocSetContextCreate(CurrentMemoryContext, "wfproc rerun", ALLOCSET_DEFAULT_SIZES);
}

static Jsonb *
keep_jsonb(WfRerun *rerun, const Jsonb *value)
{
	return value == NULL ? NULL : memcpy(MemoryContextAlloc(rerun->memory, VARSIZE(value)), value, VARSIZE(value));
}

/*
 * It has closed.
 */
void
wf_rerun_end(WfRerun *rerun, WfStatus status, Jsonb *result, const char *reason)
{
	rerun->ended = true;
	rerun->status = status;
	rerun->result = keep_jsonb(rerun, result);
	rerun->reason = reason == NULL ? NULL : MemoryContextStrdup(rerun->memory, reason);
}

/*
 * What of a step's actions concerns the instance itself.  As draft_actions.c has it: a cancel closes it unless the handler
 * says otherwise.
 */
static void
carry_out(WfRerun *rerun, const WfEvent *event, const List *actions)
{
	bool		goes_on = strcmp(event->name, "cancel") != 0;
	ListCell   *lc;

	foreach(lc, actions)
	{
		const WfAction *action = lfirst(lc);

		switch (action->kind)
		{
			case WF_ACTION_SET_TIMER:
			case WF_ACTION_CANCEL_TIMER:
				{
					MemoryContext old = MemoryContextSwitchTo(rerun->memory);

					rerun->withdrawn = lappend(rerun->withdrawn, pstrdup(action->name));
					MemoryContextSwitchTo(old);
				}
				break;
			case WF_ACTION_DEFER_CANCEL:
				rerun->cancelling = goes_on = true;
				break;
			case WF_ACTION_REJECT:
				goes_on = true;
				break;
			case WF_ACTION_COMPLETE:
				wf_rerun_end(rerun, rerun->cancelling ? WF_CANCELLED : WF_COMPLETED, action->json, NULL);
				break;
			case WF_ACTION_FAIL:
				wf_rerun_end(rerun, WF_FAILED, NULL, action->reason);
				break;
			default:
				break;
		}
	}
	if (!goes_on && !rerun->ended)
		wf_rerun_end(rerun, WF_CANCELLED, NULL, NULL);
}

/*
 * An event that is to outlive the caller's copy of it.
 */
static void
set_aside(WfRerun *rerun, const WfEvent *event)
{
	MemoryContext old = MemoryContextSwitchTo(rerun->memory);
	WfEvent    *copy = palloc(sizeof(WfEvent));

	*copy = *event;
	copy->name = pstrdup(event->name);
	copy->payload = keep_jsonb(rerun, event->payload);
	copy->sender = event->sender == NULL ? NULL : pstrdup(event->sender);
	copy->key = event->key == NULL ? NULL : pstrdup(event->key);
	rerun->aside = lappend(rerun->aside, copy);
	MemoryContextSwitchTo(old);
}

/*
 * One step.  kept: the event may be set aside as it is.  Returns whether it changed the state.
 */
static bool
handle(WfRerun *rerun, const WfEvent *event, bool kept)
{
	WfFold		after;
	List	   *actions = NIL;
	int64		digest;
	ErrorData  *error = NULL;
	WfStepEnd	end;
	MemoryContext old;

	CHECK_FOR_INTERRUPTS();
	/* the state is in the other one, where it stays unless the step ends well */
	MemoryContextReset(rerun->step_memory[1 - rerun->current]);
	old = MemoryContextSwitchTo(rerun->step_memory[1 - rerun->current]);
	end = wf_process_step(rerun->workflow, rerun->version, rerun->instance, &rerun->fold, event, rerun->replaying, &after,
						  &actions, &digest, &error);
	if (end == WF_STEP_DONE)
	{
		/* one that was kept is still in the memory of the step that made it */
		if (after.state == rerun->fold.state)
			after.state = memcpy(palloc(VARSIZE(after.state)), after.state, VARSIZE(after.state));
		rerun->fold = after;
		rerun->current = 1 - rerun->current;
		carry_out(rerun, event, actions);
		if (strcmp(event->name, "$upgrade") == 0)
			rerun->upgrade_actions = keep_jsonb(rerun, wf_action_as_jsonb(actions));
	}
	MemoryContextSwitchTo(rerun->memory);
	if (end == WF_STEP_FAILED && (rerun->replaying ? wf_error_is_passing(error) : wf_error_is_repeated(error)))
		/* says nothing about the version */
		ThrowErrorData(error);
	if (end == WF_STEP_FAILED)
	{
		rerun->ended = true;
		rerun->error = wf_error_summary(error);
	}
	else if (end == WF_STEP_POSTPONED && kept)
		rerun->aside = lappend(rerun->aside, unconstify(WfEvent *, event));
	else if (end == WF_STEP_POSTPONED)
		set_aside(rerun, event);
	MemoryContextSwitchTo(old);
	return end == WF_STEP_DONE && after.changed_seq == after.seq;
}

/*
 * Switches to a version, as $upgrade does; an error of its migrate functions ends the rerun.
 */
void
wf_rerun_upgrade(WfRerun *rerun, int version)
{
	JsonbParseState *parse = NULL;
	WfEvent		event = {0};

	event.at = TIMESTAMP_NOT_FINITE(rerun->fold.clock) ? rerun->instance->started_at : rerun->fold.clock;
	event.name = "$upgrade";
	wf_object_begin(&parse);
	wf_object_int(&parse, "version", version);
	event.payload = wf_object_end(&parse);
	(void) handle(rerun, &event, false);
	if (rerun->error != NULL)
		rerun->error = psprintf("upgrade to version %d: %s", version, rerun->error);
}

/*
 * An event of the engine's own, of which nothing counts but its number and its stamp.
 */
void
wf_rerun_pass(WfRerun *rerun, const WfEvent *event)
{
	WfEvent		bare = *event;

	bare.payload = wf_check_empty_object();
	(void) handle(rerun, &bare, false);
}

/*
 * By place, as far as events tell it.
 */
static int
compare_events(const ListCell *a, const ListCell *b)
{
	const WfEvent *x = lfirst(a);
	const WfEvent *y = lfirst(b);

	if (x->at != y->at)
		return x->at < y->at ? -1 : 1;
	return x->mail_id < y->mail_id ? -1 : x->mail_id > y->mail_id;
}

/*
 * Handles an event, and then, where that changes the state, what was postponed, oldest first.
 */
void
wf_rerun_offer(WfRerun *rerun, const WfEvent *event)
{
	bool		changed = handle(rerun, event, false);
	MemoryContext old = MemoryContextSwitchTo(rerun->memory);
	List	   *again = NIL;

	for (;;)
	{
		if (changed && rerun->aside != NIL)
		{
			again = list_concat(again, rerun->aside);
			list_sort(again, compare_events);
			rerun->aside = NIL;
		}
		if (again == NIL || rerun->ended)
			break;
		event = linitial(again);
		again = list_delete_first(again);
		changed = handle(rerun, event, true);
	}
	MemoryContextSwitchTo(old);
}
