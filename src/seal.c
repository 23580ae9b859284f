/*
 * seal.c: wfproc.seal() and wfproc.check_seal(): a Merkle root over the heads of all logs, to be kept elsewhere, and what of
 * it does not fit any more.
 *
 * Both are SQL entry points, and all is done by SQL on our own tables, as the extension's owner: what an auditor is to be
 * able to compute is computed the same way here.  seal() holds ShareRowExclusiveLock on wfproc.seal to the end of the
 * transaction, so that seals are numbered one by one; logs go on growing meanwhile.  check_seal() only reads, through the
 * caller's snapshot, and works on a standby.
 *
 * The tree: a leaf for each instance, a node for each 1024 instance_ids, the root above them and the node of the versions.
 * Only heads that differ from the last sealed ones are written down, and only their nodes computed anew; but each seal
 * looks at the head of each log, for nothing in the database can be trusted to say which have changed.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "catalog.h"
#include "check.h"
#include "clock.h"
#include "compat.h"
#include "hash.h"
#include "rows.h"
#include "spi.h"

PG_FUNCTION_INFO_V1(wfproc_seal);
PG_FUNCTION_INFO_V1(wfproc_check_seal);

#define SEAL_TAG "wfproc-seal/1"
/* "previous" of the first seal */
#define NO_SEAL "0000000000000000000000000000000000000000000000000000000000000000"
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
	" (SELECT string_agg(concat_ws(chr(31), h.name, h.arguments, encode(sha256(convert_to(h.code, 'UTF8')), 'hex')," \
	" encode(h.code_sha256, 'hex')), chr(31) ORDER BY h.name, h.arguments) FROM wfproc.version_helper h" \
	" WHERE h.workflow_id = v.workflow_id AND h.version = v.version)") ")"
#define NODE_HASH(children) "sha256('node'::bytea || coalesce(" children ", ''::bytea))"

/* heads of logs now, and as they were sealed up to seal number $1 */
#define HEADS \
	"head AS (SELECT i.instance_id, i.id, coalesce(e.seq, 0) AS seq," \
	" coalesce(e.hash, sha256(convert_to('wfproc/1' || i.id, 'UTF8'))) AS hash" \
	" FROM wfproc.instance i LEFT JOIN LATERAL (SELECT e.seq, e.hash FROM wfproc.event e" \
	" WHERE e.instance_id = i.instance_id ORDER BY e.seq DESC LIMIT 1) e ON true)"
#define SEALED_HEADS \
	"sealed AS (SELECT DISTINCT ON (instance_id) instance_id, id, seq, hash FROM wfproc.seal_leaf WHERE number <= $1" \
	" ORDER BY instance_id DESC, number DESC)"
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

/*
 * The number of the seal to come; *previous becomes the hash of the one before.
 */
static int64
next_number(char **previous)
{
	static SPIPlanPtr plan = NULL;
	bool		isnull;

	if (wf_spi_execute(&plan, "SELECT number, encode(hash, 'hex') FROM wfproc.seal ORDER BY number DESC LIMIT 1", 0, NULL, NULL,
					   NULL, false, SPI_OK_SELECT) == 0)
	{
		*previous = NO_SEAL;
		return 1;
	}
	*previous = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2);
	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull)) + 1;
}

/*
 * Writes down the heads that differ from those of the last seal.  Returns the numbers of their nodes as an array, and in
 * *worse how many of them are none that a log can have come to since.
 */
static Datum
write_leaves(int64 number, int64 *worse)
{
	static SPIPlanPtr plan = NULL;
	const Oid	types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(number)};
	Datum		buckets;
	bool		isnull;

	(void) wf_spi_execute(&plan,
						  "WITH " HEADS ", " SEALED_HEADS ","
						  " changed AS (SELECT coalesce(h.instance_id, s.instance_id) AS instance_id, coalesce(h.id, s.id) AS id,"
						  " h.seq, h.hash, s.seq IS NOT NULL AND (h.seq IS NULL OR h.seq < s.seq OR h.seq = s.seq OR h.id <> s.id) AS worse"
						  " FROM head h FULL JOIN sealed s USING (instance_id)"
						  " WHERE h.seq IS DISTINCT FROM s.seq OR h.hash IS DISTINCT FROM s.hash OR h.id <> s.id),"
						  " written AS (INSERT INTO wfproc.seal_leaf (instance_id, number, id, seq, hash)"
						  " SELECT instance_id, $1, id, seq, hash FROM changed ORDER BY instance_id)"
						  " SELECT coalesce(array_agg(DISTINCT instance_id / 1024), '{}'), count(*) FILTER (WHERE worse) FROM changed",
						  lengthof(types), types, values, NULL, false, SPI_OK_SELECT);
	buckets = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	*worse = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	return buckets;
}

/*
 * The same for the versions' code.
 */
static void
write_versions(int64 number, int64 *worse)
{
	static SPIPlanPtr plan = NULL;
	const Oid	types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(number)};
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
	*worse += DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
}

/*
 * Computes the given nodes anew.
 */
