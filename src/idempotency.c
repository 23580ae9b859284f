/*
 * idempotency.c: keys given to send(), and the event that each stands for; the only code that reads and writes
 * wfproc.idempotency.
 *
 * Called by send() (api.c), in its transaction.  Two senders with one key meet in the table's primary key: the second waits
 * for the first to end.  Only an event with a key costs a row here.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "utils/builtins.h"

#include "catalog.h"
#include "hash.h"
#include "idempotency.h"
#include "spi.h"

/*
 * What must be the same when a key comes again: name, payload, and the stamp where the caller gave one.
 */
static bytea *
fingerprint(const WfEvent *event, bool with_at)
{
	bytea	   *result = palloc(VARHDRSZ + WF_SHA256_LEN);
	uint8		payload[WF_SHA256_LEN];
	int64		at = with_at ? event->at : 0;
	WfBytes		parts[] = {
		{event->name, strlen(event->name) + 1},
		{payload, WF_SHA256_LEN},
		{&at, sizeof(at)}
	};

	wf_hash_jsonb(event->payload, payload);
	wf_hash_sha256(parts, lengthof(parts), (uint8 *) VARDATA(result));
	SET_VARSIZE(result, VARHDRSZ + WF_SHA256_LEN);
	return result;
}

/*
 * Reads the row of the key into *first.  False where there is none; an error where it stands for another event.
 */
static bool
read_first(int64 instance_id, const WfEvent *event, bytea *wanted, int64 *first)
{
	static SPIPlanPtr plan = NULL;
	const Oid	types[] = {INT8OID, TEXTOID};
	Datum		values[] = {Int64GetDatum(instance_id), CStringGetTextDatum(event->key)};
	bool		isnull;
	bytea	   *found;

	if (wf_spi_execute(&plan, "SELECT mail_id, event_sha256 FROM wfproc.idempotency WHERE instance_id = $1 AND key = $2",
					   lengthof(types), types, values, NULL, false, SPI_OK_SELECT) == 0)
		return false;
	*first = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	found = DatumGetByteaPP(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	if (VARSIZE_ANY_EXHDR(found) != WF_SHA256_LEN || memcmp(VARDATA_ANY(found), VARDATA(wanted), WF_SHA256_LEN) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNIQUE_VIOLATION),
				 errmsg("idempotency key \"%s\" was used for another event, mail_id " INT64_FORMAT, event->key, *first),
				 errhint("A key stands for one event: same name, same payload, and same stamp where one is given.")));
	return true;
}

/*
 * Whether the key was used before for this very event, and then its mail_id.
 */
bool
wf_idempotency_find(int64 instance_id, const WfEvent *event, bool with_at, int64 *first)
{
	bytea	   *wanted = fingerprint(event, with_at);
	bool		found;
	WfSpi		spi;

	wf_spi_begin(&spi);
	found = read_first(instance_id, event, wanted, first);
	wf_spi_end(&spi);
	return found;
}

/*
 * Claims the key for this event, which gets its mail_id.  False where somebody was faster: *first is then theirs.
 */
bool
wf_idempotency_claim(int64 instance_id, WfEvent *event, bool with_at, int64 *first)
{
	static SPIPlanPtr plan = NULL;
	const Oid	types[] = {INT8OID, TEXTOID, INT8OID, BYTEAOID};
	bytea	   *wanted = fingerprint(event, with_at);
	Datum		values[4];
	bool		claimed;
	WfSpi		spi;

	event->mail_id = nextval_internal(wf_catalog_oid(WF_MAIL_SEQ), false);
	values[0] = Int64GetDatum(instance_id);
	values[1] = CStringGetTextDatum(event->key);
	values[2] = Int64GetDatum(event->mail_id);
	values[3] = PointerGetDatum(wanted);
	wf_spi_begin(&spi);
	claimed = wf_spi_execute(&plan, "INSERT INTO wfproc.idempotency (instance_id, key, mail_id, event_sha256)"
							 " VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
							 lengthof(types), types, values, NULL, false, SPI_OK_INSERT) == 1;
	if (!claimed && !read_first(instance_id, event, wanted, first))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("idempotency key \"%s\" was used by a transaction that this one cannot see", event->key),
				 errhint("Try again.")));
	wf_spi_end(&spi);
	return claimed;
}
