/*
 * acl.c: whether a role may do something with a workflow.
 *
 * wf_acl_* are called by the API with rows of the definitions' cache, wfproc.may() by the views for each row.  The owner,
 * who belongs to the owner, and superusers may do everything; others what they, or a role whose rights they have, were
 * granted.  Grants are rows of wfproc.acl, written here and nowhere else, by the owner.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "acl.h"
#include "check.h"
#include "spi.h"

PG_FUNCTION_INFO_V1(wfproc_grant_access);
PG_FUNCTION_INFO_V1(wfproc_revoke_access);
PG_FUNCTION_INFO_V1(wfproc_may);

static const char *const privilege_names[] = {
	[WF_PRIV_SEND] = "send",
	[WF_PRIV_READ] = "read",
	[WF_PRIV_OPERATE] = "operate"
};

/*
 * A privilege by its name.
 */
WfPrivilege
wf_acl_parse(const char *privilege)
{
	for (int i = 0; i < lengthof(privilege_names); i++)
		if (strcmp(privilege, privilege_names[i]) == 0)
			return (WfPrivilege) i;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unknown privilege \"%s\"", privilege),
			 errhint("Privileges are send, read, and operate, which includes both.")));
}

static bool
is_owner(const WfWorkflow *workflow, Oid role)
{
	if (!OidIsValid(workflow->owner))
		return superuser_arg(role);
	return has_privs_of_role(role, workflow->owner);
}

/*
 * Whether the role may do that with the workflow's instances.
 */
bool
wf_acl_may(const WfWorkflow *workflow, Oid role, WfPrivilege privilege)
{
	ListCell   *lc;

	if (is_owner(workflow, role))
		return true;
	foreach(lc, workflow->grants)
	{
		const WfGrant *grant = lfirst(lc);

		if ((grant->privilege == privilege || grant->privilege == WF_PRIV_OPERATE) &&
			has_privs_of_role(role, grant->role))
			return true;
	}
	return false;
}

/*
 * Raises where it may not.
 */
void
wf_acl_require(const WfWorkflow *workflow, Oid role, WfPrivilege privilege)
{
	if (!wf_acl_may(workflow, role, privilege))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for workflow \"%s\"", workflow->name),
				 errhint("Its owner can let this role in: SELECT wfproc.grant_access(%s, %s, '%s').",
						 quote_literal_cstr(workflow->name), quote_literal_cstr(GetUserNameFromId(role, false)),
						 privilege_names[privilege])));
}

/*
 * Raises where the current user is not the workflow's owner.
 */
void
wf_acl_require_owner(const WfWorkflow *workflow)
{
	if (!is_owner(workflow, GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for workflow \"%s\"", workflow->name),
				 errhint("Only its owner, role \"%s\", can do that.", workflow->owner_name)));
}

/*
 * What granting and revoking have in common: checks, then a statement with the arguments (workflow_id, role, privilege).
 * Returns whether it changed anything.
 */
static bool
change_grant(FunctionCallInfo fcinfo, const char *function, SPIPlanPtr *plan, const char *sql, int expected,
			 bool role_must_exist)
{
	char	   *name = wf_check_name(fcinfo, 0, "workflow");
	char	   *role = text_to_cstring(PG_GETARG_TEXT_PP(1));
	char	   *privilege = text_to_cstring(PG_GETARG_TEXT_PP(2));
	const Oid	types[] = {INT4OID, TEXTOID, TEXTOID};
	WfWorkflow *workflow;
	Datum		values[3];
	WfSpi		spi;
	int			changed;

	wf_check_not_in_handler(function);
	wf_check_can_write("change rights");
	(void) wf_acl_parse(privilege);
	wf_workflow_refresh();
	workflow = wf_workflow_by_name(name, false);
	wf_acl_require_owner(workflow);
	(void) get_role_oid(role, !role_must_exist);
	values[0] = Int32GetDatum(workflow->workflow_id);
	values[1] = CStringGetTextDatum(role);
	values[2] = CStringGetTextDatum(privilege);
	wf_spi_begin(&spi);
	changed = wf_spi_execute(plan, sql, lengthof(types), types, values, NULL, false, expected);
	wf_spi_end(&spi);
	if (changed > 0)
		wf_workflow_changed();
	return changed > 0;
}

Datum
wfproc_grant_access(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plan = NULL;

	PG_RETURN_BOOL(change_grant(fcinfo, "grant_access", &plan,
								"INSERT INTO wfproc.acl (workflow_id, role, privilege) VALUES ($1, $2, $3)"
								" ON CONFLICT DO NOTHING",
								SPI_OK_INSERT, true));
}

/*
 * Takes a grant back, also from a role that is gone: one that is created by that name later would have it.
 */
Datum
wfproc_revoke_access(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plan = NULL;

	PG_RETURN_BOOL(change_grant(fcinfo, "revoke_access", &plan,
								"DELETE FROM wfproc.acl WHERE workflow_id = $1 AND role = $2 COLLATE \"C\""
								" AND privilege = $3 COLLATE \"C\"",
								SPI_OK_DELETE, false));
}

/*
 * Whether the current user may; false for a workflow that does not exist.  A hash lookup and a cached membership test.
 */
Datum
wfproc_may(PG_FUNCTION_ARGS)
{
	WfPrivilege privilege = wf_acl_parse(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	WfWorkflow *workflow;

	wf_workflow_refresh();
	workflow = wf_workflow_find(PG_GETARG_INT32(0));
	PG_RETURN_BOOL(workflow != NULL && wf_acl_may(workflow, GetUserId(), privilege));
}
