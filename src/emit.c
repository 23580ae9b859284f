/*
 * emit.c: the trigger function that turns inserted rows into events.
 *
 * The trigger's arguments say which columns are the event's parts.  Each part is an expression over the row, prepared once
 * and evaluated without SQL, and the mail is written by mailbox.c, in the order of the rows.  A row trigger does that for
 * one row, and its expressions live as long as the statement that fires it; a statement trigger reads the rows of its
 * transition table, and writes the mail, and the instances that it must start first, in bulk.
 *
 * Everything is part of the inserting transaction; what is wrong with one row is an error for the statement, the same as
 * send() would raise.
 *
 * The trigger is part of the table: so the table's *owner* must have the right to send to the workflow, and who inserts
 * needs no rights in schema wfproc.  (Who is granted TRIGGER on a table is trusted by its owner with all that, as with the
 * rights of everybody who inserts.)  The expressions run as who inserts, as any trigger does: a cast or a conversion to json
 * may call functions that users have made, which must never run as the extension's owner.
 */
#include "postgres.h"

#include "access/attnum.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_coerce.h"
#include "parser/parse_collate.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "utils/varlena.h"

#include "acl.h"
#include "check.h"
#include "clock.h"
#include "guc.h"
#include "instance.h"
#include "mailbox.h"

PG_FUNCTION_INFO_V1(wfproc_emit);

/* the trigger's arguments, each key=value */
enum
{
	ARG_ID,
	ARG_EVENT,
	ARG_EVENT_COLUMN,
	ARG_AT,
	ARG_PAYLOAD,
	ARG_START,
	ARGS
};

static const char *const arg_names[ARGS] = {"id", "event", "event_column", "at", "payload", "start"};
static const char *const part_names[ARGS] = {"id", "name", "name", "stamp", "payload", "workflow"};

/* a trigger, made ready */
typedef struct WfEmit
{
	char	   *trigger;
	char	   *table;
	Oid			owner;			/* the table's */
	Relation	rel;			/* while expressions are made */
	char	   *args[ARGS];
	EState	   *estate;
	ExprState  *id;
	ExprState  *event;			/* NULL: it is a constant */
	ExprState  *at;				/* NULL: now */
	ExprState  *payload;
	int			permitted_id;	/* the workflow that the owner was last seen
								 * to have the right to; 0: none */
} WfEmit;

/* an addressee, found by its id once in a statement */
typedef struct WfTarget
{
	char		id[WF_MAX_NAME + 1];	/* hash key */
	WfInstance	instance;
	bool		exists;
	TimestampTz first_at;		/* earliest stamp of its events */
} WfTarget;

/* a pass over the rows of a transition table */
typedef struct WfRows
{
	Tuplestorestate *store;
	int			pointer;
	TupleTableSlot *slot;
} WfRows;

/* for messages */
typedef struct WfEmitContext
{
	const TriggerData *trigdata;
	const char *id;				/* of the row at hand; NULL: not known */
} WfEmitContext;

static void
add_context(void *arg)
{
	const WfEmitContext *context = arg;
	const char *trigger = context->trigdata->tg_trigger->tgname;
	const char *table = RelationGetRelationName(context->trigdata->tg_relation);

	if (context->id != NULL)
		errcontext("trigger \"%s\" on table \"%s\", row with id \"%s\"", trigger, table, context->id);
	else
		errcontext("trigger \"%s\" on table \"%s\"", trigger, table);
}

/*
 * Refuses everything but AFTER INSERT, for each row or with a transition table.
 */
static void
check_trigger(const TriggerData *trigdata)
{
	const Trigger *trigger = trigdata->tg_trigger;

	if (!TRIGGER_FOR_AFTER(trigger->tgtype) || !TRIGGER_FOR_INSERT(trigger->tgtype) ||
		TRIGGER_FOR_UPDATE(trigger->tgtype) || TRIGGER_FOR_DELETE(trigger->tgtype) ||
		TRIGGER_FOR_TRUNCATE(trigger->tgtype))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("trigger \"%s\" of wfproc.emit() is not AFTER INSERT", trigger->tgname),
				 errhint("A row that is inserted is an event: CREATE TRIGGER ... AFTER INSERT ON ...")));
	if (TRIGGER_FIRED_FOR_STATEMENT(trigdata->tg_event) && trigdata->tg_newtable == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("statement trigger \"%s\" of wfproc.emit() has no transition table", trigger->tgname),
				 errhint("Add REFERENCING NEW TABLE AS new_rows, or say FOR EACH ROW.")));
}

