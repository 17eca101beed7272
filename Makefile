# `make` sets the environment up and runs the embedded study; `make help` lists the rest.

PYTHON ?= python3
CORES ?= all
PROFILE ?=
export STUDY ?=
PORT ?= 5000
BIN := .venv/bin
LOCK := envs/requirements.lock
export PATH := $(CURDIR)/$(BIN):$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
export DVC_NO_ANALYTICS := true
unexport PYTHONDONTWRITEBYTECODE VIRTUAL_ENV PYTHONHOME

.PHONY: run setup test cluster-test fast-test format lint types docs schema dvc ui lock bench clean help
.DEFAULT_GOAL := run

run: setup  ## set up if needed, then run a study: STUDY=its name or file (the embedded one), CORES=all, PROFILE=folder
	@$(BIN)/python workflow/scripts/run_study.py "$$STUDY" $(if $(PROFILE),--workflow-profile "$(PROFILE)",--cores $(CORES))

setup: $(BIN)/.installed  ## make .venv from the lock file, where it is missing or out of date

$(BIN)/.installed: $(LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, and '$(PYTHON)' is not; try make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@echo "set-up 1 of 3: .venv, and the installer"
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	@awk '/^[^ ]/ {wanted = /^uv==/} wanted' $(LOCK) | $(BIN)/python -m pip install --quiet --requirement /dev/stdin
	@echo "set-up 2 of 3: the packages of $(LOCK), by their hashes (about a minute)"
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --compile-bytecode $(LOCK)
	@echo "set-up 3 of 3: mmrepro itself"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

test: setup  ## all tests but those that start a Slurm
	$(BIN)/python -m pytest -m "not cluster" --numprocesses 2 --dist loadfile

cluster-test: setup  ## tests on a real Slurm of one node, which they start: as root, with slurm-wlm and munge installed
	$(BIN)/python -m pytest tests/cluster

fast-test: setup  ## the tests that take seconds and need no downloaded data
	$(BIN)/python -m pytest -m "not slow and not real and not cluster" --numprocesses 2 --dist loadfile

format: setup  ## format Python and Snakemake files
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/snakefmt Snakefile workflow

lint: setup  ## check format and style, and Snakemake's own advice
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

types: setup  ## check types
	$(BIN)/mypy

docs: setup  ## build the documentation into build/docs; a warning is an error
	$(BIN)/python -m sphinx -W --keep-going -n -q -d build/doctrees docs build/docs

schema: setup  ## write the JSON schemas of the configuration files
	$(BIN)/mmrepro schema

dvc: setup  ## write DVC's stages from the configuration files
	$(BIN)/mmrepro dvc

ui: setup  ## show all runs in MLflow: PORT=5000
	@$(BIN)/python workflow/scripts/show_runs.py --port $(PORT)

lock: setup  ## renew the lock file from pyproject.toml
	$(BIN)/uv pip compile --universal --fork-strategy fewest --python-version 3.11 --generate-hashes --all-extras \
		--no-header --no-emit-index-url pyproject.toml --output-file $(LOCK)

bench: setup  ## measure the parts of a training step (others: benchmarks/README.md)
	$(BIN)/python benchmarks/cm3_step.py

clean: setup  ## remove what the workflow made for a study: STUDY=its name or file (the embedded one)
	@$(BIN)/python workflow/scripts/run_study.py "$$STUDY" --cores 1 --delete-all-output

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
