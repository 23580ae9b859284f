/*
 * spi.c: runs SQL on the extension's own tables as the extension's owner, with nothing of the caller's search_path in reach.
 *
 * Called by the modules that own a table, between wf_spi_begin() and wf_spi_end().  An error in between needs no clean-up:
 * the end of the (sub)transaction puts user, security context and settings back.  Plans are prepared once per process.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/guc.h"

#include "catalog.h"
#include "spi.h"

/*
 * Becomes the extension's owner, with search_path pg_catalog, and connects to SPI.
 */
void
wf_spi_begin(WfSpi *spi)
{
	GetUserIdAndSecContext(&spi->userid, &spi->sec_context);
	SetUserIdAndSecContext(wf_catalog_owner(),
						   spi->sec_context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_NOFORCE_RLS);
	spi->guc_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("row_security", "on", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
}

/*
 * Undoes wf_spi_begin().  What SPI returned is gone afterwards.
 */
void
wf_spi_end(WfSpi *spi)
{
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "SPI_finish failed");
	AtEOXact_GUC(false, spi->guc_level);
	SetUserIdAndSecContext(spi->userid, spi->sec_context);
}

/*
 * Executes sql, preparing it into *plan the first time, and returns the number of rows.  expected is the SPI_OK_ code that
 * it must end with.  nulls as for SPI_execute_plan.
 */
int
wf_spi_execute(SPIPlanPtr *plan, const char *sql, int nargs, const Oid *types, Datum *values, const char *nulls,
			   bool read_only, int expected)
{
	int			ret;

	if (*plan == NULL)
	{
		SPIPlanPtr	fresh = SPI_prepare(sql, nargs, (Oid *) types);

		if (fresh == NULL)
			elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
		SPI_keepplan(fresh);
		*plan = fresh;
	}
	ret = SPI_execute_plan(*plan, values, nulls, read_only, 0);
	if (ret != expected)
		elog(ERROR, "statement gave %s: %s", SPI_result_code_string(ret), sql);
	return (int) SPI_processed;
}
