/*
 * handler.c: calls the user's function.
 *
 * Called by process.c for each event, within wf_handler_stretch(), which turn.c and replay.c use for many of
 * them: a stretch is one read-only subtransaction, so that a handler cannot write, and so that one that raises is
 * undone alone while the steps before it, which are only in memory, stay.  A subtransaction for each step would cost a
 * fifth of a short handler.
 *
 * Settings that could change a result are fixed once per stretch; user and search_path change only when the version does.  A handler's own SET
 * is undone after its step.
 */
#include "postgres.h"

#include <limits.h>

#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/memnodes.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

#include "guc.h"
#include "check.h"
#include "errors.h"
#include "handler.h"
#include "registry.h"
#include "step.h"
#include "suspect.h"
#include "watchdog.h"

/* a step that is handled again may take so many times its limit, which may have been another one then */
#define REPLAY_PATIENCE 10

/* the stretch under way */
typedef struct Stretch
{
	MemoryContext memory;		/* the caller's */
	ResourceOwner owner;		/* the caller's */
	Oid			userid;			/* the caller's */
	int			sec_context;	/* the caller's */
	WfVersion  *version;		/* whose owner and path are in force, or NULL */
	int			guc_level;		/* to undo that */
	MemoryContext last_cursor;	/* before the step */
} Stretch;

static Stretch stretch;

/* counts the subtransactions that stretches have begun */
static int64 stretch_number = 0;

/* a step's scratch memory, reset after each; keeps its first block */
static MemoryContext step_memory = NULL;

/* the server's context that has one for each cursor, the newest first */
static MemoryContext portals = NULL;

/* for wf_handler_keep_settings(): whether any was set since, and the last version's path where it was */
static bool set_any = false;
static char last_path[1024];

/* what a handler's result must not depend on */
static const struct
{
	const char *name;
	const char *value;
}			fixed_settings[] = {
	{"TimeZone", "UTC"},
	{"DateStyle", "ISO, MDY"},
	{"IntervalStyle", "postgres"},
	{"extra_float_digits", "1"},
	{"bytea_output", "hex"},
	{"lc_monetary", "C"},
	{"lc_numeric", "C"},
	{"lc_time", "C"},
	{"xmlbinary", "base64"},
	{"xmloption", "content"},
	{"default_text_search_config", "pg_catalog.simple"},
	{"array_nulls", "on"},
	{"transform_null_equals", "off"},
	{"backslash_quote", "safe_encoding"},
	{"standard_conforming_strings", "on"},
	{"quote_all_identifiers", "off"},
	{"timezone_abbreviations", "Default"},
	{"row_security", "on"},
	{"jit", "off"},
	{"max_parallel_workers_per_gather", "0"},
	{"lc_messages", "C"},
	{"gin_fuzzy_search_limit", "0"},

	/*
	 * a plan that is made for the values of one call may leave out a call
	 * that another makes
	 */
	{"plan_cache_mode", "force_generic_plan"},
	{"plpgsql.variable_conflict", "error"},
	{"plpgsql.check_asserts", "on"},
	{"plpgsql.extra_errors", "none"},
	{"plpgsql.extra_warnings", "none"},
};

static void
set_local(const char *name, const char *value)
{
	const char *present = GetConfigOption(name, true, false);

	if (present == NULL || strcmp(present, value) != 0)
	{
		(void) set_config_option(name, value, PGC_SUSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
		set_any = true;
	}
}

/*
 * Leaves the version's owner and path.
 */
static void
leave_version(void)
{
	if (stretch.version == NULL)
		return;
	stretch.version = NULL;
	AtEOXact_GUC(false, stretch.guc_level);
	SetUserIdAndSecContext(stretch.userid, stretch.sec_context);
}

/*
 * Puts the version's owner and path in force.  Both flags: with the first alone a deferred trigger of the owner's would
 * run as whoever commits.
 */
static void
enter_version(WfWorkflow *workflow, WfVersion *version)
{
	if (stretch.version == version)
		return;
	leave_version();
	stretch.guc_level = NewGUCNestLevel();
	stretch.version = version;
	SetUserIdAndSecContext(workflow->owner,
						   stretch.sec_context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	set_local("search_path", version->search_path);
	if (strlen(version->search_path) < sizeof(last_path))
		strlcpy(last_path, version->search_path, sizeof(last_path));
}

static void
keep_setting(const char *name, const char *value)
{
	const char *present = GetConfigOption(name, true, false);

	if (present == NULL || strcmp(present, value) != 0)
		SetConfigOption(name, value, PGC_SUSET, PGC_S_OVERRIDE);
}

/*
 * Between the transactions of a worker: makes what the last steps ran under the session's own settings.  Then the next stretch
 * finds nothing to set, and the end of a step, which undoes what its handler has set, is nearly free: before PostgreSQL 16 it
 * looks at each setting of the server as long as any is set for the transaction.
 */
void
wf_handler_keep_settings(void)
{
	Assert(!IsTransactionState());
	if (!set_any)
		return;
	set_any = false;
	for (int i = 0; i < lengthof(fixed_settings); i++)
		keep_setting(fixed_settings[i].name, fixed_settings[i].value);
	if (last_path[0] != '\0')
		keep_setting("search_path", last_path);
}

static void
begin_subtransaction(void)
{
	BeginInternalSubTransaction(NULL);
	stretch_number++;
	MemoryContextSwitchTo(stretch.memory);
	/* put back by the end of the subtransaction */
	XactReadOnly = true;
	PushActiveSnapshot(GetTransactionSnapshot());
	stretch.version = NULL;
	/* also put back by the end of the subtransaction */
	for (int i = 0; i < lengthof(fixed_settings); i++)
		set_local(fixed_settings[i].name, fixed_settings[i].value);
}

/*
 * Once in each process that calls handlers.  PL/pgSQL is loaded, for only then are its settings known: one that a helper loads in
 * the midst of a step would go by what the session has.
 */
static void
prepare_process(void)
{
	(void) load_external_function("$libdir/plpgsql", "plpgsql_call_handler", false, NULL);
	for (MemoryContext child = TopMemoryContext->firstchild; child != NULL; child = child->nextchild)
		if (strcmp(child->name, "TopPortalContext") == 0)
			portals = child;
	step_memory = AllocSetContextCreate(TopMemoryContext, "wfproc step", 64 * 1024, 64 * 1024, ALLOCSET_DEFAULT_MAXSIZE);
}

/*
 * The cursor that was opened last.
 */
static MemoryContext
last_cursor(void)
{
	return portals == NULL ? NULL : portals->firstchild;
}

/*
 * Begins a stretch of steps.  What is allocated in the current memory context stays when a step is undone.
 */
static void
begin_stretch(void)
{
	if (step_memory == NULL)
		prepare_process();
	stretch.memory = CurrentMemoryContext;
	stretch.owner = CurrentResourceOwner;
	GetUserIdAndSecContext(&stretch.userid, &stretch.sec_context);
	begin_subtransaction();
	wf_watchdog_start();
}

/*
 * Ends it.  What a handler did that a read-only transaction lets through is undone: NOTIFY, LOCK, advisory locks of the
 * transaction, large objects before 16; what would not be is refused (refuse.c).  A step acts by its actions alone, and a replay not at all.
 */
static void
end_stretch(void)
{
	wf_watchdog_stop();
	leave_version();
	RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(stretch.memory);
	CurrentResourceOwner = stretch.owner;
}

/*
 * An error that no step has caught: takes the subtransaction back before it goes on, for whoever catches it, an EXCEPTION
 * block of the caller's say, takes the current one for its own.
 */
static void
abandon_stretch(void)
{
	ErrorData  *error;

	MemoryContextSwitchTo(stretch.memory);
	error = CopyErrorData();
	FlushErrorState();
	wf_watchdog_stop();
	wf_suspect_end();
	RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(stretch.memory);
	CurrentResourceOwner = stretch.owner;
	ReThrowError(error);
}

/*
 * Runs body as a stretch of steps.  Stretches do not nest.
 */
void
wf_handler_stretch(void (*body) (void *arg), void *arg)
{
	Assert(MyWfStep == NULL);
	begin_stretch();
	PG_TRY();
	{
		body(arg);
	}
	PG_CATCH();
	{
		abandon_stretch();
	}
	PG_END_TRY();
	end_stretch();
}

/*
 * Closes what a step has left open, which would be in the way of the next one.  Not by another stretch: whoever reads a log in
 * this one has buffers pinned.
 */
static void
close_cursors(void)
{
	MemoryContext next;

	for (MemoryContext context = last_cursor(); context != NULL && context != stretch.last_cursor; context = next)
	{
		Portal		portal = GetPortalByName(context->ident);

		next = context->nextchild;
		/* those of the session were there before */
		if (PortalIsValid(portal) && portal->portalContext == context &&
			portal->createSubid == GetCurrentSubTransactionId())
			PortalDrop(portal, false);
	}
}

/*
 * Undoes the step that raised, and begins another stretch.
 */
static void
undo_step(void)
{
	RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(stretch.memory);
	CurrentResourceOwner = stretch.owner;
	begin_subtransaction();
}

/*
 * Another number than before: a step was undone, and with it all that its stretch had opened.
 */
int64
wf_handler_stretch_number(void)
{
	return stretch_number;
}

static void
add_context(void *arg)
{
	const WfStep *step = MyWfStep;

	if (step != NULL)
		errcontext(WF_STEP_CONTEXT "%s, instance \"%s\", event \"%s\", seq " INT64_FORMAT,
				   (const char *) arg, step->instance->id, step->event->name, step->seq);
}

/*
 * Refuses what cannot be a state.  NULL would be a silently lost update: state || NULL is NULL.
 */
static Jsonb *
check_state(FunctionCallInfo fcinfo, Datum result, const char *what)
{
	Jsonb	   *state;

	if (fcinfo->isnull)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s returned NULL for event \"%s\"", what, MyWfStep->event->name),
				 errhint("Return the next state, a JSON object; RETURN state keeps it. Note that state || NULL is NULL.")));
	state = DatumGetJsonbP(result);
	if (!JB_ROOT_IS_OBJECT(state))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s returned a JSON %s for event \"%s\"", what, JB_ROOT_IS_SCALAR(state) ? "scalar" : "array",
						MyWfStep->event->name),
				 errhint("A state is always a JSON object.")));
	if (!MyWfStep->replaying)
		wf_check_size(state, wf_max_state, "state", "wfproc.max_state");
	return state;
}

/* a call of one of a version's functions */
typedef struct Call
{
	FmgrInfo   *function;
	const char *what;			/* "handler public.f": for errors */
	Datum		args[3];
} Call;

/*
 * The call itself.
 */
static Jsonb *
invoke(const Call *call)
{
	LOCAL_FCINFO(fcinfo, 3);
	ErrorContextCallback context = {error_context_stack, add_context, unconstify(char *, call->what)};
	Datum		result;
	Jsonb	   *checked;

	error_context_stack = &context;
	InitFunctionCallInfoData(*fcinfo, call->function, 3, C_COLLATION_OID, NULL, NULL);
	for (int i = 0; i < 3; i++)
	{
		fcinfo->args[i].value = call->args[i];
		fcinfo->args[i].isnull = false;
	}
	result = FunctionCallInvoke(fcinfo);
	wf_watchdog_check();
	checked = check_state(fcinfo, result, call->what);
	if (MyWfStep->overrun != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg_internal("%s", MyWfStep->overrun)));
	error_context_stack = context.previous;
	return checked;
}

/*
 * How long the step may take, in milliseconds.
 */
static int
time_limit(const WfWorkflow *workflow, const WfStep *step)
{
	if (!step->replaying)
		return workflow->handler_timeout_ms;
	return (int) Min((int64) workflow->handler_timeout_ms * REPLAY_PATIENCE, INT_MAX);
}

/*
 * The step was cancelled because of its limits: that is its error, whatever the handler has made of it, and nobody's cancel.
 */
static void
set_limit_error(ErrorData *error, int limit_ms, WfExpired expired)
{
	error->sqlerrcode = ERRCODE_QUERY_CANCELED;
	error->filename = error->funcname = NULL;
	if (expired == WF_EXPIRED_TIME)
		error->message = psprintf("handler took longer than %d ms", limit_ms);
	else
		error->message = psprintf("handler used more than %d kB of memory", wf_handler_memory);
}

/*
 * Turns the error that is being caught into the step's.  Thrown on is only that somebody has cancelled the statement that calls
 * run() or folds a log; a worker has no statement, so what is cancelled there is the step, and the others of its turn go on.
 */
static ErrorData *
take_error(MemoryContext caller, int limit_ms, WfExpired expired)
{
	ErrorData  *error;

	MemoryContextSwitchTo(caller);
	error = CopyErrorData();
	if (expired == WF_EXPIRED_NOT && wf_error_is_cancel(error) && !wf_registry_is_worker())
		PG_RE_THROW();
	FlushErrorState();
	if (expired != WF_EXPIRED_NOT)
		set_limit_error(error, limit_ms, expired);
	if (error->sqlerrcode == ERRCODE_READ_ONLY_SQL_TRANSACTION && error->hint == NULL)
		error->hint = pstrdup("A handler only computes: it returns the next state, and asks for the rest by wfproc.send() and the like. "
							  "What is to be written elsewhere is written by who handles the message.");
	return error;
}

/*
 * Calls a function as the step's, see handler.h.
 */
static Jsonb *
call_in_step(WfWorkflow *workflow, WfVersion *version, WfStep *step, Call *call, ErrorData **error)
{
	MemoryContext caller = CurrentMemoryContext;
	Jsonb	   *volatile result = NULL;
	int			saved_depth;

	*error = NULL;
	enter_version(workflow, version);
	stretch.last_cursor = last_cursor();
	saved_depth = wf_step_enter(step);
	wf_watchdog_step_begin(time_limit(workflow, step));
	PG_TRY();
	{
		int			guc_level = NewGUCNestLevel();
		Jsonb	   *fresh;

		MemoryContextSwitchTo(step_memory);
		fresh = invoke(call);
		AtEOXact_GUC(false, guc_level);
		MemoryContextSwitchTo(caller);
		result = memcpy(palloc(VARSIZE(fresh)), fresh, VARSIZE(fresh));
		(void) wf_watchdog_step_end();
		wf_step_leave(saved_depth);
	}
	PG_CATCH();
	{
		WfExpired	expired = wf_watchdog_step_end();

		wf_step_leave(saved_depth);
		*error = take_error(caller, time_limit(workflow, step), expired);
		undo_step();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	MemoryContextReset(step_memory);
	if (last_cursor() != stretch.last_cursor)
		close_cursors();
	return result;
}

/*
 * The handler's call.  The name of the event is made in the memory of the step.
 */
Jsonb *
wf_handler_call(WfWorkflow *workflow, WfVersion *version, WfStep *step, Jsonb *state, ErrorData **error)
{
	Call		call = {&version->function, version->what};
	MemoryContext old = MemoryContextSwitchTo(step_memory);

	call.args[0] = JsonbPGetDatum(state);
	call.args[1] = CStringGetTextDatum(step->event->name);
	call.args[2] = JsonbPGetDatum(step->event->payload);
	MemoryContextSwitchTo(old);
	return call_in_step(workflow, version, step, &call, error);
}

/*
 * Turns the state over from one version to another, by the migrate function of this version.
 */
Jsonb *
wf_handler_migrate(WfWorkflow *workflow, WfVersion *version, WfStep *step, Jsonb *state, int from, int to, ErrorData **error)
{
	Call		call = {&version->migrate, "migrate"};

	call.args[0] = JsonbPGetDatum(state);
	call.args[1] = Int32GetDatum(from);
	call.args[2] = Int32GetDatum(to);
	return call_in_step(workflow, version, step, &call, error);
}
