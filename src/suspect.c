/*
 * suspect.c: which instance a worker was stepping when it died.
 *
 * A handler that crashes the server would do so again as soon as the server is up.  So each worker says before a step whose
 * it is, and after it that it is over, in a file that all processes have mapped: what was written there outlives the
 * process, whatever ends it, and also the server's shared memory.  It costs a few stores a step.  A crash of the machine may
 * lose it; then the next crash counts.
 *
 * A crash ends all processes of the server: the one that is to blame has not been asked, the others get SIGQUIT.  Their
 * handler says that their steps are over, so that only one is left.  The same goes for an orderly exit.
 *
 * The file has a part for live workers, a record per slot, which the slot's tenant writes; and one for what dead workers
 * have left.  That is filled by the postmaster when it starts shared memory and no worker runs, and by a worker whose step
 * does not end (watchdog.c), which draws a place of its own; a record there is cleared only by the holder of its instance's
 * shard.  So no record has two writers, and there is no lock.
 */
#include "postgres.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "port/atomics.h"
#include "postmaster/interrupt.h"
#include "storage/fd.h"
#include "storage/ipc.h"

#include "catalog.h"
#include "guc.h"
#include "suspect.h"

/* not in a base backup, so that a clone does not blame for what happened elsewhere */
#define SUSPECT_FILE PG_STAT_TMP_DIR "/wfproc.suspects"
#define MAGIC 0x77660002
/* what dead workers have left and nobody has counted yet; where there is more, the oldest is lost */
#define MAX_LEFT 256

typedef struct Record
{
	volatile int64 instance_id;
	volatile int64 seq;
	volatile Oid database;
	volatile sig_atomic_t in_step;
	volatile sig_atomic_t endless;	/* see WfSuspect */
} Record;

typedef struct Suspects
{
	uint32		magic;
	pg_atomic_uint32 next_left; /* where to put the next one */
	Record		left[MAX_LEFT];
	Record		live[FLEXIBLE_ARRAY_MEMBER];
} Suspects;

static Suspects *suspects = NULL;
static shmem_startup_hook_type next_shmem_startup_hook = NULL;

/* where this process writes: nobody's record, but in a worker */
static Record nobody;
static Record *mine = &nobody;

static Size
file_size(void)
{
	return offsetof(Suspects, live) + wf_max_workers * sizeof(Record);
}

/*
 * Gives the file its size, all of it zeros and on disk: a hole that cannot be filled would be a SIGBUS later.
 */
static bool
write_zeros(int fd)
{
	char		zeros[1024] = {0};

	if (ftruncate(fd, 0) != 0)
		return false;
	for (Size done = 0; done < file_size();)
	{
		Size		wanted = Min(sizeof(zeros), file_size() - done);

		if (write(fd, zeros, wanted) != (ssize_t) wanted)
			return false;
		done += wanted;
	}
	return true;
}

/*
 * Maps the file, made anew where it is missing or of another size.  Without it nothing is recorded.
 */
static Suspects *
map_file(void)
{
	int			fd = BasicOpenFile(SUSPECT_FILE, O_RDWR | O_CREAT | PG_BINARY);
	struct stat st;
	void	   *mapped = MAP_FAILED;

	if (fd >= 0 && fstat(fd, &st) == 0 && (st.st_size == (off_t) file_size() || write_zeros(fd)))
		mapped = mmap(NULL, file_size(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (mapped == MAP_FAILED)
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not map file \"%s\": %m", SUSPECT_FILE),
				 errdetail("A handler that crashes the server will not be found out.")));
	if (fd >= 0)
		close(fd);
	return mapped == MAP_FAILED ? NULL : (Suspects *) mapped;
}

/*
 * Moves a record out of the live part.  Whoever reads it where it goes to sees it whole.
 */
static void
leave_behind(Record *live, bool endless)
{
	Record	   *left = &suspects->left[pg_atomic_fetch_add_u32(&suspects->next_left, 1) % MAX_LEFT];

	left->in_step = false;
	pg_write_barrier();
	left->instance_id = live->instance_id;
	left->seq = live->seq;
	left->database = live->database;
	left->endless = endless;
	pg_write_barrier();
	left->in_step = true;
	live->in_step = false;
}

/*
 * Moves what dead workers have left out of the live part; no worker runs.
 */
static void
collect(void)
{
	for (int i = 0; i < wf_max_workers; i++)
		if (suspects->live[i].in_step)
			leave_behind(&suspects->live[i], false);
}

/*
 * In the postmaster, when it starts and after each crash.
 */
static void
startup(void)
{
	if (next_shmem_startup_hook)
		next_shmem_startup_hook();
	if (suspects == NULL)
		suspects = map_file();
	if (suspects == NULL)
		return;
	if (suspects->magic != MAGIC)
	{
		memset(suspects, 0, file_size());
		pg_atomic_init_u32(&suspects->next_left, 0);
		suspects->magic = MAGIC;
	}
	collect();
}

/*
 * Arranges for the file; only where the library is preloaded.
 */
void
wf_suspect_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	next_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup;
}

/*
 * Another process has crashed: this one is innocent.
 */
static void
on_sigquit(SIGNAL_ARGS)
{
	mine->in_step = false;
	SignalHandlerForCrashExit(postgres_signal_arg);
}

void
wf_suspect_attach(int slot)
{
	if (suspects == NULL)
		return;
	mine = &suspects->live[slot];
	mine->in_step = false;
	pqsignal(SIGQUIT, on_sigquit);
}

void
wf_suspect_begin(int64 instance_id, int64 seq)
{
	mine->instance_id = instance_id;
	mine->seq = seq;
	mine->database = MyDatabaseId;
	pg_compiler_barrier();
	mine->in_step = true;
}

void
wf_suspect_end(void)
{
	mine->in_step = false;
}

/*
 * Says whose step is the reason why this worker is ended.  What it does from here on is nobody's fault.
 */
void
wf_suspect_convict(void)
{
	if (mine != &nobody && mine->in_step)
		leave_behind(mine, true);
}

/*
 * Copies at most max records of this database whose instances are in these shards, and returns how many.
 */
int
wf_suspect_take(uint64 shards, WfSuspect *taken, int max)
{
	int			count = 0;

	for (int i = 0; suspects != NULL && i < MAX_LEFT && count < max; i++)
	{
		const Record *record = &suspects->left[i];

		if (!record->in_step || record->database != MyDatabaseId ||
			(shards & (UINT64CONST(1) << wf_shard_of(record->instance_id))) == 0)
			continue;
		pg_read_barrier();
		taken[count].instance_id = record->instance_id;
		taken[count].seq = record->seq;
		taken[count++].endless = record->endless;
	}
	return count;
}

/*
 * Forgets records that have been counted.
 */
void
wf_suspect_clear(const WfSuspect *counted, int count)
{
	for (int i = 0; suspects != NULL && i < MAX_LEFT; i++)
	{
		Record	   *record = &suspects->left[i];

		for (int j = 0; j < count && record->in_step; j++)
			if (record->database == MyDatabaseId && record->instance_id == counted[j].instance_id &&
				record->seq == counted[j].seq)
				record->in_step = false;
	}
}