/*
 * Which argument "key=value" is; *value points into it.
 */
static int
parse_argument(const WfEmit *emit, char *argument, char **value)
{
	char	   *equals = strchr(argument, '=');

	for (int i = 0; equals != NULL && i < ARGS; i++)
	{
		if (strlen(arg_names[i]) == equals - argument && strncmp(arg_names[i], argument, equals - argument) == 0)
		{
			*value = equals + 1;
			return i;
		}
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unknown argument \"%s\" of wfproc.emit()", argument),
			 errhint("Arguments are 'id=column', 'event=name' or 'event_column=column', 'at=column', 'payload=column,column' and 'start=workflow'.")));
	return ARGS;				/* not reached */
}

/*
 * Takes the trigger's arguments apart.
 */
static void
parse_arguments(WfEmit *emit, const Trigger *trigger)
{
	for (int i = 0; i < trigger->tgnargs; i++)
	{
		char	   *value;
		int			which = parse_argument(emit, pstrdup(trigger->tgargs[i]), &value);

		if (emit->args[which] != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("argument \"%s\" of wfproc.emit() is given twice", arg_names[which])));
		emit->args[which] = value;
	}
	if (emit->args[ARG_ID] == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"id\" of wfproc.emit() is missing"),
				 errhint("Say which column is the instance's id: 'id=column'.")));
	if ((emit->args[ARG_EVENT] == NULL) == (emit->args[ARG_EVENT_COLUMN] == NULL))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("wfproc.emit() needs one of the arguments \"event\" and \"event_column\""),
				 errhint("Name the event, 'event=name', or the column that names it, 'event_column=column'.")));
}

/*
 * The columns that an argument lists, by the rules of SQL identifiers: folded to lower case unless quoted.
 */
static List *
parse_columns(const WfEmit *emit, int which)
{
	List	   *columns;

	if (!SplitIdentifierString(pstrdup(emit->args[which]), ',', &columns) || columns == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" of wfproc.emit() is not a list of column names: \"%s\"", arg_names[which],
						emit->args[which])));
	return columns;
}

static Var *
make_column(const WfEmit *emit, const char *column)
{
	TupleDesc	desc = RelationGetDescr(emit->rel);

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (!att->attisdropped && strcmp(NameStr(att->attname), column) == 0)
			return makeVar(1, att->attnum, att->atttypid, att->atttypmod, att->attcollation, 0);
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("column \"%s\" of table \"%s\" does not exist", column, emit->table),
			 errhint("The arguments of trigger \"%s\" name the columns to use.", emit->trigger)));
	return NULL;				/* not reached */
}

static bool
is_time(Oid type)
{
	type = getBaseType(type);
	return type == TIMESTAMPTZOID || type == TIMESTAMPOID || type == DATEOID;
}

/*
 * The one column that an argument names, as an expression of the given type.
 */
static Expr *
make_cast(const WfEmit *emit, int which, Oid type)
{
	List	   *columns = parse_columns(emit, which);
	Var		   *column;
	Node	   *cast = NULL;

	if (list_length(columns) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" of wfproc.emit() names %d columns, not one: \"%s\"", arg_names[which],
						list_length(columns), emit->args[which])));
	column = make_column(emit, linitial(columns));
	if (type != TIMESTAMPTZOID || is_time(column->vartype))
		cast = coerce_to_target_type(NULL, (Node *) column, column->vartype, type, -1, COERCION_EXPLICIT,
									 COERCE_EXPLICIT_CAST, -1);
	if (cast == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of table \"%s\" is of type %s and cannot be argument \"%s\" of wfproc.emit()",
						(char *) linitial(columns), emit->table, format_type_be(column->vartype), arg_names[which]),
				 type == TIMESTAMPTZOID ?
				 errhint("A stamp is of type timestamp with time zone, timestamp or date.") :
				 errhint("It must have a cast to text.")));
	return (Expr *) cast;
}

static Node *
make_text(const char *value)
{
	return (Node *) makeConst(TEXTOID, -1, DEFAULT_COLLATION_OID, -1, CStringGetTextDatum(value), false, false);
}

/*
 * The payload: an object of the columns named, or the whole row.
 */
