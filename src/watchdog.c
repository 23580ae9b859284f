/*
 * watchdog.c: ends a step that takes too long or too much memory.
 *
 * Called by handler.c.  One repeating timeout of our own per stretch of steps, never the user's statement_timeout: arming a
 * timer for each step would cost as much as a short handler.  A step only says "begun" and "ended" by two stores; the
 * timeout's handler, which is a signal handler, counts how many ticks in a row it has met the same step.  So a limit is
 * kept to within one tick.  The server does not tell how much a function has allocated, hence the process's resident size,
 * without what it shares with others.
 *
 * A handler need not let itself be ended.  So there are three means, each for what the one before has left running:
 *
 * - It is cancelled, again each tick, and PL/pgSQL raises at each statement (plstop.c).  A step that returns all the same has
 *   failed.
 * - A loop in another language that catches each cancel: after a grace, which a step that takes ever more memory does not get,
 *   the process is to end, as by pg_terminate_backend().  What catches errors cannot catch that.
 * - A loop that does not even look for interrupts: after another grace, a worker ends from within the signal handler.  Nobody
 *   else may be kept waiting by it: DROP DATABASE, of whichever database, waits until each process has taken notice.  That
 *   is as unsafe as it sounds, so it is done only where the process holds no lock of shared memory and is not in a critical
 *   section, and after so long without a look for interrupts it is in no code of the server's that matters.  Where what was
 *   interrupted leaves it unable to exit, the kernel ends it, which the server takes for a crash.  Another session that calls a
 *   handler is left to its user.
 *
 * With the last two a worker leaves word whose step it was (suspect.c), so that the instance is paused before it ends worker
 * after worker.
 */
#include "postgres.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "guc.h"
#include "plstop.h"
#include "suspect.h"
#include "watchdog.h"

#define TICK_MS 20
/* a step that is over its limit has as long again to end, within these bounds */
#define MIN_GRACE_MS 1000
#define MAX_GRACE_MS 10000
/* one that has got that much more memory than it may has no grace */
#define WILD_KB (512 * 1024)
/* processor time that a process may take to exit */
#define EXIT_SECONDS 5

static TimeoutId timeout_id = MAX_TIMEOUTS;
static long page_kb = 4;

/* shared with the signal handler */
static volatile uint64 step_number = 0;
static volatile bool in_step = false;
static volatile int step_limit_ms = 0;
static volatile WfExpired expired = WF_EXPIRED_NOT;

/* the signal handler's own */
static uint64 seen_step = 0;
static int64 seen_ms = 0;
static long seen_pages = 0;
static int64 over_ms = 0;		/* since it was over a limit */
static bool caught = false;		/* it has caught a cancel */
static bool condemned = false;	/* its process is to end */

static long
read_number(char **p)
{
	long		number = 0;

	while (**p == ' ')
		(*p)++;
	for (; **p >= '0' && **p <= '9'; (*p)++)
		number = number * 10 + (**p - '0');
	return number;
}

/*
 * Resident pages of this process's own; only system calls that a signal handler may make.
 */
static long
resident_pages(void)
{
	char		buf[128];
	int			fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	ssize_t		len;
	long		pages;
	char	   *p = buf;

	if (fd < 0)
		return 0;
	len = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	if (len <= 0)
		return 0;
	buf[len] = '\0';
	(void) read_number(&p);		/* the address space */
	pages = read_number(&p);
	return pages - read_number(&p);
}

static void
interrupt(volatile sig_atomic_t *pending)
{
	*pending = true;
	InterruptPending = true;
	SetLatch(MyLatch);
}

static void
expire(WfExpired why)
{
	expired = why;
	over_ms = 0;
	caught = condemned = false;
	wf_plstop_begin();
	interrupt(&QueryCancelPending);
}

/*
 * Has this process end where it next looks for interrupts.
 */
static void
condemn(void)
{
	if (!condemned)
		wf_suspect_convict();
	condemned = true;
	interrupt(&ProcDiePending);
}

/*
 * Ends this process where it stands.  The timeouts' own handler holds interrupts off once.
 */
static void
exit_here(void)
{
	struct itimerval limit = {{0, 0}, {EXIT_SECONDS, 0}};

	if (InterruptHoldoffCount > 1 || CritSectionCount > 0)
		return;
	pqsignal(SIGPROF, SIG_DFL);
	(void) setitimer(ITIMER_PROF, &limit, NULL);
	proc_exit(1);
}

/*
 * A step that is over its limit is still there.
 */
static void
press(long grown_kb)
{
	int64		grace = Min(Max(step_limit_ms, MIN_GRACE_MS), MAX_GRACE_MS);

	over_ms += TICK_MS;
	if (grown_kb - wf_handler_memory > WILD_KB)
		over_ms = Max(over_ms, 2 * grace);
	caught = caught || !QueryCancelPending;
	interrupt(&QueryCancelPending);
	if (caught && over_ms >= grace)
		condemn();
	if (IsBackgroundWorker && over_ms >= 2 * grace)
	{
		condemn();
		exit_here();
	}
}

static void
tick(void)
{
	long		grown_kb;

	WF_REPEAT_TIMEOUT(timeout_id, TICK_MS);
	if (!in_step || proc_exit_inprogress)
		return;
	if (seen_step != step_number)
	{
		seen_step = step_number;
		seen_ms = 0;
		seen_pages = resident_pages();
		return;
	}
	seen_ms += TICK_MS;
	grown_kb = (resident_pages() - seen_pages) * page_kb;
	if (expired != WF_EXPIRED_NOT)
		press(grown_kb);
	else if (seen_ms >= step_limit_ms)
		expire(WF_EXPIRED_TIME);
	else if (grown_kb > wf_handler_memory)
		expire(WF_EXPIRED_MEMORY);
}

/*
 * Arms the tick.
 */
void
wf_watchdog_start(void)
{
	if (timeout_id == MAX_TIMEOUTS)
	{
		wf_plstop_init(wf_watchdog_check);
		timeout_id = RegisterTimeout(USER_TIMEOUT, tick);
		page_kb = sysconf(_SC_PAGESIZE) / 1024;
	}
	in_step = false;
	expired = WF_EXPIRED_NOT;
	WF_ENABLE_TIMEOUT_EVERY(timeout_id, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), TICK_MS), TICK_MS);
}

void
wf_watchdog_stop(void)
{
	(void) wf_watchdog_step_end();
	if (timeout_id != MAX_TIMEOUTS)
		disable_timeout(timeout_id, false);
}

void
wf_watchdog_step_begin(int limit_ms)
{
	step_limit_ms = limit_ms;
	step_number++;
	expired = WF_EXPIRED_NOT;
	in_step = true;
}

/*
 * Ends a step and says whether it was cancelled.  A cancel that came too late to hit it is taken back.
 */
WfExpired
wf_watchdog_step_end(void)
{
	WfExpired	why;

	in_step = false;
	why = expired;
	if (why == WF_EXPIRED_NOT)
		return why;
	wf_plstop_end();
	QueryCancelPending = false;
	return why;
}

/*
 * Raises where the step is over a limit, and where it has caught the cancel.
 */
void
wf_watchdog_check(void)
{
	if (expired == WF_EXPIRED_TIME)
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("handler took longer than %d ms", step_limit_ms)));
	if (expired == WF_EXPIRED_MEMORY)
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("handler used more than %d kB of memory", wf_handler_memory)));
}

/*
 * Whether this process ends because of a step.
 */
bool
wf_watchdog_has_condemned(void)
{
	return condemned;
}
