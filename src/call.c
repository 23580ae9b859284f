/*
 * call.c: the SQL procedure call(), which sends an event and waits for what its handler replies.
 *
 * It commits the event, for nobody handles what is not committed: so it runs where a procedure may commit, and nowhere
 * else.  Then it waits as await_state() does (await.c), and reads the log for the row of its event, whose mail_id it
 * knows; where the event died, the dead letters say why.  After each look that finds nothing it commits again, so that it
 * sleeps with neither a snapshot nor a lock, at every isolation level.
 *
 * What must outlive the commits is in the memory context of the CALL, which belongs to its portal.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "tcop/pquery.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "await.h"
#include "catalog.h"
#include "check.h"
#include "clock.h"
#include "eventlog.h"
#include "idempotency.h"
#include "instance.h"
#include "mailbox.h"
#include "rows.h"

PG_FUNCTION_INFO_V1(wfproc_call);

/* columns of wfproc.dead_letter */
enum
{
	DEAD_MAIL_ID = 1,
	DEAD_REASON = 10,
	DEAD_COLUMNS = 11
};

/* the event, and how far it was looked for */
typedef struct Call
{
	WfInstance	instance;		/* as it was when the event was sent */
	WfEvent		event;
	int64		mail_id;
	int64		after;			/* up to that seq the log does not have it */
	bool		in_doubt;		/* sent long ago: it may have been taken back */
	Jsonb	   *reply;			/* or NULL */
} Call;

/*
 * Refuses to run where it could not commit.
 */
static void
require_nonatomic(FunctionCallInfo fcinfo)
{
	bool		nonatomic = fcinfo->context != NULL && IsA(fcinfo->context, CallContext) &&
		!castNode(CallContext, fcinfo->context)->atomic;

	/* a block with an EXCEPTION clause is a subtransaction */
	if (!nonatomic || IsSubTransaction())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
				 errmsg("call() commits, so it cannot run inside a transaction block or a function"),
				 errhint("CALL it outside of BEGIN and EXCEPTION blocks, or use wfproc.send() and wfproc.history().")));
}

/*
 * Commits, and begins another transaction.
 */
static void
commit(void)
{
	if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect_ext failed");
	SPI_commit();
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "SPI_finish failed");
}

static int64
last_seq(int64 instance_id)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	int64		seq = wf_eventlog_last(instance_id, snapshot, NULL);

	UnregisterSnapshot(snapshot);
	return seq;
}

/*
 * Puts the event into the mailbox, under the same rules as send().  False where its key was used before: the mail_id is
 * then the first one's.
 */
static bool
put_event(Call *call)
{
	int64		instance_id = call->instance.instance_id;

	/* a repeated call is answered also after the instance has closed */
	if (call->event.key != NULL && wf_idempotency_find(instance_id, &call->event, false, &call->mail_id))
		return false;
	wf_instance_require_open(&call->instance);
	if (call->event.key != NULL && !wf_idempotency_claim(instance_id, &call->event, false, &call->mail_id))
		return false;
	call->mail_id = wf_mailbox_put(instance_id, &call->event);
	return true;
}

/*
 * Checks the arguments and the caller's rights, and sends.
 */
static void
send_event(FunctionCallInfo fcinfo, Call *call)
{
	char	   *id = wf_check_name(fcinfo, 0, "id");
	WfWorkflow *workflow;

	call->event.name = wf_check_name(fcinfo, 1, "event");
	call->event.payload = wf_check_payload(fcinfo, 2, "payload");
	call->event.at = wf_clock_now();
	call->event.key = wf_check_optional_name(fcinfo, 4, "idempotency_key");
	workflow = wf_instance_get(id, WF_PRIV_SEND, &call->instance);
	wf_instance_require_accepts(workflow, call->event.name);
	call->after = last_seq(call->instance.instance_id);
	if (!put_event(call))
	{
		call->after = 0;
		call->in_doubt = true;
	}
}

/*
 * Looks for the event in what the log has grown by since the last look.  An event of the engine may have its mail_id too:
 * one that says that it failed.
 */
