/*
 * definition.c: reads rows of wfproc.workflow, with what belongs to them in wfproc.home and wfproc.acl, and of
 * wfproc.version, with those of wfproc.version_helper.
 *
 * Called by workflow.c, which keeps what is read here.  Each read has a snapshot of its own, taken now, so that a definition
 * made by an earlier command of this very transaction is found.  The locks are AccessShareLock, and end with the
 * transaction.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "acl.h"
#include "clock.h"
#include "definition.h"
#include "rows.h"

/* columns, in the order of sql/wfproc--1.0.sql */
enum
{
	HOME_TOKEN = 2,
	HOME_DATABASE,
	HOME_COLUMNS = HOME_DATABASE
};

enum
{
	WORKFLOW_ID = 1,
	WORKFLOW_NAME,
	WORKFLOW_OWNER,
	WORKFLOW_CURRENT_VERSION,
	WORKFLOW_HOME,
	WORKFLOW_ACCEPTS,
	WORKFLOW_MAX_ATTEMPTS,
	WORKFLOW_ON_FAILURE,
	WORKFLOW_RETRY_DELAY,
	WORKFLOW_HANDLER_TIMEOUT,
	WORKFLOW_SNAPSHOT_EVERY,
	WORKFLOW_WATCH,
	WORKFLOW_DEAD_LETTER_EVENTS,
	WORKFLOW_CANCEL_DEADLINE,
	WORKFLOW_COLUMNS = WORKFLOW_CANCEL_DEADLINE
};

enum
{
	VERSION_WORKFLOW_ID = 1,
	VERSION_VERSION,
	VERSION_HANDLER,
	VERSION_CODE,
	VERSION_CODE_SHA256,
	VERSION_MIGRATE,
	VERSION_MIGRATE_CODE,
	VERSION_MIGRATE_SHA256,
	VERSION_MIGRATES_FROM,
	VERSION_SEARCH_PATH,
	VERSION_DEFINED_AT,
	VERSION_COLUMNS = VERSION_DEFINED_AT
};

enum
{
	HELPER_WORKFLOW_ID = 1,
	HELPER_VERSION,
	HELPER_NAME,
	HELPER_ARGUMENTS,
	HELPER_CODE,
	HELPER_CODE_SHA256,
	HELPER_COLUMNS = HELPER_CODE_SHA256
};

enum
{
	ROLLOUT_ID = 1,
	ROLLOUT_WORKFLOW_ID,
	ROLLOUT_VERSION,
	ROLLOUT_FROM_VERSION,
	ROLLOUT_AT,
	ROLLOUT_ATTRIBUTES,
	ROLLOUT_MAX_FAILURES,
	ROLLOUT_FAILURES,
	ROLLOUT_CREATED_BY,
	ROLLOUT_CREATED_AT,
	ROLLOUT_CANCELLED_AT,
	ROLLOUT_STOPPED_AT,
	ROLLOUT_COLUMNS = ROLLOUT_STOPPED_AT
};

enum
{
	ACL_WORKFLOW_ID = 1,
	ACL_ROLE,
	ACL_PRIVILEGE,
	ACL_COLUMNS = ACL_PRIVILEGE
};

#define MAX_COLUMNS 16

/* a scan of one of our tables, and its present row */
typedef struct WfScan
{
	Relation	rel;
	Snapshot	snapshot;
	SysScanDesc scan;
	Datum		values[MAX_COLUMNS];
	bool		nulls[MAX_COLUMNS];
} WfScan;

/*
 * Begins a scan by an index of the table, or through all of it should somebody have dropped that.
 */
static void
begin_scan(WfScan *scan, WfRelation which, int columns, const char *index, int nkeys, ScanKey keys)
{
	Oid			index_oid;

	Assert(columns <= MAX_COLUMNS);
	scan->rel = wf_rows_open(which, AccessShareLock, columns);
	scan->snapshot = RegisterSnapshot(GetLatestSnapshot());
	index_oid = get_relname_relid(index, RelationGetNamespace(scan->rel));
	scan->scan = systable_beginscan(scan->rel, index_oid, OidIsValid(index_oid), scan->snapshot, nkeys, keys);
}

