/*
 * lineup.c: the processes of a turn: found by instance, and in the order in which they act.
 *
 * A turn handles events by their place across all its processes, so that processes that catch up together meet each other
 * as they would have met live.  turn.c takes the first; whoever changes a draft's mail or status calls wf_lineup_update().
 * Lives in the turn's memory.
 */
#include "postgres.h"

#include "common/hashfn.h"

#include "inbox.h"
#include "lineup.h"

typedef struct Entry
{
	int64		instance_id;
	WfDraft    *draft;
	char		status;
} Entry;

#define SH_PREFIX entries
#define SH_ELEMENT_TYPE Entry
#define SH_KEY_TYPE int64
#define SH_KEY instance_id
#define SH_HASH_KEY(tb, key) ((uint32) (((uint64) (key) * UINT64CONST(0x9E3779B97F4A7C15)) >> 32))
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

struct WfLineup
{
	TimestampTz now;
	struct entries_hash *entries;
	List	   *drafts;			/* of WfDraft *, in the order of being added */
	pairingheap *queue;			/* of those that have something to do */
};

/*
 * First place first: a pairingheap gives its greatest.
 */
static int
compare(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	const WfDraft *x = pairingheap_const_container(WfDraft, node, a);
	const WfDraft *y = pairingheap_const_container(WfDraft, node, b);
	int			order = wf_inbox_compare(&y->place, &x->place);

	if (order != 0 || x->instance_id == y->instance_id)
		return order;
	return x->instance_id < y->instance_id ? 1 : -1;
}

/*
 * An empty one, in the current memory context.
 */
WfLineup *
wf_lineup_create(TimestampTz now)
{
	WfLineup   *lineup = palloc0(sizeof(WfLineup));

	lineup->now = now;
	lineup->entries = entries_create(CurrentMemoryContext, 256, NULL);
	lineup->queue = pairingheap_allocate(compare, NULL);
	return lineup;
}

/*
 * A draft of an instance that is not in the lineup yet, with nothing known but the stamp to read its mail from.
 */
WfDraft *
wf_lineup_add(WfLineup *lineup, int64 instance_id, TimestampTz low)
{
	WfDraft    *draft = palloc0(sizeof(WfDraft));
	bool		found;

	draft->instance_id = instance_id;
	draft->unread_at = low;
	draft->deadline_at = DT_NOEND;
	draft->floor = DT_NOBEGIN;
	entries_insert(lineup->entries, instance_id, &found)->draft = draft;
	Assert(!found);
	lineup->drafts = lappend(lineup->drafts, draft);
	wf_lineup_update(lineup, draft);
	return draft;
}

/*
 * The draft of an instance, or NULL.
 */
WfDraft *
wf_lineup_find(const WfLineup *lineup, int64 instance_id)
{
	Entry	   *entry = entries_lookup(lineup->entries, instance_id);

	return entry == NULL ? NULL : entry->draft;
}

/*
 * Puts a draft where it belongs now.
 */
void
wf_lineup_update(WfLineup *lineup, WfDraft *draft)
{
	WfPlace		place;
	bool		has_place = wf_inbox_place(draft, lineup->now, &place, &draft->unread) && place.at <= lineup->now;

	if (place.at != WF_AT_ONCE)
		place.at = Max(place.at, draft->floor);
	if (draft->in_lineup && has_place && wf_inbox_compare(&place, &draft->place) == 0)
		return;
	if (draft->in_lineup)
		pairingheap_remove(lineup->queue, &draft->node);
	draft->in_lineup = has_place;
	draft->place = place;
	if (has_place)
		pairingheap_add(lineup->queue, &draft->node);
}

/*
 * Takes a draft out of the order, until it is updated.
 */
void
wf_lineup_leave(WfLineup *lineup, WfDraft *draft)
{
	pairingheap_remove(lineup->queue, &draft->node);
	draft->in_lineup = false;
}

/*
 * Whose turn it is, or NULL.
 */
WfDraft *
wf_lineup_first(const WfLineup *lineup)
{
	if (pairingheap_is_empty(lineup->queue))
		return NULL;
	return pairingheap_container(WfDraft, node, pairingheap_first(lineup->queue));
}

/*
 * All drafts, of WfDraft *.
 */
List *
wf_lineup_drafts(const WfLineup *lineup)
{
	return lineup->drafts;
}
