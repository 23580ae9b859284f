/*
 * clock.h: what time it is.
 */
#ifndef WF_CLOCK_H
#define WF_CLOCK_H

#include "datatype/timestamp.h"

extern TimestampTz wf_clock_now(void);
extern void wf_clock_check_finite(TimestampTz at, const char *argument);
extern int64 wf_clock_unix_us(TimestampTz at);
extern int64 wf_clock_monotonic_ms(void);
extern int64 wf_clock_interval_us(const Interval *interval);

#endif
