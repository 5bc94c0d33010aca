# Everything that is done with this repository. `make` alone lists it.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && { echo $$p; break; }; done)
PREFIX ?=
FLOOR = $(shell for p in python3.10 $${PYENV_ROOT:-$$HOME/.pyenv}/versions/3.10*/bin/python3.10; do \
	$$p -c '' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest
JOBS ?= 2
BESIDE := -n $(JOBS) --dist worksteal
TIERS := tests/unit tests/property tests/integration tests/api tests/real

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help install ollama run install-systemd uninstall-systemd test coverage system-tools test-system test-floor \
	test-long healing-table soak lint bench bench-bars performance-doc clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## the command arasul-supervisor, with all that tests need, in .venv

$(STAMP): setup.cfg pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: Python 3.10 or newer is needed (python3 is older or absent)." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "make: $(PYTHON) cannot make virtual environments (Debian: apt-get install python3-venv)." >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --use-pep517 --editable '.[dev]'
	@touch $@

ollama: ## Ollama: the one on the PATH, else one built into a cache folder
	@$(or $(wildcard $(BIN)/python),$(PYTHON)) scripts/install_engine.py

run: install ollama ## the daemon in the foreground; Ctrl-C ends it and the engine
	@exec $(BIN)/arasul-supervisor run

install-systemd: ## the daemon as a systemd service of this box (as root)
	@test -n "$(PYTHON)" || { echo "make: Python 3.10 or newer is needed (python3 is older or absent)." >&2; exit 1; }
	@$(PYTHON) scripts/install_systemd.py $(if $(PREFIX),--prefix "$(PREFIX)") $(ARGS)

uninstall-systemd: ## take that service away; ARGS=--purge takes its settings and state too
	@test -n "$(PYTHON)" || { echo "make: Python 3.10 or newer is needed (python3 is older or absent)." >&2; exit 1; }
	@$(PYTHON) scripts/install_systemd.py --uninstall $(if $(PREFIX),--prefix "$(PREFIX)") $(ARGS)

test: install ollama ## unit, property, integration, real and api tests, so many at once: JOBS=2
	@$(PYTEST) $(TIERS) $(BESIDE) -m "not long" $(ARGS)

coverage: install ollama ## the same, and which lines they ran, in the daemons that they start too
	@$(PYTEST) $(TIERS) $(BESIDE) -m "not long" --cov=arasul_supervisor --cov-branch --cov-report=term $(ARGS)

# program:package. A Docker engine that is there stays as it is, and nothing is removed for the sake of a test.
TOOLS := dockerd:docker.io docker-compose:docker-compose systemd-nspawn:systemd-container mmdebstrap:mmdebstrap zstd:zstd \
	unshare:util-linux iptables:iptables tini:tini

system-tools: ## what the system tests need beyond Python: Docker, compose, nspawn, by apt as root
	@missing=; for tool in $(TOOLS); do \
		command -v "$${tool%:*}" >/dev/null || missing="$$missing $${tool#*:}"; done; \
	test -z "$$missing" || { test "$$(id -u)" = 0 && apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
		apt-get install -y -qq --no-remove --no-install-recommends $$missing </dev/null >/dev/null; } || \
		echo "make: these packages are missing and cannot be installed here:$$missing. Some homes are NOT TESTED." >&2

test-system: install ollama system-tools ## the daemon in its homes: PID 1, Docker and compose, systemd, supervisord
	@$(PYTEST) tests/system -m "not long" $(ARGS)

test-floor: ## unit and property tests on Python 3.10, the oldest that is supported
	@test -n "$(FLOOR)" || { echo "make: NOT TESTED on Python 3.10: there is none on the PATH or in pyenv."; exit 0; }; \
		test -x .cache/floor/bin/python || $(FLOOR) -m venv .cache/floor; \
		.cache/floor/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' && \
		.cache/floor/bin/python -m pytest tests/unit tests/property $(BESIDE) -m "not long" -q $(ARGS)

test-long: install ollama ## soaks and Ollama's own long time-outs
	@$(PYTEST) tests -m long $(ARGS) || { test $$? -eq 5 && echo "make: no test is marked long yet."; }

healing-table: install ollama ## every fault brought about and cured; writes the table of docs/healing.md
	@$(BIN)/python -m tests.engine.healing_table $(ARGS)

soak: install ollama ## random faults under load, judged at the end: ARGS="--minutes 20 --seed 1"
	@$(BIN)/python -m tests.engine.healing_soak $(ARGS)

lint: install ## formatting, lint and types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

bench: install ollama ## all benches, side by side with others: tables, and JSON in bench/results/
	@$(BIN)/python -m bench $(ARGS)

bench-%: install ollama
	@$(BIN)/python -m bench $* $(ARGS)

bench-bars: install ollama ## a quick part of them, in ratios, against the recorded bars
	@$(BIN)/python -m bench.bars $(ARGS)

performance-doc: install ## writes the newest figures of each bench into docs/performance.md
	@$(BIN)/python -m bench.document

clean: ## all that was made here; the engine's cache for all clones stays
	rm -rf $(VENV) .cache build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