static void
write_nodes(int64 number, Datum buckets)
{
	static SPIPlanPtr delete_plan = NULL;
	static SPIPlanPtr insert_plan = NULL;
	const Oid	types[] = {INT8OID, INT8ARRAYOID};
	Datum		values[] = {Int64GetDatum(number), buckets};

	(void) wf_spi_execute(&delete_plan, "DELETE FROM wfproc.seal_node WHERE $1 > 0 AND bucket = ANY ($2)", lengthof(types), types,
						  values, NULL, false, SPI_OK_DELETE);
	(void) wf_spi_execute(&insert_plan,
						  "INSERT INTO wfproc.seal_node (bucket, instances, events, hash)"
						  " SELECT b.bucket, l.instances, l.events, l.hash FROM unnest($2) b (bucket), LATERAL ("
						  "SELECT count(*) AS instances, sum(seq) AS events, "
						  NODE_HASH("string_agg(" LEAF_HASH ", ''::bytea ORDER BY instance_id)") " AS hash"
						  " FROM (SELECT DISTINCT ON (instance_id) instance_id, id, seq, hash FROM wfproc.seal_leaf"
						  " WHERE instance_id >= b.bucket * 1024 AND instance_id < (b.bucket + 1) * 1024 AND number <= $1"
						  " ORDER BY instance_id DESC, number DESC) newest WHERE seq IS NOT NULL) l"
						  " WHERE l.instances > 0",
						  lengthof(types), types, values, NULL, false, SPI_OK_INSERT);
}

/*
 * Writes the seal's row and returns its text, in the caller's memory context at SPI_connect().
 */
static char *
write_seal(int64 number, const char *previous)
{
	static SPIPlanPtr plan = NULL;
	const Oid	types[] = {INT8OID, TIMESTAMPTZOID, TEXTOID};
	Datum		values[] = {Int64GetDatum(number), TimestampTzGetDatum(wf_clock_now()), CStringGetTextDatum(previous)};
	char	   *line = get_text(&plan,
								"WITH " SEALED_VERSIONS ","
								" total AS (SELECT coalesce(sum(instances), 0)::bigint AS instances, coalesce(sum(events), 0)::bigint AS events,"
								" sha256('node'::bytea || " VERSIONS_NODE " || coalesce(string_agg(hash, ''::bytea ORDER BY bucket), ''::bytea))"
								" AS root FROM wfproc.seal_node),"
								" line AS (SELECT t.*, concat_ws(' ', '" SEAL_TAG "', h.token, $1,"
								" to_char($2 AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), instances, events, encode(root, 'hex'), $3)"
								" AS body FROM total t, wfproc.home h),"
								" written AS (INSERT INTO wfproc.seal (number, at, instances, events, root, previous, hash)"
								" SELECT $1, $2, instances, events, root, decode($3, 'hex'), sha256(convert_to(body, 'UTF8')) FROM line)"
								" SELECT body || ' ' || encode(sha256(convert_to(body, 'UTF8')), 'hex') FROM line",
								lengthof(types), types, values, false);

	if (line == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this database has no row in wfproc.home"),
				 errhint("wfproc.adopt() makes a copy of a database a home of its own.")));
	return line;
}

static char *
seal_all(void)
{
	char	   *previous;
	char	   *line;
	int64		worse;
	int64		number;
	Datum		buckets;
	WfSpi		spi;

	wf_spi_begin(&spi);
	number = next_number(&previous);
	buckets = write_leaves(number, &worse);
	write_versions(number, &worse);
	write_nodes(number, buckets);
	line = write_seal(number, previous);
	line = strcpy(SPI_palloc(strlen(line) + 1), line);
	wf_spi_end(&spi);
	if (worse > 0)
		ereport(WARNING,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg(INT64_FORMAT " logs or versions are not what seal " INT64_FORMAT " says any more", worse, number - 1),
				 errhint("wfproc.check_seal() names them; the new seal takes them as they are now.")));
	return line;
}

/*
 * seal() -> the seal as a line of text
 */
Datum
wfproc_seal(PG_FUNCTION_ARGS)
{
	wf_check_not_in_handler("seal");
	wf_check_can_write("seal logs");
	if (!has_privs_of_role(GetUserId(), wf_catalog_owner()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to seal the logs"),
				 errhint("Only the owner of extension \"wfproc\", role \"%s\", can do that.",
						 GetUserNameFromId(wf_catalog_owner(), false))));
	LockRelationOid(wf_catalog_oid(WF_SEAL), ShareRowExclusiveLock);
	PG_RETURN_TEXT_P(cstring_to_text(seal_all()));
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
					" node AS (SELECT instance_id / 1024 AS bucket, " NODE_HASH("string_agg(" LEAF_HASH ", ''::bytea ORDER BY instance_id)")
					" AS hash FROM sealed WHERE seq IS NOT NULL GROUP BY 1)"
					" SELECT encode(sha256('node'::bytea || " VERSIONS_NODE " ||"
					" coalesce((SELECT string_agg(hash, ''::bytea ORDER BY bucket) FROM node), ''::bytea)), 'hex')",
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
