/*
 * draft.h: a process during a turn: what it will be once the turn commits.
 */
#ifndef WF_DRAFT_H
#define WF_DRAFT_H

#include "lib/pairingheap.h"

#include "action.h"
#include "instance.h"
#include "link.h"
#include "mailbox.h"
#include "process.h"
#include "resident.h"
#include "snapshot.h"
#include "suspect.h"
#include "timer.h"

/* what the end of an instance may bring into the memory of one turn; the rest is left to the next ones */
#define WF_CLOSING_BYTES (16 * 1024 * 1024)

typedef struct WfDraft
{
	pairingheap_node node;		/* in the lineup, by place */
	bool		in_lineup;
	bool		unread;			/* its mail must be read first */
	WfPlace		place;			/* of what it would do next */
	TimestampTz floor;			/* its events count as not earlier: it had to
								 * wait */

	int64		instance_id;
	bool		loaded;			/* what is below up to the mail is known */
	bool		absent;			/* not to be acted for in this turn */
	bool		newborn;		/* started in this turn; has no row yet */
	int64		parent_id;		/* of a newborn: who started it */
	WfWorkflow *workflow;
	WfVersion  *version;
	WfInstance	row;
	bool		row_changed;
	bool		attributes_changed;
	WfFold		fold;
	bool		own_state;		/* fold.state was made in this turn */
	int64		snapshot_seq;
	WfKept		kept;			/* to be written with the turn */
	int			repeats;
	TimestampTz held_until;		/* it cannot be acted for before, whatever its
								 * mail: 0: it can */
	int			steps;			/* rows added to the log in this turn */
	bool		live;			/* as of the last of them */
	List	   *links;			/* of WfLink *: added in this turn */
	List	   *unlinked;		/* of WfLink *: removed, and with a row still */
	Jsonb	   *end;			/* what others are told of its end; NULL: not
								 * made yet */
	bool		unfinished;		/* more are to be told than a turn tells */

	/* mail */
	WfMail	   *start;			/* of one that has not started, or NULL */
	WfMail	   *urgent;			/* a control event whose time has come while
								 * others must wait, or NULL */
	bool		looked_for_urgent;
	WfMail	   *mails;			/* read from the mailbox, in order */
	int			count;
	int			next;			/* the first that is not handled yet */
	int			portion;		/* how many to read at the next time */
	TimestampTz unread_at;		/* stamp of the first mail not read; DT_NOEND:
								 * none is known */
	int			ties;			/* mails of that very stamp that were read */
	WfMail	   *deadline;		/* a $terminate in the inbox, or NULL */
	TimestampTz deadline_at;	/* of the first $terminate that stays, as far
								 * as is known; DT_NOEND: none */
	pairingheap *inbox;			/* of WfMail: handed over, or offered again;
								 * NULL: none */
	List	   *aside;			/* of WfMail *: postponed under this state */
	List	   *taken;			/* of WfMail *: handled out of order */
	List	   *done;			/* of WfMail *: handled, and with a row still */
	WfTimers	timers;
	List	   *fired;			/* of WfMail *: timers that fired while the
								 * others were not known */

	/* for the next turn, once this one has been written */
	TimestampTz low;			/* stamp of the first mail not handled */
	TimestampTz postponed_low;	/* of the first that was postponed */

	bool		more_control;	/* control events are left */
	bool		stopped;		/* no more events in this turn */
	bool		broken;			/* its log cannot be folded: paused, and
								 * nothing may be added */
	bool		acceptable;		/* ... but the present code leads through all
								 * of it: the fold is what it leads to */
	bool		wants_snapshot;
	bool		wants_passivation;
} WfDraft;

