/*
 * letter.c: writes letters, from a process to other instances, which deliver.c delivers.
 *
 * Called by draft.c when a step is carried out or an instance closes, and by deliver.c for answers.  A letter is stamped
 * with its sender's clock, so that its receiver meets it in the sender's time.
 */
#include "postgres.h"

#include "inbox.h"
#include "letter.h"
#include "object.h"

#define DEADLINE_REASON "the deadline of a cancel has passed"

/*
 * The sender's time.  Of one that has closed before this turn the log is not folded.
 */
TimestampTz
wf_letter_stamp(const WfDraft *from)
{
	if (WF_IS_CLOSED(from->row.status) && from->row.closed_at != 0)
		return from->row.closed_at;
	return TIMESTAMP_NOT_FINITE(from->fold.clock) ? from->row.started_at : from->fold.clock;
}

static WfLetter *
write_letter(WfOutput *output, WfDraft *from, const char *id, const char *event, Jsonb *payload)
{
	WfLetter   *letter = palloc0(sizeof(WfLetter));

	letter->from = from;
	letter->id = pstrdup(id);
	letter->event.name = pstrdup(event);
	letter->event.payload = payload;
	letter->event.at = wf_letter_stamp(from);
	letter->event.sender = from->row.id;
	letter->order = ++output->orders;
	letter->depth = output->depth + 1;
	letter->privilege = WF_PRIV_SEND;
	output->letters = lappend(output->letters, letter);
	return letter;
}

static WfLetter *
write_from_engine(WfOutput *output, WfDraft *from, const char *id, const char *event, Jsonb *payload)
{
	WfLetter   *letter = write_letter(output, from, id, event, payload);

	letter->from_engine = letter->silent = true;
	return letter;
}

/*
 * send() of a handler.
 */
void
wf_letter_send(WfOutput *output, WfDraft *from, const WfAction *action)
{
	WfLetter   *letter = write_letter(output, from, action->id, action->name, action->json);

	letter->event.key = action->key;
	letter->or_start = action->or_start;
	letter->stamped = action->at != WF_NO_STAMP;
	if (letter->stamped)
		letter->event.at = action->at;
}

/*
 * start() of a handler: the child's first event.
 */
void
wf_letter_start(WfOutput *output, WfDraft *from, const WfAction *action)
{
	WfLetter   *letter = write_letter(output, from, action->id, "start", action->json);

	letter->birth = action;
	if (action->at != WF_NO_STAMP)
		letter->event.at = action->at;
}

/*
 * Whether an event tells of an instance, which need not have sent it: nobody waits for an answer, and who has that id may
 * have nothing to do with it.
 */
static bool
is_news(const char *name)
{
	return strcmp(name, "dead_letter") == 0 || strncmp(name, "child.", 6) == 0 || strncmp(name, "monitor.", 8) == 0;
}

/*
 * What a handler answers to an event that another instance has sent.
 */
void
wf_letter_reply(WfOutput *output, WfDraft *from, const WfMail *mail, Jsonb *reply)
{
	JsonbParseState *parse = NULL;

	if (mail->event.sender == NULL || is_news(mail->event.name))
		return;
	wf_object_begin(&parse);
	wf_object_text(&parse, "id", from->row.id);
	wf_object_text(&parse, "event", mail->event.name);
	wf_object_text(&parse, "key", mail->event.key);
	wf_object_jsonb(&parse, "reply", reply);
	(void) write_from_engine(output, from, mail->event.sender, "reply", wf_object_end(&parse));
}

static Jsonb *
by_and_reason(const WfDraft *from, const char *reason)
{
	JsonbParseState *parse = NULL;

	wf_object_begin(&parse);
	wf_object_text(&parse, "by", from->row.id);
	wf_object_optional(&parse, "reason", reason);
	return wf_object_end(&parse);
}

/*
 * Asks an instance to close, and where there is a deadline (0 or more) terminates it then.
 */
void
wf_letter_cancel(WfOutput *output, WfDraft *from, const char *id, const char *reason, int64 deadline_us)
{
	WfLetter   *letter = write_letter(output, from, id, "cancel", by_and_reason(from, reason));
	TimestampTz at = letter->event.at;

	letter->privilege = WF_PRIV_OPERATE;
	if (deadline_us < 0)
		return;
	letter = write_letter(output, from, id, "$terminate", by_and_reason(from, DEADLINE_REASON));
	letter->privilege = WF_PRIV_OPERATE;
	letter->silent = true;
	letter->event.at = at + deadline_us;
}

/*
 * The deadline that an instance sets itself when it defers a cancel.
 */
