/*
 * compat.h: PostgreSQL 14 to 18 behind one set of names, the newest server's.  The only file that tests PG_VERSION_NUM.
 */
#ifndef WF_COMPAT_H
#define WF_COMPAT_H

#if PG_VERSION_NUM < 140000
#error "wfproc needs PostgreSQL 14 or newer"
#endif

/* 15: memory is asked for in a hook of its own; 14 asks in _PG_init */
#if PG_VERSION_NUM >= 150000
#define WF_HAVE_SHMEM_REQUEST_HOOK 1
#else
#define WF_HAVE_SHMEM_REQUEST_HOOK 0
#define MarkGUCPrefixReserved(prefix) EmitWarningsOnPlaceholders(prefix)
#endif

/* 17: extensions name their own wait events */
#if PG_VERSION_NUM >= 170000
#define WF_WAIT_EVENT(name) WaitEventExtensionNew(name)
#else
#define WF_WAIT_EVENT(name) PG_WAIT_EXTENSION
#endif

/* 17: backends are numbered from 0; before that from 1, and by another name */
#if PG_VERSION_NUM >= 170000
#define WF_MY_BACKEND_ID MyProcNumber
#else
#define WF_MY_BACKEND_ID MyBackendId
#endif

/* 15: a timeout that repeats by itself; in 14 its handler sets it anew */
#if PG_VERSION_NUM >= 150000
#define WF_ENABLE_TIMEOUT_EVERY(id, first, period_ms) enable_timeout_every(id, first, period_ms)
#define WF_REPEAT_TIMEOUT(id, period_ms) ((void) 0)
#else
#define WF_ENABLE_TIMEOUT_EVERY(id, first, period_ms) enable_timeout_at(id, first)
#define WF_REPEAT_TIMEOUT(id, period_ms) enable_timeout_after(id, period_ms)
#endif

/* 15: tells whether rows that were read are still kept from VACUUM; 14 cannot */
#if PG_VERSION_NUM >= 150000
#define WF_HAVE_SNAPSHOT() HaveRegisteredOrActiveSnapshot()
#else
#define WF_HAVE_SNAPSHOT() true
#endif

/* 17: with one more argument, and named after all of them */
#if PG_VERSION_NUM >= 170000
#define WF_F_LOGICAL_EMIT_MESSAGE_TEXT F_PG_LOGICAL_EMIT_MESSAGE_BOOL_TEXT_TEXT_BOOL
#define WF_F_LOGICAL_EMIT_MESSAGE_BYTEA F_PG_LOGICAL_EMIT_MESSAGE_BOOL_TEXT_BYTEA_BOOL
#else
#define WF_F_LOGICAL_EMIT_MESSAGE_TEXT F_PG_LOGICAL_EMIT_MESSAGE_BOOL_TEXT_TEXT
#define WF_F_LOGICAL_EMIT_MESSAGE_BYTEA F_PG_LOGICAL_EMIT_MESSAGE_BOOL_TEXT_BYTEA
#endif

/* 15: known when memory is asked for; 14 computes it only after that */
#if PG_VERSION_NUM >= 150000
#define WF_MAX_BACKENDS MaxBackends
#else
#include "postmaster/autovacuum.h"
#include "replication/walsender.h"
#define WF_MAX_BACKENDS (MaxConnections + autovacuum_max_workers + 1 + max_worker_processes + max_wal_senders)
#endif

/* 15: a generation context begins with small blocks; in 14 all have one size */
#if PG_VERSION_NUM >= 150000
#define WF_GENERATION_CREATE(parent, name, block_bytes) \
	GenerationContextCreate(parent, name, 0, ALLOCSET_SMALL_INITSIZE, block_bytes)
#else
#define WF_GENERATION_CREATE(parent, name, block_bytes) GenerationContextCreate(parent, name, block_bytes)
#endif

/* 16: one function for the owners of all kinds of objects */
#if PG_VERSION_NUM >= 160000
#define WF_OWNS_DATABASE(database, role) object_ownercheck(DatabaseRelationId, database, role)
#else
#define WF_OWNS_DATABASE(database, role) pg_database_ownercheck(database, role)
#endif

/* 16: what a setting keeps beside its value lives in a memory context; before that it is freed by free() */
#if PG_VERSION_NUM < 160000
#define guc_malloc(elevel, size) malloc(size)
#endif

/* 16: walkers are cast to what they are; before that they are declared in a way that newer compilers read as "no arguments" */
#if PG_VERSION_NUM < 160000
#include "nodes/nodeFuncs.h"
#define raw_expression_tree_walker(node, walker, context) \
	raw_expression_tree_walker(node, (void *) (walker), context)
#endif

/* 15: the long form of a set-returning function's set-up moved into the server */
#if PG_VERSION_NUM < 150000
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/tuplestore.h"
static inline void
InitMaterializedSRF(FunctionCallInfo fcinfo, bits32 flags)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext old = MemoryContextSwitchTo(rsinfo->econtext->ecxt_per_query_memory);
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	rsinfo->returnMode = SFRM_Materialize;
	rsinfo->setResult = tuplestore_begin_heap(true, false, work_mem);
	rsinfo->setDesc = desc;
	MemoryContextSwitchTo(old);
}
#endif

#endif
