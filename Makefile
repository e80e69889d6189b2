# Needs only make and Python 3.11, 3.12 or 3.13; Slicer's libraries have no wheels for others. Everything is installed
# into .venv, with the versions of constraints.txt.
PYTHON ?= python3
PORT ?= 8080
VENV := .venv
BIN := $(VENV)/bin
# setuptools warns of every folder that holds data and no code, and of editable installs; nobody can act on either.
PIP_INSTALL = PYTHONWARNINGS=ignore $(BIN)/python -m pip install -q

# A newer Slicer: its MRML and VTK, and the Python it ships. trame-slicer, and with it the browser app, needs slicer-core 5.11.
PYTHON512 ?= python3.12
SLICER513 := 5.13.31053.0
VTK513 := 9.6.2
VENV513 := build/.venv-513
TESTS513 := Testing/mrml Testing/slicer $(addprefix Testing/core/test_,io_outputs.py bench_growth.py public_api.py)

.PHONY: help run test test-slicer513 check setup setup-run setup-test clean

help:
	@echo "make run    set up, segment a sample scan, open the browser app on it at http://127.0.0.1:$(PORT)"
	@echo "make test   set up, then run the whole test suite"
	@echo "make check  set up, then ruff and mypy"
	@echo "make test-slicer513   set up $(VENV513), then test the Slicer layers on slicer-core $(SLICER513), Python 3.12"
	@echo "make clean  remove .venv and $(VENV513)"

run: $(VENV)/.run
	$(BIN)/fastsam3d sample --output out/sample
	$(BIN)/fastsam3d web --sample --port $(PORT)

test: $(VENV)/.test check
	$(BIN)/python -m pytest

test-slicer513: $(VENV513)/.test
	$(VENV513)/bin/python -m pytest -rs $(TESTS513)

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
	@$(PYTHON) -c "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))" || \
	  { echo "Python 3.11, 3.12 or 3.13 is needed; this is $$($(PYTHON) --version). Set PYTHON=/path/to/python3." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) -U pip

$(VENV513)/.test: BIN = $(VENV513)/bin
$(VENV513)/.test: Makefile pyproject.toml constraints.txt
	@$(PYTHON512) -c "import sys; sys.exit(sys.version_info[:2] != (3, 12))" 2>/dev/null || \
	  { echo "Python 3.12 is needed, which $(PYTHON512) is not. Set PYTHON512=/path/to/python3.12." >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON512) -m venv $(VENV513)
	$(PIP_INSTALL) -U pip
	sed 's/^slicer-core==.*/slicer-core==$(SLICER513)/; s/^vtk==.*/vtk==$(VTK513)/' constraints.txt > $(VENV513)/constraints.txt
	$(PIP_INSTALL) -c $(VENV513)/constraints.txt -e ".[server]" slicer-core PySide6-Essentials pytest
	@touch $@

clean:
	rm -rf $(VENV) $(VENV513)
