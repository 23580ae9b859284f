/*
 * seal.c: wfproc.seal() and wfproc.check_seal(): a Merkle root over the heads of all logs, to be kept elsewhere, and what of
 * it does not fit any more.
 *
 * Both are SQL entry points, and all is done by SQL on our own tables, as the extension's owner: what an auditor is to be
 * able to compute is computed the same way here.  seal() holds ShareRowExclusiveLock on wfproc.seal to the end of the
 * transaction, so that seals are numbered one by one; logs go on growing meanwhile.  check_seal() only reads, through the
 * caller's snapshot, and works on a standby.
 *
 * The tree: a leaf for each instance, a node for each 32 instance_ids, one above for each 1024 of them, the root above these
 * and the node of the versions.  Only heads that differ from the last sealed ones are written down, and only their nodes
 * computed anew.
 *
 * Which heads a seal looks at: those that touched.c has noted since the last seal, where that seal's row says that it was
 * made in the life of the same shared memory, and everything here is written by this engine alone; else all.  A horizon, a
 * transaction id, stands between the two: see touched.c.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "utils/xid8.h"

#include "catalog.h"
#include "check.h"
#include "clock.h"
#include "compat.h"
#include "hash.h"
#include "rows.h"
#include "spi.h"
#include "touched.h"

PG_FUNCTION_INFO_V1(wfproc_seal);
PG_FUNCTION_INFO_V1(wfproc_check_seal);

#define SEAL_TAG "wfproc-seal/1"
/* "previous" of the first seal */
#define NO_SEAL "0000000000000000000000000000000000000000000000000000000000000000"
/* groups of instance_ids below one node */
#define NODE_GROUPS 32
/* bytes; a seal is much shorter */
#define MAX_SEAL_TEXT 1024
/* words of a seal's text */
enum
{
	WORD_TAG,
	WORD_TOKEN,
	WORD_NUMBER,
	WORD_AT,
	WORD_INSTANCES,
	WORD_EVENTS,
	WORD_ROOT,
	WORD_PREVIOUS,
	WORD_HASH,
	WORDS
};

/*
 * What is hashed, in SQL.  Fields are joined by chr(31), hashes among them in hexadecimal digits.  docs/DESIGN.md says the
 * same for auditors.
 */
#define UTF8_OF(list) "convert_to(concat_ws(chr(31), " list "), 'UTF8')"
#define LEAF_HASH "sha256(" UTF8_OF("'leaf', id, seq, encode(hash, 'hex')") ")"
#define VERSION_HASH "sha256(" UTF8_OF("'version', w.name, v.version, v.handler, encode(sha256(convert_to(v.code, 'UTF8')), 'hex')," \
	" encode(v.code_sha256, 'hex'), coalesce(v.migrate, ''), coalesce(encode(sha256(convert_to(v.migrate_code, 'UTF8')), 'hex'), '')," \
	" coalesce(encode(v.migrate_sha256, 'hex'), ''), v.search_path, (extract(epoch FROM v.defined_at) * 1000000)::bigint," \
	" 'from ' || v.migrates_from," \
	" (SELECT string_agg(concat_ws(chr(31), h.name, h.arguments, encode(sha256(convert_to(h.code, 'UTF8')), 'hex')," \
	" encode(h.code_sha256, 'hex')), chr(31) ORDER BY h.name, h.arguments) FROM wfproc.version_helper h" \
	" WHERE h.workflow_id = v.workflow_id AND h.version = v.version)") ")"
#define NODE_HASH(children) "sha256('node'::bytea || coalesce(" children ", ''::bytea))"

/*
 * Heads of logs now, and as they were sealed up to seal number $1: of all logs, or of groups $2 of instance_ids.  A LIMIT
 * that takes nothing away tells the planner how small a group is.
 */
#define HEADS_OF(instances) \
	"head AS (SELECT i.instance_id, i.id, coalesce(e.seq, 0) AS seq," \
	" coalesce(e.hash, sha256(convert_to('wfproc/1' || i.id, 'UTF8'))) AS hash" \
	" FROM " instances " LEFT JOIN LATERAL (SELECT e.seq, e.hash FROM wfproc.event e" \
	" WHERE e.instance_id = i.instance_id ORDER BY e.seq DESC LIMIT 1) e ON true)"
