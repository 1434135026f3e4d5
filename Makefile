# Every target does the set-up that it needs; on a fresh machine `make test` and `make demo` need Python 3.11 and nothing else.

PYTHON := .venv/bin/python
ARGS ?=
# The workers share one control plane; `devstack.workers` says which tests run on the same worker.
PYTEST := $(PYTHON) -m pytest --numprocesses 2 --dist loadscope --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup tools lock gen lint type verify test e2e bench bench-drift bench-limits demo up down clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## create .venv with the locked dependencies
	@tools/setup.sh

tools: setup ## build kcp and the GraphQL gateway into .tools/bin (once, about five minutes)
	@$(PYTHON) -m devstack.tools

lock: setup ## resolve the dependencies anew into requirements.lock
	@tools/lock.sh

gen: setup ## generate what follows from crds/ and manifest.yaml
	@$(PYTHON) tools/gen.py

lint: setup ## check style, format and layers
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/lint-imports

type: setup ## check types
	@.venv/bin/pyright

verify: lint type ## check style, layers, types, and that generated files are fresh
	@$(PYTHON) tools/gen.py --check

test: verify tools ## run all tests; ARGS="-k name" for some
	@$(PYTHON) -m devstack.githubsim.openapi_fetch >/dev/null
	@$(PYTEST) $(ARGS)

e2e: tools ## run the end-to-end tests only
	@$(PYTEST) tests/e2e $(ARGS)

bench: tools ## measure against a real control plane; prints figures
	@$(PYTHON) tests/bench/bench.py $(ARGS)

bench-drift: tools ## count host requests of two drift passes; ARGS="--repositories 500 --keys 2 --collaborators 3"
	@$(PYTHON) tests/bench/drift.py $(ARGS)

bench-limits: tools ## 500 repositories with keys and collaborators under GitHub's limits, time scaled; about 25 minutes
	@$(PYTHON) tests/bench/limits.py $(ARGS)

demo: tools ## show it all on local processes; with GITHUB_TOKEN and GITHUB_OWNER on GitHub
	@$(PYTHON) -m devstack.demo demo

up: tools ## start the stack and leave it running; prints how to use kubectl on it
	@$(PYTHON) -m devstack.demo up

down: setup ## stop what `make up` has started
	@$(PYTHON) -m devstack.demo down

clean: ## remove .venv, caches and the data of runs; the built tools stay
	@rm -rf .venv .dev .pytest_cache .ruff_cache .import_linter_cache
	@find . -name __pycache__ -type d -not -path './.tools/*' -prune -exec rm -rf {} +
