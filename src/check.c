/*
 * check.c: arguments that users hand in: present, well formed, not too large; and whether this is a place to hand them in.
 *
 * Called by the SQL entry points before they touch anything, and by handler actions.  Reads no table, takes no lock.  What
 * is accepted here goes into hashes joined by chr(31) and into messages, so a control character gets no further.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "utils/builtins.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "check.h"
#include "guc.h"
#include "step.h"

/* as in the declaration of wfproc.start() */
#define LEFT_OUT "\x1f"

#define MAX_DELAY_US (100 * 366.0 * USECS_PER_DAY)

/*
 * Refuses SQL NULL.
 */
void
wf_check_not_null(FunctionCallInfo fcinfo, int argno, const char *argument)
{
	if (PG_ARGISNULL(argno))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", argument)));
}

/*
 * A text argument that must be there and be a name, as a palloc'd string.
 */
char *
wf_check_name(FunctionCallInfo fcinfo, int argno, const char *argument)
{
	wf_check_not_null(fcinfo, argno, argument);
	return wf_check_optional_name(fcinfo, argno, argument);
}

/*
 * The same, or NULL for SQL NULL.
 */
char *
wf_check_optional_name(FunctionCallInfo fcinfo, int argno, const char *argument)
{
	char	   *value;

	if (PG_ARGISNULL(argno))
		return NULL;
	value = text_to_cstring(PG_GETARG_TEXT_PP(argno));
	wf_check_name_text(value, argument);
	return value;
}

/*
 * The argument "id" of start(); NULL where it was left out, for which its default stands, that no id can be.
 */
char *
wf_check_new_id(FunctionCallInfo fcinfo, int argno)
{
	char	   *id;

	if (PG_ARGISNULL(argno))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"id\" must not be null"),
				 errhint("Leave it out for a generated id.")));
	id = text_to_cstring(PG_GETARG_TEXT_PP(argno));
	if (strcmp(id, LEFT_OUT) == 0)
		return NULL;
	wf_check_name_text(id, "id");
	return id;
}

/*
 * The offset of the first control character, or -1.  C1 controls are two bytes in UTF-8, the only encoding that define()
 * lets in.
 */
static int
find_control_character(const char *value)
{
	const unsigned char *bytes = (const unsigned char *) value;

	for (int i = 0; bytes[i] != '\0'; i++)
	{
		if (bytes[i] < 0x20 || bytes[i] == 0x7f)
			return i;
		if (bytes[i] == 0xc2 && bytes[i + 1] >= 0x80 && bytes[i + 1] <= 0x9f)
			return i;
	}
	return -1;
}

/*
 * Ids, names of workflows, events and timers, idempotency keys: 1 to 255 bytes without control characters.
 */
void
wf_check_name_text(const char *value, const char *argument)
{
	Size		len = strlen(value);
	int			bad;

	if (len < 1 || len > WF_MAX_NAME)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be 1 to %d bytes long; got %zu", argument, WF_MAX_NAME, len),
				 len > 0 ? errhint("Long keys can be hashed first, with md5() for example.") : 0));
	bad = find_control_character(value);
	if (bad >= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must not contain control characters", argument),
				 errdetail("There is one at byte %d, after \"%.*s\".", bad + 1, bad, value),
				 errhint("Remove it, or encode the value first.")));
}

static bool
is_reserved(const char *event)
{
	static const char *const reserved[] = {"start", "cancel", "reply", "dead_letter"};

	for (int i = 0; i < lengthof(reserved); i++)
		if (strcmp(event, reserved[i]) == 0)
			return true;
	return false;
}

/*
 * The name of an event.  Clients may not forge what only the engine sends; handlers neither, so they pass true as well.
 */
void
wf_check_event_name(const char *event, bool from_client)
{
	wf_check_name_text(event, "event");
	if (!from_client)
		return;
	if (WF_IS_ENGINE_EVENT(event) || strncmp(event, "child.", 6) == 0 || strncmp(event, "monitor.", 8) == 0 ||
		is_reserved(event))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("event name \"%s\" is reserved", event),
				 errhint("Only the engine sends start, cancel, reply, dead_letter, child.*, monitor.* and events whose name begins with $.")));
}

/*
 * A jsonb argument within wfproc.max_payload; SQL NULL becomes {}, so that no handler ever receives a NULL.
 */
