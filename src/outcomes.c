/*
 * outcomes.c: outcomes(): how closed instances would have ended under another version, given the same events.
 *
 * The events of each log are handled again, from the first, by that version; what it asks of others is not carried out, and
 * what others did stays as it was.  Works in a read-only transaction and on a standby; all looks through the caller's
 * snapshot; one instance is in memory at a time, and one entry for each pair of endings.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "census.h"
#include "check.h"
#include "compat.h"
#include "eventlog.h"
#include "handler.h"
#include "object.h"
#include "replay.h"
#include "rerun.h"
#include "rows.h"

PG_FUNCTION_INFO_V1(wfproc_outcomes);

/* how an instance ended; status "error": the handler raised */
typedef struct Ending
{
	const char *status;
	Jsonb	   *result;			/* or NULL */
} Ending;

/* a pair of endings; the key stands for it */
typedef struct Outcome
{
	uint8		key[WF_SHA256_LEN];
	Ending		was;
	Ending		now;
	int64		instances;
	char	   *example;		/* the least id */
} Outcome;

/* a closed instance whose log is gone through again */
typedef struct Rerun
{
	WfRerun		rerun;
	Snapshot	snapshot;
} Rerun;

/*
 * {key: text}
 */
static Jsonb *
pair(const char *key, const char *text)
{
	JsonbParseState *parse = NULL;

	wf_object_begin(&parse);
	wf_object_text(&parse, key, text);
	return wf_object_end(&parse);
}

/*
 * How it ended.
 */
static Ending
past_ending(const WfInstance *instance)
{
	Ending		ending = {wf_instance_status_name(instance->status), instance->result};

	if (instance->status == WF_FAILED)
		ending.result = pair("reason", instance->error);
	return ending;
}

/*
 * Takes one row of the log.  What closed it from outside closes it again; so does what took the place of an event that no
 * log has.
 */
static void
take_row(WfRerun *rerun, const WfLogRow *row)
{
	const WfInstance *instance = rerun->instance;
	const char *name = row->event.name;

	if (strcmp(name, "$terminate") == 0 || strcmp(name, "$fail") == 0)
		wf_rerun_end(rerun, instance->status, instance->result, instance->error);
	else if (WF_IS_ENGINE_EVENT(name))
		wf_rerun_pass(rerun, &row->event);
	else if (row->event.payload_sha256 != NULL)
	{
		rerun->ended = true;
		rerun->error = MemoryContextStrdup(rerun->memory, "payload erased");
	}
	else
		wf_rerun_offer(rerun, &row->event);
}

/*
 * Goes through the log, within a stretch.  A handler that raised took the scan with it.
 */
static void
take_rows(void *arg)
{
	Rerun	   *again = arg;
	WfRerun    *rerun = &again->rerun;
	WfLogScan  *scan = wf_eventlog_open(rerun->instance->instance_id, 0, again->snapshot);
	bool		handler_failed = false;
	WfLogRow	row;

	while (!rerun->ended && wf_eventlog_next(scan, &row))
	{
		take_row(rerun, &row);
		handler_failed = rerun->error != NULL && row.event.payload_sha256 == NULL;
	}
	if (!handler_failed)
		wf_eventlog_close(scan);
}

/*
 * How it would have ended.
 */
static Ending
other_ending(WfWorkflow *workflow, WfVersion *version, const WfInstance *instance, Snapshot snapshot)
{
	Rerun		again;
	WfRerun    *rerun = &again.rerun;
	Ending		ending = {"running", NULL};

	wf_rerun_init(rerun, workflow, version, instance);
	rerun->replaying = true;
	again.snapshot = snapshot;
	wf_handler_stretch(take_rows, &again);
	if (!rerun->ended && instance->status == WF_TERMINATED)
		/* one whose log could not be folded was closed without a row */
		return past_ending(instance);
	if (rerun->error != NULL)
	{
		ending.status = "error";
		ending.result = pair("error", rerun->error);
	}
	else if (rerun->ended)
	{
		ending.status = wf_instance_status_name(rerun->status);
		ending.result = rerun->status == WF_FAILED ? pair("reason", rerun->reason) : rerun->result;
	}
	return ending;
}

static void
hash_ending(const Ending *ending, uint8 *hash)
{
	uint8		result[WF_SHA256_LEN] = {0};
	WfBytes		parts[] = {{ending->status, strlen(ending->status)}, {result, WF_SHA256_LEN}};

	if (ending->result != NULL)
		wf_hash_jsonb(ending->result, result);
	wf_hash_sha256(parts, lengthof(parts), hash);
}

/*
 * A copy in the current memory context; status is a constant.
 */
static Ending
copy_ending(const Ending *ending)
{
	Ending		copy = *ending;

	if (copy.result != NULL)
		copy.result = memcpy(palloc(VARSIZE(copy.result)), copy.result, VARSIZE(copy.result));
	return copy;
}

