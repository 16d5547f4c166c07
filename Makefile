# Quartermaster: `make help` lists what there is to make.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

export PIP_DISABLE_PIP_VERSION_CHECK := 1

BIN := .venv/bin
STAMP := .venv/.installed
OPENB := benchmarks/data/openb
OPENB_CSV := $(OPENB)/openb_node_list_gpu_node.csv $(OPENB)/openb_pod_list_default.csv $(OPENB)/arrivals_default.csv
TIME_LIMIT ?= 60
KIND ?= placement
PYTEST_ARGS ?=
ALONE := tests/benchmarks tests/browser tests/chaos tests/optimizer/study/executors tests/plugins/slurm

.PHONY: help install demo serve test test-long lint format bench lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## create .venv with the pinned dependencies; instant when nothing changed

# -qq keeps pip to its errors. A virtual environment of another Python is replaced, not repaired.
$(STAMP): pyproject.toml constraints.txt
	@python=""; \
	for candidate in python3.11 python3 python; do \
	    if "$$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	    echo "Quartermaster needs Python 3.11: neither python3.11, python3 nor python on PATH is one." >&2; exit 1; \
	fi; \
	if ! $(BIN)/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then \
	    echo "Creating .venv with $$("$$python" --version)"; "$$python" -m venv --clear .venv; \
	fi
	@echo "Installing the pinned dependencies into .venv"
	@$(BIN)/python -m pip install -qq -c constraints.txt -e '.[dev]'
	@touch $@

demo: build/openb.json ## plan the bundled openb trace: build/plan.json and build/report.html
	$(BIN)/quartermaster solve placement build/openb.json --time-limit $(TIME_LIMIT) --out build/plan.json --report build/report.html

build/openb.json: $(OPENB_CSV) $(wildcard service/importers/*.py) models/vocabulary.py models/placement/schema.py | $(STAMP)
	@mkdir -p build
	$(BIN)/quartermaster import openb --nodes $(word 1,$(OPENB_CSV)) --pods $(word 2,$(OPENB_CSV)) --arrivals $(word 3,$(OPENB_CSV)) --out $@

serve: $(STAMP) ## serve the HTTP API with workers on http://127.0.0.1:8080
	$(BIN)/quartermaster serve

# Tests run side by side, a file at a time, but for those that start clusters and browsers, measure, or kill: they come after,
# one by one. No test chosen (5) in one of the two is no failure.
test: lint ## every check: linters, types, import contracts, then the quick tests
	$(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadfile $(addprefix --ignore=,$(ALONE)) $(PYTEST_ARGS) || [ $$? -eq 5 ]
	$(BIN)/python -m pytest $(ALONE) $(PYTEST_ARGS) || [ $$? -eq 5 ]

test-long: $(STAMP) ## the tests that take minutes
	$(BIN)/python -m pytest -m long $(PYTEST_ARGS)

lint: $(STAMP) ## ruff, mypy and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(STAMP) ## format the code and apply the safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP) ## run the benchmarks of KIND (placement, flow, tiering), baselines included
	$(BIN)/python -m pip install -qq -c constraints.txt -e '.[dev,bench]'
	$(BIN)/python -m benchmarks run $(KIND)

# Resolves every extra at once, the optional ones included, and writes down what was chosen; installs nothing.
define WRITE_LOCK
import json, pathlib, re
report = json.loads(pathlib.Path("build/lock.json").read_text())
chosen = {re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower(): item["metadata"]["version"].split("+")[0] for item in report["install"]}
chosen.pop("quartermaster")
lock = pathlib.Path("constraints.txt")
head = [line for line in lock.read_text().splitlines() if line.startswith("#")]
lock.write_text("\n".join([*head, *(f"{name}=={version}" for name, version in sorted(chosen.items()))]) + "\n")
endef
export WRITE_LOCK

lock: $(STAMP) ## choose the newest allowed dependencies and write constraints.txt
	@mkdir -p build
	$(BIN)/python -m pip install -qq --dry-run --ignore-installed --report build/lock.json -e '.[dev,bench,torch,ray,kubernetes,postgres,otel]'
	$(BIN)/python -c "$$WRITE_LOCK"

clean: ## remove the virtual environment and everything that was made
	rm -rf .venv build dist *.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find benchmarks models optimizer service tests -name __pycache__ -type d -prune -exec rm -rf {} +
