# Two commands for a fresh clone: `make demo` prunes the shipped recogniser on real speech, `make test` runs the tests;
# `make quick` runs those of one family that take no long time.
# pip and not another installer: it takes the CPU build of torch where one is at hand.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test quick lint bare clean

demo: $(VENV)/ready
	$(BIN)/python benchmarks/demo

test: $(VENV)/ready
	$(BIN)/python -m pytest -n 2 --dist loadgroup

quick: $(VENV)/ready
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not slow" --family parakeet

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

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
