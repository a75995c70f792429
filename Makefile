# Two commands do everything: `make campaign` and `make test`. The rest is for people who develop flowprov.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# The tests start thousands of interpreters: each module is compiled once, when it is first imported, and kept.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: campaign test lint types tests gpu servers sinks-matrix dask-matrix python-matrix faults soak benchmark read-sizes dask-scale clean

campaign: $(READY)  ## environment, install, the nine steps, a recorded tree, what won and what to type next
	$(BIN)/python examples/llm_campaign/ladder.py

test: lint types tests  ## environment, install, lint, types, tests

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

# Two processes share the tests, file by file: servers and clusters of a file are started once. WORKERS=0 takes one.
WORKERS ?= 2
tests: $(READY) servers
	$(BIN)/pytest -q -m "not soak and not gpu" -n $(WORKERS) --dist loadfile --no-loadscope-reorder

gpu: $(READY)  ## the tests that need an NVIDIA GPU
	$(BIN)/pytest -q -m gpu

servers: $(READY)  ## what the tests of the sinks start, where it can be had; without it they skip and say so
	@command -v redis-server >/dev/null || (apt-get update -qq && apt-get install -y -qq redis-server) >/dev/null 2>&1 \
	  || echo "redis-server cannot be installed here: the tests of Redis will skip"
	@test -x .secantus/bin/secantusd-py || ($(PYTHON) -m venv .secantus \
	  && .secantus/bin/pip install -q --no-compile --disable-pip-version-check SecantusDB==0.7.0b3) >/dev/null 2>&1 \
	  || echo "SecantusDB cannot be installed here: the tests of MongoDB will skip"

# The tests of Redis with each redis-py that pyproject.toml allows, in environments that are thrown away.
REDIS_VERSIONS ?= 6 7 8
sinks-matrix:
	@set -e; for version in $(REDIS_VERSIONS); do \
	  place=$$(mktemp -d); trap 'rm -rf "$$place"' EXIT; \
	  $(PYTHON) -m venv $$place; \
	  $$place/bin/pip install -q --disable-pip-version-check "redis==$$version.*" \
	    msgspec PyYAML uuid-utils click stamina pymongo pandas psutil pytest pytest-timeout hypothesis; \
	  $$place/bin/python -c 'import redis; print("redis-py", redis.__version__)'; \
	  PYTHONPATH=$(CURDIR) $$place/bin/python -m pytest -q -p no:cacheprovider tests/sinks -k "redis and not shipping"; \
	  rm -rf $$place; \
	done

# The tests of Dask with each distributed that is promised, in environments that are thrown away; "newest" is what the
# registry has. DASK_TESTS chooses among them: tests/dask/test_every_task.py alone tells whether records = tasks.
DASK_VERSIONS ?= 2024.10 2024.11 2025.1 2025.7 newest
DASK_TESTS ?= tests/dask
dask-matrix:
	@set -e; for version in $(DASK_VERSIONS); do \
	  place=$$(mktemp -d); trap 'rm -rf "$$place"' EXIT; \
	  wanted="==$$version.*"; if [ $$version = newest ]; then wanted=""; fi; \
	  $(PYTHON) -m venv $$place; \
	  $$place/bin/pip install -q --no-compile --disable-pip-version-check "dask[array,dataframe]$$wanted" "distributed$$wanted" \
	    msgspec PyYAML uuid-utils click pytest pytest-timeout hypothesis; \
	  $$place/bin/python -c 'import distributed; print("distributed", distributed.__version__)'; \
	  PYTHONPATH=$(CURDIR) $$place/bin/python -m pytest -q -p no:cacheprovider $(DASK_TESTS); \
	  rm -rf $$place; \
	done

# The tests that need no torch with other Pythons, in places that are thrown away: suites of Debian (trixie has
# Python 3.13, sid 3.14; this needs root and debootstrap), or commands and paths of interpreters that are here.
PYTHONS ?= trixie sid
python-matrix:
	@tests/python_matrix.sh $(PYTHONS)

faults: $(READY) servers  ## every fault of delivery, played and counted; writes docs/explanation/faults.md
	$(BIN)/python -m tests.faults

soak: $(READY) servers  ## the tests that take long: kills, fuzzing, memory, what torch lacks
	$(BIN)/pytest -q -m soak

benchmark: $(READY) servers  ## what an event costs, beside Flowcept (in an environment of its own) and by itself; delivery; Dask
	$(BIN)/python -m benchmarks.compare
	$(BIN)/python -m benchmarks.alone
	$(BIN)/python -m benchmarks.telemetry
	$(BIN)/python -m benchmarks.delivery
	$(BIN)/python -m benchmarks.dask_scale --tasks 6000 --pairs 6

read-sizes: $(READY)  ## what answers cost on 10 thousand and 1 million records; docs/explanation/sizes.md
	$(BIN)/python -m benchmarks.read_sizes

dask-scale: $(READY)  ## 100,000 Dask tasks recorded, and what that costs the cluster
	$(BIN)/python -m benchmarks.dask_scale --tasks 100000 --pairs 20

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --no-compile --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
