/*
 * code.c: the code of a version: its text, its hash, and the private copy that is run.
 *
 * Called by define.c and helper.c, which publish, and by version.c, which loads.  The text is what pg_get_functiondef() says from the
 * argument list on, so that it is the same for a function and for its copy in another schema, and BEGIN ATOMIC bodies, which
 * have no source text, are covered too.  All of that is printed and read under fixed settings (see pinned_settings): else
 * the text, and so its hash, would depend on who asks.
 *
 * Copies are made inside the caller's transaction, in a schema of their own, and belong to the extension's owner.  Schema
 * and function go with the extension but are no members of it, so that pg_dump dumps them like anybody's.  Functions in C
 * and internal ones are not copied: a copy would be the same symbol of the same library.
 *
 * The engine calls the copies of the handler and of migrate by their OIDs, so nobody needs a right to them.  Where a version
 * has helpers, code calls copies by their names, and the workflow's owner may use the schema and call what is in it.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_language.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "catalog.h"
#include "code.h"
#include "errors.h"
#include "reread.h"
#include "spi.h"

/* begins the text of a function that is not copied; no argument list begins like this */
#define BY_NAME_MARK "-- not copied: called by its name\n"

#define CODE_ARGS 3

typedef struct WfSignature
{
	const char *what;
	const char *args;
	const char *shape;
	Oid			types[CODE_ARGS];
} WfSignature;

static const WfSignature signatures[] = {
	[WF_CODE_HANDLER] = {"handler", WF_CODE_HANDLER_ARGUMENTS, "(state jsonb, event text, payload jsonb) RETURNS jsonb",
	{JSONBOID, TEXTOID, JSONBOID}},
	[WF_CODE_MIGRATE] = {"migrate", WF_CODE_MIGRATE_ARGUMENTS, "(state jsonb, from_version int, to_version int) RETURNS jsonb",
	{JSONBOID, INT4OID, INT4OID}}
};

/* what the text of a definition may depend on, and how it is read back; check_function_bodies: a copy runs nothing */
static const struct
{
	const char *name;
	const char *value;
}			pinned_settings[] = {
	{"search_path", "pg_catalog, pg_temp"},
	{"quote_all_identifiers", "off"},
	{"standard_conforming_strings", "on"},
	{"check_function_bodies", "off"},
	{"transform_null_equals", "off"},
	{"array_nulls", "on"},
	{"TimeZone", "UTC"},
	{"DateStyle", "ISO, YMD"},
	{"IntervalStyle", "postgres"},
	{"bytea_output", "hex"},
	{"extra_float_digits", "1"},
	{"lc_monetary", "C"},
	{"xmlbinary", "base64"},
	{"xmloption", "content"}
};

/*
 * Puts the fixed settings in force; AtEOXact_GUC(false, level) ends that, as does an error.
 */
