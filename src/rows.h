/*
 * rows.h: rows of our own tables, read and written without SQL.
 */
#ifndef WF_ROWS_H
#define WF_ROWS_H

#include "executor/tuptable.h"
#include "storage/lockdefs.h"
#include "utils/jsonb.h"

#include "catalog.h"

/* opens a table that must have so many columns */
extern Relation wf_rows_open(WfRelation which, LOCKMODE lock, int columns);

/* columns by their number, from 1, in arrays as heap_form_tuple takes them; NULL pointers are NULLs */
extern void wf_row_set(Datum *values, bool *nulls, int column, Datum value);
extern void wf_row_set_text(Datum *values, bool *nulls, int column, const char *value);
extern void wf_row_set_jsonb(Datum *values, bool *nulls, int column, Jsonb *value);
extern void wf_row_set_bytes(Datum *values, bool *nulls, int column, const void *bytes, int len);

/* the same the other way round: copies, in the current memory context */
extern char *wf_row_text(const Datum *values, const bool *nulls, int column);
extern Jsonb *wf_row_jsonb(const Datum *values, const bool *nulls, int column);
extern void wf_row_bytes(const Datum *values, const bool *nulls, int column, void *bytes, int len);

/* many rows at once */
typedef struct WfBatch WfBatch;

extern WfBatch *wf_batch_open(WfRelation which, int columns, int expected);
extern TupleTableSlot *wf_batch_begin_row(WfBatch *batch);
extern void wf_batch_end_row(WfBatch *batch);
extern void wf_batch_close(WfBatch *batch);

#endif
