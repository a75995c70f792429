# Two commands do everything: `make campaign` and `make test`. The rest is for people who develop flowprov.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: campaign test lint types tests soak benchmark clean

campaign: $(READY)  ## environment, install, the whole ladder, the recorded tree of its last step
	$(BIN)/python examples/llm_campaign/ladder.py

test: lint types tests  ## environment, install, lint, types, tests

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

tests: $(READY)
	$(BIN)/pytest -q -m "not soak and not gpu"

soak: $(READY)  ## the tests that take many minutes
	$(BIN)/pytest -q -m soak

benchmark: $(READY)  ## what an event costs, beside Flowcept (in an environment of its own) and by itself
	$(BIN)/python benchmarks/compare.py
	$(BIN)/python benchmarks/alone.py

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