WfMail *
wf_letter_deadline(WfOutput *output, WfDraft *draft, int64 deadline_us)
{
	WfEvent		event = {.at = wf_letter_stamp(draft) + deadline_us,.name = "$terminate",.sender = draft->row.id};

	event.payload = by_and_reason(draft, DEADLINE_REASON);
	return wf_inbox_make(output, draft->instance_id, &event, 0);
}

void
wf_letter_terminate(WfOutput *output, WfDraft *from, const char *id, const char *reason)
{
	WfLetter   *letter = write_letter(output, from, id, "$terminate", by_and_reason(from, reason));

	letter->privilege = WF_PRIV_OPERATE;
	letter->event.at = WF_AT_ONCE;
}

/*
 * Asks to be told when an instance closes, or no more.
 */
void
wf_letter_monitor(WfOutput *output, WfDraft *from, const char *id, bool on)
{
	WfLetter   *letter = write_letter(output, from, id, on ? "$monitor" : "$demonitor", by_and_reason(from, NULL));

	letter->privilege = WF_PRIV_READ;
	letter->event.at = WF_AT_ONCE;
	/* monitor() of nobody has an answer of its own */
	letter->silent = true;
}

static Jsonb *
end_of(const WfDraft *draft)
{
	JsonbParseState *parse = NULL;

	wf_object_begin(&parse);
	wf_object_text(&parse, "id", draft->row.id);
	if (draft->row.result != NULL)
		wf_object_jsonb(&parse, "result", draft->row.result);
	wf_object_optional(&parse, "error", draft->row.error);
	return wf_object_end(&parse);
}

/*
 * Tells somebody that the instance has closed: what is child (a parent is told) or monitor.  All are told the same, which is
 * in memory once.
 */
void
wf_letter_close(WfOutput *output, WfDraft *from, const char *what, const char *id)
{
	if (from->end == NULL)
		from->end = end_of(from);
	(void) write_from_engine(output, from, id, psprintf("%s.%s", what, wf_instance_status_name(from->row.status)),
							 from->end);
}

/*
 * Tells a parent that a child could not be started: that is an end as well, of one that has not begun.
 */
void
wf_letter_not_started(WfOutput *output, WfDraft *parent, const char *id, const char *reason)
{
	JsonbParseState *parse = NULL;
	WfLetter   *letter;

	wf_object_begin(&parse);
	wf_object_text(&parse, "id", id);
	wf_object_text(&parse, "error", reason);
	wf_object_bool(&parse, "started", false);
	letter = write_from_engine(output, parent, parent->row.id, "child.failed", wf_object_end(&parse));
	letter->event.sender = pstrdup(id);
}

/*
 * Answers monitor() of an instance that does not exist.
 */
void
wf_letter_unknown(WfOutput *output, WfDraft *watcher, const char *id)
{
	JsonbParseState *parse = NULL;

	wf_object_begin(&parse);
	wf_object_text(&parse, "id", id);
	(void) write_from_engine(output, watcher, watcher->row.id, "monitor.unknown", wf_object_end(&parse));
}

/*
 * Tells the sender of an event that it could not be delivered, at a stamp.
 */
void
wf_letter_dead(WfOutput *output, const char *sender, TimestampTz at, const char *id, const WfEvent *event,
			   const char *reason)
{
	JsonbParseState *parse = NULL;
	WfLetter   *letter = palloc0(sizeof(WfLetter));

	wf_object_begin(&parse);
	wf_object_text(&parse, "id", id);
	wf_object_text(&parse, "event", event->name);
	wf_object_jsonb(&parse, "payload", event->payload);
	wf_object_text(&parse, "reason", reason);
	letter->id = pstrdup(sender);
	letter->event.name = pstrdup("dead_letter");
	letter->event.payload = wf_object_end(&parse);
	letter->event.at = at;
	letter->event.sender = pstrdup(id);
	letter->order = ++output->orders;
	letter->depth = output->depth + 1;
	letter->from_engine = letter->silent = true;
	output->letters = lappend(output->letters, letter);
}

/*
 * The event that a roll-out is for one process; it is in no mailbox.
 */
WfMail *
wf_letter_rollout(WfOutput *output, WfDraft *draft, const WfRollout *rollout)
{
	JsonbParseState *parse = NULL;
	WfEvent		event = {.at = rollout->at,.name = "$upgrade"};

	wf_object_begin(&parse);
	wf_object_text(&parse, "by", rollout->by);
	wf_object_int(&parse, "version", rollout->version);
	wf_object_int(&parse, "rollout", rollout->rollout_id);
	event.payload = wf_object_end(&parse);
	return wf_inbox_make(output, draft->instance_id, &event, 0);
}
