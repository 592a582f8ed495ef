# Everything runs in .venv, made on first use. Needs Python 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
# TORCH=cpu, or cuda. On Linux the public index has the build with CUDA, which is gigabytes; where
# PyTorch's own index cannot be reached, that build is taken.
TORCH ?= cpu
INDEX := $(if $(filter cpu-Linux,$(TORCH)-$(shell uname)),--retries 0 --timeout 5 --index-url https://download.pytorch.org/whl/cpu)
PIP = $(BIN)/python -m pip install --quiet

.PHONY: demo test bench lint clean docs screens

demo: $(STAMP)
	$(BIN)/edgekeeper demo

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 -m "not slow and not gpu and not browser and not docs"

# Every browser test (needs chromium); its screenshots lie in results/screens, to be looked at.
screens: $(STAMP)
	EDGEKEEPER_SCREENS=results/screens $(BIN)/python -m pytest -n 0 -m "browser and not slow" \
	  $$(grep -rl --include="*.py" "mark.browser" tests)

bench: $(STAMP)
	$(BIN)/python benchmarks/bench.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(STAMP)
	$(PIP) -c constraints.txt -e '.[docs]'
	$(BIN)/python -m mkdocs build --strict

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) --upgrade pip
	$(if $(INDEX),$(PIP) $(INDEX) -c constraints.txt torch ||) $(PIP) -c constraints.txt torch
	$(PIP) -c constraints.txt -e '.[dev,fast]'
	touch $(STAMP)

clean:
	rm -rf .venv demo .pytest_cache .mypy_cache .ruff_cache
