/*
 * ddl.c: DDL that the launcher and the workers must know of.
 *
 * An object access hook sees the extension and databases come, change and go, also by CASCADE, DROP OWNED and the like, and
 * tells so once the transaction has committed.  A utility hook has workers keep out of a database while a statement runs
 * that must be alone in it: DROP DATABASE, its RENAME and SET TABLESPACE, and CREATE DATABASE with it as template.  The
 * server waits five seconds for others to leave, but asks none but autovacuum to.
 *
 * Our tables take no triggers: rows are written without an executor in between (rows.c), so they would not fire.
 *
 * The hooks are there only where the library is preloaded: then in every session, whichever database it is connected to and
 * whether or not the extension is installed there.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_trigger.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "compat.h"
#include "ddl.h"
#include "registry.h"

/* how long workers have to leave by themselves, and in all */
#define ASK_MS 1000
#define LEAVE_MS 5000
#define LEAVE_STEP_MS 10

static object_access_hook_type next_object_access_hook = NULL;
static ProcessUtility_hook_type next_process_utility_hook = NULL;

/* what this transaction has done; where a subtransaction was rolled back, the launcher looks in vain */
static bool extension_changed = false;
static bool databases_changed = false;

/*
 * Whether an extension is ours.  It may just have been inserted.
 */
static bool
is_our_extension(Oid extension)
{
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		ours;

	ScanKeyInit(&key, Anum_pg_extension_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(extension));
	scan = systable_beginscan(rel, ExtensionOidIndexId, true, SnapshotSelf, 1, &key);
	tuple = systable_getnext(scan);
	ours = HeapTupleIsValid(tuple) &&
		strcmp(NameStr(((Form_pg_extension) GETSTRUCT(tuple))->extname), "wfproc") == 0;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return ours;
}

/*
 * The table of a trigger that has just been made.
 */
static Oid
table_of_trigger(Oid trigger)
{
	Relation	rel = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			table;

	ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(trigger));
	scan = systable_beginscan(rel, TriggerOidIndexId, true, SnapshotSelf, 1, &key);
	tuple = systable_getnext(scan);
	table = HeapTupleIsValid(tuple) ? ((Form_pg_trigger) GETSTRUCT(tuple))->tgrelid : InvalidOid;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return table;
}

/*
 * Whoever makes a trigger on a table of ours would wait in vain, and a tool that copies a table and follows its changes by
 * one would put a table in its place from which events are missing.
 */
static void
refuse_trigger(Oid trigger)
{
	Oid			table = table_of_trigger(trigger);
	Oid			extension = getExtensionOfObject(RelationRelationId, table);

	if (creating_extension || !OidIsValid(extension) || !is_our_extension(extension))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("table wfproc.%s can have no triggers", get_rel_name(table)),
			 errdetail("Its rows are written without an executor, and triggers would not fire."),
			 errhint("pg_repack and the like need them and cannot be used for it; VACUUM FULL and CLUSTER can. README says how to be told of what happens to instances.")));
}

static void
on_object_access(ObjectAccessType access, Oid class_id, Oid object_id, int sub_id, void *arg)
{
	if (next_object_access_hook)
		next_object_access_hook(access, class_id, object_id, sub_id, arg);
	if (access != OAT_POST_CREATE && access != OAT_POST_ALTER && access != OAT_DROP)
		return;
	if (class_id == DatabaseRelationId)
		databases_changed = true;
	else if (class_id == TriggerRelationId && access == OAT_POST_CREATE && !((ObjectAccessPostCreate *) arg)->is_internal)
		refuse_trigger(object_id);
	else if (class_id == ExtensionRelationId && is_our_extension(object_id))
		extension_changed = true;
}

/*
 * Tells after the commit.  A prepared transaction could not, so it is refused.
 */
static void
at_transaction_event(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_PREPARE:
			if (extension_changed)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("cannot PREPARE a transaction that has created, altered or dropped extension \"wfproc\"")));
			break;
		case XACT_EVENT_COMMIT:
			if (extension_changed)
				wf_registry_note_database(MyDatabaseId);
			if (databases_changed)
				wf_registry_note_databases();
			/* FALLTHROUGH */
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			extension_changed = databases_changed = false;
			break;
		default:
			break;
	}
}

static bool
may_create_databases(void)
{
	HeapTuple	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	bool		may = superuser();

	if (!HeapTupleIsValid(tuple))
		return may;
	may = may || ((Form_pg_authid) GETSTRUCT(tuple))->rolcreatedb;
	ReleaseSysCache(tuple);
	return may;
}

