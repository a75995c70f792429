# Two commands do everything: `make campaign` and `make test`. The rest is for people who develop flowprov.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# The tests start thousands of interpreters: each module is compiled once, when it is first imported, and kept. For the
# same reason the package is installed by a line with its path (editable_mode=compat) and not by a finder, which takes
# longer to load than an interpreter takes to start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: campaign test lint types tests docs dist extras gpu servers tools mlflow standards sinks-matrix dask-matrix python-matrix faults soak benchmark read-sizes dask-scale clean

campaign: $(READY)  ## environment, install, the nine steps, a recorded tree, what won and what to type next
	$(BIN)/python examples/llm_campaign/ladder.py

test: lint types tests  ## environment, install, lint, types, tests

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

# Three processes share the tests, file by file: servers and clusters of a file are started once. A third of the time
# of a test is waiting for other processes, so there is one more than the cores of a small machine. WORKERS=0 takes one.
WORKERS ?= 3
tests: $(READY) servers
	$(BIN)/pytest -q -m "not soak and not gpu" -n $(WORKERS) --dist loadfile --no-loadscope-reorder

docs: $(READY)  ## the documentation as a site, in docs/_build; a warning is an error
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build

# The same commit gives the same bytes: times are those of the commit, and setuptools, which does not sort its archive of
# sources, is helped out.
dist: $(READY)  ## wheel, sources and a bill of materials, in dist
	@set -e; rm -rf dist; export SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct); \
	$(BIN)/python -m build -q -o dist . >/dev/null; \
	place=$$(mktemp -d); trap 'rm -rf "$$place"' EXIT; \
	sources=$$(ls dist/*.tar.gz); tar xzf "$$sources" -C "$$place"; \
	tar --sort=name --mtime="@$$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --mode=go=rX,u+rw -C "$$place" \
	  -cf - "$$(basename "$$sources" .tar.gz)" | gzip -n9 >"$$place/sources.gz" && cp "$$place/sources.gz" "$$sources"; \
	$(PYTHON) -m venv "$$place/bare" && "$$place/bare/bin/pip" install -q --disable-pip-version-check dist/*.whl; \
	$(PYTHON) -m venv "$$place/tool" && "$$place/tool/bin/pip" install -q --disable-pip-version-check "cyclonedx-bom>=7"; \
	"$$place/tool/bin/cyclonedx-py" environment --output-reproducible --pyproject pyproject.toml -o dist/flowprov.cdx.json \
	  "$$place/bare/bin/python" >/dev/null 2>&1; \
	(cd dist && sha256sum *)

# EXTRAS chooses among them: make extras EXTRAS="dask query". Many bring torch: all together are gigabytes, and take half an hour.
extras: $(READY) servers  ## the wheel and each of its extras, installed and used in environments that are thrown away
	$(BIN)/python -m tests.extras $(EXTRAS)

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

soak: $(READY) servers tools mlflow standards  ## the tests that take long: kills, fuzzing, memory, what torch lacks
	$(BIN)/pytest -q -m soak

tools: .tools/.ready  ## what tests run in an environment of its own: Dagster, papermill, DVC, Hydra, Ignite, skorch

.tools/.ready: Makefile
	@($(PYTHON) -m venv .tools && .tools/bin/pip install -q --no-compile --disable-pip-version-check \
	  -e ".[torch,pandas,query]" $$(grep '^torch==' constraints.txt) safetensors "dagster>=1.13" dagstermill papermill "dvc>=3" \
	  "hydra-core>=1.3" ipykernel "pytorch-ignite>=0.5" "skorch>=1" && touch $@) || echo "Dagster, papermill and DVC cannot be installed here: their tests will skip"

mlflow: .mlflow/.ready  ## MLflow with its web page (850 MB), in an environment of its own

.mlflow/.ready: Makefile
	@($(PYTHON) -m venv .mlflow && .mlflow/bin/pip install -q --no-compile --disable-pip-version-check \
	  -e ".[pandas,mlflow]" "mlflow>=3.17" && touch $@) || echo "MLflow cannot be installed here: its tests will skip"

standards: .standards/.ready  ## validators of what flowprov exports: of RO-Crate, OpenLineage, CycloneDX and Croissant

.standards/.ready: Makefile
	@($(PYTHON) -m venv .standards && .standards/bin/pip install -q --no-compile --disable-pip-version-check \
	  "rocrate>=0.15" "roc-validator>=0.13,<0.14" "openlineage-python>=1.54" \
	  "cyclonedx-python-lib[json-validation]>=11" "mlcroissant>=1.1" && touch $@) || echo "Validators cannot be installed here: their tests will skip"

benchmark: $(READY) servers  ## what an event costs, beside Flowcept (in an environment of its own) and by itself; delivery; Dask
	$(BIN)/python -m benchmarks.compare
	$(BIN)/python -m benchmarks.alone
	$(BIN)/python -m benchmarks.telemetry
	$(BIN)/python -m benchmarks.delivery
	$(BIN)/python -m benchmarks.dask_scale --tasks 6000 --pairs 6
	$(BIN)/python -m benchmarks.artifacts

read-sizes: $(READY)  ## what answers cost on 10 thousand and 1 million records; docs/explanation/sizes.md
	$(BIN)/python -m benchmarks.read_sizes

dask-scale: $(READY)  ## 100,000 Dask tasks recorded, and what that costs the cluster
	$(BIN)/python -m benchmarks.dask_scale --tasks 100000 --pairs 20

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --no-compile --disable-pip-version-check -c constraints.txt \
	  --config-settings editable_mode=compat -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
