/*
 * guc.h: the settings.  Each variable has its setting's name: wf_batch_size is wfproc.batch_size.
 */
#ifndef WF_GUC_H
#define WF_GUC_H

#include "datatype/timestamp.h"

/* for the whole server, in the configuration file */
extern bool wf_enabled;
extern int	wf_workers;
extern int	wf_max_workers;
extern int	wf_sweep_interval;
extern int	wf_passivate_after;
extern int	wf_worker_memory;
extern int	wf_batch_size;
extern int	wf_max_crashes;
extern int	wf_scrub_rate;
extern int	wf_scrub_age;

/* limits */
extern int	wf_max_payload;
extern int	wf_max_state;
extern int	wf_handler_memory;
extern int	wf_max_actions;
extern int	wf_max_cascade;
extern int	wf_max_postponed;
extern int	wf_live_tolerance;
extern bool wf_superuser_handlers;

/* for tests; the parsed value of wfproc.fake_now */
extern bool wf_fake_now_is_set;
extern TimestampTz wf_fake_now_value;

extern void wf_guc_init(void);

#endif
