# make demo   installs into .venv and searches for a Jetson on the embedded faces
# make test   installs what tests need and runs them all
# make test-nni   the tests of what NNI does, with NNI, in an environment of its own: it wants older packages
# make lint   ruff and mypy
# make docs   the site, in site/: open site/index.html; needs no network but for the installation

PYTHON ?= python3
VENV ?= .venv
DEMO ?= --target jetson --max-latency 0.5ms
PYTESTFLAGS ?=
WORKERS ?= 2

BIN := $(VENV)/bin
NNI_VENV ?= .venv-nni
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt
NNI_PIP := $(NNI_VENV)/bin/python -m pip install --disable-pip-version-check --quiet -c $(NNI_VENV)/constraints.txt
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))

.PHONY: help demo test test-nni lint docs clean
help:
	@sed -n 's/^# make/make/p' Makefile

demo: $(VENV)/.installed
	$(BIN)/nas search $(DEMO)

# One thread a worker: those of OpenBLAS wait for each other in busy loops, which costs busy cores several times the work.
test: $(VENV)/.installed-test
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(PYTESTFLAGS)

test-nni: $(NNI_VENV)/.installed
	$(NNI_VENV)/bin/python -m pytest $(PYTESTFLAGS) -k nni tests/compression

lint: $(VENV)/.installed-lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict
	$(BIN)/mypy --strict examples
	MYPYPATH=docs $(BIN)/mypy --strict docs/hooks.py

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "site/index.html is written; with its search: $(BIN)/python -m http.server -d site"

clean:
	rm -rf site $(VENV) $(NNI_VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/.created:
	@$(PYTHON) -c '$(NEW_ENOUGH)' || { echo "Python must be 3.11 or newer, but $(PYTHON) is not; type: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	touch $@

# torch goes first and at its exact version: a range would fetch gigabytes of another build.
$(VENV)/.installed: $(VENV)/.created constraints.txt pyproject.toml Makefile
	$(PIP) torch
	$(PIP) -e '.[dashboard]'
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) -e '.[dashboard,test]'
	touch $@

$(VENV)/.installed-lint: $(VENV)/.installed
	$(PIP) -e '.[dashboard,images,lint]'
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(PIP) -e '.[dashboard,docs]'
	touch $@

$(NNI_VENV)/.installed: constraints.txt constraints-nni.txt pyproject.toml Makefile
	@$(PYTHON) -c '$(NEW_ENOUGH)' || { echo "Python must be 3.11 or newer, but $(PYTHON) is not" >&2; exit 2; }
	$(PYTHON) -m venv $(NNI_VENV)
	grep -v '^filelock==' constraints.txt | cat - constraints-nni.txt > $(NNI_VENV)/constraints.txt
	$(NNI_PIP) torch
	$(NNI_PIP) -e '.[nni,test]'
	touch $@
