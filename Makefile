# The commands of the house. All of them make what they need: a virtual environment with everything installed.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# On all processors, but no more than four: then tests that measure time get in one another's way.
SHARED_OUT = -n auto --maxprocesses 4 --dist worksteal

.PHONY: demo test lint format check bench lock clean

demo: $(VENV)/installed    ## the built-in job against the built-in simulator
	@$(BIN)/batchrunner demo

test: $(VENV)/installed    ## all tests, with coverage, and those of the package against the built wheel
	@rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest $(SHARED_OUT)
	$(BIN)/coverage combine -q
	$(BIN)/coverage report
	$(BIN)/python tests/wheel.py $(SHARED_OUT)

lint: $(VENV)/installed    ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: lint test

bench: $(VENV)/installed   ## the figures of the README, each beside its reference (minutes)
	$(BIN)/python tests/bench/throughput.py
	$(BIN)/python tests/bench/load.py
	$(BIN)/python tests/bench/million.py
	$(BIN)/python tests/bench/kill.py
	$(BIN)/python tests/bench/limits.py

lock:                      ## requirements.lock anew, after a change in pyproject.toml (needs uv)
	uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate \
		--group dev --output-file requirements.lock pyproject.toml

$(VENV)/installed: pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

clean:
	rm -rf $(VENV) dist .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis
