# Every command of the project: `make` lists them. What a target needs, it sets up.

python := .venv/bin/python -m
export PYTHON
# Empty, or what leaves out those tests that take long.
export but_slow
molecule = eval "$$(.ci/engine start)" && exec env PATH='$(CURDIR)/.venv/bin':"$$PATH" \
	$(if $(but_slow),PYTEST_ADDOPTS="$$PYTEST_ADDOPTS -m 'not slow'") scripts/test-molecule

help:
	@awk -f scripts/help.awk Makefile

##@ Try it

demo: ## The three jobs here, in about a minute; FULL=1 for the poster's sizes
	@scripts/setup runtime
	@.venv/bin/tritoncluster run all $(if $(filter-out 0,$(FULL)),,--demo)

##@ Check it

# Two lanes of about the same length: much of either is waiting, and the images are built early.
test: but_slow = and not slow
test: setup ## The seven to test-molecule without their slow tests, two at a time
	@exec env MAKE='$(MAKE)' scripts/run-groups \
		test-unit test-pages test-repository lint --beside test-images test-molecule test-compose

lint: setup ## Style, format, types, spelling, shell scripts, the lock
	@$(python) pre_commit run --all-files

test-unit: setup ## Jobs, cluster, command line
	@.ci/need faketime
	@$(python) pytest -m 'not poster $(but_slow)' $(ARGS) workloads/tests

test-pages: setup ## The report in a headless Chromium
	@.ci/need chromium
	@$(python) pytest -m 'pages $(but_slow)' $(ARGS) tests

test-repository: setup ## This file, the lock, set-up in fresh clones, the commands of README.md
	@$(python) pytest -m 'not pages and not containers and not compose $(but_slow)' $(ARGS) tests

test-images: setup ## The images, on both platforms; builds them first
	@exec env PATH='$(CURDIR)/.venv/bin':"$$PATH" $(python) pytest -m 'containers $(but_slow)' $(ARGS) tests

test-compose: setup ## The cluster of compose.yaml, in containers
	@.ci/need chromium
	@exec env PATH='$(CURDIR)/.venv/bin':"$$PATH" $(python) pytest -m 'compose $(but_slow)' $(ARGS) tests

test-molecule: engine setup ## A room of hosts as containers, through SSH
	@$(molecule) $(or $(ARGS),default)

##@ Check more: what takes long, each by itself

test-lifecycle: engine setup ## A second room, in which everything changes; half an hour
	@$(molecule) lifecycle

test-raspberry-pi: engine setup ## A Raspberry Pi from a blank card on, emulated, beside a host; CARD=slow
	@export PYTEST_ADDOPTS="$$PYTEST_ADDOPTS -rP" && $(molecule) raspberry-pi

test-reproducible: engine ## Both images of the last commit, built twice without cache, are the same
	@eval "$$(.ci/engine start)" && docker/reproducible

coverage: setup ## What test-unit covers, which may not become less
	@.ci/need faketime
	@$(python) coverage run -m pytest $(ARGS) workloads/tests
	@$(python) coverage report

poster: setup ## The poster's grid search at full size gives its figures; takes minutes
	@$(python) pytest -m poster -o timeout=0 -o faulthandler_timeout=0 $(ARGS) workloads/tests

survival: setup ## Kills a cluster's processes at random, KILLS=300 times; SEED=7 repeats it
	@KILLS='$(or $(KILLS),300)' SEED="$${SEED:-$$(date +%s)}" $(python) pytest -o log_cli=true -o faulthandler_timeout=0 \
		$(ARGS) workloads/tests/test_survival.py

##@ Containers

engine: ## A Docker engine for both platforms: the one that is here, or Debian's
	@eval "$$(.ci/engine start)" && docker/base/make

engine-stop: ## Stop the engine that `make engine` started, and remove all it made
	@.ci/engine stop

images: engine ## The images, for amd64 and arm64
	@eval "$$(.ci/engine start)" && docker/bake cross

images-archive: engine ## Both images in images.tar, to deploy with -e images_archive=images.tar
	@eval "$$(.ci/engine start)" && docker/archive

sbom: images setup ## Bills of materials (CycloneDX) of the images, in .cache/sbom
	@eval "$$(.ci/engine start)" && set -e && mkdir -p .cache/sbom && for image in node notebook gateway; do for arch in amd64 arm64; do \
		.venv/bin/python docker/sbom.py tritoncluster/$$image:local linux/$$arch >.cache/sbom/$$image-$$arch.cdx.json; \
	done; done; ls .cache/sbom/*

up: ## The cluster of compose.yaml, and what it needs; ARGS=--detach for compose
	@scripts/up $(ARGS)

down: ## Remove that cluster, with its certificates and its password
	@eval "$$(.ci/engine start)" && scripts/own-cluster && docker compose down --volumes

##@ Measure it

bench: $(patsubst benchmarks/%.py,bench-%,$(wildcard benchmarks/[!_]*.py)) ## All benchmarks

bench-%: setup ## The one in benchmarks/NAME.py
	@if grep -qi docker benchmarks/$*.py; then eval "$$(.ci/engine start)"; fi && .venv/bin/python benchmarks/$*.py

bench-compose bench-graphs_in_containers bench-images bench-uneven: images

##@ Change it

setup: ## All that development needs, in .venv; then .venv/bin/tritoncluster works
	@scripts/setup development

format: setup ## Format the code, and mend what ruff can mend
	@$(python) ruff check --quiet --fix --exit-zero
	@$(python) ruff format

hooks: setup ## Let git run lint on each commit
	@$(python) pre_commit install

clean: ## Remove what these commands made, but for results/
	rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

##@ Options: PYTHON=/path/to/python, 3.11 or later, for .venv; ARGS='-k forest -x' for pytest

# Benchmarks and tests take the whole machine: one at a time, whatever -j says.
.NOTPARALLEL:
.PHONY: help demo test lint test-unit test-pages test-repository test-images test-compose test-molecule
.PHONY: test-lifecycle test-raspberry-pi test-reproducible coverage poster survival
.PHONY: engine engine-stop images images-archive sbom up down
.PHONY: bench setup format hooks clean
