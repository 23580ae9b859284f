/*
 * plstop.h: ends PL/pgSQL code that goes on after its time.
 */
#ifndef WF_PLSTOP_H
#define WF_PLSTOP_H

/* raise: called before each PL/pgSQL statement between begin and end, not to return; begin may be called in a signal handler */
extern void wf_plstop_init(void (*raise) (void));
extern void wf_plstop_begin(void);
extern void wf_plstop_end(void);

#endif
