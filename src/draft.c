/*
 * draft.c: a process during a turn: handles one piece of mail and keeps what comes of it.
 *
 * Called by turn.c, in its memory context, within a stretch of handler.h.  Nothing is written here: what is to be written
 * is put into the turn's output, and a draft that is not committed is simply forgotten.  This is the one place that changes
 * the status of an instance.  What concerns other instances is left as letters, which deliver.c takes on.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "check.h"
#include "clock.h"
#include "draft_internal.h"
#include "errors.h"
#include "eventlog.h"
#include "guc.h"
#include "inbox.h"
#include "letter.h"
#include "object.h"
#include "suspect.h"

/* what passes is repeated that often, ever later, before it counts as an attempt: in all about four minutes */
#define MAX_REPEATS 16
#define REPEAT_DELAY_US INT64CONST(50000)
#define MAX_REPEAT_DELAY_US (30 * USECS_PER_SEC)
#define MAX_RETRY_DELAY_US USECS_PER_HOUR

/*
 * What a resident process is.
 */
void
wf_draft_from_process(WfDraft *draft, const WfProcess *process)
{
	draft->row = process->row;
	draft->fold = process->fold;
	draft->snapshot_seq = process->snapshot_seq;
	draft->repeats = process->repeats;
	draft->held_until = process->held_until;
	if (process->timer_count >= 0)
		wf_timers_unpack(&draft->timers, process->timers, process->timer_count);
}

static void
set_error(WfDraft *draft, const char *error)
{
	draft->row.error = error == NULL ? NULL : pstrdup(error);
	draft->row.error_context = NULL;
}

/*
 * It cannot be acted for now: neither for its events nor for control events.
 */
void
wf_draft_hold(WfDraft *draft, TimestampTz until)
{
	draft->held_until = until;
	draft->stopped = true;
}

bool
wf_draft_is_held(const WfDraft *draft)
{
	return draft->held_until != 0;
}

/*
 * Its log cannot be folded, or its code not run: it pauses and says so, and nothing is added to the log.
 */
void
wf_draft_break(WfDraft *draft, const char *reason)
{
	draft->broken = true;
	if (draft->row.status == WF_PAUSED && draft->row.error != NULL && strcmp(draft->row.error, reason) == 0)
		return;
	draft->row.status = WF_PAUSED;
	draft->row.unlogged = true;
	set_error(draft, reason);
	draft->row_changed = true;
}

/*
 * Whether it may handle events now, control events apart.
 */
bool
wf_draft_can_go_on(const WfDraft *draft, TimestampTz now)
{
	return !draft->stopped && !draft->broken && draft->row.status == WF_RUNNING && draft->row.retry_at <= now;
}

static Jsonb *
reply_among(const List *actions)
{
	ListCell   *lc;

	foreach(lc, actions)
	{
		const WfAction *action = lfirst(lc);

		if (action->kind == WF_ACTION_REPLY)
			return action->json;
	}
	return NULL;
}

/*
 * Adds a row to the log: the fold becomes after, with the row's hash.
 */
static void
add_to_log(WfDraft *draft, WfOutput *output, const WfFold *after, const WfEvent *event, int64 digest, const List *actions)
{
	WfLogRow   *row = palloc0(sizeof(WfLogRow));

	row->instance_id = draft->instance_id;
	row->seq = after->seq;
	row->recorded_at = output->now;
	row->event = *event;
	row->digest = digest;
	row->reply = reply_among(actions);
	row->event.live = draft->live = after->clock >= draft->row.live_from;
	wf_eventlog_chain(draft->fold.hash, row, row->hash);
	if (output->log_count == output->log_size)
	{
		output->log_size = Max(output->log_size * 2, 64);
		output->log = output->log == NULL ? palloc(output->log_size * sizeof(WfLogRow *)) :
			repalloc(output->log, output->log_size * sizeof(WfLogRow *));
	}
	output->log[output->log_count++] = row;

	/* states of a megabyte each must not pile up */
	if (draft->own_state && draft->fold.state != after->state)
		pfree(draft->fold.state);
	draft->own_state = draft->own_state || draft->fold.state != after->state;
	draft->fold = *after;
	memcpy(draft->fold.hash, row->hash, WF_SHA256_LEN);
	draft->steps++;
	if (output->watcher != NULL)
		output->watcher->added(&draft->fold, row, actions, output->watcher->arg);
	else
		wf_snapshot_keep(&draft->kept, &draft->fold);
}

/*
 * Logs an event of the engine's own, because of a mail (NULL: of none).  Where that is a control event its stamp is the
 * instance's clock, so that it does not move it: a process that lags goes on from where it was.  Where it takes the place
 * of an event its stamp is that event's.  Returns NULL, or the error of a migrate function: then nothing was logged.
 */
