/*
 * transfer.c: logs that leave this database and come back: export_log(), import_log(), export_xes().
 *
 * Exporting reads with the caller's snapshot, one row at a time, and works on a standby.  Importing writes the rows of a
 * new instance, which nobody else knows before the caller's transaction commits: they may be written here whatever shard
 * it is in.  An imported log keeps its hashes, which are checked one by one from the instance's id on; whether it is what
 * the code here leads to is left to verify().
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/string.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "utils/xml.h"

#include "acl.h"
#include "api.h"
#include "census.h"
#include "check.h"
#include "clock.h"
#include "definition.h"
#include "eventlog.h"
#include "instance.h"
#include "object.h"
#include "process.h"
#include "snapshot.h"
#include "version.h"

/* what the first line says that it is */
#define FORMAT "wfproc log 1"
/* the id is part of what is hashed */
#define TAKEN_HINT "A log cannot change its id: import it into another database."

PG_FUNCTION_INFO_V1(wfproc_export_log);
PG_FUNCTION_INFO_V1(wfproc_export_xes);
PG_FUNCTION_INFO_V1(wfproc_import_log);

/*
 * A stamp in ISO 8601, in UTC.
 */
static char *
stamp_text(TimestampTz at)
{
	const int	utc = 0;

	return JsonEncodeDateTime(palloc(MAXDATELEN + 1), TimestampTzGetDatum(at), TIMESTAMPTZOID, &utc);
}

static char *
hex_text(const uint8 *bytes)
{
	StringInfoData hex;

	initStringInfo(&hex);
	wf_hash_append_hex(&hex, bytes, WF_SHA256_LEN);
	return hex.data;
}

/*
 * Prepares for many values of a type that is no row type.
 */
static ReturnSetInfo *
begin_rows(FunctionCallInfo fcinfo)
{
	ReturnSetInfo *rows = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext old;

	if (rows == NULL || !IsA(rows, ReturnSetInfo) || (rows->allowedModes & SFRM_Materialize) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("set-valued function called in context that cannot accept a set")));
	old = MemoryContextSwitchTo(rows->econtext->ecxt_per_query_memory);
	rows->returnMode = SFRM_Materialize;
	rows->setResult = tuplestore_begin_heap((rows->allowedModes & SFRM_Materialize_Random) != 0, false, work_mem);
	rows->setDesc = CreateTupleDescCopy(rows->expectedDesc);
	MemoryContextSwitchTo(old);
	return rows;
}

static void
put_line(ReturnSetInfo *rows, JsonbParseState **parse)
{
	Datum		value = JsonbPGetDatum(wf_object_end(parse));
	bool		isnull = false;

	tuplestore_putvalues(rows->setResult, rows->setDesc, &value, &isnull);
}

/* what must be known of a log before its first line */
typedef struct LogFacts
{
	int			upgraded_to;	/* the greatest version that it names; 0: none */
	bool		erased;			/* payloads were: it cannot be folded alone */
} LogFacts;

static void
find_facts(int64 instance_id, LogFacts *facts)
{
	WfLogScan  *scan = wf_eventlog_open(instance_id, 0, GetActiveSnapshot());
	WfLogRow	row;

	memset(facts, 0, sizeof(LogFacts));
	while (wf_eventlog_next(scan, &row))
	{
		CHECK_FOR_INTERRUPTS();
		facts->erased = facts->erased || row.event.payload_sha256 != NULL;
		if (strcmp(row.event.name, "$upgrade") == 0)
			facts->upgraded_to = Max(facts->upgraded_to, wf_process_upgrade_to(&row.event));
	}
	wf_eventlog_close(scan);
}

/*
 * The SHA-256 of a version's code as hexadecimal digits: of the handler's alone where there is no other, else that of all
 * of them, one after the other.
 */
