/*
 * watchdog.c: cancels a step that takes too long or too much memory.
 *
 * Called by handler.c.  One repeating timeout of our own per stretch of steps, never the user's statement_timeout: arming a
 * timer for each step would cost as much as a short handler.  A step only says "begun" and "ended" by two stores; the
 * timeout's handler, which is a signal handler, counts how many ticks in a row it has met the same step.  So a limit is
 * kept to within one tick.  The server does not tell how much a function has allocated, hence the process's resident size.
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "guc.h"
#include "watchdog.h"

#define TICK_MS 20

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

/*
 * Resident pages of this process; only system calls that a signal handler may make.
 */
static long
resident_pages(void)
{
	char		buf[128];
	int			fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	ssize_t		len;
	long		pages = 0;
	char	   *p;

	if (fd < 0)
		return 0;
	len = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	if (len <= 0)
		return 0;
	buf[len] = '\0';
	p = strchr(buf, ' ');
	for (p = p ? p + 1 : buf + len; *p >= '0' && *p <= '9'; p++)
		pages = pages * 10 + (*p - '0');
	return pages;
}

static void
cancel(WfExpired why)
{
	expired = why;
	QueryCancelPending = true;
	InterruptPending = true;
	SetLatch(MyLatch);
}

static void
tick(void)
{
	WF_REPEAT_TIMEOUT(timeout_id, TICK_MS);
	if (!in_step || expired != WF_EXPIRED_NOT)
		return;
	if (seen_step != step_number)
	{
		seen_step = step_number;
		seen_ms = 0;
		seen_pages = resident_pages();
		return;
	}
	seen_ms += TICK_MS;
	if (seen_ms >= step_limit_ms)
		cancel(WF_EXPIRED_TIME);
	else if ((resident_pages() - seen_pages) * page_kb > wf_handler_memory)
		cancel(WF_EXPIRED_MEMORY);
}

/*
 * Arms the tick.
 */
void
wf_watchdog_start(void)
{
	if (timeout_id == MAX_TIMEOUTS)
	{
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
	in_step = false;
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
	in_step = false;
	if (expired != WF_EXPIRED_NOT)
		QueryCancelPending = false;
	return expired;
}