static ErrorData *
log_engine_step(WfDraft *draft, WfOutput *output, const char *name, Jsonb *payload, const WfMail *mail, List **actions)
{
	WfEvent		event = {0};
	WfFold		after;
	int64		digest;
	ErrorData  *error = NULL;

	event.mail_id = mail == NULL ? 0 : mail->event.mail_id;
	event.at = mail == NULL ? draft->fold.clock : Max(draft->fold.clock, mail->event.at);
	/* one that has not started has no clock */
	if (TIMESTAMP_NOT_FINITE(event.at))
		event.at = draft->row.started_at;
	event.name = pstrdup(name);
	event.payload = payload;
	if (wf_process_step(draft->workflow, draft->version, &draft->row, &draft->fold, &event, false, &after, actions, &digest,
						&error) == WF_STEP_FAILED)
		return error;
	add_to_log(draft, output, &after, &event, digest, *actions);
	return NULL;
}

/*
 * One that is no upgrade, and so asks for nothing.
 */
ErrorData *
wf_draft_log_engine_event(WfDraft *draft, WfOutput *output, const char *name, Jsonb *payload, const WfMail *mail)
{
	List	   *actions;

	return log_engine_step(draft, output, name, payload, mail, &actions);
}

/*
 * An upgrade.  *actions is what its migrate functions have asked for.
 */
ErrorData *
wf_draft_log_upgrade(WfDraft *draft, WfOutput *output, const WfMail *mail, List **actions)
{
	return log_engine_step(draft, output, "$upgrade", mail->event.payload, mail, actions);
}

/*
 * {"by": "engine", "reason": ...}
 */
static Jsonb *
engine_payload(const char *reason)
{
	JsonbParseState *parse = NULL;

	wf_object_begin(&parse);
	wf_object_text(&parse, "by", "engine");
	wf_object_text(&parse, "reason", reason);
	return wf_object_end(&parse);
}

void
wf_draft_bury(WfDraft *draft, WfOutput *output, WfMail *mail, const char *reason)
{
	WfBurial   *burial = palloc(sizeof(WfBurial));

	burial->mail = mail;
	burial->id = draft->row.id;
	burial->workflow_id = draft->row.workflow_id;
	burial->reason = pstrdup(reason);
	output->burials = lappend(output->burials, burial);
}

/*
 * The mail is done with: it goes from the inbox, and its row, if it has one, from the mailbox.
 */
void
wf_draft_finish_mail(WfDraft *draft, WfOutput *output, WfMail *mail)
{
	wf_inbox_remove(draft, mail);
	if (!ItemPointerIsValid(&mail->tid))
		return;
	output->handled = lappend(output->handled, mail);
	draft->done = lappend(draft->done, mail);
}

/*
 * Closes the instance.  record.c deals with what is left in its mailbox.
 */
void
wf_draft_close(WfDraft *draft, WfOutput *output, WfStatus status, Jsonb *result, const char *error)
{
	draft->row.status = status;
	draft->row.closed_at = draft->fold.clock;
	draft->row.retry_at = DT_NOBEGIN;
	draft->row.cancelling = false;
	draft->row.unlogged = draft->broken;
	draft->row.result = result;
	set_error(draft, error);
	draft->row_changed = true;
	draft->stopped = true;
	wf_draft_tell_others(draft, output);
}

/*
 * Failures are over: the counts begin anew.
 */
void
wf_draft_clear_failures(WfDraft *draft)
{
	draft->repeats = 0;
	if (draft->row.attempts == 0 && draft->row.crashes == 0 && draft->row.retry_at == DT_NOBEGIN && draft->row.error == NULL)
		return;
	draft->row.attempts = 0;
	draft->row.crashes = 0;
	draft->row.retry_at = DT_NOBEGIN;
	set_error(draft, NULL);
	draft->row_changed = true;
}

void
wf_draft_pause(WfDraft *draft, WfOutput *output, const char *reason)
{
	draft->row.status = WF_PAUSED;
	draft->row.unlogged = false;
	draft->row.retry_at = DT_NOBEGIN;
	set_error(draft, reason);
	draft->row_changed = true;
	draft->stopped = true;
	(void) wf_draft_log_engine_event(draft, output, "$pause", engine_payload(reason), NULL);
}

/*
 * The last attempt has failed: what the workflow has chosen for that.
 */
