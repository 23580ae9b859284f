/*
 * control.c: the SQL functions that control instances from outside: pause, resume, cancel, terminate, retry_now, skip,
 * set_attributes, snapshot, passivate, all of those for many instances, and sending a dead letter again.
 *
 * Only the holder of an instance's shard writes its row.  So a verb is a control event in the mailbox, put there in the
 * caller's transaction; its stamp is before all others, so that it does not wait behind a backlog or a failing event.
 * A verb returns whether it changes anything: the row is looked at, and what waits in the mailbox is taken for done.  Two
 * sessions that ask at the same time do not see each other, and both are told yes: the second event then does nothing.
 *
 * No locks but those of reading and inserting.  control_all() alone commits; it holds nothing from one batch to the next.
 */
#include "postgres.h"

#include <limits.h>

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "accept.h"
#include "acl.h"
#include "action.h"
#include "api.h"
#include "attributes.h"
#include "check.h"
#include "clock.h"
#include "eventlog.h"
#include "guc.h"
#include "instance.h"
#include "mailbox.h"
#include "object.h"
#include "spi.h"
#include "step.h"

PG_FUNCTION_INFO_V1(wfproc_pause);
PG_FUNCTION_INFO_V1(wfproc_resume);
PG_FUNCTION_INFO_V1(wfproc_cancel);
PG_FUNCTION_INFO_V1(wfproc_terminate);
PG_FUNCTION_INFO_V1(wfproc_retry_now);
PG_FUNCTION_INFO_V1(wfproc_skip);
PG_FUNCTION_INFO_V1(wfproc_set_attributes_of);
PG_FUNCTION_INFO_V1(wfproc_redrive);
PG_FUNCTION_INFO_V1(wfproc_control_all);
PG_FUNCTION_INFO_V1(wfproc_snapshot);
PG_FUNCTION_INFO_V1(wfproc_passivate);

/* the default of cancel()'s argument "deadline" */
#define CANCEL_DEADLINE_US (5 * USECS_PER_MINUTE)
#define NO_DEADLINE (-1)

/* instances that control_all() deals with in one transaction */
#define BATCH_SIZE 1000

/* does something to an open instance; returns whether that changes anything */
typedef bool (*WfVerb) (const WfInstance *instance, const char *reason);

/* what an instance will be once it has handled the control events that wait for it */
typedef struct WfOutlook
{
	bool		paused;
	bool		failing;		/* it has failed, or crashed, at its next
								 * event */
	bool		retrying;		/* it waits to try that again */
	bool		closing;		/* it is to be terminated */
	bool		attributes;		/* they are to change */
} WfOutlook;

/*
 * A payload begun with who asks and, unless that is NULL, why.
 */
static void
begin_payload(JsonbParseState **parse, const char *reason)
{
	wf_object_begin(parse);
	wf_object_text(parse, "by", GetUserNameFromId(GetUserId(), false));
	wf_object_optional(parse, "reason", reason);
}

static Jsonb *
by_and_reason(const char *reason)
{
	JsonbParseState *parse = NULL;
	Jsonb	   *payload;

	begin_payload(&parse, reason);
	payload = wf_object_end(&parse);
	wf_check_size(payload, wf_max_payload, "reason", "wfproc.max_payload");
	return payload;
}

static void
put(const WfInstance *instance, const char *name, TimestampTz at, Jsonb *payload)
{
	WfEvent		event = {.at = at,.payload = payload};

	event.name = unconstify(char *, name);
	(void) wf_mailbox_put(instance->instance_id, &event);
}

/*
 * Takes one control event into account, as its instance will (draft.c).
 */
static void
foresee_one(WfOutlook *outlook, const char *name)
{
	bool		pausing = strcmp(name, "$pause") == 0;

	if (pausing || strcmp(name, "$resume") == 0 || (strcmp(name, "$skip") == 0 && outlook->failing))
	{
		if (pausing && outlook->paused)
			return;
		outlook->paused = pausing;
		outlook->failing = outlook->retrying = false;
	}
	else if (strcmp(name, "$retry") == 0)
		outlook->retrying = false;
	else if (strcmp(name, "$terminate") == 0)
		outlook->closing = true;
	else if (strcmp(name, "$attributes") == 0)
		outlook->attributes = true;
}

