/*
 * hash.c: SHA-256, and jsonb as the text that is hashed.
 *
 * Called by whatever proves something: the log's chain, snapshots, digests of steps, code, idempotency keys.  Making a
 * hashing context costs as much as a hash, and a context belongs to a resource owner.  So there is one for each top
 * transaction: made at its first hash, freed before its commit, and left to the resource owner where it aborts.  Needs a
 * transaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/cryptohash.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "hash.h"

/* text buffers beyond this are given back after use */
#define KEEP_TEXT_BYTES (256 * 1024)

static pg_cryptohash_ctx *context = NULL;

static void
at_transaction_event(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			pg_cryptohash_free(context);
			context = NULL;
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PARALLEL_ABORT:
			/* the resource owner frees it */
			context = NULL;
			break;
		default:
			break;
	}
}

/*
 * Registers the callback that ends a transaction's hashing context; once per process.
 */
void
wf_hash_init(void)
{
	RegisterXactCallback(at_transaction_event, NULL);
}

/*
 * Makes this transaction's context.  It must outlive subtransactions and portals, whoever asks first.
 */
static void
create_context(void)
{
	ResourceOwner old = CurrentResourceOwner;

	Assert(IsTransactionState());
	CurrentResourceOwner = TopTransactionResourceOwner;
	PG_TRY();
	{
		context = pg_cryptohash_create(PG_SHA256);
	}
	PG_FINALLY();
	{
		CurrentResourceOwner = old;
	}
	PG_END_TRY();
}

/*
 * SHA-256 of the parts, one after the other, into 32 bytes at result.
 */
void
wf_hash_sha256(const WfBytes *parts, int count, uint8 *result)
{
	bool		ok;

	if (context == NULL)
		create_context();
	ok = pg_cryptohash_init(context) >= 0;
	for (int i = 0; ok && i < count; i++)
		ok = pg_cryptohash_update(context, parts[i].data, parts[i].len) >= 0;
	if (!ok || pg_cryptohash_final(context, result, WF_SHA256_LEN) < 0)
		elog(ERROR, "could not compute a SHA-256 hash");
}

/*
 * SHA-256 of jsonb's text.
 */
void
wf_hash_jsonb(Jsonb *value, uint8 *result)
{
	static StringInfoData buf = {NULL, 0, 0, 0};
	WfBytes		part;

	if (buf.data == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		initStringInfo(&buf);
		MemoryContextSwitchTo(old);
	}
	resetStringInfo(&buf);
	wf_hash_append_jsonb(&buf, value);
	part.data = buf.data;
	part.len = buf.len;

	wf_hash_sha256(&part, 1, result);
	if (buf.maxlen > KEEP_TEXT_BYTES)
	{
		pfree(buf.data);
		buf.data = NULL;
	}
}

/*
 * Appends bytes as lower-case hexadecimal digits.
 */
void
wf_hash_append_hex(StringInfo buf, const uint8 *bytes, int len)
{
	static const char digits[] = "0123456789abcdef";
	char	   *next;

	enlargeStringInfo(buf, len * 2);
	next = buf->data + buf->len;
	for (int i = 0; i < len; i++)
	{
		*next++ = digits[bytes[i] >> 4];
		*next++ = digits[bytes[i] & 0x0f];
	}
	*next = '\0';
	buf->len += len * 2;
}

/*
 * Appends jsonb's text, as value::text gives it.
 */
void
wf_hash_append_jsonb(StringInfo buf, Jsonb *value)
{
	(void) JsonbToCString(buf, &value->root, VARSIZE(value));
}
