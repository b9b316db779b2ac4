# Two commands from a fresh clone: make demo, make test. Each makes .venv first if it is not there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

FIGURES := figure1 figure2 figure3
# Half the size first: else noise that the network hardly sees would stay from the start. The weights are
# quoted at 512 pixels, so that small pictures look as large ones do.
FIGURE_SETTINGS := --set size=192 --set scales=2 --set iterations=200 --set reference_size=512

.PHONY: help demo figures $(FIGURES) test bench lint format clean

help:
	@echo "make demo    stylize a few photographs into demo-output/"
	@echo "make figures reproduce the paper's three figures into figures-output/"
	@echo "make test    the whole test suite"
	@echo "make bench   measure the speed beside other programs (docs/benchmarks.md)"
	@echo "make lint    ruff and mypy"
	@echo "make format  let ruff rewrite the code"
	@echo "make clean   remove .venv, demo-output and figures-output"

demo: $(VENV)/demo.installed
	$(BIN)/stylebatch demo --output demo-output

figures: $(FIGURES)

$(FIGURES): $(VENV)/demo.installed
	$(BIN)/python -c "import pathlib; from stylebatch.design import write_sources; \
	    from stylebatch.storage import LocalStore; \
	    write_sources(LocalStore(), str(pathlib.Path('demo-output/sources').absolute()))"
	$(BIN)/stylebatch run manifests/$@.parquet --output figures-output/$@ $(FIGURE_SETTINGS)
	$(BIN)/stylebatch figure figures-output/$@ -o figures-output/$@.png

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
	rm -rf $(VENV) demo-output figures-output

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "stylebatch needs Python 3.11 or newer; run: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# One stamp for each set of extras; a change of pyproject.toml installs again.
$(VENV)/%.installed: pyproject.toml $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[$*]'
	touch $@
