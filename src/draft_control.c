/*
 * draft_control.c: control events: what somebody wants done with an instance, which its handler does not see.
 *
 * Called by draft.c.  Each is taken out of the mailbox; only those that change something are logged, with who asked and
 * why.
 */
#include "postgres.h"

#include "attributes.h"
#include "check.h"
#include "draft_internal.h"
#include "errors.h"
#include "guc.h"
#include "inbox.h"
#include "object.h"
#include "suspect.h"

/*
 * {"by": ..., "seq": ..., "reason": ..., "state": ...}: what differed, as the request says, and the state as it is.
 */
static Jsonb *
accepting_payload(const WfDraft *draft, const WfMail *mail)
{
	JsonbParseState *parse = NULL;

	wf_object_begin(&parse);
	wf_object_optional(&parse, "by", wf_object_get_text(mail->event.payload, "by"));
	wf_object_jsonb(&parse, "seq", wf_object_get(mail->event.payload, "seq"));
	wf_object_optional(&parse, "reason", wf_object_get_text(mail->event.payload, "reason"));
	wf_object_jsonb(&parse, "state", draft->fold.state);
	return wf_object_end(&parse);
}

/*
 * A request to resume that accepts what the present code makes of the log.  The state goes into the log, so that a fold needs
 * nothing but that; the snapshot, right after it, saves folding what is before.
 */
static void
accept_state(WfDraft *draft, WfOutput *output, const WfMail *mail)
{
	if ((draft->broken && !draft->acceptable) || !draft->fold.started)
		return;
	if (draft->row.state_timers && !draft->timers.known)
		wf_timers_load(&draft->timers, draft->instance_id, output->snapshot, draft->fired);
	draft->broken = draft->acceptable = false;
	(void) wf_draft_log_engine_event(draft, output, "$accept", accepting_payload(draft, mail), NULL);
	wf_inbox_offer_again(draft);
	draft->stopped = draft->wants_snapshot = true;
}

/*
 * A request to pause or to resume, logged with who asked and why.
 */
static void
change_status(WfDraft *draft, WfOutput *output, const WfMail *mail)
{
	bool		pausing = strcmp(mail->event.name, "$pause") == 0;

	if (!pausing && wf_object_get(mail->event.payload, "accept_state") != NULL)
		accept_state(draft, output, mail);
	if (draft->broken || (pausing && draft->row.status == WF_PAUSED) ||
		(!pausing && draft->row.status != WF_PAUSED && draft->row.attempts == 0))
		return;
	(void) wf_draft_log_engine_event(draft, output, mail->event.name, mail->event.payload, mail);
	wf_draft_clear_failures(draft);
	draft->row.status = pausing ? WF_PAUSED : WF_RUNNING;
	draft->row.unlogged = false;
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
		(void) wf_draft_log_engine_event(draft, output, "$terminate", mail->event.payload, mail);
	wf_draft_close(draft, output, WF_TERMINATED, NULL, wf_object_get_text(mail->event.payload, "reason"));
}

/*
 * A request not to wait any longer with the next attempt.
 */
static void
retry_now(WfDraft *draft, WfOutput *output, const WfMail *mail)
{
	if (draft->broken || draft->row.status != WF_RUNNING || draft->row.retry_at == DT_NOBEGIN)
		return;
	(void) wf_draft_log_engine_event(draft, output, "$retry", mail->event.payload, mail);
	draft->row.retry_at = DT_NOBEGIN;
	draft->row_changed = true;
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
		!wf_mailbox_find(draft->instance_id, wf_object_get_int(mail->event.payload, "mail_id"), failing) ||
		WF_IS_ENGINE_EVENT(failing->event.name) || strcmp(failing->event.name, "start") == 0)
		return;
	(void) wf_draft_log_engine_event(draft, output, "$skip", mail->event.payload, mail);
	draft->taken = lappend(draft->taken, failing);
	output->handled = lappend(output->handled, failing);
	if (failing->timer != NULL)
		wf_draft_forget_timer(draft, failing);
	wf_draft_bury(draft, output, failing, psprintf("skipped: %s", reason != NULL ? reason : "no reason given"));
	wf_draft_clear_failures(draft);
	draft->row.status = WF_RUNNING;
	draft->row.unlogged = false;
	draft->row_changed = true;
}

/*
 * A request to change the attributes.  Of several that waited each was small enough by itself.
 */
static void
change_attributes(WfDraft *draft, WfOutput *output, WfMail *mail)
{
	Jsonb	   *changes = wf_object_get(mail->event.payload, "attributes");

	if (draft->broken || changes == NULL || !JB_ROOT_IS_OBJECT(changes))
		return;
	if (!wf_check_fits(wf_attributes_merge(draft->row.attributes, changes), wf_max_payload))
	{
		wf_draft_bury(draft, output, mail, "the attributes would be larger than wfproc.max_payload");
		return;
	}
	(void) wf_draft_log_engine_event(draft, output, "$attributes", mail->event.payload, mail);
	wf_draft_set_attributes(draft, changes);
}

/*
 * A request to move a timer, which only its instance's holder may write; or the word that an operator has taken back or moved
 * what a process had sent, which is done by then.
 */
static void
move(WfDraft *draft, WfOutput *output, const WfMail *mail)
{
	Jsonb	   *payload = mail->event.payload;

	if (draft->broken)
		return;
	if (wf_object_get(payload, "timer") == NULL ||
		wf_draft_move_timer(draft, output, wf_object_get_int(payload, "mail_id"), wf_object_get_stamp(payload, "at")))
		(void) wf_draft_log_engine_event(draft, output, mail->event.name, payload, mail);
}

