# `make setup` prepares .venv for everything; the other targets call it where it is needed.
PYTHON ?= python3
BIN := .venv/bin
PACKAGES := components diffusion pipeline registry runtime services training

.PHONY: help setup test check fix

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

setup: .venv/.complete ## everything for development, in .venv

.venv/.complete: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

test: .venv/.complete ## set up what is missing and run all tests
	$(BIN)/pytest

check: .venv/.complete ## format, lint, types, layers and the quick tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(addprefix -p ,$(PACKAGES))
	$(BIN)/mypy ray_app.py
	$(BIN)/mypy tests
	$(BIN)/lint-imports
	$(BIN)/pytest -m 'not slow'

fix: .venv/.complete ## format, and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
