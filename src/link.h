/*
 * link.h: what happens when an instance closes: whom to tell, and what to do to its children.
 */
#ifndef WF_LINK_H
#define WF_LINK_H

#include "nodes/pg_list.h"
#include "utils/snapshot.h"

typedef enum WfLinkKind
{
	WF_LINK_MONITOR,			/* the peer is told */
	WF_LINK_CANCEL,				/* the peer is a child, and is cancelled */
	WF_LINK_TERMINATE			/* ... terminated */
} WfLinkKind;

typedef struct WfLink
{
	WfLinkKind	kind;
	char	   *peer;			/* an instance's id */
} WfLink;

extern bool wf_link_parse_on_close(const char *value, bool *none, WfLinkKind *kind);
extern List *wf_link_read(int64 instance_id, int max, Snapshot snapshot);	/* of WfLink * */
extern bool wf_link_exists(int64 instance_id, const WfLink *link, Snapshot snapshot);
extern void wf_link_insert(int64 instance_id, const WfLink *link);
extern void wf_link_delete(int64 instance_id, const WfLink *link);

#endif