static Expr *
make_payload(const WfEmit *emit)
{
	List	   *arguments = NIL;
	ListCell   *lc;

	if (emit->args[ARG_PAYLOAD] == NULL)
		return (Expr *) makeFuncExpr(F_TO_JSONB, JSONBOID,
									 list_make1(makeVar(1, InvalidAttrNumber, RelationGetForm(emit->rel)->reltype, -1,
														InvalidOid, 0)),
									 InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
	foreach(lc, parse_columns(emit, ARG_PAYLOAD))
	{
		arguments = lappend(arguments, make_text(lfirst(lc)));
		arguments = lappend(arguments, make_column(emit, lfirst(lc)));
	}
	return (Expr *) makeFuncExpr(F_JSONB_BUILD_OBJECT_ANY, JSONBOID, arguments, InvalidOid, InvalidOid,
								 COERCE_EXPLICIT_CALL);
}

static ExprState *
prepare(const WfEmit *emit, Expr *expr)
{
	assign_expr_collations(NULL, (Node *) expr);
	return ExecPrepareExpr(expr, emit->estate);
}

/*
 * Makes a trigger ready, in the given memory context.
 */
static WfEmit *
prepare_emit(const TriggerData *trigdata, MemoryContext memory)
{
	MemoryContext old = MemoryContextSwitchTo(memory);
	WfEmit	   *emit = palloc0(sizeof(WfEmit));

	emit->rel = trigdata->tg_relation;
	emit->trigger = pstrdup(trigdata->tg_trigger->tgname);
	emit->table = pstrdup(RelationGetRelationName(emit->rel));
	emit->owner = RelationGetForm(emit->rel)->relowner;
	emit->estate = CreateExecutorState();
	parse_arguments(emit, trigdata->tg_trigger);
	emit->id = prepare(emit, make_cast(emit, ARG_ID, TEXTOID));
	if (emit->args[ARG_EVENT_COLUMN] != NULL)
		emit->event = prepare(emit, make_cast(emit, ARG_EVENT_COLUMN, TEXTOID));
	if (emit->args[ARG_AT] != NULL)
		emit->at = prepare(emit, make_cast(emit, ARG_AT, TIMESTAMPTZOID));
	emit->payload = prepare(emit, make_payload(emit));
	emit->rel = NULL;
	MemoryContextSwitchTo(old);
	return emit;
}

/*
 * Evaluates a part of the event over a row.  A part cannot be NULL.  The result lives until the next row.
 */
static Datum
evaluate(const WfEmit *emit, ExprState *expr, TupleTableSlot *slot, int which)
{
	ExprContext *econtext = GetPerTupleExprContext(emit->estate);
	bool		isnull;
	Datum		value;

	econtext->ecxt_scantuple = slot;
	value = ExecEvalExprSwitchContext(expr, econtext, &isnull);
	if (isnull)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("column \"%s\" of table \"%s\" must not be null", emit->args[which], emit->table),
				 errhint("It is the %s of an event.", part_names[which])));
	return value;
}

static char *
evaluate_text(const WfEmit *emit, ExprState *expr, TupleTableSlot *slot, int which)
{
	Datum		value = evaluate(emit, expr, slot, which);
	MemoryContext old = MemoryContextSwitchTo(GetPerTupleMemoryContext(emit->estate));
	char	   *result = TextDatumGetCString(value);

	MemoryContextSwitchTo(old);
	return result;
}

static char *
get_id(const WfEmit *emit, TupleTableSlot *slot)
{
	char	   *id = evaluate_text(emit, emit->id, slot, ARG_ID);

	wf_check_name_text(id, "id");
	return id;
}

static TimestampTz
get_at(const WfEmit *emit, TupleTableSlot *slot, TimestampTz now)
{
	TimestampTz at;

	if (emit->at == NULL)
		return now;
	at = DatumGetTimestampTz(evaluate(emit, emit->at, slot, ARG_AT));
	wf_clock_check_finite(at, "at");
	return at;
}

/*
 * The event that a row is.  It lives until the next row.
 */
static void
get_event(const WfEmit *emit, TupleTableSlot *slot, TimestampTz now, WfEvent *event)
{
	memset(event, 0, sizeof(WfEvent));
	event->at = get_at(emit, slot, now);
	event->name = emit->event == NULL ? emit->args[ARG_EVENT] :
		evaluate_text(emit, emit->event, slot, ARG_EVENT_COLUMN);
	event->payload = DatumGetJsonbP(evaluate(emit, emit->payload, slot, ARG_PAYLOAD));
	wf_check_size(event->payload, wf_max_payload, "payload", "wfproc.max_payload");
}

