/*
 * hash.h: SHA-256 over pieces, and jsonb as the text that is hashed.
 */
#ifndef WF_HASH_H
#define WF_HASH_H

#include "lib/stringinfo.h"
#include "utils/jsonb.h"

#define WF_SHA256_LEN 32

typedef struct WfBytes
{
	const void *data;
	Size		len;
} WfBytes;

extern void wf_hash_sha256(const WfBytes *parts, int count, uint8 *result);
extern StringInfo wf_hash_buffer(void);
extern void wf_hash_buffer_done(void);
extern void wf_hash_jsonb(Jsonb *value, uint8 *result);
extern void wf_hash_append_hex(StringInfo buf, const uint8 *bytes, int len);
extern void wf_hash_append_jsonb(StringInfo buf, Jsonb *value);

#endif
