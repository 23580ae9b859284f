/*
 * plstop.c: ends PL/pgSQL code that goes on after its time.
 *
 * Called by watchdog.c.  A cancel is one error, and an EXCEPTION block may catch it and go on.  So from then on each statement
 * raises: where a block catches one of these errors, the first statement of its handler raises the next, or the statement
 * after the block, or the next round of the loop that it is in.  No PL/pgSQL function gets past that, however deep.
 *
 * That is done by the hook that PL/pgSQL has for debuggers and the like.  It is put in place only once a step is over its limit,
 * and so costs nothing before.  Whose hooks were there sees what it sees of any statement that raises: no end.
 */
#include "postgres.h"

#include "fmgr.h"
#include "plpgsql.h"

#include "plstop.h"

/* PL/pgSQL's pointer to the hooks in force */
static PLpgSQL_plugin **in_force = NULL;

static PLpgSQL_plugin *hooks_before = NULL;
static void (*raise_error) (void) = NULL;

static void
refuse_statement(PLpgSQL_execstate *estate, PLpgSQL_stmt *stmt)
{
	raise_error();
}

static void
pass_statement(PLpgSQL_execstate *estate, PLpgSQL_stmt *stmt)
{
}

static void
pass_function(PLpgSQL_execstate *estate, PLpgSQL_function *function)
{
}

/* all are there: PL/pgSQL may have looked for one in the old hooks, and call it in these */
static PLpgSQL_plugin stopping = {
	.func_setup = pass_function,
	.func_beg = pass_function,
	.func_end = pass_function,
	.stmt_beg = refuse_statement,
	.stmt_end = pass_statement,
};

void
wf_plstop_init(void (*raise) (void))
{
	raise_error = raise;
	in_force = (PLpgSQL_plugin **) find_rendezvous_variable("PLpgSQL_plugin");
}

void
wf_plstop_begin(void)
{
	if (*in_force == &stopping)
		return;
	hooks_before = *in_force;
	*in_force = &stopping;
}

void
wf_plstop_end(void)
{
	if (*in_force == &stopping)
		*in_force = hooks_before;
}
