/*
 * plwalk.h: the expressions and SQL statements in the body of a PL/pgSQL function.
 */
#ifndef WF_PLWALK_H
#define WF_PLWALK_H

#include "parser/parser.h"

typedef void (*WfPlVisitor) (const char *query, RawParseMode mode, void *arg);

extern void wf_plwalk_expressions(Oid function, WfPlVisitor visit, void *arg);

#endif
