/*
 * registry.h: shared memory: worker slots, their wake-up rings, who is resident, who waits.
 */
#ifndef WF_REGISTRY_H
#define WF_REGISTRY_H

#include "datatype/timestamp.h"

/* an instance has mail that is due at that time; -infinity: a control event */
typedef struct WfWakeup
{
	int64		instance_id;
	TimestampTz at;
} WfWakeup;

/* why a worker has left its slot */
typedef enum WfOutcome
{
	WF_LEFT_FAILED,				/* an error */
	WF_LEFT_TERMINATED,			/* SIGTERM */
	WF_LEFT_STOPPED,			/* it was told to, or is not wanted any more */
	WF_LEFT_ABSENT				/* the extension is not in its database */
} WfOutcome;

typedef enum WfSlotState
{
	WF_SLOT_FREE,
	WF_SLOT_RESERVED,			/* its worker is being started */
	WF_SLOT_RUNNING,
	WF_SLOT_LEFT				/* the launcher has not taken note of it yet */
} WfSlotState;

/* what the launcher wants to know of a slot */
typedef struct WfSlotInfo
{
	WfSlotState state;
	uint32		generation;
	Oid			database;
	int			share;
	bool		confirmed;		/* its worker has seen the extension */
	bool		look_again;		/* there was DDL since it last looked for it */
	WfOutcome	outcome;
	TimestampTz since;			/* of being reserved or running */
} WfSlotInfo;

extern void wf_registry_init(void);
extern bool wf_registry_available(void);

/* by a worker, about itself */
extern bool wf_registry_attach(int slot, uint32 generation, Oid *database, int *share);
extern void wf_registry_detach(WfOutcome outcome);
extern void wf_registry_confirm(void);
extern bool wf_registry_should_stop(void);
extern bool wf_registry_should_look(void);
extern int	wf_registry_drain(WfWakeup *wakeups, int max, uint64 *sweep);
extern bool wf_registry_is_called(void);	/* whether there is anything to
											 * drain */
extern void wf_registry_hold_shards(uint64 shards);
extern void wf_registry_set_shares(int shares);
extern void wf_registry_count_turn(int64 events, bool failed, const char *error);
extern bool wf_registry_enter(int64 instance_id, Size state_bytes);
extern void wf_registry_leave(int64 instance_id);
extern int64 wf_registry_resident_count(void);
extern Size wf_registry_roster_bytes(void);
extern bool wf_registry_is_worker(void);

/* shards that another worker of this database has claimed: not to be acted on, even where their locks can be had */
extern uint64 wf_registry_claimed_shards(void);

/* by the launcher */
extern void wf_registry_launcher_attach(void);
extern void wf_registry_launcher_detach(void);
extern int	wf_registry_look(WfSlotInfo *slots);
extern int	wf_registry_reserve(Oid database, int share, uint32 *generation);
extern void wf_registry_release(int slot, uint32 generation);
extern int	wf_registry_take_notices(Oid *databases, int max, bool *all);
extern bool wf_registry_blocked(Oid database);

/* by a backend that wants a database left alone */
extern bool wf_registry_block(Oid database);
extern void wf_registry_unblock(Oid database);
extern int	wf_registry_stop(Oid database, bool terminate);

/* by anybody, after commit: these neither allocate nor throw */
extern void wf_registry_wake(const WfWakeup *wakeups, int count);
extern void wf_registry_wake_shards(uint64 shards);
extern void wf_registry_closed(const int64 *instance_ids, int count);
extern void wf_registry_closed_many(void);
extern void wf_registry_stepped(const int64 *instance_ids, int count);
extern void wf_registry_stepped_many(void);
extern void wf_registry_note_database(Oid database);
extern void wf_registry_note_databases(void);

/* by a backend that waits for an instance to close, or for each of its steps and its end; one at a time */
extern void wf_registry_wait_begin(int64 instance_id, bool each_step);
extern void wf_registry_wait_end(void);

#endif
