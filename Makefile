# Two commands from a fresh clone: make demo, make test. Each makes .venv first if it is not there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test bench lint format clean

help:
	@echo "make demo    stylize a few photographs into demo-output/"
	@echo "make test    the whole test suite"
	@echo "make bench   measure the speed beside other programs (docs/benchmarks.md)"
	@echo "make lint    ruff and mypy"
	@echo "make format  let ruff rewrite the code"
	@echo "make clean   remove .venv and demo-output"

demo: $(VENV)/demo.installed
	$(BIN)/stylebatch demo --output demo-output

test: $(VENV)/dev.installed
	$(BIN)/python -m pytest

bench: $(VENV)/demo.installed
	$(BIN)/python benchmarks/bench.py

lint: $(VENV)/dev.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/dev.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) demo-output

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "stylebatch needs Python 3.11 or newer; run: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# One stamp for each set of extras; a change of pyproject.toml installs again.
$(VENV)/%.installed: pyproject.toml $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[$*]'
	touch $@
