/*
 * changing.c: what the server has to call, and would not give the same in a replay.
 *
 * Called by callees.c.  What is VOLATILE by its declaration is taken for it; of what is STABLE, which means no more than that
 * it stays the same within a statement, most is the same for good under a handler's settings, so that those that are not are
 * listed.  Functions that users have made are copied or named by callees.c, and read themselves.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/dependency.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "utils/fmgroids.h"
#include "utils/syscache.h"

#include "changing.h"

/*
 * Those that are STABLE, and what to call instead of these and others.  args: of the one that is meant; -1: any.
 */
static const struct
{
	const char *name;
	int			args;
	const char *instead;
}			known_changing[] = {
	{"now", -1, "wfproc.now()"},
	{"transaction_timestamp", -1, "wfproc.now()"},
	{"statement_timestamp", -1, "wfproc.now()"},
	{"clock_timestamp", -1, "wfproc.now()"},
	{"timeofday", -1, "wfproc.now()"},
	/* to the present day */
	{"age", 1, "wfproc.now()"},
	{"random", -1, "wfproc.random()"},
	{"random_normal", -1, "wfproc.random()"},
	{"gen_random_uuid", -1, "wfproc.uuid()"},
	{"uuidv4", -1, "wfproc.uuid()"},
	{"uuidv7", -1, "wfproc.uuid()"},
	{"nextval", -1, "wfproc.seq() or wfproc.uuid()"},
	{"txid_current", -1, NULL},
	{"txid_current_if_assigned", -1, NULL},
	{"txid_current_snapshot", -1, NULL},
	{"pg_current_xact_id", -1, NULL},
	{"pg_current_xact_id_if_assigned", -1, NULL},
	{"pg_current_snapshot", -1, NULL},
	{"pg_backend_pid", -1, NULL},
	{"pg_postmaster_start_time", -1, NULL},
	{"pg_conf_load_time", -1, NULL},
	{"inet_client_addr", -1, NULL},
	{"inet_client_port", -1, NULL},
	{"inet_server_addr", -1, NULL},
	{"inet_server_port", -1, NULL},
	{"current_database", -1, NULL},
	{"current_setting", -1, NULL},
	{"version", -1, NULL},
};

/*
 * Whether it is one of the server's own, or of an extension's in C: who writes one in another language may not have thought of
 * what it is declared.  Ours are VOLATILE because they act.
 */
static bool
is_vouched_for(Oid function, Form_pg_proc form)
{
	Oid			extension;

	if (function < FirstNormalObjectId)
		return true;
	extension = getExtensionOfObject(ProcedureRelationId, function);
	return OidIsValid(extension) && extension != get_extension_oid("wfproc", true) && form->prolang == ClanguageId;
}

/*
 * Whether the same call may have another result in a replay.  One without a result has none, and a handler's set_config() is
 * undone after its step.
 */
bool
wf_changing_function(Oid function, const char **instead)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc form;
	bool		changing;

	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_proc) GETSTRUCT(tuple);
	changing = form->provolatile == PROVOLATILE_VOLATILE && form->prorettype != VOIDOID && function != F_SET_CONFIG &&
		is_vouched_for(function, form);
	*instead = NULL;
	for (int i = 0; i < lengthof(known_changing) && function < FirstNormalObjectId; i++)
		if (strcmp(NameStr(form->proname), known_changing[i].name) == 0 &&
			(known_changing[i].args < 0 || known_changing[i].args == form->pronargs))
		{
			changing = true;
			*instead = known_changing[i].instead;
		}
	ReleaseSysCache(tuple);
	return changing;
}

/*
 * The same for CURRENT_DATE and its like; NULL: it stays.  A handler runs as the workflow's owner, so that CURRENT_USER does.
 */
const char *
wf_changing_value(SQLValueFunctionOp op, const char **instead)
{
	*instead = "wfproc.now()";
	switch (op)
	{
		case SVFOP_CURRENT_DATE:
			return "CURRENT_DATE";
		case SVFOP_CURRENT_TIME:
		case SVFOP_CURRENT_TIME_N:
			return "CURRENT_TIME";
		case SVFOP_CURRENT_TIMESTAMP:
		case SVFOP_CURRENT_TIMESTAMP_N:
			return "CURRENT_TIMESTAMP";
		case SVFOP_LOCALTIME:
		case SVFOP_LOCALTIME_N:
			return "LOCALTIME";
		case SVFOP_LOCALTIMESTAMP:
		case SVFOP_LOCALTIMESTAMP_N:
			return "LOCALTIMESTAMP";
		case SVFOP_SESSION_USER:
			*instead = NULL;
			return "SESSION_USER";
		case SVFOP_CURRENT_CATALOG:
			*instead = NULL;
			return "CURRENT_CATALOG";
		default:
			return NULL;
	}
}
