/*
 * eventlog.h: the event log.
 */
#ifndef WF_EVENTLOG_H
#define WF_EVENTLOG_H

#include "utils/snapshot.h"

#include "event.h"

typedef struct WfLogScan WfLogScan;
typedef struct WfLogWriter WfLogWriter;

extern void wf_eventlog_first_hash(const char *id, uint8 *hash);
extern void wf_eventlog_chain(const uint8 *previous, const WfLogRow *row, uint8 *hash);
extern void wf_eventlog_append(WfLogRow **rows, int count);
extern bool wf_eventlog_erase(int64 instance_id, int64 seq);

/* a log from elsewhere; the rows are there once the writer is closed */
extern WfLogWriter *wf_eventlog_writer_open(void);
extern void wf_eventlog_writer_put(WfLogWriter *writer, const WfLogRow *row);
extern void wf_eventlog_writer_close(WfLogWriter *writer);

/* rows after the given seq, in order; the row's pointers live until the next call */
extern WfLogScan *wf_eventlog_open(int64 instance_id, int64 after, Snapshot snapshot);
extern bool wf_eventlog_next(WfLogScan *scan, WfLogRow *row);
extern void wf_eventlog_close(WfLogScan *scan);
extern int64 wf_eventlog_last(int64 instance_id, Snapshot snapshot, uint8 *hash);

#endif
