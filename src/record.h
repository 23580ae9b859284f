/*
 * record.h: writes down what the steps of a turn have led to.
 */
#ifndef WF_RECORD_H
#define WF_RECORD_H

#include "turn.h"

extern void wf_record_all(WfTurn *turn);

#endif
