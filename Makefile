# The two that matter: `make run` tries mcpd out, `make test` runs every test. Everything is installed into .venv and .cache.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PORT ?= 8080
ARGS ?=

# Tests, checks and benchmarks start hundreds of daemons. Without the bytecode of the first, each would compile mcpd anew, which is
# two thirds of its start, and which an installed one never does.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test lint format conformance interop compatibility bench soak fuzz test-restart test-reload deb install uninstall mandoc test-systemd test-cgroups test-upgrade clean

run: $(READY)
	@$(BIN)/mcpd --demo --port $(PORT) --state-dir .cache/state --log-level warning

test: $(READY) mandoc
	@$(BIN)/python .ci/suites.py $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

conformance: $(READY)
	$(BIN)/python -m tests.conformance.run $(ARGS)

interop: $(READY)
	$(BIN)/python -m tests.interop.run $(ARGS)
	$(BIN)/python -m tests.interop.files

compatibility: $(READY)
	$(BIN)/python -m tests.compatibility.run $(ARGS)

bench: $(READY)
	$(BIN)/python -m bench $(ARGS)

soak: $(READY)
	$(BIN)/python -m tests.soak $(ARGS)

test-restart: $(READY)
	$(BIN)/python -m tests.e2e.restarting 20

test-reload: $(READY)
	$(BIN)/python -m tests.e2e.reloading 50

fuzz: $(READY)
	$(BIN)/python -m tests.fuzz --seconds 60

deb: $(READY)
	@$(BIN)/python -m package $(ARGS)

# Another system than Debian: into PREFIX, staged below DESTDIR where that is set. SYSTEMD= installs no units.
PREFIX ?= /usr/local
DESTDIR ?=
SYSTEMD ?= $(PREFIX)/lib/systemd

install uninstall:
	@$(PYTHON) -m package.install $@ --prefix "$(PREFIX)" --systemd "$(SYSTEMD)" --destdir "$(DESTDIR)"

test-upgrade: $(READY)
	@$(BIN)/python -m tests.e2e.upgrading $(ARGS)

test-systemd: $(READY)
	@$(BIN)/python -m tests.systemd $(ARGS)

test-cgroups: $(READY)
	@$(BIN)/python -m tests.cgroups $(ARGS)

clean:
	rm -rf .venv .venv-* .cache build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What checks the manual pages, and shells that are completed; what is missing is installed, by root.
PROGRAMS := mandoc zsh fish
mandoc:
	@for each in $(PROGRAMS); do command -v $$each >/dev/null || missing=1; done; test -z "$$missing" || \
	  { apt-get install -y --no-install-recommends $(PROGRAMS) || \
	  { apt-get update && apt-get install -y --no-install-recommends $(PROGRAMS); }; } >/dev/null 2>&1 || \
	  echo "not all of $(PROGRAMS) are here or can be installed: what needs them is not tested" >&2

# Debian splits venv from Python; where it is missing it is installed, by root.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "mcpd needs Python 3.11 or newer; set PYTHON=" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || { rm -rf $(VENV); \
	  { apt-get update && apt-get install -y --no-install-recommends python3-venv; } >/dev/null 2>&1 && $(PYTHON) -m venv $(VENV); } || \
	  { echo "cannot make a virtual environment: install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
