/*
 * clock.c: the one place that reads the wall clock for anything that is stored or compared with a stamp; and the clock of waits.
 *
 * Called by everybody.  wfproc.fake_now replaces the wall clock in the session that sets it, so that a test can move on a
 * year without waiting.
 */
#include "postgres.h"

#include "common/int.h"
#include "portability/instr_time.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "guc.h"

/*
 * The wall clock, or what wfproc.fake_now says.
 */
TimestampTz
wf_clock_now(void)
{
	return wf_fake_now_is_set ? wf_fake_now_value : GetCurrentTimestamp();
}

/*
 * Refuses a stamp that no clock can show.
 */
void
wf_clock_check_finite(TimestampTz at, const char *argument)
{
	if (TIMESTAMP_NOT_FINITE(at))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("argument \"%s\" must be a finite time, got %s", argument,
						TIMESTAMP_IS_NOBEGIN(at) ? "-infinity" : "infinity"),
				 errhint("Give a time, or NULL for now.")));
}

/*
 * Microseconds since 1970-01-01 00:00 UTC: how a stamp goes into a hash.
 */
int64
wf_clock_unix_us(TimestampTz at)
{
	const int64 epoch = (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	int64		result;

	if (TIMESTAMP_NOT_FINITE(at) || pg_add_s64_overflow(at, epoch, &result))
		return at;
	return result;
}

/*
 * Microseconds of an interval, a month counted as 30 days.
 */
int64
wf_clock_interval_us(const Interval *interval)
{
	return interval->time +
		((int64) interval->month * DAYS_PER_MONTH + interval->day) * USECS_PER_DAY;
}

/*
 * Milliseconds on a clock that nobody sets, from an arbitrary beginning.
 */
int64
wf_clock_monotonic_ms(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64) INSTR_TIME_GET_MILLISEC(now);
}