Jsonb *
wf_check_payload(FunctionCallInfo fcinfo, int argno, const char *argument)
{
	Jsonb	   *payload;

	if (PG_ARGISNULL(argno))
		return wf_check_empty_object();
	payload = PG_GETARG_JSONB_P(argno);
	wf_check_size(payload, wf_max_payload, argument, "wfproc.max_payload");
	return payload;
}

/*
 * Bytes of text that the numbers in a value take; nothing but numbers is ever longer as text than six times its binary form
 * (1e131071 is 131,072 digits from a dozen bytes).
 */
static int64
text_of_numbers(Jsonb *value)
{
	JsonbIterator *it = JsonbIteratorInit(&value->root);
	JsonbIteratorToken token;
	JsonbValue	element;
	int64		bytes = 0;

	while ((token = JsonbIteratorNext(&it, &element, false)) != WJB_DONE)
	{
		char	   *digits;

		if ((token != WJB_VALUE && token != WJB_ELEM) || element.type != jbvNumeric)
			continue;
		digits = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(element.val.numeric)));
		bytes += strlen(digits);
		pfree(digits);
	}
	return bytes;
}

/*
 * How many bytes a value's text is; 0 where it is surely no more than limit.  Writing out the text is the dear way to find
 * out, so most values are let through by a bound: a byte of a string becomes at most six (\u001f), and the quotes, brackets
 * and separators of an element are fewer than six times the four bytes of its entry.
 */
static int
text_length(Jsonb *value, int limit)
{
	char	   *string;
	int			len;

	if ((int64) VARSIZE(value) * 6 <= limit && (int64) VARSIZE(value) * 6 + text_of_numbers(value) <= limit)
		return 0;
	string = JsonbToCString(NULL, &value->root, VARSIZE(value));
	len = strlen(string);
	pfree(string);
	return len;
}

/*
 * Whether the text of a value is at most limit bytes.
 */
bool
wf_check_fits(Jsonb *value, int limit)
{
	return text_length(value, limit) <= limit;
}

/*
 * Refuses a value whose text is longer than limit bytes.
 */
void
wf_check_size(Jsonb *value, int limit, const char *what, const char *setting)
{
	int			len = text_length(value, limit);

	if (len > limit)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("%s is %d bytes, limit %s %d", what, len, setting, limit),
				 errhint("Keep large data in a table of your own and pass its key, or raise %s.", setting)));
}

/*
 * The argument "reason", or NULL for SQL NULL.  Its limit is no setting: so it holds in a replay, and a reason always has room
 * in what others are told.
 */
char *
wf_check_reason(FunctionCallInfo fcinfo, int argno)
{
	text	   *reason;

	if (PG_ARGISNULL(argno))
		return NULL;
	reason = PG_GETARG_TEXT_PP(argno);
	if (VARSIZE_ANY_EXHDR(reason) > WF_MAX_REASON)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("argument \"reason\" is %d bytes, limit %d", (int) VARSIZE_ANY_EXHDR(reason), WF_MAX_REASON),
				 errhint("Keep long texts in a table of your own, and give a reason that says where.")));
	return text_to_cstring(reason);
}

/*
 * The value {}.  Shared: neither to be changed nor freed.
 */
Jsonb *
wf_check_empty_object(void)
{
	static Jsonb empty;

	SET_VARSIZE(&empty, sizeof(empty));
	empty.root.header = JB_FOBJECT;
	return &empty;
}

/*
 * An interval argument that must be a delay from now on, in microseconds.
 */
int64
wf_check_delay(FunctionCallInfo fcinfo, int argno, const char *argument)
{
	Interval   *interval = PG_GETARG_INTERVAL_P(argno);
	double		us = (double) interval->time +
		((double) interval->month * DAYS_PER_MONTH + interval->day) * (double) USECS_PER_DAY;

	if (us < 0 || us > MAX_DELAY_US)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be from 0 to 100 years, got %s", argument,
						DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(interval))))));
	return (int64) us;
}

/*
 * Refuses functions that act at once: in a handler nothing may, or a replay would act again.
 */
void
wf_check_not_in_handler(const char *function)
{
	if (MyWfStep != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s() cannot be called inside a handler", function),
				 errhint("A handler acts by the actions that it asks for; they are carried out when its step has ended.")));
}

/*
 * Refuses to write where nothing can be written.  what: "send events".
 */
void
wf_check_can_write(const char *what)
{
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot %s during recovery", what),
				 errhint("This server is a standby: ask the primary.")));
	if (XactReadOnly)
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot %s in a read-only transaction", what)));
}