static char *
code_hash(const WfPublished *published)
{
	StringInfoData hashes;
	WfBytes		part;
	uint8		sha256[WF_SHA256_LEN];
	ListCell   *lc;

	if (published->migrate == NULL && published->helpers == NIL)
		return hex_text(published->sha256);
	initStringInfo(&hashes);
	appendBinaryStringInfo(&hashes, (const char *) published->sha256, WF_SHA256_LEN);
	if (published->migrate != NULL)
		appendBinaryStringInfo(&hashes, (const char *) published->migrate_sha256, WF_SHA256_LEN);
	if (published->migrates_from != 0)
		appendStringInfo(&hashes, "from %d", published->migrates_from);
	foreach(lc, published->helpers)
		appendBinaryStringInfo(&hashes, (const char *) ((const WfHelper *) lfirst(lc))->sha256, WF_SHA256_LEN);
	part.data = hashes.data;
	part.len = hashes.len;
	wf_hash_sha256(&part, 1, sha256);
	return hex_text(sha256);
}

/*
 * The versions that the log was made with, with the SHA-256 of their code: its own, or where it was upgraded all that it
 * may have had.
 */
static Jsonb *
versions_of(const WfInstance *instance, const LogFacts *facts)
{
	int			last = Max(facts->upgraded_to, instance->version);
	JsonbParseState *parse = NULL;

	wf_object_begin(&parse);
	for (int number = facts->upgraded_to == 0 ? last : 1; number <= last; number++)
	{
		WfPublished published;

		if (wf_definition_read_version(instance->workflow_id, number, &published))
			wf_object_text(&parse, psprintf("%d", number), code_hash(&published));
	}
	return wf_object_end(&parse);
}

/*
 * The state of a log that cannot be folded any more; NULL where there is none.
 */
static Jsonb *
snapshot_of(const WfInstance *instance)
{
	JsonbParseState *parse = NULL;
	const char *problem;
	WfFold		fold;

	if (!wf_snapshot_load(instance->instance_id, GetActiveSnapshot(), &fold, &problem))
		return NULL;
	wf_object_begin(&parse);
	wf_object_int(&parse, "seq", fold.seq);
	wf_object_int(&parse, "changed_seq", fold.changed_seq);
	wf_object_text(&parse, "at", stamp_text(fold.clock));
	wf_object_int(&parse, "version", fold.version);
	wf_object_jsonb(&parse, "state", fold.state);
	return wf_object_end(&parse);
}

/*
 * The first line: the instance.
 */
static void
put_instance(ReturnSetInfo *rows, const WfWorkflow *workflow, const WfInstance *instance)
{
	JsonbParseState *parse = NULL;
	Jsonb	   *snapshot;
	LogFacts	facts;

	find_facts(instance->instance_id, &facts);
	wf_object_begin(&parse);
	wf_object_text(&parse, "format", FORMAT);
	wf_object_text(&parse, "id", instance->id);
	wf_object_text(&parse, "workflow", workflow->name);
	wf_object_int(&parse, "version", instance->version);
	wf_object_int(&parse, "first_version", instance->first_version);
	wf_object_jsonb(&parse, "versions", versions_of(instance, &facts));
	wf_object_text(&parse, "status", wf_instance_status_name(instance->status));
	wf_object_text(&parse, "started_at", stamp_text(instance->started_at));
	wf_object_text(&parse, "live_from", stamp_text(instance->live_from));
	if (WF_IS_CLOSED(instance->status))
		wf_object_text(&parse, "closed_at", stamp_text(instance->closed_at));
	wf_object_optional(&parse, "parent", instance->parent);
	wf_object_jsonb(&parse, "attributes", instance->attributes);
	wf_object_bool(&parse, "cancelling", instance->cancelling);
	/* one that is open will be paused anyway */
	if (instance->unlogged && WF_IS_CLOSED(instance->status))
		wf_object_bool(&parse, "unlogged", true);
	if (instance->result != NULL)
		wf_object_jsonb(&parse, "result", instance->result);
	wf_object_optional(&parse, "error", instance->error);
	if (facts.erased && (snapshot = snapshot_of(instance)) != NULL)
		wf_object_jsonb(&parse, "snapshot", snapshot);
	put_line(rows, &parse);
}

