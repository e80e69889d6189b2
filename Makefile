# Needs only Python 3.11 or newer and make. Everything is installed into .venv, with the versions of constraints.txt.
PYTHON ?= python3
PORT ?= 8080
VENV := .venv
BIN := $(VENV)/bin
# setuptools warns of every folder that holds data and no code, and of editable installs; nobody can act on either.
PIP_INSTALL = PYTHONWARNINGS=ignore $(BIN)/python -m pip install -q

.PHONY: help run test check setup setup-run setup-test clean

help:
	@echo "make run    set up, segment a sample scan, open the browser app on it at http://127.0.0.1:$(PORT)"
	@echo "make test   set up, then run the whole test suite"
	@echo "make check  set up, then ruff and mypy"
	@echo "make clean  remove .venv"

run: $(VENV)/.run
	$(BIN)/fastsam3d sample --output out/sample
	$(BIN)/fastsam3d web --sample --port $(PORT)

test: $(VENV)/.test check
	$(BIN)/python -m pytest

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

setup: $(VENV)/.test

$(VENV)/.run: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) -c constraints.txt -e ".[web,sample]"
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) -c constraints.txt -e ".[test]"
	@touch $@ $(VENV)/.run

$(BIN)/python:
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
	  { echo "Python 3.11 or newer is needed; this is $$($(PYTHON) --version). Set PYTHON=/path/to/python3." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) -U pip

clean:
	rm -rf $(VENV)
