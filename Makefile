# `make repro` and `make test` do all set-up themselves; they need Python 3.11+ and a C compiler.
# The environment is .venv, with the exact versions of requirements.lock.

PYTHON ?= python3
BIN := .venv/bin
KILLS ?= 100

# DVC runs the stages with the `python` it finds first.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
export FIFTYONE_DATABASE_VALIDATION := false
export FIFTYONE_DO_NOT_TRACK := true
export MLFLOW_DISABLE_TELEMETRY := true
export ORT_DISABLE_TELEMETRY := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false

.PHONY: repro tour services test test-all chaos verify-gpu lint format docs figures lock wheelhouse clean help

help:  ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

repro: .venv/.ready  ## The whole pipeline on the dataset named in params.yaml
	@$(BIN)/dvc repro
	@$(BIN)/rtmo-pipeline sync
	@$(BIN)/rtmo-pipeline status

tour: .venv/.ready  ## Half an hour for a sceptic, after `make repro`: each promise tried, in copies
	@$(BIN)/python -m pipelines.tour

services: .venv/.ready  ## Prefect server, worker and MLflow server on loopback
	@$(BIN)/rtmo-pipeline services start

test: .venv/.ready  ## The test suite without its slow part
	@$(BIN)/python -m pytest -q -m "not slow"

test-all: .venv/.ready  ## Every test: mutations, kills, whole pipelines
	@$(BIN)/python -m pytest -q

chaos: .venv/.ready  ## Kill each component at each stage, the services, and training KILLS times; fifty releases with faults
	@$(BIN)/python -m pytest -q --kills $(KILLS) tests/rtmo/training/test_kill.py \
		tests/pipelines/flows/test_chaos.py tests/pipelines/test_services.py \
		tests/pipelines/releases/test_fifty_releases.py

verify-gpu: .venv/.ready  ## Build, run, compare and time engines on this machine's GPU; appends a receipt
	@PYTHONPATH=. $(BIN)/python benchmarks/verify_gpu.py

lint: .venv/.ready  ## Style, types, import rules, declared dependencies
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/deptry .

format: .venv/.ready  ## Let ruff settle the layout
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

docs: .venv/.ready  ## These pages as a site, in site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

figures: .venv/.ready  ## Every table that has a raw log, made again from it
	@PYTHONPATH=. $(BIN)/python -m benchmarks.figures

lock: .venv/.ready  ## Write requirements.lock from what is installed
	@PYTHON=$(BIN)/python tools/lock

wheelhouse: requirements.lock tools/wheelhouse  ## Wheels of all packages, to install without a network
	@PYTHON=$(PYTHON) tools/wheelhouse

clean:  ## Remove the environment; data, models and runs stay
	rm -rf .venv

.venv/.ready: requirements.lock pyproject.toml tools/install
	@PYTHON=$(PYTHON) tools/install
	@touch $@