/*
 * A line for one event: all that is hashed, what else is known, and the hash.  The digest is a string: as a number it would
 * lose digits in many a program.
 */
static void
put_event(ReturnSetInfo *rows, const WfLogRow *row)
{
	JsonbParseState *parse = NULL;

	wf_object_begin(&parse);
	wf_object_int(&parse, "seq", row->seq);
	wf_object_text(&parse, "at", stamp_text(row->event.at));
	wf_object_text(&parse, "recorded_at", stamp_text(row->recorded_at));
	wf_object_text(&parse, "event", row->event.name);
	wf_object_jsonb(&parse, "payload", row->event.payload);
	if (row->event.payload_sha256 != NULL)
		wf_object_text(&parse, "payload_sha256", hex_text(row->event.payload_sha256));
	wf_object_optional(&parse, "sender", row->event.sender);
	wf_object_optional(&parse, "idempotency_key", row->event.key);
	wf_object_text(&parse, "digest", psprintf(INT64_FORMAT, row->digest));
	wf_object_bool(&parse, "live", row->event.live);
	if (row->reply != NULL)
		wf_object_jsonb(&parse, "reply", row->reply);
	wf_object_text(&parse, "hash", hex_text(row->hash));
	put_line(rows, &parse);
}

/*
 * export_log(id) -> the instance, then its events, a line each
 */
Datum
wfproc_export_log(PG_FUNCTION_ARGS)
{
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "wfproc export", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old;
	ReturnSetInfo *rows;
	WfInstance	instance;
	WfWorkflow *workflow;
	WfLogScan  *scan;
	WfLogRow	row;

	wf_check_not_in_handler("export_log");
	workflow = wf_instance_get(wf_check_name(fcinfo, 0, "id"), WF_PRIV_READ, &instance);
	rows = begin_rows(fcinfo);
	put_instance(rows, workflow, &instance);
	scan = wf_eventlog_open(instance.instance_id, 0, GetActiveSnapshot());
	while (wf_eventlog_next(scan, &row))
	{
		CHECK_FOR_INTERRUPTS();
		old = MemoryContextSwitchTo(memory);
		put_event(rows, &row);
		MemoryContextSwitchTo(old);
		MemoryContextReset(memory);
	}
	wf_eventlog_close(scan);
	return (Datum) 0;
}

/* a log that comes in */
typedef struct Import
{
	Jsonb	   *line;			/* the one at hand */
	int			number;			/* of it, from 1 */
	WfInstance	row;
	WfWorkflow *workflow;
	WfLogWriter *writer;
	int64		seq;			/* of the last event taken */
	bool		started;		/* start is among them */
	WfFold		snapshot;		/* that comes with it; seq 0: none */
	uint8		hash[WF_SHA256_LEN];	/* the chain up to it */
} Import;

static void
bad_line(const Import *import, const char *problem)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("line %d of argument \"lines\" %s", import->number, problem),
			 errhint("The argument is the array of all lines that export_log() gives, in their order.")));
}

/*
 * A string of the line; NULL where there is none.
 */
static char *
get_optional(const Import *import, const char *key)
{
	Jsonb	   *value = wf_object_get(import->line, key);
	char	   *string = wf_object_get_text(import->line, key);

	if (value != NULL && string == NULL)
		bad_line(import, psprintf("must have a string as \"%s\"", key));
	return string;
}

static char *
get_text(const Import *import, const char *key)
{
	char	   *string = get_optional(import, key);

	if (string == NULL)
		bad_line(import, psprintf("must have the key \"%s\"", key));
	return string;
}

/*
 * A name, which may have to be there.
 */
