/*
 * draft.h: a process during a turn: what it will be once the turn commits.
 */
#ifndef WF_DRAFT_H
#define WF_DRAFT_H

#include "lib/pairingheap.h"

#include "instance.h"
#include "mailbox.h"
#include "process.h"
#include "resident.h"

/* mail that becomes a dead letter */
typedef struct WfBurial
{
	const WfMail *mail;
	const char *id;
	const char *reason;
} WfBurial;

/* what the steps of a turn lead to, written at its end */
typedef struct WfOutput
{
	WfLogRow  **log;
	int			log_count;
	int			log_size;
	List	   *handled;		/* of WfMail *: to be deleted */
	List	   *burials;		/* of WfBurial * */
	TimestampTz now;			/* recorded_at */
} WfOutput;

typedef struct WfDraft
{
	pairingheap_node node;		/* in the turn's queue, by its next mail */
	WfWorkflow *workflow;
	WfVersion  *version;
	WfInstance	row;
	bool		row_changed;
	WfFold		fold;
	bool		own_state;		/* fold.state was made in this turn */
	int64		snapshot_seq;
	int			repeats;
	WfMail	   *mails;			/* in the order in which they are handled */
	int			count;
	int			next;			/* the first that is not handled yet */
	TimestampTz low;			/* stamp to read its mail from */
	TimestampTz unread_at;		/* stamp of the first mail not read; DT_NOEND:
								 * none */
	bool		stopped;		/* no more steps in this turn */
	bool		broken;			/* its log cannot be folded: paused, and
								 * nothing may be added */
	bool		wants_snapshot;
	bool		wants_passivation;
} WfDraft;

extern WfDraft *wf_draft_from_process(const WfProcess *process);
extern void wf_draft_break(WfDraft *draft, const char *reason);
extern bool wf_draft_can_go_on(const WfDraft *draft, TimestampTz now);
extern bool wf_draft_handle(WfDraft *draft, WfOutput *output);
extern void wf_draft_blame(WfDraft *draft, WfOutput *output, int64 seq);

#endif
