/*
 * timer.h: the timers that a process has set and that have not fired.
 */
#ifndef WF_TIMER_H
#define WF_TIMER_H

#include "nodes/pg_list.h"

#include "mailbox.h"

typedef struct WfTimer
{
	char	   *name;
	char	   *state_key;		/* whose change cancels it, or NULL */
	TimestampTz at;
	int64		mail_id;		/* of its row in the mailbox; 0: not written
								 * yet */
	WfMail	   *mail;			/* of one that was set, or moved, in this
								 * turn; else NULL */
} WfTimer;

typedef struct WfTimers
{
	bool		known;			/* else they are in the mailbox, and not here */
	List	   *timers;			/* of WfTimer *; few */
} WfTimers;

extern void wf_timers_load(WfTimers *timers, int64 instance_id, Snapshot snapshot, const List *fired);
extern Size wf_timers_packed_size(const WfTimers *timers);
extern void wf_timers_pack(const WfTimers *timers, char *place);
extern void wf_timers_unpack(WfTimers *timers, const char *place, int count);
extern WfTimer *wf_timers_find(const WfTimers *timers, const char *name);
extern WfTimer *wf_timers_find_mail(const WfTimers *timers, int64 mail_id);
extern bool wf_timers_has(const WfTimers *timers, const WfMail *mail);
extern void wf_timers_add(WfTimers *timers, WfMail *mail);
extern void wf_timers_remove(WfTimers *timers, WfTimer *timer);

#endif
