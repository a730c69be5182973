# Everything a contributor runs. Needs Python 3.11 or newer, git and make; the rest goes into .venv.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
OPENED := .venv/.dashboard
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check
PORT ?= 8501
SEED ?= 0
COUNT ?= 20000

.PHONY: help setup run check test coverage load fuzz bench format clean

# Format, lint, types and imports. mypy keeps what it knows in .mypy_cache: 30 s of CPU time the first
# time, then seconds.
define STATIC
$(BIN)/ruff format --check .
$(BIN)/ruff check .
$(BIN)/mypy --num-workers 2
$(BIN)/lint-imports --no-logo
endef

help: ## list these targets (the default)
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-8s %s\n", $$1, $$2}' Makefile

setup: $(STAMP) ## make .venv and install sparsecost with its development tools (or PYTHON=python3.12)

define VENV
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; try make PYTHON=python3.12 with the same target")'
$(PYTHON) -m venv .venv
$(INSTALL) 'pip>=25.1'
endef

$(STAMP): pyproject.toml
	$(VENV)
	@echo "Installing all of sparsecost and its development tools into .venv: 1.7 GB, some minutes"
	$(INSTALL) --editable '.[dashboard,gpu]' --group dev
	@touch $(OPENED) $@

# Without torch and the tools: a third of the size. What `make setup` installs has it all.
$(OPENED): pyproject.toml
	$(VENV)
	@echo "Installing the dashboard into .venv: 0.6 GB, about a minute"
	$(INSTALL) --editable '.[dashboard]'
	@touch $@

run: $(OPENED) ## open the dashboard on localhost, with the shipped recordings (or PORT=8600)
	$(BIN)/sparsecost dashboard --port $(PORT)

check: setup ## format, lint, types, imports and the fast tests, in about two minutes: the inner loop
	$(STATIC)
	$(BIN)/python -m pytest -n auto -m "not slow and not browser and not gpu"

test: setup ## everything that CI runs: also the wheel, the slow tests and those in a browser
	$(STATIC)
	$(BIN)/python -m tests.wheel_smoke
	$(BIN)/python -m pytest -n auto

coverage: setup ## the fast tests again, with the lines and branches of costmodel that they do not reach
	$(BIN)/python -m pytest --cov -n auto -m "not slow and not browser and not gpu"

load: setup ## time the dashboard, press it with 30 users at once, and print how it held
	@missed=0; \
	$(BIN)/python -m tests.browser.targets || missed=1; \
	$(BIN)/python -m tests.load || missed=1; \
	exit $$missed

fuzz: setup ## try 20,000 damaged files, command lines and addresses (or SEED=7 COUNT=100000), then new models
	$(BIN)/python -m tests.fuzz --seed $(SEED) --count $(COUNT)
	$(BIN)/python -m pytest -n auto --hypothesis-profile random --hypothesis-seed $(SEED) tests/costs tests/layers tests/routing

bench: setup ## time the cost model
	$(BIN)/python -m tests.bench

format: setup ## rewrite the code in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove .venv and everything generated
	rm -rf .venv .coverage* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist
	find costmodel reference_model profiler dashboard docs tests -name __pycache__ -type d -prune -exec rm -rf {} +
