/*
 * api.c: the SQL functions that start instances and put events into mailboxes.
 *
 * Each checks its arguments and the caller's rights, and calls a module.  All of them run in the caller's transaction and
 * are undone by its ROLLBACK; what they write is handled after its commit.  What only the holder of an instance's shard may
 * do (pause, resume, snapshot, passivate) is asked for by a control event, which goes ahead of other mail.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "acl.h"
#include "check.h"
#include "clock.h"
#include "code.h"
#include "engine.h"
#include "guc.h"
#include "handler.h"
#include "idempotency.h"
#include "instance.h"
#include "mailbox.h"
#include "process.h"

/* what define() gives a handler by default */
#define TRIAL_TIMEOUT_MS 10000

PG_FUNCTION_INFO_V1(wfproc_try_step);
PG_FUNCTION_INFO_V1(wfproc_start);
PG_FUNCTION_INFO_V1(wfproc_send);
PG_FUNCTION_INFO_V1(wfproc_unsend);
PG_FUNCTION_INFO_V1(wfproc_reschedule);
PG_FUNCTION_INFO_V1(wfproc_pause);
PG_FUNCTION_INFO_V1(wfproc_resume);
PG_FUNCTION_INFO_V1(wfproc_snapshot);
PG_FUNCTION_INFO_V1(wfproc_passivate);
PG_FUNCTION_INFO_V1(wfproc_run);

/*
 * An optional stamp, by default now.
 */
static TimestampTz
get_stamp(FunctionCallInfo fcinfo, int argno, const char *argument)
{
	TimestampTz at;

	if (PG_ARGISNULL(argno))
		return wf_clock_now();
	at = PG_GETARG_TIMESTAMPTZ(argno);
	wf_clock_check_finite(at, argument);
	return at;
}

static void
prepare_to_write(const char *function, const char *what)
{
	wf_check_not_in_handler(function);
	wf_check_can_write(what);
}

/*
 * What the caller of start() is told to do with an id that is taken.
 */
static bool
get_if_exists(FunctionCallInfo fcinfo, int argno)
{
	char	   *value;

	wf_check_not_null(fcinfo, argno, "if_exists");
	value = text_to_cstring(PG_GETARG_TEXT_PP(argno));
	if (strcmp(value, "ignore") != 0 && strcmp(value, "error") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("if_exists must be error or ignore, got \"%s\"", value),
				 errhint("ignore leaves the instance that is there as it is.")));
	return strcmp(value, "ignore") == 0;
}

static Jsonb *
get_attributes(FunctionCallInfo fcinfo, int argno)
{
	Jsonb	   *attributes = wf_check_payload(fcinfo, argno, "attributes");

	if (!JB_ROOT_IS_OBJECT(attributes))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("attributes must be a JSON object"),
				 errhint("For example {\"customer\": 7}.")));
	return attributes;
}

/*
 * start(workflow, id, input, at, version, attributes, live_from, if_exists) -> id
 */
Datum
wfproc_start(PG_FUNCTION_ARGS)
{
	WfStart		start = {0};
	WfWorkflow *workflow;
	char	   *name;

	prepare_to_write("start", "start instances");
	name = wf_check_name(fcinfo, 0, "workflow");
	start.id = wf_check_optional_name(fcinfo, 1, "id");
	start.input = wf_check_payload(fcinfo, 2, "input");
	start.at = get_stamp(fcinfo, 3, "at");
	start.attributes = get_attributes(fcinfo, 5);
	/* infinite is meant here: everything acts, or nothing */
	start.live_from = PG_ARGISNULL(6) ? wf_clock_now() : PG_GETARG_TIMESTAMPTZ(6);
	start.ignore_existing = get_if_exists(fcinfo, 7);
	wf_workflow_refresh();
	workflow = wf_workflow_by_name(name, false);
	wf_acl_require(workflow, GetUserId(), WF_PRIV_SEND);
	start.version = PG_ARGISNULL(4) ? workflow->current_version : PG_GETARG_INT32(4);
	PG_RETURN_TEXT_P(cstring_to_text(wf_instance_start(workflow, &start)));
}

/*
 * The instance that an event is for; started first where there is none and the caller named a workflow.
 */
static WfWorkflow *
get_addressee(FunctionCallInfo fcinfo, const char *id, TimestampTz at, WfInstance *instance)
{
	char	   *or_start = wf_check_optional_name(fcinfo, 5, "or_start");

	if (or_start != NULL && !wf_instance_find(id, instance))
	{
		WfStart		start = {.id = id,.at = at,.ignore_existing = true};
		WfWorkflow *workflow;

		wf_workflow_refresh();
		workflow = wf_workflow_by_name(or_start, false);
		wf_acl_require(workflow, GetUserId(), WF_PRIV_SEND);
		start.input = start.attributes = wf_check_empty_object();
		start.live_from = wf_clock_now();
		start.version = workflow->current_version;
		(void) wf_instance_start(workflow, &start);
	}
	return wf_instance_get(id, WF_PRIV_SEND, instance);
}

