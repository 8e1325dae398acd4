.DEFAULT_GOAL := venv
.PHONY: venv demo test check bench slow torture study-report gpu-study

PYTHON ?= python3
# Test processes at once; a core each.
JOBS ?= 2
# Budget of make torture; the tries are in proportion.
BUDGET ?= 3600
BIN := .venv/bin
STAMP := .venv/.installed

venv: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP)
	$(BIN)/filterbands demo

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS)

slow: $(STAMP)
	$(BIN)/python -m pytest -q -m slow

# Attacks from outside: kills, malformed files, full disks, races, hostile names (docs/reliability.md).
torture: $(STAMP)
	$(BIN)/python -m tests.torture --seconds $(BUDGET) $(ARGS)

check: $(STAMP)
	$(BIN)/ruff check src tests benchmarks docs
	$(BIN)/ruff format --check src tests benchmarks docs
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -o addopts= --doctest-modules --import-mode=importlib src
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -o addopts= --doctest-glob='*.md' docs README.md
	$(BIN)/python benchmarks/study_report.py --check

# Numbers, tables and pictures of README and docs, from results/, without training.
study-report: $(STAMP)
	$(BIN)/python benchmarks/study_report.py

bench: $(STAMP)
	@ls benchmarks/*.py
	@echo "run one: $(BIN)/python benchmarks/NAME.py --help"

gpu-study: $(STAMP)
	$(BIN)/python benchmarks/gpu_study.py $(ARGS)