#define SEALED_HEADS_WHERE(condition) \
	"SELECT DISTINCT ON (instance_id) instance_id, id, seq, hash FROM wfproc.seal_leaf WHERE " condition "number <= $1" \
	" ORDER BY instance_id DESC, number DESC"
#define IN_GROUP "instance_id >= nth * " CppAsString2(WF_GROUP_IDS) " AND instance_id < (nth + 1) * " CppAsString2(WF_GROUP_IDS)
#define GROUP_LIMIT " LIMIT " CppAsString2(WF_GROUP_IDS)
#define SEALED_HEADS_IN_GROUP SEALED_HEADS_WHERE(IN_GROUP " AND ") GROUP_LIMIT
#define HEADS HEADS_OF("wfproc.instance i")
#define HEADS_IN_GROUPS \
	HEADS_OF("unnest($2) nth, LATERAL (SELECT instance_id, id FROM wfproc.instance WHERE " IN_GROUP GROUP_LIMIT ") i")
#define SEALED_HEADS "sealed AS (" SEALED_HEADS_WHERE("") ")"
#define SEALED_HEADS_IN_GROUPS "sealed AS (SELECT l.* FROM unnest($2) nth, LATERAL (" SEALED_HEADS_IN_GROUP ") l)"
/* what has changed is written down; the numbers of its groups, and how many heads are none that a log can have come to since */
#define WRITE_LEAVES \
	"changed AS (SELECT coalesce(h.instance_id, s.instance_id) AS instance_id, coalesce(h.id, s.id) AS id," \
	" h.seq, h.hash, s.seq IS NOT NULL AND (h.seq IS NULL OR h.seq <= s.seq OR h.id <> s.id) AS worse" \
	" FROM head h FULL JOIN sealed s USING (instance_id)" \
	" WHERE h.seq IS DISTINCT FROM s.seq OR h.hash IS DISTINCT FROM s.hash OR h.id <> s.id)," \
	" written AS (INSERT INTO wfproc.seal_leaf (instance_id, number, id, seq, hash)" \
	" SELECT instance_id, $1, id, seq, hash FROM changed ORDER BY instance_id)" \
	" SELECT coalesce(array_agg(DISTINCT instance_id / " CppAsString2(WF_GROUP_IDS) "), '{}')," \
	" count(*) FILTER (WHERE worse) FROM changed"

#define VERSIONS \
	"code AS (SELECT v.workflow_id, v.version, w.name, " VERSION_HASH " AS hash" \
	" FROM wfproc.version v JOIN wfproc.workflow w USING (workflow_id))"
#define SEALED_VERSIONS \
	"sealed_code AS (SELECT DISTINCT ON (workflow_id, version) workflow_id, version, name, hash FROM wfproc.seal_version" \
	" WHERE number <= $1 ORDER BY workflow_id DESC, version DESC, number DESC)"
#define VERSIONS_NODE "(SELECT " NODE_HASH("string_agg(hash, ''::bytea ORDER BY name, version)") \
	" FROM sealed_code WHERE hash IS NOT NULL)"

/*
 * Runs a statement that gives one row of one text.
 */
static char *
get_text(SPIPlanPtr *plan, const char *sql, int nargs, const Oid *types, Datum *values, bool read_only)
{
	if (wf_spi_execute(plan, sql, nargs, types, values, NULL, read_only, SPI_OK_SELECT) != 1)
		return NULL;
	return SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
}

/* a seal in the making */
typedef struct NewSeal
{
	int64		number;
	char	   *previous;		/* the hash of the one before, as text */
	Datum		horizon;		/* xid8: of older transactions it has
								 * everything */
	Datum		memory;			/* bytea: who notes what comes after */
	bool		no_memory;		/* nobody does */
	bool		some;			/* it looks only at these groups */
	Datum		groups;
	int64		worse;			/* what is not as sealed, and should be */
} NewSeal;

