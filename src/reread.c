/*
 * reread.c: whether a function is what a text says, where this server prints it otherwise than that text.
 *
 * Called by code.c.  A body that is BEGIN ATOMIC or RETURN is kept as a tree, and printed from that.  Another major of the
 * server may print the same tree in other words, after pg_upgrade or in a restored dump; and a text that was printed may be
 * read to a tree that is printed differently.  So the text is parsed and analyzed here as CREATE FUNCTION would, and the trees
 * are compared.  Nothing is written: it works in read-only transactions and on a standby.
 *
 * Needs the fixed settings of code.c.  Takes what locks the analysis of the statements takes, to the end of the transaction.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_proc.h"
#include "executor/functions.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "parser/analyze.h"
#include "parser/parse_node.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "reread.h"

/*
 * The one CREATE FUNCTION that a text is.  NULL where it is something else, or more than that.
 */
static CreateFunctionStmt *
parse(const char *sql)
{
	List	   *statements = pg_parse_query(sql);

	if (list_length(statements) != 1 || !IsA(linitial_node(RawStmt, statements)->stmt, CreateFunctionStmt))
		return NULL;
	return (CreateFunctionStmt *) linitial_node(RawStmt, statements)->stmt;
}

static Query *
analyze(Node *statement, SQLFunctionParseInfoPtr info, const char *sql)
{
	ParseState *pstate = make_parsestate(NULL);
	Query	   *query;

	pstate->p_sourcetext = sql;
	sql_fn_parser_setup(pstate, info);
	query = transformStmt(pstate, statement);
	free_parsestate(pstate);
	return query;
}

/*
 * The tree as the catalogue would have it: one statement of RETURN, or a list that has the list of those of BEGIN ATOMIC.
 * Written and read once, since that forgets what is not kept.
 */
static Node *
analyze_body(Node *body, SQLFunctionParseInfoPtr info, const char *sql)
{
	Node	   *result;
	List	   *queries = NIL;
	ListCell   *lc;

	if (!IsA(body, List))
		result = (Node *) analyze(body, info, sql);
	else
	{
		foreach(lc, linitial_node(List, (List *) body))
			queries = lappend(queries, analyze(lfirst(lc), info, sql));
		result = (Node *) list_make1(queries);
	}
	return stringToNode(nodeToString(result));
}

/*
 * The same as the given role: reading a literal can call the user's own code (see create_as_owner in code.c).
 */
static Node *
analyze_body_as(Oid role, Node *body, SQLFunctionParseInfoPtr info, const char *sql)
{
	Node	   *result;
	Oid			userid;
	int			sec_context;

	GetUserIdAndSecContext(&userid, &sec_context);
	SetUserIdAndSecContext(role, SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	PushActiveSnapshot(GetTransactionSnapshot());
	result = analyze_body(body, info, sql);
	PopActiveSnapshot();
	SetUserIdAndSecContext(userid, sec_context);
	return result;
}

/*
 * Whether the function's body in the catalogue, if it is a tree, is what this one in a text is read to.
 */
static bool
is_body(HeapTuple function, Node *body, const char *sql, Oid role)
{
	bool		isnull;
	Datum		stored = SysCacheGetAttr(PROCOID, function, Anum_pg_proc_prosqlbody, &isnull);

	return !isnull && body != NULL &&
		equal(analyze_body_as(role, body, prepare_sql_fn_parse_info(function, NULL, InvalidOid), sql),
			  stringToNode(TextDatumGetCString(stored)));
}

/*
 * Whether the function, printed now as "now", is what "published" says: both go on after the name and "(".  That is read as
 * the given role.  False also where the body is a string, whose print does not change.
 */
bool
wf_reread_is_same(Oid function, const char *now, const char *published, Oid role)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	char	   *sql = psprintf("CREATE FUNCTION f(%s", published);
	CreateFunctionStmt *a;
	CreateFunctionStmt *b;
	bool		same = false;

	if (!HeapTupleIsValid(tuple))
		return false;
	a = parse(sql);
	b = parse(psprintf("CREATE FUNCTION f(%s", now));
	if (a != NULL && b != NULL)
	{
		Node	   *body = a->sql_body;

		a->sql_body = b->sql_body = NULL;
		same = equal(a, b) && is_body(tuple, body, sql, role);
	}
	ReleaseSysCache(tuple);
	return same;
}
