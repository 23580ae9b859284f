/*
 * idtable.c: a hash table by instance_id that takes little memory, and gives it back.
 *
 * Used by resident.c and scheduler.c, whose tables grow to a million and empty again, which the server's dynahash never
 * notices.  An entry is its user's own allocation, so that it can be where its user wants it, and costs a pointer in it and
 * one here.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "idtable.h"

#define MIN_BITS 8

static Size
size_of(int bits)
{
	return (Size) 1 << bits;
}

/*
 * Numbers that follow each other are spread (Knuth's multiplicative hash).
 */
static WfIdNode **
bucket_of(const WfIdTable *table, int64 instance_id)
{
	return &table->buckets[((uint64) instance_id * UINT64CONST(0x9E3779B97F4A7C15)) >> (64 - table->bits)];
}

static void
make_buckets(WfIdTable *table, int bits)
{
	table->bits = bits;
	table->buckets = MemoryContextAllocExtended(table->memory, size_of(bits) * sizeof(WfIdNode *),
												MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
}

/*
 * An empty table, whose buckets are in that memory.
 */
void
wf_idtable_init(WfIdTable *table, MemoryContext memory)
{
	table->memory = memory;
	table->count = 0;
	make_buckets(table, MIN_BITS);
}

static void
put(WfIdTable *table, WfIdNode *node)
{
	WfIdNode  **bucket = bucket_of(table, node->instance_id);

	node->next = *bucket;
	*bucket = node;
}

static void
resize(WfIdTable *table, int bits)
{
	WfIdNode  **buckets = table->buckets;
	Size		size = size_of(table->bits);

	make_buckets(table, bits);
	for (Size i = 0; i < size; i++)
		for (WfIdNode *node = buckets[i], *next; node != NULL; node = next)
		{
			next = node->next;
			put(table, node);
		}
	pfree(buckets);
}

/*
 * The entry of an instance, or NULL.
 */
void *
wf_idtable_find(const WfIdTable *table, int64 instance_id)
{
	WfIdNode   *node = *bucket_of(table, instance_id);

	while (node != NULL && node->instance_id != instance_id)
		node = node->next;
	return node;
}

/*
 * Adds an entry, whose instance has none yet.
 */
void
wf_idtable_add(WfIdTable *table, WfIdNode *node)
{
	if (table->count >= size_of(table->bits))
		resize(table, table->bits + 1);
	put(table, node);
	table->count++;
}

/*
 * Takes an entry out, which is the caller's to free.
 */
void
wf_idtable_remove(WfIdTable *table, WfIdNode *node)
{
	WfIdNode  **link = bucket_of(table, node->instance_id);

	while (*link != node)
		link = &(*link)->next;
	*link = node->next;
	table->count--;
	if (table->bits > MIN_BITS && table->count < size_of(table->bits) / 8)
		resize(table, Max(table->bits - 2, MIN_BITS));
}

Size
wf_idtable_bytes(const WfIdTable *table)
{
	return size_of(table->bits) * sizeof(WfIdNode *);
}
