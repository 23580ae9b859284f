/*
 * watchdog.h: how long a step may take and how much memory it may use.
 */
#ifndef WF_WATCHDOG_H
#define WF_WATCHDOG_H

typedef enum WfExpired
{
	WF_EXPIRED_NOT,
	WF_EXPIRED_TIME,
	WF_EXPIRED_MEMORY
} WfExpired;

/* around a stretch of steps */
extern void wf_watchdog_start(void);
extern void wf_watchdog_stop(void);

/* around each step */
extern void wf_watchdog_step_begin(int limit_ms);
extern WfExpired wf_watchdog_step_end(void);

/* raises where the step is over a limit */
extern void wf_watchdog_check(void);

/* on the way out: because of a step that would not end */
extern bool wf_watchdog_has_condemned(void);

#endif
