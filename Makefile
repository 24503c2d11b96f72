# make demo   sets up everything, explains a study of phantoms, prints the report's path
# make test   sets up everything, checks the code and runs the tests
# make test-fast   only the tests that are quick and need no server and no browser: three minutes
# Needs Python 3.10 to 3.13 and make. PYTHON=python3.12 chooses another Python.
# What is half made (an interrupted installation, another Python, a moved folder) is mended.

PYTHON ?= python3
VENV ?= .venv
# One exact version: figures in the README were measured with it. TORCH="torch==..."
# takes another, for example a build for your GPU.
TORCH ?= torch==2.13.0
# Tests of timm's networks, of ONNX files and of Score-CAM beside grad-cam. Without what they need:
# torchvision would bring its own torch.
BESIDE_TORCH ?= "timm>=1.0" torchvision==0.28.0 grad-cam ttach "onnx2torch>=1.5.15"
DEMO_OUT ?= demo
# A process per core, so one thread in each: more of them wait for each other. Tests of one
# group share a running server and go to one process. A process that crashes ends the run.
PYTEST_ARGS ?= -n auto --dist loadgroup --max-worker-restart 0 --durations 25

BIN := $(VENV)/bin

# Makes or mends the environment, and says what it does.
ENVIRONMENT := sh .ci/environment $(VENV) "$(PYTHON)" "$(TORCH)"

.PHONY: environment environment-test demo test test-fast lint format benchmark classifiers screenshots clean

demo: environment
	$(BIN)/saliency-explain demo --out $(DEMO_OUT)
	@echo "The command is $(BIN)/saliency-explain; after 'source $(BIN)/activate' it is on the PATH."

test: lint environment-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_ARGS)

test-fast: environment-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_ARGS) \
		-m "not slow and not browser and not server and not benchmark"

lint: environment-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: environment-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark: environment-test
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m Testing.benchmarks.speed --images random real
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m Testing.benchmarks.click_speed
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m Testing.benchmarks.coarse_to_fine
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m Testing.benchmarks.engine_overhead
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m Testing.benchmarks.viewer_speed

classifiers: environment
	$(BIN)/python -m SaliencyExplain.demo.training --out Resources/Classifiers

screenshots: environment-test
	$(BIN)/saliency-explain demo --out $(DEMO_OUT)
	$(BIN)/python Resources/make_screenshots.py $(DEMO_OUT) Resources/Screenshots

environment:
	@$(ENVIRONMENT) $(VENV)/.installed ""

environment-test: environment
	@$(ENVIRONMENT) $(VENV)/.installed-test "[test,lint]" $(BESIDE_TORCH)

clean:
	rm -rf $(VENV) $(DEMO_OUT) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
