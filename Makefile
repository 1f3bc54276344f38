# make demo | test | check | bench | fuzz | mutants | docs; each sets up .venv first, and only when pyproject.toml or constraints.txt changed.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
BIN := .venv/bin
TEST_WORKERS ?= 2
TESTS ?= tests

# The stamp's name carries the content of what is installed, so a checkout that only touches files reinstalls nothing.
KEY := $(shell cat pyproject.toml constraints.txt | sha256sum | cut -c1-16)
INSTALLED := .venv/installed-$(KEY)
D4RL := .venv/d4rl-1.1
GYM_HIL := .venv/gym-hil-0.1.14
COSMIC_RAY := .venv/cosmic-ray-8.7.0
LINK := .venv/typecheck/benchmarks

# No rendering anywhere in this repository's commands; the default would look for a display.
export MUJOCO_GL := disable
export NO_MKDOCS_2_WARNING := 1

.PHONY: help demo test check bench bench-meta fuzz mutants docs results constraints install chromium

help:
	@echo 'make demo    the whole chain on the maze, from data to a policy that adapts (minutes)'
	@echo 'make test    the tests'
	@echo 'make check   ruff, mypy --strict, import-linter, codespell, documentation build'
	@echo 'make bench   the benchmarks of speed and reliability'
	@echo 'make bench-meta CELL=...  cells of the meta-RL benchmark; SEEDS="0 1 2", and OPTIONS for more'
	@echo 'make fuzz    damaged recordings of every format, read; MUTANTS=20000 LAYOUTS="d4rl zarr"; goes on where it stopped'
	@echo 'make mutants single faults in meta/ and skills/, and whether the tests notice; FILES="meta/trpo.py" SAMPLE=0'
	@echo 'make docs    the documentation, as a site in site/'
	@echo 'make results the tables and plots in README.md and docs/, from docs/results/*.json and the presets'

demo: $(INSTALLED)
	$(BIN)/supple run demo

# One BLAS thread: two test workers share two cores, and sums keep their order.
test: $(INSTALLED) $(D4RL) $(GYM_HIL) | chromium
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/pytest -n $(TEST_WORKERS) --dist loadfile $(TESTS)

check: $(INSTALLED) $(LINK)
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy -p supple -p benchmarks.meta -p benchmarks.policies -p benchmarks.results
	$(BIN)/lint-imports --no-logo
	$(BIN)/codespell
	$(BIN)/mkdocs build --strict --quiet --site-dir site

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks

CELL ?= --list
SEEDS ?= 0
bench-meta: $(INSTALLED)
	$(BIN)/python -m benchmarks.meta $(CELL) --seeds $(SEEDS) $(OPTIONS)

MUTANTS ?= 20000
LAYOUTS ?=
fuzz: $(INSTALLED)
	$(BIN)/python -m benchmarks.fuzz $(LAYOUTS) --mutants $(MUTANTS)

FILES ?=
SAMPLE ?= 40
mutants: $(INSTALLED) $(COSMIC_RAY)
	$(BIN)/python -m benchmarks.mutants $(FILES) --sample $(SAMPLE)

docs: $(INSTALLED)
	$(BIN)/mkdocs build --strict --site-dir site

# After changing docs/results/*.json or a preset.
results: $(INSTALLED)
	$(BIN)/python -m benchmarks.results.pages

install: $(INSTALLED)

$(INSTALLED):
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' || { \
	  echo 'supple needs Python 3.11 or 3.12; name one with: make PYTHON=/path/to/python3.11' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  [ "$$(id -u)" = 0 ] && apt-get update && apt-get install -y python3-venv; } || { \
	  echo 'this Python has no venv module; install it with: sudo apt-get install python3-venv' >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev]'
	rm -f .venv/installed-*
	touch $@

# The report is looked at in a browser. Without one, and without the rights to install it, these tests are skipped.
chromium:
	@command -v chromium chromium-browser google-chrome >/dev/null || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -q && apt-get install -y -q chromium; } || \
	  echo 'no Chromium: tests of the report in a browser are skipped; install it with: sudo apt-get install chromium' >&2

# d4rl is only read by one parity test; its declared dependencies do not install beside a current MuJoCo.
$(D4RL): | $(INSTALLED)
	$(BIN)/python -m pip install --disable-pip-version-check -q --no-deps d4rl==1.1
	touch $@

# Only the model of its Panda is read, by one example; it asks for an older MuJoCo.
$(GYM_HIL): | $(INSTALLED)
	$(BIN)/python -m pip install --disable-pip-version-check -q --no-deps gym-hil==0.1.14
	touch $@

# Only needed to put faults into the learners.
$(COSMIC_RAY): | $(INSTALLED)
	$(BIN)/python -m pip install --disable-pip-version-check -q cosmic-ray==8.7.0
	touch $@

# A type checker finds packages by folder name, and the checkout may have any.
$(LINK): | $(INSTALLED)
	mkdir -p $(@D)
	ln -sfn ../.. $(@D)/supple
	ln -sfn ../../benchmarks $@

# After changing a dependency: make constraints in a fresh .venv, then commit the file.
constraints: $(INSTALLED) $(D4RL) $(GYM_HIL)
	$(BIN)/python -m pip freeze --all --exclude-editable | sed -E '/^pip==/d; s/\+cpu$$//' | LC_ALL=C sort -f > .venv/constraints.new
	mv .venv/constraints.new constraints.txt
