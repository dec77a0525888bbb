PYTHON ?= python3
VENV ?= .venv
HOST ?= 127.0.0.1
PORT ?= 8000
BIN := $(VENV)/bin
CORE := $(VENV)/.core-installed
DEMO := $(VENV)/.demo-installed
DEV := $(VENV)/.dev-installed
BENCH := $(VENV)/.bench-installed
RAY := $(VENV)/.ray-installed

.DEFAULT_GOAL := help
.PHONY: help serve demo test lint format bench ray-check screenshot image-check monitoring-check kubernetes-check clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 18

serve: $(CORE) ## the service and its playground on http://127.0.0.1:8000 (HOST=, PORT=)
	$(BIN)/honestface serve --host $(HOST) --port $(PORT)

demo: $(DEMO) ## degrade a photograph, restore it with a reference, leave before and after in demo/
	$(BIN)/honestface demo --out demo

test: $(DEV) ## all tests, by a process a core
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile

lint: $(DEV) ## formatting, rules, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV) ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

ray-check: $(RAY) ## replicas and archives on a real Ray (the extra `ray`, 590 MB)
	$(BIN)/python -m pytest tests/service/test_ray_serve.py tests/service/test_ray_archive.py

bench: $(BENCH) ## what a face and an answer cost, and what an overload does: the README's and docs/service.md's figures
	$(BIN)/python -m benchmarks.engine --runs 5
	$(BIN)/python -m benchmarks.service --seconds 8
	$(BIN)/python -m benchmarks.endurance overload

screenshot: $(DEV) ## the README's pictures: the playground (needs Chromium) and damaged prints
	$(BIN)/python -m benchmarks.screenshot
	$(BIN)/python -m benchmarks.prints

image-check: $(DEMO) ## the Dockerfile built and proven without a Docker engine (root; apt: buildah, debootstrap, runc)
	$(BIN)/python -m docker.image_check

monitoring-check: $(DEV) ## the alerts, and every query of the dashboard against a real Prometheus (apt: prometheus)
	$(BIN)/python -m docker.monitoring_check $(PICTURE)

kubernetes-check: $(DEV) ## the manifests rendered and checked against Kubernetes' schemas
	$(BIN)/python -m pytest tests/docker/test_kubernetes.py

clean: ## remove the environment, caches and build results
	rm -rf $(VENV) build dist demo .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "HonestFace needs Python 3.11 or newer as $(PYTHON); set PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "This Python cannot make virtual environments. On Debian or Ubuntu: sudo apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The stamps carry what was installed: a repeat costs nothing, a changed pyproject.toml installs again.
$(CORE): $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[fast]'
	@touch $@

$(DEMO): $(CORE)
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	@touch $@

$(DEV): $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(CORE) $(DEMO)

$(BENCH): $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	@touch $@ $(CORE) $(DEMO) $(DEV)

$(RAY): $(DEV)
	$(BIN)/python -m pip install --quiet --editable '.[ray]'
	@touch $@
