/*
 * bgworker.c: the only filler of struct BackgroundWorker.
 *
 * The launcher is static: the postmaster starts it when recovery has ended, on a standby when it is promoted, and again a
 * second after it has died.  Workers are dynamic and never restarted by the postmaster: the launcher does, who knows whether
 * they are still wanted.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"

#include "bgworker.h"

#define RESTART_AFTER_S 1

static void
fill(BackgroundWorker *worker, const char *function, const char *type)
{
	memset(worker, 0, sizeof(*worker));
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker->bgw_restart_time = BGW_NEVER_RESTART;
	snprintf(worker->bgw_library_name, sizeof(worker->bgw_library_name), "wfproc");
	snprintf(worker->bgw_function_name, sizeof(worker->bgw_function_name), "%s", function);
	snprintf(worker->bgw_type, sizeof(worker->bgw_type), "%s", type);
}

/*
 * Registers the launcher, once, while shared_preload_libraries are loaded.
 */
void
wf_bgworker_register_launcher(void)
{
	BackgroundWorker worker;

	if (!process_shared_preload_libraries_in_progress)
		return;
	fill(&worker, "wfproc_launcher_main", "wfproc launcher");
	worker.bgw_restart_time = RESTART_AFTER_S;
	snprintf(worker.bgw_name, sizeof(worker.bgw_name), "wfproc launcher");
	RegisterBackgroundWorker(&worker);
}

/*
 * Starts a worker for a reserved slot; this process is told when it has started and when it has ended.  False where
 * max_worker_processes are in use.
 */
bool
wf_bgworker_start_worker(int slot, uint32 generation, Oid database, int share, BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker;

	StaticAssertStmt(sizeof(generation) <= BGW_EXTRALEN, "fits");
	fill(&worker, "wfproc_worker_main", "wfproc worker");
	snprintf(worker.bgw_name, sizeof(worker.bgw_name), "wfproc worker %d of database %u", share, database);
	worker.bgw_main_arg = Int32GetDatum(slot);
	memcpy(worker.bgw_extra, &generation, sizeof(generation));
	worker.bgw_notify_pid = MyProcPid;
	return RegisterDynamicBackgroundWorker(&worker, handle);
}

uint32
wf_bgworker_generation(void)
{
	uint32		generation;

	memcpy(&generation, MyBgworkerEntry->bgw_extra, sizeof(generation));
	return generation;
}
