# Two commands on a bare machine with Python 3.11 or 3.12: `make demo` and `make test`. The environment is .venv.
PYTHON ?= python3
export OMP_NUM_THREADS = 1
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: test lint unit demo slow clean
.DELETE_ON_ERROR:

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

test: lint unit

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(STAMP)
	$(BIN)/pytest -m 'not slow and not gpu'

slow: $(STAMP)
	$(BIN)/pytest -m slow

clean:
	rm -rf .venv build *.egg-info
