# Every target builds its own .venv; a second call with nothing changed costs nothing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# one place of compiled kernels for the demo, the tests and the workers, with a directory for each state of the sources
# (service/jobs/kernel_cache.py); one BLAS thread: the matrices are small
export NUMBA_CACHE_DIR ?= $(CURDIR)/.numba_cache
export OPENBLAS_NUM_THREADS ?= 1

.PHONY: install demo test serve lint docs links reference figures bench peers lock sbom clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=24"
	$(BIN)/python -m pip install --quiet --editable ".[dev,docs]"
	touch $@

demo: install
	$(BIN)/visitcal demo

serve: install
	$(BIN)/visitcal serve

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not long"

# -W: a link or a name that leads nowhere ends the build
docs: install
	$(BIN)/python -m sphinx -W --keep-going -q docs docs/_build
	@echo docs/_build/index.html

links: install
	$(BIN)/python -m sphinx -b linkcheck -q docs docs/_build/links

reference: install
	cd docs && $(CURDIR)/$(BIN)/python -m making.reference
	$(BIN)/python -m visitcal.commands.reference docs/cli.md

figures: install
	cd docs && $(CURDIR)/$(BIN)/python -m making.figures

bench: install
	$(BIN)/python benchmarks/bench_pipeline.py

# beside SExtractor, PSFEx and SCAMP, which apt-get installs where they are missing
peers: install
	$(BIN)/python -m benchmarks.peers --install --readme README.md

# what the image installs, to the byte; the extras are those that settings alone turn on
LOCK := $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate \
	--no-emit-index-url --custom-compile-command "make lock"

lock: install
	$(LOCK) --extra oidc --extra postgres --extra s3 --extra vo pyproject.toml --output-file docker/requirements.lock
	$(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['build-system']['requires'], sep='\n')" \
		| $(LOCK) - --output-file docker/build.lock

# CycloneDX, of an environment that has what the image has
sbom: install
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python build/image
	$(BIN)/uv pip install --quiet --python build/image --require-hashes --only-binary :all: -r docker/requirements.lock
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-file build/sbom.cdx.json \
		build/image/bin/python
	@echo build/sbom.cdx.json

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
