# Two commands matter: `make run` and `make test`. Both work in a fresh clone.

PYTHON ?= python3
# Where pip finds torch alone, for a build with or without CUDA; empty: where pip finds everything else.
TORCH_INDEX_URL ?=
# How often `make faults` injects each fault.
ROUNDS ?= 50

# Where it is set, each of some hundred processes that the tests start would compile all sources anew.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
BIN := $(VENV)/bin
TORCH := $(shell grep '^torch==' constraints.txt)
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PAGES := $(wildcard tests/web/test_page*.py)
COMMANDS := $(filter-out $(PAGES),$(wildcard tests/web/test_*.py)) # no browser

.DEFAULT_GOAL := help
.PHONY: help run test test-engine test-faults test-pages lint format verify faults docs bench image containers resolve clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

run: $(VENV)/installed-run ## install what the service needs and start it
	$(BIN)/ntk serve

test: $(VENV)/installed-dev ## install everything; lint, types, import contracts, all tests, containers
	@scripts/system_packages.sh
	@$(MAKE) --no-print-directory -j 2 lint image
	@$(MAKE) --no-print-directory -j 3 -O test-engine resolve containers # the last two wait for others, mostly
	$(BIN)/pytest -n 3 --dist loadfile tests/service $(COMMANDS) # a server waits, too
	@$(MAKE) --no-print-directory -j 2 -O test-faults test-pages # kills, and browsers: one at a time of each

test-engine: $(VENV)/installed-dev
	$(BIN)/pytest -n auto --dist loadgroup tests/ntkengine tests/test_*.py

test-faults: $(VENV)/installed-dev
	$(BIN)/pytest tests/faults

test-pages: $(VENV)/installed-dev
	$(BIN)/pytest $(PAGES)

lint: $(VENV)/installed-dev ## style, types and import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(VENV)/installed-dev ## rewrite the sources in the house's style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

verify: $(VENV)/installed-dev ## every claimed number, measured; then the long forms of the tests
	$(BIN)/ntk verify
	$(BIN)/pytest -m verify --timeout 3600

faults: $(VENV)/installed-dev ## inject every fault many times, on both databases; print what was lost. ROUNDS=50
	@scripts/system_packages.sh
	NTK_FAULT_ROUNDS=$(ROUNDS) $(BIN)/pytest -m faults --timeout 3600 tests/faults tests/service

docs: $(VENV)/installed-dev ## the documentation as a site, in docs/_build; a warning is an error
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build

bench: $(VENV)/installed-run ## what it costs, beside neural-tangents, and what the service does; BENCH="--quick --only dense"
	@PYTHON=$(PYTHON) scripts/peers.sh || echo "The peers' environment could not be built; measuring ours alone." >&2
	$(BIN)/python -m benchmarks $(BENCH)
	$(BIN)/python -m benchmarks.service

image: $(VENV)/installed-dev
	@PYTHON=$(BIN)/python TORCH_INDEX_URL=$(TORCH_INDEX_URL) scripts/containers.sh --build

containers: $(VENV)/installed-dev ## build the image, run it and docker-compose.yml, and test both; Debian and root
	@PYTHON=$(BIN)/python TORCH_INDEX_URL=$(TORCH_INDEX_URL) scripts/containers.sh

resolve: $(VENV)/installed-dev ## is there a version of everything for each Python that is promised?
	@UV=$(BIN)/uv scripts/resolve.sh

clean: ## remove the environment and every cache
	rm -rf docs/_build docs/jupyter_execute $(VENV) .venv-peers wheels build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch goes first and alone: its index may be another one, and an open range would fetch its largest build.
$(VENV)/torch: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "Python 3.11 or newer is needed; '$(PYTHON)' is $$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "Installing torch, then the rest, into $(VENV): this takes some minutes, the first time." >&2
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) $(if $(TORCH_INDEX_URL),--index-url $(TORCH_INDEX_URL)) $(TORCH)
	@touch $@

$(VENV)/installed-run: $(VENV)/torch pyproject.toml
	$(PIP_INSTALL) -c constraints.txt -e .
	@touch $@

$(VENV)/installed-dev: $(VENV)/torch pyproject.toml
	$(PIP_INSTALL) -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/installed-run
