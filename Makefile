# make demo   installs into .venv and searches for a Jetson on the embedded faces
# make test   installs what tests need and runs them all
# make lint   ruff and mypy

PYTHON ?= python3
VENV ?= .venv
DEMO ?= --target jetson
PYTESTFLAGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))

.PHONY: help demo test lint clean
help:
	@sed -n 's/^# //p' Makefile

demo: $(VENV)/.installed
	$(BIN)/nas search $(DEMO)

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest $(PYTESTFLAGS)

lint: $(VENV)/.installed-lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis

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
