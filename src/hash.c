/*
 * hash.c: SHA-256, and jsonb as the text that is hashed.
 *
 * Called by whatever proves something: the log's chain, snapshots, digests of steps, code, idempotency keys.  Where the server
 * uses OpenSSL, this calls it directly, with an algorithm and a context that are kept for the life of the process: the
 * server's own pg_cryptohash_init() has OpenSSL 3 look for the algorithm each time, which takes longer than to hash a hundred
 * bytes, three times an event.
 */
#include "postgres.h"

#ifdef USE_OPENSSL
#include <openssl/evp.h>
#else
#include "common/cryptohash.h"
#endif
#include "utils/memutils.h"

#include "hash.h"

/* the text buffer is given back after use where it has grown beyond this */
#define KEEP_TEXT_BYTES (256 * 1024)

static StringInfoData buffer = {NULL, 0, 0, 0};

#ifdef USE_OPENSSL

#if OPENSSL_VERSION_NUMBER >= 0x30000000L
#define FETCH_SHA256() EVP_MD_fetch(NULL, "SHA256", NULL)
#else
#define FETCH_SHA256() EVP_sha256()
#endif

/*
 * SHA-256 of the parts, one after the other, into 32 bytes at result.
 */
void
wf_hash_sha256(const WfBytes *parts, int count, uint8 *result)
{
	static const EVP_MD *algorithm = NULL;
	static EVP_MD_CTX *context = NULL;
	bool		ok;

	if (algorithm == NULL)
		algorithm = FETCH_SHA256();
	if (context == NULL)
		context = EVP_MD_CTX_new();
	ok = algorithm != NULL && context != NULL && EVP_DigestInit_ex(context, algorithm, NULL) == 1;
	for (int i = 0; ok && i < count; i++)
		ok = EVP_DigestUpdate(context, parts[i].data, parts[i].len) == 1;
	if (!ok || EVP_DigestFinal_ex(context, result, NULL) != 1)
		elog(ERROR, "could not compute a SHA-256 hash");
}

#else

void
wf_hash_sha256(const WfBytes *parts, int count, uint8 *result)
{
	pg_cryptohash_ctx *context = pg_cryptohash_create(PG_SHA256);
	bool		ok = pg_cryptohash_init(context) >= 0;

	for (int i = 0; ok && i < count; i++)
		ok = pg_cryptohash_update(context, parts[i].data, parts[i].len) >= 0;
	ok = ok && pg_cryptohash_final(context, result, WF_SHA256_LEN) >= 0;
	pg_cryptohash_free(context);
	if (!ok)
		elog(ERROR, "could not compute a SHA-256 hash");
}

#endif

/*
 * An empty buffer for text that is to be hashed, kept for the life of the process.  There is one: whoever has it hashes no
 * jsonb by wf_hash_jsonb() before wf_hash_buffer_done().
 */
StringInfo
wf_hash_buffer(void)
{
	if (buffer.data == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		initStringInfo(&buffer);
		MemoryContextSwitchTo(old);
	}
	resetStringInfo(&buffer);
	return &buffer;
}

/*
 * The text has been hashed: one large state must not hold its memory for ever.
 */
void
wf_hash_buffer_done(void)
{
	if (buffer.maxlen <= KEEP_TEXT_BYTES)
		return;
	pfree(buffer.data);
	buffer.data = NULL;
}

/*
 * SHA-256 of jsonb's text.
 */
void
wf_hash_jsonb(Jsonb *value, uint8 *result)
{
	StringInfo	buf = wf_hash_buffer();
	WfBytes		part;

	wf_hash_append_jsonb(buf, value);
	part.data = buf->data;
	part.len = buf->len;
	wf_hash_sha256(&part, 1, result);
	wf_hash_buffer_done();
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
