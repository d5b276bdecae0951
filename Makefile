# Two commands do everything: make demo, make test. They need Linux, Python 3.11 with venv, and make.
PYTHON ?= python3.11
BIN := .venv/bin
INSTALLED := .venv/.installed

# Threads that spin while they wait slow every other program on the same cores, a second test run above all.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: setup demo smoke test test-all check up down ui clean

# Verifying the assets takes a fraction of a second; fetching happens where one is missing or damaged.
setup: $(INSTALLED)
	@$(BIN)/python -m storage.assets

$(INSTALLED): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) is not there; install it, or name another: make PYTHON=python3.12" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[dev,serving]'
	@touch $@

demo: setup
	$(BIN)/thinkrec run --preset quickstart

smoke: setup
	$(BIN)/thinkrec run --preset smoke

# Two processes: the smoke run alone takes half of the time. Files stay whole, since their tests share what they set up.
test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-all: setup
	$(BIN)/python -m pytest -m ''

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

up: setup
	$(BIN)/thinkrec up

ui: setup
	$(BIN)/thinkrec ui

down: setup
	$(BIN)/thinkrec down

# What was installed and cached by tools; the store .thinkrec with its trained adapters stays.
clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
