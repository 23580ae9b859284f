/*
 * errors.h: the SQLSTATEs of our own, where no standard code says what a client must tell apart.
 */
#ifndef WF_ERRORS_H
#define WF_ERRORS_H

/* a replay led to another state or other actions than the log says */
#define ERRCODE_WF_DIVERGED MAKE_SQLSTATE('W', 'F', '0', '0', '1')
/* the code of a version is missing or is not what was published */
#define ERRCODE_WF_CODE_CHANGED MAKE_SQLSTATE('W', 'F', '0', '0', '2')

#endif
