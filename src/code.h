/*
 * code.h: the code of a version: what it is as text, and the private copy that is run.
 */
#ifndef WF_CODE_H
#define WF_CODE_H

#include "fmgr.h"
#include "nodes/pg_list.h"

#include "hash.h"

typedef enum WfCodeKind
{
	WF_CODE_HANDLER,			/* (jsonb, text, jsonb) */
	WF_CODE_MIGRATE				/* (jsonb, int, int) */
} WfCodeKind;

/* their argument types, as WfCode.arguments */
#define WF_CODE_HANDLER_ARGUMENTS "jsonb, text, jsonb"
#define WF_CODE_MIGRATE_ARGUMENTS "jsonb, integer, integer"

/* a function as it is in the catalogue at this moment */
typedef struct WfCode
{
	Oid			function;
	Oid			owner;			/* of the function */
	Oid			language;
	bool		by_name;		/* not copied: C or internal */
	char	   *name;			/* bare */
	char	   *qualified;		/* schema and name, quoted where needed */
	char	   *arguments;		/* types of what it takes, "integer, app.t" */
	char	   *text;			/* its definition from the argument list on */
	uint8		sha256[WF_SHA256_LEN];	/* of text */
} WfCode;

/* by a name from a user, with that user's search_path and rights; NULL only where name is */
extern WfCode *wf_code_resolve(const char *name, WfCodeKind kind);
extern WfCode *wf_code_read(Oid function);
extern void wf_code_check_publisher(Oid function, Oid language, const char *what, const char *signature);

/* the function that a version runs; NULL where it is missing */
extern WfCode *wf_code_find(const char *qualified, const char *arguments, const char *text, int workflow_id, int version);
extern char *wf_code_location(const char *qualified, const char *arguments, const char *text, int workflow_id, int version);
extern bool wf_code_has_others(int workflow_id, int version, const List *functions);

/* whether it is what was published, by the workflow's owner; and takes that text over, which may have other words */
extern bool wf_code_is(const WfCode *code, const char *published, const uint8 *sha256, Oid owner);
extern bool wf_code_take_published(WfCode *code, const char *published, const uint8 *sha256, Oid owner);

/* makes a version's private copy, or makes it anew where it is not as published */
extern void wf_code_copy(const WfCode *code, Oid owner, int workflow_id, int version);
extern void wf_code_repair(const WfCode *code, Oid owner, int workflow_id, int version);
extern void wf_code_open(const WfCode *code, Oid owner, int workflow_id, int version);
extern void wf_code_adopt(int workflow_id, int version);

/* a version with helpers reaches its copies by their bare names */
extern char *wf_code_path_to_copies(const char *search_path, int workflow_id, int version);
extern bool wf_code_is_open(const WfCode *copy, Oid owner, int workflow_id, int version);

extern bool wf_code_may_execute(Oid role, Oid function);
extern bool wf_code_language_is_trusted(Oid language);
extern char *wf_code_search_path(void);

#endif
