# The whole developer interface; it presumes python3 (3.11 or newer, with venv) and make.
# Another Python: make run PYTHON=python3.13      Some tests: make test ARGS="-k mail"
PYTHON ?= python3
VENV := .venv
BENCH := .venv-bench
PY := $(VENV)/bin/python
# Tests start processes and wait for them, so there are more testers than cores. TESTERS=0: one by one.
TESTERS ?= $(shell $(PYTHON) -c 'import os; print(min(max(os.cpu_count() or 1, 4), 6))')
PIP := $(PY) -m pip install --quiet --disable-pip-version-check
COMPILE := $(PY) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command "make lock" $(UPGRADE) pyproject.toml
NO_PYTHON := Postlude needs Python 3.11 or newer and '$(PYTHON)' is not one. Install it, or name one: make run PYTHON=python3.13
NO_VENV := '$(PYTHON)' has no venv module. Debian and Ubuntu keep it apart: sudo apt install python3-venv. Then run make again.

.DEFAULT_GOAL := help
.PHONY: help run demo test check bench lock clean

help: ## List what make can do
	@sed -n 's/^\([a-z]*\):.*## /make \1 \t/p' $(MAKEFILE_LIST) | expand -t 14

run: $(VENV)/run.stamp ## API, worker and scheduler in this terminal; Ctrl-C drains and stops
	@exec $(PY) -m postlude.cli run $(ARGS)

demo: $(VENV)/run.stamp ## The same; posts a notification, waits for it, prints the mail, stops
	@exec $(PY) -m postlude.cli demo $(ARGS)

test: $(VENV)/test.stamp ## All tests (LONG=1: the long ones too; REQUIRE_SERVICES=1: none skipped)
	@$(PY) -m pytest --numprocesses=$(TESTERS) --dist=loadscope --no-loadscope-reorder $(ARGS)

check: $(VENV)/test.stamp ## Format, lint, types, architecture, tests: what CI runs
	@$(PY) -m ruff format --check . && $(PY) -m ruff check .
	@$(PY) -m mypy
	@$(VENV)/bin/lint-imports
	@$(MAKE) --no-print-directory test

bench: $(BENCH)/bench.stamp ## Speed beside its peers (QUICK=1: in a minute; ARGS="accept run": parts)
	@$(BENCH)/bin/python -m benchmarks $(ARGS)

lock: $(VENV)/test.stamp ## Pin pyproject.toml's dependencies anew (UPGRADE=--upgrade: newest ones)
	$(PIP) uv
	$(COMPILE) --extra redis --extra s3 --output-file requirements.lock
	$(COMPILE) --constraint requirements.lock --group test --output-file requirements-test.lock
	@# arq, one of the peers, wants an older redis than the cache does.
	sed '/^redis==/,/^    #/d' requirements.lock | $(COMPILE) --constraint /dev/stdin --no-annotate --group bench --output-file requirements-bench.lock

clean: ## Remove the environment and every cache; leaves var/, where your data is
	rm -rf $(VENV) $(BENCH) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/made.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(NO_PYTHON)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(NO_VENV)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/run.stamp: requirements.lock $(VENV)/made.stamp
	$(PIP) --require-hashes -r requirements.lock
	@touch $@

$(VENV)/test.stamp: requirements-test.lock $(VENV)/made.stamp
	$(PIP) --require-hashes -r requirements-test.lock
	@touch $@

$(BENCH)/bench.stamp: requirements-bench.lock $(VENV)/made.stamp
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bench.lock
	@touch $@
