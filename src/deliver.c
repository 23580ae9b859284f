/*
 * deliver.c: takes letters to their addressees, and starts children.
 *
 * Called by turn.c after each step, within the stretch: nothing is written here.  A letter to an instance whose shard the
 * turn has, and that is due, is handed over in memory; any other is posted, which is to say put into the mailbox when the
 * turn writes.  What cannot be delivered becomes a dead letter, or an event for the sender where its workflow wants that;
 * of a child that cannot be started its parent is told.  A step that is undone has left no letters.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "acl.h"
#include "catalog.h"
#include "check.h"
#include "deliver.h"
#include "eventlog.h"
#include "guc.h"
#include "idempotency.h"
#include "inbox.h"
#include "letter.h"
#include "wakeup.h"

/* mail of an instance that has closed, per turn */
#define MAX_BURIED 10000

/*
 * A letter's mail: it has its place since the letter was written, whenever it is delivered.
 */
static WfMail *
make_mail(WfTurn *turn, const WfLetter *letter, int64 instance_id, const WfEvent *event)
{
	WfMail	   *mail = wf_inbox_make(&turn->output, instance_id, event, letter->depth);

	mail->order = letter->order;
	return mail;
}

/*
 * Finds an instance's row, but what it points to is gone: results may be large.
 */
