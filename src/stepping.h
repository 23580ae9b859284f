/*
 * stepping.h: who acts next in a turn, and for how long.
 */
#ifndef WF_STEPPING_H
#define WF_STEPPING_H

#include "turn.h"

extern int	wf_stepping_run(WfTurn *turn);

#endif
