/*
 * helper.c: the helpers of a version: the functions that define() was given to copy besides handler and migrate.
 *
 * Called by define.c, within its transaction and under its lock.  A helper is told from others by its bare name and the
 * types of its arguments, as all copies of a version are in one schema.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

#include "check.h"
#include "definition.h"
#include "helper.h"
#include "spi.h"

#define MAX_HELPERS 1000

/*
 * Raises where that cannot be copied and called.  A copy belongs to the extension's owner: SECURITY DEFINER would run it as
 * that.
 */
static void
check_kind(Form_pg_proc form, const char *signature)
{
	if (form->prokind != PROKIND_FUNCTION)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				 errmsg("helper %s is not a plain function", signature),
				 errhint("Aggregates, window functions and procedures are not copied.")));
	if (form->prolang == ClanguageId || form->prolang == INTERNALlanguageId)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				 errmsg("helper %s is written in C", signature),
				 errhint("A copy would be the same symbol of the same library; leave it out.")));
	if (form->prosecdef)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				 errmsg("helper %s must not be SECURITY DEFINER", signature),
				 errhint("It runs as the owner of the workflow in any case.")));
}

static WfCode *
resolve(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	char	   *signature;
	Form_pg_proc form;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("helper function with OID %u does not exist", function),
				 errhint("Name helpers with the types of their arguments, like '{\"app.total(jsonb)\"}'.")));
	signature = format_procedure(function);
	form = (Form_pg_proc) GETSTRUCT(tuple);
	check_kind(form, signature);
	wf_code_check_publisher(function, form->prolang, "helper", signature);
	ReleaseSysCache(tuple);
	return wf_code_read(function);
}

static int
compare_codes(const ListCell *a, const ListCell *b)
{
	const WfCode *x = lfirst(a);
	const WfCode *y = lfirst(b);
	int			order = strcmp(x->qualified, y->qualified);

	return order != 0 ? order : strcmp(x->arguments, y->arguments);
}

/*
 * Raises where a copy of the helper would be in the place of another's.
 */
static void
check_place(const WfCode *helper, const WfCode *other, const char *what)
{
	if (other == NULL || strcmp(helper->name, other->name) != 0 || strcmp(helper->arguments, other->arguments) != 0)
		return;
	if (helper->function == other->function)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_FUNCTION),
				 errmsg("helper %s(%s) is copied already, as %s", helper->qualified, helper->arguments, what),
				 errhint("Name each helper once; handler and migrate are copied in any case.")));
	ereport(ERROR,
			(errcode(ERRCODE_DUPLICATE_FUNCTION),
			 errmsg("helper %s(%s) has the name and the argument types of %s %s", helper->qualified, helper->arguments, what,
					other->qualified),
			 errhint("The copies of a version are in one schema: rename one of them.")));
}

static void
check_places(const List *helpers, const WfCode *handler, const WfCode *migrate)
{
	for (int i = 0; i < list_length(helpers); i++)
	{
		const WfCode *helper = list_nth(helpers, i);

		check_place(helper, handler, "handler");
		check_place(helper, migrate, "migrate");
		for (int j = 0; j < i; j++)
			check_place(helper, list_nth(helpers, j), "helper");
	}
}

/*
 * Takes the array apart.
 */
static Datum *
read_array(ArrayType *array, int *count)
{
	Datum	   *elements;

	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"helpers\" must have one dimension, got %d", ARR_NDIM(array)),
				 errhint("Give a list of functions, like '{\"app.total(jsonb)\"}'.")));
	if (array_contains_nulls(array))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"helpers\" must not contain nulls"),
				 errhint("Give a list of functions, like '{\"app.total(jsonb)\"}'; leave it out where there are none.")));
	deconstruct_array(array, REGPROCEDUREOID, sizeof(Oid), true, TYPALIGN_INT, &elements, NULL, count);
	if (*count > MAX_HELPERS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"helpers\" must have at most %d elements, got %d", MAX_HELPERS, *count),
				 errhint("Leave out those that nothing calls.")));
	return elements;
}

/*
 * Takes the argument helpers of define(): NIL where it is NULL or empty.
 */
List *
wf_helper_resolve(FunctionCallInfo fcinfo, int argno, const WfCode *handler, const WfCode *migrate)
{
	List	   *helpers = NIL;
	Datum	   *elements;
	int			count;

	if (PG_ARGISNULL(argno))
		return NIL;
	elements = read_array(PG_GETARG_ARRAYTYPE_P(argno), &count);
	for (int i = 0; i < count; i++)
		helpers = lappend(helpers, resolve(DatumGetObjectId(elements[i])));
	check_places(helpers, handler, migrate);
	list_sort(helpers, compare_codes);
	return helpers;
}

/*
 * Writes a new version's helpers.
 */
void
wf_helper_write(const List *helpers, int workflow_id, int version)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT4OID, INT4OID, TEXTOID, TEXTOID, TEXTOID, BYTEAOID};
	ListCell   *lc;
	WfSpi		spi;

	wf_spi_begin(&spi);
	foreach(lc, helpers)
	{
		const WfCode *helper = lfirst(lc);
		bytea	   *sha256 = palloc(VARHDRSZ + WF_SHA256_LEN);
		Datum		values[] = {
			Int32GetDatum(workflow_id), Int32GetDatum(version), CStringGetTextDatum(helper->qualified),
			CStringGetTextDatum(helper->arguments), CStringGetTextDatum(helper->text), PointerGetDatum(sha256)
		};

		SET_VARSIZE(sha256, VARHDRSZ + WF_SHA256_LEN);
		memcpy(VARDATA(sha256), helper->sha256, WF_SHA256_LEN);
		(void) wf_spi_execute(&plan,
							  "INSERT INTO wfproc.version_helper (workflow_id, version, name, arguments, code, code_sha256)"
							  " VALUES ($1, $2, $3, $4, $5, $6)",
							  lengthof(types), types, values, NULL, false, SPI_OK_INSERT);
	}
	wf_spi_end(&spi);
}

/*
 * Whether a version was published with these very helpers, by that owner.
 */
bool
wf_helper_same(const List *helpers, const List *published, Oid owner)
{
	ListCell   *a;
	ListCell   *b;

	if (list_length(published) != list_length(helpers))
		return false;
	forboth(a, helpers, b, published)
	{
		WfCode	   *code = lfirst(a);
		const WfHelper *helper = lfirst(b);

		if (strcmp(code->qualified, helper->name) != 0 || strcmp(code->arguments, helper->arguments) != 0 ||
			!wf_code_take_published(code, helper->code, helper->sha256, owner))
			return false;
	}
	return true;
}
