"""Settings of the sink, of compaction, and of the Spark jobs."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field

from infra import project
from infra.settings.section import Name, Port, Section, registered

Classifier = Literal["logistic", "forest", "gbt"]


class Sink(Section):
    """What is landed in which format, when a file is closed, and how much memory the sink may use. `format`: name of
    one of the storage package's formats. `codec`: Avro's.

    `topics`: more topics to land as they are, besides events and rejects. `instance`: this member's static name
    (group.instance.id), so that a quick restart moves no partition; each process needs its own. `check_bodies`: decode
    each event's body before it is landed, as Parquet does anyway, and quarantine an invalid one, which would otherwise
    make its whole Avro block unreadable.
    """

    processes: Annotated[int, Field(ge=1)] = 1
    group: Name = "clickstream-sink"
    instance: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]*$")] = ""
    topics: tuple[Name, ...] = ()
    metrics_port: Port = 8002
    format: Annotated[Name, registered(project.FORMATS, "avro")] = "avro"
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
        """The settings of process `number` (from 1), with a metrics port and, if set, an instance name of its own."""
        name = f"{self.instance}-{number}" if self.instance and self.processes > 1 else self.instance
        return self.model_copy(update={"metrics_port": self.metrics_port + number - 1, "instance": name})


class Compaction(Section):
    """Which landed files are merged, and how long they stay beside the merged file for readers that listed them."""

    target_bytes: Annotated[int, Field(ge=1)] = 128 * 1024 * 1024
    small_bytes: Annotated[int, Field(ge=1)] = 32 * 1024 * 1024
    min_files: Annotated[int, Field(ge=2)] = 8
    grace_seconds: Annotated[float, Field(ge=0)] = 3600.0


class Processing(Section):
    """Rules of the tables, and how models are searched.

    The first `search_trials` try `search_algorithms` (empty: those that processing/algorithms searches by default) with
    their default parameters, further ones vary them, until `search_minutes` have passed (0: no limit), `search_jobs` at
    once. The click model is the best of `click_algorithms`. `drift_threshold`: population stability index beyond which
    no challenger is promoted, between the last `drift_days` of its data and those of the champion's.
    `erasure_pause_hours`: time until an erasure request is applied once more. `mlflow_url`: MLflow's server or
    database; empty: a database in the home.

    Models of clicks learn from the examples of the newest `training_days`. `copy_days`: age at which the batches of
    features and lists go, each of which is a whole copy; a batch is compared with that of a week before. `model_days`:
    age at which models, their runs and exports go, but for what is in force or was before.
    """

    session_gap_minutes: Annotated[int, Field(ge=1)] = 30
    dedup_days: Annotated[int, Field(ge=0)] = 7
    recommendations_per_visitor: Annotated[int, Field(ge=1)] = 20
    feature_days: Annotated[int, Field(ge=30)] = 90
    label_minutes: Annotated[int, Field(ge=1)] = 30
    volume_factor: Annotated[float, Field(gt=1)] = 10.0
    freshness_hours: Annotated[float, Field(gt=0)] = 24.0
    search_algorithms: tuple[Annotated[Name, registered(project.ALGORITHMS)], ...] = ()
    search_trials: Annotated[int, Field(ge=0)] = 6
    search_minutes: Annotated[float, Field(ge=0)] = 0.0
    search_jobs: Annotated[int, Field(ge=1)] = 1
    click_algorithms: Annotated[tuple[Classifier, ...], Field(min_length=1)] = ("logistic", "gbt")
    drift_threshold: Annotated[float, Field(gt=0)] = 0.25
    drift_days: Annotated[int, Field(ge=1)] = 7
    erasure_pause_hours: Annotated[float, Field(ge=0)] = 12.0
    snapshot_days: Annotated[float, Field(gt=0)] = 7.0
    copy_days: Annotated[float, Field(ge=8)] = 8.0
    model_days: Annotated[float, Field(gt=0)] = 30.0
    training_days: Annotated[int, Field(ge=1)] = 90
    mlflow_url: str = ""
