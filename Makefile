# Two commands do everything on a fresh machine: `make demo` and `make test`.
# Both make a virtual environment in .venv (VENV=... for another place) and install phypan into it.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
JOBS ?= 2

.PHONY: demo test lint bench real clean

demo: $(VENV)/.phypan
	$(BIN)/phypan demo

test: $(VENV)/.phypan-test
	$(BIN)/python -m pytest -n $(JOBS) $(PYTEST)

lint: $(VENV)/.phypan-lint
	$(BIN)/ruff format --check phypan tests examples benchmarks scripts
	$(BIN)/ruff check phypan tests examples benchmarks scripts
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.phypan-test
	$(BIN)/python -m benchmarks

# Real kernels under QEMU. CELLS='6.12-be64k-*' runs a part; CACHED=1 boots nothing.
real: $(VENV)/.phypan-real
	set -f; $(BIN)/python scripts/real/matrix.py --jobs $(JOBS) $(if $(CACHED),--cached) $(CELLS)
ifeq ($(CELLS)$(CACHED),)
	$(BIN)/python -m pytest --boots tests/real/test_guest.py tests/real/test_second_boot.py
	PHYPAN_FURTHER=$${PHYPAN_CACHE:-.cache}/real-kernels/dumps \
		$(BIN)/python -m pytest -n $(JOBS) tests/real/test_further_spaces.py tests/linux/test_stack.py \
		tests/plugins/analyses
endif

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.phypan: pyproject.toml | $(VENV)/bin/python
	@echo "installing phypan into $(VENV)"
	$(PIP) install --editable .
	@touch $@

$(VENV)/.phypan-test: pyproject.toml | $(VENV)/bin/python
	@echo "installing phypan and what its tests need into $(VENV)"
	$(PIP) install --editable '.[test]'
	@touch $@ $(VENV)/.phypan

$(VENV)/.phypan-real: pyproject.toml | $(VENV)/bin/python
	$(PIP) install --editable '.[test,qemu]'
	@touch $@ $(VENV)/.phypan $(VENV)/.phypan-test

$(VENV)/.phypan-lint: pyproject.toml | $(VENV)/bin/python
	$(PIP) install --editable '.[test,lint]'
	@touch $@ $(VENV)/.phypan $(VENV)/.phypan-test

clean:
	rm -rf $(VENV) .cache build dist *.egg-info