/*
 * send(id, event, payload, at, idempotency_key, or_start) -> mail_id
 */
Datum
wfproc_send(PG_FUNCTION_ARGS)
{
	WfInstance	instance;
	WfEvent		event = {0};
	WfWorkflow *workflow;
	char	   *id;
	int64		first;

	prepare_to_write("send", "send events");
	id = wf_check_name(fcinfo, 0, "id");
	event.name = wf_check_name(fcinfo, 1, "event");
	event.payload = wf_check_payload(fcinfo, 2, "payload");
	event.at = get_stamp(fcinfo, 3, "at");
	event.key = wf_check_optional_name(fcinfo, 4, "idempotency_key");
	workflow = get_addressee(fcinfo, id, event.at, &instance);
	wf_instance_require_accepts(workflow, event.name);

	/*
	 * a repeated send is answered as the first was, also after the instance
	 * has closed
	 */
	if (event.key != NULL && wf_idempotency_find(instance.instance_id, &event, !PG_ARGISNULL(3), &first))
		PG_RETURN_INT64(first);
	wf_instance_require_open(&instance);
	if (event.key != NULL && !wf_idempotency_claim(instance.instance_id, &event, !PG_ARGISNULL(3), &first))
		PG_RETURN_INT64(first);
	PG_RETURN_INT64(wf_mailbox_put(instance.instance_id, &event));
}

/*
 * Takes an event that a user may take back out of the mailbox.  False where it is not there (any more).
 */
static bool
take_back(FunctionCallInfo fcinfo, const char *function, WfInstance *instance, WfMail *mail)
{
	char	   *id;

	prepare_to_write(function, "take back events");
	id = wf_check_name(fcinfo, 0, "id");

	/*
	 * what the calling statement itself has sent, as in unsend(id, send(id,
	 * ...))
	 */
	CommandCounterIncrement();
	(void) wf_instance_get(id, WF_PRIV_SEND, instance);
	if (!wf_mailbox_find(instance->instance_id, PG_GETARG_INT64(1), mail))
		return false;
	if (WF_IS_ENGINE_EVENT(mail->event.name) || strcmp(mail->event.name, "start") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("event \"%s\" of instance \"%s\" cannot be taken back or moved", mail->event.name, id),
				 errhint("Only events from send() or emit() can.")));
	return wf_mailbox_take(instance->instance_id, PG_GETARG_INT64(1), mail);
}

/*
 * unsend(id, mail_id) -> whether it was still there
 */
Datum
wfproc_unsend(PG_FUNCTION_ARGS)
{
	WfInstance	instance;
	WfMail		mail;

	PG_RETURN_BOOL(take_back(fcinfo, "unsend", &instance, &mail));
}

/*
 * reschedule(id, mail_id, at) -> whether it was still there
 */
Datum
wfproc_reschedule(PG_FUNCTION_ARGS)
{
	WfInstance	instance;
	WfMail		mail;
	TimestampTz at = get_stamp(fcinfo, 2, "at");

	if (!take_back(fcinfo, "reschedule", &instance, &mail))
		PG_RETURN_BOOL(false);
	mail.event.at = at;
	(void) wf_mailbox_put(instance.instance_id, &mail.event);
	PG_RETURN_BOOL(true);
}

static void
push_pair(JsonbParseState **parse, const char *key, const char *string)
{
	JsonbValue	value = {.type = jbvString};

	if (string == NULL)
		return;
	value.val.string.val = unconstify(char *, key);
	value.val.string.len = strlen(key);
	pushJsonbValue(parse, WJB_KEY, &value);
	value.val.string.val = unconstify(char *, string);
	value.val.string.len = strlen(string);
	pushJsonbValue(parse, WJB_VALUE, &value);
}

/*
 * Sends a control event, which says who asks and why.
 */
static void
send_control(const WfInstance *instance, const char *name, const char *reason)
{
	JsonbParseState *parse = NULL;
	WfEvent		event = {.at = WF_AT_ONCE,.name = unconstify(char *, name)};

	pushJsonbValue(&parse, WJB_BEGIN_OBJECT, NULL);
	push_pair(&parse, "by", GetUserNameFromId(GetUserId(), false));
	push_pair(&parse, "reason", reason);
	event.payload = JsonbValueToJsonb(pushJsonbValue(&parse, WJB_END_OBJECT, NULL));
	(void) wf_mailbox_put(instance->instance_id, &event);
}

/*
 * Whether the instance is paused, or will be once it has handled the control events that wait for it; and in *retrying
 * whether it will then be waiting to try an event again.
 */
