/*
 * accept.c: whether a log that the present code leads away from can be accepted as it is: for resume(accept_state => true).
 *
 * Called by control.c in the caller's transaction; reads, and writes nothing.  What is accepted is that the code does
 * otherwise now; a log that was changed, a snapshot or code that is not what it was, is not.  The state that is accepted is
 * what the present code makes of the log, from the last good snapshot on.  The instance's holder computes it once more
 * (turn.c) and logs it (draft_control.c).
 */
#include "postgres.h"

#include "utils/snapmgr.h"

#include "accept.h"
#include "replay.h"
#include "verify.h"

/*
 * Whether a finding says that the code does otherwise, and nothing else.
 */
static bool
is_of_the_code(const char *reason)
{
	static const char *const words[] = {"digest differs", "handler failed", "handler postpones"};

	for (int i = 0; i < lengthof(words); i++)
		if (strncmp(reason, words[i], strlen(words[i])) == 0)
			return true;
	return false;
}

/*
 * A finding in words that may go into the server's log: what a handler raises may quote a payload.
 */
char *
wf_accept_loggable(const char *reason)
{
	const char *failed = "handler failed";

	return pstrdup(strncmp(reason, failed, strlen(failed)) == 0 ? failed : reason);
}

static void
refuse(const WfInstance *instance, int64 seq, const char *reason)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the state of instance \"%s\" cannot be accepted: event %lld: %s", instance->id, (long long) seq,
					wf_accept_loggable(reason)),
			 errhint("What the present code makes of a log can be accepted, where it gets through; not that something was changed.")));
}

/*
 * Looks for what is to be accepted: *bad is the first difference.  False where there is none.  55000 where there is something
 * else, or the code does not get through the log.
 */
bool
wf_accept_find(WfWorkflow *workflow, const WfInstance *instance, WfDivergence *bad)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	WfVerification *verification = wf_verify_begin(instance);
	const WfDivergence *rows = wf_verify_rows(verification);
	WfDivergence divergence;
	WfFold		fold;
	int64		snapshot_seq;

	(void) wf_verify_go_on(verification, workflow, snapshot, NULL, NULL);
	*bad = *wf_verify_finding(verification);
	if (bad->reason != NULL)
	{
		if (rows->reason != NULL)
			refuse(instance, rows->seq, rows->reason);
		if (!is_of_the_code(bad->reason))
			refuse(instance, bad->seq, bad->reason);
		wf_replay_load(workflow, instance, snapshot, &fold, &snapshot_seq, &divergence);
		if (divergence.stuck_seq != 0)
			refuse(instance, divergence.stuck_seq, divergence.stuck_reason);
	}
	UnregisterSnapshot(snapshot);
	return bad->reason != NULL;
}