static char *
get_name(const Import *import, const char *key, bool required)
{
	char	   *name = required ? get_text(import, key) : get_optional(import, key);

	if (name != NULL)
		wf_check_name_text(name, key);
	return name;
}

static TimestampTz
get_stamp(const Import *import, const char *key)
{
	return DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(get_text(import, key)),
												   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
}

static TimestampTz
get_finite_stamp(const Import *import, const char *key)
{
	TimestampTz at = get_stamp(import, key);

	wf_clock_check_finite(at, key);
	return at;
}

static int64
get_int(const Import *import, const char *key)
{
	Jsonb	   *value = wf_object_get(import->line, key);
	JsonbValue	number;

	if (value == NULL || !JB_ROOT_IS_SCALAR(value) || !JsonbExtractScalar(&value->root, &number) ||
		number.type != jbvNumeric)
		bad_line(import, psprintf("must have a number as \"%s\"", key));
	return DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(number.val.numeric)));
}

static bool
get_bool(const Import *import, const char *key)
{
	Jsonb	   *value = wf_object_get(import->line, key);
	JsonbValue	flag;

	if (value == NULL || !JB_ROOT_IS_SCALAR(value) || !JsonbExtractScalar(&value->root, &flag) || flag.type != jbvBool)
		bad_line(import, psprintf("must have true or false as \"%s\"", key));
	return flag.val.boolean;
}

/*
 * A SHA-256 as 64 hexadecimal digits.
 */
static void
get_hash(const Import *import, const char *key, uint8 *hash)
{
	char	   *hex = get_text(import, key);

	if (strlen(hex) != 2 * WF_SHA256_LEN || strspn(hex, "0123456789abcdef") != 2 * WF_SHA256_LEN)
		bad_line(import, psprintf("must have 64 hexadecimal digits as \"%s\"", key));
	(void) hex_decode(hex, 2 * WF_SHA256_LEN, (char *) hash);
}

/*
 * A version that the log names must be there: without its code the log could not be folded, and so no event be handled.
 */
static int
require_version(const Import *import, int64 number)
{
	if (number < 1 || number > PG_INT32_MAX || wf_workflow_find_version(import->workflow, (int) number) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("line %d of argument \"lines\" names version %lld of workflow \"%s\", which does not exist",
						import->number, (long long) number, import->workflow->name),
				 errhint("The current version is %d.", import->workflow->current_version)));
	return (int) number;
}

static int
get_version(const Import *import, const char *key)
{
	return require_version(import, get_int(import, key));
}

/*
 * The number that is a key of "versions".
 */
static int
get_version_key(const Import *import, const char *key)
{
	char	   *end;
	int			number;

	errno = 0;
	number = strtoint(key, &end, 10);
	if (errno != 0 || end == key || *end != '\0')
		bad_line(import, psprintf("must have numbers as the keys of \"versions\", got \"%s\"", key));
	return require_version(import, number);
}

/*
 * The versions that the log was made with must be there by number.  That their code is another one here is only pointed
 * out: what matters is whether it leads to the same states, and that is verify()'s affair.
 */
static void
check_versions(const Import *import)
{
	Jsonb	   *versions = wf_object_get(import->line, "versions");
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	key;

	if (versions == NULL || !JB_ROOT_IS_OBJECT(versions))
		bad_line(import, "must have an object as \"versions\"");
	it = JsonbIteratorInit(&versions->root);
	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		char	   *name;
		char	   *sha256;
		int			number;
		WfPublished published;

		if (token != WJB_KEY)
			continue;
		name = pnstrdup(key.val.string.val, key.val.string.len);
		sha256 = wf_object_get_text(versions, name);
		number = get_version_key(import, name);
		if (wf_definition_read_version(import->workflow->workflow_id, number, &published) &&
			(sha256 == NULL || strcmp(sha256, code_hash(&published)) != 0))
			ereport(WARNING,
					(errmsg("version %d of workflow \"%s\" has other code than where the log comes from", number,
							import->workflow->name),
					 errhint("wfproc.verify() says whether it leads to the same states.")));
	}
}

