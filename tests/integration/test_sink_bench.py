"""The sink's bench on real servers, small and without peers."""

from __future__ import annotations

from infra import topics
from infra.settings import Settings
from storage.bench.sink import run
from storage.hdfs import Hdfs

EVENTS = 20_000


def test_a_run_lands_exactly_what_was_produced_and_leaves_nothing_behind(cluster_settings: Settings) -> None:
    steps: list[str] = []
    facts = run(cluster_settings, EVENTS, partitions=4, rounds=1, peers=False, progress=steps.append)
    results = facts["results"]
    assert {"limit", "avro", "avro_two_processes"} <= set(results)
    assert set(results) | set(facts["skipped"]) >= {"parquet", "spark_avro", "spark_parquet"}
    for name, seen in results.items():
        assert seen["events_per_second"] > 0
        assert seen["peak_mb"] > 0
        if name != "limit":
            assert seen["exact"]
            assert sum(seen["shares"]) == EVENTS
            assert seen["files"] >= 4
    assert f"producing {EVENTS:,} events" in steps
    with topics.admin(cluster_settings) as client:
        assert not [topic for topic in client.list_topics() if topic.startswith("bench-")]
    assert not [name for name in Hdfs(cluster_settings).names(cluster_settings.hdfs.root) if name.startswith("bench-")]
