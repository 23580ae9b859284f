/*
 * idtable.h: a hash table by instance_id, of what its user allocates.
 */
#ifndef WF_IDTABLE_H
#define WF_IDTABLE_H

/* the first field of what is in a table */
typedef struct WfIdNode
{
	int64		instance_id;
	struct WfIdNode *next;		/* in its bucket */
} WfIdNode;

typedef struct WfIdTable
{
	MemoryContext memory;
	WfIdNode  **buckets;
	int			bits;			/* there are 1 << bits */
	Size		count;
} WfIdTable;

extern void wf_idtable_init(WfIdTable *table, MemoryContext memory);
extern void *wf_idtable_find(const WfIdTable *table, int64 instance_id);
extern void wf_idtable_add(WfIdTable *table, WfIdNode *node);
extern void wf_idtable_remove(WfIdTable *table, WfIdNode *node);
extern Size wf_idtable_bytes(const WfIdTable *table);

#endif