static bool
is_template(Oid database)
{
	HeapTuple	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	bool		result;

	if (!HeapTupleIsValid(tuple))
		return false;
	result = ((Form_pg_database) GETSTRUCT(tuple))->datistemplate;
	ReleaseSysCache(tuple);
	return result;
}

/*
 * A database by its name, if the current user owns it: who may not run the statement is not to stop workers by it.
 */
static Oid
owned_database(const char *name)
{
	Oid			database = name != NULL ? get_database_oid(name, true) : InvalidOid;

	return OidIsValid(database) && WF_OWNS_DATABASE(database, GetUserId()) ? database : InvalidOid;
}

static char *
option_value(List *options, const char *name)
{
	ListCell   *lc;

	foreach(lc, options)
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, name) == 0)
			return option->arg != NULL ? defGetString(option) : NULL;
	}
	return NULL;
}

/*
 * The database that CREATE DATABASE copies.
 */
static Oid
template_database(const CreatedbStmt *stmt)
{
	const char *name = option_value(stmt->options, "template");
	Oid			database = get_database_oid(name != NULL ? name : "template1", true);

	if (!OidIsValid(database) || !may_create_databases())
		return InvalidOid;
	return is_template(database) || WF_OWNS_DATABASE(database, GetUserId()) ? database : InvalidOid;
}

/*
 * The database in which a statement must be alone; InvalidOid where there is none, or the statement fails anyway.
 */
static pg_noinline Oid
database_to_clear(Node *stmt)
{
	if (IsTransactionBlock() || RecoveryInProgress())
		return InvalidOid;
	switch (nodeTag(stmt))
	{
		case T_DropdbStmt:
			return owned_database(((DropdbStmt *) stmt)->dbname);
		case T_RenameStmt:
			if (((RenameStmt *) stmt)->renameType != OBJECT_DATABASE)
				return InvalidOid;
			return owned_database(((RenameStmt *) stmt)->subname);
		case T_AlterDatabaseStmt:
			if (option_value(((AlterDatabaseStmt *) stmt)->options, "tablespace") == NULL)
				return InvalidOid;
			return owned_database(((AlterDatabaseStmt *) stmt)->dbname);
		case T_CreatedbStmt:
			return template_database((CreatedbStmt *) stmt);
		default:
			return InvalidOid;
	}
}

/*
 * Waits until our workers have left a database: asks them, later sends them SIGTERM, in the end gives up; then the statement
 * says what is in its way.
 */
static void
clear_database(Oid database)
{
	static uint32 wait_event = 0;

	if (wait_event == 0)
		wait_event = WF_WAIT_EVENT("WfprocWorkersLeave");
	for (int waited = 0; waited < LEAVE_MS; waited += LEAVE_STEP_MS)
	{
		if (wf_registry_stop(database, waited >= ASK_MS && waited % ASK_MS == 0) == 0)
			return;
		CHECK_FOR_INTERRUPTS();
		(void) WaitLatch(MyLatch, WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, LEAVE_STEP_MS, wait_event);
	}
}

static void
unblock(int code, Datum database)
{
	wf_registry_unblock(DatumGetObjectId(database));
}

static void
process_next(PlannedStmt *pstmt, const char *query_string, bool read_only_tree, ProcessUtilityContext context,
			 ParamListInfo params, QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	if (next_process_utility_hook)
		next_process_utility_hook(pstmt, query_string, read_only_tree, context, params, env, dest, qc);
	else
		standard_ProcessUtility(pstmt, query_string, read_only_tree, context, params, env, dest, qc);
}

static void
process_utility(PlannedStmt *pstmt, const char *query_string, bool read_only_tree, ProcessUtilityContext context,
				ParamListInfo params, QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	const Oid	database = database_to_clear(pstmt->utilityStmt);

	if (!OidIsValid(database) || !wf_registry_block(database))
	{
		process_next(pstmt, query_string, read_only_tree, context, params, env, dest, qc);
		return;
	}
	/* the block is taken back also where the session ends in between */
	PG_ENSURE_ERROR_CLEANUP(unblock, ObjectIdGetDatum(database));
	{
		clear_database(database);
		process_next(pstmt, query_string, read_only_tree, context, params, env, dest, qc);
	}
	PG_END_ENSURE_ERROR_CLEANUP(unblock, ObjectIdGetDatum(database));
	unblock(0, ObjectIdGetDatum(database));
}

/*
 * Installs the hooks; only where the library is preloaded, for elsewhere there are no workers.
 */
void
wf_ddl_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	next_object_access_hook = object_access_hook;
	object_access_hook = on_object_access;
	next_process_utility_hook = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
	RegisterXactCallback(at_transaction_event, NULL);
}