/*
 * Counts an instance in.
 */
static void
count_in(HTAB *outcomes, MemoryContext memory, const Ending *was, const Ending *now, const char *id)
{
	uint8		hashes[2 * WF_SHA256_LEN];
	uint8		key[WF_SHA256_LEN];
	WfBytes		part = {hashes, sizeof(hashes)};
	Outcome    *outcome;
	bool		found;
	MemoryContext old;

	hash_ending(was, hashes);
	hash_ending(now, hashes + WF_SHA256_LEN);
	wf_hash_sha256(&part, 1, key);
	outcome = hash_search(outcomes, key, HASH_ENTER, &found);
	old = MemoryContextSwitchTo(memory);
	if (!found)
	{
		outcome->was = copy_ending(was);
		outcome->now = copy_ending(now);
		outcome->instances = 0;
		outcome->example = pstrdup(id);
	}
	else if (strcmp(id, outcome->example) < 0)
	{
		pfree(outcome->example);
		outcome->example = pstrdup(id);
	}
	outcome->instances++;
	MemoryContextSwitchTo(old);
}

/*
 * An empty table, in the current memory context.
 */
static HTAB *
make_outcomes(void)
{
	HASHCTL		ctl = {.keysize = WF_SHA256_LEN,.entrysize = sizeof(Outcome),.hcxt = CurrentMemoryContext};

	return hash_create("wfproc outcomes", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/*
 * The most frequent first.
 */
static int
compare_outcomes(const void *a, const void *b)
{
	const Outcome *x = *(Outcome *const *) a;
	const Outcome *y = *(Outcome *const *) b;

	if (x->instances != y->instances)
		return x->instances > y->instances ? -1 : 1;
	return strcmp(x->example, y->example);
}

static void
put_outcome(ReturnSetInfo *result, const Outcome *outcome)
{
	Datum		values[6];
	bool		nulls[6];

	wf_row_set_text(values, nulls, 1, outcome->was.status);
	wf_row_set_jsonb(values, nulls, 2, outcome->was.result);
	wf_row_set_text(values, nulls, 3, outcome->now.status);
	wf_row_set_jsonb(values, nulls, 4, outcome->now.result);
	wf_row_set(values, nulls, 5, Int64GetDatum(outcome->instances));
	wf_row_set_text(values, nulls, 6, outcome->example);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static void
put_outcomes(ReturnSetInfo *result, HTAB *outcomes)
{
	long		count = hash_get_num_entries(outcomes);
	Outcome   **sorted = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Outcome *) * Max(count, 1));
	HASH_SEQ_STATUS status;
	Outcome    *outcome;
	long		n = 0;

	hash_seq_init(&status, outcomes);
	while ((outcome = hash_seq_search(&status)) != NULL)
		sorted[n++] = outcome;
	qsort(sorted, count, sizeof(Outcome *), compare_outcomes);
	for (long i = 0; i < count; i++)
		put_outcome(result, sorted[i]);
}

/*
 * Goes through them, each in a memory context that is reset after it.
 */
static void
count_all(WfWorkflow *workflow, WfVersion *version, const int64 *instance_ids, int count, HTAB *outcomes)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext memory = AllocSetContextCreate(caller, "wfproc outcome", ALLOCSET_DEFAULT_SIZES);
	Snapshot	snapshot = GetActiveSnapshot();

	for (int i = 0; i < count; i++)
	{
		WfInstance	instance;
		MemoryContext old = MemoryContextSwitchTo(memory);

		CHECK_FOR_INTERRUPTS();
		if (wf_instance_read(instance_ids[i], snapshot, &instance))
		{
			Ending		was = past_ending(&instance);
			Ending		now = other_ending(workflow, version, &instance, snapshot);

			count_in(outcomes, caller, &was, &now, instance.id);
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(memory);
	}
	MemoryContextDelete(memory);
}

/*
 * outcomes(workflow, version) -> a row for each pair of endings, the most frequent first
 */
Datum
wfproc_outcomes(PG_FUNCTION_ARGS)
{
	WfCensus	which = {.closed_only = true,.started_by = DT_NOEND};
	WfWorkflow *workflow;
	WfVersion  *version;
	HTAB	   *outcomes;
	int64	   *instance_ids;
	int			count;

	wf_check_not_in_handler("outcomes");
	wf_check_not_null(fcinfo, 1, "version");
	workflow = wf_census_workflow(fcinfo, WF_PRIV_READ);
	version = wf_replay_version(workflow, PG_GETARG_INT32(1));
	InitMaterializedSRF(fcinfo, 0);
	outcomes = make_outcomes();
	instance_ids = wf_census_take(workflow, &which, &count);
	count_all(workflow, version, instance_ids, count, outcomes);
	put_outcomes((ReturnSetInfo *) fcinfo->resultinfo, outcomes);
	return (Datum) 0;
}
