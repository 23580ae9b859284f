/*
 * inbox.c: the mail of a process during a turn: what was read of its mailbox, and what was handed over in memory.
 *
 * Called by draft.c, lineup.c, deliver.c and record.c, in the turn's memory.  The mailbox is read in portions, each when
 * the turn has come to its first stamp, all with the turn's snapshot.  So mail that was handled is still seen in the
 * table: what was taken out of order is remembered, and so is how many of one stamp were read.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "inbox.h"

/* of the mailbox, at one time: grows while a turn comes back for more, but not beyond that memory */
#define FIRST_PORTION 8
#define LAST_PORTION 256
#define PORTION_BYTES ((Size) 8 * 1024 * 1024)
/* control events */
#define MAX_CONTROL 100
/* mail with older stamps than start's that is looked through */
#define MAX_BEFORE_START 1000
/* mail made in this turn comes after what has a number already */
#define AFTER_NUMBERED (INT64CONST(1) << 62)

static WfPlace
place_of(const WfMail *mail)
{
	WfPlace		place = {
		.at = mail->event.at,.origin = mail->origin,
		.mail_id = mail->order != 0 ? AFTER_NUMBERED + mail->order : mail->event.mail_id
	};

	return place;
}

/*
 * Negative where a is handled before b.
 */
int
wf_inbox_compare(const WfPlace *a, const WfPlace *b)
{
	if (a->at != b->at)
		return a->at < b->at ? -1 : 1;
	if (a->origin != b->origin)
		return a->origin < b->origin ? -1 : 1;
	if (a->mail_id != b->mail_id)
		return a->mail_id < b->mail_id ? -1 : 1;
	return 0;
}

/*
 * First of all first: a pairingheap gives its greatest.
 */
static int
compare_mails(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	WfPlace		x = place_of(pairingheap_const_container(WfMail, node, a));
	WfPlace		y = place_of(pairingheap_const_container(WfMail, node, b));

	return wf_inbox_compare(&y, &x);
}

/*
 * Mail that this turn makes.  The event is copied, what it points to is not.
 */
WfMail *
wf_inbox_make(WfOutput *output, int64 instance_id, const WfEvent *event, int depth)
{
	WfMail	   *mail = palloc0(sizeof(WfMail));

	mail->instance_id = instance_id;
	ItemPointerSetInvalid(&mail->tid);
	mail->origin = WF_FROM_PROCESS;
	mail->order = ++output->orders;
	mail->depth = depth;
	mail->postponed = WF_NOT_POSTPONED;
	mail->event = *event;
	return mail;
}

/*
 * Hands mail over to a process.
 */
void
wf_inbox_add(WfDraft *draft, WfMail *mail)
{
	if (draft->inbox == NULL)
		draft->inbox = pairingheap_allocate(compare_mails, NULL);
	pairingheap_add(draft->inbox, &mail->node);
	if (strcmp(mail->event.name, "$terminate") == 0 && (draft->deadline == NULL || mail->event.at < draft->deadline->event.at))
		draft->deadline = mail;
}

static WfMail *
first_handed_over(const WfDraft *draft)
{
	if (draft->inbox == NULL || pairingheap_is_empty(draft->inbox))
		return NULL;
	return pairingheap_container(WfMail, node, pairingheap_first(draft->inbox));
}

/*
 * The first of what was read and what was handed over.
 */
static WfMail *
first_mail(const WfDraft *draft)
{
	WfMail	   *read = draft->next < draft->count ? &draft->mails[draft->next] : NULL;
	WfMail	   *handed = first_handed_over(draft);
	WfPlace		x;
	WfPlace		y;

	if (read == NULL || handed == NULL)
		return read != NULL ? read : handed;
	x = place_of(read);
	y = place_of(handed);
	return wf_inbox_compare(&x, &y) < 0 ? read : handed;
}

/*
 * Whether events of the process must wait: only what is urgent is looked for then.
 */