/*
 * A workflow to which the table's owner may send.
 */
static WfWorkflow *
permit(WfEmit *emit, WfWorkflow *workflow)
{
	if (emit->permitted_id != workflow->workflow_id)
		wf_acl_require(workflow, emit->owner, WF_PRIV_SEND);
	emit->permitted_id = workflow->workflow_id;
	return workflow;
}

static WfWorkflow *
get_start_workflow(WfEmit *emit)
{
	return permit(emit, wf_workflow_by_name(emit->args[ARG_START], false));
}

/*
 * Whether that event may be sent to that instance; else the errors that send() has.
 */
static void
require_deliverable(WfEmit *emit, const WfInstance *instance, const WfEvent *event)
{
	wf_instance_require_accepts(permit(emit, wf_workflow_get(instance->workflow_id)), event->name);
	wf_instance_require_open(instance);
}

static void
no_such_instance(const char *id)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("instance \"%s\" does not exist", id),
			 errhint("The trigger's argument 'start=workflow' starts instances that there are not.")));
}

static void
start_one(WfEmit *emit, const char *id, TimestampTz at, TimestampTz now)
{
	WfWorkflow *workflow = get_start_workflow(emit);
	WfStart		start = {0};

	start.id = id;
	start.at = at;
	start.version = workflow->current_version;
	start.input = start.attributes = wf_check_empty_object();
	start.live_from = wf_instance_default_live_from(at, now);
	start.ignore_existing = true;
	(void) wf_instance_start(workflow, &start);
}

/*
 * A row trigger: one row, one event.
 */
static void
emit_row(WfEmit *emit, TupleTableSlot *slot, WfEmitContext *context)
{
	char	   *id = get_id(emit, slot);
	WfInstance	instance;
	TimestampTz now = wf_clock_now();
	WfEvent		event;

	context->id = id;
	get_event(emit, slot, now, &event);
	if (!wf_instance_find(id, &instance))
	{
		if (emit->args[ARG_START] == NULL)
			no_such_instance(id);
		start_one(emit, id, event.at, now);
		if (!wf_instance_find(id, &instance))
			no_such_instance(id);
	}
	require_deliverable(emit, &instance, &event);
	(void) wf_mailbox_put(instance.instance_id, &event);
	ResetPerTupleExprContext(emit->estate);
}

/*
 * Begins a pass over the rows of the transition table, with a read pointer of our own.
 */
static void
open_rows(WfRows *rows, const TriggerData *trigdata)
{
	rows->store = trigdata->tg_newtable;
	rows->pointer = tuplestore_alloc_read_pointer(rows->store, EXEC_FLAG_REWIND);
	rows->slot = MakeSingleTupleTableSlot(RelationGetDescr(trigdata->tg_relation), &TTSOpsMinimalTuple);
}

static void
rewind_rows(WfRows *rows)
{
	tuplestore_select_read_pointer(rows->store, rows->pointer);
	tuplestore_rescan(rows->store);
}

static TupleTableSlot *
next_row(WfRows *rows)
{
	CHECK_FOR_INTERRUPTS();
	tuplestore_select_read_pointer(rows->store, rows->pointer);
	return tuplestore_gettupleslot(rows->store, true, false, rows->slot) ? rows->slot : NULL;
}

/*
 * The addressee of that id, looked up the first time.
 */
static WfTarget *
find_target(HTAB *targets, const char *id, bool *is_new)
{
	bool		found;
	WfTarget   *target = hash_search(targets, id, HASH_ENTER, &found);

	*is_new = !found;
	if (!found)
		target->exists = wf_instance_find(id, &target->instance);
	return target;
}

/*
 * Starts those in the list, and looks up those that another transaction has started in between.
 */
static void
start_targets(WfEmit *emit, List *missing, TimestampTz now)
{
	int			count = list_length(missing);
	const char **ids = palloc(count * sizeof(char *));
	TimestampTz *ats = palloc(count * sizeof(TimestampTz));
	int64	   *instance_ids = palloc(count * sizeof(int64));
	WfWorkflow *workflow = get_start_workflow(emit);

	for (int i = 0; i < count; i++)
	{
		WfTarget   *target = list_nth(missing, i);

		ids[i] = target->id;
		ats[i] = target->first_at;
	}
	wf_instance_start_many(workflow, ids, ats, count, now, instance_ids);
	for (int i = 0; i < count; i++)
	{
		WfTarget   *target = list_nth(missing, i);

		target->exists = true;
		target->instance.instance_id = instance_ids[i];
		target->instance.id = target->id;
		target->instance.workflow_id = workflow->workflow_id;
		target->instance.status = WF_RUNNING;
		if (instance_ids[i] == 0)
			target->exists = wf_instance_find(target->id, &target->instance);
	}
}

