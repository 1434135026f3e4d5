# Every target does the set-up that it needs; on a fresh machine `make test` and `make demo` need Python 3.11 and nothing else.

PYTHON := .venv/bin/python
ARGS ?=
PYTEST := $(PYTHON) -m pytest --dist loadscope --no-loadscope-reorder
# Tests wait now and then, end-to-end tests mostly. So there are more workers than processors;
# `devstack.workers` says which test runs where.
WORKERS := --numprocesses 5
# Fast tests hardly wait, and each worker collects all of them.
FAST := --numprocesses 3 --ignore tests/e2e --ignore tests/browser -m "not e2e and not slow"

# Workers and the processes that tests start use the compiled files that `compiled` or an earlier run has left.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup tools lock gen lint type fresh verify test test-k8s test-helm3 test-fast compiled pytest portal portal-test portal-browser screenshots e2e bench bench-drift bench-limits bench-crawl bench-mcp bench-commits security images sbom test-container demo up down clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

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

fresh: setup
	@$(PYTHON) tools/gen.py --check

verify: lint fresh type ## check style, layers, types, and that generated files are fresh

# pyright takes 25 s of one processor, and the tests leave one idle while kcp starts. Compiling leaves one to the portal.
test: lint fresh tools ## check as `verify` does and run all tests; ARGS="-k name" for some
	@$(MAKE) --no-print-directory --jobs 2 portal-test compiled
	@$(MAKE) --no-print-directory --jobs 2 type pytest

# On a fresh clone each of the workers would compile all modules, which takes it longer than the rest of its collection.
compiled: setup
	@$(PYTHON) -m pytest --quiet --numprocesses 0 --collect-only >/dev/null 2>&1 || true

pytest: tools
	@$(PYTHON) -m devstack.githubsim.openapi_fetch >/dev/null
	@$(PYTHON) -m devstack.tools browser
	@$(PYTHON) -m devstack.tools chart
	@$(PYTEST) $(WORKERS) $(ARGS)

test-k8s: setup ## have a real kube-apiserver take what the Helm chart renders, and upgrade a release of the Go provider
	@$(PYTHON) -m devstack.tools chart
	@$(PYTHON) -m devstack.tools chart-helm3
	@$(PYTHON) -m devstack.tools chart-k8s
	@CODE_CHART_TESTS=kubernetes $(PYTEST) --numprocesses 0 tests/chart/test_kubernetes.py $(ARGS)

test-helm3: setup ## compare what helm 3 renders of the Helm chart with what helm 4 does
	@$(PYTHON) -m devstack.tools chart
	@$(PYTHON) -m devstack.tools chart-helm3
	@CODE_CHART_TESTS=helm3 $(PYTEST) --numprocesses 0 tests/chart/test_helm3.py $(ARGS)

portal: ## build the portal's bundle into the gateway; needs npm of Node.js 20 or later
	@tools/portal.sh build

portal-test: # what `make test` does with the portal; without npm it says what is left out
	@tools/portal.sh test

portal-browser: tools portal ## the portal's tests in a browser alone; CODE_PORTAL_SPECS="journey" for some
	@$(PYTEST) --numprocesses 0 tests/e2e/test_portal.py $(ARGS)

screenshots: tools portal ## write pictures of the portal's views to docs/images; needs Chromium
	@mkdir -p docs/images
	@CODE_SCREENSHOTS=$(CURDIR)/docs/images CODE_PORTAL_SPECS=views $(PYTEST) --numprocesses 0 tests/e2e/test_portal.py -k browser

test-fast: setup ## run the tests that need no kcp and wait for nothing, for use while working; ARGS as for `test`
	@$(PYTEST) $(FAST) $(ARGS)

e2e: tools ## run the end-to-end tests only
	@$(PYTEST) $(WORKERS) tests/e2e $(ARGS)

bench: tools ## measure against a real control plane; prints figures
	@$(PYTHON) tests/bench/bench.py $(ARGS)

bench-drift: tools ## count host requests of two drift passes; ARGS="--repositories 500 --keys 2 --collaborators 3"
	@$(PYTHON) tests/bench/drift.py $(ARGS)

bench-limits: tools ## 500 repositories with keys and collaborators under GitHub's limits, time scaled; about 25 minutes
	@$(PYTHON) tests/bench/host_limits.py $(ARGS)

bench-mcp: setup ## tools/list and tools/call of the gateway beside the bare MCP SDK; prints figures
	@$(PYTHON) tests/bench/mcp_rates.py $(ARGS)

bench-commits: tools ## commits a minute beside git push of the same trees; ARGS="--one 20 --many 50 --latency 0.1"
	@$(PYTHON) tests/bench/commits.py $(ARGS)

bench-crawl: setup ## host requests, replicas and memory of looks at packages; ARGS="--repositories 1 100 --packages 500"
	@$(PYTHON) tests/bench/crawl.py $(ARGS)

security: tools ## the attacks of tests/security in full size, with their figures; about 20 minutes
	@CODE_SECURITY_TESTS=full $(PYTEST) --numprocesses 0 tests/security $(ARGS)

images: ## build the provider's images with Docker; BUILD_OPTIONS for `docker build`
	@BUILD_OPTIONS="$(BUILD_OPTIONS)" tools/images.sh

sbom: setup ## write what the images contain as CycloneDX, and check its licences; needs npm
	@tools/sbom.sh

test-container: setup ## build and run the images and docker-compose.yaml; root on Debian with docker.io, docker-compose, debootstrap
	@$(PYTEST) --numprocesses 0 --timeout 3600 tests/container $(ARGS)

demo: tools ## show it all on local processes; with GITHUB_TOKEN and GITHUB_OWNER on GitHub
	@$(PYTHON) -m devstack.demo demo

up: tools ## start the stack and leave it running; prints how to use it
	@$(PYTHON) -m devstack.demo up

down: setup ## stop what `make up` has started
	@$(PYTHON) -m devstack.demo down

clean: ## remove .venv, caches and the data of runs; the built tools stay
	@rm -rf .venv .dev .hypothesis tests/mcp-clients/node_modules .pytest_cache .ruff_cache .import_linter_cache
	@find . -name __pycache__ -type d -not -path './.tools/*' -prune -exec rm -rf {} +
