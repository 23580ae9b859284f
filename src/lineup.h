/*
 * lineup.h: the processes of a turn, in the order in which they act.
 */
#ifndef WF_LINEUP_H
#define WF_LINEUP_H

#include "draft.h"

typedef struct WfLineup WfLineup;

extern WfLineup *wf_lineup_create(TimestampTz now);
extern WfDraft *wf_lineup_add(WfLineup *lineup, int64 instance_id, TimestampTz low);
extern WfDraft *wf_lineup_find(const WfLineup *lineup, int64 instance_id);
extern void wf_lineup_update(WfLineup *lineup, WfDraft *draft);
extern void wf_lineup_leave(WfLineup *lineup, WfDraft *draft);
extern WfDraft *wf_lineup_first(const WfLineup *lineup);
extern List *wf_lineup_drafts(const WfLineup *lineup);

#endif
