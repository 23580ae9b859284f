/*
 * trial.c: try_step(), the unit test of a handler: one step, of which nothing stays.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "action.h"
#include "check.h"
#include "clock.h"
#include "code.h"
#include "handler.h"
#include "process.h"

/* what define() gives a handler by default */
#define TRIAL_TIMEOUT_MS 10000

PG_FUNCTION_INFO_V1(wfproc_try_step);

/* a workflow of the caller's with nothing but this handler, an instance, and one step */
typedef struct Trial
{
	WfWorkflow	workflow;
	WfVersion	version;
	WfInstance	instance;
	WfFold		before;
	WfFold		after;
	WfEvent		event;
	List	   *actions;
	ErrorData  *error;
} Trial;

static void
make_trial(FunctionCallInfo fcinfo, Trial *trial)
{
	WfCode	   *code = wf_code_resolve(wf_check_name(fcinfo, 0, "handler"), WF_CODE_HANDLER);

	memset(trial, 0, sizeof(Trial));
	trial->workflow.name = "try_step";
	trial->workflow.owner = GetUserId();
	trial->workflow.handler_timeout_ms = TRIAL_TIMEOUT_MS;
	trial->version.what = psprintf("handler %s", code->qualified);
	trial->version.search_path = wf_code_search_path();
	fmgr_info(code->function, &trial->version.function);
	trial->instance.id = "try_step";
	trial->instance.live_from = DT_NOBEGIN;
	wf_process_init_fold(&trial->before, 1);
	wf_check_not_null(fcinfo, 1, "state");
	trial->before.state = PG_GETARG_JSONB_P(1);
	trial->event.name = wf_check_name(fcinfo, 2, "event");
	trial->event.payload = wf_check_payload(fcinfo, 3, "payload");
	trial->event.at = wf_clock_now();
}

static void
try_step(void *arg)
{
	Trial	   *trial = arg;
	int64		digest;

	(void) wf_process_step(&trial->workflow, &trial->version, &trial->instance, &trial->before, &trial->event, false,
						   &trial->after, &trial->actions, &digest, &trial->error);
}

/*
 * try_step(handler, state, event, payload) -> (new_state, actions)
 */
Datum
wfproc_try_step(PG_FUNCTION_ARGS)
{
	Trial		trial;
	TupleDesc	desc;
	Datum		values[2];
	bool		nulls[2] = {false, false};

	wf_check_not_in_handler("try_step");
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	make_trial(fcinfo, &trial);
	wf_handler_stretch(try_step, &trial);
	if (trial.error != NULL)
		ThrowErrorData(trial.error);
	values[0] = JsonbPGetDatum(trial.after.state);
	values[1] = JsonbPGetDatum(wf_action_as_jsonb(trial.actions));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
