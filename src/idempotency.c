/*
 * idempotency.c: keys given to send(), and the event that each stands for; the only code that reads and writes
 * wfproc.idempotency.
 *
 * Called by send() (api.c), in its transaction.  Two senders with one key meet in the table's primary key: the second waits
 * for the first to end.  Only an event with a key costs a row here.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
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
 * Whether two events with one key are the same.
 */
bool
wf_idempotency_same(const WfEvent *a, const WfEvent *b, bool with_at)
{
	return memcmp(VARDATA(fingerprint(a, with_at)), VARDATA(fingerprint(b, with_at)), WF_SHA256_LEN) == 0;
}

/*
 * Reads the row of the key; *first is its mail_id, where there is one.
 */
static WfKeyState
read_first(int64 instance_id, const WfEvent *event, bytea *wanted, int64 *first)
{
	static SPIPlanPtr plan = NULL;
	const Oid	types[] = {INT8OID, TEXTOID};
	Datum		values[] = {Int64GetDatum(instance_id), CStringGetTextDatum(event->key)};
	bool		isnull;
	bytea	   *found;

	if (wf_spi_execute(&plan, "SELECT mail_id, event_sha256 FROM wfproc.idempotency WHERE instance_id = $1 AND key = $2",
					   lengthof(types), types, values, NULL, false, SPI_OK_SELECT) == 0)
		return WF_KEY_NEW;
	*first = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	found = DatumGetByteaPP(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	if (VARSIZE_ANY_EXHDR(found) != WF_SHA256_LEN || memcmp(VARDATA_ANY(found), VARDATA(wanted), WF_SHA256_LEN) != 0)
		return WF_KEY_OTHER;
	return WF_KEY_SAME;
}

static void
require_same(WfKeyState state, const WfEvent *event, int64 first)
{
	if (state == WF_KEY_OTHER)
		ereport(ERROR,
				(errcode(ERRCODE_UNIQUE_VIOLATION),
				 errmsg("idempotency key \"%s\" was used for another event, mail_id " INT64_FORMAT, event->key, first),
				 errhint("A key stands for one event: same name, same payload, and same stamp where one is given.")));
}

/*
 * What the key stands for; *first becomes the mail_id of that.
 */
WfKeyState
wf_idempotency_look(int64 instance_id, const WfEvent *event, bool with_at, int64 *first)
{
	bytea	   *wanted = fingerprint(event, with_at);
	WfKeyState	state;
	WfSpi		spi;

	wf_spi_begin(&spi);
	state = read_first(instance_id, event, wanted, first);
	wf_spi_end(&spi);
	return state;
}

/*
 * Whether the key was used before for this very event, and then its mail_id; an error where it was used for another.
 */
bool
wf_idempotency_find(int64 instance_id, const WfEvent *event, bool with_at, int64 *first)
{
	WfKeyState	state = wf_idempotency_look(instance_id, event, with_at, first);

	require_same(state, event, *first);
	return state == WF_KEY_SAME;
}

/*
 * Claims the key for this event, which gets its mail_id where it has none.  False where somebody was faster: *first is then theirs.
 */
bool
wf_idempotency_claim(int64 instance_id, WfEvent *event, bool with_at, int64 *first)
{
	static SPIPlanPtr plan = NULL;
	const Oid	types[] = {INT8OID, TEXTOID, INT8OID, BYTEAOID};
	bytea	   *wanted = fingerprint(event, with_at);
	Datum		values[4];
	WfKeyState	state;
	bool		claimed;
	WfSpi		spi;

	if (event->mail_id == 0)
		event->mail_id = wf_catalog_next_number(WF_MAIL_SEQ);
	values[0] = Int64GetDatum(instance_id);
	values[1] = CStringGetTextDatum(event->key);
	values[2] = Int64GetDatum(event->mail_id);
	values[3] = PointerGetDatum(wanted);
	wf_spi_begin(&spi);
	claimed = wf_spi_execute(&plan, "INSERT INTO wfproc.idempotency (instance_id, key, mail_id, event_sha256)"
							 " VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
							 lengthof(types), types, values, NULL, false, SPI_OK_INSERT) == 1;
	state = claimed ? WF_KEY_NEW : read_first(instance_id, event, wanted, first);
	if (!claimed && state == WF_KEY_NEW)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("idempotency key \"%s\" was used by a transaction that this one cannot see", event->key),
				 errhint("Try again.")));
	require_same(state, event, *first);
	wf_spi_end(&spi);
	return claimed;
}
