"""Imports go one way, heavy ones stay where they belong, and SDKs behind their boundary modules."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
LAYERS = ["infra", "ingest", "storage", "processing", "webapp"]
MAY_IMPORT = {layer: set(LAYERS[: i + 1]) for i, layer in enumerate(LAYERS)} | {"dags": {"infra", "storage"}}
# What the web app may take from processing: pure modules.
PURE = {"processing.ranking"}
BOUNDARIES = {
    "confluent_kafka": {
        "ingest/publisher.py",
        "ingest/bench/naive.py",
        "storage/source.py",
        "storage/bench/consume.py",
        "storage/bench/load.py",
    },
    "kafka": {"infra/topics.py", "ingest/tail.py"},
    "hdfs_native": {"storage/hdfs.py"},
    "mlflow": {"processing/registry.py"},
    "optuna": {"processing/training/search.py"},
    "sqlite3": {"ingest/spool.py"},
}


def modules(package: str) -> list[Path]:
    return sorted((PROJECT / package).rglob("*.py"))


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


@cache
def nodes(file: Path) -> list[ast.AST]:
    return list(ast.walk(tree(file)))


def imports(file: Path, top_level_only: bool = False) -> Iterator[str]:
    for node in tree(file).body if top_level_only else nodes(file):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", [*LAYERS, "dags"])
def test_a_package_imports_only_those_below_it(package: str) -> None:
    assert modules(package)
    for file in modules(package):
        used = {name.split(".")[0] for name in imports(file)} & {*LAYERS, "dags", "tests"}
        assert used <= MAY_IMPORT[package], f"{file} imports {used - MAY_IMPORT[package]}"


@pytest.mark.parametrize("package", ["infra", "ingest", "storage", "webapp", "dags"])
def test_only_processing_imports_pyspark(package: str) -> None:
    for file in modules(package):
        allowed = file.relative_to(PROJECT).as_posix() == "infra/submit.py"  # asks where spark-submit is
        assert allowed or not any(name.startswith("pyspark") for name in imports(file)), file


def test_the_web_app_takes_only_pure_modules_from_processing() -> None:
    for file in modules("webapp"):
        for name in imports(file):
            if name.startswith("processing"):
                assert any(name == pure or name.startswith(f"{pure}.") for pure in PURE), f"{file} imports {name}"
    for pure in PURE:
        used = set(imports(PROJECT / (pure.replace(".", "/") + ".py")))
        assert not any(name.split(".")[0] in {"pyspark", "storage", "ingest", "infra"} for name in used)


def test_dags_import_nothing_heavy_at_module_level() -> None:
    for file in modules("dags"):
        heavy = {
            name for name in imports(file, top_level_only=True) if name.split(".")[0] in {"pandas", "numpy", "pyarrow"}
        }
        assert not heavy, f"{file} imports {heavy}"


@pytest.mark.parametrize("sdk", BOUNDARIES)
def test_an_sdk_is_imported_by_its_boundary_module_alone(sdk: str) -> None:
    found = {
        file.relative_to(PROJECT).as_posix()
        for package in [*LAYERS, "dags"]
        for file in modules(package)
        if any(name.split(".")[0] == sdk for name in imports(file))
    }
    assert found == BOUNDARIES[sdk]


def test_only_the_settings_read_the_environment() -> None:
    # The cluster hands its own environment on to the processes that it starts; it takes no setting from it.
    # A server tells prometheus_client there where its workers share their numbers: the library has no other way.
    # Spark's launcher takes Java, its configuration's folder and its interface from there alone. MLflow asks there,
    # when it is imported, whether it may report its use.
    allowed = {
        *("infra/settings.py", "infra/services/cluster.py", "infra/serving.py"),
        *("processing/bench/local_spark.py", "processing/registry.py"),
    }
    found = {
        file.relative_to(PROJECT).as_posix()
        for package in [*LAYERS, "dags"]
        for file in modules(package)
        for node in nodes(file)
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"} and ast.unparse(node.value) == "os"
    }
    assert found <= allowed


def test_the_layer_check_would_notice_a_wrong_import(tmp_path: Path) -> None:
    file = tmp_path / "bad.py"
    file.write_text("def f():\n    from webapp.app import create_app\n")
    assert list(imports(file)) == ["webapp.app.create_app"]
    assert not list(imports(file, top_level_only=True))
