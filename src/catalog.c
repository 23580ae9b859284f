/*
 * catalog.c: finds the extension's own relations, and keeps their OIDs.
 *
 * Called by every module that reaches a table.  What is kept is thrown away when a relation of ours is invalidated (DROP
 * EXTENSION does that for each), and looked up again by name in schema wfproc, never by search_path.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "commands/sequence.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "catalog.h"

static const char *const relation_names[WF_RELATIONS] = {
	"home", "workflow", "version", "version_helper", "rollout", "instance", "event", "mailbox", "dead_letter", "link", "snapshot",
	"kept_snapshot", "idempotency", "acl", "seal", "instance_pkey", "instance_id_key", "event_pkey", "mailbox_pkey",
	"mailbox_due_idx", "dead_letter_pkey", "link_pkey", "snapshot_pkey", "kept_snapshot_pkey", "rollout_seq", "instance_seq",
	"mail_seq"
};

static bool valid = false;
static Oid	extension_oid = InvalidOid;
static Oid	extension_owner = InvalidOid;
static char extension_version[64];
static Oid	relation_oids[WF_RELATIONS];

static void
invalidate(Datum arg, Oid relid)
{
	if (!OidIsValid(relid))
		valid = false;
	for (int i = 0; valid && i < WF_RELATIONS; i++)
		if (relation_oids[i] == relid)
			valid = false;
}

/*
 * Registers the invalidation callback; once per process.
 */
void
wf_catalog_init(void)
{
	CacheRegisterRelcacheCallback(invalidate, (Datum) 0);
}

/*
 * Reads our row of pg_extension.  False where there is none.
 */
static bool
load_extension(void)
{
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ, CStringGetDatum("wfproc"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	extension_oid = InvalidOid;
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_extension form = (Form_pg_extension) GETSTRUCT(tuple);
		bool		isnull;
		Datum		version = heap_getattr(tuple, Anum_pg_extension_extversion, RelationGetDescr(rel), &isnull);

		extension_oid = form->oid;
		extension_owner = form->extowner;
		strlcpy(extension_version, isnull ? "" : TextDatumGetCString(version), sizeof(extension_version));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return OidIsValid(extension_oid);
}

static bool
load(void)
{
	Oid			namespace_oid;

	if (valid)
		return true;
	if (!load_extension())
		return false;
	namespace_oid = get_namespace_oid("wfproc", true);
	if (!OidIsValid(namespace_oid))
		return false;
	for (int i = 0; i < WF_RELATIONS; i++)
		relation_oids[i] = get_relname_relid(relation_names[i], namespace_oid);
	valid = true;
	return true;
}

static void
require(void)
{
	if (!load())
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"wfproc\" is not installed in this database"),
				 errhint("Run CREATE EXTENSION wfproc CASCADE.")));
}

/*
 * Whether the extension is installed here.  Needs a transaction.
 */
bool
wf_catalog_exists(void)
{
	return load();
}

/*
 * The installed version of the extension's SQL, like "1.0".
 */
const char *
wf_catalog_version(void)
{
	require();
	return extension_version;
}

Oid
wf_catalog_extension(void)
{
	require();
	return extension_oid;
}

Oid
wf_catalog_owner(void)
{
	require();
	return extension_owner;
}

/*
 * The OID of a relation of ours.
 */
Oid
wf_catalog_oid(WfRelation which)
{
	require();
	if (!OidIsValid(relation_oids[which]))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("relation \"wfproc.%s\" is missing", relation_names[which]),
				 errhint("The installed version of the extension is %s, the library's is %s: run ALTER EXTENSION wfproc UPDATE.",
						 extension_version, WF_EXTENSION_VERSION)));
	return relation_oids[which];
}

/*
 * The next number of one of our sequences, also within a stretch of steps, which is read-only for the handlers' sake.
 */
int64
wf_catalog_next_number(WfRelation sequence)
{
	bool		read_only = XactReadOnly;
	int64		number;

	/* an error ends the subtransaction, and that puts it back */
	XactReadOnly = false;
	number = nextval_internal(wf_catalog_oid(sequence), false);
	XactReadOnly = read_only;
	return number;
}
