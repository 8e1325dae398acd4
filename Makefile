.DEFAULT_GOAL := venv
.PHONY: venv demo test test-vision oldest check docs bench slow torture study-report package gpu-study mutants

PYTHON ?= python3
# Test processes at once; a core each.
JOBS ?= 2
# Budget of make torture; the tries are in proportion.
BUDGET ?= 3600
BIN := .venv/bin
STAMP := .venv/.installed
DOCS := .venv/.docs
VISION := .venv-vision/.installed
OLDEST := .venv-oldest/.installed

# A stamp whose environment is gone says nothing.
ifeq ($(wildcard $(BIN)/python),)
$(shell rm -f $(STAMP) $(DOCS))
endif

venv: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP)
	$(BIN)/filterbands demo

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal

# Networks of timm, torchvision and transformers, with the newest of everything: torchvision needs the default
# build of torch, some 10 GB. The result is kept in docs/real-networks.md.
$(VISION): pyproject.toml
	$(PYTHON) -m venv .venv-vision
	.venv-vision/bin/pip install --quiet -e '.[dev,onnx,vision]' transformers torchmetrics onnx onnxscript
	@touch $@

test-vision: $(VISION)
	OMP_NUM_THREADS=1 .venv-vision/bin/python -m pytest -n $(JOBS) -p no:cacheprovider -m vision tests/vision

# The default tests with the oldest versions that pyproject.toml admits; TESTS names a part of them.
$(OLDEST): pyproject.toml constraints-oldest.txt
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/pip install --quiet -c constraints-oldest.txt -e '.[dev,onnx,parquet,pandas,tensorboard]'
	@touch $@

oldest: $(OLDEST)
	OMP_NUM_THREADS=1 .venv-oldest/bin/python -m pytest -q -n $(JOBS) -p no:cacheprovider $(TESTS)

slow: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "slow and not ray" -n $(JOBS) --dist worksteal $(ARGS)

# Attacks from outside: kills, malformed files, full disks, races, hostile names (docs/reliability.md).
torture: $(STAMP)
	$(BIN)/python -m tests.torture --seconds $(BUDGET) $(ARGS)

check: $(STAMP)
	$(BIN)/ruff check src tests benchmarks docs notebooks
	$(BIN)/ruff format --check src tests benchmarks docs notebooks
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -o addopts= --doctest-modules --import-mode=importlib src
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -o addopts= --doctest-glob='*.md' docs README.md
	$(BIN)/python benchmarks/study_report.py --check

# The site, into site/; a broken link, anchor or reference is an error.
$(DOCS): $(STAMP)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev,docs]'
	@touch $@

docs: $(DOCS)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# Numbers, tables and pictures of README and docs, from results/, without training.
study-report: $(STAMP)
	$(BIN)/python benchmarks/study_report.py

# sdist and wheel, installed and tried outside of the checkout.
package: $(STAMP)
	.ci/package

bench: $(STAMP)
	@ls benchmarks/*.py
	@echo "run one: $(BIN)/python benchmarks/NAME.py --help"

gpu-study: $(STAMP)
	$(BIN)/python benchmarks/gpu_study.py $(ARGS)

# Faults planted in five modules, and whether the tests of their rooms notice them (docs/reliability.md).
mutants: $(STAMP)
	OMP_NUM_THREADS=1 nice -n 10 $(BIN)/python benchmarks/mutants.py $(ARGS)
