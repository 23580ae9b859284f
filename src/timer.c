/*
 * timer.c: the timers of one process: a short list by name.
 *
 * A timer is a row of the mailbox with a name.  Only the holder of the instance's shard writes those, so what it has in
 * memory is the truth as of the last commit.  The list is read from the mailbox when the process first needs it: most
 * processes have no timers, and finding that out takes a look through all of their mail.
 *
 * Called by draft.c during a turn and by resident.c for what stays between turns.
 */
#include "postgres.h"

#include "timer.h"

/* how a list is filled from the mailbox */
typedef struct Load
{
	WfTimers   *timers;
	const List *fired;			/* of WfMail * */
} Load;

static WfTimer *
add(WfTimers *timers, const char *name, const char *state_key, TimestampTz at, int64 mail_id)
{
	WfTimer    *timer = palloc0(sizeof(WfTimer));

	timer->name = pstrdup(name);
	timer->state_key = state_key == NULL ? NULL : pstrdup(state_key);
	timer->at = at;
	timer->mail_id = mail_id;
	timers->timers = lappend(timers->timers, timer);
	return timer;
}

static void
found(const WfMail *mail, void *arg)
{
	Load	   *load = arg;
	ListCell   *lc;

	foreach(lc, load->fired)
		if (((WfMail *) lfirst(lc))->event.mail_id == mail->event.mail_id)
		return;
	(void) add(load->timers, mail->timer, mail->state_key, mail->event.at, mail->event.mail_id);
}

/*
 * Reads the timers of an instance, but for those that have fired since the snapshot.
 */
void
wf_timers_load(WfTimers *timers, int64 instance_id, Snapshot snapshot, const List *fired)
{
	Load		load = {timers, fired};

	timers->known = true;
	wf_mailbox_find_timers(instance_id, snapshot, found, &load);
}

static void
free_timer(WfTimer *timer)
{
	pfree(timer->name);
	if (timer->state_key != NULL)
		pfree(timer->state_key);
	pfree(timer);
}

/* a timer in a packed list; what comes after it is the next one */
typedef struct Packed
{
	TimestampTz at;
	int64		mail_id;
	bool		has_key;
	char		strings[FLEXIBLE_ARRAY_MEMBER]; /* the name, and the key if
												 * there is one, each with its
												 * 0 */
} Packed;

static Size
packed_size(const WfTimer *timer)
{
	return MAXALIGN(offsetof(Packed, strings) + strlen(timer->name) + 1 +
					(timer->state_key == NULL ? 0 : strlen(timer->state_key) + 1));
}

/*
 * How many bytes the list takes in one piece of memory.
 */
Size
wf_timers_packed_size(const WfTimers *timers)
{
	Size		size = 0;
	ListCell   *lc;

	foreach(lc, timers->timers)
		size += packed_size(lfirst(lc));
	return size;
}

/*
 * Writes the list there, as of now: what was set in this turn has its row by now.
 */
void
wf_timers_pack(const WfTimers *timers, char *place)
{
	ListCell   *lc;

	foreach(lc, timers->timers)
	{
		const WfTimer *timer = lfirst(lc);
		Packed	   *packed = (Packed *) place;
		Size		name_size = strlen(timer->name) + 1;

		packed->at = timer->at;
		packed->mail_id = timer->mail_id;
		packed->has_key = timer->state_key != NULL;
		memcpy(packed->strings, timer->name, name_size);
		if (packed->has_key)
			strcpy(packed->strings + name_size, timer->state_key);
		place += packed_size(timer);
	}
}

/*
 * The list again, in the current memory context.
 */
void
wf_timers_unpack(WfTimers *timers, const char *place, int count)
{
	timers->known = true;
	timers->timers = NIL;
	for (int i = 0; i < count; i++)
	{
		const Packed *packed = (const Packed *) place;
		const char *key = packed->has_key ? packed->strings + strlen(packed->strings) + 1 : NULL;

		place += packed_size(add(timers, packed->strings, key, packed->at, packed->mail_id));
	}
}

WfTimer *
wf_timers_find(const WfTimers *timers, const char *name)
{
	ListCell   *lc;

	foreach(lc, timers->timers)
	{
		WfTimer    *timer = lfirst(lc);

		if (strcmp(timer->name, name) == 0)
			return timer;
	}
	return NULL;
}

/*
 * The timer whose mail has that number.
 */
WfTimer *
wf_timers_find_mail(const WfTimers *timers, int64 mail_id)
{
	ListCell   *lc;

	foreach(lc, timers->timers)
	{
		WfTimer    *timer = lfirst(lc);

		if (mail_id == (timer->mail != NULL ? timer->mail->event.mail_id : timer->mail_id))
			return timer;
	}
	return NULL;
}

/*
 * Whether a timer's mail is still wanted: its timer was neither cancelled nor replaced.
 */
bool
wf_timers_has(const WfTimers *timers, const WfMail *mail)
{
	const WfTimer *timer;

	if (!timers->known)
		return true;
	timer = wf_timers_find(timers, mail->timer);
	return timer != NULL && (timer->mail == mail || (timer->mail_id != 0 && timer->mail_id == mail->event.mail_id));
}

/*
 * Adds a timer that is set now.  The caller has removed the one of its name.
 */
void
wf_timers_add(WfTimers *timers, WfMail *mail)
{
	add(timers, mail->timer, mail->state_key, mail->event.at, 0)->mail = mail;
}

void
wf_timers_remove(WfTimers *timers, WfTimer *timer)
{
	timers->timers = list_delete_ptr(timers->timers, timer);
	free_timer(timer);
}
