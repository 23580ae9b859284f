/*
 * api.c: the SQL functions that start instances and put events into mailboxes.
 *
 * Each checks its arguments and the caller's rights, and calls a module.  All of them run in the caller's transaction and
 * are undone by its ROLLBACK; what they write is handled after its commit.  start() and send() are what a handler calls as
 * well: there they only note an action (action.c), and touch no table.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "acl.h"
#include "action.h"
#include "api.h"
#include "check.h"
#include "clock.h"
#include "engine.h"
#include "guc.h"
#include "idempotency.h"
#include "instance.h"
#include "link.h"
#include "mailbox.h"
#include "object.h"
#include "step.h"

PG_FUNCTION_INFO_V1(wfproc_start);
PG_FUNCTION_INFO_V1(wfproc_send);
PG_FUNCTION_INFO_V1(wfproc_unsend);
PG_FUNCTION_INFO_V1(wfproc_reschedule);
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

/*
 * Refuses to write inside a handler, on a standby and in a read-only transaction.  what: "send events".
 */
void
wf_api_prepare_to_write(const char *function, const char *what)
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

/*
 * on_parent_close has one value that makes sense outside a handler.
 */
static void
check_on_parent_close(FunctionCallInfo fcinfo, int argno)
{
	char	   *value;
	bool		none;
	WfLinkKind	kind;

	wf_check_not_null(fcinfo, argno, "on_parent_close");
	value = text_to_cstring(PG_GETARG_TEXT_PP(argno));
	if (!wf_link_parse_on_close(value, &none, &kind))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("on_parent_close must be leave, cancel or terminate, got \"%s\"", value),
				 errhint("It is what happens to a child when the instance that started it closes.")));
	if (!none)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("an instance that is started outside a handler has no parent"),
				 errhint("Leave on_parent_close out; it is for the children that a handler starts.")));
}

/*
 * Attributes of an instance: an object within wfproc.max_payload; SQL NULL becomes {}.  22023 where it is no object.
 */
Jsonb *
wf_api_check_attributes(FunctionCallInfo fcinfo, int argno)
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
 * start(workflow, id, input, at, version, attributes, live_from, if_exists, on_parent_close) -> id
 */
Datum
wfproc_start(PG_FUNCTION_ARGS)
{
	WfStart		start = {0};
	WfWorkflow *workflow;
	char	   *name;

	if (MyWfStep != NULL)
		PG_RETURN_TEXT_P(cstring_to_text(wf_action_start(fcinfo)));
	wf_api_prepare_to_write("start", "start instances");
	name = wf_check_name(fcinfo, 0, "workflow");
	start.id = wf_check_new_id(fcinfo, 1);
	start.input = wf_check_payload(fcinfo, 2, "input");
	start.at = get_stamp(fcinfo, 3, "at");
	start.attributes = wf_api_check_attributes(fcinfo, 5);
	/* infinite is meant here: everything acts, or nothing */
	start.live_from = PG_ARGISNULL(6) ? wf_instance_default_live_from(start.at, wf_clock_now()) : PG_GETARG_TIMESTAMPTZ(6);
	start.ignore_existing = get_if_exists(fcinfo, 7);
	check_on_parent_close(fcinfo, 8);
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
		start.live_from = wf_instance_default_live_from(at, wf_clock_now());
		start.version = workflow->current_version;
		(void) wf_instance_start(workflow, &start);
	}
	return wf_instance_get(id, WF_PRIV_SEND, instance);
}

/*
 * send(id, event, payload, at, idempotency_key, or_start) -> mail_id; NULL inside a handler
 */
Datum
wfproc_send(PG_FUNCTION_ARGS)
{
	WfInstance	instance;
	WfEvent		event = {0};
	WfWorkflow *workflow;
	char	   *id;
	int64		first;

	if (MyWfStep != NULL)
	{
		wf_action_send(fcinfo);
		PG_RETURN_NULL();
	}
	wf_api_prepare_to_write("send", "send events");
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
 * Whoever may send may take back or move what clients have sent.  What processes and the engine send somebody relies on, and
 * an upgrade is the operator's, so these are for operators.  What the engine itself relies on stays.
 */
static void
require_movable(const WfWorkflow *workflow, const char *id, const WfMail *mail)
{
	const char *name = mail->event.name;
	bool		upgrade = strcmp(name, "$upgrade") == 0;

	if ((WF_IS_ENGINE_EVENT(name) && !upgrade) || strcmp(name, "start") == 0 || strcmp(name, "cancel") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("event \"%s\" of instance \"%s\" cannot be taken back or moved", name, id),
				 errhint("Only events from send() or emit() can, and by operators those that processes send.")));
	if (upgrade || mail->event.sender != NULL)
		wf_acl_require(workflow, GetUserId(), WF_PRIV_OPERATE);
}

/*
 * Finds an event that the caller may take back or move.  False where it is not in the mailbox (any more).
 */
static bool
find_movable(FunctionCallInfo fcinfo, const char *function, WfInstance *instance, WfMail *mail)
{
	WfWorkflow *workflow;
	char	   *id;

	wf_api_prepare_to_write(function, "take back events");
	id = wf_check_name(fcinfo, 0, "id");

	/*
	 * what the calling statement itself has sent, as in unsend(id, send(id,
	 * ...))
	 */
	CommandCounterIncrement();
	workflow = wf_instance_get(id, WF_PRIV_SEND, instance);
	if (!wf_mailbox_find(instance->instance_id, PG_GETARG_INT64(1), mail))
		return false;
	require_movable(workflow, id, mail);
	return true;
}

/*
 * What an operator does to mail that a process has sent is to be in the log: {"by", "mail_id", "event", "at"}.  Of a timer,
 * {"by", "mail_id", "timer", "at"}, this is the request: only the holder of the instance's shard writes those.
 */
static void
tell_instance(const WfInstance *instance, const char *verb, const WfMail *mail, const TimestampTz *at)
{
	WfEvent		event = {.at = WF_AT_ONCE,.name = unconstify(char *, verb)};
	JsonbParseState *parse = NULL;

	wf_object_begin(&parse);
	wf_object_text(&parse, "by", GetUserNameFromId(GetUserId(), false));
	wf_object_int(&parse, "mail_id", mail->event.mail_id);
	wf_object_text(&parse, mail->timer != NULL ? "timer" : "event", mail->event.name);
	if (at != NULL)
		wf_object_stamp(&parse, "at", *at);
	event.payload = wf_object_end(&parse);
	(void) wf_mailbox_put(instance->instance_id, &event);
}

/*
 * unsend(id, mail_id) -> whether it was still there
 */
Datum
wfproc_unsend(PG_FUNCTION_ARGS)
{
	WfInstance	instance;
	WfMail		mail;

	if (!find_movable(fcinfo, "unsend", &instance, &mail))
		PG_RETURN_BOOL(false);
	if (mail.timer != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("event \"%s\" of instance \"%s\" is a timer", mail.event.name, instance.id),
				 errhint("Its instance's handler can cancel or replace it, with cancel_timer() or set_timer(); reschedule() moves it.")));
	if (!wf_mailbox_take(instance.instance_id, PG_GETARG_INT64(1), &mail))
		PG_RETURN_BOOL(false);
	if (mail.event.sender != NULL)
		tell_instance(&instance, "$unsend", &mail, NULL);
	PG_RETURN_BOOL(true);
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

	if (!find_movable(fcinfo, "reschedule", &instance, &mail) ||
		(mail.timer == NULL && !wf_mailbox_take(instance.instance_id, PG_GETARG_INT64(1), &mail)))
		PG_RETURN_BOOL(false);
	mail.event.at = at;
	if (mail.timer == NULL)
		(void) wf_mailbox_put(instance.instance_id, &mail.event);
	if (mail.event.sender != NULL)
		tell_instance(&instance, "$reschedule", &mail, &at);
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
