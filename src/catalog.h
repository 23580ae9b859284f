/*
 * catalog.h: the extension's own relations by OID, and the extension itself.
 */
#ifndef WF_CATALOG_H
#define WF_CATALOG_H

#include "utils/relcache.h"

#define WF_EXTENSION_VERSION "1.0"
#define WF_SHARDS 64

typedef enum WfRelation
{
	WF_HOME,
	WF_WORKFLOW,
	WF_VERSION,
	WF_VERSION_HELPER,
	WF_ROLLOUT,
	WF_INSTANCE,
	WF_EVENT,
	WF_MAILBOX,
	WF_DEAD_LETTER,
	WF_LINK,
	WF_SNAPSHOT,
	WF_KEPT_SNAPSHOT,
	WF_IDEMPOTENCY,
	WF_ACL,
	WF_SEAL,
	WF_INSTANCE_PKEY,
	WF_INSTANCE_ID_KEY,
	WF_EVENT_PKEY,
	WF_MAILBOX_PKEY,
	WF_MAILBOX_DUE_IDX,
	WF_DEAD_LETTER_PKEY,
	WF_LINK_PKEY,
	WF_SNAPSHOT_PKEY,
	WF_KEPT_SNAPSHOT_PKEY,
	WF_ROLLOUT_SEQ,
	WF_INSTANCE_SEQ,
	WF_MAIL_SEQ,
	WF_RELATIONS				/* how many there are */
} WfRelation;

extern void wf_catalog_init(void);
extern bool wf_catalog_exists(void);
extern const char *wf_catalog_version(void);
extern Oid	wf_catalog_extension(void);
extern Oid	wf_catalog_owner(void);
extern Oid	wf_catalog_oid(WfRelation which);
extern int64 wf_catalog_next_number(WfRelation sequence);

/* the shard that an instance belongs to: consecutive instance_ids spread evenly */
static inline int
wf_shard_of(int64 instance_id)
{
	return (int) ((uint64) instance_id % WF_SHARDS);
}

#endif