static void
foresee(const WfInstance *instance, WfOutlook *outlook)
{
	WfMail	   *mails;
	int			count = wf_mailbox_read_control(instance->instance_id, &mails);

	memset(outlook, 0, sizeof(WfOutlook));
	outlook->paused = instance->status == WF_PAUSED;
	outlook->retrying = instance->attempts > 0;
	outlook->failing = instance->attempts > 0 || instance->crashes > 0;
	for (int i = 0; i < count; i++)
		foresee_one(outlook, mails[i].event.name);
}

/*
 * Whether the instance is paused, or will be; and in *retrying whether it will then be waiting to try an event again.
 */
static bool
will_be_paused(const WfInstance *instance, bool *retrying)
{
	WfOutlook	outlook;

	foresee(instance, &outlook);
	*retrying = outlook.retrying;
	return outlook.paused;
}

static bool
pause_instance(const WfInstance *instance, const char *reason)
{
	bool		retrying;

	if (will_be_paused(instance, &retrying))
		return false;
	put(instance, "$pause", WF_AT_ONCE, by_and_reason(reason));
	return true;
}

static bool
resume_instance(const WfInstance *instance, const char *reason)
{
	bool		retrying;

	if (!will_be_paused(instance, &retrying) && !retrying)
		return false;
	put(instance, "$resume", WF_AT_ONCE, by_and_reason(reason));
	return true;
}

static bool
snapshot_instance(const WfInstance *instance, const char *reason)
{
	put(instance, "$snapshot", WF_AT_ONCE, by_and_reason(reason));
	return true;
}

static bool
passivate_instance(const WfInstance *instance, const char *reason)
{
	put(instance, "$passivate", WF_AT_ONCE, by_and_reason(reason));
	return true;
}

static bool
terminate_instance(const WfInstance *instance, const char *reason)
{
	WfOutlook	outlook;

	foresee(instance, &outlook);
	if (outlook.closing)
		return false;
	put(instance, "$terminate", WF_AT_ONCE, by_and_reason(reason));
	return true;
}

/*
 * Whether an event of that name waits in the instance's mailbox.  All of that is read: it may have any stamp.
 */
static bool
waits(const WfInstance *instance, const char *name)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	WfMailScan *scan = wf_mailbox_open(instance->instance_id, DT_NOBEGIN, snapshot);
	WfMail		mail;
	bool		found = false;

	while (!found && wf_mailbox_next(scan, &mail))
	{
		CHECK_FOR_INTERRUPTS();
		found = strcmp(mail.event.name, name) == 0;
	}
	wf_mailbox_close(scan);
	UnregisterSnapshot(snapshot);
	return found;
}

/*
 * A cancel is no control event: the handler sees it, in its turn.  The deadline holds whatever that does.
 */
static bool
cancel_by(const WfInstance *instance, const char *reason, int64 deadline_us)
{
	TimestampTz now = wf_clock_now();
	WfOutlook	outlook;

	foresee(instance, &outlook);
	if (instance->cancelling || outlook.closing || waits(instance, "cancel"))
		return false;
	put(instance, "cancel", now, by_and_reason(reason));
	if (deadline_us != NO_DEADLINE)
		put(instance, "$terminate", now + deadline_us, by_and_reason("the deadline of a cancel has passed"));
	return true;
}

static bool
cancel_instance(const WfInstance *instance, const char *reason)
{
	return cancel_by(instance, reason, CANCEL_DEADLINE_US);
}

static bool
retry_instance(const WfInstance *instance, const char *reason)
{
	WfOutlook	outlook;

	foresee(instance, &outlook);
	if (outlook.paused || outlook.closing || !outlook.retrying)
		return false;
	put(instance, "$retry", WF_AT_ONCE, by_and_reason(reason));
	return true;
}

/*
 * Whether an instance has not handled its start yet, which it does before all other mail.
 */
