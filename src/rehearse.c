/*
 * rehearse.c: check_version(): what a version would make of the instances that there are, before any of them has it.
 *
 * Two questions.  history: an instance's log is folded from its first event under that version, and compared row by row
 * with what was logged.  upgrade: an open instance's present state is turned over, and then handles what is due.  Nothing is
 * written and nothing carried out, so this works in a read-only transaction and on a standby.  All looks through the
 * caller's snapshot; one instance is in memory at a time.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "action.h"
#include "census.h"
#include "check.h"
#include "clock.h"
#include "compat.h"
#include "handler.h"
#include "mailbox.h"
#include "object.h"
#include "replay.h"
#include "rerun.h"
#include "rows.h"

/* of an instance's due mail, that many are handled */
#define MAX_DUE 100
/* a long run says how far it is that often */
#define PROGRESS_INTERVAL_MS 10000

PG_FUNCTION_INFO_V1(wfproc_check_version);

/* a call of check_version() */
typedef struct Rehearsal
{
	ReturnSetInfo *result;
	WfWorkflow *workflow;
	WfVersion  *version;
	Snapshot	snapshot;
	TimestampTz now;
	bool		history;		/* the questions */
	bool		upgrade;
} Rehearsal;

/* an answer: what is NULL or 0 is SQL NULL */
typedef struct Answer
{
	const char *question;
	const char *outcome;
	int64		first_seq;
	Jsonb	   *state;
	Jsonb	   *new_state;
	Jsonb	   *actions;
	Jsonb	   *new_actions;
	char	   *error;
} Answer;