static bool
glance_at(WfTurn *turn, const char *id, WfInstance *instance)
{
	MemoryContext old;
	bool		found;

	if (turn->scratch == NULL)
		turn->scratch = AllocSetContextCreate(turn->memory, "wfproc glance", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(turn->scratch);
	found = wf_instance_find(id, instance);
	MemoryContextSwitchTo(old);
	MemoryContextReset(turn->scratch);
	return found;
}

/*
 * Looks an id up: among those started in this turn, those found before, and in the table.
 */
static bool
find_address(WfTurn *turn, const char *id, WfAddress *address)
{
	WfInstance	instance;

	if (wf_addresses_find(turn->newborn_addresses, id, address) || wf_addresses_find(turn->addresses, id, address))
		return true;
	if (!glance_at(turn, id, &instance))
		return false;
	address->instance_id = instance.instance_id;
	address->workflow_id = instance.workflow_id;
	address->closed = WF_IS_CLOSED(instance.status);
	wf_addresses_add(turn->addresses, id, address);
	return true;
}

static bool
wants_dead_letter_events(WfTurn *turn, const char *sender)
{
	WfAddress	address;
	WfWorkflow *workflow;

	if (sender == NULL || !find_address(turn, sender, &address))
		return false;
	workflow = wf_workflow_find(address.workflow_id);
	return workflow != NULL && workflow->dead_letter_events;
}

/*
 * The event will not be handled: its sender is told at a stamp, or it becomes a dead letter.
 */
static void
bury(WfTurn *turn, WfMail *mail, TimestampTz at, const char *id, int workflow_id, const char *reason)
{
	WfBurial   *burial;

	if (wants_dead_letter_events(turn, mail->event.sender))
	{
		wf_letter_dead(&turn->output, mail->event.sender, at, id, &mail->event, reason);
		return;
	}
	burial = palloc(sizeof(WfBurial));
	burial->mail = mail;
	burial->id = id;
	burial->workflow_id = workflow_id;
	burial->reason = reason;
	turn->output.burials = lappend(turn->output.burials, burial);
}

static void
undeliverable(WfTurn *turn, const WfLetter *letter, const WfAddress *address, const char *reason)
{
	WfMail	   *mail;

	if (strcmp(letter->event.name, "$monitor") == 0)
		wf_letter_unknown(&turn->output, letter->from, letter->id);
	if (letter->silent)
		return;
	mail = make_mail(turn, letter, address == NULL ? 0 : address->instance_id, &letter->event);
	if (mail->event.at == WF_AT_ONCE)
		mail->event.at = wf_letter_stamp(letter->from);
	bury(turn, mail, mail->event.at, letter->id,
		 address == NULL ? letter->from->row.workflow_id : address->workflow_id, reason);
}

/*
 * Whether only the engine sends events of that name: nobody misses them where they cannot be handled.
 */
static bool
is_from_engine(const char *name)
{
	return WF_IS_ENGINE_EVENT(name) || strcmp(name, "cancel") == 0 || strcmp(name, "reply") == 0 ||
		strcmp(name, "dead_letter") == 0 || strncmp(name, "child.", 6) == 0 || strncmp(name, "monitor.", 8) == 0;
}

/*
 * Mail of an instance that has closed.  Its row is the caller's affair.
 */
static void
leave_unhandled(WfTurn *turn, WfDraft *draft, WfMail *mail)
{
	if (strcmp(mail->event.name, "$monitor") == 0)
		wf_letter_close(&turn->output, draft, "monitor", mail->event.sender);
	else if (strcmp(mail->event.name, "$close") == 0)
		wf_draft_tell_linked(draft, &turn->output);
	else if (mail->timer == NULL && !is_from_engine(mail->event.name))
		bury(turn, mail, mail->event.at, draft->row.id, draft->row.workflow_id,
			 psprintf("the instance is %s", wf_instance_status_name(draft->row.status)));
}

static void
post(WfTurn *turn, WfMail *mail)
{
	turn->output.posts = lappend(turn->output.posts, mail);
}

/*
 * A turn does not do more than its part of what the end of an instance brings about.  The rest is in tables, and an event for
 * the instance itself sees to it that a next turn goes on with it.
 */
static void
go_on_later(WfTurn *turn, WfDraft *draft)
{
	WfEvent		event = {.at = WF_AT_ONCE,.name = "$close",.payload = wf_check_empty_object()};

	post(turn, wf_inbox_make(&turn->output, draft->instance_id, &event, 0));
}

/*
 * An instance of this turn has closed, or turns out to have been closed before: what it leaves in memory and in its mailbox.
 */
void
wf_deliver_closed(WfTurn *turn, WfDraft *draft)
{
	ListCell   *lc;

	foreach(lc, wf_inbox_take_all(draft, turn->output.snapshot, MAX_BURIED))
	{
		WfMail	   *mail = lfirst(lc);

		leave_unhandled(turn, draft, mail);
		if (ItemPointerIsValid(&mail->tid))
			turn->output.handled = lappend(turn->output.handled, mail);
	}
	if (draft->unfinished || draft->unread_at != DT_NOEND)
		go_on_later(turn, draft);
	wf_deliver_all(turn);
}

/*
 * Whether this turn may handle events of the instance.
 */
bool
wf_deliver_is_mine(const WfTurn *turn, int64 instance_id)
{
	return (turn->shards & (UINT64CONST(1) << wf_shard_of(instance_id))) != 0 ||
		(!turn->worker && wf_wakeup_has_started(instance_id));
}

/*
 * The draft of an instance that is in this turn only because of a message.
 */
static WfDraft *
summon(WfTurn *turn, int64 instance_id)
{
	TimestampTz low = DT_NOEND;

	(void) wf_scheduler_claim(turn->scheduler, instance_id, &low);
	wf_turn_add_ready(turn, instance_id, low);
	return wf_lineup_add(turn->lineup, instance_id, wf_turn_low(turn, instance_id, low));
}

/*
 * Hands mail over in memory, or posts it.
 */
static void
hand_over(WfTurn *turn, WfMail *mail)
{
	WfDraft    *draft = wf_lineup_find(turn->lineup, mail->instance_id);

	if (draft != NULL && draft->loaded && WF_IS_CLOSED(draft->row.status))
	{
		leave_unhandled(turn, draft, mail);
		return;
	}
	mail->too_deep = mail->depth > wf_max_cascade;
	if (mail->event.at > turn->now || mail->too_deep ||
		(draft != NULL ? draft->absent : !wf_deliver_is_mine(turn, mail->instance_id)))
	{
		post(turn, mail);
		return;
	}
	if (draft == NULL)
		draft = summon(turn, mail->instance_id);
	wf_inbox_add(draft, mail);
	wf_lineup_update(turn->lineup, draft);
}

/*
 * What a key stands for that a process uses: in this turn, or before.
 */
static WfKeyState
look_key(WfTurn *turn, const WfLetter *letter, int64 instance_id)
{
	ListCell   *lc;
	int64		first;

	foreach(lc, turn->output.claims)
	{
		const WfClaim *claim = lfirst(lc);
		const WfMail *mail = claim->mail;

		if (mail->instance_id == instance_id && strcmp(mail->event.key, letter->event.key) == 0)
			return claim->with_at == letter->stamped &&
				wf_idempotency_same(&mail->event, &letter->event, letter->stamped) ? WF_KEY_SAME : WF_KEY_OTHER;
	}
	return wf_idempotency_look(instance_id, &letter->event, letter->stamped, &first);
}

/*
 * An event with an idempotency key: whether it is to be delivered.
 */
static bool
is_new(WfTurn *turn, const WfLetter *letter, const WfAddress *address)
{
	WfKeyState	state = look_key(turn, letter, address->instance_id);

	if (state == WF_KEY_OTHER)
		undeliverable(turn, letter, address,
					  psprintf("idempotency key \"%s\" was used for another event", letter->event.key));
	return state == WF_KEY_NEW;
}

static void
claim_key(WfTurn *turn, WfMail *mail, int64 sender, bool with_at)
{
	WfClaim    *claim = palloc(sizeof(WfClaim));

	mail->event.mail_id = wf_mailbox_next_id();
	claim->mail = mail;
	claim->with_at = with_at;
	claim->sender = sender;
	turn->output.claims = lappend(turn->output.claims, claim);
}

/*
 * The sender's rights with the addressee, as a client that is the sender's owner would have them.
 */
static const char *
find_objection(const WfLetter *letter, const WfWorkflow *workflow)
{
	Oid			sender;

	if (letter->from_engine)
		return NULL;
	sender = letter->from->workflow->owner;
	if (!wf_acl_may(workflow, sender, letter->privilege))
		return psprintf("permission denied for workflow \"%s\"", workflow->name);
	if (letter->privilege == WF_PRIV_SEND && letter->birth == NULL && sender != workflow->owner &&
		!wf_workflow_accepts(workflow, letter->event.name))
		return psprintf("workflow \"%s\" does not accept event \"%s\"", workflow->name, letter->event.name);
	return NULL;
}

/*
 * What is to be known of a child before it is born.
 */
static void
fill_row(const WfLetter *letter, const WfWorkflow *workflow, const WfAction *action, WfInstance *row)
{
	row->instance_id = wf_instance_next_id();
	row->id = letter->id;
	row->workflow_id = workflow->workflow_id;
	row->version = action == NULL || action->version == 0 ? workflow->current_version : action->version;
	row->first_version = row->version;
	row->status = WF_RUNNING;
	row->started_at = letter->event.at;
	row->live_from = action == NULL || action->live_from == WF_NO_STAMP ? letter->from->row.live_from : action->live_from;
	row->retry_at = DT_NOBEGIN;
	/* a copy: the parent may leave memory before its child is put there */
	row->parent = action == NULL ? NULL : pstrdup(letter->from->row.id);
	row->attributes = action == NULL ? wf_check_empty_object() : action->attributes;
}

/*
 * An instance that begins with this turn: its row is written at the end, and until then it is only here.  action: what
 * start() was told; NULL: it is started for a message.
 */
static void
create(WfTurn *turn, const WfLetter *letter, WfWorkflow *workflow, const WfAction *action, Jsonb *input)
{
	WfEvent		event = letter->event;
	WfAddress	address = {.workflow_id = workflow->workflow_id};
	WfInstance	row = {0};
	WfDraft    *draft;
	bool		foreign;		/* somebody else's shard */

	fill_row(letter, workflow, action, &row);
	address.instance_id = row.instance_id;
	draft = wf_lineup_add(turn->lineup, row.instance_id, DT_NOEND);
	draft->loaded = draft->newborn = true;
	draft->parent_id = letter->from->instance_id;
	foreign = (turn->shards & (UINT64CONST(1) << wf_shard_of(row.instance_id))) == 0 && turn->worker;
	draft->absent = foreign || !wf_turn_may_act(turn, workflow);
	draft->row = row;
	draft->workflow = workflow;
	draft->version = wf_workflow_version_of_row(workflow, row.version);
	wf_process_init_fold(&draft->fold, row.version);
	wf_eventlog_first_hash(row.id, draft->fold.hash);
	if (draft->version->problem != NULL)
		wf_draft_break(draft, draft->version->problem);
	event.name = "start";
	event.payload = input;
	event.key = NULL;
	draft->start = make_mail(turn, letter, row.instance_id, &event);
	draft->start->origin = WF_FROM_OUTSIDE;
	turn->newborns = lappend(turn->newborns, draft);
	wf_addresses_add(turn->newborn_addresses, row.id, &address);
	wf_lineup_update(turn->lineup, draft);
}

/*
 * A child could not be started: its parent is told, or where that has closed there is a dead letter.  What the parent's end
 * would do to the child must not be done to another.  reason NULL: it is there already, and that is well.
 */
static void
refuse_birth(WfTurn *turn, const WfLetter *letter, const WfAddress *address, const char *reason)
{
	ListCell   *lc;
	WfLinkKind	kind;
	bool		none;

	if (reason != NULL && WF_IS_CLOSED(letter->from->row.status))
		undeliverable(turn, letter, address, reason);
	else if (reason != NULL)
		wf_letter_not_started(&turn->output, letter->from, letter->id, reason);
	if (!letter->linked)
		return;
	(void) wf_link_parse_on_close(letter->birth->on_parent_close, &none, &kind);
	(void) wf_draft_link(letter->from, &turn->output, kind, letter->id, false);
	foreach(lc, turn->output.letters)
	{
		WfLetter   *other = lfirst(lc);

		if (other->of_link && other->from == letter->from && strcmp(other->id, letter->id) == 0 &&
			strcmp(other->event.name, kind == WF_LINK_CANCEL ? "cancel" : "$terminate") == 0)
			other->undone = true;
	}
}

/*
 * start() of a handler.
 */
static void
give_birth(WfTurn *turn, const WfLetter *letter)
{
	const WfAction *action = letter->birth;
	WfWorkflow *workflow = wf_workflow_by_name(action->name, true);
	WfAddress	address;
	const char *objection;

	if (workflow == NULL)
		refuse_birth(turn, letter, NULL, psprintf("workflow \"%s\" does not exist", action->name));
	else if ((objection = find_objection(letter, workflow)) != NULL)
		refuse_birth(turn, letter, NULL, objection);
	else if (action->version > workflow->current_version)
		refuse_birth(turn, letter, NULL, psprintf("version %d of workflow \"%s\" does not exist", action->version, action->name));
	else if (find_address(turn, letter->id, &address))
		refuse_birth(turn, letter, &address, action->ignore_existing && address.workflow_id == workflow->workflow_id ?
					 NULL : psprintf("instance \"%s\" already exists", letter->id));
	else
		create(turn, letter, workflow, action, letter->event.payload);
}

/*
 * The addressee has closed before this turn: its draft is made of its row alone.  That may be large, so a turn that has
 * enough in its memory leaves the letter in the mailbox.
 */
static void
return_to_sender(WfTurn *turn, const WfLetter *letter, WfWorkflow *workflow, WfMail *mail)
{
	WfDraft    *draft;

	if (wf_turn_is_full(turn))
	{
		post(turn, mail);
		return;
	}
	draft = palloc0(sizeof(WfDraft));
	(void) wf_instance_find(letter->id, &draft->row);
	draft->instance_id = draft->row.instance_id;
	draft->workflow = workflow;
	leave_unhandled(turn, draft, mail);
}

/*
 * Starts the addressee of a message, where it has or_start.  Returns NULL, or why that cannot be.
 */
static const char *
start_addressee(WfTurn *turn, const WfLetter *letter, WfAddress *address)
{
	WfWorkflow *workflow = letter->or_start == NULL ? NULL : wf_workflow_by_name(letter->or_start, true);
	const char *objection;

	if (letter->or_start == NULL)
		return psprintf("instance \"%s\" does not exist", letter->id);
	if (workflow == NULL)
		return psprintf("workflow \"%s\" does not exist", letter->or_start);
	objection = find_objection(letter, workflow);
	if (objection == NULL)
	{
		create(turn, letter, workflow, NULL, wf_check_empty_object());
		(void) find_address(turn, letter->id, address);
	}
	return objection;
}

static void
deliver(WfTurn *turn, const WfLetter *letter)
{
	WfAddress	address;
	WfWorkflow *workflow;
	const char *objection;
	WfMail	   *mail;

	if (!find_address(turn, letter->id, &address) &&
		(objection = start_addressee(turn, letter, &address)) != NULL)
	{
		undeliverable(turn, letter, NULL, objection);
		return;
	}
	workflow = wf_workflow_get(address.workflow_id);
	objection = find_objection(letter, workflow);
	if (objection != NULL)
	{
		undeliverable(turn, letter, &address, objection);
		return;
	}
	if (letter->event.key != NULL && !is_new(turn, letter, &address))
		return;
	mail = make_mail(turn, letter, address.instance_id, &letter->event);

	/*
	 * also of one that has closed: whether that was in this turn or before
	 * makes no difference
	 */
	if (letter->event.key != NULL)
		claim_key(turn, mail, letter->from->instance_id, letter->stamped);
	if (address.closed)
		return_to_sender(turn, letter, workflow, mail);
	else
		hand_over(turn, mail);
}

/*
 * Delivers all letters, and those that this leads to.
 */
void
wf_deliver_all(WfTurn *turn)
{
	/* the list grows meanwhile */
	for (int i = 0; i < list_length(turn->output.letters); i++)
	{
		WfLetter   *letter = list_nth(turn->output.letters, i);

		if (letter->undone)
			continue;
		if (letter->birth != NULL)
			give_birth(turn, letter);
		else
			deliver(turn, letter);
	}
	turn->output.letters = NIL;
}
