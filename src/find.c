/*
 * find.c: finding instances by their attributes.
 *
 * The view instances shows them too, but a condition on attributes cannot be pushed below its check of rights, since the
 * operator is not leakproof: so it looks at every row.  Here the rows are found by the index first, as the extension's
 * owner, and those that the caller may not read are left out.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/tuplestore.h"

#include "acl.h"
#include "api.h"
#include "check.h"
#include "compat.h"
#include "spi.h"

PG_FUNCTION_INFO_V1(wfproc_find_instances);

/* arguments of the function, and parameters of its statement */
enum
{
	ARG_WANTED,
	ARG_WORKFLOW,
	ARG_STATUS,
	ARG_AFTER,
	ARG_MAX,
	ARGS
};

#define MAX_FOUND 100000

static void
check_arguments(FunctionCallInfo fcinfo)
{
	wf_check_not_in_handler("find_instances");
	wf_check_not_null(fcinfo, ARG_WANTED, "wanted");
	(void) wf_api_check_attributes(fcinfo, ARG_WANTED);
	wf_check_not_null(fcinfo, ARG_AFTER, "after");
	wf_check_not_null(fcinfo, ARG_MAX, "max");
	if (PG_GETARG_INT32(ARG_MAX) < 1 || PG_GETARG_INT32(ARG_MAX) > MAX_FOUND)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"max\" must be between 1 and %d, got %d", MAX_FOUND, PG_GETARG_INT32(ARG_MAX)),
				 errhint("Read on with the last id as the argument \"after\".")));
}

/*
 * The workflow's number, or NULL where none was named; 42704 where there is no such workflow.
 */
static Datum
get_workflow(FunctionCallInfo fcinfo, char *null)
{
	wf_workflow_refresh();
	*null = PG_ARGISNULL(ARG_WORKFLOW) ? 'n' : ' ';
	if (PG_ARGISNULL(ARG_WORKFLOW))
		return (Datum) 0;
	return Int32GetDatum(wf_workflow_by_name(wf_check_name(fcinfo, ARG_WORKFLOW, "of_workflow"), false)->workflow_id);
}

/*
 * Puts out a row of the query, where the caller may read its workflow.  Returns whether that was so.
 */
static bool
put_row(ReturnSetInfo *result, Oid caller, int row)
{
	HeapTuple	tuple = SPI_tuptable->vals[row];
	Datum		values[4];
	bool		nulls[4];
	WfWorkflow *workflow;

	for (int i = 0; i < 4; i++)
		values[i] = SPI_getbinval(tuple, SPI_tuptable->tupdesc, i + 1, &nulls[i]);
	workflow = wf_workflow_find(DatumGetInt32(values[1]));
	if (workflow == NULL || !wf_acl_may(workflow, caller, WF_PRIV_READ))
		return false;
	values[1] = CStringGetTextDatum(workflow->name);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	return true;
}

/*
 * find_instances(wanted, of_workflow, with_status, after, max) -> (id, workflow, status, attributes)
 */
Datum
wfproc_find_instances(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[ARGS - 1] = {JSONBOID, INT4OID, TEXTOID, TEXTOID};
	Datum		values[ARGS - 1];
	char		nulls[ARGS - 1];
	Oid			caller = GetUserId();
	int			left;
	int			rows;
	WfSpi		spi;

	check_arguments(fcinfo);
	left = PG_GETARG_INT32(ARG_MAX);
	memset(nulls, ' ', sizeof(nulls));
	values[ARG_WANTED] = PG_GETARG_DATUM(ARG_WANTED);
	values[ARG_WORKFLOW] = get_workflow(fcinfo, &nulls[ARG_WORKFLOW]);
	values[ARG_STATUS] = PG_GETARG_DATUM(ARG_STATUS);
	nulls[ARG_STATUS] = PG_ARGISNULL(ARG_STATUS) ? 'n' : ' ';
	values[ARG_AFTER] = PG_GETARG_DATUM(ARG_AFTER);
	InitMaterializedSRF(fcinfo, 0);
	wf_spi_begin(&spi);
	rows = wf_spi_execute(&plan,
						  "SELECT i.id, i.workflow_id, i.status, i.attributes FROM wfproc.instance i WHERE i.attributes @> $1"
						  " AND ($2 IS NULL OR i.workflow_id = $2) AND ($3 IS NULL OR i.status = $3 COLLATE \"C\")"
						  " AND i.id > $4 COLLATE \"C\" ORDER BY i.id",
						  lengthof(types), types, values, nulls, true, SPI_OK_SELECT);
	for (int i = 0; i < rows && left > 0; i++)
		if (put_row((ReturnSetInfo *) fcinfo->resultinfo, caller, i))
			left--;
	wf_spi_end(&spi);
	return (Datum) 0;
}
