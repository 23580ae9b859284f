-- the examples, as a user runs them from the top of the repository; expected/examples.out holds each one's .out
\i examples/door_lock/door_lock.sql
BEGIN;
\i examples/permits/permits.sql
ROLLBACK;
\i examples/approval/approval.sql
\i examples/subscription/subscription.sql
\i examples/auction/auction.sql
\i examples/lock_fleet/lock_fleet.sql
\i examples/iot_twin/iot_twin.sql
\i examples/contract/contract.sql
\i examples/auditor/auditor.sql
\i examples/what_if/what_if.sql
