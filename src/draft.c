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

#include "attributes.h"
#include "check.h"
#include "draft.h"
#include "eventlog.h"
#include "guc.h"
#include "inbox.h"
#include "letter.h"
#include "object.h"
#include "suspect.h"

/* serialization failures and the like are repeated that often before they count as attempts */
#define MAX_REPEATS 10
#define REPEAT_DELAY_US (50 * 1000)
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
	if (process->timers.known)
		wf_timers_copy(&draft->timers, &process->timers);
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
	return !draft->stopped && !draft->broken && draft->row.status == WF_RUNNING && draft->row.retry_at <= now;
}

/*
 * Adds a row to the log: the fold becomes after, with the row's hash.
 */
static void
add_to_log(WfDraft *draft, WfOutput *output, const WfFold *after, const WfEvent *event, int64 digest, Jsonb *reply)
{
	WfLogRow   *row = palloc0(sizeof(WfLogRow));

	row->instance_id = draft->instance_id;
	row->seq = after->seq;
	row->recorded_at = output->now;
	row->event = *event;
	row->digest = digest;
	row->reply = reply;
	row->live = draft->live = after->clock >= draft->row.live_from;
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
}

/*
 * Logs an event of the engine's own, because of a mail (NULL: of none).  Where that is a control event its stamp is the
 * instance's clock, so that it does not move it: a process that lags goes on from where it was.  Where it takes the place
 * of an event its stamp is that event's.
 */
static void
log_engine_event(WfDraft *draft, WfOutput *output, const char *name, Jsonb *payload, const WfMail *mail)
{
	WfEvent		event = {0};
	WfFold		after;
	List	   *actions;
	int64		digest;
	ErrorData  *error;

	event.mail_id = mail == NULL ? 0 : mail->event.mail_id;
	event.at = TIMESTAMP_NOT_FINITE(draft->fold.clock) ? draft->row.started_at : draft->fold.clock;
	if (mail != NULL)
		event.at = Max(event.at, mail->event.at);
	event.name = pstrdup(name);
	event.payload = payload;
	(void) wf_process_step(draft->workflow, draft->version, &draft->row, &draft->fold, &event, false, &after, &actions, &digest,
						   &error);
	add_to_log(draft, output, &after, &event, digest, NULL);
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

static void
bury(WfDraft *draft, WfOutput *output, WfMail *mail, const char *reason)
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
static void
finish_mail(WfDraft *draft, WfOutput *output, WfMail *mail)
{
	wf_inbox_remove(draft, mail);
	if (ItemPointerIsValid(&mail->tid))
		output->handled = lappend(output->handled, mail);
}

static List *
links_of(WfDraft *draft, const WfOutput *output)
{
	if (!draft->links_known && !draft->newborn)
		draft->links = list_concat(wf_link_read(draft->instance_id, output->snapshot), draft->links);
	draft->links_known = true;
	return draft->links;
}

static void
change_link(WfDraft *draft, WfOutput *output, WfLink *link, bool added)
{
	WfLinkChange *change = palloc(sizeof(WfLinkChange));

	change->instance_id = draft->instance_id;
	change->link = link;
	change->added = added;
	output->link_changes = lappend(output->link_changes, change);
	draft->links = added ? lappend(draft->links, link) : list_delete_ptr(draft->links, link);
}

/*
 * Adds or removes a link; nothing where it is so already.
 */
void
wf_draft_link(WfDraft *draft, WfOutput *output, WfLinkKind kind, const char *peer, bool wanted)
{
	ListCell   *lc;
	WfLink	   *link = NULL;

	foreach(lc, links_of(draft, output))
	{
		WfLink	   *other = lfirst(lc);

		if (other->kind == kind && strcmp(other->peer, peer) == 0)
			link = other;
	}
	if ((link != NULL) == wanted)
		return;
	if (wanted)
	{
		link = palloc(sizeof(WfLink));
		link->kind = kind;
		link->peer = pstrdup(peer);
	}
	change_link(draft, output, link, wanted);
}

/*
 * Tells those who are to know that the instance has closed, and does to its children what was chosen.
 */
static void
tell_others(WfDraft *draft, WfOutput *output)
{
	if (draft->row.parent != NULL)
		wf_letter_close(output, draft, "child", draft->row.parent);
	while (links_of(draft, output) != NIL)
	{
		WfLink	   *link = linitial(draft->links);

		if (link->kind == WF_LINK_MONITOR)
			wf_letter_close(output, draft, "monitor", link->peer);
		else if (link->kind == WF_LINK_CANCEL)
			wf_letter_cancel(output, draft, link->peer, "its parent has closed", -1);
		else
			wf_letter_terminate(output, draft, link->peer, "its parent has closed");
		change_link(draft, output, link, false);
	}
}

/*
 * Closes the instance.  record.c deals with what is left in its mailbox.
 */
static void
close_instance(WfDraft *draft, WfOutput *output, WfStatus status, Jsonb *result, const char *error)
{
	draft->row.status = status;
	draft->row.closed_at = draft->fold.clock;
	draft->row.retry_at = DT_NOBEGIN;
	draft->row.result = result;
	draft->row.error = error == NULL ? NULL : pstrdup(error);
	draft->row_changed = true;
	draft->stopped = true;
	tell_others(draft, output);
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
	log_engine_event(draft, output, "$pause", engine_payload(reason), NULL);
}

/*
 * The timers of the process, read from its mailbox where they are not known.
 */
static WfTimers *
timers_of(WfDraft *draft, const WfOutput *output)
{
	if (draft->timers.known)
		return &draft->timers;
	if (draft->newborn || draft->fold.seq == 0)
		draft->timers.known = true;
	else
		wf_timers_load(&draft->timers, draft->instance_id, output->snapshot, draft->fired);
	return &draft->timers;
}

/*
 * A timer has fired: whatever becomes of its event, there is no timer any more.
 */
static void
forget_timer(WfDraft *draft, WfMail *mail)
{
	WfTimer    *timer = draft->timers.known ? wf_timers_find(&draft->timers, mail->timer) : NULL;

	if (timer != NULL)
		wf_timers_remove(&draft->timers, timer);
	else if (!draft->timers.known)
		draft->fired = lappend(draft->fired, mail);
}

/*
 * Its mail, where it was read or made in this turn, stays where it is: nobody will handle it.
 */
static void
withdraw_timer(WfDraft *draft, WfOutput *output, WfTimer *timer)
{
	if (timer->mail_id != 0)
	{
		WfWithdrawal *withdrawal = palloc(sizeof(WfWithdrawal));

		withdrawal->instance_id = draft->instance_id;
		withdrawal->place.at = timer->at;
		withdrawal->place.origin = WF_FROM_PROCESS;
		withdrawal->place.mail_id = timer->mail_id;
		output->withdrawals = lappend(output->withdrawals, withdrawal);
	}
	wf_timers_remove(&draft->timers, timer);
}

static void
cancel_timer(WfDraft *draft, WfOutput *output, const char *name)
{
	WfTimer    *timer = wf_timers_find(timers_of(draft, output), name);

	if (timer != NULL)
		withdraw_timer(draft, output, timer);
}

static void
set_timer(WfDraft *draft, WfOutput *output, const WfAction *action)
{
	WfEvent		event = {.at = action->at,.name = action->name,.payload = action->json,.sender = draft->row.id};

	/* a timer of the future is no part of a cascade */
	int			depth = action->at > draft->fold.clock ? 0 : output->depth + 1;
	WfMail	   *mail = wf_inbox_make(output, draft->instance_id, &event, depth);

	cancel_timer(draft, output, action->name);
	mail->timer = action->name;
	mail->state_key = action->state_key;
	wf_timers_add(&draft->timers, mail);
	if (action->at <= output->now)
		wf_inbox_add(draft, mail);
	if (action->state_key != NULL && !draft->row.state_timers)
		draft->row.state_timers = draft->row_changed = true;
}

static Jsonb *
value_of(Jsonb *state, const char *key)
{
	JsonbValue	wanted = {.type = jbvString};
	JsonbValue *value;

	wanted.val.string.val = unconstify(char *, key);
	wanted.val.string.len = strlen(key);
	value = findJsonbValueFromContainer(&state->root, JB_FOBJECT, &wanted);
	return value == NULL ? NULL : JsonbValueToJsonb(value);
}

static bool
key_has_changed(Jsonb *before, Jsonb *after, const char *key)
{
	Jsonb	   *old = value_of(before, key);
	Jsonb	   *new = value_of(after, key);

	if (old == NULL || new == NULL)
		return old != new;
	return compareJsonbContainers(&old->root, &new->root) != 0;
}

/*
 * Cancels the timers that were to last until this change of the state.
 */
static void
cancel_state_timers(WfDraft *draft, WfOutput *output, Jsonb *before, Jsonb *after)
{
	List	   *timers = list_copy(timers_of(draft, output)->timers);
	ListCell   *lc;

	foreach(lc, timers)
	{
		WfTimer    *timer = lfirst(lc);

		if (timer->state_key != NULL && key_has_changed(before, after, timer->state_key))
			withdraw_timer(draft, output, timer);
	}
	list_free(timers);
}

/*
 * complete(): after a cancel that was deferred, the story ends as cancelled.
 */
static void
complete(WfDraft *draft, WfOutput *output, Jsonb *result)
{
	close_instance(draft, output, draft->row.cancelling ? WF_CANCELLED : WF_COMPLETED, result, NULL);
}

static void
set_attributes(WfDraft *draft, Jsonb *changes)
{
	draft->row.attributes = wf_attributes_merge(draft->row.attributes, changes);
	draft->row_changed = draft->attributes_changed = true;
}

/*
 * What is to happen to a child when this instance closes, be it in this very step.
 */
static void
link_child(WfDraft *draft, WfOutput *output, const WfAction *action)
{
	WfLinkKind	kind;
	bool		none;

	if (action->on_parent_close == NULL)
		return;
	(void) wf_link_parse_on_close(action->on_parent_close, &none, &kind);
	wf_draft_link(draft, output, kind, action->id, true);
}

static void
carry_out_one(WfDraft *draft, WfOutput *output, WfMail *mail, const WfAction *action)
{
	switch (action->kind)
	{
		case WF_ACTION_SEND:
			wf_letter_send(output, draft, action);
			break;
		case WF_ACTION_START:
			wf_letter_start(output, draft, action);
			link_child(draft, output, action);
			break;
		case WF_ACTION_SET_TIMER:
			set_timer(draft, output, action);
			break;
		case WF_ACTION_CANCEL_TIMER:
			cancel_timer(draft, output, action->name);
			break;
		case WF_ACTION_SET_ATTRIBUTES:
			set_attributes(draft, action->json);
			break;
		case WF_ACTION_REPLY:
			if (mail->event.sender != NULL)
				wf_letter_reply(output, draft, mail, action->json);
			break;
		case WF_ACTION_MONITOR:
		case WF_ACTION_DEMONITOR:
			wf_letter_monitor(output, draft, action->id, action->kind == WF_ACTION_MONITOR);
			break;
		case WF_ACTION_CANCEL:
			wf_letter_cancel(output, draft, action->id, action->reason, action->deadline_us);
			break;
		case WF_ACTION_TERMINATE:
			wf_letter_terminate(output, draft, action->id, action->reason);
			break;
		case WF_ACTION_DEFER_CANCEL:
			draft->row.cancelling = draft->row_changed = true;
			break;
		case WF_ACTION_COMPLETE:
			complete(draft, output, action->json);
			break;
		case WF_ACTION_FAIL:
			close_instance(draft, output, WF_FAILED, NULL, action->reason);
			break;
		case WF_ACTION_REJECT:
			bury(draft, output, mail, action->reason);
			break;
		case WF_ACTION_POSTPONE:
			break;
	}
}

static bool
has_action(const List *actions, WfActionKind kind)
{
	ListCell   *lc;

	foreach(lc, actions)
		if (((const WfAction *) lfirst(lc))->kind == kind)
		return true;
	return false;
}

/*
 * Carries out what a step asked for.
 */
static void
carry_out(WfDraft *draft, WfOutput *output, WfMail *mail, const List *actions)
{
	ListCell   *lc;

	foreach(lc, actions)
		carry_out_one(draft, output, mail, lfirst(lc));
	if (strcmp(mail->event.name, "cancel") == 0 && !WF_IS_CLOSED(draft->row.status) &&
		!has_action(actions, WF_ACTION_DEFER_CANCEL) && !has_action(actions, WF_ACTION_REJECT))
		close_instance(draft, output, WF_CANCELLED, NULL, wf_object_get_text(mail->event.payload, "reason"));
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
			log_engine_event(draft, output, "$fail", engine_payload(reason), mail);
			close_instance(draft, output, WF_FAILED, NULL, reason);
			break;
		case WF_ON_FAILURE_DEAD_LETTER:
			log_engine_event(draft, output, "$skip", engine_payload(reason), mail);
			finish_mail(draft, output, mail);
			if (mail->timer != NULL)
				forget_timer(draft, mail);
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
	/* skip() looks for the first that is not postponed */
	mail->rewrite |= mail->row_postponed;
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
		forget_timer(draft, mail);
	mail->timer = NULL;
	mail->rewrite = true;
	wf_inbox_set_aside(draft, mail);
}

/*
 * The step has ended well.
 */
static void
step_done(WfDraft *draft, WfOutput *output, WfMail *mail, const WfFold *after, const List *actions, int64 digest)
{
	finish_mail(draft, output, mail);
	if (mail->timer != NULL)
		forget_timer(draft, mail);
	if (after->changed_seq == after->seq && draft->row.state_timers)
		cancel_state_timers(draft, output, draft->fold.state, after->state);
	add_to_log(draft, output, after, &mail->event, digest, reply_among(actions));
	if (after->changed_seq == after->seq)
		wf_inbox_offer_again(draft);
	clear_failures(draft);
	carry_out(draft, output, mail, actions);
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
 * A request to pause or to resume, logged with who asked and why.
 */
static void
change_status(WfDraft *draft, WfOutput *output, const WfMail *mail)
{
	bool		pausing = strcmp(mail->event.name, "$pause") == 0;

	if (draft->broken || (pausing && draft->row.status == WF_PAUSED) ||
		(!pausing && draft->row.status != WF_PAUSED && draft->row.attempts == 0))
		return;
	log_engine_event(draft, output, mail->event.name, mail->event.payload, mail);
	clear_failures(draft);
	draft->row.status = pausing ? WF_PAUSED : WF_RUNNING;
	draft->row_changed = true;
	draft->stopped = draft->stopped || pausing;
}

/*
 * A request to close at once.  Also where the log cannot be folded: then without a row in it.
 */
static void
terminate(WfDraft *draft, WfOutput *output, const WfMail *mail)
{
	if (!draft->broken)
		log_engine_event(draft, output, "$terminate", mail->event.payload, mail);
	close_instance(draft, output, WF_TERMINATED, NULL, wf_object_get_text(mail->event.payload, "reason"));
}

/*
 * A request not to wait any longer with the next attempt.
 */
static void
retry_now(WfDraft *draft, WfOutput *output, const WfMail *mail)
{
	if (draft->broken || draft->row.status != WF_RUNNING || draft->row.retry_at == DT_NOBEGIN)
		return;
	log_engine_event(draft, output, "$retry", mail->event.payload, mail);
	draft->row.retry_at = DT_NOBEGIN;
	draft->row_changed = true;
}

static int64
get_mail_id(Jsonb *payload)
{
	Jsonb	   *value = JB_ROOT_IS_OBJECT(payload) ? value_of(payload, "mail_id") : NULL;
	JsonbValue	scalar;

	if (value == NULL || !JB_ROOT_IS_SCALAR(value) || !JsonbExtractScalar(&value->root, &scalar) ||
		scalar.type != jbvNumeric)
		return 0;
	return DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(scalar.val.numeric)));
}

/*
 * A request to set aside the event that fails.  Its row is still protected by the turn's snapshot.
 */
static void
skip(WfDraft *draft, WfOutput *output, const WfMail *mail)
{
	char	   *reason = wf_object_get_text(mail->event.payload, "reason");
	WfMail	   *failing = palloc(sizeof(WfMail));

	if (draft->broken || (draft->row.attempts == 0 && draft->row.crashes == 0) ||
		!wf_mailbox_find(draft->instance_id, get_mail_id(mail->event.payload), failing) ||
		WF_IS_ENGINE_EVENT(failing->event.name) || strcmp(failing->event.name, "start") == 0)
		return;
	log_engine_event(draft, output, "$skip", mail->event.payload, mail);
	draft->taken = lappend(draft->taken, failing);
	output->handled = lappend(output->handled, failing);
	if (failing->timer != NULL)
		forget_timer(draft, failing);
	bury(draft, output, failing, psprintf("skipped: %s", reason != NULL ? reason : "no reason given"));
	clear_failures(draft);
	draft->row.status = WF_RUNNING;
	draft->row_changed = true;
}

/*
 * A request to change the attributes.
 */
static void
change_attributes(WfDraft *draft, WfOutput *output, const WfMail *mail)
{
	Jsonb	   *changes = value_of(mail->event.payload, "attributes");

	if (draft->broken || changes == NULL || !JB_ROOT_IS_OBJECT(changes))
		return;
	log_engine_event(draft, output, "$attributes", mail->event.payload, mail);
	set_attributes(draft, changes);
}

