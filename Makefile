# make demo | test | gpu | lint | format | wheel | clean. Everything runs in .venv, which is made on first use.
PYTHON ?= python3
# On Linux, PyPI's torch brings the CUDA libraries (several GB). A machine without a GPU does with
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=

VENV := .venv
BIN := $(VENV)/bin
DEMO := $(VENV)/.installed-demo
DEV := $(VENV)/.installed-dev
TORCH := $(shell sed -n '/^ *torch==/{s/ //gp;q}' setup.cfg)
CPP := $(shell find benchmarks plugins -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh')
# What compiles without flags of its own; the kernels' headers are seen through it as far as it includes them.
TIDY := $(wildcard benchmarks/*.cpp plugins/cpu/*.cpp plugins/cpu/*/operators.cpp plugins/cpu/*/library.cpp) \
    $(filter-out %/abi_check.cpp %/cuda_backend.cpp,$(wildcard plugins/onnxruntime/*.cpp))
SOURCES := benchmarks dinn360 engines examples export plugins tests

.PHONY: demo test gpu lint format wheel clean
.DELETE_ON_ERROR:

# The operators for CPU cores are built where a compiler is; without one the demo takes ONNX Runtime's own.
demo: $(DEMO)
	$(BIN)/python -m plugins build --onnxruntime --optional
	$(BIN)/python -m export demo

# tests/conftest.py says what one process does; each keeps to one core.
test: export OMP_NUM_THREADS := 1
test: $(DEV)
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# On a machine with an NVIDIA GPU: all that only a GPU shows, into build/gpu/gpu_report.json and .html.
gpu: $(DEMO)
	$(BIN)/python -m tests.device.gpu

lint: $(DEV)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	@if [ -x $(BIN)/clang-format ]; then echo clang-format; $(BIN)/clang-format --dry-run --Werror $(CPP); \
	    else echo "clang-format: skipped, not in $(BIN)"; fi
	@if [ -x $(BIN)/clang-tidy ]; then echo clang-tidy; $(BIN)/clang-tidy --quiet $(TIDY) -- -std=c++17; \
	    else echo "clang-tidy: skipped, not in $(BIN)"; fi

format: $(DEV)
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)
	@if [ -x $(BIN)/clang-format ]; then $(BIN)/clang-format -i $(CPP); fi

# dist/*.whl: with the libraries for CPU cores where a compiler is (setup.py).
wheel: $(DEMO)
	$(BIN)/python -m pip wheel --no-deps --wheel-dir dist .

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Only what the demo needs; the tests' and developers' tools are $(DEV)'s.
$(DEMO): setup.cfg
	@command -v $(PYTHON) >/dev/null || { echo "PYTHON: expected Python 3.11 or newer, found no $(PYTHON)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; v < (3, 11) and \
	    sys.exit("PYTHON: expected Python 3.11 or newer, found %d.%d; try make PYTHON=python3.12" % v[:2])'
	$(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(BIN)/python -m pip install --index-url $(TORCH_INDEX) $(TORCH))
	$(BIN)/python -m pip install -e '.[export]'
	touch $@

$(DEV): $(DEMO)
	$(BIN)/python -m pip install -e '.[dev]'
	touch $@
