# wfproc: durable workflows as processes inside PostgreSQL.
#
#   make, make install, make installcheck     as with any extension, for the server of PG_CONFIG
#   make test, lint, bench, demo ...          do their own set-up on Debian 12 and 13, with a private copy of the server
#
# One test:  make installcheck REGRESS=NAME ISOLATION= TAP_TESTS=
#            make installcheck REGRESS= ISOLATION= PROVE_TESTS=t/NAME.pl
#            make test ONLY='NAME ...'

EXTENSION = wfproc
MODULE_big = wfproc
OBJS = $(sort $(patsubst %.c,%.o,$(wildcard src/*.c)))
# hash.c calls OpenSSL where the server does
SHLIB_LINK += $(filter -lcrypto, $(LIBS))
DATA = $(sort $(wildcard sql/wfproc--*.sql))

# The tests need a server that preloads the library, so they start one with this configuration; TEMP= takes the
# running one, which must have wfproc.enabled = off for the specs. pg_regress reads INPUTDIR/sql/NAME.sql, and ours are sql_tests/NAME.sql: hence the link.
TEMP = sql_tests/wfproc.conf
TEST_DATABASE = --encoding=UTF8 --no-locale --load-extension=pgcrypto --load-extension=wfproc

REGRESS = $(sort $(patsubst sql_tests/%.sql,%,$(wildcard sql_tests/*.sql)))
REGRESS_PREP = .regress/sql
REGRESS_OPTS = --inputdir=.regress $(TEST_DATABASE) \
	$(if $(TEMP),--temp-instance=.regress/server --temp-config=$(TEMP))
ISOLATION = $(sort $(patsubst specs/%.spec,%,$(wildcard specs/*.spec)))
ISOLATION_OPTS = $(TEST_DATABASE) \
	$(if $(TEMP),--temp-instance=.regress/server_iso --temp-config=$(TEMP) --temp-config=specs/wfproc.conf)
TAP_TESTS = 1
EXTRA_CLEAN = .regress

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)

ifneq ($(wildcard $(PGXS)),)
include $(PGXS)

# PGXS does not track headers.
$(OBJS) $(OBJS:.o=.bc): $(wildcard src/*.h)

# PostgreSQL::Test runs initdb in the locale of its environment; the extension wants UTF8.
installcheck: export LANG = C.UTF-8
else
all install installcheck uninstall clean:
	@echo "make $@ needs PostgreSQL's server development files, and '$(PG_CONFIG)' does not lead to them:" >&2
	@echo "install them (Debian 12: postgresql-server-dev-15, Debian 13: postgresql-server-dev-17), or give PG_CONFIG=/path/to/pg_config" >&2
	@false
endif

.regress/sql:
	mkdir -p $(@D)
	ln -sfn ../sql_tests $@

# These set themselves up: see tools/setup.
test lint bench demo demo-live demo-stop:
	@tools/$@

.PHONY: all install installcheck uninstall clean test lint bench demo demo-live demo-stop