/* columns of LAST_SEAL */
enum
{
	LAST_NUMBER = 1,
	LAST_HASH,
	LAST_XMIN,
	LAST_HORIZON,
	LAST_FITS,
	NEXT_HORIZON,
	NEXT_MEMORY
};

/*
 * The last seal, and whether what was noted since, under token $1, tells what has changed: that seal was made by this start
 * of the server, in this database at this home, and nothing is here that comes from elsewhere, with rows that are none of
 * the engine's.
 */
#define LAST_SEAL \
	"SELECT s.number, encode(s.hash, 'hex'), s.xmin, s.horizon," \
	" s.memory = m.memory AND h.database = d.oid AND NOT EXISTS (SELECT FROM wfproc.workflow w WHERE w.home <> h.token)," \
	" pg_snapshot_xmin(pg_current_snapshot()), m.memory" \
	" FROM pg_database d LEFT JOIN wfproc.home h ON true" \
	" LEFT JOIN LATERAL (SELECT sha256($1 || " UTF8_OF("h.token, d.oid") ") AS memory) m ON true" \
	" LEFT JOIN LATERAL (SELECT s.xmin, s.* FROM wfproc.seal s ORDER BY number DESC LIMIT 1) s ON true" \
	" WHERE d.datname = current_database()"

/*
 * What was noted since the last seal, whose row SPI has: seal->some and its groups.
 */
static void
look_at_notes(NewSeal *seal, bool whole)
{
	HeapTuple	last = SPI_tuptable->vals[0];
	TupleDesc	desc = SPI_tuptable->tupdesc;
	bool		isnull;
	bool		none;
	bool		fits = DatumGetBool(SPI_getbinval(last, desc, LAST_FITS, &none));
	Datum		horizon = SPI_getbinval(last, desc, LAST_HORIZON, &isnull);
	TransactionId xmin = DatumGetTransactionId(SPI_getbinval(last, desc, LAST_XMIN, &isnull));
	int64	   *groups;
	Datum	   *datums;
	int			count;

	if (none || !fits)
		return;

	/*
	 * one of this transaction may yet be rolled back: what was noted before
	 * it is still needed
	 */
	seal->some = wf_touched_since(DatumGetFullTransactionId(horizon), !TransactionIdIsCurrentTransactionId(xmin), &groups, &count) &&
		!whole;
	datums = palloc_extended((count + 1) * sizeof(Datum), MCXT_ALLOC_HUGE);
	for (int i = 0; i < count; i++)
		datums[i] = Int64GetDatum(groups[i]);
	seal->groups = PointerGetDatum(construct_array(datums, count, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/*
 * Begins the seal that comes after the last one.  What was noted is read after the snapshot whose horizon is kept, and before
 * the one that logs are read with.
 */
static void
begin_seal(NewSeal *seal, bool whole)
{
	static SPIPlanPtr plan = NULL;
	const Oid	types[] = {BYTEAOID};
	Datum		values[1];
	bool		nulls[1] = {true};
	const uint8 *token = wf_touched_token();
	bool		isnull;
	Datum		number;

	wf_touched_begin();
	if (token != NULL)
		wf_row_set_bytes(values, nulls, 1, token, WF_TOUCHED_TOKEN_LEN);
	memset(seal, 0, sizeof(NewSeal));
	(void) wf_spi_execute(&plan, LAST_SEAL, lengthof(types), types, values, nulls[0] ? "n" : " ", false, SPI_OK_SELECT);
	number = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, LAST_NUMBER, &isnull);
	seal->number = isnull ? 1 : DatumGetInt64(number) + 1;
	seal->previous = isnull ? NO_SEAL : SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, LAST_HASH);
	seal->horizon = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, NEXT_HORIZON, &isnull);
	seal->memory = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, NEXT_MEMORY, &seal->no_memory);
	look_at_notes(seal, whole);
}

/*
 * Writes down the heads that differ from those of the last seal, of the groups that the seal looks at.  From here on
 * seal->groups are those that have changed.
 */
