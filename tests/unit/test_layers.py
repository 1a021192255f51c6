"""Imports go one way, heavy ones stay where they belong, and SDKs behind their boundary modules."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
LAYERS = ["infra", "ingest", "storage", "processing", "webapp"]
MAY_IMPORT = {layer: set(LAYERS[: i + 1]) for i, layer in enumerate(LAYERS)} | {"dags": {"infra", "storage"}}
# The rooms of each package, from the lowest: a room imports only from those before it.
ROOMS = {
    "infra": "errors options live project settings jars topics spark airflow web services demo commands cli",
    "ingest": "errors event protocols policy delivery convert http tools rejects bench commands",
    "storage": "errors layout hdfs rewrite landed formats exports batches sink audit upkeep bench cli",
    "processing": (
        "errors ranking feature_definitions tables algorithms runtime features events training recommend rehearsal jobs"
        " driver bench commands"
    ),
}
# What the web app may take from processing: pure modules.
PURE = {"processing.ranking"}
BOUNDARIES = {
    "confluent_kafka": {
        "ingest/delivery/publisher.py",
        "ingest/bench/naive.py",
        "storage/sink/consumer.py",
        "storage/sink/schema_topic.py",
        "storage/bench/consume.py",
        "storage/bench/load.py",
    },
    "kafka": {"infra/topics.py", "ingest/tools/tail.py"},
    "hdfs_native": {"storage/hdfs.py"},
    "mlflow": {"processing/runtime/registry.py"},
    "optuna": {"processing/training/search.py"},
    "xgboost": {"processing/training/lambdamart.py"},
    "sqlite3": {"ingest/delivery/spool.py"},
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


def module(file: Path) -> str:
    return ".".join(file.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__")


def imported_modules(file: Path) -> Iterator[str]:
    """Those of our own packages, one name each."""
    for name in imports(file):
        if name.split(".")[0] in LAYERS:
            known = PROJECT.joinpath(*name.split("."))
            yield name if known.with_suffix(".py").is_file() or known.is_dir() else name.rpartition(".")[0]


@pytest.mark.parametrize("package", ROOMS)
def test_a_room_imports_only_from_those_below_it(package: str) -> None:
    rooms = ROOMS[package].split()
    for file in modules(package):
        if file.parent == PROJECT / package and file.name == "__init__.py":
            continue
        own = module(file).split(".")[1]
        assert own in rooms, f"{file} is in no room"
        for used in imported_modules(file):
            there, _, room = used.partition(".")
            if there == package and room:
                assert rooms.index(room.split(".")[0]) <= rooms.index(own), f"{file} imports {used}"


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {module(file): {*imported_modules(file)} for package in LAYERS for file in modules(package)}
    order = [*TopologicalSorter(graph).static_order()]  # raises CycleError with the circle
    assert len(order) >= len(graph) > 200


@pytest.mark.parametrize("package", ["infra", "ingest", "storage", "webapp", "dags"])
def test_only_processing_imports_pyspark(package: str) -> None:
    for file in modules(package):
        allowed = file.relative_to(PROJECT).as_posix() == "infra/spark/submit.py"  # asks where spark-submit is
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
        *("infra/settings/load.py", "infra/services/cluster.py", "infra/web/serving.py"),
        *("processing/bench/local_spark.py", "processing/runtime/registry.py"),
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