static bool
next_row(WfScan *scan)
{
	HeapTuple	tuple = systable_getnext(scan->scan);

	if (HeapTupleIsValid(tuple))
		heap_deform_tuple(tuple, RelationGetDescr(scan->rel), scan->values, scan->nulls);
	return HeapTupleIsValid(tuple);
}

static void
end_scan(WfScan *scan)
{
	systable_endscan(scan->scan);
	UnregisterSnapshot(scan->snapshot);
	table_close(scan->rel, AccessShareLock);
}

/*
 * A column that is declared NOT NULL.
 */
static Datum
column(const WfScan *scan, int number)
{
	Assert(!scan->nulls[number - 1]);
	return scan->values[number - 1];
}

static char *
text_column(const WfScan *scan, int number)
{
	return TextDatumGetCString(column(scan, number));
}

/*
 * Whether what has this token is at home in this database.
 */
static bool
is_home(Datum token)
{
	WfScan		scan;
	bool		result = false;

	begin_scan(&scan, WF_HOME, HOME_COLUMNS, "home_pkey", 0, NULL);
	if (next_row(&scan))
		result = DatumGetObjectId(column(&scan, HOME_DATABASE)) == MyDatabaseId &&
			DatumGetBool(DirectFunctionCall2(uuid_eq, token, column(&scan, HOME_TOKEN)));
	end_scan(&scan);
	return result;
}

/*
 * The grants on a workflow, in the current memory context.  A role that is gone has none.
 */
static List *
load_grants(int workflow_id)
{
	List	   *grants = NIL;
	WfScan		scan;
	ScanKeyData key;

	ScanKeyInit(&key, ACL_WORKFLOW_ID, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(workflow_id));
	begin_scan(&scan, WF_ACL, ACL_COLUMNS, "acl_pkey", 1, &key);
	while (next_row(&scan))
	{
		Oid			role = get_role_oid(text_column(&scan, ACL_ROLE), true);
		WfGrant    *grant;

		if (!OidIsValid(role))
			continue;
		grant = palloc(sizeof(WfGrant));
		grant->role = role;
		grant->privilege = wf_acl_parse(text_column(&scan, ACL_PRIVILEGE));
		grants = lappend(grants, grant);
	}
	end_scan(&scan);
	return grants;
}

static int
compare_rollouts(const ListCell *a, const ListCell *b)
{
	const WfRollout *x = lfirst(a);
	const WfRollout *y = lfirst(b);

	if (x->at != y->at)
		return x->at < y->at ? -1 : 1;
	return x->rollout_id < y->rollout_id ? -1 : x->rollout_id > y->rollout_id;
}

static WfRollout *
read_rollout(const WfScan *scan)
{
	WfRollout  *rollout = palloc0(sizeof(WfRollout));

	rollout->rollout_id = DatumGetInt32(column(scan, ROLLOUT_ID));
	rollout->version = DatumGetInt32(column(scan, ROLLOUT_VERSION));
	if (!scan->nulls[ROLLOUT_FROM_VERSION - 1])
		rollout->from_version = DatumGetInt32(column(scan, ROLLOUT_FROM_VERSION));
	rollout->at = DatumGetTimestampTz(column(scan, ROLLOUT_AT));
	rollout->attributes = DatumGetJsonbPCopy(column(scan, ROLLOUT_ATTRIBUTES));
	rollout->by = text_column(scan, ROLLOUT_CREATED_BY);
	rollout->may_fail = DatumGetInt32(column(scan, ROLLOUT_MAX_FAILURES)) - DatumGetInt32(column(scan, ROLLOUT_FAILURES));
	return rollout;
}

/*
 * The roll-outs of a workflow that are in force, by stamp.  There are few of them altogether.
 */