static void
take_status(Import *import)
{
	WfInstance *row = &import->row;

	if (!wf_instance_parse_status(get_text(import, "status"), &row->status))
		bad_line(import, "has no known status");
	row->unlogged = !WF_IS_CLOSED(row->status) || wf_object_get(import->line, "unlogged") != NULL;
	if (WF_IS_CLOSED(row->status))
		row->closed_at = get_finite_stamp(import, "closed_at");
	else
		row->status = WF_PAUSED;
	row->result = wf_object_get(import->line, "result");
	row->error = get_optional(import, "error");
	if (row->error != NULL && strlen(row->error) > WF_MAX_REASON)
		bad_line(import, psprintf("must have at most %d bytes as \"error\"", WF_MAX_REASON));
}

/*
 * The snapshot of a log of which payloads were erased: without it there would be no state.  Whether it fits is verify()'s
 * affair, as with any snapshot.
 */
static void
take_snapshot(Import *import)
{
	Import		part = *import;
	WfFold	   *fold = &import->snapshot;

	part.line = wf_object_get(import->line, "snapshot");
	if (part.line == NULL)
		return;
	if (!JB_ROOT_IS_OBJECT(part.line))
		bad_line(import, "must have an object as \"snapshot\"");
	fold->seq = get_int(&part, "seq");
	fold->changed_seq = get_int(&part, "changed_seq");
	fold->clock = get_finite_stamp(&part, "at");
	fold->started = true;
	fold->version = get_version(&part, "version");
	fold->state = wf_object_get(part.line, "state");
	if (fold->seq < 1 || fold->changed_seq < 1 || fold->changed_seq > fold->seq || fold->state == NULL || !JB_ROOT_IS_OBJECT(fold->state))
		bad_line(import, "must have a \"seq\", a \"changed_seq\" and a \"state\" in its \"snapshot\"");
}

/*
 * A parent is told when its child closes, without being asked: so it must be here, and the caller be somebody who may do
 * as much.
 */
static void
take_parent(Import *import)
{
	WfInstance	parent;

	import->row.parent = get_name(import, "parent", false);
	if (import->row.parent == NULL)
		return;
	if (!wf_instance_find(import->row.parent, &parent))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("instance \"%s\", the parent of \"%s\", does not exist", import->row.parent, import->row.id),
				 errhint("Import the parent first.")));
	(void) wf_instance_get(import->row.parent, WF_PRIV_OPERATE, &parent);
}

/*
 * The first line.  An instance that is open comes in paused; timers, mail and links do not come with it.
 */
static void
take_instance(Import *import, const char *workflow)
{
	WfInstance *row = &import->row;
	WfInstance	other;
	char	   *format;

	if (!JB_ROOT_IS_OBJECT(import->line))
		bad_line(import, "must be an object");
	format = get_optional(import, "format");
	if (format == NULL || strcmp(format, FORMAT) != 0)
		bad_line(import, psprintf("must have the \"format\" %s", FORMAT));
	wf_workflow_refresh();
	import->workflow = wf_workflow_by_name(workflow != NULL ? workflow : get_name(import, "workflow", true), false);
	wf_acl_require_owner(import->workflow);
	row->id = get_name(import, "id", true);
	if (wf_instance_find(row->id, &other))
		wf_instance_refuse_id(row->id, TAKEN_HINT);
	row->workflow_id = import->workflow->workflow_id;
	row->version = get_version(import, "version");
	row->first_version = get_version(import, "first_version");
	check_versions(import);
	take_status(import);
	row->started_at = get_finite_stamp(import, "started_at");
	row->live_from = get_stamp(import, "live_from");
	row->retry_at = DT_NOBEGIN;
	take_snapshot(import);
	take_parent(import);
	row->cancelling = get_bool(import, "cancelling");
	row->attributes = wf_object_get(import->line, "attributes");
	if (row->attributes == NULL || !JB_ROOT_IS_OBJECT(row->attributes))
		bad_line(import, "must have an object as \"attributes\"");
	row->instance_id = wf_instance_next_id();
	/* looking for the parent may have read the definitions anew */
	import->workflow = wf_workflow_get(row->workflow_id);
	wf_eventlog_first_hash(row->id, import->hash);
}