static bool
must_wait(const WfDraft *draft, TimestampTz now)
{
	return !wf_draft_can_go_on(draft, now) || (!draft->fold.started && draft->row.started_at > now);
}

/*
 * The deadline of a cancel, where it goes before what is due: that must wait, or has not even begun.
 */
static WfMail *
passed_deadline(const WfDraft *draft, TimestampTz now)
{
	WfMail	   *deadline = draft->deadline;

	if (deadline == NULL || deadline->event.at > now)
		return NULL;
	if (must_wait(draft, now) || (!draft->fold.started && deadline->event.at < draft->row.started_at))
		return deadline;
	return NULL;
}

/*
 * Whether nothing of its mail is to be handled in this turn.
 */
static bool
is_out(const WfDraft *draft)
{
	return draft->absent || wf_draft_is_held(draft) || WF_IS_CLOSED(draft->row.status);
}

/*
 * What the process would handle next, as far as is read; NULL: nothing, or not now.
 */
WfMail *
wf_inbox_next(const WfDraft *draft, TimestampTz now)
{
	WfMail	   *mail;

	if (is_out(draft))
		return NULL;
	if (draft->urgent != NULL)
		return draft->urgent;
	mail = first_mail(draft);
	if (mail != NULL && mail->event.at == WF_AT_ONCE)
		return mail;
	if (passed_deadline(draft, now) != NULL)
		return draft->deadline;
	if (!wf_draft_can_go_on(draft, now))
		return NULL;
	return draft->fold.started ? mail : draft->start;
}

/*
 * Takes out what wf_inbox_next() gave.
 */
void
wf_inbox_remove(WfDraft *draft, WfMail *mail)
{
	if (mail == draft->deadline)
		draft->deadline = NULL;
	if (mail == draft->start)
	{
		draft->start = NULL;
		draft->taken = lappend(draft->taken, mail);
		/* what came before start by its stamp is to be read yet */
		if (!draft->newborn)
			draft->unread_at = WF_NO_STAMP;
	}
	else if (mail == draft->urgent)
	{
		draft->urgent = NULL;
		draft->taken = lappend(draft->taken, mail);
	}
	else if (draft->next < draft->count && mail == &draft->mails[draft->next])
		draft->next++;
	else
		pairingheap_remove(draft->inbox, &mail->node);
}

/*
 * Keeps mail, which was taken out, until the state changes.
 */
void
wf_inbox_set_aside(WfDraft *draft, WfMail *mail)
{
	draft->aside = lappend(draft->aside, mail);
}

/*
 * The state has changed.
 */
void
wf_inbox_offer_again(WfDraft *draft)
{
	ListCell   *lc;

	foreach(lc, draft->aside)
	{
		WfMail	   *mail = lfirst(lc);

		mail->postponed = WF_NOT_POSTPONED;
		wf_inbox_add(draft, mail);
	}
	draft->aside = NIL;
}

/*
 * Whether there may be mail in the mailbox that comes before any that was read.
 */
static bool
is_unread(const WfDraft *draft, TimestampTz now, const WfMail *mail, TimestampTz *at)
{
	*at = draft->unread_at;
	if (draft->unread_at == WF_AT_ONCE)
		return true;
	if (mail != NULL && mail->event.at == WF_AT_ONCE)
		return false;
	if (must_wait(draft, now))
	{
		/* looking is no act: at once, so that what is found has its place */
		*at = WF_NO_STAMP;
		return (draft->unread_at != DT_NOEND || draft->next < draft->count) && !draft->looked_for_urgent;
	}
	if (!draft->fold.started)
		return draft->start == NULL && !draft->newborn && draft->unread_at <= now &&
			(mail == NULL || draft->unread_at <= mail->event.at);
	/* what was read comes before what was not */
	return draft->next == draft->count && draft->unread_at <= now &&
		(mail == NULL || draft->unread_at <= mail->event.at);
}

/*
 * Where the process stands in the order of all: false where it has nothing to do in this turn.  *unread: its mail must be
 * read first.
 */
