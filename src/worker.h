/*
 * worker.h: the process that handles events, and how its transactions begin and end.
 */
#ifndef WF_WORKER_H
#define WF_WORKER_H

extern PGDLLEXPORT void wfproc_worker_main(Datum main_arg);

/* does not return where the extension is gone: the worker leaves */
extern void wf_worker_begin(void);
extern void wf_worker_commit(void);
extern uint64 wf_worker_shards(void);	/* that it holds; a bit each */

#endif