static void
write_leaves(NewSeal *seal)
{
	static SPIPlanPtr whole_plan = NULL;
	static SPIPlanPtr plan = NULL;
	const Oid	types[] = {INT8OID, INT8ARRAYOID};
	Datum		values[] = {Int64GetDatum(seal->number), seal->groups};
	bool		isnull;

	if (seal->some)
		(void) wf_spi_execute(&plan, "WITH " HEADS_IN_GROUPS ", " SEALED_HEADS_IN_GROUPS ", " WRITE_LEAVES, 2, types, values,
							  NULL, false, SPI_OK_SELECT);
	else
		(void) wf_spi_execute(&whole_plan, "WITH " HEADS ", " SEALED_HEADS ", " WRITE_LEAVES, 1, types, values, NULL, false,
							  SPI_OK_SELECT);
	seal->groups = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	seal->worse = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
}

/*
 * The same for the versions' code.
 */
static void
write_versions(NewSeal *seal)
{
	static SPIPlanPtr plan = NULL;
	const Oid	types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(seal->number)};
	bool		isnull;

	(void) wf_spi_execute(&plan,
						  "WITH " VERSIONS ", " SEALED_VERSIONS ","
						  " changed AS (SELECT coalesce(c.workflow_id, s.workflow_id) AS workflow_id, coalesce(c.version, s.version) AS version,"
						  " coalesce(c.name, s.name) AS name, c.hash, s.hash IS NOT NULL AS worse"
						  " FROM code c FULL JOIN sealed_code s USING (workflow_id, version) WHERE c.hash IS DISTINCT FROM s.hash),"
						  " written AS (INSERT INTO wfproc.seal_version (workflow_id, version, number, name, hash)"
						  " SELECT workflow_id, version, $1, name, hash FROM changed)"
						  " SELECT count(*) FILTER (WHERE worse) FROM changed",
						  lengthof(types), types, values, NULL, false, SPI_OK_SELECT);
	seal->worse += DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
}

/*
 * Computes the nodes of the groups that have changed anew, and those above them.
 */
static void
write_nodes(const NewSeal *seal)
{
	static SPIPlanPtr delete_plan = NULL;
	static SPIPlanPtr lower_plan = NULL;
	static SPIPlanPtr upper_plan = NULL;
	const Oid	types[] = {INT8OID, INT8ARRAYOID};
	Datum		values[] = {Int64GetDatum(seal->number), seal->groups};

	(void) wf_spi_execute(&delete_plan,
						  "DELETE FROM wfproc.seal_node n USING (SELECT 0 AS level, nth FROM unnest($2) nth UNION ALL"
						  " SELECT DISTINCT 1, nth / " CppAsString2(NODE_GROUPS) " FROM unnest($2) nth) d"
						  " WHERE $1 > 0 AND n.level = d.level AND n.nth = d.nth",
						  lengthof(types), types, values, NULL, false, SPI_OK_DELETE);
	(void) wf_spi_execute(&lower_plan,
						  "INSERT INTO wfproc.seal_node (level, nth, instances, events, hash)"
						  " SELECT 0, nth, l.instances, l.events, l.hash FROM unnest($2) nth, LATERAL ("
						  "SELECT count(*) AS instances, sum(seq) AS events, "
						  NODE_HASH("string_agg(" LEAF_HASH ", ''::bytea ORDER BY instance_id)") " AS hash"
						  " FROM (" SEALED_HEADS_IN_GROUP ") newest WHERE seq IS NOT NULL) l"
						  " WHERE l.instances > 0",
						  lengthof(types), types, values, NULL, false, SPI_OK_INSERT);
	(void) wf_spi_execute(&upper_plan,
						  "INSERT INTO wfproc.seal_node (level, nth, instances, events, hash)"
						  " SELECT 1, u.nth, l.instances, l.events, l.hash"
						  " FROM (SELECT DISTINCT nth / " CppAsString2(NODE_GROUPS) " AS nth FROM unnest($2) nth) u, LATERAL ("
						  "SELECT sum(n.instances) AS instances, sum(n.events) AS events, "
						  NODE_HASH("string_agg(n.hash, ''::bytea ORDER BY n.nth)") " AS hash FROM (SELECT * FROM wfproc.seal_node n"
						  " WHERE n.level = 0 AND n.nth >= u.nth * " CppAsString2(NODE_GROUPS)
						  " AND n.nth < (u.nth + 1) * " CppAsString2(NODE_GROUPS)
						  " LIMIT " CppAsString2(NODE_GROUPS) ") n) l WHERE $1 > 0 AND l.instances > 0",
						  lengthof(types), types, values, NULL, false, SPI_OK_INSERT);
}