/*
 * Reads a line as a row.
 */
static void
parse_event(const Import *import, WfLogRow *row)
{
	row->instance_id = import->row.instance_id;
	row->seq = get_int(import, "seq");
	row->event.at = get_finite_stamp(import, "at");
	row->recorded_at = get_finite_stamp(import, "recorded_at");
	row->event.name = get_name(import, "event", true);
	row->event.payload = wf_object_get(import->line, "payload");
	if (row->event.payload == NULL)
		bad_line(import, "must have the key \"payload\"");
	if (get_optional(import, "payload_sha256") != NULL)
	{
		row->event.payload_sha256 = palloc(WF_SHA256_LEN);
		get_hash(import, "payload_sha256", row->event.payload_sha256);
		/* erased: nothing says what else the line has there */
		row->event.payload = wf_check_empty_object();
	}
	row->event.sender = get_name(import, "sender", false);
	row->event.key = get_name(import, "idempotency_key", false);
	row->digest = DatumGetInt64(DirectFunctionCall1(int8in, CStringGetDatum(get_text(import, "digest"))));
	row->event.live = get_bool(import, "live");
	row->reply = wf_object_get(import->line, "reply");
	get_hash(import, "hash", row->hash);
}

/*
 * A line after the first: must be the next of its chain.
 */
static void
take_event(Import *import)
{
	WfLogRow	row = {0};
	uint8		hash[WF_SHA256_LEN];

	if (!JB_ROOT_IS_OBJECT(import->line))
		bad_line(import, "must be an object");
	parse_event(import, &row);
	wf_eventlog_chain(import->hash, &row, hash);
	if (row.seq != import->seq + 1 || memcmp(hash, row.hash, WF_SHA256_LEN) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 row.seq != import->seq + 1 ?
				 errmsg("event %lld of the log of \"%s\" is missing", (long long) import->seq + 1, import->row.id) :
				 errmsg("the hash of event %lld of the log of \"%s\" does not fit", (long long) row.seq, import->row.id),
				 errhint("The log has been changed since, or another one stands before this event.")));
	if (strcmp(row.event.name, "$upgrade") == 0 && wf_process_upgrade_to(&row.event) != 0)
		(void) require_version(import, wf_process_upgrade_to(&row.event));
	wf_eventlog_writer_put(import->writer, &row);
	import->seq = row.seq;
	import->started = import->started || strcmp(row.event.name, "start") == 0;
	memcpy(import->hash, row.hash, WF_SHA256_LEN);
	if (row.seq == import->snapshot.seq)
		memcpy(import->snapshot.hash, row.hash, WF_SHA256_LEN);
}

/*
 * The events, each in memory of its own.
 */
static void
take_events(Import *import, JsonbIterator **it)
{
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "wfproc import", ALLOCSET_DEFAULT_SIZES);
	JsonbIteratorToken token;
	JsonbValue	value;

	import->writer = wf_eventlog_writer_open();
	while ((token = JsonbIteratorNext(it, &value, true)) == WJB_ELEM)
	{
		MemoryContext old = MemoryContextSwitchTo(memory);

		CHECK_FOR_INTERRUPTS();
		import->number++;
		import->line = JsonbValueToJsonb(&value);
		take_event(import);
		MemoryContextSwitchTo(old);
		MemoryContextReset(memory);
	}
	wf_eventlog_writer_close(import->writer);
	MemoryContextDelete(memory);
	/* one that has closed may have been terminated before it began */
	if (!import->started && !WF_IS_CLOSED(import->row.status))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the log of \"%s\" has no event start", import->row.id),
				 errhint("What has not begun can be started here.")));
	if (import->snapshot.seq > import->seq)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the snapshot of \"%s\" is of event %lld, and the log ends at event %lld", import->row.id,
						(long long) import->snapshot.seq, (long long) import->seq)));
	CommandCounterIncrement();
	if (import->snapshot.seq > 0)
		wf_snapshot_store(import->row.instance_id, &import->snapshot);
}

