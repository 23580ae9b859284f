/*
 * mailbox.h: events that their instance has not handled yet.
 */
#ifndef WF_MAILBOX_H
#define WF_MAILBOX_H

#include "lib/pairingheap.h"
#include "storage/itemptr.h"
#include "utils/snapshot.h"

#include "event.h"

typedef struct WfMail
{
	pairingheap_node node;		/* for the turn's queue */
	int64		instance_id;
	void	   *addressee;		/* for the turn: whose it is */
	ItemPointerData tid;
	WfEvent		event;
} WfMail;

/* how a delete went */
typedef enum WfMailGone
{
	WF_MAIL_DELETED,
	WF_MAIL_CONFLICT			/* somebody else has it in hand, or had */
} WfMailGone;

typedef struct WfMailWriter WfMailWriter;
typedef struct WfMailScan WfMailScan;

extern int64 wf_mailbox_put(int64 instance_id, const WfEvent *event);

/* many at once; they are there once the writer is closed */
extern WfMailWriter *wf_mailbox_writer_open(int expected);
extern int64 wf_mailbox_writer_put(WfMailWriter *writer, int64 instance_id, const WfEvent *event);
extern void wf_mailbox_writer_close(WfMailWriter *writer);

/* mail of an instance from a stamp on, in order; a mail's pointers live until the next call */
extern WfMailScan *wf_mailbox_open(int64 instance_id, TimestampTz from, Snapshot snapshot);
extern bool wf_mailbox_next(WfMailScan *scan, WfMail *mail);
extern void wf_mailbox_close(WfMailScan *scan);

extern int	wf_mailbox_read(int64 instance_id, TimestampTz from, TimestampTz upto, int max, Snapshot snapshot,
							WfMail **mails, TimestampTz *next_at);

/* called for each mail that a look through a shard finds */
typedef void (*WfDueCallback) (int64 instance_id, TimestampTz at, void *arg);

extern bool wf_mailbox_find_due(int shard, TimestampTz *from, TimestampTz upto, int *rows, WfDueCallback found, void *arg);
extern bool wf_mailbox_find(int64 instance_id, int64 mail_id, WfMail *mail);
extern WfMailGone wf_mailbox_delete(const WfMail *mail);
extern bool wf_mailbox_take(int64 instance_id, int64 mail_id, WfMail *mail);
extern void wf_mailbox_bury(const WfMail *mail, const char *id, const char *reason);

#endif
