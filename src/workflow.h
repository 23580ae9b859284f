/*
 * workflow.h: definitions, their versions and who may do what with them, as a backend knows them.
 */
#ifndef WF_WORKFLOW_H
#define WF_WORKFLOW_H

#include "fmgr.h"
#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"

typedef enum WfPrivilege
{
	WF_PRIV_SEND,
	WF_PRIV_READ,
	WF_PRIV_OPERATE				/* includes the others */
} WfPrivilege;

typedef enum WfOnFailure
{
	WF_ON_FAILURE_PAUSE,
	WF_ON_FAILURE_FAIL,
	WF_ON_FAILURE_DEAD_LETTER
} WfOnFailure;

typedef struct WfGrant
{
	Oid			role;
	WfPrivilege privilege;
} WfGrant;

/* one version's code, ready to be called unless problem says why not */
typedef struct WfVersion
{
	int			version;
	char	   *what;			/* "handler" and its qualified name as
								 * published, for errors */
	char	   *search_path;	/* in force at define(), and before it where
								 * its helpers' copies are */
	List	   *functions;		/* OIDs of all that it consists of */
	FmgrInfo	function;
	bool		has_migrate;
	int			migrates_from;	/* the lowest version whose states that takes;
								 * 0: the one before it */
	FmgrInfo	migrate;		/* of the state, to this version */
	char	   *problem;		/* NULL, or why the code cannot be run */
	int			problem_code;	/* SQLSTATE of that */
} WfVersion;

/* an upgrade of all instances of a workflow, or some, at a stamp */
typedef struct WfRollout
{
	int			rollout_id;
	int			version;
	int			from_version;	/* 0: any lower */
	TimestampTz at;
	Jsonb	   *attributes;		/* that an instance must have */
	char	   *by;				/* role */
	int			may_fail;		/* so many times more before it stops */
} WfRollout;

/* never kept by a pointer over wf_workflow_refresh() */
typedef struct WfWorkflow
{
	int			workflow_id;
	char	   *name;
	Oid			owner;			/* InvalidOid: the role is gone */
	char	   *owner_name;
	int			current_version;
	bool		at_home;		/* whether it acts in this database */
	bool		accepts_all;
	List	   *accepts;		/* of char *, where not all */
	int			max_attempts;
	WfOnFailure on_failure;
	int64		retry_delay_us;
	int			handler_timeout_ms;
	int			snapshot_every;
	bool		watch;			/* NOTIFY on close and on attributes */
	bool		dead_letter_events; /* senders are told, instead of a dead
									 * letter */

	/*
	 * of a cancel that the handler defers without a time; -1: the cancel's
	 * own
	 */
	int64		cancel_deadline_us;
	List	   *grants;			/* of WfGrant * */
	List	   *versions;		/* of WfVersion *, those asked for so far */
	List	   *rollouts;		/* of WfRollout *: those in force, by stamp */
} WfWorkflow;

extern bool wf_workflow_is_concerned(const WfRollout *rollout, int version, const Jsonb *attributes, TimestampTz at);
extern void wf_workflow_init(void);
extern void wf_workflow_refresh(void);
extern void wf_workflow_changed(void);
extern WfWorkflow *wf_workflow_find(int workflow_id);	/* NULL: there is none */
extern WfWorkflow *wf_workflow_get(int workflow_id);
extern WfWorkflow *wf_workflow_by_name(const char *name, bool missing_ok);
extern WfVersion *wf_workflow_find_version(WfWorkflow *workflow, int version);	/* NULL: there is none */
extern WfVersion *wf_workflow_version(WfWorkflow *workflow, int version);
extern WfVersion *wf_workflow_version_of_row(WfWorkflow *workflow, int version);
extern bool wf_workflow_accepts(const WfWorkflow *workflow, const char *event);
extern bool wf_workflow_parse_on_failure(const char *value, WfOnFailure *on_failure);

#endif
