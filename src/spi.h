/*
 * spi.h: SQL on our own tables, as the extension's owner.
 */
#ifndef WF_SPI_H
#define WF_SPI_H

#include "executor/spi.h"

/* what to put back at the end */
typedef struct WfSpi
{
	Oid			userid;
	int			sec_context;
	int			guc_level;
} WfSpi;

extern void wf_spi_begin(WfSpi *spi);
extern void wf_spi_end(WfSpi *spi);
extern int	wf_spi_execute(SPIPlanPtr *plan, const char *sql, int nargs, const Oid *types, Datum *values, const char *nulls,
						   bool read_only, int expected);

#endif