static int
pin_settings(void)
{
	int			level = NewGUCNestLevel();

	for (int i = 0; i < lengthof(pinned_settings); i++)
		(void) set_config_option(pinned_settings[i].name, pinned_settings[i].value, PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	return level;
}

static bool
is_by_name(Oid language)
{
	return language == ClanguageId || language == INTERNALlanguageId;
}

/*
 * Whether a role has EXECUTE on a function.
 */
bool
wf_code_may_execute(Oid role, Oid function)
{
	return DatumGetBool(DirectFunctionCall3(has_function_privilege_id_id, ObjectIdGetDatum(role),
											ObjectIdGetDatum(function), CStringGetTextDatum("EXECUTE")));
}

/*
 * Whether anybody may write functions in the language.
 */
bool
wf_code_language_is_trusted(Oid language)
{
	HeapTuple	tuple = SearchSysCache1(LANGOID, ObjectIdGetDatum(language));
	bool		trusted;

	if (!HeapTupleIsValid(tuple))
		return false;
	trusted = ((Form_pg_language) GETSTRUCT(tuple))->lanpltrusted;
	ReleaseSysCache(tuple);
	return trusted;
}

/*
 * The search path in force, as it will be set for the version's steps: what the user's setting leaves out is said, and
 * temporary objects come last, whatever this session has.
 */
char *
wf_code_search_path(void)
{
	List	   *path = fetch_search_path(true);
	int			level = pin_settings();
	StringInfoData buf;
	ListCell   *lc;

	initStringInfo(&buf);
	foreach(lc, path)
	{
		char	   *name;

		if (isAnyTempNamespace(lfirst_oid(lc)))
			continue;
		name = get_namespace_name(lfirst_oid(lc));
		if (name != NULL)
			appendStringInfo(&buf, "%s, ", quote_identifier(name));
	}
	appendStringInfoString(&buf, "pg_temp");
	AtEOXact_GUC(false, level);
	return buf.data;
}

/*
 * What pg_get_functiondef() says after CREATE OR REPLACE FUNCTION and the name.  Needs the fixed settings.
 */
static char *
definition_after_name(Oid function, const char *qualified)
{
	char	   *definition = TextDatumGetCString(DirectFunctionCall1(pg_get_functiondef, ObjectIdGetDatum(function)));
	char	   *prefix = psprintf("CREATE OR REPLACE FUNCTION %s(", qualified);
	Size		len = strlen(prefix);

	if (strncmp(definition, prefix, len) != 0)
		elog(ERROR, "definition of function %u does not begin with \"%s\"", function, prefix);
	return definition + len;
}

/*
 * The types of a function's input arguments, as ALTER FUNCTION takes them.  Needs the fixed settings.
 */
static char *
argument_types(const oidvector *types)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < types->dim1; i++)
		appendStringInfo(&buf, "%s%s", i > 0 ? ", " : "", format_type_be(types->values[i]));
	return buf.data;
}

/*
 * Reads a function's code from the catalogue.  NULL where there is no such function.
 */
WfCode *
wf_code_read(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	WfCode	   *code;
	Form_pg_proc form;
	WfBytes		bytes;
	int			level;

	if (!HeapTupleIsValid(tuple))
		return NULL;
	form = (Form_pg_proc) GETSTRUCT(tuple);
	level = pin_settings();
	code = palloc0(sizeof(WfCode));
	code->function = function;
	code->owner = form->proowner;
	code->language = form->prolang;
	code->by_name = is_by_name(form->prolang);
	code->name = pstrdup(NameStr(form->proname));
	code->qualified = quote_qualified_identifier(get_namespace_name_or_temp(form->pronamespace), code->name);
	code->arguments = argument_types(&form->proargtypes);
	code->text = definition_after_name(function, code->qualified);
	if (code->by_name)
		code->text = psprintf("%s%s", BY_NAME_MARK, code->text);
	ReleaseSysCache(tuple);
	AtEOXact_GUC(false, level);
	bytes.data = code->text;
	bytes.len = strlen(code->text);
	wf_hash_sha256(&bytes, 1, code->sha256);
	return code;
}

/*
 * Whether a function is what was published: a text with its hash.  It is the same text, or this server reads the text as this
 * very function (reread.c).  The owner is the workflow's.
 */
bool
wf_code_is(const WfCode *code, const char *published, const uint8 *sha256, Oid owner)
{
	WfBytes		bytes;
	uint8		hash[WF_SHA256_LEN];
	int			level;
	bool		same;

	if (memcmp(code->sha256, sha256, WF_SHA256_LEN) == 0)
		return true;
	bytes.data = published;
	bytes.len = strlen(published);
	wf_hash_sha256(&bytes, 1, hash);
	if (code->by_name || memcmp(hash, sha256, WF_SHA256_LEN) != 0)
		return false;
	level = pin_settings();
	same = wf_reread_is_same(code->function, code->text, published, owner);
	AtEOXact_GUC(false, level);
	return same;
}

/*
 * The same; where it is, the text and hash of the code become those that were published.
 */
bool
wf_code_take_published(WfCode *code, const char *published, const uint8 *sha256, Oid owner)
{
	if (!wf_code_is(code, published, sha256, owner))
		return false;
	code->text = pstrdup(published);
	memcpy(code->sha256, sha256, WF_SHA256_LEN);
	return true;
}

/*
 * Raises what is wrong with a function of the right arguments.
 */
static void
check_shape(Form_pg_proc form, const char *name, const WfSignature *signature)
{
	if (form->prokind != PROKIND_FUNCTION)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				 errmsg("%s %s(%s) is not a plain function", signature->what, name, signature->args),
				 errhint("It must be a function %s.", signature->shape)));
	if (form->proretset)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				 errmsg("%s %s(%s) must return jsonb, not a set", signature->what, name, signature->args),
				 errhint("It must be a function %s.", signature->shape)));
	if (form->prorettype != JSONBOID)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				 errmsg("%s %s(%s) must return jsonb, not %s", signature->what, name, signature->args,
						format_type_be(form->prorettype)),
				 errhint("It must be a function %s.", signature->shape)));
	if (form->prosecdef)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				 errmsg("%s %s(%s) must not be SECURITY DEFINER", signature->what, name, signature->args),
				 errhint("It runs as the owner of the workflow in any case.")));
}

/*
 * Raises where the current user may not call the function, or may not make others run code in its language.  what and
 * signature name it: "handler", "f(jsonb, text, jsonb)".
 */
void
wf_code_check_publisher(Oid function, Oid language, const char *what, const char *signature)
{
	if (!wf_code_may_execute(GetUserId(), function))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for function %s", signature),
				 errhint("Publishing it needs EXECUTE on it.")));
	if (!superuser() && !wf_code_language_is_trusted(language))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("%s %s is written in language %s, which is not trusted", what, signature,
						quote_identifier(get_language_name(language, false))),
				 errhint("Only a superuser may publish it.")));
}

/*
 * A name like 'f', 'schema.f' or '"Schema"."F"', as the list that the server's look-ups take.
 */
static List *
parse_name(const char *name)
{
	List	   *parts;
	List	   *names = NIL;
	ListCell   *lc;

	if (!SplitIdentifierString(pstrdup(name), '.', &parts) || parts == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("invalid function name \"%s\"", name),
				 errhint("Give the name without arguments, like 'schema.name', with double quotes where SQL needs them.")));
	foreach(lc, parts)
		names = lappend(names, makeString(lfirst(lc)));
	return names;
}

/*
 * Finds a function by the name that a user gave, like 'f' or 'schema.f', checks that it can be published, and reads it.
 */
WfCode *
wf_code_resolve(const char *name, WfCodeKind kind)
{
	const WfSignature *signature = &signatures[kind];
	Oid			function;
	HeapTuple	tuple;

	if (name == NULL)
		return NULL;
	function = LookupFuncName(parse_name(name), CODE_ARGS, signature->types, true);
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function %s(%s) does not exist", name, signature->args),
				 errhint("A %s function has the shape %s; its name is looked up in the search_path unless it has a schema.",
						 signature->what, signature->shape)));
	check_shape((Form_pg_proc) GETSTRUCT(tuple), name, signature);
	wf_code_check_publisher(function, ((Form_pg_proc) GETSTRUCT(tuple))->prolang, signature->what,
							psprintf("%s(%s)", name, signature->args));
	ReleaseSysCache(tuple);
	return wf_code_read(function);
}

static char *
schema_name(int workflow_id, int version)
{
	return psprintf("wfproc_code_%d_%d", workflow_id, version);
}

/*
 * Splits a version's qualified name, as it is stored, and says where its function is.
 */
static void
locate(const char *qualified, const char *text, int workflow_id, int version, char **schema, char **name)
{
	DeconstructQualifiedName(parse_name(qualified), schema, name);
	if (*schema == NULL || strncmp(text, BY_NAME_MARK, strlen(BY_NAME_MARK)) != 0)
		*schema = schema_name(workflow_id, version);
}

/*
 * The function of that name and those argument types in a schema.  Types are compared as they are printed: what was printed
 * once need not be a type any more.
 */
static Oid
find_function(Oid namespace_oid, const char *name, const char *arguments)
{
	int			level = pin_settings();
	CatCList   *list = SearchSysCacheList1(PROCNAMEARGSNSP, CStringGetDatum(name));
	Oid			function = InvalidOid;

	for (int i = 0; i < list->n_members && !OidIsValid(function); i++)
	{
		Form_pg_proc form = (Form_pg_proc) GETSTRUCT(&list->members[i]->tuple);

		if (form->pronamespace == namespace_oid && strcmp(argument_types(&form->proargtypes), arguments) == 0)
			function = form->oid;
	}
	ReleaseSysCacheList(list);
	AtEOXact_GUC(false, level);
	return function;
}

/*
 * The function that a version runs, as it is now: whether it is as published is for the caller to compare.
 */
WfCode *
wf_code_find(const char *qualified, const char *arguments, const char *text, int workflow_id, int version)
{
	char	   *schema;
	char	   *name;
	Oid			namespace_oid;
	Oid			function;

	locate(qualified, text, workflow_id, version, &schema, &name);
	namespace_oid = get_namespace_oid(schema, true);
	if (!OidIsValid(namespace_oid))
		return NULL;
	function = find_function(namespace_oid, name, arguments);
	return OidIsValid(function) ? wf_code_read(function) : NULL;
}

/*
 * Whether there is anything in a version's schema besides these functions.
 */
bool
wf_code_has_others(int workflow_id, int version, const List *functions)
{
	Oid			namespace_oid = get_namespace_oid(schema_name(workflow_id, version), true);
	Relation	depend;
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found = false;

	if (!OidIsValid(namespace_oid))
		return false;
	depend = table_open(DependRelationId, AccessShareLock);
	ScanKeyInit(&keys[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(NamespaceRelationId));
	ScanKeyInit(&keys[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(namespace_oid));
	scan = systable_beginscan(depend, DependReferenceIndexId, true, NULL, lengthof(keys), keys);
	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend row = (Form_pg_depend) GETSTRUCT(tuple);

		found = row->classid != ProcedureRelationId || !list_member_oid(functions, row->objid);
	}
	systable_endscan(scan);
	table_close(depend, AccessShareLock);
	return found;
}

/*
 * Where a version's function is or should be, for messages.
 */
char *
wf_code_location(const char *qualified, const char *arguments, const char *text, int workflow_id, int version)
{
	char	   *schema;
	char	   *name;

	locate(qualified, text, workflow_id, version, &schema, &name);
	return psprintf("%s(%s)", quote_qualified_identifier(schema, name), arguments);
}

static void
execute(const char *sql)
{
	int			ret = SPI_execute(sql, false, 0);

	if (ret != SPI_OK_UTILITY)
		elog(ERROR, "statement gave %s: %s", SPI_result_code_string(ret), sql);
}

/*
 * Executes the CREATE FUNCTION made from a user's definition, once it has been seen to be just that.
 */
static void
execute_create_function(const char *sql)
{
	List	   *statements = pg_parse_query(sql);

	if (list_length(statements) != 1 || !IsA(linitial_node(RawStmt, statements)->stmt, CreateFunctionStmt))
		elog(ERROR, "not a single CREATE FUNCTION: %s", sql);
	execute(sql);
}

/*
 * Makes the schema go with the extension.  ALTER ... DEPENDS ON EXTENSION does not know schemas.
 */
static void
tie_schema_to_extension(Oid namespace_oid)
{
	ObjectAddress schema;
	ObjectAddress extension;

	if (list_member_oid(getAutoExtensionsOfObject(NamespaceRelationId, namespace_oid), wf_catalog_extension()))
		return;
	ObjectAddressSet(schema, NamespaceRelationId, namespace_oid);
	ObjectAddressSet(extension, ExtensionRelationId, wf_catalog_extension());
	recordDependencyOn(&schema, &extension, DEPENDENCY_AUTO_EXTENSION);
	CommandCounterIncrement();
}

static Oid
namespace_owner(Oid namespace_oid)
{
	HeapTuple	tuple = SearchSysCache1(NAMESPACEOID, ObjectIdGetDatum(namespace_oid));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for schema %u", namespace_oid);
	owner = ((Form_pg_namespace) GETSTRUCT(tuple))->nspowner;
	ReleaseSysCache(tuple);
	return owner;
}

/*
 * Makes a version's schema, or takes one that is there if nobody else can put anything into it.
 */
static void
ensure_schema(const char *schema)
{
	Oid			namespace_oid = get_namespace_oid(schema, true);

	if (!OidIsValid(namespace_oid))
	{
		execute(psprintf("CREATE SCHEMA %s", quote_identifier(schema)));
		namespace_oid = get_namespace_oid(schema, false);
	}
	else if (namespace_owner(namespace_oid) != wf_catalog_owner())
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_SCHEMA),
				 errmsg("schema \"%s\" exists and does not belong to the owner of extension \"wfproc\"", schema),
				 errdetail("The schema belongs to role \"%s\".", GetUserNameFromId(namespace_owner(namespace_oid), true)),
				 errhint("Rename or drop it: schemas of that name hold the code of workflows.")));
	execute(psprintf("REVOKE ALL ON SCHEMA %s FROM PUBLIC", quote_identifier(schema)));
	tie_schema_to_extension(namespace_oid);
}