/*
 * Which line an error is about that comes from elsewhere: a stamp or a number that cannot be read, a name that is too long.
 */
static void
say_line(void *arg)
{
	errcontext("line %d of argument \"lines\"", ((const Import *) arg)->number);
}

/*
 * import_log(lines, workflow) -> id
 */
Datum
wfproc_import_log(PG_FUNCTION_ARGS)
{
	Import		import = {.number = 1};
	ErrorContextCallback context = {.previous = error_context_stack,.callback = say_line,.arg = &import};
	char	   *workflow;
	Jsonb	   *lines;
	JsonbIterator *it;
	JsonbValue	value;

	wf_api_prepare_to_write("import_log", "import logs");
	wf_check_not_null(fcinfo, 0, "lines");
	lines = PG_GETARG_JSONB_P(0);
	workflow = wf_check_optional_name(fcinfo, 1, "workflow");
	if (!JB_ROOT_IS_ARRAY(lines) || JB_ROOT_IS_SCALAR(lines) || JB_ROOT_COUNT(lines) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"lines\" must be a JSON array with at least one line"),
				 errhint("SELECT jsonb_agg(l) FROM wfproc.export_log(id) l makes one.")));
	it = JsonbIteratorInit(&lines->root);
	(void) JsonbIteratorNext(&it, &value, true);
	(void) JsonbIteratorNext(&it, &value, true);
	import.line = JsonbValueToJsonb(&value);
	error_context_stack = &context;
	take_instance(&import, workflow);
	/* first, so that of two that import it the second finds out here */
	wf_instance_add(&import.row, TAKEN_HINT);
	take_events(&import, &it);
	error_context_stack = context.previous;
	PG_RETURN_TEXT_P(cstring_to_text(import.row.id));
}

/*
 * Text as the value of an attribute; what XML cannot hold becomes U+FFFD.
 */
static void
append_xml(StringInfo buf, const char *text)
{
	for (const char *p = text; *p != '\0'; p++)
	{
		unsigned char c = (unsigned char) *p;

		if (c == '&')
			appendStringInfoString(buf, "&amp;");
		else if (c == '<')
			appendStringInfoString(buf, "&lt;");
		else if (c == '>')
			appendStringInfoString(buf, "&gt;");
		else if (c == '"')
			appendStringInfoString(buf, "&quot;");
		else if (c < 0x20)
			appendStringInfoString(buf, "\xef\xbf\xbd");
		else if (c == 0xef && (unsigned char) p[1] == 0xbf && (unsigned char) p[2] >= 0xbe)
		{
			/* U+FFFE, U+FFFF */
			appendStringInfoString(buf, "\xef\xbf\xbd");
			p += 2;
		}
		else
			appendStringInfoCharMacro(buf, *p);
	}
}

/*
 * <string key="..." value="..."/> and the like.
 */
static void
append_attribute(StringInfo buf, const char *type, const char *key, const char *value)
{
	appendStringInfo(buf, "<%s key=\"%s\" value=\"", type, key);
	append_xml(buf, value);
	appendStringInfoString(buf, "\"/>");
}

