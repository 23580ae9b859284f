/*
 * settings.c: the settings of a workflow, and what they may be.
 *
 * Called by define().  The tables check what they can; this says it better, and before anything is written.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "check.h"
#include "settings.h"
#include "workflow.h"

/* limits that the tables do not know */
#define MAX_ACCEPTS 1000
#define MAX_RETRY_DELAY_US (365 * USECS_PER_DAY)
#define MAX_HANDLER_TIMEOUT_US USECS_PER_DAY
/* a month counts as 30 days */
#define MAX_CANCEL_DEADLINE_US (100 * 12 * 30 * USECS_PER_DAY)

const Oid	wf_setting_types[WF_SETTINGS] = {
	[WF_SETTING_ACCEPTS] = TEXTARRAYOID,
	[WF_SETTING_MAX_ATTEMPTS] = INT4OID,
	[WF_SETTING_ON_FAILURE] = TEXTOID,
	[WF_SETTING_RETRY_DELAY] = INTERVALOID,
	[WF_SETTING_HANDLER_TIMEOUT] = INTERVALOID,
	[WF_SETTING_SNAPSHOT_EVERY] = INT4OID,
	[WF_SETTING_WATCH] = BOOLOID,
	[WF_SETTING_DEAD_LETTER_EVENTS] = BOOLOID,
	[WF_SETTING_CANCEL_DEADLINE] = INTERVALOID
};

static void
check_range(int value, int min, int max, const char *argument)
{
	if (value < min || value > max)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be from %d to %d, got %d", argument, min, max, value),
				 errhint("Leave it out for the default.")));
}

/*
 * An interval setting: at least a millisecond, and not for ever.  Counted as a float, which no interval overflows; the
 * infinite ones of newer servers are far outside as well.
 */
static void
check_interval(const Interval *value, int64 max_us, const char *max, const char *argument)
{
	double		us = value->time + ((double) value->month * DAYS_PER_MONTH + value->day) * USECS_PER_DAY;

	if (us < 1000 || us > max_us)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be from 1 ms to %s, got %s", argument, max,
						DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(value)))),
				 errhint("Leave it out for the default.")));
}

static void
check_on_failure(const char *value)
{
	WfOnFailure ignored;

	if (!wf_workflow_parse_on_failure(value, &ignored))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"on_failure\" must be pause, fail or dead_letter, got \"%s\"", value),
				 errhint("After the last attempt: pause the instance, close it as failed, or set the event aside and go on.")));
}

static void
check_accepted(Datum *events, int count)
{
	for (int i = 0; i < count; i++)
	{
		char	   *event = TextDatumGetCString(events[i]);

		wf_check_name_text(event, "accepts");
		wf_check_event_name(event, true);
		for (int j = 0; j < i; j++)
			if (strcmp(event, TextDatumGetCString(events[j])) == 0)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("argument \"accepts\" has event \"%s\" twice", event),
						 errhint("Name each event once.")));
	}
}

/*
 * The names of events that clients may send.
 */
static void
check_accepts(ArrayType *array)
{
	Datum	   *events;
	int			count;

	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"accepts\" must have one dimension, got %d", ARR_NDIM(array)),
				 errhint("Give a list of event names, like '{paid,shipped}'.")));
	if (array_contains_nulls(array))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"accepts\" must not contain nulls"),
				 errhint("Give a list of event names, like '{paid,shipped}'; leave it out to accept any event.")));
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &events, NULL, &count);
	if (count > MAX_ACCEPTS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"accepts\" must have at most %d elements, got %d", MAX_ACCEPTS, count),
				 errhint("Leave it out to accept any event.")));
	check_accepted(events, count);
}

/*
 * Checks the settings that were given, in arguments from first on; NULL is left out.  A bool is always right.
 */
void
wf_settings_check(FunctionCallInfo fcinfo, int first)
{
	if (!PG_ARGISNULL(first + WF_SETTING_ACCEPTS))
		check_accepts(PG_GETARG_ARRAYTYPE_P(first + WF_SETTING_ACCEPTS));
	if (!PG_ARGISNULL(first + WF_SETTING_MAX_ATTEMPTS))
		check_range(PG_GETARG_INT32(first + WF_SETTING_MAX_ATTEMPTS), 1, 1000, "max_attempts");
	if (!PG_ARGISNULL(first + WF_SETTING_ON_FAILURE))
		check_on_failure(text_to_cstring(PG_GETARG_TEXT_PP(first + WF_SETTING_ON_FAILURE)));
	if (!PG_ARGISNULL(first + WF_SETTING_RETRY_DELAY))
		check_interval(PG_GETARG_INTERVAL_P(first + WF_SETTING_RETRY_DELAY), MAX_RETRY_DELAY_US, "365 days", "retry_delay");
	if (!PG_ARGISNULL(first + WF_SETTING_HANDLER_TIMEOUT))
		check_interval(PG_GETARG_INTERVAL_P(first + WF_SETTING_HANDLER_TIMEOUT), MAX_HANDLER_TIMEOUT_US, "1 day",
					   "handler_timeout");
	if (!PG_ARGISNULL(first + WF_SETTING_SNAPSHOT_EVERY))
		check_range(PG_GETARG_INT32(first + WF_SETTING_SNAPSHOT_EVERY), 1, PG_INT32_MAX, "snapshot_every");
	if (!PG_ARGISNULL(first + WF_SETTING_CANCEL_DEADLINE))
		check_interval(PG_GETARG_INTERVAL_P(first + WF_SETTING_CANCEL_DEADLINE), MAX_CANCEL_DEADLINE_US, "100 years",
					   "cancel_deadline");
}
