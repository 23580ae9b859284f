/*
 * forecast.c: forecast() and forecasts(): what would happen to an instance up to a time, if nobody else did anything.
 *
 * A draft (draft.h) is filled as a turn would fill it, and let loose on its mailbox and on hypothetical events with the
 * clock at the end of the time asked for; a watcher sees each row that would be added to the log.  The draft and what
 * it would have others do are then forgotten, but for what it sends to itself.  Nothing is written, so this works in a
 * read-only transaction and on a standby.  All is read with the caller's snapshot.  The caller must be able to read.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "acl.h"
#include "check.h"
#include "clock.h"
#include "compat.h"
#include "draft.h"
#include "errors.h"
#include "guc.h"
#include "handler.h"
#include "inbox.h"
#include "object.h"
#include "replay.h"
#include "rows.h"
#include "spi.h"

/* more events than that are not forecast: a timer that sets itself goes on for ever */
#define MAX_STEPS 100000

PG_FUNCTION_INFO_V1(wfproc_forecast);
PG_FUNCTION_INFO_V1(wfproc_forecasts);

/* the forecast of one instance */
typedef struct Forecast
{
	WfDraft		draft;
	WfOutput	output;
	WfWatcher	watcher;
	List	   *extra;			/* of WfEvent *, which are copied */
	bool		waits;			/* it is paused: it goes on as if resumed,
								 * once its control events are dealt with */
	int			steps;
	char	   *error;			/* why it went no further, or NULL */
	ReturnSetInfo *rows;		/* where each step goes, or NULL */
	MemoryContext row_memory;	/* reset after each row */
} Forecast;

/*
 * One row of forecast(); state NULL: there is none.
 */
static void
put_step(Forecast *forecast, int64 seq, const WfEvent *event, Jsonb *state, const List *actions, const char *error)
{
	MemoryContext old;
	Datum		values[6];
	bool		nulls[6];

	if (forecast->rows == NULL)
		return;
	old = MemoryContextSwitchTo(forecast->row_memory);
	memset(nulls, true, sizeof(nulls));
	wf_row_set(values, nulls, 1, Int64GetDatum(seq));
	if (event != NULL)
	{
		wf_row_set(values, nulls, 2, TimestampTzGetDatum(event->at));
		wf_row_set_text(values, nulls, 3, event->name);
	}
	wf_row_set_jsonb(values, nulls, 4, state);
	if (state != NULL)
		wf_row_set_jsonb(values, nulls, 5, wf_action_as_jsonb(actions));
	wf_row_set_text(values, nulls, 6, error);
	tuplestore_putvalues(forecast->rows->setResult, forecast->rows->setDesc, values, nulls);
	MemoryContextSwitchTo(old);
	MemoryContextReset(forecast->row_memory);
}

/*
 * A row would be added to the log.  Where the process pauses by itself, what made it is an error of the forecast.
 */
static void
note_step(const WfFold *fold, const WfLogRow *row, const List *actions, void *arg)
{
	Forecast   *forecast = arg;
	const char *by;

	if (strcmp(row->event.name, "$pause") == 0 &&
		(by = wf_object_get_text(row->event.payload, "by")) != NULL && strcmp(by, "engine") == 0)
		forecast->error = wf_object_get_text(row->event.payload, "reason");
	put_step(forecast, row->seq, &row->event, fold->state, actions, forecast->error);
	/* nobody will write them */
	forecast->output.log_count = 0;
}

/*
 * A handler has raised: what comes of it is a matter of retries, so the forecast ends here.
 */
static void
note_failure(const WfFold *fold, const WfEvent *event, const ErrorData *error, void *arg)
{
	Forecast   *forecast = arg;

	forecast->error = wf_error_summary(error);
	put_step(forecast, fold->seq + 1, event, NULL, NIL, forecast->error);
}

/*
 * Of what the process sends only its letters to itself arrive.
 */
static void
deliver_letters(Forecast *forecast)
{
	WfDraft    *draft = &forecast->draft;
	ListCell   *lc;

	foreach(lc, forecast->output.letters)
	{
		WfLetter   *letter = lfirst(lc);

		if (letter->birth == NULL && !letter->undone && strcmp(letter->id, draft->row.id) == 0 &&
			letter->event.at <= forecast->output.now)
			wf_inbox_add(draft, wf_inbox_make(&forecast->output, draft->instance_id, &letter->event, letter->depth));
	}
	forecast->output.letters = NIL;
}

/*
 * Handles one piece of mail.  A request for a snapshot or to leave memory ends a turn, but no forecast.
 */
static void
step(Forecast *forecast)
{
	WfDraft    *draft = &forecast->draft;

	if (++forecast->steps > MAX_STEPS)
	{
		forecast->error = psprintf("more than %d events up to that time", MAX_STEPS);
		return;
	}
	(void) wf_draft_handle(draft, &forecast->output);
	if (draft->wants_snapshot || draft->wants_passivation)
		draft->stopped = draft->wants_snapshot = draft->wants_passivation = false;
	deliver_letters(forecast);
}

/*
 * A paused process is taken to be resumed after the control events that wait for it.
 */
static void
resume(Forecast *forecast)
{
	WfDraft    *draft = &forecast->draft;

	if (!forecast->waits || draft->unread_at == WF_AT_ONCE || draft->next < draft->count)
		return;
	forecast->waits = false;
	if (draft->row.status != WF_PAUSED || draft->broken)
		return;
	draft->row.status = WF_RUNNING;
	draft->row.error = NULL;
	draft->stopped = false;
}

/*
 * All steps, within a stretch of handler.h.
 */
static void
simulate(void *arg)
{
	Forecast   *forecast = arg;
	WfDraft    *draft = &forecast->draft;
	WfPlace		place;
	bool		unread;

	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		resume(forecast);
		if (forecast->error != NULL || !wf_inbox_place(draft, forecast->output.now, &place, &unread))
			break;
		if (unread)
			wf_inbox_read(draft, &forecast->output);
		else
			step(forecast);
		if (draft->more_control)
			forecast->error = pstrdup("too many control events wait");
	}
	if (draft->broken && forecast->error == NULL)
	{
		forecast->error = draft->row.error;
		put_step(forecast, draft->fold.seq + 1, NULL, NULL, NIL, forecast->error);
	}
}

/*
 * Fills the draft as a turn would.  False with the error set where its log cannot be folded.
 */
static bool
fill_draft(Forecast *forecast, WfWorkflow *workflow, const WfInstance *instance, Snapshot snapshot)
{
	WfDraft    *draft = &forecast->draft;
	WfDivergence divergence;

	draft->workflow = workflow;
	draft->row = *instance;
	draft->row.retry_at = DT_NOBEGIN;
	draft->instance_id = instance->instance_id;
	draft->version = wf_workflow_version(workflow, instance->version);
	draft->loaded = true;
	draft->unread_at = WF_AT_ONCE;
	if (draft->version->problem != NULL)
		forecast->error = psprintf("version %d cannot be run: %s", instance->version, draft->version->problem);
	else
	{
		wf_replay_load(workflow, instance, snapshot, &draft->fold, &draft->snapshot_seq, &divergence);
		if (divergence.seq != 0)
			forecast->error = psprintf("diverged at seq " INT64_FORMAT ": %s", divergence.seq, divergence.reason);
	}
	if (forecast->error == NULL && instance->state_timers)
		wf_timers_load(&draft->timers, draft->instance_id, snapshot, NIL);
	return forecast->error == NULL;
}

/*
 * Hypothetical events come from outside, after those of their stamp that are in the mailbox.
 */
static void
add_extra(Forecast *forecast)
{
	ListCell   *lc;

	foreach(lc, forecast->extra)
	{
		const WfEvent *event = lfirst(lc);
		WfMail	   *mail;

		if (event->at > forecast->output.now)
			continue;
		mail = wf_inbox_make(&forecast->output, forecast->draft.instance_id, event, 0);
		mail->origin = WF_FROM_OUTSIDE;
		wf_inbox_add(&forecast->draft, mail);
	}
}

/*
 * The whole forecast of one instance.  False where it could not be begun: the error says why.
 */
static bool
run_forecast(Forecast *forecast, WfWorkflow *workflow, const WfInstance *instance, TimestampTz until)
{
	Snapshot	snapshot = GetActiveSnapshot();

	if (!fill_draft(forecast, workflow, instance, snapshot))
		return false;
	forecast->waits = instance->status == WF_PAUSED;
	forecast->watcher.added = note_step;
	forecast->watcher.failed = note_failure;
	forecast->watcher.arg = forecast;
	forecast->output.watcher = &forecast->watcher;
	forecast->output.snapshot = snapshot;
	forecast->output.now = until;
	add_extra(forecast);
	wf_handler_stretch(simulate, forecast);
	return true;
}

static void
bad_extra(int number, const char *problem)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("element %d of argument \"extra\" %s", number, problem),
			 errhint("For example [{\"event\": \"paid\", \"payload\": {\"amount\": 7}, \"at\": \"2030-01-01T00:00:00Z\"}].")));
}

/*
 * A string of an element; NULL where there is none, an error where it is something else.
 */
static char *
get_string(Jsonb *element, int number, const char *key)
{
	Jsonb	   *value = wf_object_get(element, key);
	char	   *string = wf_object_get_text(element, key);

	if (value != NULL && string == NULL)
		bad_extra(number, psprintf("must have a string as \"%s\"", key));
	return string;
}

static void
check_keys(Jsonb *element, int number)
{
	static const char *const known[] = {"event", "payload", "at", "sender"};
	int			found = 0;

	for (int i = 0; i < lengthof(known); i++)
		found += wf_object_get(element, known[i]) != NULL;
	if (found != JB_ROOT_COUNT(element))
		bad_extra(number, "may have the keys event, payload, at and sender only");
}

/*
 * One hypothetical event.  It may be one that only the engine sends, such as child.completed: an answer that is supposed;
 * but no control event, and no second start.
 */
static WfEvent *
parse_event(Jsonb *element, int number)
{
	WfEvent    *event = palloc0(sizeof(WfEvent));
	char	   *at;

	if (!JB_ROOT_IS_OBJECT(element))
		bad_extra(number, "must be an object");
	check_keys(element, number);
	event->name = get_string(element, number, "event");
	if (event->name == NULL)
		bad_extra(number, "must have the key \"event\"");
	wf_check_event_name(event->name, WF_IS_ENGINE_EVENT(event->name) || strcmp(event->name, "start") == 0);
	event->payload = wf_object_get(element, "payload");
	if (event->payload == NULL)
		event->payload = wf_check_empty_object();
	wf_check_size(event->payload, wf_max_payload, "payload", "wfproc.max_payload");
	event->sender = get_string(element, number, "sender");
	if (event->sender != NULL)
		wf_check_name_text(event->sender, "sender");
	at = get_string(element, number, "at");
	event->at = at == NULL ? wf_clock_now() :
		DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(at), ObjectIdGetDatum(InvalidOid),
												Int32GetDatum(-1)));
	wf_clock_check_finite(event->at, "at");
	return event;
}

/*
 * The argument extra as a list of WfEvent *; SQL NULL is none.
 */
static List *
get_extra(FunctionCallInfo fcinfo, int argno)
{
	List	   *events = NIL;
	Jsonb	   *extra;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	value;

	if (PG_ARGISNULL(argno))
		return NIL;
	extra = PG_GETARG_JSONB_P(argno);
	if (!JB_ROOT_IS_ARRAY(extra) || JB_ROOT_IS_SCALAR(extra))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"extra\" must be a JSON array"),
				 errhint("It lists events: [{\"event\": \"paid\", \"at\": \"2030-01-01T00:00:00Z\"}].")));
	it = JsonbIteratorInit(&extra->root);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
		if (token == WJB_ELEM)
			events = lappend(events, parse_event(JsonbValueToJsonb(&value), list_length(events) + 1));
	return events;
}

static TimestampTz
get_until(FunctionCallInfo fcinfo)
{
	wf_check_not_null(fcinfo, 1, "until");
	wf_clock_check_finite(PG_GETARG_TIMESTAMPTZ(1), "until");
	return PG_GETARG_TIMESTAMPTZ(1);
}

/*
 * forecast(id, until, extra) -> a row for each event that would be handled; the last one tells of an error, where there is
 * one.  None for an instance that has closed.
 */
Datum
wfproc_forecast(PG_FUNCTION_ARGS)
{
	Forecast   *forecast = palloc0(sizeof(Forecast));
	WfInstance	instance;
	WfWorkflow *workflow;
	TimestampTz until;

	wf_check_not_in_handler("forecast");
	until = get_until(fcinfo);
	forecast->extra = get_extra(fcinfo, 2);
	workflow = wf_instance_get(wf_check_name(fcinfo, 0, "id"), WF_PRIV_READ, &instance);
	InitMaterializedSRF(fcinfo, 0);
	forecast->rows = (ReturnSetInfo *) fcinfo->resultinfo;
	forecast->row_memory = AllocSetContextCreate(CurrentMemoryContext, "wfproc forecast row", ALLOCSET_DEFAULT_SIZES);
	if (WF_IS_CLOSED(instance.status))
		return (Datum) 0;
	if (!run_forecast(forecast, workflow, &instance, until))
		ereport(ERROR,
				(errcode(ERRCODE_WF_DIVERGED),
				 errmsg("instance \"%s\" cannot be forecast: %s", instance.id, forecast->error),
				 errhint("wfproc.verify() checks the whole log, wfproc.replay() shows each step.")));
	if (forecast->steps > MAX_STEPS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("forecast of instance \"%s\" has more than %d events up to that time", instance.id, MAX_STEPS),
				 errhint("Ask for an earlier time.")));
	return (Datum) 0;
}

/*
 * The numbers of a workflow's open instances in the order of their ids, as of the caller's snapshot.
 */
static int64 *
find_open(const WfWorkflow *workflow, int *count)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT4OID};
	MemoryContext caller = CurrentMemoryContext;
	Datum		values[1];
	int64	   *numbers;
	WfSpi		spi;

	values[0] = Int32GetDatum(workflow->workflow_id);
	wf_spi_begin(&spi);
	*count = wf_spi_execute(&plan,
							"SELECT instance_id FROM wfproc.instance WHERE workflow_id = $1 AND closed_at IS NULL ORDER BY id",
							lengthof(types), types, values, NULL, true, SPI_OK_SELECT);
	numbers = MemoryContextAllocHuge(caller, Max(*count, 1) * sizeof(int64));
	for (int i = 0; i < *count; i++)
	{
		bool		isnull;

		numbers[i] = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
	}
	wf_spi_end(&spi);
	return numbers;
}

/*
 * Where one instance would be.
 */
static void
put_end(ReturnSetInfo *rows, const Forecast *forecast, const WfInstance *instance, bool begun)
{
	const WfFold *fold = &forecast->draft.fold;
	Datum		values[6];
	bool		nulls[6];

	memset(nulls, true, sizeof(nulls));
	wf_row_set_text(values, nulls, 1, instance->id);
	wf_row_set_text(values, nulls, 2, wf_instance_status_name(begun ? forecast->draft.row.status : instance->status));
	if (begun)
	{
		wf_row_set(values, nulls, 3, Int64GetDatum(fold->seq));
		if (fold->seq > 0)
			wf_row_set(values, nulls, 4, TimestampTzGetDatum(fold->clock));
		wf_row_set_jsonb(values, nulls, 5, fold->state);
	}
	wf_row_set_text(values, nulls, 6, forecast->error);
	tuplestore_putvalues(rows->setResult, rows->setDesc, values, nulls);
}

/*
 * forecasts(workflow, until, extra) -> a row for each open instance: where it would be, or why that cannot be said
 */
Datum
wfproc_forecasts(PG_FUNCTION_ARGS)
{
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "wfproc forecast", ALLOCSET_DEFAULT_SIZES);
	WfWorkflow *workflow;
	TimestampTz until;
	List	   *extra;
	int64	   *numbers;
	int			count;

	wf_check_not_in_handler("forecasts");
	until = get_until(fcinfo);
	extra = get_extra(fcinfo, 2);
	wf_workflow_refresh();
	workflow = wf_workflow_by_name(wf_check_name(fcinfo, 0, "workflow"), false);
	wf_acl_require(workflow, GetUserId(), WF_PRIV_READ);
	InitMaterializedSRF(fcinfo, 0);
	numbers = find_open(workflow, &count);
	for (int i = 0; i < count; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(memory);
		Forecast   *forecast = palloc0(sizeof(Forecast));
		WfInstance	instance;
		bool		begun;

		CHECK_FOR_INTERRUPTS();
		forecast->extra = extra;
		if (wf_instance_read(numbers[i], GetActiveSnapshot(), &instance))
		{
			begun = run_forecast(forecast, workflow, &instance, until);
			put_end((ReturnSetInfo *) fcinfo->resultinfo, forecast, &instance, begun);
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(memory);
	}
	return (Datum) 0;
}
