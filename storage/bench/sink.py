"""Measures the sink beside plain consumption and Spark: the same topic and the same HDFS, in turns within one run.

Each turn is a program with a consumer group and a folder of its own, measured from its start. Its output is read back
and must be exactly the events that were produced. Topics and folders are deleted afterwards.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from infra.settings import Settings
from infra.topics import temporary_topics
from storage.bench import contestants, load
from storage.bench.contestants import Contestant, Task
from storage.bench.scratch import folder_of, own_settings, with_topic
from storage.formats import FORMATS

Progress = Callable[[str], None]
Turns = dict[str, list[dict[str, Any]]]

LIMIT = "limit"
PEER = {turn: f"spark_{name}" for name in FORMATS for turn in (name, f"{name}_two_processes")}


def run(
    settings: Settings, events: int, partitions: int, rounds: int, peers: bool, progress: Progress
) -> dict[str, Any]:
    """Facts of a whole run. Raises ServiceError if a program fails, or its output is not what was produced."""
    progress("looking for what takes part")
    playing, skipped = _contestants(settings, peers)
    turns: Turns = {}
    with tempfile.TemporaryDirectory() as home:
        own = own_settings(settings, Path(home), partitions)
        json_settings = with_topic(own, f"{own.kafka.topic}-json") if _takes_json(playing) else None
        json_topics = temporary_topics(json_settings) if json_settings else nullcontext()
        with temporary_topics(own), json_topics, folder_of(own):
            progress(f"producing {events:,} events")
            json_topic = json_settings.kafka.topic if json_settings else ""
            task = Task(own, json_topic, load.produce(own, events, json_topic))
            for number in range(1, rounds + 1):
                for name, contestant in playing.items():
                    progress(f"{name}, round {number} of {rounds}")
                    turns.setdefault(name, []).append(contestant(task, f"{name}-{number}"))
    return {
        "events": events,
        "partitions": partitions,
        "rounds": rounds,
        "cores": os.cpu_count(),
        "results": compare(turns, events),
        "skipped": skipped,
    }


def compare(turns: Mapping[str, Sequence[Mapping[str, Any]]], events: int) -> dict[str, dict[str, Any]]:
    """Medians over the rounds, and the ratios of their rates to the limit's and to Spark's for the same format."""
    results = {name: _medians(rounds, events) for name, rounds in turns.items()}
    for name, result in results.items():
        rate, limit, peer = result["events_per_second"], results.get(LIMIT), results.get(PEER.get(name, ""))
        result["to_limit"] = round(rate / limit["events_per_second"], 3) if limit else None
        result["to_spark"] = round(rate / peer["events_per_second"], 2) if peer else None
        result["cpu_to_spark"] = round(result["cpu_seconds"] / peer["cpu_seconds"], 3) if peer else None
    return results


def _medians(rounds: Sequence[Mapping[str, Any]], events: int) -> dict[str, Any]:
    def median(name: str) -> float:
        return float(statistics.median(turn[name] for turn in rounds))

    last = rounds[-1]
    return {
        "events_per_second": round(statistics.median(events / turn["seconds"] for turn in rounds)),
        "cpu_seconds": round(median("cpu_seconds"), 2),
        "peak_mb": round(max(turn["peak_bytes"] for turn in rounds) / 1e6),
        "files": last.get("files"),
        "mb": round(last["bytes"] / 1e6) if "bytes" in last else None,
        "exact": last.get("exact"),
        "shares": last.get("shares"),
        "rounds": [dict(turn) for turn in rounds],
    }


def _takes_json(playing: Collection[str]) -> bool:
    """Whether Spark writes a columnar format: from JSON, which needs a topic of its own."""
    return any(f"spark_{name}" in playing and FORMATS[name].columnar for name in FORMATS)


def _contestants(settings: Settings, peers: bool) -> tuple[dict[str, Contestant], dict[str, str]]:
    """The contestants in order, and the reason of each that can't take part."""
    no_spark = contestants.missing_spark(settings) if peers else "left out (--peer none)"
    all_: list[tuple[str, Contestant, str]] = [(LIMIT, contestants.consume, "")]
    for name in FORMATS:
        missing = contestants.missing_format(name)
        all_ += [
            (name, contestants.sink(name), missing),
            (f"{name}_two_processes", contestants.sink(name, 2), missing),
        ]
    all_ += [(f"spark_{name}", contestants.spark(name), no_spark) for name in FORMATS]
    playing = {name: contestant for name, contestant, reason in all_ if not reason}
    return playing, {name: reason for name, _, reason in all_ if reason}
