# Two commands do all the set-up: make demo, make test. Both need Python 3.11 and nothing else.
PYTHON ?= python3.11
BIN := .venv/bin
STAMP := .venv/.installed
ASSETS := .venv/.assets

.PHONY: setup demo smoke test test-all check up down ui clean

setup: $(STAMP) $(ASSETS)

# Reinstalls only when the pins or the package change.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev,serving]'
	touch $@

$(ASSETS): $(STAMP) storage/assets.py storage/assets_convert.py
	$(BIN)/python -m storage.assets
	touch $@

demo: setup
	$(BIN)/thinkrec run --preset quickstart

smoke: setup
	$(BIN)/thinkrec run --preset smoke

test: setup
	$(BIN)/python -m pytest

test-all: setup
	$(BIN)/python -m pytest -m ''

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

up: setup
	$(BIN)/thinkrec up

down:
	$(BIN)/thinkrec down

ui: setup
	$(BIN)/thinkrec ui

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache
