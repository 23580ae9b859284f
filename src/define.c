/*
 * define.c: publishing workflows: wfproc.define() and wfproc.adopt().
 *
 * Both are SQL entry points.  They hold ShareRowExclusiveLock on wfproc.workflow to the end of the transaction: two who
 * publish at once take turns, readers go on.  Everything is part of the caller's transaction: the rows, and the private
 * copies of the functions (code.c).  The user's names are looked up as the user; the tables are written as the extension's
 * owner.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "acl.h"
#include "catalog.h"
#include "check.h"
#include "clock.h"
#include "callees.h"
#include "code.h"
#include "definition.h"
#include "helper.h"
#include "settings.h"
#include "spi.h"
#include "wakeup.h"
#include "workflow.h"

PG_FUNCTION_INFO_V1(wfproc_define);
PG_FUNCTION_INFO_V1(wfproc_adopt);

/* arguments of define() */
enum
{
	ARG_WORKFLOW,
	ARG_HANDLER,
	ARG_MIGRATE,
	ARG_SETTINGS,
	ARG_HELPERS = ARG_SETTINGS + WF_SETTINGS,
	ARG_MIGRATES_FROM
};

/* what is to be published */
typedef struct WfDefinition
{
	char	   *name;
	WfCode	   *handler;
	WfCode	   *migrate;		/* or NULL */
	int			migrates_from;	/* 0: not given */
	List	   *helpers;		/* of WfCode *, sorted */
	char	   *search_path;
	Datum		settings[WF_SETTINGS];
	char		nulls[WF_SETTINGS]; /* as SPI takes them */
} WfDefinition;

/*
 * Whether a definition can be made here and now at all.
 */
static void
check_place(void)
{
	wf_check_not_in_handler("define");
	wf_check_can_write("define workflows");
	if (GetDatabaseEncoding() != PG_UTF8)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("wfproc requires a UTF8 database (this one is %s)", GetDatabaseEncodingName()),
				 errhint("CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0 makes one.")));
	/* the copies would become members of that extension */
	if (creating_extension)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("define() cannot be called by the script of an extension"),
				 errhint("Call it after CREATE EXTENSION.")));
}

/*
 * The argument migrates_from, checked as far as it can be before the version has a number; 0: not given.
 */
static int
read_migrates_from(FunctionCallInfo fcinfo, const WfCode *migrate)
{
	if (PG_ARGISNULL(ARG_MIGRATES_FROM))
		return 0;
	if (migrate == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"migrates_from\" needs a migrate function"),
				 errhint("It says from which version on that function takes states.")));
	if (PG_GETARG_INT32(ARG_MIGRATES_FROM) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"migrates_from\" must be positive, got %d", PG_GETARG_INT32(ARG_MIGRATES_FROM)),
				 errhint("It is the number of a version.")));
	return PG_GETARG_INT32(ARG_MIGRATES_FROM);
}

/*
 * Takes define()'s arguments, checked, its functions looked up.
 */
static void
read_definition(FunctionCallInfo fcinfo, WfDefinition *definition)
{
	char	   *handler;
	char	   *migrate = NULL;

	definition->name = wf_check_name(fcinfo, ARG_WORKFLOW, "workflow");
	wf_check_not_null(fcinfo, ARG_HANDLER, "handler");
	handler = text_to_cstring(PG_GETARG_TEXT_PP(ARG_HANDLER));
	if (!PG_ARGISNULL(ARG_MIGRATE))
		migrate = text_to_cstring(PG_GETARG_TEXT_PP(ARG_MIGRATE));
	wf_settings_check(fcinfo, ARG_SETTINGS);
	definition->handler = wf_code_resolve(handler, WF_CODE_HANDLER);
	definition->migrate = wf_code_resolve(migrate, WF_CODE_MIGRATE);
	definition->helpers = wf_helper_resolve(fcinfo, ARG_HELPERS, definition->handler, definition->migrate);
	definition->migrates_from = read_migrates_from(fcinfo, definition->migrate);
	definition->search_path = wf_code_search_path();
	for (int i = 0; i < WF_SETTINGS; i++)
	{
		definition->settings[i] = PG_GETARG_DATUM(ARG_SETTINGS + i);
		definition->nulls[i] = PG_ARGISNULL(ARG_SETTINGS + i) ? 'n' : ' ';
	}
}

/* parameters of a statement being filled */
typedef struct WfParams
{
	int			count;
	Oid			types[16];
	Datum		values[16];
	char		nulls[16];
} WfParams;

static void
add_param(WfParams *params, Oid type, Datum value, bool isnull)
{
	Assert(params->count < lengthof(params->types));
	params->types[params->count] = type;
	params->values[params->count] = value;
	params->nulls[params->count] = isnull ? 'n' : ' ';
	params->count++;
}

static void
add_text(WfParams *params, const char *value)
{
	add_param(params, TEXTOID, value != NULL ? CStringGetTextDatum(value) : (Datum) 0, value == NULL);
}

static void
add_sha256(WfParams *params, const WfCode *code)
{
	bytea	   *value = palloc(VARHDRSZ + WF_SHA256_LEN);

	SET_VARSIZE(value, VARHDRSZ + WF_SHA256_LEN);
	if (code != NULL)
		memcpy(VARDATA(value), code->sha256, WF_SHA256_LEN);
	add_param(params, BYTEAOID, PointerGetDatum(value), code == NULL);
}

static void
add_migrates_from(WfParams *params, const WfDefinition *definition)
{
	add_param(params, INT4OID, Int32GetDatum(definition->migrates_from), definition->migrates_from == 0);
}

static void
add_settings(WfParams *params, const WfDefinition *definition)
{
	for (int i = 0; i < WF_SETTINGS; i++)
		add_param(params, wf_setting_types[i], definition->settings[i], definition->nulls[i] == 'n');
}

/*
 * Executes a statement as the extension's owner and returns the number of rows; *result is the first column of the first.
 */
static int
execute(SPIPlanPtr *plan, const char *sql, WfParams *params, int expected, int *result)
{
	WfSpi		spi;
	int			rows;

	wf_spi_begin(&spi);
	rows = wf_spi_execute(plan, sql, params->count, params->types, params->values, params->nulls, false, expected);
	if (result != NULL && rows > 0)
	{
		bool		isnull;

		*result = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	}
	wf_spi_end(&spi);
	return rows;
}

/*
 * Writes a workflow's row, current version 1, and returns its number.
 */
static int
insert_workflow(const WfDefinition *definition)
{
	static SPIPlanPtr plan = NULL;
	WfParams	params = {0};
	int			workflow_id;

	add_text(&params, definition->name);
	add_text(&params, GetUserNameFromId(GetUserId(), false));
	add_settings(&params, definition);
	if (execute(&plan,
				"INSERT INTO wfproc.workflow (workflow_id, name, owner, current_version, home, accepts, max_attempts,"
				" on_failure, retry_delay, handler_timeout, snapshot_every, watch, dead_letter_events, cancel_deadline)"
				" SELECT nextval('wfproc.workflow_seq'), $1, $2, 1, h.token, $3, COALESCE($4, 5), COALESCE($5, 'pause'),"
				" COALESCE($6, '1 s'), COALESCE($7, '10 s'), COALESCE($8, 100), COALESCE($9, false),"
				" COALESCE($10, false), $11 FROM wfproc.home h"
				" RETURNING workflow_id",
				&params, SPI_OK_INSERT_RETURNING, &workflow_id) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table wfproc.home is empty"),
				 errhint("wfproc.adopt() makes this database a home again.")));
	return workflow_id;
}

/*
 * Updates the settings that were given, and the current version.
 */
static void
update_workflow(int workflow_id, int version, const WfDefinition *definition)
{
	static SPIPlanPtr plan = NULL;
	WfParams	params = {0};

	add_param(&params, INT4OID, Int32GetDatum(workflow_id), false);
	add_param(&params, INT4OID, Int32GetDatum(version), false);
	add_settings(&params, definition);
	if (execute(&plan,
				"UPDATE wfproc.workflow SET current_version = $2, accepts = COALESCE($3, accepts),"
				" max_attempts = COALESCE($4, max_attempts), on_failure = COALESCE($5, on_failure),"
				" retry_delay = COALESCE($6, retry_delay), handler_timeout = COALESCE($7, handler_timeout),"
				" snapshot_every = COALESCE($8, snapshot_every), watch = COALESCE($9, watch),"
				" dead_letter_events = COALESCE($10, dead_letter_events),"
				" cancel_deadline = COALESCE($11, cancel_deadline) WHERE workflow_id = $1",
				&params, SPI_OK_UPDATE, NULL) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("workflow \"%s\" was published after this transaction took its snapshot", definition->name),
				 errhint("Try again, or publish in a READ COMMITTED transaction.")));
}

/*
 * Sees to all private copies of a version, each by the given function.  Where there are helpers, the code calls copies by
 * their names, as the owner.
 */
static void
place_copies(const WfDefinition *definition, Oid owner, int workflow_id, int version,
			 void (*place) (const WfCode *code, Oid owner, int workflow_id, int version))
{
	ListCell   *lc;

	place(definition->handler, owner, workflow_id, version);
	place(definition->migrate, owner, workflow_id, version);
	foreach(lc, definition->helpers)
		place(lfirst(lc), owner, workflow_id, version);
	if (definition->helpers == NIL)
		return;
	wf_code_open(definition->handler, owner, workflow_id, version);
	wf_code_open(definition->migrate, owner, workflow_id, version);
	foreach(lc, definition->helpers)
		wf_code_open(lfirst(lc), owner, workflow_id, version);
}

/*
 * Writes a version's rows and makes its private copies, for a workflow of that owner.
 */
static void
publish_version(int workflow_id, Oid owner, int version, const WfDefinition *definition)
{
	static SPIPlanPtr plan = NULL;
	const WfCode *migrate = definition->migrate;
	WfParams	params = {0};

	if (definition->migrates_from >= version)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"migrates_from\" must be below %d, the number of the version, got %d", version,
						definition->migrates_from),
				 errhint("A migrate function takes states of earlier versions.")));
	add_param(&params, INT4OID, Int32GetDatum(workflow_id), false);
	add_param(&params, INT4OID, Int32GetDatum(version), false);
	add_text(&params, definition->handler->qualified);
	add_text(&params, definition->handler->text);
	add_sha256(&params, definition->handler);
	add_text(&params, migrate != NULL ? migrate->qualified : NULL);
	add_text(&params, migrate != NULL ? migrate->text : NULL);
	add_sha256(&params, migrate);
	add_migrates_from(&params, definition);
	add_text(&params, definition->search_path);
	add_param(&params, TIMESTAMPTZOID, TimestampTzGetDatum(wf_clock_now()), false);
	(void) execute(&plan,
				   "INSERT INTO wfproc.version (workflow_id, version, handler, code, code_sha256, migrate, migrate_code,"
				   " migrate_sha256, migrates_from, search_path, defined_at)"
				   " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
				   &params, SPI_OK_INSERT, NULL);
	wf_helper_write(definition->helpers, workflow_id, version);
	place_copies(definition, owner, workflow_id, version, wf_code_copy);
}

/*
 * Whether a published function is this one; or there is neither.
 */
static bool
is_same_function(WfCode *code, const char *qualified, const char *published, const uint8 *sha256, Oid owner)
{
	if (code == NULL || qualified == NULL)
		return code == NULL && qualified == NULL;
	return published != NULL && strcmp(code->qualified, qualified) == 0 &&
		wf_code_take_published(code, published, sha256, owner);
}

/*
 * Whether the current version was published with this very code.
 */
static bool
is_same_code(const WfWorkflow *workflow, const WfDefinition *definition)
{
	Oid			owner = workflow->owner;
	WfPublished published;

	return wf_definition_read_version(workflow->workflow_id, workflow->current_version, &published) &&
		strcmp(definition->search_path, published.search_path) == 0 &&
		is_same_function(definition->handler, published.handler, published.code, published.sha256, owner) &&
		is_same_function(definition->migrate, published.migrate, published.migrate_code, published.migrate_sha256, owner) &&
		definition->migrates_from == published.migrates_from &&
		wf_helper_same(definition->helpers, published.helpers, owner);
}

/*
 * A workflow's greatest version number.
 */
static int
last_version(int workflow_id)
{
	static SPIPlanPtr plan = NULL;
	WfParams	params = {0};
	int			version = 0;

	add_param(&params, INT4OID, Int32GetDatum(workflow_id), false);
	(void) execute(&plan, "SELECT COALESCE(max(version), 0) FROM wfproc.version WHERE workflow_id = $1",
				   &params, SPI_OK_SELECT, &version);
	return version;
}

static void
require_existing_owner(const WfWorkflow *workflow)
{
	if (!OidIsValid(workflow->owner))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role \"%s\", the owner of workflow \"%s\", does not exist", workflow->owner_name, workflow->name),
				 errhint("Its steps run as that role: create it first.")));
}

/*
 * define() of a workflow that is there: the same version where the code is the same, else the next.  The row is updated
 * first, so that a transaction whose snapshot is too old fails there.
 */
static int
redefine(const WfWorkflow *workflow, const WfDefinition *definition)
{
	int			workflow_id = workflow->workflow_id;
	Oid			owner = workflow->owner;
	int			version = workflow->current_version;
	bool		same;

	require_existing_owner(workflow);
	same = is_same_code(workflow, definition);
	if (!same)
		version = last_version(workflow_id) + 1;
	if (!same || memchr(definition->nulls, ' ', WF_SETTINGS) != NULL)
		update_workflow(workflow_id, version, definition);
	if (same)
		place_copies(definition, owner, workflow_id, version, wf_code_repair);
	else
		publish_version(workflow_id, owner, version, definition);
	return version;
}

/*
 * Says so where the workflow will not act.
 */
static void
warn_not_at_home(const char *name)
{
	wf_workflow_refresh();
	if (!wf_workflow_by_name(name, false)->at_home)
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg("workflow \"%s\" does not act in this database", name),
				 errdetail("This database is a copy of the one where wfproc was installed, or the workflow came with a dump."),
				 errhint("Call wfproc.adopt() if this is to be the home of its workflows.")));
}

/*
 * Says what the version calls and has no copy of.
 */
static void
point_out_callees(const WfDefinition *definition, int version)
{
	WfWorkflow *workflow = wf_workflow_by_name(definition->name, false);
	List	   *codes = list_make1(definition->handler);

	if (definition->migrate != NULL)
		codes = lappend(codes, definition->migrate);
	codes = list_concat(codes, definition->helpers);
	wf_callees_point_out(workflow, version, codes, definition->helpers == NIL ? definition->search_path :
						 wf_code_path_to_copies(definition->search_path, workflow->workflow_id, version));
}

/*
 * define(workflow, handler, migrate, accepts, ...settings, helpers, migrates_from): publishes a version and returns its number.
 */
Datum
wfproc_define(PG_FUNCTION_ARGS)
{
	WfDefinition definition;
	WfWorkflow *workflow;
	int			version = 1;

	check_place();
	read_definition(fcinfo, &definition);
	LockRelationOid(wf_catalog_oid(WF_WORKFLOW), ShareRowExclusiveLock);
	wf_workflow_refresh();
	workflow = wf_workflow_by_name(definition.name, true);
	if (workflow == NULL)
		publish_version(insert_workflow(&definition), GetUserId(), version, &definition);
	else
	{
		wf_acl_require_owner(workflow);
		version = redefine(workflow, &definition);
	}
	wf_workflow_changed();
	warn_not_at_home(definition.name);
	point_out_callees(&definition, version);
	PG_RETURN_INT32(version);
}

/*
 * Makes this database the one that the home row names.  True where it was not.
 */
static bool
move_home(void)
{
	static SPIPlanPtr plan = NULL;
	WfParams	params = {0};

	add_param(&params, OIDOID, ObjectIdGetDatum(MyDatabaseId), false);
	return execute(&plan,
				   "INSERT INTO wfproc.home AS h (token, database) VALUES (gen_random_uuid(), $1)"
				   " ON CONFLICT (one) DO UPDATE SET database = excluded.database WHERE h.database <> excluded.database",
				   &params, SPI_OK_INSERT, NULL) > 0;
}

/*
 * How many workflows have another home than this, or all.
 */
static int
count_workflows(bool all)
{
	static SPIPlanPtr plan = NULL;
	WfParams	params = {0};
	int			count = 0;

	add_param(&params, BOOLOID, BoolGetDatum(all), false);
	(void) execute(&plan,
				   "SELECT count(*)::int FROM wfproc.workflow w, wfproc.home h WHERE $1 OR w.home <> h.token",
				   &params, SPI_OK_SELECT, &count);
	return count;
}

static void
move_workflows(void)
{
	static SPIPlanPtr plan = NULL;
	WfParams	params = {0};

	(void) execute(&plan,
				   "UPDATE wfproc.workflow w SET home = h.token FROM wfproc.home h WHERE w.home <> h.token",
				   &params, SPI_OK_UPDATE, NULL);
}

/*
 * Makes the schemas of code go with the extension of this database.
 */
static void
move_code(void)
{
	static SPIPlanPtr plan = NULL;
	SPITupleTable *versions;
	WfSpi		spi;
	int			count;

	wf_spi_begin(&spi);
	count = wf_spi_execute(&plan, "SELECT workflow_id, version FROM wfproc.version", 0, NULL, NULL, NULL, false,
						   SPI_OK_SELECT);
	versions = SPI_tuptable;
	for (int i = 0; i < count; i++)
	{
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		wf_code_adopt(DatumGetInt32(SPI_getbinval(versions->vals[i], versions->tupdesc, 1, &isnull)),
					  DatumGetInt32(SPI_getbinval(versions->vals[i], versions->tupdesc, 2, &isnull)));
	}
	wf_spi_end(&spi);
}

/*
 * adopt(): makes this database the home of all workflows in it, and returns how many were not at home.
 */
Datum
wfproc_adopt(PG_FUNCTION_ARGS)
{
	int			count;

	wf_check_not_in_handler("adopt");
	wf_check_can_write("adopt workflows");
	if (!has_privs_of_role(GetUserId(), wf_catalog_owner()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to adopt workflows"),
				 errhint("Only the owner of extension \"wfproc\", role \"%s\", can do that.",
						 GetUserNameFromId(wf_catalog_owner(), false))));
	LockRelationOid(wf_catalog_oid(WF_WORKFLOW), ShareRowExclusiveLock);
	count = count_workflows(move_home());
	move_workflows();
	move_code();
	wf_workflow_changed();
	/* their mail has been waiting, and nobody was woken for it */
	wf_wakeup_note_shards(~UINT64CONST(0));
	PG_RETURN_INT32(count);
}