/*
 * A request to erase the payload of an event.  Logs with such rows are folded from a snapshot on: one is taken, and right
 * after this row, whose digest is that of the state alone, so that it says of the snapshot whether it is the right one.
 */
static void
redact(WfDraft *draft, WfOutput *output, WfMail *mail)
{
	WfRedaction *redaction = palloc(sizeof(WfRedaction));

	redaction->instance_id = draft->instance_id;
	redaction->seq = wf_object_get_int(mail->event.payload, "seq");
	if (draft->broken || !draft->fold.started || redaction->seq < 1 || redaction->seq > draft->fold.seq)
	{
		wf_draft_bury(draft, output, mail, draft->broken ? "the log cannot be folded" : "there is no such event yet");
		return;
	}
	(void) wf_draft_log_engine_event(draft, output, "$redact", mail->event.payload, mail);
	output->redactions = lappend(output->redactions, redaction);
	draft->stopped = draft->wants_snapshot = true;
}

/*
 * A migrate function has raised.  What passes holds the process where it is, and the upgrade is tried again.
 */
static void
upgrade_failed(WfDraft *draft, WfOutput *output, int version, const ErrorData *error)
{
	char	   *context = wf_error_context(error, "$upgrade", draft->fold.seq + 1);
	TimestampTz again_at;

	if (output->watcher == NULL && wf_draft_repeats(draft, error, &again_at))
	{
		wf_draft_hold(draft, again_at);
		return;
	}
	wf_draft_pause(draft, output, psprintf("upgrade to version %d: %s", version, wf_error_summary(error)));
	draft->row.error_context = context;
}

/*
 * Switches to another version, and carries out what migrate functions ask for.  Where one raises, the process pauses or is
 * held, and false is returned.
 */
bool
wf_draft_upgrade(WfDraft *draft, WfOutput *output, WfMail *mail)
{
	int			version = wf_process_upgrade_to(&mail->event);
	List	   *actions;
	ErrorData  *error;

	wf_suspect_begin(draft->instance_id, draft->fold.seq + 1);
	error = wf_draft_log_upgrade(draft, output, mail, &actions);
	wf_suspect_end();
	if (error != NULL)
	{
		upgrade_failed(draft, output, version, error);
		return false;
	}
	draft->row.version = version;
	draft->row_changed = true;
	draft->version = wf_workflow_version_of_row(draft->workflow, version);
	if (draft->version->problem != NULL)
		wf_draft_break(draft, draft->version->problem);
	wf_inbox_offer_again(draft);
	wf_draft_carry_out(draft, output, mail, actions);
	return true;
}

/*
 * Whether the server has gone down on a request to upgrade at once, again and again: a pause does not keep it from being
 * tried.  As many crashes may have been the handler's, which is what the upgrade is to mend.
 */
static bool
is_deadly(WfDraft *draft)
{
	if (draft->row.crashes < 2 * wf_max_crashes)
		return false;
	draft->row.crashes = wf_max_crashes;
	draft->row_changed = true;
	return true;
}

/*
 * A request to upgrade.  One that is dated stays where it is when it fails, so that nothing after it is handled under the
 * old version; resume() tries it again.
 */
static void
upgrade(WfDraft *draft, WfOutput *output, WfMail *mail)
{
	bool		dated = mail->event.at != WF_AT_ONCE;

	if (draft->broken)
	{
		wf_draft_finish_mail(draft, output, mail);
		wf_draft_bury(draft, output, mail, "the log cannot be folded");
	}
	else if (!dated && is_deadly(draft))
	{
		wf_draft_finish_mail(draft, output, mail);
		wf_draft_bury(draft, output, mail, draft->row.error);
	}
	else if (wf_process_upgrade_to(&mail->event) == draft->fold.version || wf_draft_upgrade(draft, output, mail))
		wf_draft_finish_mail(draft, output, mail);
	else if (!dated && !wf_draft_is_held(draft))
	{
		wf_draft_finish_mail(draft, output, mail);
		wf_draft_bury(draft, output, mail, draft->row.error);
	}
}

/*
 * A control event, of which only those that change something are logged.
 */
void
wf_draft_obey(WfDraft *draft, WfOutput *output, WfMail *mail)
{
	const char *name = mail->event.name;

	output->depth = mail->depth;
	if (strcmp(name, "$upgrade") == 0)
	{
		upgrade(draft, output, mail);
		return;
	}
	wf_draft_finish_mail(draft, output, mail);
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
	else if (strcmp(name, "$reschedule") == 0 || strcmp(name, "$unsend") == 0)
		move(draft, output, mail);
	else if (strcmp(name, "$redact") == 0)
		redact(draft, output, mail);
	else if (strcmp(name, "$monitor") == 0 || strcmp(name, "$demonitor") == 0)
		(void) wf_draft_link(draft, output, WF_LINK_MONITOR, mail->event.sender, strcmp(name, "$monitor") == 0);
	else if (strcmp(name, "$rollout") == 0)
		(void) wf_draft_roll_out(draft, output, mail);
	else if (strcmp(name, "$snapshot") == 0)
		/* of the state as it is now */
		draft->stopped = draft->wants_snapshot = !draft->broken;
	else if (strcmp(name, "$passivate") == 0)
		draft->stopped = draft->wants_passivation = true;
	else
		wf_draft_bury(draft, output, mail, "unknown control event");
}

/*
 * Deals with all that waits to be done with a process whose log cannot be folded.
 */
void
wf_draft_obey_unfolded(WfDraft *draft, WfOutput *output)
{
	WfMail	   *mails;
	int			count = wf_mailbox_read_control(draft->instance_id, &mails);

	for (int i = 0; i < count; i++)
		wf_draft_obey(draft, output, &mails[i]);
}
