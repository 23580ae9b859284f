/*
 * workflow.c: what a backend knows about definitions: rows of wfproc.workflow with their grants, and the versions in use.
 *
 * Called by the API, by turns and by replay.  Everything lives in one memory context, is read when it is first asked for,
 * and is thrown away as a whole by wf_workflow_refresh() once any of it may have changed: so a pointer is good until the
 * next turn or API call, and nothing under a running handler moves.
 *
 * Who changes a definition calls wf_workflow_changed(), which sends a relcache message for wfproc.workflow: other backends
 * hear of it at commit, this one at once, and once more should the transaction or subtransaction be rolled back.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "catalog.h"
#include "check.h"
#include "definition.h"
#include "guc.h"
#include "step.h"
#include "workflow.h"

typedef struct WfIdEntry
{
	int			workflow_id;	/* key */
	WfWorkflow *workflow;
} WfIdEntry;

typedef struct WfNameEntry
{
	char		name[WF_MAX_NAME + 1];	/* key */
	WfWorkflow *workflow;
} WfNameEntry;

/* relations whose change makes the cache stale */
static const WfRelation watched[] = {WF_HOME, WF_WORKFLOW, WF_VERSION, WF_VERSION_HELPER, WF_ROLLOUT, WF_ACL};

static MemoryContext cache_context = NULL;
static HTAB *by_id = NULL;
static HTAB *by_name = NULL;
static Oid	watched_oids[lengthof(watched)];
static bool superuser_handlers; /* the setting when the cache was begun */
static bool stale = false;

/*
 * pg_proc is busier than the rest, so only functions that are in use count: hash values of their cache keys, and whether
 * some version has a problem, which any new function may be the end of.
 */
static List *function_hashes = NIL;
static bool any_problem = false;

static void
on_relation_change(Datum arg, Oid relid)
{
	if (!OidIsValid(relid))
		stale = true;
	for (int i = 0; !stale && i < lengthof(watched); i++)
		if (watched_oids[i] == relid)
			stale = true;
}

/* a role, a schema or a language */
static void
on_catalog_change(Datum arg, int cacheid, uint32 hashvalue)
{
	stale = true;
}

static void
on_function_change(Datum arg, int cacheid, uint32 hashvalue)
{
	if (hashvalue == 0 || any_problem || list_member_int(function_hashes, (int) hashvalue))
		stale = true;
}

/*
 * Registers the invalidation callbacks; once per process.
 */
void
wf_workflow_init(void)
{
	CacheRegisterRelcacheCallback(on_relation_change, (Datum) 0);
	CacheRegisterSyscacheCallback(PROCOID, on_function_change, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, on_catalog_change, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, on_catalog_change, (Datum) 0);
	CacheRegisterSyscacheCallback(LANGOID, on_catalog_change, (Datum) 0);
}

/*
 * Throws the cache away where it is stale.  Not under a running handler: the engine's code up the stack holds pointers into
 * it, and the step is to end under the definition that it has begun with.
 */
void
wf_workflow_refresh(void)
{
	if (MyWfStep != NULL)
		return;
	AcceptInvalidationMessages();
	if (cache_context == NULL || (!stale && superuser_handlers == wf_superuser_handlers))
		return;
	by_id = NULL;
	by_name = NULL;
	function_hashes = NIL;
	any_problem = false;
	stale = false;
	MemoryContextReset(cache_context);
}

/*
 * To be called after changing a definition or a grant.
 */
void
wf_workflow_changed(void)
{
	CacheInvalidateRelcacheByRelid(wf_catalog_oid(WF_WORKFLOW));
	/* processes the message here, and makes the rows visible to the next look */
	CommandCounterIncrement();
}

/*
 * Makes the hash tables of an empty cache.
 */
