# Two commands for a fresh clone: `make demo` prunes the shipped recogniser on real speech, `make test` runs the tests;
# `make quick` runs those of one family that take no long time.
# pip and not another installer: it takes the CPU build of torch where one is at hand.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test quick lint docs dist bare clean

demo: $(VENV)/ready
	$(BIN)/python benchmarks/demo

test: $(VENV)/ready
	$(BIN)/python -m pytest -n 2

quick: $(VENV)/ready
	$(BIN)/python -m pytest -n 2 -m "not slow" --family parakeet

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/ready
	$(BIN)/pip install --quiet "zensical>=0.0.70"
	$(BIN)/zensical build --config-file mkdocs.yml --strict --clean
	@echo "build/site/index.html"

# Wheel and sdist, each installed into an environment of its own.
dist: $(VENV)/ready
	rm -rf build/dist build/dist-env && mkdir -p build/dist
	$(BIN)/pip install --quiet build
	$(BIN)/python -m build --outdir build/dist > build/dist/build.log
	for package in build/dist/*.whl build/dist/*.tar.gz; do \
	  $(PYTHON) -m venv --clear build/dist-env && \
	  build/dist-env/bin/pip install --quiet "torch>=2.9,<2.14" && \
	  build/dist-env/bin/pip install --quiet "$$package" && \
	  build/dist-env/bin/trimbre --version && \
	  build/dist-env/bin/python -c "import trimbre; [getattr(trimbre, name) for name in trimbre.__all__]" || exit 1; \
	done

# Both commands above in a Debian 12 with nothing installed; needs root and debootstrap.
bare:
	.ci/bare

$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet "torch>=2.9,<2.14"
	$(BIN)/pip install --quiet --editable ".[all]"
	touch $@

clean:
	rm -rf $(VENV) demo build
