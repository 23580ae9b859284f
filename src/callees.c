/*
 * callees.c: finds what the code of a version calls and has no copy of, and says so.
 *
 * Called by define() when all copies are there.  They are read as the workflow's owner, under the search_path that their
 * steps will have, so that a name leads to what it will lead to then.
 *
 * Bodies in SQL are parsed by the server's parser, those in PL/pgSQL by PL/pgSQL's (plwalk.c), and calls taken from the trees,
 * so that words in strings and comments are none.  Trees of the raw parser have no types: where a name and a number of
 * arguments fit several functions, each of them "may" be called.  To analyze them would say which, but is not to be had
 * for the expressions of PL/pgSQL, whose variables have no types before they are run, and would run input functions of
 * the user's types.  What the server has bound when the function was made, bodies in BEGIN ATOMIC and defaults of arguments, is
 * in pg_depend.  Strings that are executed cannot be seen, nor other languages.
 *
 * What is the server's own, or an extension's, it names where the same call may have another result in a replay (changing.c).
 *
 * A body that cannot be parsed is no error here: its steps will raise it.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_language.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/proclang.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "parser/analyze.h"
#include "parser/parser.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/resowner.h"
#include "utils/syscache.h"

#include "callees.h"
#include "changing.h"
#include "code.h"
#include "compat.h"
#include "errors.h"
#include "plwalk.h"

/* a function or an operator that is called, from outside of the copies */
typedef struct Callee
{
	ObjectAddress object;
	const WfCode *caller;
	int			position;		/* of the caller among the codes */
	bool		maybe;			/* others fit as well */
	char	   *name;			/* for report() */
} Callee;

typedef struct Search
{
	const List *codes;			/* of WfCode *, as published */
	List	   *copies;			/* OIDs of what is run for them */
	const WfCode *caller;		/* being read */
	int			position;		/* of that */
	List	   *callees;		/* of Callee * */
	List	   *changing;		/* of Changing * */
	MemoryContext memory;		/* of those lists */
} Search;

/* a function that the server or an extension has, or a value that SQL has a word for, which is not the same in a replay */
typedef struct Changing
{
	const WfCode *caller;
	bool		maybe;
	char	   *name;
	const char *instead;		/* or NULL */
} Changing;

/*
 * Whether it comes with the server, with an extension or with the copy.
 */
static bool
is_within(const Search *search, Oid class, Oid object)
{
	if (object < FirstNormalObjectId || OidIsValid(getExtensionOfObject(class, object)))
		return true;
	return class == ProcedureRelationId && list_member_oid(search->copies, object);
}

static void
note(Search *search, Oid class, Oid object, bool maybe)
{
	MemoryContext old;
	Callee	   *callee;
	ListCell   *lc;

	if (is_within(search, class, object))
		return;
	foreach(lc, search->callees)
	{
		callee = lfirst(lc);
		if (callee->caller == search->caller && callee->object.classId == class && callee->object.objectId == object)
		{
			callee->maybe = callee->maybe && maybe;
			return;
		}
	}
	old = MemoryContextSwitchTo(search->memory);
	callee = palloc0(sizeof(Callee));
	ObjectAddressSet(callee->object, class, object);
	callee->caller = search->caller;
	callee->position = search->position;
	callee->maybe = maybe;
	search->callees = lappend(search->callees, callee);
	MemoryContextSwitchTo(old);
}

static void
note_changing(Search *search, const char *name, const char *instead, bool maybe)
{
	MemoryContext old;
	Changing   *changing;
	ListCell   *lc;

	foreach(lc, search->changing)
	{
		changing = lfirst(lc);
		if (changing->caller == search->caller && strcmp(changing->name, name) == 0)
		{
			changing->maybe = changing->maybe && maybe;
			return;
		}
	}
	old = MemoryContextSwitchTo(search->memory);
	changing = palloc(sizeof(Changing));
	changing->caller = search->caller;
	changing->maybe = maybe;
	changing->name = pstrdup(name);
	changing->instead = instead;
	search->changing = lappend(search->changing, changing);
	MemoryContextSwitchTo(old);
}

/*
 * A function that a call is of, or may be.
 */
static void
note_function(Search *search, Oid function, bool maybe)
{
	const char *instead;

	note(search, ProcedureRelationId, function, maybe);
	if (wf_changing_function(function, &instead))
	{
		char	   *name = get_func_name(function);

		note_changing(search, psprintf("%s()", name), instead, maybe);
	}
}

/*
 * A word of SQL's own.
 */
static void
note_value(Search *search, const SQLValueFunction *value)
{
	const char *instead;
	const char *name = wf_changing_value(value->op, &instead);

	if (name != NULL)
		note_changing(search, name, instead, false);
}

/*
 * The names of a call's named arguments, which come last.
 */
static List *
argument_names(const FuncCall *call)
{
	List	   *names = NIL;
	ListCell   *lc;

	foreach(lc, call->args)
	{
		if (IsA(lfirst(lc), NamedArgExpr))
			names = lappend(names, ((NamedArgExpr *) lfirst(lc))->name);
	}
	return names;
}

/*
 * Notes the functions that a call's name and number of arguments fit.
 */
static void
note_functions(Search *search, const FuncCall *call, bool procedure)
{
	int			count = list_length(call->args) + (call->agg_within_group ? list_length(call->agg_order) : 0);
	FuncCandidateList found;

	found = FuncnameGetCandidates(call->funcname, count, argument_names(call), !call->func_variadic, true, procedure, true);
	for (FuncCandidateList candidate = found; candidate != NULL; candidate = candidate->next)
		note_function(search, candidate->oid, found->next != NULL);
}

/*
 * Notes the operators of that name, unless the server or an extension has some of that name: those are what is meant, as
 * far as can be told without types.
 */
static void
note_operators(Search *search, const A_Expr *expr)
{
	FuncCandidateList found = OpernameGetCandidates(expr->name, expr->lexpr != NULL ? 'b' : 'l', true);
	FuncCandidateList candidate;

	for (candidate = found; candidate != NULL; candidate = candidate->next)
		if (is_within(search, OperatorRelationId, candidate->oid))
			return;
	for (candidate = found; candidate != NULL; candidate = candidate->next)
		note(search, OperatorRelationId, candidate->oid, found->next != NULL);
}

static bool
walk(Node *node, void *arg)
{
	if (node == NULL)
		return false;
	if (IsA(node, FuncCall))
		note_functions(arg, (FuncCall *) node, false);
	else if (IsA(node, A_Expr))
		note_operators(arg, (A_Expr *) node);
	else if (IsA(node, SQLValueFunction))
		note_value(arg, (SQLValueFunction *) node);
	return raw_expression_tree_walker(node, walk, arg);
}

/*
 * Parses SQL and looks at those of its statements that have expressions: the server's walker does not know the others.
 */
static void
visit_query(const char *query, RawParseMode mode, void *arg)
{
	ListCell   *lc;

	foreach(lc, raw_parser(query, mode))
	{
		RawStmt    *raw = lfirst_node(RawStmt, lc);

		switch (nodeTag(raw->stmt))
		{
			case T_CallStmt:
				note_functions(arg, ((CallStmt *) raw->stmt)->funccall, true);
				(void) walk((Node *) ((CallStmt *) raw->stmt)->funccall->args, arg);
				break;
			case T_DeclareCursorStmt:
			case T_ExplainStmt:
			case T_CreateTableAsStmt:
				break;
			default:
				if (analyze_requires_snapshot(raw))
					(void) walk(raw->stmt, arg);
		}
	}
}

/*
 * The same in a body that the server has bound.  Which of the users' functions it calls is in pg_depend.
 */
static bool
walk_bound(Node *node, void *arg)
{
	const char *instead;

	if (node == NULL)
		return false;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, walk_bound, arg, 0);
	if (IsA(node, FuncExpr) && wf_changing_function(((FuncExpr *) node)->funcid, &instead))
		note_changing(arg, psprintf("%s()", get_func_name(((FuncExpr *) node)->funcid)), instead, false);
	else if (IsA(node, SQLValueFunction))
		note_value(arg, (SQLValueFunction *) node);
	return expression_tree_walker(node, walk_bound, arg);
}

/*
 * What the server knows that the function depends on.
 */
static void
read_dependencies(Search *search, Oid function)
{
	Relation	depend = table_open(DependRelationId, AccessShareLock);
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&keys[0], Anum_pg_depend_classid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(ProcedureRelationId));
	ScanKeyInit(&keys[1], Anum_pg_depend_objid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(function));
	scan = systable_beginscan(depend, DependDependerIndexId, true, NULL, lengthof(keys), keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend row = (Form_pg_depend) GETSTRUCT(tuple);

		if (row->refclassid == ProcedureRelationId || row->refclassid == OperatorRelationId)
			note(search, row->refclassid, row->refobjid, false);
	}
	systable_endscan(scan);
	table_close(depend, AccessShareLock);
}

static char *
get_text(HeapTuple tuple, AttrNumber column)
{
	bool		isnull;
	Datum		value = SysCacheGetAttr(PROCOID, tuple, column, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

/*
 * Puts the search_path in force that the function has by a SET of its own.
 */
static void
set_own_path(HeapTuple tuple)
{
	static const char prefix[] = "search_path=";
	bool		isnull;
	Datum		config = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_proconfig, &isnull);
	Datum	   *items;
	int			count;

	if (isnull)
		return;
	deconstruct_array(DatumGetArrayTypeP(config), TEXTOID, -1, false, TYPALIGN_INT, &items, NULL, &count);
	for (int i = 0; i < count; i++)
	{
		char	   *item = TextDatumGetCString(items[i]);

		if (strncmp(item, prefix, strlen(prefix)) == 0)
			(void) set_config_option("search_path", item + strlen(prefix), PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
									 true, 0, false);
	}
}

/*
 * Reads one of the copies.
 */
static void
read_body(Search *search, Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Oid			language;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", function);
	language = ((Form_pg_proc) GETSTRUCT(tuple))->prolang;
	read_dependencies(search, function);
	set_own_path(tuple);
	if (!heap_attisnull(tuple, Anum_pg_proc_prosqlbody, NULL))
		(void) walk_bound(stringToNode(get_text(tuple, Anum_pg_proc_prosqlbody)), search);
	else if (language == SQLlanguageId)
		visit_query(get_text(tuple, Anum_pg_proc_prosrc), RAW_PARSE_DEFAULT, search);
	else if (language == get_language_oid("plpgsql", true))
		wf_plwalk_expressions(function, visit_query, search);
	ReleaseSysCache(tuple);
}

/*
 * read_body() in a subtransaction, which also puts settings back.  What was found before an error stays.
 */
static void
try_read_body(Search *search, Oid function)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		MemoryContextSwitchTo(caller);
		read_body(search, function);
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(caller);
		CurrentResourceOwner = owner;
		if (wf_error_is_passing(error))
			ReThrowError(error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
}

/*
 * Reads all copies as their owner.  Both flags, for the reason given in handler.c.
 */
static void
read_bodies(Search *search, const WfWorkflow *workflow, const char *search_path)
{
	int			level = NewGUCNestLevel();
	Oid			userid;
	int			sec_context;
	ListCell   *lc;
	ListCell   *copy;

	GetUserIdAndSecContext(&userid, &sec_context);
	SetUserIdAndSecContext(workflow->owner, sec_context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	(void) set_config_option("search_path", search_path, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	forboth(lc, search->codes, copy, search->copies)
	{
		search->caller = lfirst(lc);
		search->position = foreach_current_index(lc);
		if (!search->caller->by_name && OidIsValid(lfirst_oid(copy)))
			try_read_body(search, lfirst_oid(copy));
	}
	SetUserIdAndSecContext(userid, sec_context);
	AtEOXact_GUC(false, level);
}

/*
 * Whether it is the function that a copy was made from.
 */
static bool
has_copy(const Search *search, const Callee *callee)
{
	ListCell   *lc;

	foreach(lc, search->codes)
	{
		const WfCode *code = lfirst(lc);

		if (callee->object.classId == ProcedureRelationId && code->function == callee->object.objectId)
			return true;
	}
	return false;
}

static char *
name_of(const Callee *callee)
{
	if (callee->object.classId == ProcedureRelationId)
		return format_procedure(callee->object.objectId);
	return psprintf("operator %s", format_operator(callee->object.objectId));
}

static int
compare_callees(const ListCell *a, const ListCell *b)
{
	const Callee *x = lfirst(a);
	const Callee *y = lfirst(b);

	return x->position != y->position ? x->position - y->position : strcmp(x->name, y->name);
}

/*
 * Names all callees, with their schemas, and brings them into an order.
 */
static void
sort_callees(Search *search)
{
	ListCell   *lc;

	foreach(lc, search->callees)
		((Callee *) lfirst(lc))->name = name_of(lfirst(lc));
	list_sort(search->callees, compare_callees);
}

static void
append_callee(StringInfo buf, const Callee *callee, bool has_copy)
{
	appendStringInfo(buf, "%s%s %s %s%s", buf->len > 0 ? "\n" : "", format_procedure(callee->caller->function),
					 callee->maybe ? "may call" : "calls", callee->name, has_copy ? ", and not its copy" : "");
}

static void
report(Search *search, const char *workflow, int version)
{
	int			level = NewGUCNestLevel();
	bool		outside = false;
	bool		bypassing = false;
	StringInfoData detail;
	ListCell   *lc;

	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	initStringInfo(&detail);
	sort_callees(search);
	foreach(lc, search->callees)
	{
		bool		copied = has_copy(search, lfirst(lc));

		append_callee(&detail, lfirst(lc), copied);
		outside |= !copied;
		bypassing |= copied;
	}
	AtEOXact_GUC(false, level);
	ereport(NOTICE,
			(errmsg("version %d of workflow \"%s\" calls functions outside of its copy: a change of them changes history", version,
					workflow),
			 errdetail_internal("%s", detail.data),
			 errhint("%s%s%s", outside ? "Functions can be passed to define() as helpers." : "", outside && bypassing ? " " : "",
					 bypassing ? "Code of a version with helpers reaches copies by their bare names, from bodies that are strings, without a search_path of its own." : "")));
}

/*
 * Names what changes by itself.
 */
static void
report_changing(Search *search, const char *workflow, int version)
{
	int			level = NewGUCNestLevel();
	StringInfoData detail;
	ListCell   *lc;

	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	initStringInfo(&detail);
	foreach(lc, search->changing)
	{
		const Changing *changing = lfirst(lc);

		appendStringInfo(&detail, "%s%s %s %s", detail.len > 0 ? "\n" : "", format_procedure(changing->caller->function),
						 changing->maybe ? "may call" : "calls", changing->name);
		if (changing->instead != NULL)
			appendStringInfo(&detail, "; use %s", changing->instead);
	}
	AtEOXact_GUC(false, level);
	ereport(NOTICE,
			(errmsg("version %d of workflow \"%s\" calls functions whose result changes: a replay would differ", version, workflow),
			 errdetail_internal("%s", detail.data),
			 errhint("What a handler needs to know of the world belongs in payloads, or in the input.")));
}

/*
 * Says what a version that was just published calls outside of its copies, and what would not be the same in a replay, in a
 * NOTICE each; nothing where there is nothing.
 */
void
wf_callees_point_out(const WfWorkflow *workflow, int version, const List *codes, const char *search_path)
{
	Search		search = {.codes = codes,.memory = CurrentMemoryContext};
	ListCell   *lc;

	foreach(lc, codes)
	{
		const WfCode *code = lfirst(lc);
		WfCode	   *copy = wf_code_find(code->qualified, code->arguments, code->text, workflow->workflow_id, version);

		search.copies = lappend_oid(search.copies, copy != NULL ? copy->function : InvalidOid);
	}
	read_bodies(&search, workflow, search_path);
	if (search.callees != NIL)
		report(&search, workflow->name, version);
	if (search.changing != NIL)
		report_changing(&search, workflow->name, version);
}
