# make setup | demo | test | test-pythons | test-interop | check | bench | docs | release
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check install --quiet -c constraints.txt
INTEROP := .venv-saelens

.PHONY: setup setup-dev setup-browser setup-postgresql demo test test-pythons test-interop check bench docs release clean

setup: $(VENV)/.setup
setup-dev: $(VENV)/.setup-dev

$(VENV)/.setup: pyproject.toml constraints.txt
	@echo "Setting up $(VENV) (a minute or two, most of it PyTorch) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) -e .
	@touch $@

$(VENV)/.setup-dev: $(VENV)/.setup
	@$(PIP) -e '.[test,check]'
	@touch $@

# Debian's Chromium for the tests that open the report in a browser, and axe-core (MPL-2.0, a tool of the tests, never shipped), which looks for
# what keeps people from reading a page; tests skip, saying so, without them.
setup-browser: node_modules/axe-core/axe.min.js
	@scripts/system_packages.sh chromium

node_modules/axe-core/axe.min.js:
	@command -v npm >/dev/null 2>&1 && npm install --no-save --no-package-lock --silent axe-core@4.14.1 \
		|| echo "axe-core is not here, so the test that needs it is skipped; install npm, or put axe.min.js into node_modules/axe-core."

# Debian's PostgreSQL for the tests of reviews, which start a server of their own; they skip, saying so, without it.
setup-postgresql:
	@scripts/system_packages.sh postgresql

demo: setup
	$(BIN)/cytosae demo

# Two processes share the files of tests; each computes with one thread, so that they do not stand in each other's way.
test: setup-dev setup-browser setup-postgresql
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

# The quick tests with the newest versions of everything, on each Python that is at hand.
PYTHONS ?= 3.11 3.12 3.13
test-pythons:
	@for v in $(PYTHONS); do \
		command -v python$$v >/dev/null || { echo "python$$v is not here; it is left out."; continue; }; \
		echo "Python $$v:"; test -x .venv-$$v/bin/python || python$$v -m venv .venv-$$v || exit 1; \
		.venv-$$v/bin/pip --disable-pip-version-check install --quiet -e '.[test]' || exit 1; \
		OMP_NUM_THREADS=1 .venv-$$v/bin/python -m pytest -q -m "not slow" -n 2 --dist loadfile || exit 1; \
	done

# sae-lens brings a large stack of its own, so it lives in an environment of its own.
test-interop: setup-dev $(INTEROP)/.setup
	$(BIN)/python -m pytest tests/interop -m interop

$(INTEROP)/.setup: tests/interop/requirements.txt
	@echo "Setting up $(INTEROP) with sae-lens (some minutes) ..."
	@test -x $(INTEROP)/bin/python || $(PYTHON) -m venv $(INTEROP)
	@$(INTEROP)/bin/pip --disable-pip-version-check install --quiet -r tests/interop/requirements.txt
	@touch $@

check: setup-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	@echo "Every public symbol has a known type:"
	@VIRTUAL_ENV=$(VENV) PATH="$(CURDIR)/$(BIN):$$PATH" pyright --verifytypes cytosae --ignoreexternal >$(VENV)/types.log \
		|| { cat $(VENV)/types.log; exit 1; }
	@grep "completeness score" $(VENV)/types.log

bench: setup-dev
	$(BIN)/python benchmarks/extraction.py
	$(BIN)/python benchmarks/reading.py
	$(BIN)/python benchmarks/training.py --all
	$(BIN)/python benchmarks/recipes.py

docs: setup
	@$(PIP) -e '.[docs]'
	$(BIN)/mkdocs build --strict

# The wheel is the same at every build of the same commit; beside it stands what it is made of (CycloneDX).
release: setup-dev
	rm -rf dist
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/python -m hatchling build -t wheel -t sdist
	$(BIN)/python scripts/bill_of_materials.py dist/cytosae.cdx.json explorer onnx postgres

clean:
	rm -rf $(VENV) $(INTEROP) .venv-peers .venv-peers-quality $(PYTHONS:%=.venv-%) site runs dist
