/*
 * refuse.h: what a handler may not call.
 */
#ifndef WF_REFUSE_H
#define WF_REFUSE_H

extern void wf_refuse_init(void);

#endif
