/*
 * refuse.c: what a handler may not call.
 *
 * A handler computes, in a subtransaction that is rolled back, so most of what it does besides is undone.  Refused is what a
 * rollback does not undo, or what reaches another session, as far as any role may call it: locks and settings of the session,
 * signals, records in the log that a standby or a subscriber reads, cursors of whoever calls run().  What writes is refused by the
 * read-only subtransaction, and by SECURITY_RESTRICTED_OPERATION what prepares statements, listens or makes temporary objects.
 *
 * The server calls the object access hook for each function of an expression, an aggregate or a CALL when it makes it ready, also
 * when the planner computes it beforehand.
 */
#include "postgres.h"

#include "catalog/objectaccess.h"
#include "catalog/pg_proc.h"
#include "nodes/parsenodes.h"
#include "tcop/utility.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

#include "compat.h"
#include "refuse.h"
#include "step.h"

static object_access_hook_type next_object_access_hook = NULL;
static ProcessUtility_hook_type next_process_utility_hook = NULL;

/*
 * What to do instead; NULL: the function may be called.
 */
static const char *
find_hint(Oid function)
{
	switch (function)
	{
		case F_PG_ADVISORY_LOCK_INT8:
		case F_PG_ADVISORY_LOCK_INT4_INT4:
		case F_PG_ADVISORY_LOCK_SHARED_INT8:
		case F_PG_ADVISORY_LOCK_SHARED_INT4_INT4:
		case F_PG_TRY_ADVISORY_LOCK_INT8:
		case F_PG_TRY_ADVISORY_LOCK_INT4_INT4:
		case F_PG_TRY_ADVISORY_LOCK_SHARED_INT8:
		case F_PG_TRY_ADVISORY_LOCK_SHARED_INT4_INT4:
		case F_PG_ADVISORY_UNLOCK_INT8:
		case F_PG_ADVISORY_UNLOCK_INT4_INT4:
		case F_PG_ADVISORY_UNLOCK_SHARED_INT8:
		case F_PG_ADVISORY_UNLOCK_SHARED_INT4_INT4:
		case F_PG_ADVISORY_UNLOCK_ALL:
			return "A handler only computes, and events of one instance are never handled two at a time.";
		case F_PG_CANCEL_BACKEND:
		case F_PG_TERMINATE_BACKEND:
			return "A handler only computes: a replay calls it again.";
		case WF_F_LOGICAL_EMIT_MESSAGE_TEXT:
		case WF_F_LOGICAL_EMIT_MESSAGE_BYTEA:
			return "A handler only computes: what it wants others to know it sends, or leaves in its state.";
		case F_SETSEED:
			return "wfproc.random() is the same in each replay.";
		default:
			return NULL;
	}
}

static void
on_object_access(ObjectAccessType access, Oid class_id, Oid object_id, int sub_id, void *arg)
{
	const char *hint;

	if (next_object_access_hook)
		next_object_access_hook(access, class_id, object_id, sub_id, arg);
	if (MyWfStep == NULL || access != OAT_FUNCTION_EXECUTE)
		return;
	hint = find_hint(object_id);
	if (hint != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot call %s() in a handler", get_func_name(object_id)),
				 errhint("%s", hint)));
}

/*
 * CLOSE ALL would take the cursors of a session that calls run(), and a rollback does not bring them back.
 */
static void
process_utility(PlannedStmt *pstmt, const char *query_string, bool read_only_tree, ProcessUtilityContext context,
				ParamListInfo params, QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	if (MyWfStep != NULL && IsA(pstmt->utilityStmt, ClosePortalStmt) &&
		((ClosePortalStmt *) pstmt->utilityStmt)->portalname == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot execute CLOSE ALL in a handler"),
				 errhint("Close the cursors that the handler has opened, by their names; what is left open is closed after the step.")));
	if (next_process_utility_hook)
		next_process_utility_hook(pstmt, query_string, read_only_tree, context, params, env, dest, qc);
	else
		standard_ProcessUtility(pstmt, query_string, read_only_tree, context, params, env, dest, qc);
}

/*
 * Installs the hooks, also where the library is not preloaded: run() calls handlers there too.
 */
void
wf_refuse_init(void)
{
	next_object_access_hook = object_access_hook;
	object_access_hook = on_object_access;
	next_process_utility_hook = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
}
