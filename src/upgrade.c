/*
 * upgrade.c: the SQL functions that switch versions: of one instance, of all of a workflow, of those to come.
 *
 * An upgrade of an instance is an event in its mailbox; a roll-out is one row, which each instance meets on its way
 * (draft.c).  All of them are part of the caller's transaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "acl.h"
#include "api.h"
#include "check.h"
#include "clock.h"
#include "definition.h"
#include "instance.h"
#include "mailbox.h"
#include "object.h"
#include "process.h"
#include "spi.h"

PG_FUNCTION_INFO_V1(wfproc_upgrade);
PG_FUNCTION_INFO_V1(wfproc_rollout);
PG_FUNCTION_INFO_V1(wfproc_cancel_rollout);
PG_FUNCTION_INFO_V1(wfproc_set_current_version);
PG_FUNCTION_INFO_V1(wfproc_show_code);

/*
 * A version that there is; 42704 otherwise.
 */
static int
get_version(FunctionCallInfo fcinfo, int argno, WfWorkflow *workflow)
{
	wf_check_not_null(fcinfo, argno, "version");
	return wf_workflow_version(workflow, PG_GETARG_INT32(argno))->version;
}

/*
 * The state of a later version cannot be turned back unless somebody has written how.
 */
static void
require_way_back(WfWorkflow *workflow, int from, int to)
{
	if (to < from && !wf_workflow_version(workflow, to)->has_migrate)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("version %d of workflow \"%s\" has no migrate function, so there is no way back to it from version %d",
						to, workflow->name, from),
				 errhint("Publish the old handler as a new version, with a migrate function where the state must change.")));
}

/*
 * The version that an instance will have once it has handled the control events that wait for it.
 */
static int
version_to_come(const WfInstance *instance)
{
	WfMail	   *mails;
	int			count = wf_mailbox_read_control(instance->instance_id, &mails);
	int			version = instance->version;

	for (int i = 0; i < count; i++)
		if (strcmp(mails[i].event.name, "$upgrade") == 0)
			version = wf_process_upgrade_to(&mails[i].event);
	return version;
}

/*
 * upgrade(id, version, at) -> mail_id, or NULL where there is nothing to do
 */
Datum
wfproc_upgrade(PG_FUNCTION_ARGS)
{
	WfEvent		event = {.at = WF_AT_ONCE,.name = "$upgrade"};
	JsonbParseState *parse = NULL;
	WfInstance	instance;
	WfWorkflow *workflow;
	int			present;
	int			version;

	wf_api_prepare_to_write("upgrade", "upgrade instances");
	/* what the calling statement itself has asked for */
	CommandCounterIncrement();
	workflow = wf_instance_get(wf_check_name(fcinfo, 0, "id"), WF_PRIV_OPERATE, &instance);
	wf_instance_require_open(&instance);
	version = get_version(fcinfo, 1, workflow);
	present = version_to_come(&instance);
	require_way_back(workflow, present, version);
	if (!PG_ARGISNULL(2))
	{
		event.at = PG_GETARG_TIMESTAMPTZ(2);
		wf_clock_check_finite(event.at, "at");
	}
	else if (version == present)
		PG_RETURN_NULL();
	wf_object_begin(&parse);
	wf_object_text(&parse, "by", GetUserNameFromId(GetUserId(), false));
	wf_object_int(&parse, "version", version);
	event.payload = wf_object_end(&parse);
	PG_RETURN_INT64(wf_mailbox_put(instance.instance_id, &event));
}

/*
 * The workflow that the first argument names, for its owner.
 */
static WfWorkflow *
get_owned(FunctionCallInfo fcinfo)
{
	WfWorkflow *workflow;
	char	   *name = wf_check_name(fcinfo, 0, "workflow");

	wf_workflow_refresh();
	workflow = wf_workflow_by_name(name, false);
	wf_acl_require_owner(workflow);
	return workflow;
}

/*
 * Runs a statement as the extension's owner: the number of rows, and the first one's first column, an int, where there is one.
 */
static int
execute(SPIPlanPtr *plan, const char *sql, int count, const Oid *types, Datum *values, const char *nulls, int expected,
		int *result)
{
	WfSpi		spi;
	int			rows;

	wf_spi_begin(&spi);
	rows = wf_spi_execute(plan, sql, count, types, values, nulls, false, expected);
	if (rows > 0 && SPI_tuptable != NULL)
	{
		bool		isnull;

		*result = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	}
	wf_spi_end(&spi);
	return rows;
}

/*
 * rollout(workflow, version, at, from_version, attributes, max_failures) -> rollout_id
 */
