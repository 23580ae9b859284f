/*
 * scrub.h: checking all instances again and again, in the background.
 */
#ifndef WF_SCRUB_H
#define WF_SCRUB_H

#include "suspect.h"

/* a worker's; none of these is called inside a transaction */
extern bool wf_scrub_work(void);	/* a piece of a check; false where none is
									 * due */
extern int64 wf_scrub_wait(void);	/* milliseconds until one may be */
extern void wf_scrub_hurry(void);	/* settings may have changed */
extern void wf_scrub_forget(void);	/* the shards are given up */
extern void wf_scrub_blame(const WfSuspect *suspects, int count);	/* a worker died; seq 0:
																	 * as it checked that
																	 * one */

#endif
