/*
 * object.c: making JSON objects pair by pair, and reading values from one.
 *
 * Called wherever the engine makes a payload of its own.  Everything is palloc'd in the current memory context.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/numeric.h"

#include "object.h"

static void
push_string(JsonbParseState **parse, JsonbIteratorToken token, const char *string)
{
	JsonbValue	value;

	value.type = jbvString;
	value.val.string.val = unconstify(char *, string);
	value.val.string.len = strlen(string);
	pushJsonbValue(parse, token, &value);
}

void
wf_object_begin(JsonbParseState **parse)
{
	pushJsonbValue(parse, WJB_BEGIN_OBJECT, NULL);
}

/*
 * A string, or null where it is NULL.
 */
void
wf_object_text(JsonbParseState **parse, const char *key, const char *string)
{
	JsonbValue	value = {.type = jbvNull};

	push_string(parse, WJB_KEY, key);
	if (string != NULL)
		push_string(parse, WJB_VALUE, string);
	else
		pushJsonbValue(parse, WJB_VALUE, &value);
}

/*
 * A string, or no pair at all where it is NULL.
 */
void
wf_object_optional(JsonbParseState **parse, const char *key, const char *string)
{
	if (string != NULL)
		wf_object_text(parse, key, string);
}

void
wf_object_int(JsonbParseState **parse, const char *key, int64 number)
{
	JsonbValue	value = {.type = jbvNumeric};

	push_string(parse, WJB_KEY, key);
	value.val.numeric = int64_to_numeric(number);
	pushJsonbValue(parse, WJB_VALUE, &value);
}

void
wf_object_bool(JsonbParseState **parse, const char *key, bool flag)
{
	JsonbValue	value = {.type = jbvBool};

	push_string(parse, WJB_KEY, key);
	value.val.boolean = flag;
	pushJsonbValue(parse, WJB_VALUE, &value);
}

/*
 * A stamp in UTC, by ISO 8601, whatever TimeZone says.
 */
void
wf_object_stamp(JsonbParseState **parse, const char *key, TimestampTz at)
{
	char		buf[MAXDATELEN + 1];
	int			utc = 0;

	JsonEncodeDateTime(buf, TimestampTzGetDatum(at), TIMESTAMPTZOID, &utc);
	wf_object_text(parse, key, pstrdup(buf));
}

/*
 * A value, or null where it is NULL.
 */
void
wf_object_jsonb(JsonbParseState **parse, const char *key, Jsonb *jsonb)
{
	JsonbValue	value;

	push_string(parse, WJB_KEY, key);
	if (jsonb != NULL && JB_ROOT_IS_SCALAR(jsonb))
		JsonbExtractScalar(&jsonb->root, &value);
	else if (jsonb != NULL)
	{
		value.type = jbvBinary;
		value.val.binary.data = &jsonb->root;
		value.val.binary.len = VARSIZE(jsonb) - VARHDRSZ;
	}
	else
		value.type = jbvNull;
	pushJsonbValue(parse, WJB_VALUE, &value);
}

Jsonb *
wf_object_end(JsonbParseState **parse)
{
	return JsonbValueToJsonb(pushJsonbValue(parse, WJB_END_OBJECT, NULL));
}

static JsonbValue *
find(Jsonb *object, const char *key)
{
	JsonbValue	wanted = {.type = jbvString};

	if (!JB_ROOT_IS_OBJECT(object))
		return NULL;
	wanted.val.string.val = unconstify(char *, key);
	wanted.val.string.len = strlen(key);
	return findJsonbValueFromContainer(&object->root, JB_FOBJECT, &wanted);
}

/*
 * The value of a key; NULL where there is no such key, or no object.
 */
Jsonb *
wf_object_get(Jsonb *object, const char *key)
{
	JsonbValue *value = find(object, key);

	return value == NULL ? NULL : JsonbValueToJsonb(value);
}

/*
 * The same where it is a string.
 */
char *
wf_object_get_text(Jsonb *object, const char *key)
{
	JsonbValue *value = find(object, key);

	if (value == NULL || value->type != jbvString)
		return NULL;
	return pnstrdup(value->val.string.val, value->val.string.len);
}

TimestampTz
wf_object_get_stamp(Jsonb *object, const char *key)
{
	return DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(wf_object_get_text(object, key)),
												   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
}

int64
wf_object_get_int(Jsonb *object, const char *key)
{
	Jsonb	   *value = wf_object_get(object, key);
	JsonbValue	scalar;

	if (value == NULL || !JB_ROOT_IS_SCALAR(value) || !JsonbExtractScalar(&value->root, &scalar) ||
		scalar.type != jbvNumeric)
		return 0;
	return DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(scalar.val.numeric)));
}
