/*
 * settings.h: the settings of a workflow, as define() takes them.
 */
#ifndef WF_SETTINGS_H
#define WF_SETTINGS_H

#include "fmgr.h"

/* in the order of define()'s arguments */
enum
{
	WF_SETTING_ACCEPTS,
	WF_SETTING_MAX_ATTEMPTS,
	WF_SETTING_ON_FAILURE,
	WF_SETTING_RETRY_DELAY,
	WF_SETTING_HANDLER_TIMEOUT,
	WF_SETTING_SNAPSHOT_EVERY,
	WF_SETTING_WATCH,
	WF_SETTING_DEAD_LETTER_EVENTS,
	WF_SETTING_CANCEL_DEADLINE,
	WF_SETTINGS					/* how many there are */
};

extern const Oid wf_setting_types[WF_SETTINGS];

extern void wf_settings_check(FunctionCallInfo fcinfo, int first);

#endif