Datum
wfproc_rollout(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT4OID, INT4OID, INT4OID, TIMESTAMPTZOID, JSONBOID, INT4OID, TEXTOID, TIMESTAMPTZOID};
	Datum		values[lengthof(types)];
	char		nulls[lengthof(types)];
	WfWorkflow *workflow;
	TimestampTz now = wf_clock_now();
	int			rollout_id = 0;

	wf_api_prepare_to_write("rollout", "upgrade instances");
	workflow = get_owned(fcinfo);
	memset(nulls, ' ', sizeof(nulls));
	values[0] = Int32GetDatum(workflow->workflow_id);
	values[1] = Int32GetDatum(get_version(fcinfo, 1, workflow));
	nulls[2] = PG_ARGISNULL(3) ? 'n' : ' ';
	values[2] = PG_ARGISNULL(3) ? (Datum) 0 : Int32GetDatum(get_version(fcinfo, 3, workflow));
	if (!PG_ARGISNULL(3))
		require_way_back(workflow, PG_GETARG_INT32(3), PG_GETARG_INT32(1));
	values[3] = TimestampTzGetDatum(PG_ARGISNULL(2) ? now : PG_GETARG_TIMESTAMPTZ(2));
	wf_clock_check_finite(DatumGetTimestampTz(values[3]), "at");
	values[4] = JsonbPGetDatum(wf_api_check_attributes(fcinfo, 4));
	wf_check_not_null(fcinfo, 5, "max_failures");
	if (PG_GETARG_INT32(5) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"max_failures\" must be positive, got %d", PG_GETARG_INT32(5)),
				 errhint("After so many failures of migrate the roll-out stops by itself.")));
	values[5] = PG_GETARG_DATUM(5);
	values[6] = CStringGetTextDatum(GetUserNameFromId(GetUserId(), false));
	values[7] = TimestampTzGetDatum(now);
	(void) execute(&plan,
				   "INSERT INTO wfproc.rollout (rollout_id, workflow_id, version, from_version, at, attributes, max_failures,"
				   " created_by, created_at) VALUES (nextval('wfproc.rollout_seq'), $1, $2, $3, $4, $5, $6, $7, $8)"
				   " RETURNING rollout_id",
				   lengthof(types), types, values, nulls, SPI_OK_INSERT_RETURNING, &rollout_id);
	wf_workflow_changed();
	PG_RETURN_INT32(rollout_id);
}

/*
 * The workflow of a roll-out, whose owner the caller must be.
 */
static void
require_rollout_owner(int rollout_id)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(rollout_id)};
	int			workflow_id = 0;

	if (execute(&plan, "SELECT workflow_id FROM wfproc.rollout WHERE rollout_id = $1", 1, types, values, NULL, SPI_OK_SELECT,
				&workflow_id) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("roll-out %d does not exist", rollout_id),
				 errhint("wfproc.rollouts lists those that you may see.")));
	wf_workflow_refresh();
	wf_acl_require_owner(wf_workflow_get(workflow_id));
}

/*
 * cancel_rollout(rollout_id) -> whether it was in force
 */
Datum
wfproc_cancel_rollout(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT4OID, TIMESTAMPTZOID};
	Datum		values[] = {PG_GETARG_DATUM(0), TimestampTzGetDatum(wf_clock_now())};
	int			ignored;
	int			changed;

	wf_api_prepare_to_write("cancel_rollout", "upgrade instances");
	require_rollout_owner(PG_GETARG_INT32(0));
	changed = execute(&plan,
					  "UPDATE wfproc.rollout SET cancelled_at = $2"
					  " WHERE rollout_id = $1 AND cancelled_at IS NULL AND stopped_at IS NULL RETURNING rollout_id",
					  lengthof(types), types, values, NULL, SPI_OK_UPDATE_RETURNING, &ignored);
	if (changed > 0)
		wf_workflow_changed();
	PG_RETURN_BOOL(changed > 0);
}

/*
 * set_current_version(workflow, version) -> the version before
 */
Datum
wfproc_set_current_version(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT4OID, INT4OID};
	Datum		values[lengthof(types)];
	WfWorkflow *workflow;
	int			before;
	int			ignored;

	wf_api_prepare_to_write("set_current_version", "change workflows");
	workflow = get_owned(fcinfo);
	before = workflow->current_version;
	values[0] = Int32GetDatum(workflow->workflow_id);
	values[1] = Int32GetDatum(get_version(fcinfo, 1, workflow));
	(void) execute(&plan,
				   "UPDATE wfproc.workflow SET current_version = $2 WHERE workflow_id = $1 RETURNING current_version",
				   lengthof(types), types, values, NULL, SPI_OK_UPDATE_RETURNING, &ignored);
	wf_workflow_changed();
	PG_RETURN_INT32(before);
}

static void
append_code(StringInfo buf, const char *what, const char *signature, const char *code)
{
	appendStringInfo(buf, "%s-- %s %s\n(%s", buf->len > 0 ? "\n" : "", what, signature, code);
}

/*
 * show_code(workflow, version) -> text
 */
Datum
wfproc_show_code(PG_FUNCTION_ARGS)
{
	char	   *name = wf_check_name(fcinfo, 0, "workflow");
	WfWorkflow *workflow;
	WfPublished published;
	StringInfoData buf;
	ListCell   *lc;

	wf_workflow_refresh();
	workflow = wf_workflow_by_name(name, false);
	wf_acl_require(workflow, GetUserId(), WF_PRIV_READ);
	if (!wf_definition_read_version(workflow->workflow_id, get_version(fcinfo, 1, workflow), &published))
		elog(ERROR, "version %d is not there", PG_GETARG_INT32(1));
	initStringInfo(&buf);
	append_code(&buf, "handler", published.handler, published.code);
	if (published.migrate != NULL)
		append_code(&buf, "migrate", published.migrate, published.migrate_code);
	foreach(lc, published.helpers)
	{
		const WfHelper *helper = lfirst(lc);

		append_code(&buf, "helper", psprintf("%s(%s)", helper->name, helper->arguments), helper->code);
	}
	PG_RETURN_TEXT_P(cstring_to_text_with_len(buf.data, buf.len));
}