static void
put_answer(const Rehearsal *rehearsal, const WfInstance *instance, const Answer *answer)
{
	ReturnSetInfo *result = rehearsal->result;
	Datum		values[9];
	bool		nulls[9];

	memset(nulls, true, sizeof(nulls));
	wf_row_set_text(values, nulls, 1, instance->id);
	wf_row_set_text(values, nulls, 2, answer->question);
	wf_row_set_text(values, nulls, 3, answer->outcome);
	if (answer->first_seq != 0)
		wf_row_set(values, nulls, 4, Int64GetDatum(answer->first_seq));
	wf_row_set_jsonb(values, nulls, 5, answer->state);
	wf_row_set_jsonb(values, nulls, 6, answer->new_state);
	wf_row_set_jsonb(values, nulls, 7, answer->actions);
	wf_row_set_jsonb(values, nulls, 8, answer->new_actions);
	wf_row_set_text(values, nulls, 9, answer->error);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* what a replay is wanted for: the state and the actions of one step */
typedef struct Look
{
	MemoryContext memory;
	int64		seq;			/* of that step; 0: the first that differs */
	Jsonb	   *state;			/* NULL: it was not reached */
	Jsonb	   *actions;
} Look;

/*
 * A WfReplayVisitor: keeps what is looked for, and goes on as long as all is as logged.
 */
static bool
look(const WfLogRow *row, const WfFold *fold, const List *actions, bool diverged, void *arg)
{
	Look	   *wanted = arg;

	if (wanted->seq == 0 ? diverged : row->seq == wanted->seq && !diverged)
	{
		MemoryContext old = MemoryContextSwitchTo(wanted->memory);

		wanted->state = memcpy(palloc(VARSIZE(fold->state)), fold->state, VARSIZE(fold->state));
		wanted->actions = wf_action_as_jsonb(actions);
		MemoryContextSwitchTo(old);
	}
	return !diverged;
}

/*
 * Fills in what was logged at the seq where the new version leads elsewhere: the versions of that time say it.
 */
static void
look_at_logged(const Rehearsal *rehearsal, const WfInstance *instance, Answer *answer)
{
	Look		logged = {CurrentMemoryContext, answer->first_seq};
	WfFold		fold;
	WfDivergence divergence;

	wf_replay_all(rehearsal->workflow, instance, rehearsal->snapshot, answer->first_seq, look, &logged, &fold, &divergence);
	answer->state = logged.state;
	answer->actions = logged.actions;
	if (divergence.seq != 0 && (answer->error == NULL || strcmp(answer->error, divergence.reason) != 0))
		answer->error = psprintf("%s%sits own version differs from the log at seq %lld: %s",
								 answer->error == NULL ? "" : answer->error, answer->error == NULL ? "" : "; ",
								 (long long) divergence.seq, divergence.reason);
}

/*
 * Would the log replay the same?
 */
static void
ask_history(const Rehearsal *rehearsal, const WfInstance *instance)
{
	Answer		answer = {.question = "history",.outcome = "same"};
	Look		new = {CurrentMemoryContext};
	WfFold		fold;
	WfDivergence divergence;

	wf_replay_under(rehearsal->workflow, rehearsal->version, instance, rehearsal->snapshot, PG_INT64_MAX, look, &new, &fold,
					&divergence);
	if (divergence.seq != 0)
	{
		answer.outcome = divergence.stuck_seq != 0 ? "fails" : "differs";
		answer.error = divergence.stuck_reason;
		answer.first_seq = divergence.seq;
		answer.new_state = new.state;
		answer.new_actions = new.actions;
		look_at_logged(rehearsal, instance, &answer);
	}
	put_answer(rehearsal, instance, &answer);
}

/* an upgrade that is tried */
typedef struct Trial
{
	WfRerun		rerun;
	WfMail	   *mails;			/* what is due, in order */
	int			count;
} Trial;

static bool
same_value(Jsonb *a, Jsonb *b)
{
	return a == NULL || b == NULL ? a == b : wf_process_same_state(a, b);
}

/*
 * Whether a timer is no longer in force: a step has cancelled it or set it anew, or the state has changed that it was for.
 */
static bool
is_withdrawn(const WfRerun *rerun, const WfMail *mail, Jsonb *state)
{
	ListCell   *lc;

	if (mail->timer == NULL)
		return false;
	foreach(lc, rerun->withdrawn)
		if (strcmp(lfirst(lc), mail->timer) == 0)
		return true;
	return mail->state_key != NULL &&
		!same_value(wf_object_get(state, mail->state_key), wf_object_get(rerun->fold.state, mail->state_key));
}

/*
 * Whether mail puts an end to the trial: from there on the version has nothing to say.
 */
static bool
is_end(const WfMail *mail)
{
	return strcmp(mail->event.name, "$terminate") == 0 || strcmp(mail->event.name, "$upgrade") == 0 ||
		strcmp(mail->event.name, "$rollout") == 0;
}

/*
 * What is due, by the new version's handler.
 */
static void
handle_due(Trial *trial)
{
	WfRerun    *rerun = &trial->rerun;
	Jsonb	   *state = rerun->fold.state;
	MemoryContext memory = CurrentMemoryContext;

	state = memcpy(palloc(VARSIZE(state)), state, VARSIZE(state));
	for (int i = 0; i < trial->count && !rerun->ended && !is_end(&trial->mails[i]); i++)
	{
		WfMail	   *mail = &trial->mails[i];

		if (!WF_IS_ENGINE_EVENT(mail->event.name) && !is_withdrawn(rerun, mail, state))
			wf_rerun_offer(rerun, &mail->event);
		MemoryContextSwitchTo(memory);
	}
}

static void
try_upgrade(void *arg)
{
	Trial	   *trial = arg;

	wf_rerun_upgrade(&trial->rerun, trial->rerun.version->version);
	if (!trial->rerun.ended)
		handle_due(trial);
}

/*
 * Reads what is due.  Of one that has not started, start comes first, and nothing where that is not due yet.
 */
static void
read_due(const Rehearsal *rehearsal, const WfInstance *instance, bool started, Trial *trial)
{
	TimestampTz next_at;

	trial->count = wf_mailbox_read(instance->instance_id, WF_NO_STAMP, rehearsal->now, MAX_DUE, 0, rehearsal->snapshot,
								   &trial->mails, &next_at);
	for (int i = 0; i < trial->count && !started; i++)
	{
		WfMail		start = trial->mails[i];

		if (strcmp(start.event.name, "start") != 0)
			continue;
		memmove(&trial->mails[1], &trial->mails[0], sizeof(WfMail) * i);
		trial->mails[0] = start;
		started = true;
	}
	if (!started)
		trial->count = 0;
}

/*
 * Whether the upgrade would be refused at once; then why.
 */
static char *
find_refusal(const Rehearsal *rehearsal, const WfInstance *instance, const WfFold *fold, const WfDivergence *divergence)
{
	const WfVersion *version = rehearsal->version;

	if (divergence->seq != 0)
		return psprintf("its own version differs from the log at seq %lld: %s", (long long) divergence->seq,
						divergence->reason);
	if (version->version < fold->version && !version->has_migrate)
		return psprintf("version %d has no migrate function, which a lower version needs", version->version);
	return NULL;
}

/*
 * Would an upgrade now succeed, and then what is due?
 */
static void
ask_upgrade(const Rehearsal *rehearsal, const WfInstance *instance)
{
	Answer		answer = {.question = "upgrade",.outcome = "same"};
	Trial		trial = {0};
	WfFold		fold;
	WfDivergence divergence;
	int64		snapshot_seq;

	wf_replay_load(rehearsal->workflow, instance, rehearsal->snapshot, &fold, &snapshot_seq, &divergence);
	answer.first_seq = divergence.seq;
	answer.state = divergence.seq == 0 ? fold.state : NULL;
	answer.error = find_refusal(rehearsal, instance, &fold, &divergence);
	if (answer.error == NULL)
	{
		read_due(rehearsal, instance, fold.started, &trial);
		wf_rerun_init(&trial.rerun, rehearsal->workflow, rehearsal->version, instance);
		trial.rerun.fold = fold;
		trial.rerun.cancelling = instance->cancelling;
		wf_handler_stretch(try_upgrade, &trial);
		answer.error = trial.rerun.error;
		if (answer.error != NULL)
			answer.first_seq = trial.rerun.fold.seq + 1;
		else
		{
			answer.new_state = trial.rerun.fold.state;
			answer.new_actions = trial.rerun.upgrade_actions;
		}
	}
	if (answer.error != NULL)
		answer.outcome = "fails";
	put_answer(rehearsal, instance, &answer);
}

/*
 * All questions about one instance, in a memory context that is reset after each.
 */
static void
rehearse(const Rehearsal *rehearsal, int64 instance_id)
{
	WfInstance	instance;

	CHECK_FOR_INTERRUPTS();
	if (!wf_instance_read(instance_id, rehearsal->snapshot, &instance))
		return;
	if (rehearsal->history)
		ask_history(rehearsal, &instance);
	if (rehearsal->upgrade && !WF_IS_CLOSED(instance.status))
		ask_upgrade(rehearsal, &instance);
}

static void
rehearse_all(const Rehearsal *rehearsal, const int64 *instance_ids, int count)
{
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "wfproc rehearsal", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(memory);
	TimestampTz said_at = GetCurrentTimestamp();

	for (int i = 0; i < count; i++)
	{
		rehearse(rehearsal, instance_ids[i]);
		MemoryContextReset(memory);
		if (TimestampDifferenceExceeds(said_at, GetCurrentTimestamp(), PROGRESS_INTERVAL_MS))
		{
			said_at = GetCurrentTimestamp();
			ereport(NOTICE,
					(errmsg("%d of %d instances are rehearsed", i + 1, count)));
		}
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(memory);
}

/*
 * The argument "question".
 */
static void
parse_question(FunctionCallInfo fcinfo, Rehearsal *rehearsal)
{
	char	   *question;

	wf_check_not_null(fcinfo, 2, "question");
	question = text_to_cstring(PG_GETARG_TEXT_PP(2));
	rehearsal->history = strcmp(question, "history") == 0 || strcmp(question, "both") == 0;
	rehearsal->upgrade = strcmp(question, "upgrade") == 0 || strcmp(question, "both") == 0;
	if (!rehearsal->history && !rehearsal->upgrade)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown question \"%s\"", question),
				 errhint("Questions are history, upgrade, and both.")));
}

