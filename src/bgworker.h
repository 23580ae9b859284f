/*
 * bgworker.h: starting the extension's processes.
 */
#ifndef WF_BGWORKER_H
#define WF_BGWORKER_H

#include "postmaster/bgworker.h"

extern void wf_bgworker_register_launcher(void);
extern bool wf_bgworker_start_worker(int slot, uint32 generation, Oid database, int share,
									 BackgroundWorkerHandle **handle);

/* in a worker: what it was started with */
extern uint32 wf_bgworker_generation(void);

#endif
