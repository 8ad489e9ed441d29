# Everything a newcomer and a developer do with this repository: `make help` lists it.
# A target that needs Python packages makes .venv and installs pinned versions; repeats cost nothing.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
MODELS ?= examples/detector/models.yaml
PICTURE ?= examples/detector/sample.jpg
FLAGS ?=
PYTEST_ARGS ?=

PIP := $(BIN)/python -m pip --disable-pip-version-check
PACKAGES := inferoxy bridges batch_manager task_manager model_manager

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run demo test check drill fuzz mixed compat-ultralytics engine protos bench bench-check bench-crowd bench-soak clean distclean

help:  ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r name text; do \
		printf '  make %-18s %s\n' "$$name" "$$text"; done

run: $(VENV)/run.stamp  ## Start everything, post the sample picture, keep serving until Ctrl-C
	@$(BIN)/inferoxy demo --serve --models $(MODELS) --picture $(PICTURE) $(FLAGS)

demo: $(VENV)/run.stamp  ## The same, but end after the answer
	@$(BIN)/inferoxy demo --models $(MODELS) --picture $(PICTURE) $(FLAGS)

test: check $(VENV)/compat.stamp engine  ## All checks and tests; needs a Docker engine when CI=true
	$(BIN)/python -m pytest $(PYTEST_ARGS)

drill: $(VENV)/dev.stamp engine  ## Break every part under load and check every answer, about 8 min; FLAGS=--list shows how
	@$(BIN)/python -m tests.drill $(FLAGS)

compat-ultralytics: $(VENV)/dev.stamp $(VENV)/compat.stamp $(VENV)/compat-ultralytics.stamp  ## Ultralytics' remote inference against the server (installs torch: 1.6 GB)
	$(BIN)/python -m pytest tests/compat/test_ultralytics.py

fuzz: $(VENV)/dev.stamp  ## 200,000 inputs that nobody should send, and 2,000 cases against the OpenAPI document, about 2 min
	@$(BIN)/python -m tests.fuzz $(FLAGS)
	@OPENAPI_CASES=2000 $(BIN)/python -m pytest -q tests/integration/test_openapi.py

mixed: $(VENV)/dev.stamp  ## 500 clients of every kind at once, about 3 min: all answers right, memory flat
	@$(BIN)/python -m tests.load.mixed $(FLAGS)

check: $(VENV)/dev.stamp  ## Format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Exit code 3 of a script: not possible on this machine.
engine:
	@tests/docker/engine/ensure_engine.sh && tests/docker/engine/ensure_base_images.sh || { \
		code=$$?; \
		if [ $$code -ne 3 ]; then exit $$code; fi; \
		if [ "$$CI" = true ]; then echo "error: CI=true needs a Docker engine" >&2; exit 1; fi; \
		echo "notice: there is no Docker engine, so the tests that need one will be skipped"; }

protos: $(VENV)/dev.stamp  ## Generate the gRPC stubs from protos/*.proto
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. protos/*.proto

bench: $(VENV)/run.stamp  ## Measure beside the ceilings, about 10 min; FLAGS=--profile records where the time goes
	$(BIN)/python -m inferoxy.bench.suite $(FLAGS)

bench-check: $(VENV)/run.stamp  ## The same in 4 min; fails when something falls short of what must hold
	@$(BIN)/python -m inferoxy.bench.suite --quick $(FLAGS)

bench-crowd: $(VENV)/run.stamp  ## What 1,000 models, 64 instances and 10,000 open requests cost the batch manager, 1 min
	@$(BIN)/python -m inferoxy.bench.suite.crowd $(FLAGS)

bench-soak: $(VENV)/run.stamp  ## Ten minutes of large pictures: nothing grows, nothing is lost
	@$(BIN)/python -m inferoxy.bench.suite.soak $(FLAGS)

clean:  ## Remove caches and build outputs
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
	find $(PACKAGES) protos tests examples -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean  ## Remove .venv and the demo's data too
	rm -rf $(VENV) .inferoxy

$(VENV)/made.stamp:
	@for python in $(PYTHON) python3.14 python3.13 python3.12 python3.11; do \
		if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then break; fi; \
		python=; \
	done; \
	if [ -z "$$python" ]; then \
		echo "error: Python 3.11 or newer is needed, found $$($(PYTHON) --version 2>&1); choose one with make PYTHON=…" >&2; \
		exit 1; \
	fi; \
	echo "making $(VENV) with $$($$python --version)"; \
	if ! $$python -m venv $(VENV); then \
		rm -rf $(VENV); \
		echo "error: $$python cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2; \
		exit 1; \
	fi
	@touch $@

$(VENV)/run.stamp: $(VENV)/made.stamp requirements/build.txt requirements/run.txt pyproject.toml
	@echo "installing what the server needs (once; about 130 MB)"
	$(PIP) install --requirement requirements/run.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp requirements/dev.txt
	@echo "installing what checks and tests need"
	$(PIP) install --requirement requirements/dev.txt
	@touch $@

$(VENV)/compat.stamp: $(VENV)/made.stamp requirements/compat.txt tests/compat/environment.py
	@echo "installing the V2 clients that tests/compat runs against the server, apart (once; about 330 MB)"
	$(BIN)/python -m tests.compat.environment $(VENV)/compat
	@touch $@

$(VENV)/compat-ultralytics.stamp: $(VENV)/made.stamp requirements/compat-ultralytics.txt
	@echo "installing Ultralytics and torch, apart (once; about 1.6 GB)"
	$(BIN)/python -m venv --clear $(VENV)/compat-ultralytics
	$(VENV)/compat-ultralytics/bin/python -m pip --disable-pip-version-check install --requirement requirements/compat-ultralytics.txt
	@touch $@
