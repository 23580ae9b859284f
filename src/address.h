/*
 * address.h: which instance an id is.
 */
#ifndef WF_ADDRESS_H
#define WF_ADDRESS_H

typedef struct WfAddress
{
	int64		instance_id;
	int			workflow_id;
	bool		closed;			/* for good; else it may be or not */
} WfAddress;

typedef struct WfAddresses WfAddresses;

extern WfAddresses *wf_addresses_create(MemoryContext parent);
extern bool wf_addresses_find(const WfAddresses *addresses, const char *id, WfAddress *address);
extern void wf_addresses_add(WfAddresses *addresses, const char *id, const WfAddress *address);
extern Size wf_addresses_bytes(const WfAddresses *addresses);
extern void wf_addresses_forget(WfAddresses *addresses);

#endif
