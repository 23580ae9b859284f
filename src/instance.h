/*
 * instance.h: rows of wfproc.instance.
 */
#ifndef WF_INSTANCE_H
#define WF_INSTANCE_H

#include "datatype/timestamp.h"
#include "utils/jsonb.h"
#include "utils/snapshot.h"

#include "workflow.h"

typedef enum WfStatus
{
	WF_RUNNING,
	WF_PAUSED,
	WF_COMPLETED,
	WF_FAILED,
	WF_CANCELLED,
	WF_TERMINATED
} WfStatus;

#define WF_IS_CLOSED(status) ((status) >= WF_COMPLETED)

typedef struct WfInstance
{
	int64		instance_id;
	char	   *id;
	int			workflow_id;
	int			version;
	int			first_version;	/* that its log begins under */
	WfStatus	status;
	int			attempts;
	int			crashes;
	bool		cancelling;		/* a cancel was deferred */
	bool		state_timers;	/* it has ever set a timer with a state_key */
	bool		unlogged;		/* its status is none that its log says */
	TimestampTz started_at;		/* stamp of its start event */
	TimestampTz live_from;
	TimestampTz closed_at;		/* 0 where it is open */
	TimestampTz retry_at;		/* DT_NOBEGIN: no retry is waited for */
	char	   *parent;			/* id, or NULL */
	Jsonb	   *attributes;
	Jsonb	   *result;			/* or NULL */
	char	   *error;			/* or NULL */
	char	   *error_context;	/* of a step that failed, or NULL */
} WfInstance;

/* what start() is told */
typedef struct WfStart
{
	const char *id;				/* NULL: generate one */
	Jsonb	   *input;
	TimestampTz at;
	int			version;
	Jsonb	   *attributes;
	TimestampTz live_from;
	bool		ignore_existing;
} WfStart;

extern int64 wf_instance_next_id(void);
extern const char *wf_instance_status_name(WfStatus status);
extern bool wf_instance_parse_status(const char *name, WfStatus *status);
extern bool wf_instance_find(const char *id, WfInstance *instance);
extern bool wf_instance_read(int64 instance_id, Snapshot snapshot, WfInstance *instance);
extern WfWorkflow *wf_instance_get(const char *id, WfPrivilege privilege, WfInstance *instance);
extern void wf_instance_require_open(const WfInstance *instance);
extern void wf_instance_require_accepts(const WfWorkflow *workflow, const char *event);
extern TimestampTz wf_instance_default_live_from(TimestampTz at, TimestampTz now);
extern char *wf_instance_start(WfWorkflow *workflow, const WfStart *start);
extern void wf_instance_start_many(WfWorkflow *workflow, const char *const *ids, const TimestampTz *ats, int count,
								   TimestampTz now, int64 *instance_ids);
extern void wf_instance_refuse_id(const char *id, const char *hint);
extern void wf_instance_add(const WfInstance *instance, const char *hint);
extern void wf_instance_insert(WfInstance *const *instances, int count);
extern void wf_instance_update(const WfInstance *instance);

#endif
