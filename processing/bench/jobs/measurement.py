"""The jobs that everything rests on, by spark-submit, on synthetic events that lie on HDFS as the sink leaves them.

Each is a program of its own, measured from its start; what it counts must be what was landed. Beside it the same
sessions are made by DuckDB, the honest peer on a single machine, and by Spark from the same Parquet files.
"""

from __future__ import annotations

import json
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from infra.errors import ServiceError
from infra.jars.jvm import java_home
from infra.settings import Settings
from infra.spark import submit
from processing.bench.jobs import landed
from storage.bench.measure import Processes, Program, measure
from storage.hdfs import Hdfs

JOBS = ("curate_events", "build_sessions", "build_features")
Progress = Callable[[str], None]
_BATCH = "bench"
START = 1_000  # events: a job on so few takes hardly longer than on none


def run(
    settings: Settings, sizes: Sequence[int], old_sessions: int, memory: str, seed: int, progress: Progress
) -> dict[str, Any]:
    """Facts for each number of events. Raises ServiceError where a job fails or does not count what was landed.

    What the jobs take of START events is taken for their start, which the rates after the start leave out.
    """
    start = _one(settings, START, memory, seed, progress)
    results = [_one(settings, events, memory, seed, progress) for events in sizes]
    for result in results:
        after = _seconds(result) - _seconds(start)
        result["events_per_second_after_start"] = result["events"] / after if after > 0 else None
    return {
        "start_seconds": _seconds(start),
        "results": results,
        "old_sessions": _beside_old(settings, old_sessions, memory, progress) if old_sessions else None,
        "rate_of_last_to_first": _ratio([result["events_per_second"] for result in results]),
        "rate_of_last_to_first_after_start": _ratio([result["events_per_second_after_start"] for result in results]),
    }


def _seconds(result: dict[str, Any]) -> float:
    return float(sum(job["seconds"] for job in result["jobs"].values()))


def _ratio(rates: Sequence[float | None]) -> float | None:
    return rates[-1] / rates[0] if rates[-1] and rates[0] else None


def _one(settings: Settings, events: int, memory: str, seed: int, progress: Progress) -> dict[str, Any]:
    with _own(settings) as own, tempfile.TemporaryDirectory() as folder:
        progress(f"landing {events:,} events")
        landed.land(own, _BATCH, events, seed)
        jobs = {}
        for name in JOBS:
            progress(f"{name} of {events:,} events")
            jobs[name] = _measured(own, Path(folder), name, [submit.job_file(name), "--batch", _BATCH], memory)
            progress(f"{name}: {jobs[name]['seconds']:.0f} s, {jobs[name]['peak_bytes'] / 1e9:.2f} GB")
        if (curated := jobs["curate_events"]["facts"]["curated"]) != events:
            raise ServiceError("curate_events", f"curated {curated:,} of {events:,} events")
        result = {"events": events, "jobs": jobs, "peak_bytes": max(job["peak_bytes"] for job in jobs.values())}
        result["events_per_second"] = events / _seconds(result)
        if events > START:
            result["sessions"] = _peers(own, Path(folder), memory, jobs["build_sessions"]["facts"])
        return result


def _beside_old(settings: Settings, count: int, memory: str, progress: Progress) -> dict[str, Any]:
    """Seconds of build_sessions of a few events, beside `none` and beside `old` sessions, so many."""
    progress(f"build_sessions of a few events beside {count:,} old sessions")
    script = str(Path(__file__).with_name("old_sessions.py"))
    with _own(settings) as own, tempfile.TemporaryDirectory() as folder:
        found: dict[str, Any] = _measured(own, Path(folder), "old_sessions", [script, str(count)], memory)["facts"]
    return found | {"sessions": count}


def _peers(own: Settings, folder: Path, memory: str, wanted: dict[str, Any]) -> dict[str, Any]:
    """Each one's seconds for the same sessions from the same files. Raises ServiceError where they differ."""
    gap = str(own.processing.session_gap_minutes)
    events = folder / "events"
    script = str(Path(__file__).with_name("spark_sessions.py"))
    arguments = [script, "clickstream.db.events", events.as_uri(), (folder / "spark").as_uri(), gap]
    found = {"spark": _measured(own, folder, "spark_sessions", arguments, memory)["facts"]}
    if find_spec("duckdb") is not None:
        command = [
            sys.executable,
            "-m",
            "processing.bench.jobs.duckdb_sessions",
            str(events),
            str(folder / "d.parquet"),
            gap,
        ]
        program = Program(command, _environment(own), ends=True)
        cost, facts = _run("duckdb_sessions", program, folder)
        found["duckdb"] = facts | {"peak_bytes": cost["peak_bytes"]}
    counts = {name: of["sessions"] for name, of in found.items()} | {"job": wanted["sessions"]}
    if len(set(counts.values())) > 1:
        raise ServiceError("bench", f"not the same number of sessions: {counts}")
    return found


def _measured(own: Settings, folder: Path, name: str, arguments: Sequence[str], memory: str) -> dict[str, Any]:
    warehouse = f"{own.hdfs.address}{own.hdfs.root}/warehouse"
    conf = {
        "spark.sql.catalog.clickstream.warehouse": warehouse,
        "spark.local.dir": str(folder),
        "spark.driver.memory": memory,
    }
    options = [part for key, value in conf.items() for part in ("--conf", f"{key}={value}")]
    command = [str(submit.spark_home() / "bin" / "spark-submit"), *options, *arguments]
    cost, facts = _run(name, Program(command, _environment(own), ends=True), folder)
    return cost | {"facts": facts}


def _run(name: str, program: Program, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Cost of a program, and the last line that it prints."""
    lines: list[str] = []

    def read(processes: Processes) -> None:
        lines.extend(line.decode() for line in processes[0].stdout)

    cost, _ = measure(name, [program], folder, read)
    facts: dict[str, Any] = json.loads(next(line for line in reversed(lines) if line.startswith("{")))
    return asdict(cost), facts


def _environment(own: Settings) -> dict[str, str]:
    return own.to_env() | {
        "SPARK_CONF_DIR": str(own.home / "conf" / "spark"),
        "JAVA_HOME": str(java_home(own)),
        "PYSPARK_PYTHON": sys.executable,
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }


@contextmanager
def _own(settings: Settings) -> Iterator[Settings]:
    """A folder of its own on the same HDFS, deleted afterwards; events of any age are fresh enough."""
    hdfs = settings.hdfs.model_copy(update={"root": f"{settings.hdfs.root}-bench-{uuid.uuid4().hex[:8]}"})
    processing = settings.processing.model_copy(update={"freshness_hours": 1e6})
    own = settings.model_copy(update={"hdfs": hdfs, "processing": processing})
    try:
        yield own
    finally:
        Hdfs(own).delete(hdfs.root, recursive=True)
