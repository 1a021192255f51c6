"""The parts of the settings that are kinds of work: how events are landed, joined, curated and learnt from."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field

from infra.policy import Section
from infra.sections import Name, Port

Classifier = Literal["logistic", "forest", "gbt"]
Recommender = Literal["als", "als_explicit", "ease", "cooccurrence", "sessions", "popular"]


class Sink(Section):
    """What is landed as what, when a file is closed and how much memory its owner may use. `codec` is that of Avro.

    `topics`: more of them than the events and what was rejected, landed as they are. `instance`: this member's name in
    the group, so that a restart within the session's time moves no partition; each process needs its own.
    `check_bodies`: decode each event's body before it is landed, for producers that might write broken ones; Parquet
    does so anyway. One that does not follow its schema is quarantined, while unchecked it would spoil its Avro block.
    """

    processes: Annotated[int, Field(ge=1)] = 1
    group: Name = "clickstream-sink"
    instance: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]*$")] = ""
    topics: tuple[Name, ...] = ()
    metrics_port: Port = 8002
    format: Literal["avro", "parquet"] = "avro"
    codec: Literal["zstandard", "deflate", "null"] = "zstandard"
    check_bodies: bool = False
    max_bytes: Annotated[int, Field(ge=1)] = 64 * 1024 * 1024
    max_records: Annotated[int, Field(ge=1)] = 5_000_000
    max_age_seconds: Annotated[float, Field(gt=0)] = 300.0
    memory_bytes: Annotated[int, Field(ge=1)] = 256 * 1024 * 1024
    cut_poll_seconds: Annotated[float, Field(gt=0)] = 1.0
    schema_deadline_seconds: Annotated[float, Field(ge=0)] = 60.0
    publish_timeout_seconds: Annotated[float, Field(gt=0)] = 120.0
    raw_retention_days: Annotated[float, Field(ge=0)] = 0.0  # for ever
    quarantine_retention_days: Annotated[float, Field(ge=0)] = 0.0  # for ever

    def process(self, number: int) -> Self:
        """The settings of one of several, from 1: its own port, and its own name if they have any."""
        name = f"{self.instance}-{number}" if self.instance and self.processes > 1 else self.instance
        return self.model_copy(update={"metrics_port": self.metrics_port + number - 1, "instance": name})


class Compaction(Section):
    """When landed files are too small, and how long they stay beside the larger one for readers that began before."""

    target_bytes: Annotated[int, Field(ge=1)] = 128 * 1024 * 1024
    small_bytes: Annotated[int, Field(ge=1)] = 32 * 1024 * 1024
    min_files: Annotated[int, Field(ge=2)] = 8
    grace_seconds: Annotated[float, Field(ge=0)] = 3600.0


class Processing(Section):
    """Rules of the tables, and how models are found.

    Of `search_algorithms` the first `search_trials` are tried with their own parameters, more trials vary them, until
    `search_minutes` have passed (0: no limit), `search_jobs` at once. Models of clicks are the best of
    `click_algorithms`. `drift_threshold`: the population stability index
    beyond which no challenger is promoted. A request to forget somebody is looked at again after
    `erasure_pause_hours`. `mlflow_url` is MLflow's server or database; empty: one in the home.
    """

    session_gap_minutes: Annotated[int, Field(ge=1)] = 30
    dedup_days: Annotated[int, Field(ge=0)] = 7
    recommendations_per_visitor: Annotated[int, Field(ge=1)] = 20
    feature_days: Annotated[int, Field(ge=30)] = 90
    label_minutes: Annotated[int, Field(ge=1)] = 30
    volume_factor: Annotated[float, Field(gt=1)] = 10.0
    freshness_hours: Annotated[float, Field(gt=0)] = 24.0
    search_algorithms: Annotated[tuple[Recommender, ...], Field(min_length=1)] = (
        "als",
        "ease",
        "cooccurrence",
        "sessions",
        "popular",
    )
    search_trials: Annotated[int, Field(ge=0)] = 5
    search_minutes: Annotated[float, Field(ge=0)] = 0.0
    search_jobs: Annotated[int, Field(ge=1)] = 1
    click_algorithms: Annotated[tuple[Classifier, ...], Field(min_length=1)] = ("logistic", "gbt")
    drift_threshold: Annotated[float, Field(gt=0)] = 0.25
    erasure_pause_hours: Annotated[float, Field(ge=0)] = 12.0
    snapshot_days: Annotated[float, Field(gt=0)] = 7.0
    mlflow_url: str = ""
