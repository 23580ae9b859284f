/*
 * code.h: the code of a version: what it is as text, and the private copy that is run.
 */
#ifndef WF_CODE_H
#define WF_CODE_H

#include "fmgr.h"

#include "hash.h"

typedef enum WfCodeKind
{
	WF_CODE_HANDLER,			/* (jsonb, text, jsonb) */
	WF_CODE_MIGRATE				/* (jsonb, int, int) */
} WfCodeKind;

/* a function as it is in the catalogue at this moment */
typedef struct WfCode
{
	WfCodeKind	kind;
	Oid			function;
	Oid			owner;			/* of the function */
	Oid			language;
	bool		by_name;		/* not copied: C or internal */
	char	   *name;			/* bare */
	char	   *qualified;		/* schema and name, quoted where needed */
	char	   *text;			/* its definition from the argument list on */
	uint8		sha256[WF_SHA256_LEN];	/* of text */
} WfCode;

/* by a name from a user, with that user's search_path and rights; NULL only where name is */
extern WfCode *wf_code_resolve(const char *name, WfCodeKind kind);

/* the function that a version runs; NULL where it is missing */
extern WfCode *wf_code_find(const char *qualified, const char *text, WfCodeKind kind, int workflow_id, int version);
extern char *wf_code_location(const char *qualified, const char *text, WfCodeKind kind, int workflow_id, int version);

/* makes a version's private copy, or makes it anew where it is not as published */
extern void wf_code_copy(const WfCode *code, Oid owner, int workflow_id, int version);
extern void wf_code_repair(const WfCode *code, Oid owner, int workflow_id, int version);
extern void wf_code_adopt(int workflow_id, int version);

extern bool wf_code_may_execute(Oid role, Oid function);
extern bool wf_code_language_is_trusted(Oid language);
extern char *wf_code_search_path(void);

#endif
