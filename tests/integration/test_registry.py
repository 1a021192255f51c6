"""Champion and challenger in MLflow, on its SQL store: who is in force, what is kept, how to go back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from infra.settings import Settings
from processing import commands
from processing.runtime import code_version
from processing.runtime.registry import NotPromotable, NotShown, Registry, UnknownVersion
from processing.training import comparison, plots
from processing.training.comparison import User
from storage import exports
from storage.errors import Unreachable
from tests.fakes import FakeHdfs

PASSED = {"promoted": True, "checks": [{"name": "better", "passed": True, "detail": "it is"}]}
REFUSED = {"promoted": False, "checks": [{"name": "drift", "passed": False, "detail": "the data moved"}]}
FACTS: dict[str, Any] = {"recipe": {"algorithm": "als", "parameters": {}}, "snapshots": {"events": 7}}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home whose store has its tables, which takes seconds."""
    settings = Settings(home=tmp_path_factory.mktemp("models"))
    assert Registry(settings).versions() == []
    return settings


@pytest.fixture
def registry(made: Settings, tmp_path: Path) -> Registry:
    """An empty store, copied."""
    home = Settings(home=tmp_path)
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow" / "mlflow.db").write_bytes((made.home / "mlflow" / "mlflow.db").read_bytes())
    return Registry(home)


def trained(
    registry: Registry, batch: int, decision: dict[str, object] | None = None, recipe: Any = FACTS["recipe"]
) -> str:
    """The name of a version of that batch, decided upon."""
    name = f"{recipe['algorithm']}-{batch}"
    run_id = registry.run(name, {"batch": str(batch)})
    version = registry.register(run_id, name, batch, f"hdfs://x/models/{batch}", FACTS | {"recipe": recipe})
    if decision is not None:
        registry.decided(version, decision)
    return name


def champion(registry: Registry) -> str | None:
    found = registry.champion()
    return found.name if found else None


def test_who_passes_the_gate_is_champion_and_who_does_not_is_challenger(registry: Registry) -> None:
    trained(registry, 1, PASSED)
    trained(registry, 2, REFUSED)
    assert champion(registry) == "als-1"
    assert registry.get("challenger").name == "als-2"
    assert registry.get("2").decision == REFUSED
    trained(registry, 3, PASSED)
    assert champion(registry) == "als-3"
    assert [version.name for version in registry.versions()] == ["als-3", "als-2", "als-1"]


def test_a_rerun_of_a_batch_finds_its_version_and_changes_nothing(registry: Registry) -> None:
    for batch in (1, 2):
        trained(registry, batch, PASSED)
    before = registry.versions()
    trained(registry, 1, PASSED)
    trained(registry, 2, PASSED)
    assert registry.versions() == before
    assert champion(registry) == "als-2"


def test_rollback_brings_the_predecessor_back_and_a_rerun_does_not_undo_it(registry: Registry) -> None:
    trained(registry, 1, PASSED)
    with pytest.raises(NotPromotable, match="no champion was replaced"):
        registry.rollback()
    trained(registry, 2, PASSED)
    assert registry.rollback().name == champion(registry) == "als-1"
    trained(registry, 2, PASSED)
    assert champion(registry) == "als-1"
    assert registry.promote("als-2").name == champion(registry) == "als-2"


def test_what_was_taken_back_stays_so_until_a_person_promotes_it(registry: Registry) -> None:
    als, ease = FACTS["recipe"], {"algorithm": "ease", "parameters": {}}
    trained(registry, 1, PASSED)
    for batch in (2, 3):
        trained(registry, batch, PASSED, ease)
    assert registry.rollback("als-1").name == champion(registry) == "als-1"
    assert registry.taken_back(4) == [ease, ease] and registry.taken_back(3) == [ease] and registry.taken_back(2) == []
    with pytest.raises(NotPromotable, match="no champion was replaced"):
        registry.rollback()  # what was taken back is no predecessor
    registry.promote("ease-2")
    assert (champion(registry), registry.taken_back(4)) == ("ease-2", [])
    registry.rollback()
    assert (champion(registry), registry.taken_back(4)) == ("als-1", [ease, ease])
    trained(registry, 4, REFUSED, als)
    with pytest.raises(NotPromotable, match="als-4 was no champion"):
        registry.rollback("als-4")


