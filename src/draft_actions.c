/*
 * draft_actions.c: what a step asked for, carried out: on the draft itself, or as letters to others.
 *
 * Called by draft.c once a step has ended well, and for what an instance's end means for others.  As there, nothing is
 * written here.
 */
#include "postgres.h"

#include "attributes.h"
#include "draft_internal.h"
#include "inbox.h"
#include "letter.h"
#include "object.h"

/* besides the payload, what it takes of the memory to tell somebody of an end */
#define TELLING_BYTES 1024

static WfLink *
find_link(List *links, const WfLink *wanted)
{
	ListCell   *lc;

	foreach(lc, links)
	{
		WfLink	   *link = lfirst(lc);

		if (link->kind == wanted->kind && strcmp(link->peer, wanted->peer) == 0)
			return link;
	}
	return NULL;
}

static bool
is_linked(const WfDraft *draft, const WfOutput *output, const WfLink *link)
{
	if (find_link(draft->links, link) != NULL)
		return true;
	return !draft->newborn && find_link(draft->unlinked, link) == NULL &&
		wf_link_exists(draft->instance_id, link, output->snapshot);
}

static void
change_link(WfDraft *draft, WfOutput *output, WfLink *link, bool added)
{
	WfLinkChange *change = palloc(sizeof(WfLinkChange));

	change->instance_id = draft->instance_id;
	change->link = link;
	change->added = added;
	output->link_changes = lappend(output->link_changes, change);
}

/*
 * Adds or removes a link; false where it is so already.
 */
bool
wf_draft_link(WfDraft *draft, WfOutput *output, WfLinkKind kind, const char *peer, bool wanted)
{
	WfLink	   *link = palloc(sizeof(WfLink));
	WfLink	   *added;

	link->kind = kind;
	link->peer = pstrdup(peer);
	if (is_linked(draft, output, link) == wanted)
		return false;
	added = find_link(draft->links, link);
	if (wanted)
		draft->links = lappend(draft->links, link);
	else if (added != NULL)
		draft->links = list_delete_ptr(draft->links, added);
	else
		draft->unlinked = lappend(draft->unlinked, link);
	change_link(draft, output, link, wanted);
	return true;
}

/*
 * The links of an instance that have rows, at most max.
 */
static List *
links_before(const WfDraft *draft, const WfOutput *output, int max)
{
	List	   *links = NIL;
	ListCell   *lc;

	if (draft->newborn)
		return NIL;
	foreach(lc, wf_link_read(draft->instance_id, max + list_length(draft->unlinked), output->snapshot))
	{
		if (find_link(draft->unlinked, lfirst(lc)) == NULL)
			links = lappend(links, lfirst(lc));
	}
	return links;
}

/*
 * Does to a child what was chosen for it.
 */
static void
close_child(WfDraft *draft, WfOutput *output, const WfLink *link)
{
	if (link->kind == WF_LINK_CANCEL)
		wf_letter_cancel(output, draft, link->peer, "its parent has closed", -1);
	else
		wf_letter_terminate(output, draft, link->peer, "its parent has closed");
	((WfLetter *) llast(output->letters))->of_link = true;
}

static void
tell(WfDraft *draft, WfOutput *output, const WfLink *link)
{
	if (link->kind == WF_LINK_MONITOR)
		wf_letter_close(output, draft, "monitor", link->peer);
	else
		close_child(draft, output, link);
}

/*
 * Tells those who have a link to the instance, which has closed, and does to its children what was chosen: as many as a turn
 * may tell.  Where there are more, draft->unfinished says so.
 */
void
wf_draft_tell_linked(WfDraft *draft, WfOutput *output)
{
	Size		each = TELLING_BYTES + (draft->row.result == NULL ? 0 : VARSIZE(draft->row.result)) +
		(draft->row.error == NULL ? 0 : strlen(draft->row.error));
	int			max = Max(1, WF_CLOSING_BYTES / each);
	List	   *before = links_before(draft, output, max + 1);
	List	   *links = list_concat_copy(before, draft->links);
	int			told = Min(max, list_length(links));

	for (int i = 0; i < told; i++)
	{
		tell(draft, output, list_nth(links, i));
		change_link(draft, output, list_nth(links, i), false);
	}
	draft->links = list_copy_tail(draft->links, Max(told - list_length(before), 0));
	draft->unfinished = told < list_length(links);
}

