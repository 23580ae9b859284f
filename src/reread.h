/*
 * reread.h: whether a function is what a text says, where this server prints it otherwise.
 */
#ifndef WF_REREAD_H
#define WF_REREAD_H

extern bool wf_reread_is_same(Oid function, const char *now, const char *published, Oid role);

#endif
