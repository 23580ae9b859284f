/*
 * version.h: making a published version ready to be called.
 */
#ifndef WF_VERSION_H
#define WF_VERSION_H

#include "hash.h"
#include "workflow.h"

/* a function that a version's code calls, and of which it has a copy: a row of wfproc.version_helper */
typedef struct WfHelper
{
	char	   *name;			/* qualified */
	char	   *arguments;		/* types */
	char	   *code;
	uint8		sha256[WF_SHA256_LEN];	/* of code */
} WfHelper;

/* what a row of wfproc.version says; migrate is NULL where it has none */
typedef struct WfPublished
{
	char	   *handler;		/* qualified name */
	char	   *code;
	uint8		sha256[WF_SHA256_LEN];	/* of code */
	char	   *migrate;		/* qualified name */
	char	   *migrate_code;
	uint8		migrate_sha256[WF_SHA256_LEN];
	int			migrates_from;	/* 0: not said */
	char	   *search_path;
	List	   *helpers;		/* of WfHelper *, by name and arguments */
} WfPublished;

extern WfVersion *wf_version_prepare(const WfWorkflow *workflow, int number, const WfPublished *published,
									 MemoryContext memory);
extern char *wf_version_check_schema(const WfWorkflow *workflow, const WfVersion *version);

#endif
