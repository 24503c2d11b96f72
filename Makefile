# make demo   sets up everything, explains a study of phantoms, prints the report's path
# make test   sets up everything, checks the code and runs the tests
# Needs Python 3.10 to 3.13 and make. PYTHON=python3.12 chooses another Python.

PYTHON ?= python3
VENV ?= .venv
# One exact version: figures in the README were measured with it. TORCH="torch==..."
# takes another, for example a build for your GPU.
TORCH ?= torch==2.13.0
# Tests of timm's networks and of Score-CAM beside grad-cam. Without what they depend on:
# torchvision would bring its own torch.
BESIDE_TORCH ?= "timm>=1.0" torchvision==0.28.0 grad-cam ttach
DEMO_OUT ?= demo
# A process per core, so one thread in each: more of them wait for each other. Tests of one
# group share a running server and go to one process.
PYTEST_ARGS ?= -n auto --dist loadgroup

BIN := $(VENV)/bin

.PHONY: demo test lint format benchmark classifiers screenshots clean

demo: $(VENV)/.installed
	$(BIN)/saliency-explain demo --out $(DEMO_OUT)

test: lint $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark: $(VENV)/.installed-test
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m Testing.benchmarks.speed --images random real
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m Testing.benchmarks.click_speed
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m Testing.benchmarks.coarse_to_fine
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m Testing.benchmarks.engine_overhead
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
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(BESIDE_TORCH)
	touch $@

clean:
	rm -rf $(VENV) $(DEMO_OUT) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
