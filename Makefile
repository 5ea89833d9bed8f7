# `make run` installs what serving needs, the other targets what development needs, each where it is missing.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup run test check lint quick fix bench docs manifests

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

setup: .venv/.complete ## everything for development, in .venv

# an older Python would fail later, and leave a .venv that a newer one cannot repair
ENVIRONMENT = $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")' \
	&& $(PYTHON) -m venv .venv

.venv/.complete: pyproject.toml constraints.txt
	$(ENVIRONMENT)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch .venv/.serving $@

.venv/.serving: pyproject.toml constraints.txt
	$(ENVIRONMENT)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

run: .venv/.serving ## set up what serving needs and serve the bundled model on port 8000
	$(BIN)/python ray_app.py $(ARGS)

# what starts clusters, servers or other runs of its own; the other slow tests share the cores as the quick ones do
ALONE := tests/benchmarks tests/k8s tests/services

test: quick ## set up what is missing and run all tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -m slow $(ALONE:%=--ignore=%) --numprocesses auto --dist loadfile
	$(BIN)/pytest -m slow $(ALONE)

check: lint quick ## what to run before every commit

lint: .venv/.complete ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# every core has a process of its own: more threads of one would only wait for each other
quick: .venv/.complete ## the quick tests, on all cores
	OMP_NUM_THREADS=1 $(BIN)/pytest -m 'not slow' --numprocesses auto

fix: .venv/.complete ## format, and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/.complete ## measure the served bundle and the denoising engine, ten minutes
	$(BIN)/python -m benchmarks

docs: .venv/.complete ## write the pages that are made from the code
	$(BIN)/python -m services.reference docs/settings.md
	$(BIN)/python -m services.ingress.reference docs/api.md
	$(BIN)/python -m services.metrics.reference docs/metrics.md
	$(BIN)/python -m diffusion.samplers.reference docs/samplers.md
	$(BIN)/python -m pipeline.tasks.reference docs/tasks.md

manifests: .venv/.complete ## write the Serve configs of k8s/ from their graph.yaml
	for overlay in cpu gpu; do \
		$(BIN)/python -m services.config k8s/overlays/$$overlay/graph.yaml --rayservice latentworks \
			> k8s/overlays/$$overlay/serve-config.yaml || exit 1; \
	done
