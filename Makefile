# make demo | test | lint | clean. Everything runs in .venv, which is made on first use.
PYTHON ?= python3
# On Linux, PyPI's torch brings the CUDA libraries (several GB). A machine without a GPU does with
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TORCH := $(shell sed -n 's/^ *\(torch==.*\)/\1/p' setup.cfg)
SOURCES := benchmarks dinn360 engines export plugins tests

.PHONY: demo test lint clean
.DELETE_ON_ERROR:

demo: $(STAMP)
	$(BIN)/python -m export demo

# tests/conftest.py says what one process does; each keeps to one core.
test: export OMP_NUM_THREADS := 1
test: $(STAMP)
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lint: $(STAMP)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): setup.cfg
	@command -v $(PYTHON) >/dev/null || { echo "PYTHON: expected Python 3.11 or newer, found no $(PYTHON)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; v < (3, 11) and \
	    sys.exit("PYTHON: expected Python 3.11 or newer, found %d.%d; try make PYTHON=python3.12" % v[:2])'
	$(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(BIN)/python -m pip install --index-url $(TORCH_INDEX) $(TORCH))
	$(BIN)/python -m pip install -e '.[dev]'
	touch $@
