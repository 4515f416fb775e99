# make demo [ARGS=...]   run the demonstration
# make test [JOBS=2]     every check: lint, then the tests, in as many processes as there are cores
# make test-fast         the tests that take no time, without lint
# make lint              style, types and layers
# make format            put style right, as far as a program can
# make docs              build the site into build/site
# make dist              build wheel and sdist into dist, and check them
#
# Each makes .venv first if it is missing or out of date. PYTHON names another interpreter; PIP_ARGS goes to
# every pip install, such as PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu".

.PHONY: demo test test-fast lint format docs dist
.DELETE_ON_ERROR:

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt $(PIP_ARGS)
PYTHON ?=
JOBS ?= auto

demo: .venv/.ready
	$(BIN)/idemvox demo $(ARGS)

test: lint
	$(BIN)/python -m pytest --numprocesses $(JOBS) --maxprocesses 8 --dist loadfile
	@echo "all checks passed"

test-fast: .venv/.ready
	$(BIN)/python -m pytest -q -m "not slow" $(ARGS)

format: .venv/.ready
	$(BIN)/ruff check --fix --exit-zero --quiet .
	$(BIN)/ruff format .

docs: .venv/.ready
	$(BIN)/mkdocs build --clean
	@echo "the site is in build/site: open build/site/index.html, or run '$(BIN)/mkdocs serve'"

dist: .venv/.ready
	rm -rf dist
	$(BIN)/python -m hatchling build --directory dist
	$(BIN)/twine check --strict dist/*

lint: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict src
	$(BIN)/lint-imports

.venv/.ready: pyproject.toml constraints.txt
	@for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python3.14); do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found="$$python"; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "idemvox needs Python 3.11 or newer: install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; \
	  exit 1; \
	fi; \
	echo "setting up .venv with $$found (once; some minutes)"; \
	$(BIN)/python -m pip --version >/dev/null 2>&1 || "$$found" -m venv --clear .venv
	$(PIP) hatchling editables
	$(PIP) --no-build-isolation --editable '.[dev]'
	@touch $@
