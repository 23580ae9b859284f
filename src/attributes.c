/*
 * attributes.c: changing an instance's attributes.
 *
 * Called by draft.c for a handler's set_attributes() and for the control event of the one from outside, and by control.c,
 * which wants to know whether that would change anything.
 */
#include "postgres.h"

#include "attributes.h"
#include "check.h"

static bool
has_key(Jsonb *object, JsonbValue *key)
{
	return findJsonbValueFromContainer(&object->root, JB_FOBJECT, key) != NULL;
}

/*
 * Pushes the pairs of an object that are not null and, where there is another, not in that.
 */
static void
push_pairs(JsonbParseState **parse, Jsonb *object, Jsonb *unless_in)
{
	JsonbIterator *it = JsonbIteratorInit(&object->root);
	JsonbIteratorToken token;
	JsonbValue	key;
	JsonbValue	value;

	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &value, true);
		if (value.type == jbvNull || (unless_in != NULL && has_key(unless_in, &key)))
			continue;
		pushJsonbValue(parse, WJB_KEY, &key);
		pushJsonbValue(parse, WJB_VALUE, &value);
	}
}

/*
 * The attributes with the changes made: keys are added or replaced, those that become null are gone.  Both are objects.
 * Palloc'd, or the shared empty object.
 */
Jsonb *
wf_attributes_merge(Jsonb *old, Jsonb *changes)
{
	JsonbParseState *parse = NULL;
	JsonbValue *result;

	pushJsonbValue(&parse, WJB_BEGIN_OBJECT, NULL);
	push_pairs(&parse, old, changes);
	push_pairs(&parse, changes, NULL);
	result = pushJsonbValue(&parse, WJB_END_OBJECT, NULL);
	return result->val.object.nPairs == 0 ? wf_check_empty_object() : JsonbValueToJsonb(result);
}
