/*
 * guc.c: every setting of the extension, with its limits.  Called once, by _PG_init.
 *
 * What sizes shared memory is PGC_POSTMASTER and exists only where the library is preloaded; what workers read between two
 * turns is PGC_SIGHUP; what a client may be allowed to change for itself is PGC_SUSET.
 */
#include "postgres.h"

#include <limits.h>

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "guc.h"

bool		wf_enabled = true;
int			wf_workers = 1;
int			wf_max_workers = 16;
int			wf_sweep_interval = 60000;
int			wf_passivate_after = 600;
int			wf_worker_memory = 262144;
int			wf_batch_size = 8000;
int			wf_max_crashes = 2;
int			wf_scrub_rate = 100;
int			wf_scrub_age = 86400;
int			wf_max_cascade = 1000;
int			wf_max_payload = 1048576;
int			wf_max_state = 1048576;
int			wf_handler_memory = 262144;
int			wf_max_actions = 20000;
int			wf_max_postponed = 1000;
int			wf_live_tolerance = 3600;
bool		wf_superuser_handlers = true;
bool		wf_fake_now_is_set = false;
TimestampTz wf_fake_now_value = 0;

static char *fake_now_string = NULL;

/*
 * Accepts '' or a finite timestamptz.  The parsed value travels as "extra".
 */
static bool
check_fake_now(char **newval, void **extra, GucSource source)
{
	TimestampTz at;

	if (*newval == NULL || **newval == '\0')
		return true;
	at = DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(*newval),
												 ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	if (TIMESTAMP_NOT_FINITE(at))
	{
		GUC_check_errdetail("It must be a finite time.");
		return false;
	}
	*extra = guc_malloc(LOG, sizeof(TimestampTz));
	if (*extra == NULL)
		return false;
	*(TimestampTz *) *extra = at;
	return true;
}

static void
assign_fake_now(const char *newval, void *extra)
{
	wf_fake_now_is_set = extra != NULL;
	wf_fake_now_value = extra != NULL ? *(TimestampTz *) extra : 0;
}

/*
 * Settings that a worker reads, changed by a reload.
 */
static void
define_worker_settings(void)
{
	DefineCustomBoolVariable("wfproc.enabled",
							 "Whether workers run at all.",
							 "The switch for a clone that must not act, and for a server that a handler crashes again and again.",
							 &wf_enabled, true, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("wfproc.workers",
							"Workers for each database that has the extension.",
							NULL,
							&wf_workers, 1, 0, 64, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("wfproc.sweep_interval",
							"Time between two looks through the mailbox for events whose wake-up was missed.",
							NULL,
							&wf_sweep_interval, 60000, 100, 3600000, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("wfproc.passivate_after",
							"Time after which an idle process leaves its worker's memory.",
							"-1 keeps it there as long as wfproc.worker_memory allows.",
							&wf_passivate_after, 600, -1, INT_MAX / 1000, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("wfproc.worker_memory",
							"Memory that a worker spends on resident processes; the longest idle ones leave first.",
							NULL,
							&wf_worker_memory, 262144, 1024, MAX_KILOBYTES, PGC_SIGHUP, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("wfproc.batch_size",
							"Most events that one turn, which is one transaction, handles.",
							NULL,
							&wf_batch_size, 8000, 1, 100000, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("wfproc.max_crashes",
							"Times that an instance may be what a worker died on before it is paused.",
							NULL,
							&wf_max_crashes, 2, 1, 1000, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("wfproc.scrub_rate",
							"Rows of logs that an idle worker checks in a second, on average.",
							"0: none.",
							&wf_scrub_rate, 100, 0, 1000000, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("wfproc.scrub_age",
							"Time after which an instance is checked again.",
							NULL,
							&wf_scrub_age, 86400, 1, INT_MAX / 1000, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("wfproc.max_cascade",
							"How deep a chain of messages between processes may go within one turn.",
							"What is beyond goes through the mailbox, to a later turn.",
							&wf_max_cascade, 1000, 1, 1000000, PGC_SIGHUP, 0, NULL, NULL, NULL);
}

/*
 * Limits on what users hand in or compute, and the test clock.
 */
static void
define_limits(void)
{
	DefineCustomIntVariable("wfproc.max_payload",
							"Largest payload of an event, counted as jsonb's text.",
							NULL,
							&wf_max_payload, 1048576, 1024, 256 * 1024 * 1024, PGC_SUSET, GUC_UNIT_BYTE, NULL, NULL, NULL);
	DefineCustomIntVariable("wfproc.max_state",
							"Largest state of an instance, counted as jsonb's text.",
							NULL,
							&wf_max_state, 1048576, 1024, 256 * 1024 * 1024, PGC_SUSET, GUC_UNIT_BYTE, NULL, NULL, NULL);
	DefineCustomIntVariable("wfproc.handler_memory",
							"Memory by which a server process may grow during one step before the step is cancelled.",
							NULL,
							&wf_handler_memory, 262144, 1024, MAX_KILOBYTES, PGC_SUSET, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("wfproc.max_actions",
							"Most actions that one step may ask for.",
							NULL,
							&wf_max_actions, 20000, 1, 1000000, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("wfproc.max_postponed",
							"Most events of one instance that may be postponed at one time.",
							NULL,
							&wf_max_postponed, 1000, 1, 1000000, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("wfproc.live_tolerance",
							"How old the stamp of an instance's start may be for it to be live from there.",
							"One that is older is history: the instance is live from the time at which start() was called.",
							&wf_live_tolerance, 3600, 0, INT_MAX, PGC_USERSET, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomBoolVariable("wfproc.superuser_handlers",
							 "Whether the handlers of workflows that a superuser owns are run.",
							 NULL,
							 &wf_superuser_handlers, true, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("wfproc.fake_now",
							   "The time that this session takes for now; empty: the wall clock.",
							   "For tests.",
							   &fake_now_string, "", PGC_SUSET, GUC_NOT_IN_SAMPLE, check_fake_now, assign_fake_now, NULL);
}

/*
 * Defines all settings.  wfproc.max_workers sizes shared memory, so it exists only under preload.
 */
void
wf_guc_init(void)
{
	define_worker_settings();
	define_limits();
	if (process_shared_preload_libraries_in_progress)
		DefineCustomIntVariable("wfproc.max_workers",
								"Most workers at one time, over all databases.",
								NULL,
								&wf_max_workers, 16, 1, 256, PGC_POSTMASTER, 0, NULL, NULL, NULL);
	MarkGUCPrefixReserved("wfproc");
}