/* something for another instance, to be delivered after the step */
typedef struct WfLetter
{
	WfDraft    *from;			/* NULL: nobody */
	char	   *id;				/* the addressee */
	WfEvent		event;
	int64		order;			/* among all mail that the turn makes */
	int			depth;			/* of the cascade */
	bool		from_engine;	/* needs no right */
	bool		silent;			/* is dropped where it cannot be delivered */
	WfPrivilege privilege;		/* what the sender's owner needs */
	bool		stamped;		/* the handler chose the stamp */
	bool		of_link;		/* what a link of its sender, which has
								 * closed, does to the addressee */
	bool		undone;			/* is not to be delivered after all */
	char	   *or_start;		/* workflow, or NULL */
	const WfAction *birth;		/* a child to be started, or NULL */
	bool		linked;			/* ... which its parent's end will concern */
} WfLetter;

/* mail that becomes a dead letter */
typedef struct WfBurial
{
	WfMail	   *mail;
	const char *id;
	int			workflow_id;
	const char *reason;
} WfBurial;

/* an idempotency key that a process has used */
typedef struct WfClaim
{
	WfMail	   *mail;
	int64		sender;			/* instance */
	bool		with_at;
} WfClaim;

/* a timer's row that must go */
typedef struct WfWithdrawal
{
	int64		instance_id;
	WfPlace		place;
} WfWithdrawal;

/* a row of the log whose payload is to be erased */
typedef struct WfRedaction
{
	int64		instance_id;
	int64		seq;
} WfRedaction;

typedef struct WfLinkChange
{
	int64		instance_id;
	WfLink	   *link;
	bool		added;			/* else removed */
} WfLinkChange;

/*
 * Somebody who only wants to know what would happen: nothing will be written, and an event that fails is not tried again.
 * added: after each row of the log, with the fold that it led to.  failed: an event, after which the draft has stopped.
 */
typedef struct WfWatcher
{
	void		(*added) (const WfFold *fold, const WfLogRow *row, const List *actions, void *arg);
	void		(*failed) (const WfFold *fold, const WfEvent *event, const ErrorData *error, void *arg);
	void	   *arg;
} WfWatcher;

/* what the steps of a turn lead to, written at its end */
typedef struct WfOutput
{
	const WfWatcher *watcher;	/* NULL: it is a turn */
	Snapshot	snapshot;		/* to read with */
	TimestampTz now;			/* recorded_at */
	int64		orders;			/* mails made so far */
	int			depth;			/* of the cascade that the step is part of */
	WfLogRow  **log;
	int			log_count;
	int			log_size;
	List	   *letters;		/* of WfLetter *: to be delivered next */
	List	   *handled;		/* of WfMail *: rows to be deleted */
	List	   *withdrawals;	/* of WfWithdrawal * */
	List	   *burials;		/* of WfBurial * */
	List	   *posts;			/* of WfMail *: to be put into mailboxes */
	List	   *later;			/* of WfReady *: what posts are waited for */
	List	   *claims;			/* of WfClaim * */
	List	   *link_changes;	/* of WfLinkChange * */
	List	   *redactions;		/* of WfRedaction * */
	List	   *rollout_failures;	/* of rollout_id */
} WfOutput;

extern void wf_draft_from_process(WfDraft *draft, const WfProcess *process);
extern void wf_draft_break(WfDraft *draft, const char *reason);
extern void wf_draft_hold(WfDraft *draft, TimestampTz until);
extern bool wf_draft_is_held(const WfDraft *draft);
extern bool wf_draft_repeats(WfDraft *draft, const ErrorData *error, TimestampTz *again_at);
extern void wf_draft_clear_failures(WfDraft *draft);
extern bool wf_draft_can_go_on(const WfDraft *draft, TimestampTz now);
extern bool wf_draft_handle(WfDraft *draft, WfOutput *output);
extern bool wf_draft_link(WfDraft *draft, WfOutput *output, WfLinkKind kind, const char *peer, bool wanted);
extern void wf_draft_tell_linked(WfDraft *draft, WfOutput *output);
extern void wf_draft_blame(WfDraft *draft, WfOutput *output, const WfSuspect *suspect);
extern void wf_draft_obey_unfolded(WfDraft *draft, WfOutput *output);

#endif
