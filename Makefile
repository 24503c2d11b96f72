# make demo   sets up everything, explains a study of phantoms, prints the report's path
# make test   sets up everything, checks the code and runs the tests
# Needs Python 3.10 to 3.13 and make. PYTHON=python3.12 chooses another Python.

PYTHON ?= python3
VENV ?= .venv
# One exact version: figures in the README were measured with it. TORCH="torch==..."
# takes another, for example a build for your GPU.
TORCH ?= torch==2.13.0
DEMO_OUT ?= demo
# A process per core, so one thread in each: more of them wait for each other.
PYTEST_ARGS ?= -n auto

BIN := $(VENV)/bin

.PHONY: demo test test-viewer lint format benchmark classifiers screenshots clean

demo: $(VENV)/.installed
	$(BIN)/saliency-explain demo --out $(DEMO_OUT)

test: lint $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_ARGS) --ignore Testing/viewer

# Apart, with the machine to itself: beside other tests the page was seen to miss an update.
test-viewer: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest Testing/viewer

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark: $(VENV)/.installed-test
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python Testing/benchmarks/attribution_speed.py
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python Testing/benchmarks/occlusion_speed.py
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python Testing/benchmarks/click_speed.py
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python Testing/benchmarks/coarse_to_fine.py
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python Testing/benchmarks/engine_overhead.py
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m Testing.benchmarks.viewer_speed

classifiers: $(VENV)/.installed
	$(BIN)/python -m SaliencyExplain.demo.training --out Resources/Classifiers

screenshots: $(VENV)/.installed-test
	$(BIN)/saliency-explain demo --out $(DEMO_OUT)
	$(BIN)/python Resources/make_screenshots.py $(DEMO_OUT) Resources/Screenshots

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[test,lint]"
	touch $@

clean:
	rm -rf $(VENV) $(DEMO_OUT) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
