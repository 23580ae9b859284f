-- the examples, as a user runs them from the top of the repository; expected/examples.out holds each one's .out
\i examples/door_lock/door_lock.sql
BEGIN;
\i examples/permits/permits.sql
ROLLBACK;