static bool
will_be_paused(const WfInstance *instance, bool *retrying)
{
	bool		paused = instance->status == WF_PAUSED;
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TimestampTz next_at;
	WfMail	   *mails;
	int			count = wf_mailbox_read(instance->instance_id, WF_AT_ONCE, WF_AT_ONCE, INT_MAX, snapshot, &mails, &next_at);

	UnregisterSnapshot(snapshot);
	*retrying = instance->attempts > 0;
	for (int i = 0; i < count; i++)
	{
		bool		pausing = strcmp(mails[i].event.name, "$pause") == 0;

		if (!pausing && strcmp(mails[i].event.name, "$resume") != 0)
			continue;
		/* either clears the failures */
		paused = pausing;
		*retrying = false;
	}
	return paused;
}

/*
 * The open instance that the first argument names, which the caller may operate.
 */
static void
get_operated(FunctionCallInfo fcinfo, const char *function, WfInstance *instance)
{
	prepare_to_write(function, "send control events");
	CommandCounterIncrement();
	(void) wf_instance_get(wf_check_name(fcinfo, 0, "id"), WF_PRIV_OPERATE, instance);
	wf_instance_require_open(instance);
}

/*
 * pause(id, reason) -> whether that changes anything
 */
Datum
wfproc_pause(PG_FUNCTION_ARGS)
{
	WfInstance	instance;
	bool		retrying;

	get_operated(fcinfo, "pause", &instance);
	if (will_be_paused(&instance, &retrying))
		PG_RETURN_BOOL(false);
	send_control(&instance, "$pause", PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1)));
	PG_RETURN_BOOL(true);
}

/*
 * resume(id) -> whether that changes anything
 */
Datum
wfproc_resume(PG_FUNCTION_ARGS)
{
	WfInstance	instance;
	bool		retrying;

	get_operated(fcinfo, "resume", &instance);
	if (!will_be_paused(&instance, &retrying) && !retrying)
		PG_RETURN_BOOL(false);
	send_control(&instance, "$resume", NULL);
	PG_RETURN_BOOL(true);
}

/*
 * snapshot(id) -> true
 */
Datum
wfproc_snapshot(PG_FUNCTION_ARGS)
{
	WfInstance	instance;

	get_operated(fcinfo, "snapshot", &instance);
	send_control(&instance, "$snapshot", NULL);
	PG_RETURN_BOOL(true);
}

/*
 * passivate(id) -> true
 */
Datum
wfproc_passivate(PG_FUNCTION_ARGS)
{
	WfInstance	instance;

	get_operated(fcinfo, "passivate", &instance);
	send_control(&instance, "$passivate", NULL);
	PG_RETURN_BOOL(true);
}

/*
 * run(max_events) -> events handled
 */
Datum
wfproc_run(PG_FUNCTION_ARGS)
{
	if (!PG_ARGISNULL(0) && PG_GETARG_INT32(0) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_events must not be negative, got %d", PG_GETARG_INT32(0)),
				 errhint("NULL is for as many as there are.")));
	PG_RETURN_INT64(wf_engine_run(PG_ARGISNULL(0) ? -1 : PG_GETARG_INT32(0)));
}

/* a handler's trial: a workflow of the caller's with nothing but this handler, and one step */
typedef struct Trial
{
	WfWorkflow	workflow;
	WfVersion	version;
	WfFold		before;
	WfFold		after;
	WfEvent		event;
	List	   *actions;
	ErrorData  *error;
} Trial;

static void
make_trial(FunctionCallInfo fcinfo, Trial *trial)
{
	WfCode	   *code = wf_code_resolve(wf_check_name(fcinfo, 0, "handler"), WF_CODE_HANDLER);

	memset(trial, 0, sizeof(Trial));
	trial->workflow.name = "try_step";
	trial->workflow.owner = GetUserId();
	trial->workflow.handler_timeout_ms = TRIAL_TIMEOUT_MS;
	trial->version.handler = code->qualified;
	trial->version.search_path = wf_code_search_path();
	fmgr_info(code->function, &trial->version.function);
	wf_process_init_fold(&trial->before, 1);
	wf_check_not_null(fcinfo, 1, "state");
	trial->before.state = PG_GETARG_JSONB_P(1);
	trial->event.name = wf_check_name(fcinfo, 2, "event");
	trial->event.payload = wf_check_payload(fcinfo, 3, "payload");
	trial->event.at = wf_clock_now();
}

static void
try_step(void *arg)
{
	Trial	   *trial = arg;
	int64		digest;

	(void) wf_process_step(&trial->workflow, &trial->version, "try_step", &trial->before, &trial->event, &trial->after,
						   &trial->actions, &digest, &trial->error);
}

/*
 * try_step(handler, state, event, payload) -> (new_state, actions)
 */
Datum
wfproc_try_step(PG_FUNCTION_ARGS)
{
	Trial		trial;
	TupleDesc	desc;
	Datum		values[2];
	bool		nulls[2] = {false, false};

	wf_check_not_in_handler("try_step");
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	make_trial(fcinfo, &trial);
	wf_handler_stretch(try_step, &trial);
	if (trial.error != NULL)
		ThrowErrorData(trial.error);
	values[0] = JsonbPGetDatum(trial.after.state);
	values[1] = JsonbPGetDatum(wf_action_as_jsonb(trial.actions));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