static void
begin_cache(void)
{
	HASHCTL		ctl;

	if (by_name != NULL)
		return;
	if (cache_context == NULL)
		cache_context = AllocSetContextCreate(CacheMemoryContext, "wfproc workflows", ALLOCSET_DEFAULT_SIZES);
	for (int i = 0; i < lengthof(watched); i++)
		watched_oids[i] = wf_catalog_oid(watched[i]);
	superuser_handlers = wf_superuser_handlers;
	ctl.hcxt = cache_context;
	ctl.keysize = sizeof(int);
	ctl.entrysize = sizeof(WfIdEntry);
	by_id = hash_create("wfproc workflows by id", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	ctl.keysize = WF_MAX_NAME + 1;
	ctl.entrysize = sizeof(WfNameEntry);
	by_name = hash_create("wfproc workflows by name", 64, &ctl, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
}

/*
 * What on_failure says; false where it is not one of the values.
 */
bool
wf_workflow_parse_on_failure(const char *value, WfOnFailure *on_failure)
{
	if (strcmp(value, "pause") == 0)
		*on_failure = WF_ON_FAILURE_PAUSE;
	else if (strcmp(value, "fail") == 0)
		*on_failure = WF_ON_FAILURE_FAIL;
	else if (strcmp(value, "dead_letter") == 0)
		*on_failure = WF_ON_FAILURE_DEAD_LETTER;
	else
		return false;
	return true;
}

/*
 * Enters a workflow into both hash tables.  A name has at most WF_MAX_NAME bytes: define() saw to that.
 */
static WfWorkflow *
remember(WfWorkflow *workflow)
{
	WfIdEntry  *id_entry;
	WfNameEntry *name_entry;

	if (workflow == NULL)
		return NULL;
	id_entry = hash_search(by_id, &workflow->workflow_id, HASH_ENTER, NULL);
	id_entry->workflow = workflow;
	name_entry = hash_search(by_name, workflow->name, HASH_ENTER, NULL);
	name_entry->workflow = workflow;
	return workflow;
}

/*
 * The workflow of that number, or NULL, which is not remembered.
 */
WfWorkflow *
wf_workflow_find(int workflow_id)
{
	WfIdEntry  *entry;
	MemoryContext old;
	WfWorkflow *workflow;

	begin_cache();
	entry = hash_search(by_id, &workflow_id, HASH_FIND, NULL);
	if (entry != NULL)
		return entry->workflow;
	old = MemoryContextSwitchTo(cache_context);
	workflow = wf_definition_read(workflow_id);
	MemoryContextSwitchTo(old);
	return remember(workflow);
}

/*
 * The workflow of that number, which an instance's row has named.
 */
WfWorkflow *
wf_workflow_get(int workflow_id)
{
	WfWorkflow *workflow = wf_workflow_find(workflow_id);

	if (workflow == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("workflow %d does not exist", workflow_id)));
	return workflow;
}

static WfWorkflow *
find_by_name(const char *name)
{
	WfNameEntry *entry;
	MemoryContext old;
	WfWorkflow *workflow;

	if (strlen(name) > WF_MAX_NAME)
		return NULL;
	begin_cache();
	entry = hash_search(by_name, name, HASH_FIND, NULL);
	if (entry != NULL)
		return entry->workflow;
	old = MemoryContextSwitchTo(cache_context);
	workflow = wf_definition_read_by_name(name);
	MemoryContextSwitchTo(old);
	return remember(workflow);
}

/*
 * The workflow of that name, which a user has named.
 */
WfWorkflow *
wf_workflow_by_name(const char *name, bool missing_ok)
{
	WfWorkflow *workflow = find_by_name(name);

	if (workflow == NULL && !missing_ok)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("workflow \"%s\" does not exist", name),
				 errhint("Publish it with wfproc.define().")));
	return workflow;
}

/*
 * Whether clients may send the event to the workflow's instances.
 */
bool
wf_workflow_accepts(const WfWorkflow *workflow, const char *event)
{
	ListCell   *lc;

	if (workflow->accepts_all)
		return true;
	foreach(lc, workflow->accepts)
	{
		if (strcmp(lfirst(lc), event) == 0)
			return true;
	}
	return false;
}

/*
 * Reads a version into the cache; NULL where it was never published.
 */
static WfVersion *
load_version(WfWorkflow *workflow, int number)
{
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "wfproc version", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(scratch);
	WfVersion  *version;
	WfPublished published;
	ListCell   *lc;

	if (!wf_definition_read_version(workflow->workflow_id, number, &published))
	{
		MemoryContextSwitchTo(old);
		MemoryContextDelete(scratch);
		return NULL;
	}
	version = wf_version_prepare(workflow, number, &published, cache_context);
	MemoryContextSwitchTo(cache_context);
	workflow->versions = lappend(workflow->versions, version);
	if (version->problem != NULL)
		any_problem = true;
	foreach(lc, version->functions)
		function_hashes = lappend_int(function_hashes,
									  (int) GetSysCacheHashValue1(PROCOID, ObjectIdGetDatum(lfirst_oid(lc))));
	MemoryContextSwitchTo(old);
	MemoryContextDelete(scratch);
	return version;
}

/*
 * A version of a workflow, whose code can be called unless its problem says why not.  NULL: it was never published.
 */
WfVersion *
wf_workflow_find_version(WfWorkflow *workflow, int version)
{
	ListCell   *lc;

	foreach(lc, workflow->versions)
	{
		WfVersion  *known = lfirst(lc);

		if (known->version == version)
			return known;
	}
	return load_version(workflow, version);
}

/*
 * The same of a number that a user has given: one that was never published is an error.
 */
WfVersion *
wf_workflow_version(WfWorkflow *workflow, int version)
{
	WfVersion  *found = wf_workflow_find_version(workflow, version);

	if (found == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("version %d of workflow \"%s\" does not exist", version, workflow->name),
				 errhint("The current version is %d.", workflow->current_version)));
	return found;
}

/*
 * The same of a number that a row has.  Where that version is gone this is its problem, and no error: it would come each time
 * that somebody looks at the row, and whoever has the instance could not even close it.
 */
WfVersion *
wf_workflow_version_of_row(WfWorkflow *workflow, int version)
{
	WfVersion  *found = wf_workflow_find_version(workflow, version);

	if (found != NULL)
		return found;
	found = palloc0(sizeof(WfVersion));
	found->version = version;
	/* nobody knows whether it had one */
	found->has_migrate = true;
	found->problem = psprintf("version %d does not exist", version);
	found->problem_code = ERRCODE_UNDEFINED_OBJECT;
	return found;
}

/*
 * Whether a roll-out concerns an instance that has come to a stamp.
 */
bool
wf_workflow_is_concerned(const WfRollout *rollout, int version, const Jsonb *attributes, TimestampTz at)
{
	if (rollout->at > at || rollout->version == version)
		return false;
	if (rollout->from_version != 0 ? rollout->from_version != version : rollout->version < version)
		return false;
	return JB_ROOT_COUNT(rollout->attributes) == 0 ||
		DatumGetBool(DirectFunctionCall2(jsonb_contains, JsonbPGetDatum(attributes), JsonbPGetDatum(rollout->attributes)));
}