static void
give_up(WfDraft *draft, WfOutput *output, WfMail *mail, const char *reason)
{
	switch (draft->workflow->on_failure)
	{
		case WF_ON_FAILURE_PAUSE:
			wf_draft_pause(draft, output, reason);
			break;
		case WF_ON_FAILURE_FAIL:
			(void) wf_draft_log_engine_event(draft, output, "$fail", engine_payload(reason), mail);
			wf_draft_close(draft, output, WF_FAILED, NULL, reason);
			break;
		case WF_ON_FAILURE_DEAD_LETTER:
			(void) wf_draft_log_engine_event(draft, output, "$skip", engine_payload(reason), mail);
			wf_draft_finish_mail(draft, output, mail);
			if (mail->timer != NULL)
				wf_draft_forget_timer(draft, mail);
			wf_draft_bury(draft, output, mail, reason);
			wf_draft_clear_failures(draft);
			draft->stopped = false;
			break;
	}
}

static int64
retry_delay_us(const WfWorkflow *workflow, int attempts)
{
	int64		delay = workflow->retry_delay_us;

	for (int i = 1; i < attempts && delay < MAX_RETRY_DELAY_US; i++)
		delay *= 2;
	return Min(delay, Max(MAX_RETRY_DELAY_US, workflow->retry_delay_us));
}

/*
 * Whether a step that has failed is repeated without being counted, and then when.
 */
bool
wf_draft_repeats(WfDraft *draft, const ErrorData *error, TimestampTz *again_at)
{
	if (!wf_error_is_repeated(error) || draft->repeats >= MAX_REPEATS)
		return false;

	/*
	 * from here on, and not from the turn's beginning: the others come first,
	 * however long this has taken
	 */
	*again_at = wf_clock_now() + Min(REPEAT_DELAY_US << draft->repeats, MAX_REPEAT_DELAY_US);
	draft->repeats++;
	return true;
}

/*
 * A step has raised.  Its event stays in the mailbox, and later mail waits behind it.
 */
static void
step_failed(WfDraft *draft, WfOutput *output, WfMail *mail, const ErrorData *error)
{
	char	   *reason = wf_error_summary(error);
	char	   *context = wf_error_context(error, mail->event.name, draft->fold.seq + 1);

	draft->stopped = true;
	if (output->watcher != NULL)
	{
		output->watcher->failed(&draft->fold, &mail->event, error, output->watcher->arg);
		return;
	}
	/* skip() looks for the first that is not postponed */
	mail->rewrite |= mail->row_postponed;
	if (wf_draft_repeats(draft, error, &draft->row.retry_at))
		/* not in the table: nothing has failed for good */
		return;
	draft->row_changed = true;
	draft->row.attempts++;
	set_error(draft, reason);
	ereport(LOG,
			(errcode(error->sqlerrcode),
			 errmsg("wfproc: instance \"%s\" failed to handle event \"%s\", attempt %d of %d: SQLSTATE %s",
					draft->row.id, mail->event.name, draft->row.attempts, draft->workflow->max_attempts,
					unpack_sql_state(error->sqlerrcode)),
	/* the message may quote a payload, and those are not logged */
			 errdetail("The message is in wfproc.instances.")));
	if (draft->row.attempts < draft->workflow->max_attempts && !wf_error_is_hopeless(error))
		draft->row.retry_at = output->now + retry_delay_us(draft->workflow, draft->row.attempts);
	else
		give_up(draft, output, mail, reason);
	if (draft->row.error != NULL)
		draft->row.error_context = context;
}

/*
 * The handler does not want the event under this state.  A timer that has fired is an event like any other from now on.
 */
static void
postpone(WfDraft *draft, WfOutput *output, WfMail *mail)
{
	if (list_length(draft->aside) >= wf_max_postponed)
	{
		ErrorData	error = {.sqlerrcode = ERRCODE_PROGRAM_LIMIT_EXCEEDED};

		error.message = psprintf("%d events are postponed already, limit wfproc.max_postponed", wf_max_postponed);
		step_failed(draft, output, mail, &error);
		return;
	}
	wf_inbox_remove(draft, mail);
	if (mail->timer != NULL)
		wf_draft_forget_timer(draft, mail);
	mail->timer = NULL;
	mail->rewrite = true;
	wf_inbox_set_aside(draft, mail);
	/* that it has to wait longer says nothing of what fails */
	if (!mail->row_postponed)
		wf_draft_clear_failures(draft);
}

/*
 * The step has ended well.
 */
static void
step_done(WfDraft *draft, WfOutput *output, WfMail *mail, const WfFold *after, const List *actions, int64 digest)
{
	wf_draft_finish_mail(draft, output, mail);
	if (mail->timer != NULL)
		wf_draft_forget_timer(draft, mail);
	if (after->changed_seq == after->seq && draft->row.state_timers)
		wf_draft_cancel_state_timers(draft, output, draft->fold.state, after->state);
	add_to_log(draft, output, after, &mail->event, digest, actions);
	if (after->changed_seq == after->seq)
		wf_inbox_offer_again(draft);
	wf_draft_clear_failures(draft);
	wf_draft_carry_out(draft, output, mail, actions);
}

