# Set-up and everyday commands; `make help` lists them.

# Found before .venv comes first in the PATH.
PYTHON := $(or $(PYTHON),$(shell command -v python3))
CORES ?= 2
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slurm bench check format

help:  ## list these commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

setup: $(INSTALLED)  ## make .venv and install the package with everything it needs

# pip of the base Python installs into the environment: Debian's Python cannot make one with pip.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv --without-pip $(VENV)
	$(PYTHON) -m pip --python $(BIN)/python install --quiet --constraint constraints.txt pip --editable '.[dev]'
	touch $@

demo: setup  ## run the embedded default from rendered videos to the accuracy table
	snakemake --cores $(CORES)
	snakemake --report results/report.zip

test: setup  ## run the whole test suite
	pytest --numprocesses $(CORES) --dist loadfile

test-slurm: setup  ## run the workflow on a SLURM of two nodes, which root installs on Debian
	sh tests/slurm/install.sh
	pytest -m slurm tests/slurm

BENCHMARKS := extraction loading training inference pipeline accuracy multigrid workflow growth

bench: setup  ## measure against the plain recipe, and write docs/benchmarks.md
	for name in $(BENCHMARKS); do python benchmarks/$$name.py || exit 1; done

check: setup  ## run linters and the type checker
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow/Snakefile rules
	mypy
	lint-imports
	snakemake --lint

format: setup  ## lay out all code
	ruff check --fix .
	ruff format .
	snakefmt Snakefile workflow/Snakefile rules