/*
 * A control event, of which only those that change something are logged.
 */
static void
handle_control(WfDraft *draft, WfOutput *output, WfMail *mail)
{
	const char *name = mail->event.name;

	output->depth = mail->depth;
	finish_mail(draft, output, mail);
	if (strcmp(name, "$pause") == 0 || strcmp(name, "$resume") == 0)
		change_status(draft, output, mail);
	else if (strcmp(name, "$terminate") == 0)
		terminate(draft, output, mail);
	else if (strcmp(name, "$retry") == 0)
		retry_now(draft, output, mail);
	else if (strcmp(name, "$skip") == 0)
		skip(draft, output, mail);
	else if (strcmp(name, "$attributes") == 0)
		change_attributes(draft, output, mail);
	else if (strcmp(name, "$monitor") == 0 || strcmp(name, "$demonitor") == 0)
		wf_draft_link(draft, output, WF_LINK_MONITOR, mail->event.sender, strcmp(name, "$monitor") == 0);
	else if (strcmp(name, "$snapshot") == 0)
		/* of the state as it is now */
		draft->stopped = draft->wants_snapshot = !draft->broken;
	else if (strcmp(name, "$passivate") == 0)
		draft->stopped = draft->wants_passivation = true;
	else
		bury(draft, output, mail, "unknown control event");
}

/*
 * Handles what wf_inbox_next() gives.  Returns whether that was an event which its handler has handled.
 */
bool
wf_draft_handle(WfDraft *draft, WfOutput *output)
{
	WfMail	   *mail = wf_inbox_next(draft, output->now);

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
