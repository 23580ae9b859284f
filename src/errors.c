/*
 * errors.c: what an error says about who raised it, and how it is told.
 *
 * A handler can raise any SQLSTATE: by RAISE, or with an error that another server has sent it.  So a code alone never says that
 * an error is the engine's affair and not the handler's.  Where that matters, for a cancel, the place in the server's code that
 * raised it does: only ProcessInterrupts() carries out a cancel of this session, and no function can raise in its name.  An
 * error that a handler has caught and raises again by a bare RAISE keeps its place.
 *
 * What passes (a lock that was not got, no memory, a connection that is lost, a limit of time) says nothing about the code,
 * whoever raised it.  A step that fails with it is tried again, and counted only when that goes on; a log that cannot be folded for it
 * is neither good nor bad, and is folded again later.  Which is which is a table in docs/DESIGN.md.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"

#include "errors.h"

/* bytes of what is told besides the message */
#define MAX_CONTEXT 3000

bool
wf_error_is_cancel(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_QUERY_CANCELED && error->filename != NULL && error->funcname != NULL &&
		strcmp(error->filename, "postgres.c") == 0 && strcmp(error->funcname, "ProcessInterrupts") == 0;
}

/*
 * A plan that a handler's session has kept, of a table that was altered since: made anew at the next try.
 */
static bool
is_old_plan(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_FEATURE_NOT_SUPPORTED && error->message_id != NULL &&
		strcmp(error->message_id, "cached plan must not change result type") == 0;
}

bool
wf_error_is_passing(const ErrorData *error)
{
	switch (ERRCODE_TO_CATEGORY(error->sqlerrcode))
	{
		case ERRCODE_CONNECTION_EXCEPTION:
		case ERRCODE_TRANSACTION_ROLLBACK:
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_OPERATOR_INTERVENTION:
			return true;
		default:
			return error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE || is_old_plan(error);
	}
}

/*
 * A cancel or a shutdown that is not this session's is another server's, which a handler has asked: it counts at once.
 */
bool
wf_error_is_repeated(const ErrorData *error)
{
	if (ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION)
		return wf_error_is_cancel(error);
	return wf_error_is_passing(error);
}

/*
 * The server refuses it to every handler, whatever is in the tables.
 */
bool
wf_error_is_hopeless(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_READ_ONLY_SQL_TRANSACTION ||
		error->sqlerrcode == ERRCODE_INVALID_TRANSACTION_TERMINATION;
}

bool
wf_error_is_taken(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_UNIQUE_VIOLATION || error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED;
}

bool
wf_error_is_harmless(int sqlerrcode)
{
	return sqlerrcode == ERRCODE_QUERY_CANCELED || sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		ERRCODE_TO_CATEGORY(sqlerrcode) == ERRCODE_TRANSACTION_ROLLBACK;
}

/*
 * A copy of at most limit bytes, cut between two characters, with dots where something is missing.
 */
char *
wf_error_clip(const char *text, int limit)
{
	int			len = strlen(text);

	if (len <= limit)
		return pstrdup(text);
	len = pg_mbcliplen(text, len, limit - (int) strlen("..."));
	return psprintf("%.*s...", len, text);
}

char *
wf_error_summary(const ErrorData *error)
{
	const char *message = error->message == NULL ? "missing error text" : error->message;

	return psprintf("%s: %s", unpack_sql_state(error->sqlerrcode), wf_error_clip(message, WF_MAX_MESSAGE));
}

/*
 * How much of a context is the handler's: what follows the step's own line is of whoever called run().
 */
static int
length_of_step(const char *context)
{
	const char *line = context;

	while (strncmp(line, WF_STEP_CONTEXT, strlen(WF_STEP_CONTEXT)) != 0)
	{
		const char *next = strchr(line, '\n');

		if (next == NULL)
			return strlen(context);
		line = next + 1;
	}
	return Max(line - context - 1, 0);
}

/*
 * The event, and what the server says besides the message, as psql shows it.
 */
char *
wf_error_context(const ErrorData *error, const char *event, int64 seq)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfo(&text, "EVENT:  %s, seq %lld", event, (long long) seq);
	if (error->detail != NULL)
		appendStringInfo(&text, "\nDETAIL:  %s", wf_error_clip(error->detail, WF_MAX_MESSAGE));
	if (error->hint != NULL)
		appendStringInfo(&text, "\nHINT:  %s", wf_error_clip(error->hint, WF_MAX_MESSAGE));
	if (error->context != NULL && length_of_step(error->context) > 0)
		appendStringInfo(&text, "\nCONTEXT:  %.*s", length_of_step(error->context), error->context);
	return wf_error_clip(text.data, MAX_CONTEXT);
}
