# Everything a developer or CI does, by name. `make` alone lists it. Needs make, sh and Python 3.11 to 3.13; the rest
# comes from the hashed lock files in requirements/. PYTHON=/path/to/python picks another interpreter for a new .venv.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

VENV  := .venv
STEPS := .venv-steps
BIN   := $(VENV)/bin
UV    := $(BIN)/uv
PY    := $(BIN)/python -P

SUPPORTED := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))

# What every environment holds beside its own lock: uv itself and what the editable installation is built with.
TOOLS := requirements/uv.txt requirements/build.txt
# Some of the developers' packages are published as source only: what builds them is held to hashes as well.
SYNC   = $(UV) pip sync --quiet --require-hashes --build-constraints requirements/build.txt --python
# The packages of the project itself; its dependencies are the lock's business, and so is the build backend.
INSTALL = $(UV) pip install --quiet --no-deps --no-build-isolation --reinstall-package slipway --editable . --python

# pytest's everyday selection; a file stays on one worker, so its expensive fixtures are made once.
EVERYDAY := -n 2 --dist loadfile -m "not nightly"
ARGS     ?=

# ---------------------------------------------------------------------------------------------------- environments

.PHONY: help
help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: env
env: $(VENV)/.dev-ready ## Make .venv with everything a developer needs, and the command in it

# A working .venv is kept; anything else in its place is replaced. Version managers leave commands on the path that
# do not run, so a candidate counts only if it really starts, is supported, and can make environments.
$(VENV)/.bootstrapped: requirements/uv.txt
	@if [ -z "$(PYTHON)" ] && $(BIN)/python -c '$(SUPPORTED)' 2>/dev/null; then \
	  $(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null; \
	else \
	  found=; \
	  for candidate in $(or $(PYTHON),python3.13 python3.12 python3.11 python3); do \
	    if "$$candidate" -c '$(SUPPORTED)' >/dev/null 2>&1; then found=$$candidate; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo 'make: no usable Python. Expected 3.11, 3.12 or 3.13 with the modules venv and ensurepip;' >&2; \
	    echo 'make: tried $(or $(PYTHON),python3.13 python3.12 python3.11 python3).' >&2; \
	    echo 'make: install one (on Debian also python3-venv), or name it: make env PYTHON=/path/to/python3.12' >&2; \
	    exit 1; \
	  fi; \
	  echo "making $(VENV) with $$("$$found" -V)"; \
	  "$$found" -m venv --clear $(VENV); \
	fi
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@touch $@

$(VENV)/.dev-ready: $(VENV)/.bootstrapped requirements/all.txt requirements/build.txt pyproject.toml
	@echo "installing requirements/all.txt into $(VENV)"
	@$(SYNC) $(BIN)/python requirements/all.txt
	@$(INSTALL) $(BIN)/python
	@touch $@

# The demo is happy with a developer's environment, but does not ask for one.
DEMO_READY := $(if $(wildcard $(VENV)/.dev-ready),$(VENV)/.dev-ready,$(VENV)/.demo-ready)

$(VENV)/.demo-ready: $(VENV)/.bootstrapped requirements/examples.txt $(TOOLS) pyproject.toml
	@echo "installing requirements/examples.txt into $(VENV)"
	@$(SYNC) $(BIN)/python requirements/examples.txt $(TOOLS)
	@$(INSTALL) $(BIN)/python
	@touch $@

# What the `model` image holds and no more: here the compiled pipelines are executed, without kfp and hera.
.PHONY: env-steps
env-steps: $(STEPS)/.ready

$(STEPS)/.ready: $(VENV)/.dev-ready requirements/tensorflow.txt requirements/build.txt
	@echo "installing requirements/tensorflow.txt into $(STEPS)"
	@$(UV) venv --quiet --clear --python $(BIN)/python $(STEPS)
	@$(SYNC) $(STEPS)/bin/python requirements/tensorflow.txt requirements/build.txt
	@$(INSTALL) $(STEPS)/bin/python
	@touch $@

# ------------------------------------------------------------------------------------------------------- every day

.PHONY: demo
demo: $(DEMO_READY) ## Release a model three times: first, better, and bad (rolled back). KEEP=1 leaves it serving
	@$(PY) examples/01-digits/demo.py

.PHONY: test
test: env env-steps ## Run the tests (ARGS="-k word" narrows them)
	@$(BIN)/python -m pytest $(EVERYDAY) $(ARGS)

.PHONY: test-nightly
test-nightly: env env-steps ## Run all tests, also those too long for every change
	@$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

.PHONY: check
check: env check-generated check-lock ## Format, lint, types, layers, generated files, locks
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

.PHONY: format
format: env ## Format the code and mend what can be mended
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

.PHONY: bench
bench: env ## Run the benchmarks: one table a claim
	@set -e; for file in benchmarks/*.py; do echo "== $$file"; $(PY) "$$file"; done

# ------------------------------------------------------------------------------------------------- generated files

# Modules that write a committed file; with --check each compares instead, and writes nothing.
GENERATORS := components.savedmodel.generate_descriptors components.validate.generate_ops pipelines.spec_docs pipelines.compiled_example

.PHONY: generate
generate: env ## Remake the committed files that are generated
	@set -e; for module in $(GENERATORS); do $(PY) slipway.py --module $$module; done

.PHONY: check-generated
check-generated: env ## Prove that the generated files are what their sources say
	@set -e; for module in $(GENERATORS); do $(PY) slipway.py --module $$module --check; done

# ----------------------------------------------------------------------------------------------------------- locks

# Each lock is held to all.txt, so any two install together. UPGRADE=--upgrade takes newer versions.
# Registry hosts stay out of the files: whoever installs uses the index they trust, and the hashes decide.
UPGRADE ?=
COMPILE := $(UV) pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
           --no-emit-index-url --no-emit-find-links --no-header
PART    := $(COMPILE) --no-annotate --constraints requirements/all.txt --output-file
GROUP   := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
           --no-emit-index-url --no-emit-find-links --no-header --no-annotate --constraints requirements/all.txt

.PHONY: lock
lock: $(VENV)/.bootstrapped ## Remake the lock files (UPGRADE=--upgrade for newer versions)
	@$(COMPILE) $(UPGRADE) --all-extras --group dev --output-file requirements/all.txt
	@$(PART) requirements/base.txt
	@$(PART) requirements/tensorflow.txt --extra tensorflow --extra gcs
	@$(PART) requirements/deploy.txt --extra gcs --extra kubernetes
	@$(PART) requirements/kubeflow.txt --extra kubeflow
	@$(PART) requirements/argo.txt --extra argo
	@$(PART) requirements/examples.txt --extra tensorflow --extra examples
	@$(PART) requirements/dev.txt --group dev
	@$(GROUP) --group bootstrap --output-file requirements/uv.txt
	@$(GROUP) --group build --output-file requirements/build.txt

.PHONY: check-lock
check-lock: env ## Prove, offline, that the locks are hashed, complete and agree
	@$(BIN)/python -m pytest tests/architecture/test_requirements.py

# ------------------------------------------------------------------------------------------------------- cleaning up

.PHONY: clean
clean: ## Remove what was built, cached and left by the demo
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +

.PHONY: distclean
distclean: clean ## Also remove the environments
	rm -rf $(VENV) $(STEPS)