/*
 * Executes the CREATE FUNCTION as the workflow's owner, and not as the extension's: reading a BEGIN ATOMIC body or a default
 * can call the user's own code (a composite literal checks the domains in it).  Both flags, for the reason given in
 * handler.c.
 */
static void
create_as_owner(Oid owner, const char *schema, const char *sql)
{
	const char *role = quote_identifier(GetUserNameFromId(owner, false));
	bool		needs_grant = !superuser_arg(owner);
	Oid			userid;
	int			sec_context;

	if (needs_grant)
		execute(psprintf("GRANT USAGE, CREATE ON SCHEMA %s TO %s", schema, role));
	GetUserIdAndSecContext(&userid, &sec_context);
	SetUserIdAndSecContext(owner, SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	execute_create_function(sql);
	SetUserIdAndSecContext(userid, sec_context);
	if (needs_grant)
		execute(psprintf("REVOKE ALL ON SCHEMA %s FROM %s", schema, role));
}

/*
 * Makes the copy, and looks whether it is one.
 */
static void
create_copy(const WfCode *code, Oid owner, int workflow_id, int version)
{
	const char *schema = schema_name(workflow_id, version);
	const char *name = quote_qualified_identifier(schema, code->name);
	const char *signature = psprintf("%s(%s)", name, code->arguments);
	WfCode	   *copy;

	create_as_owner(owner, schema, psprintf("CREATE FUNCTION %s(%s", name, code->text));
	execute(psprintf("ALTER FUNCTION %s OWNER TO CURRENT_USER", signature));
	execute(psprintf("REVOKE ALL ON FUNCTION %s FROM PUBLIC", signature));
	execute(psprintf("ALTER FUNCTION %s DEPENDS ON EXTENSION wfproc", signature));
	copy = wf_code_find(code->qualified, code->arguments, code->text, workflow_id, version);
	if (copy == NULL || !wf_code_is(copy, code->text, code->sha256, owner))
		ereport(ERROR,
				(errcode(ERRCODE_WF_CODE_CHANGED),
				 errmsg("the copy of function %s is not what it was made from", code->qualified),
				 errdetail("Made from: %s", code->text),
				 errhint("Was the function altered meanwhile?  Try again.")));
}

/*
 * Makes the private copy of a version that is being published, for a workflow of that owner.  A function that is there
 * already is an error (42723).
 */
void
wf_code_copy(const WfCode *code, Oid owner, int workflow_id, int version)
{
	WfSpi		spi;
	int			level;

	if (code == NULL || code->by_name)
		return;
	wf_spi_begin(&spi);
	level = pin_settings();
	ensure_schema(schema_name(workflow_id, version));
	create_copy(code, owner, workflow_id, version);
	AtEOXact_GUC(false, level);
	wf_spi_end(&spi);
}

/*
 * The same for a version that was published before with this very code: makes the copy anew where somebody has dropped or
 * altered it.
 */
void
wf_code_repair(const WfCode *code, Oid owner, int workflow_id, int version)
{
	WfCode	   *copy;
	WfSpi		spi;

	if (code == NULL || code->by_name)
		return;
	copy = wf_code_find(code->qualified, code->arguments, code->text, workflow_id, version);
	if (copy != NULL && copy->owner == wf_catalog_owner() && wf_code_is(copy, code->text, code->sha256, owner))
		return;
	if (copy != NULL)
	{
		wf_spi_begin(&spi);
		execute(psprintf("DROP FUNCTION %s",
						 wf_code_location(code->qualified, code->arguments, code->text, workflow_id, version)));
		wf_spi_end(&spi);
	}
	wf_code_copy(code, owner, workflow_id, version);
}

/*
 * Whether the owner may use the schema of a version and call a copy in it.
 */
bool
wf_code_is_open(const WfCode *copy, Oid owner, int workflow_id, int version)
{
	Oid			namespace_oid = get_namespace_oid(schema_name(workflow_id, version), false);

	return wf_code_may_execute(owner, copy->function) &&
		DatumGetBool(DirectFunctionCall3(has_schema_privilege_id_id, ObjectIdGetDatum(owner),
										 ObjectIdGetDatum(namespace_oid), CStringGetTextDatum("USAGE")));
}

/*
 * Lets the owner of the workflow call a version's copy by its name.
 */
void
wf_code_open(const WfCode *code, Oid owner, int workflow_id, int version)
{
	WfCode	   *copy;
	const char *role;
	WfSpi		spi;

	if (code == NULL || code->by_name)
		return;
	copy = wf_code_find(code->qualified, code->arguments, code->text, workflow_id, version);
	if (copy == NULL || wf_code_is_open(copy, owner, workflow_id, version))
		return;
	role = quote_identifier(GetUserNameFromId(owner, false));
	wf_spi_begin(&spi);
	execute(psprintf("GRANT USAGE ON SCHEMA %s TO %s", quote_identifier(schema_name(workflow_id, version)), role));
	execute(psprintf("GRANT EXECUTE ON FUNCTION %s TO %s",
					 wf_code_location(code->qualified, code->arguments, code->text, workflow_id, version), role));
	wf_spi_end(&spi);
}

/*
 * The search_path under which a version with helpers is run: its copies first.
 */
char *
wf_code_path_to_copies(const char *search_path, int workflow_id, int version)
{
	return psprintf("%s, %s", quote_identifier(schema_name(workflow_id, version)), search_path);
}

/*
 * Makes a version's schema go with the extension again: a dump does not say that of schemas.
 */
void
wf_code_adopt(int workflow_id, int version)
{
	Oid			namespace_oid = get_namespace_oid(schema_name(workflow_id, version), true);

	if (OidIsValid(namespace_oid) && namespace_owner(namespace_oid) == wf_catalog_owner())
		tie_schema_to_extension(namespace_oid);
}
