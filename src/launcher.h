/*
 * launcher.h: the process that decides which workers run.
 */
#ifndef WF_LAUNCHER_H
#define WF_LAUNCHER_H

#include "postgres_ext.h"

extern PGDLLEXPORT void wfproc_launcher_main(Datum main_arg);

#endif