static bool
find_in_log(Call *call, Snapshot snapshot)
{
	WfLogScan  *scan = wf_eventlog_open(call->instance.instance_id, call->after, snapshot);
	WfLogRow	row;
	bool		found = false;

	while (!found && wf_eventlog_next(scan, &row))
	{
		CHECK_FOR_INTERRUPTS();
		call->after = row.seq;
		found = row.event.mail_id == call->mail_id && !WF_IS_ENGINE_EVENT(row.event.name);
	}
	if (found && row.reply != NULL)
		call->reply = memcpy(palloc(VARSIZE(row.reply)), row.reply, VARSIZE(row.reply));
	wf_eventlog_close(scan);
	return found;
}

/*
 * Why the event became a dead letter; NULL where it did not.
 */
static char *
cause_of_death(int64 mail_id, Snapshot snapshot)
{
	Relation	rel = wf_rows_open(WF_DEAD_LETTER, AccessShareLock, DEAD_COLUMNS);
	char	   *reason = NULL;
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;

	ScanKeyInit(&key, DEAD_MAIL_ID, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(mail_id));
	scan = systable_beginscan(rel, wf_catalog_oid(WF_DEAD_LETTER_PKEY), true, snapshot, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool		isnull;
		Datum		value = heap_getattr(tuple, DEAD_REASON, RelationGetDescr(rel), &isnull);

		reason = isnull ? pstrdup("") : TextDatumGetCString(value);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return reason;
}

static void
require_not_dead(const Call *call, Snapshot snapshot)
{
	char	   *reason = cause_of_death(call->mail_id, snapshot);

	if (reason != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("event %lld of instance \"%s\" became a dead letter: %s",
						(long long) call->mail_id, call->instance.id, reason),
				 errhint("wfproc.dead_letters shows it; wfproc.redrive() sends it again.")));
}

/*
 * A WfAwaitLook: whether the event was handled.  That it was taken back nobody tells, so that is looked for now and
 * then; in the mailbox first, for what has left it by then for the log is seen there afterwards.
 */
static bool
look_for_reply(bool told, void *arg)
{
	Call	   *call = arg;
	bool		gone = false;
	Snapshot	snapshot;
	WfMail		mail;
	bool		found;

	if (!told || call->in_doubt)
		gone = !wf_mailbox_find(call->instance.instance_id, call->mail_id, &mail);
	call->in_doubt = false;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	/* before the log: there is a row of a rejected event as well */
	require_not_dead(call, snapshot);
	found = find_in_log(call, snapshot);
	UnregisterSnapshot(snapshot);
	if (!found && gone)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("event %lld of instance \"%s\" will not be handled any more",
						(long long) call->mail_id, call->instance.id),
				 errdetail("It was taken back by wfproc.unsend(), or sent anew by wfproc.redrive().")));
	if (!found)
		commit();
	return found;
}

static void
give_up(FunctionCallInfo fcinfo, const Call *call)
{
	ereport(ERROR,
			(errcode(ERRCODE_QUERY_CANCELED),
			 errmsg("no reply from instance \"%s\" within %s", call->instance.id,
					DatumGetCString(DirectFunctionCall1(interval_out, PG_GETARG_DATUM(3)))),
			 call->event.key != NULL ?
			 errhint("The event stays in the mailbox and is handled; the same call with the same idempotency_key waits for the same reply.") :
			 errhint("The event stays in the mailbox and is handled; with an idempotency_key the call could be repeated to wait for its reply.")));
}

static Datum
make_row(FunctionCallInfo fcinfo, Jsonb *reply)
{
	TupleDesc	desc;
	Datum		values[1] = {(Datum) 0};
	bool		nulls[1];

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	wf_row_set_jsonb(values, nulls, 1, reply);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

/*
 * CALL call(id, event, payload, timeout, idempotency_key, INOUT reply)
 */
Datum
wfproc_call(PG_FUNCTION_ARGS)
{
	Call		call = {0};
	int64		timeout_us;

	wf_check_not_in_handler("call");
	require_nonatomic(fcinfo);
	wf_check_can_write("send events");
	wf_await_require_workers();
	timeout_us = wf_await_get_timeout(fcinfo, 3);
	/* a caller that has just committed has none */
	EnsurePortalSnapshotExists();
	send_event(fcinfo, &call);
	commit();
	if (!wf_await_until(call.instance.instance_id, true, timeout_us, look_for_reply, &call))
		give_up(fcinfo, &call);
	return make_row(fcinfo, call.reply);
}
