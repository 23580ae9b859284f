/*
 * wfproc.c: the library's entry point.
 *
 * Under shared_preload_libraries it also asks for shared memory, installs hooks and registers the launcher; loaded later, by
 * the first call of one of its functions, it does without: those parts see that for themselves.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"

#include "action.h"
#include "bgworker.h"
#include "catalog.h"
#include "ddl.h"
#include "guc.h"
#include "refuse.h"
#include "registry.h"
#include "step.h"
#include "suspect.h"
#include "wakeup.h"
#include "workflow.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	wf_guc_init();
	wf_catalog_init();
	wf_workflow_init();
	wf_step_init();
	wf_refuse_init();
	wf_action_init();
	wf_wakeup_init();
	/* pg_upgrade wants no workers, which would act on what it is copying */
	if (IsBinaryUpgrade)
		return;
	wf_registry_init();
	wf_suspect_init();
	wf_ddl_init();
	wf_bgworker_register_launcher();
}