static void
append_head(StringInfo buf, const WfWorkflow *workflow)
{
	static const char *const extensions[][2] = {
		{"Concept", "concept"}, {"Time", "time"}, {"Organizational", "org"}, {"Lifecycle", "lifecycle"}
	};

	appendStringInfoString(buf, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
						   "<log xes.version=\"1.0\" xes.features=\"\" xmlns=\"http://www.xes-standard.org/\">\n");
	for (int i = 0; i < lengthof(extensions); i++)
	{
		const char *prefix = extensions[i][1];

		appendStringInfo(buf, "<extension name=\"%s\" prefix=\"%s\" uri=\"http://www.xes-standard.org/%s.xesext\"/>\n",
						 extensions[i][0], prefix, prefix);
	}
	appendStringInfoString(buf, "<global scope=\"trace\">");
	append_attribute(buf, "string", "concept:name", "");
	appendStringInfoString(buf, "</global>\n<global scope=\"event\">");
	append_attribute(buf, "string", "concept:name", "");
	append_attribute(buf, "date", "time:timestamp", "1970-01-01T00:00:00+00:00");
	append_attribute(buf, "string", "lifecycle:transition", "complete");
	appendStringInfoString(buf, "</global>\n<classifier name=\"Event\" keys=\"concept:name\"/>\n");
	append_attribute(buf, "string", "concept:name", workflow->name);
	append_attribute(buf, "string", "lifecycle:model", "standard");
	appendStringInfoChar(buf, '\n');
}

/*
 * One instance's log as a trace.
 */
static void
append_trace(StringInfo buf, const WfInstance *instance)
{
	WfLogScan  *scan = wf_eventlog_open(instance->instance_id, 0, GetActiveSnapshot());
	WfLogRow	row;

	appendStringInfoString(buf, "<trace>");
	append_attribute(buf, "string", "concept:name", instance->id);
	append_attribute(buf, "string", "wfproc:status", wf_instance_status_name(instance->status));
	append_attribute(buf, "int", "wfproc:version", psprintf("%d", instance->version));
	appendStringInfoChar(buf, '\n');
	while (wf_eventlog_next(scan, &row))
	{
		CHECK_FOR_INTERRUPTS();
		appendStringInfoString(buf, "<event>");
		append_attribute(buf, "string", "concept:name", row.event.name);
		append_attribute(buf, "date", "time:timestamp", stamp_text(row.event.at));
		if (row.event.sender != NULL)
			append_attribute(buf, "string", "org:resource", row.event.sender);
		append_attribute(buf, "string", "lifecycle:transition", "complete");
		appendStringInfoString(buf, "</event>\n");
	}
	wf_eventlog_close(scan);
	appendStringInfoString(buf, "</trace>\n");
}

/*
 * export_xes(workflow) -> one document with a trace for each instance
 */
Datum
wfproc_export_xes(PG_FUNCTION_ARGS)
{
	WfCensus	which = {.order_by_id = true,.started_by = DT_NOEND};
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "wfproc export", ALLOCSET_DEFAULT_SIZES);
	WfWorkflow *workflow;
	StringInfoData buf;
	int64	   *instance_ids;
	int			count;

	wf_check_not_in_handler("export_xes");
	/* a server without XML says so */
	(void) DirectFunctionCall1(xml_in, CStringGetDatum("<log/>"));
	workflow = wf_census_workflow(fcinfo, WF_PRIV_READ);
	instance_ids = wf_census_take(workflow, &which, &count);
	initStringInfo(&buf);
	append_head(&buf, workflow);
	for (int i = 0; i < count; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(memory);
		WfInstance	instance;

		CHECK_FOR_INTERRUPTS();
		if (wf_instance_read(instance_ids[i], GetActiveSnapshot(), &instance))
			append_trace(&buf, &instance);
		MemoryContextSwitchTo(old);
		MemoryContextReset(memory);
	}
	appendStringInfoString(&buf, "</log>\n");
	PG_RETURN_XML_P((xmltype *) cstring_to_text_with_len(buf.data, buf.len));
}
