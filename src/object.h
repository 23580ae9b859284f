/*
 * object.h: making JSON objects, and reading from them.
 */
#ifndef WF_OBJECT_H
#define WF_OBJECT_H

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

extern void wf_object_begin(JsonbParseState **parse);
extern void wf_object_text(JsonbParseState **parse, const char *key, const char *string);
extern void wf_object_optional(JsonbParseState **parse, const char *key, const char *string);
extern void wf_object_int(JsonbParseState **parse, const char *key, int64 number);
extern void wf_object_bool(JsonbParseState **parse, const char *key, bool flag);
extern void wf_object_stamp(JsonbParseState **parse, const char *key, TimestampTz at);
extern void wf_object_jsonb(JsonbParseState **parse, const char *key, Jsonb *value);
extern Jsonb *wf_object_end(JsonbParseState **parse);

/* of an object: palloc'd; NULL where there is none */
extern Jsonb *wf_object_get(Jsonb *object, const char *key);
extern char *wf_object_get_text(Jsonb *object, const char *key);

/* of a finite stamp, which is there */
extern TimestampTz wf_object_get_stamp(Jsonb *object, const char *key);

/* 0 where there is none */
extern int64 wf_object_get_int(Jsonb *object, const char *key);

#endif