/*
 * Writes the seal's row and returns its text, in the caller's memory context at SPI_connect().
 */
static char *
write_seal(const NewSeal *seal)
{
	static SPIPlanPtr plan = NULL;
	const Oid	types[] = {INT8OID, TIMESTAMPTZOID, TEXTOID, XID8OID, BYTEAOID};
	Datum		values[] = {
		Int64GetDatum(seal->number), TimestampTzGetDatum(wf_clock_now()), CStringGetTextDatum(seal->previous), seal->horizon,
		seal->memory
	};
	const char	nulls[] = {' ', ' ', ' ', ' ', seal->no_memory ? 'n' : ' '};
	char	   *line;

	(void) wf_spi_execute(&plan,
						  "WITH " SEALED_VERSIONS ","
						  " total AS (SELECT coalesce(sum(instances), 0)::bigint AS instances, coalesce(sum(events), 0)::bigint AS events,"
						  " sha256('node'::bytea || " VERSIONS_NODE " || coalesce(string_agg(hash, ''::bytea ORDER BY nth), ''::bytea))"
						  " AS root FROM wfproc.seal_node WHERE level = 1),"
						  " line AS (SELECT t.*, concat_ws(' ', '" SEAL_TAG "', h.token, $1,"
						  " to_char($2 AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), instances, events, encode(root, 'hex'), $3)"
						  " AS body FROM total t, wfproc.home h),"
						  " written AS (INSERT INTO wfproc.seal (number, at, instances, events, root, previous, hash, horizon, memory)"
						  " SELECT $1, $2, instances, events, root, decode($3, 'hex'), sha256(convert_to(body, 'UTF8')), $4, $5 FROM line)"
						  " SELECT body || ' ' || encode(sha256(convert_to(body, 'UTF8')), 'hex') FROM line",
						  lengthof(types), types, values, nulls, false, SPI_OK_SELECT);
	if (SPI_processed != 1)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this database has no row in wfproc.home"),
				 errhint("wfproc.adopt() makes a copy of a database a home of its own.")));
	line = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	return strcpy(SPI_palloc(strlen(line) + 1), line);
}

static char *
make_seal(bool whole)
{
	NewSeal		seal;
	char	   *line;
	WfSpi		spi;

	wf_spi_begin(&spi);
	/* it would take longer than what it makes fast */
	(void) set_config_option("jit", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	begin_seal(&seal, whole);
	write_leaves(&seal);
	write_versions(&seal);
	write_nodes(&seal);
	line = write_seal(&seal);
	wf_spi_end(&spi);
	if (seal.worse > 0)
		ereport(WARNING,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg(INT64_FORMAT " logs or versions are not what seal " INT64_FORMAT " says any more", seal.worse, seal.number - 1),
				 errhint("wfproc.check_seal() names them; the new seal takes them as they are now.")));
	return line;
}

/*
 * seal(whole) -> the seal as a line of text
 */
Datum
wfproc_seal(PG_FUNCTION_ARGS)
{
	wf_check_not_in_handler("seal");
	wf_check_can_write("seal logs");
	wf_check_not_null(fcinfo, 0, "whole");
	if (!has_privs_of_role(GetUserId(), wf_catalog_owner()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to seal the logs"),
				 errhint("Only the owner of extension \"wfproc\", role \"%s\", can do that.",
						 GetUserNameFromId(wf_catalog_owner(), false))));
	LockRelationOid(wf_catalog_oid(WF_SEAL), ShareRowExclusiveLock);
	PG_RETURN_TEXT_P(cstring_to_text(make_seal(PG_GETARG_BOOL(0))));
}

/* a seal's text, taken apart */
typedef struct Seal
{
	char	   *words[WORDS];
	int64		number;
} Seal;

