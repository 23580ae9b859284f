/*
 * verify.h: whether an instance's log, its snapshot, its row and its code are what they were.
 */
#ifndef WF_VERIFY_H
#define WF_VERIFY_H

#include "replay.h"

extern void wf_verify_instance(WfWorkflow *workflow, const WfInstance *instance, Snapshot snapshot, WfDivergence *bad);

/* the same piece by piece */
typedef struct WfVerification WfVerification;

/* asked before each row: true stops for now */
typedef bool (*WfVerifyPause) (void *arg);

extern WfVerification *wf_verify_begin(const WfInstance *instance);
extern bool wf_verify_go_on(WfVerification *verification, WfWorkflow *workflow, Snapshot snapshot, WfVerifyPause pause, void *arg);
extern const WfDivergence *wf_verify_finding(const WfVerification *verification);
extern const WfDivergence *wf_verify_rows(const WfVerification *verification);
extern int64 wf_verify_seq(const WfVerification *verification);
extern bool wf_verify_is_void(const WfVerification *verification);

#endif