/*
 * An event for the handler.  Returns whether it was handled.
 */
static bool
handle_event(WfDraft *draft, WfOutput *output, WfMail *mail)
{
	WfFold		after;
	List	   *actions;
	int64		digest;
	ErrorData  *error;
	WfStepEnd	end;

	if (mail->timer != NULL && !wf_timers_has(&draft->timers, mail))
	{
		/* cancelled or replaced; its row is dealt with */
		wf_inbox_remove(draft, mail);
		return false;
	}
	output->depth = mail->depth;
	wf_suspect_begin(draft->instance_id, draft->fold.seq + 1);
	end = wf_process_step(draft->workflow, draft->version, &draft->row, &draft->fold, &mail->event, false, &after, &actions,
						  &digest, &error);
	wf_suspect_end();
	if (end == WF_STEP_FAILED)
		step_failed(draft, output, mail, error);
	else if (end == WF_STEP_POSTPONED)
		postpone(draft, output, mail);
	else
		step_done(draft, output, mail, &after, actions, digest);
	return end == WF_STEP_DONE;
}

/*
 * Whether the roll-out has failed so often in this turn that it stops, which is written at the turn's end.
 */
static bool
has_stopped(const WfOutput *output, const WfRollout *rollout)
{
	int			failures = 0;
	ListCell   *lc;

	foreach(lc, output->rollout_failures)
		failures += lfirst_int(lc) == rollout->rollout_id;
	return failures >= rollout->may_fail;
}

/*
 * A roll-out is an upgrade of each process before its first event that is stamped at or after it.  Returns whether mail met
 * any: then it stays, for the process has paused, is held, or has got mail that goes first.
 */
bool
wf_draft_roll_out(WfDraft *draft, WfOutput *output, WfMail *mail)
{
	bool		met = false;
	ListCell   *lc;

	/* once: roll-outs may go round in a circle */
	if (mail->met_rollouts || !draft->fold.started)
		return false;
	foreach(lc, draft->workflow->rollouts)
	{
		WfRollout  *rollout = lfirst(lc);

		if (draft->broken || has_stopped(output, rollout) ||
			!wf_workflow_is_concerned(rollout, draft->fold.version, draft->row.attributes, mail->event.at))
			continue;
		met = true;
		output->depth = mail->depth;
		if (!wf_draft_upgrade(draft, output, wf_letter_rollout(output, draft, rollout)))
		{
			if (!wf_draft_is_held(draft))
				output->rollout_failures = lappend_int(output->rollout_failures, rollout->rollout_id);
			return true;
		}
	}
	mail->met_rollouts = true;
	return met;
}

/*
 * Handles what wf_inbox_next() gives.  Returns whether that was an event which its handler has handled.
 */
bool
wf_draft_handle(WfDraft *draft, WfOutput *output)
{
	WfMail	   *mail = wf_inbox_next(draft, output->now);

	if (!WF_IS_ENGINE_EVENT(mail->event.name))
		return !wf_draft_roll_out(draft, output, mail) && handle_event(draft, output, mail);
	wf_draft_obey(draft, output, mail);
	return false;
}

/*
 * What the instance's row says of a worker's death.
 */
static char *
describe_death(const WfSuspect *suspect)
{
	const char *what = suspect->seq == WF_SUSPECT_FOLD ? "its log was being folded" :
		psprintf("event " INT64_FORMAT " was being handled", suspect->seq);

	if (suspect->endless)
		return psprintf("a worker had to be ended while %s: the handler did not end at its time limit", what);
	return psprintf("the server went down while %s", what);
}

/*
 * A worker died while this instance handled an event, or its log was folded.  Where that happens again and again it is not
 * by chance.  Of a process that is paused that is an upgrade at once (draft_control.c).
 */
void
wf_draft_blame(WfDraft *draft, WfOutput *output, const WfSuspect *suspect)
{
	char	   *reason = describe_death(suspect);
	bool		in_fold = suspect->seq == WF_SUSPECT_FOLD;

	if (draft->broken || WF_IS_CLOSED(draft->row.status) || (!in_fold && draft->fold.seq >= suspect->seq))
		return;
	draft->row.crashes++;
	set_error(draft, reason);
	draft->row_changed = true;
	if (draft->row.crashes < wf_max_crashes)
		return;
	if (in_fold)
		wf_draft_break(draft, reason);
	else if (draft->row.status == WF_RUNNING)
		wf_draft_pause(draft, output, reason);
}