static void
not_a_seal(const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("that is no seal: %s", why),
			 errhint("It must be the line that wfproc.seal() returned, character by character.")));
}

/*
 * Whether the last word is the hash of what comes before it.
 */
static bool
hash_fits(const char *line, const char *last)
{
	uint8		hash[WF_SHA256_LEN];
	StringInfoData hex;
	WfBytes		part;

	part.data = line;
	part.len = last - line - 1;
	wf_hash_sha256(&part, 1, hash);
	initStringInfo(&hex);
	wf_hash_append_hex(&hex, hash, WF_SHA256_LEN);
	return strcmp(hex.data, last) == 0;
}

/*
 * Takes a seal's text apart; a line feed at its end, as files have, is no part of it.
 */
static void
parse_seal(char *line, Seal *seal)
{
	char	   *last;
	char	   *end;
	int			len = strlen(line);

	if (len > 0 && line[len - 1] == '\n')
		line[len - 1] = '\0';
	last = strrchr(line, ' ');
	if (len > MAX_SEAL_TEXT || last == NULL || strncmp(line, SEAL_TAG " ", strlen(SEAL_TAG) + 1) != 0)
		not_a_seal("it does not begin with " SEAL_TAG);
	if (!hash_fits(line, last + 1))
		not_a_seal("its hash does not fit");
	for (int i = 0; i < WORDS; i++)
	{
		seal->words[i] = line;
		line += strcspn(line, " ");
		if ((*line == '\0') != (i == WORDS - 1))
			not_a_seal("it has too few words, or too many");
		*line++ = '\0';
	}
	errno = 0;
	seal->number = strtoll(seal->words[WORD_NUMBER], &end, 10);
	if (errno != 0 || *end != '\0' || seal->number < 1)
		not_a_seal("its number is none");
}

/*
 * A seal is of this database where its token says so, or where the row that it has here came with a dump or a copy.
 * Returns whether its row is here as it was written.
 */
static bool
find_seal(const Seal *seal)
{
	static SPIPlanPtr plan = NULL;
	const Oid	types[] = {INT8OID, TEXTOID, TEXTOID};
	Datum		values[] = {
		Int64GetDatum(seal->number), CStringGetTextDatum(seal->words[WORD_HASH]), CStringGetTextDatum(seal->words[WORD_TOKEN])
	};
	bool		isnull;
	bool		home;
	bool		known;

	(void) wf_spi_execute(&plan,
						  "SELECT EXISTS (SELECT FROM wfproc.seal WHERE number = $1 AND hash = decode($2, 'hex')),"
						  " EXISTS (SELECT FROM wfproc.home WHERE token::text = $3)",
						  lengthof(types), types, values, NULL, true, SPI_OK_SELECT);
	known = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	home = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	if (!known && !home)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("that is the seal of another database, %s", seal->words[WORD_TOKEN]),
				 errhint("Its token is in wfproc.home of the database that it was made in.")));
	return known;
}

/*
 * The root that the heads kept here give for a seal.
 */
static char *
root_of(int64 number)
{
	static SPIPlanPtr plan = NULL;
	const Oid	types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(number)};

	return get_text(&plan,
					"WITH " SEALED_VERSIONS ", " SEALED_HEADS ","
					" lower AS (SELECT instance_id / " CppAsString2(WF_GROUP_IDS) " AS nth, "
					NODE_HASH("string_agg(" LEAF_HASH ", ''::bytea ORDER BY instance_id)") " AS hash"
					" FROM sealed WHERE seq IS NOT NULL GROUP BY 1),"
					" upper AS (SELECT nth / " CppAsString2(NODE_GROUPS) " AS nth, "
					NODE_HASH("string_agg(hash, ''::bytea ORDER BY nth)") " AS hash FROM lower GROUP BY 1)"
					" SELECT encode(sha256('node'::bytea || " VERSIONS_NODE " ||"
					" coalesce((SELECT string_agg(hash, ''::bytea ORDER BY nth) FROM upper), ''::bytea)), 'hex')",
					lengthof(types), types, values, true);
}

