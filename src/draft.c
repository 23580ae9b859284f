/*
 * draft.c: a process during a turn: handles one piece of mail and keeps what comes of it.
 *
 * Called by turn.c, in its memory context, within a stretch of handler.h.  Nothing is written here: what is to be written
 * is put into the turn's output, and a draft that is not committed is simply forgotten.  This is the one place that changes
 * the status of an instance.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "check.h"
#include "draft.h"
#include "eventlog.h"
#include "guc.h"
#include "suspect.h"

/* serialization failures and the like are repeated that often before they count as attempts */
#define MAX_REPEATS 10
#define REPEAT_DELAY_US (50 * 1000)
#define MAX_RETRY_DELAY_US USECS_PER_HOUR

/*
 * A draft of a resident process.
 */
WfDraft *
wf_draft_from_process(const WfProcess *process)
{
	WfDraft    *draft = palloc0(sizeof(WfDraft));

	draft->row = process->row;
	draft->fold = process->fold;
	draft->snapshot_seq = process->snapshot_seq;
	draft->repeats = process->repeats;
	draft->unread_at = DT_NOEND;
	return draft;
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
	draft->row.error = pstrdup(reason);
	draft->row_changed = true;
}

/*
 * Whether it may handle events now, control events apart.
 */
bool
wf_draft_can_go_on(const WfDraft *draft, TimestampTz now)
{
	return !draft->broken && draft->row.status == WF_RUNNING && draft->row.retry_at <= now;
}

/*
 * Adds a row to the log: the fold becomes after, with the row's hash.
 */
static void
add_to_log(WfDraft *draft, WfOutput *output, const WfFold *after, const WfEvent *event, int64 digest)
{
	WfLogRow   *row = palloc0(sizeof(WfLogRow));

	row->instance_id = draft->row.instance_id;
	row->seq = after->seq;
	row->recorded_at = output->now;
	row->event = *event;
	row->digest = digest;
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
}

/*
 * Logs an event of the engine's own.  Its stamp is the instance's clock, so that it does not move it: a process that lags
 * goes on from where it was.
 */
static void
log_engine_event(WfDraft *draft, WfOutput *output, const char *name, Jsonb *payload, int64 mail_id)
{
	WfEvent		event = {0};
	WfFold		after;
	List	   *actions;
	int64		digest;
	ErrorData  *error;

	event.mail_id = mail_id;
	event.at = TIMESTAMP_NOT_FINITE(draft->fold.clock) ? draft->row.started_at : draft->fold.clock;
	event.name = pstrdup(name);
	event.payload = payload;
	(void) wf_process_step(draft->workflow, draft->version, draft->row.id, &draft->fold, &event, &after, &actions, &digest,
						   &error);
	add_to_log(draft, output, &after, &event, digest);
}

/*
 * {"by": "engine", "reason": ...}
 */
static Jsonb *
engine_payload(const char *reason)
{
	JsonbParseState *parse = NULL;
	const char *const pairs[] = {"by", "engine", "reason", reason};

	pushJsonbValue(&parse, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < lengthof(pairs); i++)
	{
		JsonbValue	value;

		value.type = jbvString;
		value.val.string.val = unconstify(char *, pairs[i]);
		value.val.string.len = strlen(pairs[i]);
		pushJsonbValue(&parse, i % 2 == 0 ? WJB_KEY : WJB_VALUE, &value);
	}
	return JsonbValueToJsonb(pushJsonbValue(&parse, WJB_END_OBJECT, NULL));
}

static void
bury(WfDraft *draft, WfOutput *output, const WfMail *mail, const char *reason)
{
	WfBurial   *burial = palloc(sizeof(WfBurial));

	burial->mail = mail;
	burial->id = draft->row.id;
	burial->reason = pstrdup(reason);
	output->burials = lappend(output->burials, burial);
}

/*
 * Closes the instance.  turn.c moves what is left in its mailbox to the dead letters.
 */
static void
close_instance(WfDraft *draft, WfStatus status, Jsonb *result, const char *error)
{
	draft->row.status = status;
	draft->row.closed_at = draft->fold.clock;
	draft->row.retry_at = DT_NOBEGIN;
	draft->row.result = result;
	draft->row.error = error == NULL ? NULL : pstrdup(error);
	draft->row_changed = true;
	draft->stopped = true;
}

/*
 * Failures are over: the counts begin anew.
 */
static void
clear_failures(WfDraft *draft)
{
	draft->repeats = 0;
	if (draft->row.attempts == 0 && draft->row.crashes == 0 && draft->row.retry_at == DT_NOBEGIN && draft->row.error == NULL)
		return;
	draft->row.attempts = 0;
	draft->row.crashes = 0;
	draft->row.retry_at = DT_NOBEGIN;
	draft->row.error = NULL;
	draft->row_changed = true;
}

static void
pause_instance(WfDraft *draft, WfOutput *output, const char *reason)
{
	draft->row.status = WF_PAUSED;
	draft->row.retry_at = DT_NOBEGIN;
	draft->row.error = pstrdup(reason);
	draft->row_changed = true;
	draft->stopped = true;
	log_engine_event(draft, output, "$pause", engine_payload(reason), 0);
}

/*
 * Carries out what a step asked for.
 */
static void
carry_out(WfDraft *draft, WfOutput *output, const WfMail *mail, const List *actions)
{
	const WfAction *reject = wf_action_find(actions, WF_ACTION_REJECT);
	const WfAction *fail = wf_action_find(actions, WF_ACTION_FAIL);
	const WfAction *complete = wf_action_find(actions, WF_ACTION_COMPLETE);

	if (reject != NULL)
		bury(draft, output, mail, reject->reason);
	else if (fail != NULL)
		close_instance(draft, WF_FAILED, NULL, fail->reason);
	else if (complete != NULL)
		close_instance(draft, WF_COMPLETED, complete->result, NULL);
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
			pause_instance(draft, output, reason);
			break;
		case WF_ON_FAILURE_FAIL:
			log_engine_event(draft, output, "$fail", engine_payload(reason), mail->event.mail_id);
			close_instance(draft, WF_FAILED, NULL, reason);
			break;
		case WF_ON_FAILURE_DEAD_LETTER:
			log_engine_event(draft, output, "$skip", engine_payload(reason), mail->event.mail_id);
			output->handled = lappend(output->handled, mail);
			draft->next++;
			bury(draft, output, mail, reason);
			clear_failures(draft);
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
 * Errors that say nothing about the handler: another try may well succeed.
 */
static bool
is_passing(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE ||
		error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED ||
		error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		(error->sqlerrcode == ERRCODE_FEATURE_NOT_SUPPORTED && error->message != NULL &&
		 strstr(error->message, "cached plan must not change result type") != NULL);
}

/*
 * A step has raised.  Its event stays in the mailbox, and later mail waits behind it.
 */
static void
step_failed(WfDraft *draft, WfOutput *output, WfMail *mail, const ErrorData *error)
{
	char	   *reason = psprintf("%s: %s", unpack_sql_state(error->sqlerrcode), error->message);

	draft->stopped = true;
	if (is_passing(error) && ++draft->repeats <= MAX_REPEATS)
	{
		/* not in the table: nothing has failed for good */
		draft->row.retry_at = output->now + REPEAT_DELAY_US;
		return;
	}
	draft->row_changed = true;
	draft->row.attempts++;
	draft->row.error = reason;
	ereport(LOG,
			(errcode(error->sqlerrcode),
			 errmsg("wfproc: instance \"%s\" failed to handle event \"%s\", attempt %d of %d: SQLSTATE %s",
					draft->row.id, mail->event.name, draft->row.attempts, draft->workflow->max_attempts,
					unpack_sql_state(error->sqlerrcode)),
	/* the message may quote a payload, and those are not logged */
			 errdetail("The message is in wfproc.instances.")));
	if (draft->row.attempts < draft->workflow->max_attempts)
		draft->row.retry_at = output->now + retry_delay_us(draft->workflow, draft->row.attempts);
	else
		give_up(draft, output, mail, reason);
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
	bool		ok;

	wf_suspect_begin(draft->row.instance_id, draft->fold.seq + 1);
	ok = wf_process_step(draft->workflow, draft->version, draft->row.id, &draft->fold, &mail->event, &after, &actions,
						 &digest, &error);
	wf_suspect_end();
	if (!ok)
	{
		step_failed(draft, output, mail, error);
		return false;
	}
	output->handled = lappend(output->handled, mail);
	draft->next++;
	add_to_log(draft, output, &after, &mail->event, digest);
	clear_failures(draft);
	carry_out(draft, output, mail, actions);
	return true;
}

/*
 * A request to pause or to resume, logged with who asked and why.
 */
static void
change_status(WfDraft *draft, WfOutput *output, const WfMail *mail)
{
	bool		pausing = strcmp(mail->event.name, "$pause") == 0;

	if (draft->broken || (pausing && draft->row.status == WF_PAUSED) ||
		(!pausing && draft->row.status != WF_PAUSED && draft->row.attempts == 0))
		return;
	log_engine_event(draft, output, mail->event.name, mail->event.payload, mail->event.mail_id);
	clear_failures(draft);
	draft->row.status = pausing ? WF_PAUSED : WF_RUNNING;
	draft->row_changed = true;
	draft->stopped = draft->stopped || pausing;
}

/*
 * A control event, of which only those that change something are logged.
 */
static void
handle_control(WfDraft *draft, WfOutput *output, WfMail *mail)
{
	const char *name = mail->event.name;

	output->handled = lappend(output->handled, mail);
	draft->next++;
	if (strcmp(name, "$pause") == 0 || strcmp(name, "$resume") == 0)
		change_status(draft, output, mail);
	else if (strcmp(name, "$snapshot") == 0)
		draft->wants_snapshot = !draft->broken;
	else if (strcmp(name, "$passivate") == 0)
		draft->wants_passivation = true;
	else
		bury(draft, output, mail, "unknown control event");
}

/*
 * Handles the draft's next mail.  Returns whether that was an event which its handler has handled.
 */
bool
wf_draft_handle(WfDraft *draft, WfOutput *output)
{
	WfMail	   *mail = &draft->mails[draft->next];

	if (!WF_IS_ENGINE_EVENT(mail->event.name))
		return handle_event(draft, output, mail);
	handle_control(draft, output, mail);
	return false;
}

/*
 * A worker died while this instance handled its event seq.  Where that happens again and again it is not by chance.
 */
void
wf_draft_blame(WfDraft *draft, WfOutput *output, int64 seq)
{
	char	   *reason = psprintf("the server went down while event " INT64_FORMAT " was being handled", seq);

	if (draft->broken || draft->row.status != WF_RUNNING || draft->fold.seq >= seq)
		return;
	draft->row.crashes++;
	draft->row.error = reason;
	draft->row_changed = true;
	if (draft->row.crashes >= wf_max_crashes)
		pause_instance(draft, output, reason);
}
