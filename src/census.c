/*
 * census.c: which instances a workflow has, for the functions that go through all of them.
 *
 * Called by monitor.c and rehearse.c.  Reads wfproc.instance through the caller's snapshot and writes nothing, so it works
 * on a standby.  The numbers alone are taken, 8 bytes each: whoever goes through them reads each row when its turn comes.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/timestamp.h"

#include "acl.h"
#include "census.h"
#include "check.h"
#include "spi.h"

/*
 * The workflow that the first argument names, for a caller who has that privilege.
 */
WfWorkflow *
wf_census_workflow(FunctionCallInfo fcinfo, WfPrivilege privilege)
{
	char	   *name = wf_check_name(fcinfo, 0, "workflow");
	WfWorkflow *workflow;

	wf_workflow_refresh();
	workflow = wf_workflow_by_name(name, false);
	wf_acl_require(workflow, GetUserId(), privilege);
	return workflow;
}

/*
 * The elements of an int8[] without NULLs, copied into the given memory context.
 */
static int64 *
copy_numbers(Datum datum, MemoryContext memory, int *count)
{
	ArrayType  *array = DatumGetArrayTypeP(datum);
	int64	   *numbers;

	*count = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	numbers = MemoryContextAllocHuge(memory, sizeof(int64) * (Size) *count);
	memcpy(numbers, ARR_DATA_PTR(array), sizeof(int64) * (Size) *count);
	return numbers;
}

/*
 * Their instance_ids, in the current memory context; *count of them.
 */
int64 *
wf_census_take(const WfWorkflow *workflow, const WfCensus *which, int *count)
{
	static SPIPlanPtr by_id = NULL;
	static SPIPlanPtr by_number = NULL;
	static const Oid types[] = {INT4OID, BOOLOID, TIMESTAMPTZOID};
	MemoryContext caller = CurrentMemoryContext;
	Datum		values[lengthof(types)];
	int64	   *instance_ids = NULL;
	Datum		numbers;
	WfSpi		spi;
	bool		isnull;

#define SELECT_NUMBERS(order) \
	"SELECT pg_catalog.array_agg(instance_id ORDER BY " order ") FROM wfproc.instance " \
	"WHERE workflow_id = $1 AND started_at <= $3 AND (NOT $2 OR closed_at IS NOT NULL)"

	values[0] = Int32GetDatum(workflow->workflow_id);
	values[1] = BoolGetDatum(which->closed_only);
	values[2] = TimestampTzGetDatum(which->started_by);
	*count = 0;
	wf_spi_begin(&spi);
	(void) wf_spi_execute(which->order_by_id ? &by_id : &by_number,
						  which->order_by_id ? SELECT_NUMBERS("id") : SELECT_NUMBERS("instance_id"),
						  lengthof(types), types, values, NULL, true, SPI_OK_SELECT);
	numbers = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (!isnull)
		instance_ids = copy_numbers(numbers, caller, count);
	wf_spi_end(&spi);
	return instance_ids;
}

/*
 * Keeps "sample" of them, spread evenly, and returns how many are left.
 */
int
wf_census_sample(int64 *instance_ids, int count, int sample)
{
	if (sample >= count)
		return count;
	for (int i = 0; i < sample; i++)
		instance_ids[i] = instance_ids[(int64) i * count / sample];
	return sample;
}