static void
put_problem(ReturnSetInfo *result, const char *id, const char *problem)
{
	Datum		values[3];
	bool		nulls[3] = {true, true, true};

	wf_row_set_text(values, nulls, 1, id);
	wf_row_set_text(values, nulls, 2, problem);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * Rows (id, problem, seq) as SPI has them.
 */
static void
put_problems(ReturnSetInfo *result, int count)
{
	for (int i = 0; i < count; i++)
	{
		Datum		values[3];
		bool		nulls[3];

		heap_deform_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, values, nulls);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
}

/*
 * Instances whose log does not contain the sealed head any more.
 */
static void
check_heads(ReturnSetInfo *result, int64 number)
{
	static SPIPlanPtr plan = NULL;
	const Oid	types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(number)};

	put_problems(result,
				 wf_spi_execute(&plan,
								"WITH " SEALED_HEADS
								" SELECT s.id, CASE WHEN i.instance_id IS NULL THEN 'removed' WHEN e.seq IS NOT NULL THEN 'changed'"
								" WHEN l.seq > s.seq THEN 'row missing' ELSE 'cut' END,"
								" CASE WHEN i.instance_id IS NULL THEN NULL WHEN e.seq IS NOT NULL OR l.seq > s.seq THEN s.seq"
								" ELSE coalesce(l.seq, 0) + 1 END"
								" FROM sealed s"
								" LEFT JOIN wfproc.instance i ON i.instance_id = s.instance_id AND i.id = s.id"
								" LEFT JOIN wfproc.event e ON e.instance_id = s.instance_id AND e.seq = s.seq"
								" LEFT JOIN LATERAL (SELECT l.seq FROM wfproc.event l WHERE e.seq IS NULL AND l.instance_id = s.instance_id"
								" ORDER BY l.seq DESC LIMIT 1) l ON true"
								" WHERE s.seq IS NOT NULL AND (i.instance_id IS NULL OR (s.seq > 0 AND e.hash IS DISTINCT FROM s.hash))"
								" ORDER BY s.id",
								lengthof(types), types, values, NULL, true, SPI_OK_SELECT));
}

static void
check_versions(ReturnSetInfo *result, int64 number)
{
	static SPIPlanPtr plan = NULL;
	const Oid	types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(number)};

	put_problems(result,
				 wf_spi_execute(&plan,
								"WITH " VERSIONS ", " SEALED_VERSIONS
								" SELECT NULL::text, format('version %s of workflow \"%s\" %s', s.version, s.name,"
								" CASE WHEN c.hash IS NULL THEN 'removed' ELSE 'changed' END), NULL::bigint"
								" FROM sealed_code s LEFT JOIN code c USING (workflow_id, version)"
								" WHERE s.hash IS NOT NULL AND c.hash IS DISTINCT FROM s.hash ORDER BY s.name, s.version",
								lengthof(types), types, values, NULL, true, SPI_OK_SELECT));
}

/*
 * check_seal(seal) -> (id, problem, seq) for all that does not fit.  What is kept here of the seal is trusted only as far as
 * it gives the seal's root; where it does not, that is the first row, and the others are what can still be found.
 */
Datum
wfproc_check_seal(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Seal		seal;
	WfSpi		spi;

	wf_check_not_in_handler("check_seal");
	if (!has_privs_of_role(GetUserId(), wf_catalog_owner()) && !has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_DATA))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to check a seal"),
				 errhint("It speaks of all instances: only the owner of extension \"wfproc\", role \"%s\", and members of pg_read_all_data can do that.",
						 GetUserNameFromId(wf_catalog_owner(), false))));
	parse_seal(text_to_cstring(PG_GETARG_TEXT_PP(0)), &seal);
	InitMaterializedSRF(fcinfo, 0);
	wf_spi_begin(&spi);
	if (!find_seal(&seal))
		put_problem(result, NULL, "seal unknown");
	if (strcmp(root_of(seal.number), seal.words[WORD_ROOT]) != 0)
		put_problem(result, NULL, "sealed heads changed");
	check_heads(result, seal.number);
	check_versions(result, seal.number);
	wf_spi_end(&spi);
	return (Datum) 0;
}
