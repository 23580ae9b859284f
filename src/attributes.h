/*
 * attributes.h: what an instance is found by.
 */
#ifndef WF_ATTRIBUTES_H
#define WF_ATTRIBUTES_H

#include "utils/jsonb.h"

extern Jsonb *wf_attributes_merge(Jsonb *old, Jsonb *changes);

#endif
