/*
 * address.c: a table of ids and the instances that they are, which spares looking them up for each message.
 *
 * Used by deliver.c: one table lives as long as the engine and holds what was found in wfproc.instance, where an id never
 * changes hands; another lives as long as a turn and holds the instances that this turn starts.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/memutils.h"

#include "address.h"

/* where there are more, all are forgotten */
#define MAX_ADDRESSES 100000

typedef struct Entry
{
	const char *id;
	WfAddress	address;
	char		status;
} Entry;

#define SH_PREFIX ids
#define SH_ELEMENT_TYPE Entry
#define SH_KEY_TYPE const char *
#define SH_KEY id
#define SH_HASH_KEY(tb, key) hash_bytes((const unsigned char *) (key), strlen(key))
#define SH_EQUAL(tb, a, b) (strcmp(a, b) == 0)
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

struct WfAddresses
{
	MemoryContext memory;
	struct ids_hash *ids;		/* NULL: empty */
};

/*
 * An empty table, which lives as long as its parent.
 */
WfAddresses *
wf_addresses_create(MemoryContext parent)
{
	WfAddresses *addresses = MemoryContextAllocZero(parent, sizeof(WfAddresses));

	addresses->memory = AllocSetContextCreate(parent, "wfproc addresses", ALLOCSET_SMALL_SIZES);
	return addresses;
}

bool
wf_addresses_find(const WfAddresses *addresses, const char *id, WfAddress *address)
{
	Entry	   *entry = addresses->ids == NULL ? NULL : ids_lookup(addresses->ids, id);

	if (entry == NULL)
		return false;
	*address = entry->address;
	return true;
}

void
wf_addresses_add(WfAddresses *addresses, const char *id, const WfAddress *address)
{
	bool		found;

	if (addresses->ids != NULL && addresses->ids->members >= MAX_ADDRESSES)
		wf_addresses_forget(addresses);
	if (addresses->ids == NULL)
		addresses->ids = ids_create(addresses->memory, 64, NULL);
	ids_insert(addresses->ids, MemoryContextStrdup(addresses->memory, id), &found)->address = *address;
}

/*
 * Memory that they take.
 */
Size
wf_addresses_bytes(const WfAddresses *addresses)
{
	return MemoryContextMemAllocated(addresses->memory, true);
}

/*
 * Forgets all: they can be found again.
 */
void
wf_addresses_forget(WfAddresses *addresses)
{
	MemoryContextReset(addresses->memory);
	addresses->ids = NULL;
}
