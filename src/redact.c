/*
 * redact.c: wfproc.redact(): erases the payload of an event in the log.
 *
 * The chain of hashes goes through the SHA-256 of a payload, which stays.  Of an instance that is open the log is its
 * holder's alone: it is asked to, by the control event $redact (draft_control.c, record.c).  One that has closed has no
 * holder any more; its row is locked against others who do the same, and the log gets its $redact here.
 *
 * What else has the data is not touched: states and snapshots that the event led to, replies, what was sent on to other
 * instances, dead letters, mailboxes; the table's file until VACUUM, WAL, backups.
 */
#include "postgres.h"

#include <limits.h>

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "api.h"
#include "check.h"
#include "clock.h"
#include "eventlog.h"
#include "guc.h"
#include "mailbox.h"
#include "object.h"
#include "replay.h"
#include "snapshot.h"
#include "spi.h"

PG_FUNCTION_INFO_V1(wfproc_redact);

/*
 * Whether a row of the log has its payload still.  22023 where there is no such row, 55000 where a fold needs its payload
 * and no handler has seen it.
 */
static bool
has_payload(const WfInstance *instance, int64 seq)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	WfLogScan  *scan = wf_eventlog_open(instance->instance_id, seq - 1, snapshot);
	WfLogRow	row;
	bool		intact;

	if (!wf_eventlog_next(scan, &row) || row.seq != seq)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the log of instance \"%s\" has no event %lld", instance->id, (long long) seq),
				 errhint("wfproc.history() shows it; what has not been handled yet can be taken back by wfproc.unsend().")));
	if (strcmp(row.event.name, "$upgrade") == 0 || strcmp(row.event.name, "$redact") == 0 ||
		strcmp(row.event.name, "$fork") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the payload of event %lld of instance \"%s\", %s, cannot be erased", (long long) seq, instance->id,
						row.event.name),
				 errhint("The engine itself goes by it.")));
	intact = row.event.payload_sha256 == NULL;
	wf_eventlog_close(scan);
	UnregisterSnapshot(snapshot);
	return intact;
}

static Jsonb *
make_payload(int64 seq, const char *reason)
{
	JsonbParseState *parse = NULL;
	Jsonb	   *payload;

	wf_object_begin(&parse);
	wf_object_text(&parse, "by", GetUserNameFromId(GetUserId(), false));
	wf_object_text(&parse, "reason", reason);
	wf_object_int(&parse, "seq", seq);
	payload = wf_object_end(&parse);
	wf_check_size(payload, wf_max_payload, "reason", "wfproc.max_payload");
	return payload;
}

/*
 * Whether the same is asked for already.
 */
static bool
is_asked_for(const WfInstance *instance, int64 seq)
{
	WfMail	   *mails;
	int			count = wf_mailbox_read_control(instance->instance_id, &mails);
	bool		found = false;

	for (int i = 0; i < count && !found; i++)
	{
		found = strcmp(mails[i].event.name, "$redact") == 0 && wf_object_get_int(mails[i].event.payload, "seq") == seq;
	}
	return found;
}

/*
 * Leaves an instance that has closed to this transaction alone.
 */
static void
lock_instance(const WfInstance *instance)
{
	static SPIPlanPtr plan = NULL;
	const Oid	types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(instance->instance_id)};
	WfSpi		spi;

	wf_spi_begin(&spi);
	(void) wf_spi_execute(&plan, "SELECT FROM wfproc.instance WHERE instance_id = $1 FOR UPDATE", lengthof(types), types, values,
						  NULL, false, SPI_OK_SELECT);
	wf_spi_end(&spi);
}

/*
 * The fold of the whole log.
 */
static void
fold_log(WfWorkflow *workflow, const WfInstance *instance, WfFold *fold)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	WfDivergence divergence;
	int64		snapshot_seq;

	wf_replay_load(workflow, instance, snapshot, fold, &snapshot_seq, &divergence);
	UnregisterSnapshot(snapshot);
	if (divergence.seq != 0 || !fold->started)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("nothing can take the place of the events of instance \"%s\": %s", instance->id,
						divergence.seq != 0 ? divergence.reason : "it has not started"),
				 errhint("A snapshot must; it is taken of the state that the log leads to.")));
}

/*
 * Adds the engine's event to the log of an instance that has closed; *fold becomes what comes of it.
 */
static void
append_event(WfWorkflow *workflow, const WfInstance *instance, Jsonb *payload, WfFold *fold)
{
	WfLogRow   *row = palloc0(sizeof(WfLogRow));
	WfFold		after;
	List	   *actions;
	ErrorData  *error;

	row->instance_id = instance->instance_id;
	row->recorded_at = wf_clock_now();
	row->event.at = fold->clock;
	row->event.name = pstrdup("$redact");
	row->event.payload = payload;
	if (wf_process_step(workflow, wf_workflow_version(workflow, fold->version), instance, fold, &row->event, false, &after,
						&actions, &row->digest, &error) != WF_STEP_DONE)
		elog(ERROR, "a $redact has failed");
	row->seq = after.seq;
	row->event.live = after.clock >= instance->live_from;
	wf_eventlog_chain(fold->hash, row, row->hash);
	wf_eventlog_append(&row, 1);
	CommandCounterIncrement();
	*fold = after;
	memcpy(fold->hash, row->hash, WF_SHA256_LEN);
}

/*
 * Returns false where somebody else has just done it.
 */
static bool
redact_closed(WfWorkflow *workflow, const WfInstance *instance, int64 seq, Jsonb *payload)
{
	WfFold		fold;

	lock_instance(instance);
	if (!has_payload(instance, seq))
		return false;
	fold_log(workflow, instance, &fold);
	append_event(workflow, instance, payload, &fold);
	wf_snapshot_store(instance->instance_id, &fold);
	wf_snapshot_forget(instance->instance_id, seq);
	return wf_eventlog_erase(instance->instance_id, seq);
}

/*
 * redact(id, seq, reason) -> whether that changes anything
 */
Datum
wfproc_redact(PG_FUNCTION_ARGS)
{
	WfInstance	instance;
	WfWorkflow *workflow;
	WfEvent		event = {.name = "$redact",.at = WF_AT_ONCE};
	int64		seq = PG_GETARG_INT64(1);
	char	   *id;

	wf_api_prepare_to_write("redact", "redact a log");
	id = wf_check_name(fcinfo, 0, "id");
	/* what the calling statement itself has written */
	CommandCounterIncrement();
	workflow = wf_instance_get(id, WF_PRIV_OPERATE, &instance);
	if (!has_payload(&instance, seq))
		PG_RETURN_BOOL(false);
	event.payload = make_payload(seq, wf_check_reason(fcinfo, 2));
	if (WF_IS_CLOSED(instance.status))
		PG_RETURN_BOOL(redact_closed(workflow, &instance, seq, event.payload));
	if (is_asked_for(&instance, seq))
		PG_RETURN_BOOL(false);
	(void) wf_mailbox_put(instance.instance_id, &event);
	PG_RETURN_BOOL(true);
}