static List *
load_rollouts(int workflow_id)
{
	List	   *rollouts = NIL;
	WfScan		scan;

	begin_scan(&scan, WF_ROLLOUT, ROLLOUT_COLUMNS, "rollout_pkey", 0, NULL);
	while (next_row(&scan))
		if (DatumGetInt32(column(&scan, ROLLOUT_WORKFLOW_ID)) == workflow_id &&
			scan.nulls[ROLLOUT_CANCELLED_AT - 1] && scan.nulls[ROLLOUT_STOPPED_AT - 1])
			rollouts = lappend(rollouts, read_rollout(&scan));
	end_scan(&scan);
	list_sort(rollouts, compare_rollouts);
	return rollouts;
}

/*
 * The events that a workflow accepts from outside; NULL says all.
 */
static void
read_accepts(const WfScan *scan, WfWorkflow *workflow)
{
	Datum	   *elements;
	int			count;

	workflow->accepts_all = scan->nulls[WORKFLOW_ACCEPTS - 1];
	if (workflow->accepts_all)
		return;
	deconstruct_array(DatumGetArrayTypeP(column(scan, WORKFLOW_ACCEPTS)), TEXTOID, -1, false, TYPALIGN_INT,
					  &elements, NULL, &count);
	for (int i = 0; i < count; i++)
		workflow->accepts = lappend(workflow->accepts, TextDatumGetCString(elements[i]));
}

/*
 * The settings of a row of wfproc.workflow.
 */
static void
read_settings(const WfScan *scan, WfWorkflow *workflow)
{
	char	   *on_failure = text_column(scan, WORKFLOW_ON_FAILURE);
	int64		timeout_us = wf_clock_interval_us(DatumGetIntervalP(column(scan, WORKFLOW_HANDLER_TIMEOUT)));

	if (!wf_workflow_parse_on_failure(on_failure, &workflow->on_failure))
		elog(ERROR, "unknown value of on_failure: \"%s\"", on_failure);
	workflow->max_attempts = DatumGetInt32(column(scan, WORKFLOW_MAX_ATTEMPTS));
	workflow->retry_delay_us = wf_clock_interval_us(DatumGetIntervalP(column(scan, WORKFLOW_RETRY_DELAY)));
	workflow->handler_timeout_ms = (int) Max(timeout_us / 1000, 1);
	workflow->snapshot_every = DatumGetInt32(column(scan, WORKFLOW_SNAPSHOT_EVERY));
	workflow->watch = DatumGetBool(column(scan, WORKFLOW_WATCH));
	workflow->dead_letter_events = DatumGetBool(column(scan, WORKFLOW_DEAD_LETTER_EVENTS));
	workflow->cancel_deadline_us = scan->nulls[WORKFLOW_CANCEL_DEADLINE - 1] ? -1 :
		wf_clock_interval_us(DatumGetIntervalP(column(scan, WORKFLOW_CANCEL_DEADLINE)));
	read_accepts(scan, workflow);
}

/*
 * Makes a workflow from its row, in the current memory context.
 */
static WfWorkflow *
read_workflow(const WfScan *scan)
{
	WfWorkflow *workflow = palloc0(sizeof(WfWorkflow));

	workflow->workflow_id = DatumGetInt32(column(scan, WORKFLOW_ID));
	workflow->name = text_column(scan, WORKFLOW_NAME);
	workflow->owner_name = text_column(scan, WORKFLOW_OWNER);
	workflow->owner = get_role_oid(workflow->owner_name, true);
	workflow->current_version = DatumGetInt32(column(scan, WORKFLOW_CURRENT_VERSION));
	workflow->at_home = is_home(column(scan, WORKFLOW_HOME));
	workflow->grants = load_grants(workflow->workflow_id);
	workflow->rollouts = load_rollouts(workflow->workflow_id);
	read_settings(scan, workflow);
	return workflow;
}

/*
 * The one workflow that the key finds by the index, or NULL.
 */
static WfWorkflow *
read_by_key(const char *index, ScanKey key)
{
	WfWorkflow *workflow = NULL;
	WfScan		scan;

	begin_scan(&scan, WF_WORKFLOW, WORKFLOW_COLUMNS, index, 1, key);
	if (next_row(&scan))
		workflow = read_workflow(&scan);
	end_scan(&scan);
	return workflow;
}

/*
 * Reads the workflow of that number.  NULL where there is none.
 */
WfWorkflow *
wf_definition_read(int workflow_id)
{
	ScanKeyData key;

	ScanKeyInit(&key, WORKFLOW_ID, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(workflow_id));
	return read_by_key("workflow_pkey", &key);
}

/*
 * Reads the workflow of that name.
 */
WfWorkflow *
wf_definition_read_by_name(const char *name)
{
	ScanKeyData key;

	ScanKeyInit(&key, WORKFLOW_NAME, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(name));
	return read_by_key("workflow_name_key", &key);
}

static WfHelper *
read_helper(const WfScan *scan)
{
	WfHelper   *helper = palloc(sizeof(WfHelper));

	helper->name = text_column(scan, HELPER_NAME);
	helper->arguments = text_column(scan, HELPER_ARGUMENTS);
	helper->code = text_column(scan, HELPER_CODE);
	wf_row_bytes(scan->values, scan->nulls, HELPER_CODE_SHA256, helper->sha256, WF_SHA256_LEN);
	return helper;
}

static int
compare_helpers(const ListCell *a, const ListCell *b)
{
	const WfHelper *x = lfirst(a);
	const WfHelper *y = lfirst(b);
	int			order = strcmp(x->name, y->name);

	return order != 0 ? order : strcmp(x->arguments, y->arguments);
}

/*
 * The helpers of a version, by name and arguments, whether the index is there or not.
 */
static List *
load_helpers(int workflow_id, int version)
{
	List	   *helpers = NIL;
	WfScan		scan;
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], HELPER_WORKFLOW_ID, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(workflow_id));
	ScanKeyInit(&keys[1], HELPER_VERSION, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(version));
	begin_scan(&scan, WF_VERSION_HELPER, HELPER_COLUMNS, "version_helper_pkey", 2, keys);
	while (next_row(&scan))
		helpers = lappend(helpers, read_helper(&scan));
	end_scan(&scan);
	list_sort(helpers, compare_helpers);
	return helpers;
}

/*
 * Reads a version's row, and its helpers'.  False where there is none.
 */
bool
wf_definition_read_version(int workflow_id, int version, WfPublished *published)
{
	WfScan		scan;
	ScanKeyData keys[2];
	bool		found;

	ScanKeyInit(&keys[0], VERSION_WORKFLOW_ID, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(workflow_id));
	ScanKeyInit(&keys[1], VERSION_VERSION, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(version));
	begin_scan(&scan, WF_VERSION, VERSION_COLUMNS, "version_pkey", 2, keys);
	found = next_row(&scan);
	if (found)
	{
		published->handler = wf_row_text(scan.values, scan.nulls, VERSION_HANDLER);
		published->code = wf_row_text(scan.values, scan.nulls, VERSION_CODE);
		published->migrate = wf_row_text(scan.values, scan.nulls, VERSION_MIGRATE);
		published->migrate_code = wf_row_text(scan.values, scan.nulls, VERSION_MIGRATE_CODE);
		wf_row_bytes(scan.values, scan.nulls, VERSION_MIGRATE_SHA256, published->migrate_sha256, WF_SHA256_LEN);
		published->migrates_from = scan.nulls[VERSION_MIGRATES_FROM - 1] ? 0 : DatumGetInt32(column(&scan, VERSION_MIGRATES_FROM));
		published->search_path = wf_row_text(scan.values, scan.nulls, VERSION_SEARCH_PATH);
		wf_row_bytes(scan.values, scan.nulls, VERSION_CODE_SHA256, published->sha256, WF_SHA256_LEN);
		published->helpers = load_helpers(workflow_id, version);
	}
	end_scan(&scan);
	return found;
}