static bool
start_waits(const WfInstance *instance, Snapshot snapshot)
{
	TimestampTz next_at;
	WfMail	   *mail;
	int			count = wf_mailbox_read(instance->instance_id, instance->started_at, instance->started_at, 1, 0, snapshot,
										&mail, &next_at);

	return count > 0 && strcmp(mail->event.name, "start") == 0;
}

/*
 * The event that an instance fails to handle: what comes first in its mailbox.  Either *is_start, or *mail_id says which.
 * False where there is none.
 */
static bool
find_failing(const WfInstance *instance, int64 *mail_id, bool *is_start)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	WfMailScan *scan;
	WfMail		mail;
	bool		found = start_waits(instance, snapshot);

	*is_start = found;
	*mail_id = 0;
	if (!found)
	{
		/* from the first stamp after that of control events on */
		scan = wf_mailbox_open(instance->instance_id, WF_AT_ONCE + 1, snapshot);
		while (!found && wf_mailbox_next(scan, &mail))
		{
			CHECK_FOR_INTERRUPTS();
			found = mail.postponed == WF_NOT_POSTPONED && !WF_IS_ENGINE_EVENT(mail.event.name);
			*mail_id = mail.event.mail_id;
		}
		wf_mailbox_close(scan);
	}
	UnregisterSnapshot(snapshot);
	return found;
}

/*
 * start is never skipped: nothing could come after it.
 */
static bool
skip_event(const WfInstance *instance, const char *reason)
{
	JsonbParseState *parse = NULL;
	WfOutlook	outlook;
	int64		mail_id;
	bool		is_start;
	Jsonb	   *payload;

	foresee(instance, &outlook);
	if (outlook.closing || !outlook.failing || !find_failing(instance, &mail_id, &is_start) || is_start)
		return false;
	begin_payload(&parse, reason);
	wf_object_int(&parse, "mail_id", mail_id);
	payload = wf_object_end(&parse);
	wf_check_size(payload, wf_max_payload, "reason", "wfproc.max_payload");
	put(instance, "$skip", WF_AT_ONCE, payload);
	return true;
}

/*
 * The instance that the first argument names, which the caller may operate.  Returns whether it is open.
 */
static bool
get_operated(FunctionCallInfo fcinfo, const char *function, WfInstance *instance)
{
	char	   *id;

	wf_api_prepare_to_write(function, "send control events");
	id = wf_check_name(fcinfo, 0, "id");
	/* what the calling statement itself has sent, as in pause(start(...)) */
	CommandCounterIncrement();
	(void) wf_instance_get(id, WF_PRIV_OPERATE, instance);
	return !WF_IS_CLOSED(instance->status);
}

/*
 * The second argument, for those functions that have a reason there.
 */
static char *
get_reason(FunctionCallInfo fcinfo)
{
	return PG_NARGS() < 2 ? NULL : wf_check_reason(fcinfo, 1);
}

/*
 * A verb for which it is an error that the instance has closed: there is nothing to wish for.
 */
static Datum
control_open(FunctionCallInfo fcinfo, const char *function, WfVerb verb)
{
	WfInstance	instance;

	(void) get_operated(fcinfo, function, &instance);
	wf_instance_require_open(&instance);
	PG_RETURN_BOOL(verb(&instance, get_reason(fcinfo)));
}

/*
 * A verb which on an instance that has closed changes nothing.
 */
static Datum
control(FunctionCallInfo fcinfo, const char *function, WfVerb verb)
{
	WfInstance	instance;

	PG_RETURN_BOOL(get_operated(fcinfo, function, &instance) && verb(&instance, get_reason(fcinfo)));
}

/*
 * pause(id, reason) -> whether that changes anything
 */
Datum
wfproc_pause(PG_FUNCTION_ARGS)
{
	return control_open(fcinfo, "pause", pause_instance);
}

/*
 * Whether a request to accept the state waits already.
 */
static bool
acceptance_waits(const WfInstance *instance)
{
	WfMail	   *mails;
	int			count = wf_mailbox_read_control(instance->instance_id, &mails);
	bool		found = false;

	for (int i = 0; i < count && !found; i++)
		found = wf_object_get(mails[i].event.payload, "accept_state") != NULL;
	return found;
}

