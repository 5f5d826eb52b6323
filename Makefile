# Everything a developer runs. Needs Python 3.11, git and make.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo browser test faults mutants bench bench-planning bench-sandbox lint openapi actions format lock clean

BIN := .venv/bin
STAMP := .venv/.installed
# Deferred, so that only a first set-up looks for an interpreter.
PYTHON ?= $(shell for name in python3.11 python3 python; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null && command -v "$$name" && break; \
	done)

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make .venv and install the locked dependencies (quick the second time)

$(STAMP): requirements.lock
	@if [ ! -x $(BIN)/python ]; then \
		[ -n "$(PYTHON)" ] || { echo "Python 3.11 was not found: install it, or say make PYTHON=/path/to/python3.11" >&2; exit 1; }; \
		"$(PYTHON)" -m venv .venv; \
	fi
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

demo: setup ## The whole platform with a demo playbook (ARGS="--exit" stops after it)
	$(BIN)/python manage.py demo $(ARGS)

browser: ## Chromium for the browser tests, when it can be installed here
	@command -v chromium >/dev/null || [ -x /usr/bin/chromium ] || { \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; \
		else false; fi \
	} || echo "Chromium is missing and cannot be installed here: the browser tests will be skipped" >&2

test: setup browser lint ## Lint, then all tests but the long ones (ARGS="-k name" chooses)
	$(BIN)/pytest -n 2 --dist loadgroup -m "not long" $(ARGS)

faults: setup ## The fault suite, all parts or PART=schedules|points|soak|release|degrade|mutants (goes on where it was stopped)
	$(BIN)/python -m tests.faults $(PART) $(ARGS)

mutants: setup ## Break the code where it matters, and see a named test fail (ARGS="--times 3 NAME...")
	$(BIN)/python -m tests.faults.mutants $(ARGS)

bench: setup ## Measure a platform beside raw Celery and bare Postgres (ARGS="--only T1,T3 --json FILE")
	$(BIN)/python -m benchmarks $(ARGS)

bench-planning: setup ## What planning costs, at the beginning and at the end of long executions
	$(BIN)/python -m benchmarks.planning $(ARGS)

bench-sandbox: setup ## What a python step costs at each level of isolation, beside a bare call and a bare fork
	$(BIN)/python -m benchmarks.sandbox $(ARGS)

lint: setup ## Style, types, import contracts, missing migrations
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python manage.py makemigrations --check --dry-run

openapi: setup ## Write docs/openapi.yaml anew from the views
	$(BIN)/python manage.py spectacular --validate --fail-on-warn --file docs/openapi.yaml

actions: setup ## Write docs/actions.md anew from the action kinds
	$(BIN)/python manage.py actions --markdown > docs/actions.md

format: setup ## Mend what ruff can mend safely, and format
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

lock: setup ## Resolve the dependencies anew into requirements.lock
	$(BIN)/uv pip compile pyproject.toml --group dev --universal --python-version 3.11.0 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header -o requirements.lock

clean: ## Remove caches and .venv; data/ stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis staticfiles
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
