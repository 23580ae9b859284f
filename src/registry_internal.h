/*
 * registry_internal.h: the layout of shared memory, for registry*.c and roster.c only.
 *
 * Locks, in the order in which they are taken: the registry's, a slot's, a slot's roster's.  The lock of waiters is never
 * taken together with another.  Pointers into shared memory and to PGPROCs mean the same in every process; nothing else that
 * is a pointer is kept here.
 */
#ifndef WF_REGISTRY_INTERNAL_H
#define WF_REGISTRY_INTERNAL_H

#include "port/atomics.h"
#include "storage/dsm.h"
#include "storage/lwlock.h"
#include "storage/proc.h"

#include "registry.h"

#define WF_RING_SIZE 1024
#define WF_LAST_ERROR_SIZE 256
#define WF_NOTICES 64
#define WF_BLOCKS 64

typedef struct WfSlot
{
	LWLock	   *lock;
	LWLock	   *roster_lock;

	/* protected by the registry's lock */
	WfSlotState state;
	uint32		generation;		/* counts tenants, to tell old from new */
	Oid			database;
	int			share;
	pid_t		pid;			/* 0 until attached; as is proc */
	PGPROC	   *proc;
	TimestampTz since;			/* of being reserved or running */
	bool		confirmed;
	/* its worker reads these two without the lock */
	bool		look_again;
	bool		stop;			/* it is to leave */
	WfOutcome	outcome;

	/* protected by the slot's lock */
	int			shares;
	uint64		shards;			/* claimed, a bit each */
	int64		events;
	int64		turns;
	int64		failed_turns;
	char		last_error[WF_LAST_ERROR_SIZE];
	uint64		sweep;			/* shards whose wake-ups found no room */
	uint32		ring_first;
	uint32		ring_count;
	WfWakeup	ring[WF_RING_SIZE];

	/* protected by the roster's lock; only the tenant writes */
	dsm_handle	roster;			/* 0: none yet */
	int64		residents;
	int64		resident_bytes;
} WfSlot;

/* a backend that waits for an instance to close, or for its next step */
typedef struct WfWaiter
{
	Oid			database;		/* InvalidOid: it does not wait */
	int64		instance_id;
	bool		each_step;		/* and not only for its end */
	PGPROC	   *proc;
} WfWaiter;

/* a database that workers are to keep out of */
typedef struct WfBlock
{
	Oid			database;		/* InvalidOid: not in use */
	pid_t		pid;			/* who wants that */
} WfBlock;

typedef struct WfRegistry
{
	LWLock	   *lock;
	LWLock	   *waiters_lock;
	int			slot_count;
	int			waiter_count;

	/* protected by the registry's lock */
	PGPROC	   *launcher;		/* or NULL */
	int			notice_count;
	bool		notices_all;	/* there were more */
	Oid			notices[WF_NOTICES];	/* InvalidOid: pg_database itself */
	WfBlock		blocks[WF_BLOCKS];

	/* protected by waiters_lock */
	WfWaiter   *waiters;		/* one a backend */
	pg_atomic_uint32 step_waiters;	/* how many of them wait for each step;
									 * read without the lock */

	WfSlot		slots[FLEXIBLE_ARRAY_MEMBER];
} WfRegistry;

/* NULL where the library is not preloaded */
extern WfRegistry *wf_registry;

/* NULL in what is no worker */
extern WfSlot *MyWfSlot;

extern void wf_registry_wake_launcher(void);
extern bool wf_registry_is_blocked(Oid database);
extern void wf_roster_forget(WfSlot *slot);

/* one process in a worker's memory */
typedef struct WfRosterEntry
{
	int64		instance_id;	/* 0: not in use */
	TimestampTz since;
	int64		state_bytes;
} WfRosterEntry;

extern WfRosterEntry *wf_roster_copy(WfSlot *slot, int64 *count);

#endif
