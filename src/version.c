/*
 * version.c: makes a published version ready to be called, or says why it cannot be.
 *
 * Called by workflow.c each time that it loads a version: what was right when the version was published is looked at again,
 * since roles, rights, languages and the private copy can have changed.  A version that cannot be run is no error here: its
 * instances pause, and whoever reads the version's row may go on.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "catalog.h"
#include "code.h"
#include "errors.h"
#include "guc.h"
#include "version.h"

/*
 * Notes the first problem that is found.
 */
static void
set_problem(WfVersion *version, int code, const char *problem)
{
	if (version->problem != NULL)
		return;
	version->problem_code = code;
	version->problem = MemoryContextStrdup(GetMemoryChunkContext(version), problem);
}

/*
 * Whether the owner's handlers may be run at all.
 */
static void
check_owner(const WfWorkflow *workflow, WfVersion *version)
{
	if (!OidIsValid(workflow->owner))
		set_problem(version, ERRCODE_INSUFFICIENT_PRIVILEGE,
					psprintf("its owner, role \"%s\", does not exist", workflow->owner_name));
	else if (!wf_superuser_handlers && superuser_arg(workflow->owner))
		set_problem(version, ERRCODE_INSUFFICIENT_PRIVILEGE,
					psprintf("its owner, role \"%s\", is a superuser, and wfproc.superuser_handlers is off",
							 workflow->owner_name));
}

/* one of a version's functions, as published */
typedef struct Part
{
	WfCodeKind	kind;
	const char *qualified;
	const char *text;
	const uint8 *sha256;
} Part;

/*
 * Whether the function is there and is what was published.  A copy that belongs to somebody else could change any moment.
 */
static void
check_code(const WfWorkflow *workflow, WfVersion *version, const Part *part, const WfCode *code)
{
	char	   *location = wf_code_location(part->qualified, part->text, part->kind, workflow->workflow_id, version->version);

	if (code == NULL)
		set_problem(version, ERRCODE_WF_CODE_CHANGED,
					psprintf("function %s is missing", location));
	else if (memcmp(code->sha256, part->sha256, WF_SHA256_LEN) != 0)
		set_problem(version, ERRCODE_WF_CODE_CHANGED,
					psprintf("function %s is not what was published", location));
	else if (!code->by_name && code->owner != wf_catalog_owner() && !superuser_arg(code->owner))
		set_problem(version, ERRCODE_WF_CODE_CHANGED,
					psprintf("function %s does not belong to the owner of extension \"wfproc\"", location));
}

/*
 * Whether the owner may run this function.  On a copy nobody has EXECUTE: the owner's right was looked at when it was
 * published.
 */
static void
check_rights(const WfWorkflow *workflow, WfVersion *version, const WfCode *code)
{
	if (!superuser_arg(workflow->owner) && !wf_code_language_is_trusted(code->language))
		set_problem(version, ERRCODE_INSUFFICIENT_PRIVILEGE,
					psprintf("function %s is written in a language that is not trusted, and role \"%s\" is no superuser",
							 code->qualified, workflow->owner_name));
	if (code->by_name && !wf_code_may_execute(workflow->owner, code->function))
		set_problem(version, ERRCODE_INSUFFICIENT_PRIVILEGE,
					psprintf("role \"%s\" has no right to execute function %s", workflow->owner_name, code->qualified));
}

static void
load_function(const WfWorkflow *workflow, WfVersion *version, const Part *part, FmgrInfo *function)
{
	WfCode	   *code;

	if (version->problem != NULL)
		return;
	code = wf_code_find(part->qualified, part->text, part->kind, workflow->workflow_id, version->version);
	check_code(workflow, version, part, code);
	if (version->problem != NULL)
		return;
	check_rights(workflow, version, code);
	if (version->problem == NULL)
		fmgr_info_cxt(code->function, function, GetMemoryChunkContext(version));
}

static void
load_functions(const WfWorkflow *workflow, WfVersion *version, const WfPublished *published)
{
	Part		handler = {WF_CODE_HANDLER, published->handler, published->code, published->sha256};
	Part		migrate = {WF_CODE_MIGRATE, published->migrate, published->migrate_code, published->migrate_sha256};

	check_owner(workflow, version);
	load_function(workflow, version, &handler, &version->function);
	version->has_migrate = published->migrate != NULL;
	if (version->has_migrate)
		load_function(workflow, version, &migrate, &version->migrate);
}

/*
 * Whether an error says nothing about the function: a lock not got, a cancel, no memory.
 */
static bool
is_passing(int sqlerrcode)
{
	switch (ERRCODE_TO_CATEGORY(sqlerrcode))
	{
		case ERRCODE_OPERATOR_INTERVENTION:
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_TRANSACTION_ROLLBACK:
			return true;
		default:
			return sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
	}
}

/*
 * load_functions() in a subtransaction: what it raises for good (a library that is gone, a definition that cannot be
 * printed) is the version's problem and not that of whoever asks.
 */
static void
try_load_functions(const WfWorkflow *workflow, WfVersion *version, const WfPublished *published)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		MemoryContextSwitchTo(caller);
		load_functions(workflow, version, published);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(caller);
		CurrentResourceOwner = owner;
		if (is_passing(error->sqlerrcode))
			ReThrowError(error);
		set_problem(version, error->sqlerrcode,
					psprintf("function %s cannot be loaded: %s", published->handler, error->message));
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
}

/*
 * Makes a version from what its row says, in the given memory context.
 */
WfVersion *
wf_version_prepare(const WfWorkflow *workflow, int number, const WfPublished *published, MemoryContext memory)
{
	WfVersion  *version = MemoryContextAllocZero(memory, sizeof(WfVersion));

	version->version = number;
	version->handler = MemoryContextStrdup(memory, published->handler);
	version->what = MemoryContextStrdup(memory, psprintf("handler %s", published->handler));
	version->search_path = MemoryContextStrdup(memory, published->search_path);
	try_load_functions(workflow, version, published);
	return version;
}
