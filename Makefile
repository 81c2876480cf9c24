# make demo: see it work.  make test: run the tests.  make check: all that CI checks.
# make docs: the documentation, a site.
# Each sets up its own virtual environment first; nothing but Python 3.11+ is needed.

PYTHON ?= python3
VENV ?= .venv
# Where the CPU build of torch is offered. For CUDA: make TORCH_INDEX=https://download.pytorch.org/whl/cu128
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt
# One thread a worker: more would only compete for the cores.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

.PHONY: demo test check format docs set-up set-up-dev

demo: set-up
	$(BIN)/earmark demo --out demo

test: set-up-dev
	$(PYTEST) -m "not slow"

check: set-up-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST)

format: set-up-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: set-up-dev
	$(BIN)/python tests/golden/reference_pages.py
	$(BIN)/zensical build --strict

set-up: $(BIN)/.set-up
set-up-dev: $(BIN)/.set-up-dev

$(BIN)/.set-up: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; set PYTHON=python3.x" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	@# An index that can't be reached is passed over: torch then comes from the usual one.
	$(PIP) --no-deps --retries 1 --timeout 20 --extra-index-url $(TORCH_INDEX) torch
	$(PIP) -e .
	@touch $@

$(BIN)/.set-up-dev: $(BIN)/.set-up
	$(PIP) -e '.[dev]'
	@touch $@
