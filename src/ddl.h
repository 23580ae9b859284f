/*
 * ddl.h: DDL that the launcher and the workers must know of.
 */
#ifndef WF_DDL_H
#define WF_DDL_H

extern void wf_ddl_init(void);

#endif
