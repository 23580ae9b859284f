/*
 * draft_control.c: control events: what somebody wants done with an instance, which its handler does not see.
 *
 * Called by draft.c.  Each is taken out of the mailbox; only those that change something are logged, with who asked and
 * why.
 */
#include "postgres.h"

#include "utils/fmgrprotos.h"

#include "draft_internal.h"
#include "inbox.h"
#include "object.h"

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
	wf_draft_log_engine_event(draft, output, mail->event.name, mail->event.payload, mail);
	wf_draft_clear_failures(draft);
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
		wf_draft_log_engine_event(draft, output, "$terminate", mail->event.payload, mail);
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
	wf_draft_log_engine_event(draft, output, "$retry", mail->event.payload, mail);
	draft->row.retry_at = DT_NOBEGIN;
	draft->row_changed = true;
}

static int64
get_mail_id(Jsonb *payload)
{
	Jsonb	   *value = wf_object_get(payload, "mail_id");
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
	wf_draft_log_engine_event(draft, output, "$skip", mail->event.payload, mail);
	draft->taken = lappend(draft->taken, failing);
	output->handled = lappend(output->handled, failing);
	if (failing->timer != NULL)
		wf_draft_forget_timer(draft, failing);
	wf_draft_bury(draft, output, failing, psprintf("skipped: %s", reason != NULL ? reason : "no reason given"));
	wf_draft_clear_failures(draft);
	draft->row.status = WF_RUNNING;
	draft->row_changed = true;
}

/*
 * A request to change the attributes.
 */
static void
change_attributes(WfDraft *draft, WfOutput *output, const WfMail *mail)
{
	Jsonb	   *changes = wf_object_get(mail->event.payload, "attributes");

	if (draft->broken || changes == NULL || !JB_ROOT_IS_OBJECT(changes))
		return;
	wf_draft_log_engine_event(draft, output, "$attributes", mail->event.payload, mail);
	wf_draft_set_attributes(draft, changes);
}

/*
 * A control event, of which only those that change something are logged.
 */
void
wf_draft_obey(WfDraft *draft, WfOutput *output, WfMail *mail)
{
	const char *name = mail->event.name;

	output->depth = mail->depth;
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
	else if (strcmp(name, "$monitor") == 0 || strcmp(name, "$demonitor") == 0)
		(void) wf_draft_link(draft, output, WF_LINK_MONITOR, mail->event.sender, strcmp(name, "$monitor") == 0);
	else if (strcmp(name, "$snapshot") == 0)
		/* of the state as it is now */
		draft->stopped = draft->wants_snapshot = !draft->broken;
	else if (strcmp(name, "$passivate") == 0)
		draft->stopped = draft->wants_passivation = true;
	else
		wf_draft_bury(draft, output, mail, "unknown control event");
}