bool
wf_inbox_place(const WfDraft *draft, TimestampTz now, WfPlace *place, bool *unread)
{
	WfMail	   *mail;

	memset(place, 0, sizeof(WfPlace));
	*unread = false;
	if (is_out(draft))
		return false;
	if (!draft->loaded)
	{
		mail = first_handed_over(draft);
		place->at = mail == NULL ? draft->unread_at : Min(draft->unread_at, mail->event.at);
		return true;
	}
	mail = wf_inbox_next(draft, now);
	if (is_unread(draft, now, mail, &place->at))
	{
		*unread = true;
		return true;
	}
	if (mail == NULL)
		return false;
	*place = place_of(mail);
	return true;
}

static bool
was_taken(const WfDraft *draft, const WfMail *mail)
{
	ListCell   *lc;

	/* what was made in this turn has no number, and is met once only */
	if (mail->event.mail_id == 0)
		return false;
	foreach(lc, draft->taken)
		if (((WfMail *) lfirst(lc))->event.mail_id == mail->event.mail_id)
		return true;
	return false;
}

/*
 * Of one that has not started: its start, and the deadline of a cancel.
 */
static void
look_for_start(WfDraft *draft, WfMail *mails, int count)
{
	for (int i = 0; i < count; i++)
	{
		if (was_taken(draft, &mails[i]))
			continue;
		if (strcmp(mails[i].event.name, "$terminate") == 0 && draft->urgent == NULL)
			draft->urgent = &mails[i];
		if (strcmp(mails[i].event.name, "start") == 0)
			draft->start = &mails[i];
	}
}

/*
 * The first event of an instance is start, whatever older stamps its other mail has; unless the deadline of a cancel has
 * passed before.
 */
static void
read_start(WfDraft *draft, const WfOutput *output)
{
	TimestampTz next_at;
	WfMail	   *mails;
	int			count = wf_mailbox_read(draft->instance_id, WF_NO_STAMP, draft->row.started_at, MAX_BEFORE_START,
										PORTION_BYTES, output->snapshot, &mails, &next_at);

	look_for_start(draft, mails, count);
	if (draft->start == NULL && next_at <= draft->row.started_at)
	{
		count = wf_mailbox_read(draft->instance_id, draft->row.started_at, draft->row.started_at, 1, 0, output->snapshot,
								&mails, &next_at);
		look_for_start(draft, mails, count);
	}
	if (draft->start == NULL)
		/* not seen by this snapshot: its wake-up is to come */
		draft->unread_at = DT_NOEND;
}

/*
 * The next portion, but for those of its first stamp that were read already.
 */
static void
read_portion(WfDraft *draft, const WfOutput *output)
{
	TimestampTz from = draft->unread_at;
	int			count;

	draft->portion = draft->portion == 0 ? FIRST_PORTION : Min(draft->portion * 2, LAST_PORTION);
	count = wf_mailbox_read_on(draft->instance_id, from, draft->ties, output->now, draft->portion, PORTION_BYTES,
							   output->snapshot, &draft->mails, &draft->unread_at);
	if (draft->unread_at != from)
		draft->ties = 0;
	for (int i = count - 1; i >= 0 && draft->mails[i].event.at == draft->unread_at; i--)
		draft->ties++;
	draft->next = draft->count = 0;
	for (int i = 0; i < count; i++)
	{
		WfMail	   *mail = &draft->mails[i];

		if (draft->taken != NIL && was_taken(draft, mail))
			continue;
		mail->row_postponed = mail->postponed != WF_NOT_POSTPONED;
		if (mail->row_postponed && mail->postponed >= draft->fold.changed_seq)
			wf_inbox_set_aside(draft, memcpy(palloc(sizeof(WfMail)), mail, sizeof(WfMail)));
		else
		{
			mail->postponed = WF_NOT_POSTPONED;
			draft->mails[draft->count++] = *mail;
		}
	}
}

/*
 * While a process must wait: a deadline in its mailbox, which does not wait.
 */
