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
	const char *qualified;
	const char *arguments;
	const char *text;
	const uint8 *sha256;
	bool		called;			/* by its name, from other parts */
} Part;

/*
 * Whether the function is there and is what was published.  A copy that belongs to somebody else could change any moment.
 */
static void
check_code(const WfWorkflow *workflow, WfVersion *version, const Part *part, const WfCode *code)
{
	char	   *location = wf_code_location(part->qualified, part->arguments, part->text, workflow->workflow_id, version->version);

	if (code == NULL)
		set_problem(version, ERRCODE_WF_CODE_CHANGED,
					psprintf("function %s is missing", location));
	else if (!wf_code_is(code, part->text, part->sha256, workflow->owner))
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

/*
 * Finds a function of the version and looks at it.  InvalidOid, and the version's problem, where it cannot be run.
 */
static Oid
load_part(const WfWorkflow *workflow, WfVersion *version, const Part *part)
{
	MemoryContext old;
	WfCode	   *code;

	if (version->problem != NULL)
		return InvalidOid;
	if (part->text == NULL)
	{
		set_problem(version, ERRCODE_WF_CODE_CHANGED,
					psprintf("the code of function %s is not in its row of wfproc.version", part->qualified));
		return InvalidOid;
	}
	code = wf_code_find(part->qualified, part->arguments, part->text, workflow->workflow_id, version->version);
	check_code(workflow, version, part, code);
	if (version->problem != NULL)
		return InvalidOid;
	check_rights(workflow, version, code);
	if (part->called && !code->by_name && !wf_code_is_open(code, workflow->owner, workflow->workflow_id, version->version))
		set_problem(version, ERRCODE_INSUFFICIENT_PRIVILEGE,
					psprintf("role \"%s\" has no right to execute function %s(%s)", workflow->owner_name, code->qualified,
							 code->arguments));
	old = MemoryContextSwitchTo(GetMemoryChunkContext(version));
	version->functions = lappend_oid(version->functions, code->function);
	MemoryContextSwitchTo(old);
	return version->problem == NULL ? code->function : InvalidOid;
}

static void
load_function(const WfWorkflow *workflow, WfVersion *version, const Part *part, FmgrInfo *function)
{
	Oid			found = load_part(workflow, version, part);

	if (OidIsValid(found))
		fmgr_info_cxt(found, function, GetMemoryChunkContext(version));
}

static void
load_helpers(const WfWorkflow *workflow, WfVersion *version, const List *helpers)
{
	ListCell   *lc;

	foreach(lc, helpers)
	{
		const WfHelper *helper = lfirst(lc);
		Part		part = {helper->name, helper->arguments, helper->code, helper->sha256, true};

		(void) load_part(workflow, version, &part);
	}
}

/*
 * Whether a version without a problem has nothing in its schema but its functions; else what is wrong.  More would be there
 * where a helper's row is lost, and would be met before what the code means.  Nobody is told of new objects, so this may
 * come to be so after the version was loaded.
 */
char *
wf_version_check_schema(const WfWorkflow *workflow, const WfVersion *version)
{
	if (!wf_code_has_others(workflow->workflow_id, version->version, version->functions))
		return NULL;
	return psprintf("something is in schema wfproc_code_%d_%d that was not published", workflow->workflow_id, version->version);
}

static void
load_functions(const WfWorkflow *workflow, WfVersion *version, const WfPublished *published)
{
	Part		handler = {published->handler, WF_CODE_HANDLER_ARGUMENTS, published->code, published->sha256,
	published->helpers != NIL};
	Part		migrate = {published->migrate, WF_CODE_MIGRATE_ARGUMENTS, published->migrate_code, published->migrate_sha256,
	published->helpers != NIL};
	char	   *problem;

	check_owner(workflow, version);
	load_function(workflow, version, &handler, &version->function);
	if (version->has_migrate)
		load_function(workflow, version, &migrate, &version->migrate);
	load_helpers(workflow, version, published->helpers);
	if (version->problem != NULL)
		return;
	problem = wf_version_check_schema(workflow, version);
	if (problem != NULL)
		set_problem(version, ERRCODE_WF_CODE_CHANGED, problem);
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
		if (wf_error_is_passing(error))
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
	version->what = MemoryContextStrdup(memory, psprintf("handler %s", published->handler));
	version->search_path = MemoryContextStrdup(memory, published->helpers == NIL ? published->search_path :
											   wf_code_path_to_copies(published->search_path, workflow->workflow_id, number));
	version->has_migrate = published->migrate != NULL;
	version->migrates_from = published->migrates_from;
	try_load_functions(workflow, version, published);
	return version;
}
