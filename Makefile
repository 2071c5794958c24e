# make run     the default run, from nothing: environment, models, dictionaries, report
# make test    all tests
# make check   format, lint, types, workflow lint
# make docs    what the program writes: reference pages, README's figure and tables, the graph of rules, costs of all runs
# make bench   benchmarks, in an environment of their own
# make test-slurm
#              the workflow on a SLURM of one node, started for it; as root, installs packages
# make test-slurm-stress
#              the same SLURM with failing jobs, lost nodes, killed Snakemakes: STRESS=3 of each; long
# make test-faults
#              jobs killed, disks filled, files damaged: FAULTS=2 of each kind; long
# make mutants do the tests notice what is wrong? MODULE="metrics alignment/maps" of them
#
# CORES=8 overrides the number of cores; CONFIG=config/toy-full.yaml chooses another run.

PYTHON ?= python3
CORES ?= $(shell nproc)
CONFIG ?=
VENV := .venv
BIN := $(VENV)/bin
BENCH_VENV := .venv-bench

.DEFAULT_GOAL := help
.PHONY: help env run test test-fast test-slurm test-slurm-stress test-faults mutants check format lock docs bench clean-env

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

env: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python >= 3.11 is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

run: env
	$(BIN)/snakemake --cores $(CORES) --resources gpu=1 $(if $(CONFIG),--configfile $(CONFIG))

test: env
	$(BIN)/python -m pytest -n $(CORES) --dist loadfile

test-fast: env
	$(BIN)/python -m pytest -n $(CORES) --dist loadfile -m 'not slow'

test-slurm: $(VENV)/.installed-slurm
	$(BIN)/python tests/slurm/node.py --packages
	$(BIN)/python -m pytest tests/slurm

test-slurm-stress: $(VENV)/.installed-slurm
	$(BIN)/python tests/slurm/node.py --packages
	STRESS=$(or $(STRESS),3) $(BIN)/python -m pytest tests/slurm/test_stress.py tests/slurm/test_accounting.py

test-faults: env
	FAULTS=$(or $(FAULTS),2) $(BIN)/python -m pytest tests/faults

mutants: env
	$(BIN)/python tests/mutants.py $(MODULE)

$(VENV)/.installed-slurm: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[slurm]'
	touch $@

check: env
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy
	MYPYPATH=src:benchmarks $(BIN)/mypy benchmarks/*.py
	$(BIN)/snakefmt --check Snakefile workflow/Snakefile workflow/rules tests/slurm/Snakefile tests/slurm/stress.smk
	$(BIN)/snakemake --lint

format: env
	$(BIN)/ruff format src tests benchmarks
	$(BIN)/ruff check --fix src tests benchmarks
	$(BIN)/snakefmt Snakefile workflow/Snakefile workflow/rules tests/slurm/Snakefile tests/slurm/stress.smk

# Writes what is installed now as the new pins.
lock: $(VENV)/.installed-slurm
	{ sed -n '/^#/p' constraints.txt; $(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu//'; } > constraints.new
	mv constraints.new constraints.txt

# What is written by the program, without a network: references, the graph of rules, what README shows of the default run's
# committed tables, the table of reruns, and estimates.
docs: env
	for page in configuration cli artefacts claims; do $(BIN)/crossseed reference $$page > docs/$$page.md; done
	set -e; for config in config/*.yaml; do \
	  line=$$($(BIN)/crossseed plan $$config --estimate | grep '^Estimate: '); \
	  sed -i "s|^# Estimate: .*|# $$line|" $$config; \
	done
	$(BIN)/crossseed plan config/*.yaml docs/hypothetical/*.yaml --costs docs/beyond-one-cluster.md
	$(BIN)/snakemake --rulegraph mermaid-js --configfile config/config.yaml > docs/figures/rules.mmd
	$(BIN)/crossseed reference rules < docs/figures/rules.mmd > docs/figures/rules.svg
	rm docs/figures/rules.mmd
	$(BIN)/python tests/rerun.py
	$(BIN)/python benchmarks/answer.py

bench: env $(BENCH_VENV)/.installed
	$(BIN)/python benchmarks/run.py --peer $(BENCH_VENV)/bin/python
	$(BIN)/python benchmarks/page.py

# The peers want versions of their own, so the extra `bench` lives apart from the project's environment, and without the
# project. One of them brings torchvision and does without it; a build for GPUs beside a PyTorch for processors breaks all.
PEERS = $$($(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["bench"])')

$(BENCH_VENV)/.installed: benchmarks/constraints.txt pyproject.toml
	test -x $(BENCH_VENV)/bin/python || $(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c benchmarks/constraints.txt torch==2.13.0
	$(BENCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c benchmarks/constraints.txt $(PEERS)
	$(BENCH_VENV)/bin/python -m pip uninstall --quiet --yes torchvision
	touch $@