/*
 * resume() of an instance whose log the present code leads away from: what it makes of it is accepted.  Where there is no
 * difference that is resume() and nothing more.
 */
static bool
accept_and_resume(const WfInstance *instance)
{
	JsonbParseState *parse = NULL;
	JsonbValue	yes = {.type = jbvBool};
	WfDivergence bad;

	if (acceptance_waits(instance))
		return false;
	if (!wf_accept_find(wf_workflow_get(instance->workflow_id), instance, &bad))
		return resume_instance(instance, NULL);
	yes.val.boolean = true;
	begin_payload(&parse, bad.reason);
	wf_object_jsonb(&parse, "accept_state", JsonbValueToJsonb(&yes));
	wf_object_int(&parse, "seq", bad.seq);
	put(instance, "$resume", WF_AT_ONCE, wf_object_end(&parse));
	return true;
}

/*
 * resume(id, accept_state) -> whether that changes anything
 */
Datum
wfproc_resume(PG_FUNCTION_ARGS)
{
	WfInstance	instance;

	(void) get_operated(fcinfo, "resume", &instance);
	wf_check_not_null(fcinfo, 1, "accept_state");
	wf_instance_require_open(&instance);
	PG_RETURN_BOOL(PG_GETARG_BOOL(1) ? accept_and_resume(&instance) : resume_instance(&instance, NULL));
}

/*
 * snapshot(id) -> true
 */
Datum
wfproc_snapshot(PG_FUNCTION_ARGS)
{
	return control_open(fcinfo, "snapshot", snapshot_instance);
}

/*
 * passivate(id) -> true
 */
Datum
wfproc_passivate(PG_FUNCTION_ARGS)
{
	return control_open(fcinfo, "passivate", passivate_instance);
}

/*
 * terminate(id, reason) -> whether that changes anything; NULL inside a handler
 */
Datum
wfproc_terminate(PG_FUNCTION_ARGS)
{
	if (MyWfStep != NULL)
	{
		wf_action_terminate(fcinfo);
		PG_RETURN_NULL();
	}
	return control(fcinfo, "terminate", terminate_instance);
}

/*
 * cancel(id, reason, deadline) -> whether that changes anything; NULL inside a handler
 */
Datum
wfproc_cancel(PG_FUNCTION_ARGS)
{
	WfInstance	instance;
	int64		deadline_us = NO_DEADLINE;

	if (MyWfStep != NULL)
	{
		wf_action_cancel(fcinfo);
		PG_RETURN_NULL();
	}
	if (!PG_ARGISNULL(2))
		deadline_us = wf_check_delay(fcinfo, 2, "deadline");
	PG_RETURN_BOOL(get_operated(fcinfo, "cancel", &instance) && cancel_by(&instance, get_reason(fcinfo), deadline_us));
}

/*
 * retry_now(id, reason) -> whether that changes anything
 */
Datum
wfproc_retry_now(PG_FUNCTION_ARGS)
{
	return control(fcinfo, "retry_now", retry_instance);
}

/*
 * skip(id, reason) -> whether that changes anything.  55000 where it is start that fails.
 */
Datum
wfproc_skip(PG_FUNCTION_ARGS)
{
	WfInstance	instance;
	int64		mail_id;
	bool		is_start;

	if (!get_operated(fcinfo, "skip", &instance))
		PG_RETURN_BOOL(false);
	if ((instance.attempts > 0 || instance.crashes > 0) && find_failing(&instance, &mail_id, &is_start) && is_start)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("event \"start\" of instance \"%s\" cannot be skipped", instance.id),
				 errhint("An instance begins with it; terminate() closes one that cannot begin.")));
	PG_RETURN_BOOL(skip_event(&instance, get_reason(fcinfo)));
}

/*
 * Whether an instance's attributes will be others once the changes are made.
 */
static bool
changes_attributes(const WfInstance *instance, Jsonb *changes)
{
	WfOutlook	outlook;
	Jsonb	   *merged;

	if (JB_ROOT_COUNT(changes) == 0)
		return false;
	foresee(instance, &outlook);
	merged = wf_attributes_merge(instance->attributes, changes);
	wf_check_size(merged, wf_max_payload, "the set of attributes", "wfproc.max_payload");
	return outlook.attributes || compareJsonbContainers(&merged->root, &instance->attributes->root) != 0;
}

/*
 * set_attributes(id, attributes) -> whether that changes anything
 */
Datum
wfproc_set_attributes_of(PG_FUNCTION_ARGS)
{
	JsonbParseState *parse = NULL;
	WfInstance	instance;
	Jsonb	   *changes;

	if (MyWfStep != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("set_attributes() of another instance cannot be called inside a handler"),
				 errhint("set_attributes(attributes) is for its own instance; others can be sent an event.")));
	(void) get_operated(fcinfo, "set_attributes", &instance);
	wf_check_not_null(fcinfo, 1, "attributes");
	changes = wf_api_check_attributes(fcinfo, 1);
	wf_instance_require_open(&instance);
	if (!changes_attributes(&instance, changes))
		PG_RETURN_BOOL(false);
	begin_payload(&parse, NULL);
	wf_object_jsonb(&parse, "attributes", changes);
	put(&instance, "$attributes", WF_AT_ONCE, wf_object_end(&parse));
	PG_RETURN_BOOL(true);
}

/*
 * The workflow of a dead letter, or NULL where there is no such letter.
 */
static WfWorkflow *
find_dead_letter(int64 mail_id)
{
	static SPIPlanPtr plan = NULL;
	const Oid	types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(mail_id)};
	WfSpi		spi;
	int			workflow_id = 0;

	wf_spi_begin(&spi);
	if (wf_spi_execute(&plan, "SELECT workflow_id FROM wfproc.dead_letter WHERE mail_id = $1", lengthof(types), types, values,
					   NULL, false, SPI_OK_SELECT) > 0)
	{
		bool		isnull;

		workflow_id = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	}
	wf_spi_end(&spi);
	wf_workflow_refresh();
	return workflow_id == 0 ? NULL : wf_workflow_find(workflow_id);
}

/*
 * Whether an instance's handler has handled anything.
 */
static bool
has_begun(const WfInstance *instance)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	WfLogScan  *scan = wf_eventlog_open(instance->instance_id, 0, snapshot);
	WfLogRow	row;
	bool		begun = false;

	while (!begun && wf_eventlog_next(scan, &row))
	{
		CHECK_FOR_INTERRUPTS();
		begun = !WF_IS_ENGINE_EVENT(row.event.name);
	}
	wf_eventlog_close(scan);
	UnregisterSnapshot(snapshot);
	return begun;
}

/*
 * Refuses a dead letter that its addressee cannot be sent again.
 */
static void
require_deliverable(const WfMail *mail, const WfInstance *instance)
{
	if (mail->instance_id != 0 && mail->instance_id != instance->instance_id)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("the instance \"%s\" that dead letter %lld was sent to does not exist any more", instance->id,
						(long long) mail->event.mail_id),
				 errhint("Another one has that id now; send() reaches it.")));
	wf_instance_require_open(instance);

	/*
	 * its own start, given up, may come again; that of a child whose id was
	 * taken may not
	 */
	if (strcmp(mail->event.name, "start") == 0 &&
		(mail->instance_id == 0 || mail->event.at != instance->started_at || has_begun(instance)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("instance \"%s\" cannot be started again", instance->id),
				 errhint("wfproc.start() starts another one.")));
}

/*
 * redrive(mail_id) -> the new mail_id; NULL where it is not among the dead letters, as far as the caller may know.  What is
 * refused after the letter was taken out is put back by the error.
 */
Datum
wfproc_redrive(PG_FUNCTION_ARGS)
{
	WfInstance	instance;
	WfWorkflow *workflow;
	WfMail		mail;
	char	   *id;

	wf_api_prepare_to_write("redrive", "send events");
	workflow = find_dead_letter(PG_GETARG_INT64(0));
	if (workflow == NULL || !wf_acl_may(workflow, GetUserId(), WF_PRIV_READ))
		PG_RETURN_NULL();
	wf_acl_require(workflow, GetUserId(), WF_PRIV_OPERATE);
	if (!wf_mailbox_exhume(PG_GETARG_INT64(0), &mail, &id))
		PG_RETURN_NULL();

	/*
	 * by its id: an addressee that was unknown may be there by now, and of
	 * another workflow
	 */
	(void) wf_instance_get(id, WF_PRIV_OPERATE, &instance);
	require_deliverable(&mail, &instance);
	mail.event.mail_id = 0;
	PG_RETURN_INT64(wf_mailbox_put(instance.instance_id, &mail.event));
}

