# make demo    trains Growing Q-Networks on walker-walk and says where the results lie
# make test    the test suite; PYTHON=python3.12 VENV=.venv-3.12 for another interpreter
# make test-rliable  the statistics beside rliable, in an environment of their own
# make lint    style and formatting;  make types  static types;  make clean  all but runs/ goes

PYTHON ?= python3
VENV ?= .venv
DEMO_OPTIONS ?= --steps 120_000 --learning-rate 3e-4 --out runs/demo --overwrite
PYTEST_OPTIONS ?= -n 2 --dist loadfile

BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test test-rliable lint types clean

demo: $(INSTALLED)
	$(BIN)/jaxrl train gqn walker-walk $(DEMO_OPTIONS)

test: $(INSTALLED)
	$(BIN)/python -m pytest $(PYTEST_OPTIONS)

# Statistics beside rliable, in an environment of its own with the old versions that it needs.
test-rliable:
	PYTHON=$(PYTHON) tools/check_rliable.sh

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

# Again only when the pins or the metadata have changed. The package goes in last, editable and
# with its build tool from the pins, so that nothing outside of them is installed.
$(INSTALLED): requirements.lock pyproject.toml
	@echo "Installing requirements.lock into $(VENV), which takes a while and says nothing ..."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

clean:
	rm -rf .venv .venv-* build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