static void
look_for_deadline(WfDraft *draft, const WfOutput *output)
{
	WfMail	   *mail = palloc(sizeof(WfMail));

	draft->looked_for_urgent = true;
	/* where one was dropped in this turn, so were all in the mailbox */
	if (!wf_mailbox_find_deadline(draft->instance_id, output->snapshot, mail) || was_taken(draft, mail))
		return;
	if (mail->event.at <= output->now)
		draft->urgent = mail;
	else
		draft->deadline_at = mail->event.at;
}

static bool
is_deadline(const WfMail *mail)
{
	return mail->event.at != WF_AT_ONCE && strcmp(mail->event.name, "$terminate") == 0;
}

/*
 * Takes the deadlines out of what was read and what was handed over.
 */
static void
drop_in_memory(WfDraft *draft)
{
	List	   *others = NIL;
	int			kept = draft->next;
	ListCell   *lc;

	for (int i = draft->next; i < draft->count; i++)
		if (!is_deadline(&draft->mails[i]))
			draft->mails[kept++] = draft->mails[i];
	draft->count = kept;
	while (draft->inbox != NULL && !pairingheap_is_empty(draft->inbox))
	{
		WfMail	   *mail = pairingheap_container(WfMail, node, pairingheap_remove_first(draft->inbox));

		if (!is_deadline(mail))
			others = lappend(others, mail);
	}
	foreach(lc, others)
		wf_inbox_add(draft, lfirst(lc));
}

/*
 * Takes them out of the mailbox, all of which is read.
 */
static void
drop_in_mailbox(WfDraft *draft, WfOutput *output)
{
	WfMailScan *scan = wf_mailbox_open(draft->instance_id, WF_NO_STAMP, output->snapshot);
	WfMail		mail;

	while (wf_mailbox_next(scan, &mail))
	{
		WfMail	   *copy;

		CHECK_FOR_INTERRUPTS();
		if (!is_deadline(&mail) || was_taken(draft, &mail))
			continue;
		copy = palloc0(sizeof(WfMail));
		copy->instance_id = mail.instance_id;
		copy->tid = mail.tid;
		copy->event.mail_id = mail.event.mail_id;
		draft->taken = lappend(draft->taken, copy);
		output->handled = lappend(output->handled, copy);
	}
	wf_mailbox_close(scan);
}

/*
 * The deadlines of cancels that wait for the process do not hold any more, wherever they are.
 */
void
wf_inbox_drop_deadlines(WfDraft *draft, WfOutput *output)
{
	ListCell   *lc;

	draft->deadline = NULL;
	draft->deadline_at = DT_NOEND;
	drop_in_memory(draft);
	foreach(lc, output->posts)
	{
		WfMail	   *mail = lfirst(lc);

		if (mail->instance_id == draft->instance_id && is_deadline(mail))
			output->posts = foreach_delete_current(output->posts, lc);
	}
	if (!draft->newborn)
		drop_in_mailbox(draft, output);
}

/*
 * Reads on in the mailbox: control events first and alone, then start, then what is due.
 */
void
wf_inbox_read(WfDraft *draft, const WfOutput *output)
{
	if (draft->unread_at == WF_AT_ONCE)
	{
		draft->next = 0;
		draft->count = wf_mailbox_read(draft->instance_id, WF_AT_ONCE, WF_AT_ONCE, MAX_CONTROL, PORTION_BYTES,
									   output->snapshot, &draft->mails, &draft->unread_at);
		if (draft->unread_at == WF_AT_ONCE)
		{
			/*
			 * the rest of them, and what comes after, is left to the next
			 * turn
			 */
			draft->more_control = draft->stopped = true;
			draft->unread_at = DT_NOEND;
		}
	}
	else if (must_wait(draft, output->now))
	{
		look_for_deadline(draft, output);
	}
	else if (!draft->fold.started)
		read_start(draft, output);
	else
		read_portion(draft, output);
}

/*
 * Whether a request to terminate is among the control events of its mailbox, of which nothing has been read.
 */