@pytest.fixture
def fs(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHdfs:
    """What commands take for HDFS; the registry is theirs, too."""
    found, settings = FakeHdfs(), Settings(home=tmp_path)
    monkeypatch.setenv("CLICKSTREAM_HOME", str(tmp_path))
    monkeypatch.setattr(commands, "platform", lambda: (settings, found, None))
    return found


def models(*arguments: str) -> None:
    """`clickstream models`; raises what it raised."""
    result = CliRunner().invoke(commands.models, [*arguments, "--json"])
    if result.exception:
        raise result.exception


def test_a_rollback_whose_lists_can_not_be_shown_changes_nothing(
    registry: Registry, fs: FakeHdfs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: str) -> bool:
        raise Unreachable("/", "hdfs://nowhere", "refused")

    for batch in (1, 2, 3):
        trained(registry, batch, PASSED)
    for arguments in ([], ["--to", "als-1"]):
        with pytest.raises(NotPromotable, match="has no lists that could be shown"):
            models("rollback", *arguments)
    with monkeypatch.context() as during:
        during.setattr(FakeHdfs, "exists", away)
        for command in (["rollback"], ["promote", "als-1"]):
            with pytest.raises(Unreachable):
                models(*command)
    assert champion(registry) == "als-3"
    for batch in (1, 2):
        fs.create(exports.report("/clickstream", f"als-{batch}"), [b"{}"], create_parents=True)
    models("rollback")
    assert champion(registry) == exports.read_current(fs, "/clickstream") == "als-2"
    models("rollback", "--to", "als-1")
    assert champion(registry) == exports.read_current(fs, "/clickstream") == "als-1"
    fs.before = away  # type: ignore[assignment]
    with pytest.raises(NotShown, match=r"als-2 is champion, but .*hdfs://nowhere.*`clickstream models promote als-2`"):
        models("rollback", "--to", "als-2")
    fs.before = lambda verb, path: None
    models("promote", "als-2")
    assert champion(registry) == exports.read_current(fs, "/clickstream") == "als-2"


def test_what_the_gate_refused_is_promoted_only_with_a_reason(registry: Registry) -> None:
    trained(registry, 1, PASSED)
    trained(registry, 2, REFUSED)
    trained(registry, 3)
    with pytest.raises(NotPromotable, match="the data moved"):
        registry.promote("2")
    with pytest.raises(NotPromotable, match="never evaluated"):
        registry.promote("als-3")
    assert champion(registry) == "als-1"
    version = registry.promote("challenger", despite="we moved house")
    assert (champion(registry), version.facts["despite"]) == ("als-2", "we moved house")
    with pytest.raises(UnknownVersion, match="als-9"):
        registry.promote("als-9")


def test_a_run_keeps_numbers_documents_and_pictures(registry: Registry, tmp_path: Path) -> None:
    users = [User(str(n), ["a"], "mobile", False, {"ours": ["a"][n % 2 :], "popular": ["b", "a"]}) for n in range(9)]
    results = comparison.compare(users, ["ours", "popular"], {"a": 0.5, "b": 0.5}, 3)
    run_id = registry.run("als-1", {"batch": "1"})
    registry.log(
        run_id,
        parameters={"rank": 16},
        metrics={"ndcg": 0.5, "nobody": None},
        documents={"gate.json": PASSED},
        figures={"metrics.png": plots.metrics(results), "segments.png": plots.segments(results, "ours")},
        tags={"code": code_version.of(Settings(home=tmp_path))},
    )
    found = registry.read_run(run_id)
    assert (found["parameters"], found["metrics"]) == ({"rank": "16"}, {"ndcg": 0.5})
    assert found["tags"]["code"].count("+") == 1
    folder = tmp_path / "mlflow" / "artifacts" / run_id / "artifacts"
    artifacts = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert {"gate.json", "metrics.png", "segments.png"} <= set(artifacts)
    assert artifacts["metrics.png"].startswith(b"\x89PNG") and len(artifacts["segments.png"]) > 5_000


def test_a_champion_of_long_ago_is_found_among_more_versions_than_one_answer_has(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    for batch in range(1, 5):
        trained(registry, batch, PASSED if batch == 1 else REFUSED)
    search = MlflowClient.search_model_versions
    monkeypatch.setattr(
        MlflowClient, "search_model_versions", lambda self, *args, **more: search(self, *args, max_results=2, **more)
    )
    assert champion(registry) == "als-1"
    assert [version.batch for version in registry.versions()] == [4, 3, 2, 1]
