# Everything a newcomer needs: python3.11 or newer, pip, make and a package index.
#
#   make demo     train, audit, unlearn and audit again on real data; leaves $(OUT)/report.html and report.json
#   make test     install everything the tests need and run the whole suite
#   make help     the rest

SHELL := /bin/sh
.DEFAULT_GOAL := help

# The first interpreter that is new enough; choose another with `make PYTHON=/path/to/python demo`.
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)

OUT ?= demo-out
# Any further options of `attrcloak demo`, such as DEMO_ARGS='--dataset ml-1m --data-dir my-folder'.
DEMO_ARGS ?=
# Any further options of pytest, such as PYTEST_ARGS='-m "not slow"'.
PYTEST_ARGS ?=
PYTEST_WORKERS ?= 2

LIGHT := .venv
TESTS := .venv-test
BIN := $(TESTS)/bin

# Sections of the benchmarks, all by default, such as BENCH_ARGS='passes growth'.
BENCH_ARGS ?=

# Two test processes share the cores: more threads in each would only make them wait for one another.
TEST_ENV := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MPLBACKEND=Agg PYTHONHASHSEED=0

.PHONY: demo test check lint types imports docs-check reference bench format clean help

demo: $(LIGHT)/.installed  ## the whole way on real data, without torch: make demo OUT=my-folder
	$(LIGHT)/bin/attrcloak demo --out "$(OUT)" $(DEMO_ARGS)

test: $(TESTS)/.installed  ## the whole suite, docs and README code blocks included
	$(TEST_ENV) $(BIN)/python -m pytest -n $(PYTEST_WORKERS) $(PYTEST_ARGS)

check: lint types imports test  ## what has to be green before a change is handed in

lint: $(TESTS)/.installed  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(TESTS)/.installed  ## mypy --strict
	$(BIN)/mypy

imports: $(TESTS)/.installed  ## import-linter: imports go down only, no torch below the recommenders
	$(BIN)/lint-imports

docs-check: $(TESTS)/.installed  ## only the code blocks, commands and links of README and docs
	$(TEST_ENV) $(BIN)/python -m pytest tests/docs

reference: $(TESTS)/.installed  ## write the generated parts of docs/reference from the code
	$(BIN)/python docs/build_reference.py

bench: $(TESTS)/.installed  ## measure what the passes cost and write docs/scale.json: make bench BENCH_ARGS=passes
	$(BIN)/python -m benchmarks $(BENCH_ARGS)
	$(BIN)/python docs/build_reference.py

format: $(TESTS)/.installed  ## rewrite the sources in the house's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove environments, caches and the demo's output
	rm -rf $(LIGHT) $(TESTS) demo-out build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# An environment is built anew when the dependencies or the interpreter's choice change, never half: the stamp comes
# last. A system Python without ensurepip cannot put pip into a new environment, so its own pip does that.
define install
	@test -n "$(PYTHON)" || { echo "AttrCloak needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python $@"; exit 1; }
	@echo "Installing into $(1) ..."
	@rm -rf $(1)
	@"$(PYTHON)" -m venv $(1) >/dev/null 2>&1 || { rm -rf $(1); "$(PYTHON)" -m venv --without-pip $(1); }
	@$(1)/bin/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m pip --python $(1)/bin/python install --quiet pip
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(2)]'
	@touch $@
endef

$(LIGHT)/.installed: pyproject.toml constraints.txt
	$(call install,$(LIGHT),light)

$(TESTS)/.installed: pyproject.toml constraints.txt
	$(call install,$(TESTS),dev)
