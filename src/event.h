/*
 * event.h: an event, as mail and as a row of the log.
 */
#ifndef WF_EVENT_H
#define WF_EVENT_H

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

#include "hash.h"

/* stamp of control events, which go ahead of all others */
#define WF_AT_ONCE DT_NOBEGIN

/* none: no timestamptz has that value */
#define WF_NO_STAMP (DT_NOBEGIN + 1)

typedef struct WfEvent
{
	int64		mail_id;		/* 0: none */
	TimestampTz at;
	char	   *name;
	Jsonb	   *payload;
	uint8	   *payload_sha256; /* of one that was erased; else NULL */
	char	   *sender;			/* id of the instance that sent it, or NULL */
	char	   *key;			/* idempotency key, or NULL */
	bool		live;			/* of a row of the log: whether the clock had
								 * reached live_from */
} WfEvent;

/* a row of wfproc.event */
typedef struct WfLogRow
{
	int64		instance_id;
	int64		seq;
	TimestampTz recorded_at;
	WfEvent		event;
	int64		digest;			/* of the state and the actions that it led to */
	Jsonb	   *reply;			/* or NULL */
	uint8		hash[WF_SHA256_LEN];	/* chained */
} WfLogRow;

/* names that begin with $ are the engine's own events, which no handler sees */
#define WF_IS_ENGINE_EVENT(name) ((name)[0] == '$')

#endif