/*
 * The instance has closed: tells its parent, and those who have a link to it.
 */
void
wf_draft_tell_others(WfDraft *draft, WfOutput *output)
{
	if (draft->row.parent != NULL)
		wf_letter_close(output, draft, "child", draft->row.parent);
	wf_draft_tell_linked(draft, output);
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
void
wf_draft_forget_timer(WfDraft *draft, WfMail *mail)
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

/*
 * Gives a timer another stamp: its row goes, and one with the same number takes its place.  False where it has fired, or was
 * cancelled or replaced.
 */
bool
wf_draft_move_timer(WfDraft *draft, WfOutput *output, int64 mail_id, TimestampTz at)
{
	WfTimer    *timer = wf_timers_find_mail(timers_of(draft, output), mail_id);
	WfMail	   *moved = palloc(sizeof(WfMail));

	if (timer == NULL)
		return false;
	if (timer->mail != NULL)
		/* in this turn already */
		*moved = *timer->mail;
	else if (!wf_mailbox_find(draft->instance_id, mail_id, moved))
		return false;
	withdraw_timer(draft, output, timer);
	ItemPointerSetInvalid(&moved->tid);
	moved->event.at = at;
	wf_timers_add(&draft->timers, moved);
	if (at <= output->now)
		wf_inbox_add(draft, moved);
	return true;
}

static bool
key_has_changed(Jsonb *before, Jsonb *after, const char *key)
{
	Jsonb	   *old = wf_object_get(before, key);
	Jsonb	   *new = wf_object_get(after, key);

	if (old == NULL || new == NULL)
		return old != new;
	return compareJsonbContainers(&old->root, &new->root) != 0;
}

/*
 * Cancels the timers that were to last until this change of the state.
 */
void
wf_draft_cancel_state_timers(WfDraft *draft, WfOutput *output, Jsonb *before, Jsonb *after)
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
	wf_draft_close(draft, output, draft->row.cancelling ? WF_CANCELLED : WF_COMPLETED, result, NULL);
}

/*
 * defer_cancel(): where it or the workflow says for how long, that deadline takes the place of those of the cancels.
 */
static void
defer_cancel(WfDraft *draft, WfOutput *output, const WfAction *action)
{
	int64		us = action->deadline_us >= 0 ? action->deadline_us : draft->workflow->cancel_deadline_us;
	WfMail	   *deadline;

	draft->row.cancelling = draft->row_changed = true;
	if (us < 0)
		return;
	wf_inbox_drop_deadlines(draft, output);
	deadline = wf_letter_deadline(output, draft, us);
	if (deadline->event.at <= output->now)
		wf_inbox_add(draft, deadline);
	else
		output->posts = lappend(output->posts, deadline);
}

void
wf_draft_set_attributes(WfDraft *draft, Jsonb *changes)
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
	((WfLetter *) llast(output->letters))->linked = wf_draft_link(draft, output, kind, action->id, true);
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
			wf_draft_set_attributes(draft, action->json);
			break;
		case WF_ACTION_REPLY:
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
			defer_cancel(draft, output, action);
			break;
		case WF_ACTION_COMPLETE:
			complete(draft, output, action->json);
			break;
		case WF_ACTION_FAIL:
			wf_draft_close(draft, output, WF_FAILED, NULL, action->reason);
			break;
		case WF_ACTION_REJECT:
			wf_draft_bury(draft, output, mail, action->reason);
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
void
wf_draft_carry_out(WfDraft *draft, WfOutput *output, WfMail *mail, const List *actions)
{
	ListCell   *lc;

	foreach(lc, actions)
		carry_out_one(draft, output, mail, lfirst(lc));
	if (strcmp(mail->event.name, "cancel") == 0 && !WF_IS_CLOSED(draft->row.status) &&
		!has_action(actions, WF_ACTION_DEFER_CANCEL) && !has_action(actions, WF_ACTION_REJECT))
		wf_draft_close(draft, output, WF_CANCELLED, NULL, wf_object_get_text(mail->event.payload, "reason"));
}