/* what control_all() was asked for, and how far it has come */
typedef struct WfSelection
{
	WfVerb		verb;
	char	   *workflow;
	Jsonb	   *attributes;
	char	   *status;			/* NULL: any that is open */
	char	   *reason;			/* or NULL */
	int64		after;			/* the last instance that was looked at */
	int64		affected;
} WfSelection;

/*
 * Only at the top level: each batch is committed.
 */
static void
require_nonatomic(FunctionCallInfo fcinfo)
{
	if (fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) ||
		castNode(CallContext, fcinfo->context)->atomic || IsSubTransaction())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
				 errmsg("control_all() cannot be called inside a transaction block"),
				 errdetail("It commits after each batch of instances."),
				 errhint("To be part of a transaction: SELECT wfproc.cancel(id) FROM wfproc.instances WHERE ...")));
}

/*
 * Lets it meet the roll-outs that are due, as its next event would: in its place, after what is due already.
 */
static bool
upgrade_instance(const WfInstance *instance, const char *reason)
{
	TimestampTz now = wf_clock_now();
	ListCell   *lc;

	foreach(lc, wf_workflow_get(instance->workflow_id)->rollouts)
	{
		if (!wf_workflow_is_concerned(lfirst(lc), instance->version, instance->attributes, now))
			continue;
		if (waits(instance, "$rollout"))
			return false;
		put(instance, "$rollout", now, by_and_reason(reason));
		return true;
	}
	return false;
}

static WfVerb
get_verb(FunctionCallInfo fcinfo, int argno)
{
	static const struct
	{
		const char *name;
		WfVerb		verb;
	}			verbs[] = {
		{"cancel", cancel_instance},
		{"terminate", terminate_instance},
		{"pause", pause_instance},
		{"resume", resume_instance},
		{"retry_now", retry_instance},
		{"skip", skip_event},
		{"upgrade", upgrade_instance}
	};
	char	   *name;

	wf_check_not_null(fcinfo, argno, "verb");
	name = text_to_cstring(PG_GETARG_TEXT_PP(argno));
	for (int i = 0; i < lengthof(verbs); i++)
		if (strcmp(verbs[i].name, name) == 0)
			return verbs[i].verb;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("argument \"verb\" must be cancel, terminate, pause, resume, retry_now, skip or upgrade, got \"%s\"", name),
			 errhint("Each is the name of a function that does it to one instance; upgrade goes by the roll-outs in force.")));
	return NULL;				/* not reached */
}

static char *
get_status(FunctionCallInfo fcinfo, int argno)
{
	char	   *status;

	if (PG_ARGISNULL(argno))
		return NULL;
	status = text_to_cstring(PG_GETARG_TEXT_PP(argno));
	if (strcmp(status, wf_instance_status_name(WF_RUNNING)) != 0 && strcmp(status, wf_instance_status_name(WF_PAUSED)) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"status\" must be running or paused, got \"%s\"", status),
				 errhint("NULL is for both; an instance that has closed is left alone.")));
	return status;
}

#define SELECT_BATCH(condition) \
	"SELECT instance_id FROM wfproc.instance WHERE workflow_id = $1 AND instance_id > $2 AND status IN ('running', 'paused')" \
	" AND ($3 IS NULL OR status = $3 COLLATE \"C\")" condition " ORDER BY instance_id LIMIT $5"

/*
 * The next instances, at most BATCH_SIZE, into instance_ids; returns how many.
 */
