/*
 * errors.h: the SQLSTATEs of our own, where no standard code says what a client must tell apart, and what an error says.
 */
#ifndef WF_ERRORS_H
#define WF_ERRORS_H

/* a replay led to another state or other actions than the log says */
#define ERRCODE_WF_DIVERGED MAKE_SQLSTATE('W', 'F', '0', '0', '1')
/* the code of a version is missing or is not what was published */
#define ERRCODE_WF_CODE_CHANGED MAKE_SQLSTATE('W', 'F', '0', '0', '2')

/* the line of a context that is the step's own begins with this; what follows it is the caller's */
#define WF_STEP_CONTEXT "wfproc "

/* bytes of a message that are kept */
#define WF_MAX_MESSAGE 1000

/* what it says about who raised it */
extern bool wf_error_is_cancel(const ErrorData *error); /* this session was
														 * cancelled from
														 * outside */
extern bool wf_error_is_passing(const ErrorData *error);	/* nothing: it is of the
															 * moment */
extern bool wf_error_is_repeated(const ErrorData *error);	/* a step that fails
															 * with it is repeated
															 * before it counts */
extern bool wf_error_is_hopeless(const ErrorData *error);	/* no other try can do
															 * better */
extern bool wf_error_is_taken(const ErrorData *error);	/* somebody else has, or
														 * is about to have, the
														 * same key */
extern bool wf_error_is_harmless(int sqlerrcode);	/* what a worker knows is
													 * as true as before */

/* how it is told, in the current memory context: never too long to be kept */
extern char *wf_error_summary(const ErrorData *error);	/* SQLSTATE: message */
extern char *wf_error_context(const ErrorData *error, const char *event, int64 seq);	/* where and why */
extern char *wf_error_clip(const char *text, int limit);

#endif
