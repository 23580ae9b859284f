/*
 * mailbox.h: events that their instance has not handled yet.
 */
#ifndef WF_MAILBOX_H
#define WF_MAILBOX_H

#include "lib/pairingheap.h"
#include "storage/itemptr.h"
#include "utils/snapshot.h"

#include "event.h"

/* of events of one stamp, those from outside come first */
typedef enum WfOrigin
{
	WF_FROM_OUTSIDE,
	WF_FROM_PROCESS
} WfOrigin;

/* not postponed */
#define WF_NOT_POSTPONED (-1)

typedef struct WfMail
{
	pairingheap_node node;		/* in its draft's inbox */
	int64		instance_id;
	ItemPointerData tid;		/* invalid: it was handed over in memory, and
								 * has no row */
	WfOrigin	origin;
	int64		order;			/* of what has no mail_id yet: order of making
								 * in the turn */
	int			depth;			/* of the cascade that it is part of */
	bool		too_deep;		/* ... and is to wait for others */
	int64		postponed;		/* the last seq when it was, or
								 * WF_NOT_POSTPONED */
	bool		rewrite;		/* its row, if any, is to be written anew */
	bool		row_postponed;	/* its row says that it is postponed */
	bool		met_rollouts;	/* in this turn */
	char	   *timer;			/* its name, or NULL: no timer */
	char	   *state_key;		/* whose change cancels the timer, or NULL */
	WfEvent		event;
} WfMail;

/* where a mail is: the order in which mail is handled, within an instance and across them */
typedef struct WfPlace
{
	TimestampTz at;
	WfOrigin	origin;
	int64		mail_id;
} WfPlace;

/* how a delete went */
typedef enum WfMailGone
{
	WF_MAIL_DELETED,
	WF_MAIL_CONFLICT			/* somebody else has it in hand, or had */
} WfMailGone;

typedef struct WfMailWriter WfMailWriter;
typedef struct WfMailScan WfMailScan;

extern int64 wf_mailbox_put(int64 instance_id, const WfEvent *event);
extern int64 wf_mailbox_next_id(void);

/* many at once; they are there once the writer is closed */
extern WfMailWriter *wf_mailbox_writer_open(int expected);
extern int64 wf_mailbox_writer_put(WfMailWriter *writer, int64 instance_id, const WfEvent *event);
extern void wf_mailbox_writer_put_mail(WfMailWriter *writer, WfMail *mail, bool wake);
extern void wf_mailbox_writer_close(WfMailWriter *writer);

/* mail of an instance from a stamp on, in order; a mail's pointers live until the next call */
extern WfMailScan *wf_mailbox_open(int64 instance_id, TimestampTz from, Snapshot snapshot);
extern bool wf_mailbox_next(WfMailScan *scan, WfMail *mail);
extern void wf_mailbox_close(WfMailScan *scan);

extern int	wf_mailbox_read(int64 instance_id, TimestampTz from, TimestampTz upto, int max, Size max_bytes,
							Snapshot snapshot, WfMail **mails, TimestampTz *next_at);
extern int	wf_mailbox_read_on(int64 instance_id, TimestampTz from, int skip, TimestampTz upto, int max, Size max_bytes,
							   Snapshot snapshot, WfMail **mails, TimestampTz *next_at);

/* called for each mail that a look through a shard finds */
typedef void (*WfDueCallback) (int64 instance_id, TimestampTz at, void *arg);

extern bool wf_mailbox_find_due(int shard, TimestampTz *from, TimestampTz upto, int *rows, WfDueCallback found, void *arg);
extern bool wf_mailbox_find(int64 instance_id, int64 mail_id, WfMail *mail);
extern WfMailGone wf_mailbox_delete(const WfMail *mail);
extern bool wf_mailbox_remove(int64 instance_id, const WfPlace *place, Snapshot snapshot);
extern bool wf_mailbox_take(int64 instance_id, int64 mail_id, WfMail *mail);

/* the timers of an instance: all of its mailbox is read */
typedef void (*WfTimerCallback) (const WfMail *mail, void *arg);

extern void wf_mailbox_find_timers(int64 instance_id, Snapshot snapshot, WfTimerCallback found, void *arg);

extern int	wf_mailbox_read_control(int64 instance_id, WfMail **mails);
extern bool wf_mailbox_find_deadline(int64 instance_id, Snapshot snapshot, WfMail *mail);

/* dead letters */
extern void wf_mailbox_bury(const WfMail *mail, const char *id, int workflow_id, const char *reason);
extern bool wf_mailbox_exhume(int64 mail_id, WfMail *mail, char **id);

#endif