bool
wf_inbox_is_terminated(const WfDraft *draft, Snapshot snapshot)
{
	TimestampTz next_at;
	WfMail	   *mails;
	int			count = 0;

	if (draft->unread_at == WF_AT_ONCE)
		count = wf_mailbox_read(draft->instance_id, WF_AT_ONCE, WF_AT_ONCE, MAX_CONTROL, 0, snapshot, &mails, &next_at);
	for (int i = 0; i < count; i++)
		if (strcmp(mails[i].event.name, "$terminate") == 0)
			return true;
	return false;
}

/*
 * All mail that was read or handed over and is neither handled nor postponed: of WfMail *, in no order.
 */
List *
wf_inbox_rest(const WfDraft *draft)
{
	List	   *rest = NIL;

	if (draft->start != NULL)
		rest = lappend(rest, draft->start);
	if (draft->urgent != NULL)
		rest = lappend(rest, draft->urgent);
	for (int i = draft->next; i < draft->count; i++)
		rest = lappend(rest, &draft->mails[i]);
	while (draft->inbox != NULL && !pairingheap_is_empty(draft->inbox))
		rest = lappend(rest, pairingheap_container(WfMail, node, pairingheap_remove_first(draft->inbox)));
	return rest;
}

static int
compare_in_list(const ListCell *a, const ListCell *b)
{
	WfPlace		x = place_of(lfirst(a));
	WfPlace		y = place_of(lfirst(b));

	return wf_inbox_compare(&x, &y);
}

static int
compare_numbers(const void *a, const void *b)
{
	int64		x = *(const int64 *) a;
	int64		y = *(const int64 *) b;

	return x < y ? -1 : x > y;
}

/*
 * The mail_ids of mail that is in the table, as far as the turn's snapshot sees, but not to be taken from there: sorted.
 */
static int64 *
numbers_to_skip(const List *in_memory, const WfDraft *draft, int *count)
{
	const List *lists[] = {in_memory, draft->done, draft->taken};
	int64	   *numbers = palloc((list_length(in_memory) + list_length(draft->done) + list_length(draft->taken) + 1) *
								 sizeof(int64));

	*count = 0;
	for (int i = 0; i < lengthof(lists); i++)
	{
		ListCell   *lc;

		foreach(lc, lists[i])
			numbers[(*count)++] = ((WfMail *) lfirst(lc))->event.mail_id;
	}
	qsort(numbers, *count, sizeof(int64), compare_numbers);
	return numbers;
}

/*
 * Takes all mail of an instance that has closed, at most about max, and WF_CLOSING_BYTES, of what is in its mailbox: of
 * WfMail *, in order.  It is read from its beginning, for what is due later, or came while the instance was paused, is not
 * known.  draft->unread_at is DT_NOEND where that was all.
 */
List *
wf_inbox_take_all(WfDraft *draft, Snapshot snapshot, int max)
{
	List	   *all = NIL;
	int64	   *skip;
	int			skipped;
	WfMail	   *mails;
	int			count = 0;
	ListCell   *lc;

	foreach(lc, list_concat(wf_inbox_rest(draft), draft->aside))
	{
		if (!was_taken(draft, lfirst(lc)))
			all = lappend(all, lfirst(lc));
	}
	skip = numbers_to_skip(all, draft, &skipped);
	draft->aside = NIL;
	draft->start = draft->urgent = draft->deadline = NULL;
	draft->next = draft->count = draft->ties = 0;
	if (!draft->newborn)
		count = wf_mailbox_read(draft->instance_id, DT_NOBEGIN, DT_NOEND, max + skipped, WF_CLOSING_BYTES, snapshot,
								&mails, &draft->unread_at);
	for (int i = 0; i < count; i++)
		if (bsearch(&mails[i].event.mail_id, skip, skipped, sizeof(int64), compare_numbers) == NULL)
			all = lappend(all, &mails[i]);
	list_sort(all, compare_in_list);
	draft->done = list_concat(draft->done, all);
	return all;
}