static int
select_batch(const WfSelection *selection, int workflow_id, int64 *instance_ids)
{
	static SPIPlanPtr plan = NULL;
	static SPIPlanPtr plan_of_all = NULL;
	static const Oid types[] = {INT4OID, INT8OID, TEXTOID, JSONBOID, INT8OID};
	Datum		values[lengthof(types)] = {Int32GetDatum(workflow_id), Int64GetDatum(selection->after)};
	char		nulls[lengthof(types)] = {' ', ' ', selection->status == NULL ? 'n' : ' ', ' ', ' '};

	/*
	 * everything contains {}: a plan that asked the index would read all of
	 * it
	 */
	bool		all = JB_ROOT_COUNT(selection->attributes) == 0;
	WfSpi		spi;
	int			count;

	if (selection->status != NULL)
		values[2] = CStringGetTextDatum(selection->status);
	values[3] = JsonbPGetDatum(selection->attributes);
	values[4] = Int64GetDatum(BATCH_SIZE);
	wf_spi_begin(&spi);
	count = wf_spi_execute(all ? &plan_of_all : &plan, all ? SELECT_BATCH("") : SELECT_BATCH(" AND attributes @> $4"),
						   lengthof(types), types, values, nulls, false, SPI_OK_SELECT);
	for (int i = 0; i < count; i++)
	{
		bool		isnull;

		instance_ids[i] = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
	}
	wf_spi_end(&spi);
	return count;
}

/*
 * Reads an instance as of now: false where it has closed, or is gone, since it was selected.
 */
static bool
read_open(int64 instance_id, WfInstance *instance)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	bool		found = wf_instance_read(instance_id, snapshot, instance);

	UnregisterSnapshot(snapshot);
	return found && !WF_IS_CLOSED(instance->status);
}

/*
 * Deals with one batch.  Returns whether there may be more.  The caller's rights are looked at each time: the batch before
 * was another transaction.
 */
static bool
control_batch(WfSelection *selection)
{
	int64		instance_ids[BATCH_SIZE];
	WfWorkflow *workflow;
	int			count;

	wf_check_can_write("send control events");
	wf_workflow_refresh();
	workflow = wf_workflow_by_name(selection->workflow, false);
	wf_acl_require(workflow, GetUserId(), WF_PRIV_OPERATE);
	count = select_batch(selection, workflow->workflow_id, instance_ids);
	for (int i = 0; i < count; i++)
	{
		WfInstance	instance;

		CHECK_FOR_INTERRUPTS();
		if (read_open(instance_ids[i], &instance) && selection->verb(&instance, selection->reason))
			selection->affected++;
		selection->after = instance_ids[i];
	}
	return count == BATCH_SIZE;
}

/*
 * Deals with all of them, a transaction for each batch.  What a batch allocates goes with it.
 */
static void
control_selected(WfSelection *selection)
{
	MemoryContext memory;
	bool		more = true;

	/*
	 * from here on to SPI_finish(), the current memory context outlives a
	 * commit
	 */
	if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect_ext failed");
	memory = AllocSetContextCreate(CurrentMemoryContext, "wfproc control", ALLOCSET_DEFAULT_SIZES);
	while (more)
	{
		MemoryContext old = MemoryContextSwitchTo(memory);

		/* after a commit there is none */
		PushActiveSnapshot(GetTransactionSnapshot());
		more = control_batch(selection);
		PopActiveSnapshot();
		MemoryContextSwitchTo(old);
		MemoryContextReset(memory);
		SPI_commit();
		/* the first releases of 14 do not do so themselves */
		SPI_start_transaction();
	}
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "SPI_finish failed");
}

/*
 * control_all(verb, workflow, attributes, status, reason, INOUT affected)
 */
Datum
wfproc_control_all(PG_FUNCTION_ARGS)
{
	WfSelection selection = {0};
	TupleDesc	desc;
	Datum		values[1];
	bool		nulls[1] = {false};

	wf_api_prepare_to_write("control_all", "send control events");
	require_nonatomic(fcinfo);
	selection.verb = get_verb(fcinfo, 0);
	selection.workflow = wf_check_name(fcinfo, 1, "workflow");
	selection.attributes = wf_api_check_attributes(fcinfo, 2);
	selection.status = get_status(fcinfo, 3);
	selection.reason = wf_check_reason(fcinfo, 4);
	control_selected(&selection);
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = Int64GetDatum(selection.affected);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