/*
 * check_version(workflow, version, question, sample) -> a row per instance and question, in the order in which the
 * instances were made
 */
Datum
wfproc_check_version(PG_FUNCTION_ARGS)
{
	Rehearsal	rehearsal = {(ReturnSetInfo *) fcinfo->resultinfo};
	WfCensus	which = {.started_by = DT_NOEND};
	int64	   *instance_ids;
	int			count;

	wf_check_not_in_handler("check_version");
	wf_check_not_null(fcinfo, 1, "version");
	parse_question(fcinfo, &rehearsal);
	if (!PG_ARGISNULL(3) && PG_GETARG_INT32(3) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"sample\" must be at least 1, got %d", PG_GETARG_INT32(3)),
				 errhint("It is a number of instances; NULL is for all.")));
	rehearsal.workflow = wf_census_workflow(fcinfo, WF_PRIV_OPERATE);
	rehearsal.version = wf_replay_version(rehearsal.workflow, PG_GETARG_INT32(1));
	rehearsal.snapshot = GetActiveSnapshot();
	rehearsal.now = wf_clock_now();
	InitMaterializedSRF(fcinfo, 0);
	instance_ids = wf_census_take(rehearsal.workflow, &which, &count);
	if (!PG_ARGISNULL(3))
		count = wf_census_sample(instance_ids, count, PG_GETARG_INT32(3));
	rehearse_all(&rehearsal, instance_ids, count);
	return (Datum) 0;
}
