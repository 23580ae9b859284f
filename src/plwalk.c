/*
 * plwalk.c: walks the body of a PL/pgSQL function, as PL/pgSQL itself has parsed it.
 *
 * Called by callees.c.  PL/pgSQL's own compiler is loaded from its library, and the tree that it makes is walked: so what is
 * an expression and what is a string or a comment is decided by who will run it.  Nothing of the function is executed.  It is
 * compiled under the caller's search_path, and may raise what CREATE FUNCTION might.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/guc.h"

#include "plpgsql.h"

#include "plwalk.h"

typedef PLpgSQL_function *(*Compiler) (FunctionCallInfo fcinfo, bool for_validator);

/*
 * The conditions, or the values, of the arms of IF and CASE.
 */
static List *
expressions_of_arms(const PLpgSQL_stmt *stmt)
{
	List	   *found;
	ListCell   *lc;

	if (stmt->cmd_type == PLPGSQL_STMT_IF)
	{
		found = list_make1(((PLpgSQL_stmt_if *) stmt)->cond);
		foreach(lc, ((PLpgSQL_stmt_if *) stmt)->elsif_list)
			found = lappend(found, ((PLpgSQL_if_elsif *) lfirst(lc))->cond);
		return found;
	}
	found = list_make1(((PLpgSQL_stmt_case *) stmt)->t_expr);
	foreach(lc, ((PLpgSQL_stmt_case *) stmt)->case_when_list)
		found = lappend(found, ((PLpgSQL_case_when *) lfirst(lc))->expr);
	return found;
}

static List *
expressions_of_raise(const PLpgSQL_stmt_raise *stmt)
{
	List	   *found = list_copy(stmt->params);
	ListCell   *lc;

	foreach(lc, stmt->options)
		found = lappend(found, ((PLpgSQL_raise_option *) lfirst(lc))->expr);
	return found;
}

/*
 * The expressions of a statement that is a loop.
 */
static List *
expressions_of_loop(const PLpgSQL_stmt *stmt)
{
	switch (stmt->cmd_type)
	{
		case PLPGSQL_STMT_WHILE:
			return list_make1(((PLpgSQL_stmt_while *) stmt)->cond);
		case PLPGSQL_STMT_FORI:
			return list_make3(((PLpgSQL_stmt_fori *) stmt)->lower, ((PLpgSQL_stmt_fori *) stmt)->upper,
							  ((PLpgSQL_stmt_fori *) stmt)->step);
		case PLPGSQL_STMT_FORS:
			return list_make1(((PLpgSQL_stmt_fors *) stmt)->query);
		case PLPGSQL_STMT_FORC:
			return list_make1(((PLpgSQL_stmt_forc *) stmt)->argquery);
		case PLPGSQL_STMT_DYNFORS:
			return lcons(((PLpgSQL_stmt_dynfors *) stmt)->query, list_copy(((PLpgSQL_stmt_dynfors *) stmt)->params));
		case PLPGSQL_STMT_FOREACH_A:
			return list_make1(((PLpgSQL_stmt_foreach_a *) stmt)->expr);
		default:
			return NIL;
	}
}

/*
 * The expressions of a statement that works on a query or a cursor.
 */
static List *
expressions_of_query(const PLpgSQL_stmt *stmt)
{
	switch (stmt->cmd_type)
	{
		case PLPGSQL_STMT_RETURN_QUERY:
			return lcons(((PLpgSQL_stmt_return_query *) stmt)->query,
						 lcons(((PLpgSQL_stmt_return_query *) stmt)->dynquery,
							   list_copy(((PLpgSQL_stmt_return_query *) stmt)->params)));
		case PLPGSQL_STMT_EXECSQL:
			return list_make1(((PLpgSQL_stmt_execsql *) stmt)->sqlstmt);
		case PLPGSQL_STMT_DYNEXECUTE:
			return lcons(((PLpgSQL_stmt_dynexecute *) stmt)->query, list_copy(((PLpgSQL_stmt_dynexecute *) stmt)->params));
		case PLPGSQL_STMT_OPEN:
			return lcons(((PLpgSQL_stmt_open *) stmt)->argquery,
						 lcons(((PLpgSQL_stmt_open *) stmt)->query,
							   lcons(((PLpgSQL_stmt_open *) stmt)->dynquery, list_copy(((PLpgSQL_stmt_open *) stmt)->params))));
		case PLPGSQL_STMT_FETCH:
			return list_make1(((PLpgSQL_stmt_fetch *) stmt)->expr);
		case PLPGSQL_STMT_PERFORM:
			return list_make1(((PLpgSQL_stmt_perform *) stmt)->expr);
		case PLPGSQL_STMT_CALL:
			return list_make1(((PLpgSQL_stmt_call *) stmt)->expr);
		default:
			return NIL;
	}
}

/*
 * The expressions that a statement itself has; some may be NULL.
 */
static List *
expressions_of(const PLpgSQL_stmt *stmt)
{
	switch (stmt->cmd_type)
	{
		case PLPGSQL_STMT_ASSIGN:
			return list_make1(((PLpgSQL_stmt_assign *) stmt)->expr);
		case PLPGSQL_STMT_IF:
		case PLPGSQL_STMT_CASE:
			return expressions_of_arms(stmt);
		case PLPGSQL_STMT_EXIT:
			return list_make1(((PLpgSQL_stmt_exit *) stmt)->cond);
		case PLPGSQL_STMT_RETURN:
			return list_make1(((PLpgSQL_stmt_return *) stmt)->expr);
		case PLPGSQL_STMT_RETURN_NEXT:
			return list_make1(((PLpgSQL_stmt_return_next *) stmt)->expr);
		case PLPGSQL_STMT_RAISE:
			return expressions_of_raise((PLpgSQL_stmt_raise *) stmt);
		case PLPGSQL_STMT_ASSERT:
			return list_make2(((PLpgSQL_stmt_assert *) stmt)->cond, ((PLpgSQL_stmt_assert *) stmt)->message);
		default:
			return list_concat(expressions_of_loop(stmt), expressions_of_query(stmt));
	}
}

static List *
bodies_of_block(const PLpgSQL_stmt_block *block)
{
	List	   *bodies = list_make1(block->body);
	ListCell   *lc;

	if (block->exceptions != NULL)
		foreach(lc, block->exceptions->exc_list)
			bodies = lappend(bodies, ((PLpgSQL_exception *) lfirst(lc))->action);
	return bodies;
}

static List *
bodies_of_arms(const PLpgSQL_stmt *stmt)
{
	List	   *bodies;
	ListCell   *lc;

	if (stmt->cmd_type == PLPGSQL_STMT_IF)
	{
		bodies = list_make2(((PLpgSQL_stmt_if *) stmt)->then_body, ((PLpgSQL_stmt_if *) stmt)->else_body);
		foreach(lc, ((PLpgSQL_stmt_if *) stmt)->elsif_list)
			bodies = lappend(bodies, ((PLpgSQL_if_elsif *) lfirst(lc))->stmts);
		return bodies;
	}
	bodies = list_make1(((PLpgSQL_stmt_case *) stmt)->else_stmts);
	foreach(lc, ((PLpgSQL_stmt_case *) stmt)->case_when_list)
		bodies = lappend(bodies, ((PLpgSQL_case_when *) lfirst(lc))->stmts);
	return bodies;
}

/*
 * The lists of statements that are in a statement.
 */
static List *
bodies_of(const PLpgSQL_stmt *stmt)
{
	switch (stmt->cmd_type)
	{
		case PLPGSQL_STMT_BLOCK:
			return bodies_of_block((PLpgSQL_stmt_block *) stmt);
		case PLPGSQL_STMT_IF:
		case PLPGSQL_STMT_CASE:
			return bodies_of_arms(stmt);
		case PLPGSQL_STMT_LOOP:
			return list_make1(((PLpgSQL_stmt_loop *) stmt)->body);
		case PLPGSQL_STMT_WHILE:
			return list_make1(((PLpgSQL_stmt_while *) stmt)->body);
		case PLPGSQL_STMT_FORI:
			return list_make1(((PLpgSQL_stmt_fori *) stmt)->body);
		case PLPGSQL_STMT_FORS:
		case PLPGSQL_STMT_FORC:
		case PLPGSQL_STMT_DYNFORS:
			return list_make1(((PLpgSQL_stmt_forq *) stmt)->body);
		case PLPGSQL_STMT_FOREACH_A:
			return list_make1(((PLpgSQL_stmt_foreach_a *) stmt)->body);
		default:
			return NIL;
	}
}

static void
visit_expression(const PLpgSQL_expr *expr, WfPlVisitor visit, void *arg)
{
	if (expr != NULL)
		visit(expr->query, expr->parseMode, arg);
}

static void
walk(const PLpgSQL_stmt *stmt, WfPlVisitor visit, void *arg)
{
	ListCell   *lc;
	ListCell   *inner;

	check_stack_depth();
	foreach(lc, expressions_of(stmt))
		visit_expression(lfirst(lc), visit, arg);
	foreach(lc, bodies_of(stmt))
	{
		foreach(inner, lfirst(lc))
			walk(lfirst(inner), visit, arg);
	}
}

/*
 * Defaults of variables, and queries of cursors, of all blocks.
 */
static void
walk_variables(const PLpgSQL_function *function, WfPlVisitor visit, void *arg)
{
	for (int i = 0; i < function->ndatums; i++)
	{
		const PLpgSQL_datum *datum = function->datums[i];

		if (datum->dtype == PLPGSQL_DTYPE_VAR || datum->dtype == PLPGSQL_DTYPE_PROMISE || datum->dtype == PLPGSQL_DTYPE_REC)
			visit_expression(((PLpgSQL_variable *) datum)->default_val, visit, arg);
		if (datum->dtype == PLPGSQL_DTYPE_VAR)
			visit_expression(((PLpgSQL_var *) datum)->cursor_explicit_expr, visit, arg);
	}
}

/*
 * Compiles as CREATE FUNCTION does to check a body, so that types of arguments need not be known, but without warnings
 * about style, which were given then.
 */
static PLpgSQL_function *
compile(Oid function)
{
	Compiler	compiler = (Compiler) load_external_function("$libdir/plpgsql", "plpgsql_compile", true, NULL);
	FmgrInfo	flinfo = {.fn_oid = function,.fn_mcxt = CurrentMemoryContext};

	LOCAL_FCINFO(fcinfo, 0);

	(void) set_config_option("plpgsql.extra_warnings", "none", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("plpgsql.extra_errors", "none", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	InitFunctionCallInfoData(*fcinfo, &flinfo, 0, InvalidOid, NULL, NULL);
	return compiler(fcinfo, true);
}

/*
 * Calls visit for each expression and each SQL statement of a PL/pgSQL function, with what raw_parser() needs to know.  The
 * two settings that it changes are put back with the caller's next ones.
 */
void
wf_plwalk_expressions(Oid function, WfPlVisitor visit, void *arg)
{
	PLpgSQL_function *compiled = compile(function);

	walk_variables(compiled, visit, arg);
	walk((PLpgSQL_stmt *) compiled->action, visit, arg);
}
