# Two commands for a newcomer: `make book` and `make test`. Each installs first what it needs.

PYTHON ?= python3
VENV   ?= .venv
# More arguments for pip, e.g. PIP_ARGS="--index-url URL" for another source of torch.
PIP_ARGS ?=
PRESET ?= default
# The versions that made the book; CONSTRAINTS= takes the newest that pyproject.toml allows.
CONSTRAINTS ?= constraints.txt

ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif

.DEFAULT_GOAL := help
.PHONY: help install constraints book assignments test lint format bench lab links pdf clean

help:
	@echo "make book     build the book: _build/html/index.html (PRESET=smoke for a quick one)"
	@echo "make test     run the tests"
	@echo "make assignments  the problem sets for nbgrader: _build/assignments"
	@echo "make links    check the links of the built book (EXTERNAL=1: also those to other sites)"
	@echo "make pdf      the built book as one PDF: _build/book.pdf (needs Chromium)"
	@echo "make lab      open the chapters as notebooks in JupyterLab"
	@echo "make lint     check style and format;  make format  mends them"
	@echo "make bench    the engine's speed against the forward pass and CubicalRipser, as ratios"
	@echo "make install  create $(VENV) with everything above; PYTHON=... chooses the Python"
	@echo "make constraints  renew constraints.txt, the versions that make install takes"
	@echo "make clean    remove what was built (not $(VENV))"

# The stamp is newer than the files that say what to install once that is installed. The newest
# versions have a stamp of their own.
STAMP := $(VENV)/.installed$(if $(CONSTRAINTS),,-newest)
install: $(STAMP)
$(STAMP): pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"Python 3.11 or newer is needed, $(PYTHON) is {v[0]}.{v[1]}: choose one with make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) $(if $(CONSTRAINTS),-c $(CONSTRAINTS),--upgrade --upgrade-strategy eager) -e ".[all]"
	@rm -f $(VENV)/.installed*
	@touch $@

# Run the tests and build the book with them before they are committed.
constraints:
	$(PYTHON) .ci/constraints.py renew $(PIP_ARGS)

book: install
	$(BIN)/python -m topo_utils book --preset $(PRESET)

assignments: install
	$(BIN)/python notebooks/assignments/build.py

# Two tests at a time; tests/conftest.py says which stay together.
test: install
	$(BIN)/python -m pytest -n 2

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install
	$(BIN)/python tests/bench.py

links: install
	$(BIN)/python -m topo_utils links $(if $(EXTERNAL),--external)

pdf: install
	$(BIN)/python -m topo_utils pdf

lab: install
	JUPYTER_CONFIG_PATH=.jupyter $(BIN)/python -m jupyterlab notebooks

clean:
	rm -rf _build .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	find topo_utils tests notebooks -name __pycache__ -prune -exec rm -rf {} +