/*
 * A pass over the rows for their ids: those that there are not are started, each at its earliest stamp.
 */
static void
start_missing(WfEmit *emit, WfRows *rows, HTAB *targets, TimestampTz now, WfEmitContext *context)
{
	List	   *missing = NIL;
	TupleTableSlot *slot;

	rewind_rows(rows);
	while ((slot = next_row(rows)) != NULL)
	{
		char	   *id = get_id(emit, slot);
		TimestampTz at;
		WfTarget   *target;
		bool		is_new;

		context->id = id;
		at = get_at(emit, slot, now);
		target = find_target(targets, id, &is_new);
		target->first_at = is_new ? at : Min(target->first_at, at);
		if (is_new && !target->exists)
			missing = lappend(missing, target);
		context->id = NULL;
		ResetPerTupleExprContext(emit->estate);
	}
	if (missing != NIL)
		start_targets(emit, missing, now);
}

/*
 * A pass over the rows that puts each into its mailbox.
 */
static void
put_rows(WfEmit *emit, WfRows *rows, HTAB *targets, TimestampTz now, WfEmitContext *context)
{
	WfMailWriter *writer = wf_mailbox_writer_open(INT_MAX);
	TupleTableSlot *slot;

	rewind_rows(rows);
	while ((slot = next_row(rows)) != NULL)
	{
		char	   *id = get_id(emit, slot);
		WfTarget   *target;
		WfEvent		event;
		bool		is_new;

		context->id = id;
		get_event(emit, slot, now, &event);
		target = find_target(targets, id, &is_new);
		if (!target->exists)
			no_such_instance(id);
		require_deliverable(emit, &target->instance, &event);
		(void) wf_mailbox_writer_put(writer, target->instance.instance_id, &event);
		context->id = NULL;
		ResetPerTupleExprContext(emit->estate);
	}
	wf_mailbox_writer_close(writer);
}

/*
 * A statement trigger: all rows of the transition table.
 */
static void
emit_statement(WfEmit *emit, const TriggerData *trigdata, WfEmitContext *context)
{
	HASHCTL		ctl = {.keysize = WF_MAX_NAME + 1,.entrysize = sizeof(WfTarget),.hcxt = CurrentMemoryContext};
	HTAB	   *targets = hash_create("wfproc emit", 1024, &ctl, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	TimestampTz now = wf_clock_now();
	WfRows		rows;

	open_rows(&rows, trigdata);
	if (emit->args[ARG_START] != NULL)
		start_missing(emit, &rows, targets, now, context);
	put_rows(emit, &rows, targets, now, context);
	ExecDropSingleTupleTableSlot(rows.slot);
	hash_destroy(targets);
}

/*
 * The trigger, made ready for the statement that fires it: one FmgrInfo belongs to one trigger of one statement.
 */
static WfEmit *
get_emit(FunctionCallInfo fcinfo, const TriggerData *trigdata)
{
	if (fcinfo->flinfo->fn_extra == NULL)
	{
		check_trigger(trigdata);
		fcinfo->flinfo->fn_extra = prepare_emit(trigdata, fcinfo->flinfo->fn_mcxt);
	}
	return fcinfo->flinfo->fn_extra;
}

/*
 * emit(): the trigger function
 */
Datum
wfproc_emit(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	WfEmitContext context = {trigdata, NULL};
	ErrorContextCallback callback = {error_context_stack, add_context, &context};

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called by trigger manager", "emit"),
				 errhint("Use it in CREATE TRIGGER ... EXECUTE FUNCTION wfproc.emit(...).")));
	error_context_stack = &callback;
	wf_check_not_in_handler("emit");
	wf_check_can_write("send events");
	wf_workflow_refresh();
	if (TRIGGER_FIRED_FOR_ROW(trigdata->tg_event))
		emit_row(get_emit(fcinfo, trigdata), trigdata->tg_trigslot, &context);
	else
		emit_statement(get_emit(fcinfo, trigdata), trigdata, &context);
	error_context_stack = callback.previous;
	PG_RETURN_POINTER(NULL);
}
