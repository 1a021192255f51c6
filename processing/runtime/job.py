"""The frame of every job: arguments, settings, one at a time, a session, one line of facts at the end.

Exit codes: 0 done; 1 something broke, and may work the next time (with its traceback, or one line where HDFS does not
answer); 2 a bad argument, setting, missing table or batch (one line on stderr, before a session is started where that
can be told); 65 a gate is closed, or a quality check failed. After 2 and 65 only a person can help.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from pyspark import SparkConf, SparkContext
from pyspark.sql import DataFrame, SparkSession

from infra.errors import ClickstreamError, ConfigurationError
from infra.settings import Settings
from infra.spark.submit import yarn_tag
from processing.errors import BadRows, NotCurated, ProcessingError
from processing.runtime import local_lock, yarn_lock
from processing.runtime.registry import RECOMMENDER, Registry
from processing.tables import iceberg, publish, quality
from processing.tables.iceberg import Table
from processing.tables.quality import Finding
from storage.batches import cuts, ledger
from storage.batches.cuts import Cut
from storage.errors import StorageError
from storage.hdfs import Hdfs
from storage.layout import Layout, quality_report

Rules = Callable[[DataFrame, Table], list[Finding]]
Ready = Callable[[Hdfs, Layout, Cut], None]


@dataclass(frozen=True)
class Job:
    """Everything that a job works with; its batch is what its `cut` ends."""

    settings: Settings
    spark: SparkSession
    fs: Hdfs
    layout: Layout
    cut: Cut
    in_container: bool = False

    @property
    def batch(self) -> int:
        return self.cut.number

    @property
    def day(self) -> str:
        """The day (ISO 8601, UTC) on which the batch ended."""
        return datetime.fromisoformat(self.cut.taken_at).astimezone(UTC).date().isoformat()

    @property
    def gap(self) -> timedelta:
        """The longest pause within a session."""
        return timedelta(minutes=self.settings.processing.session_gap_minutes)

    def url(self, path: str) -> str:
        """A path on HDFS as Spark wants it."""
        return f"{self.settings.hdfs.address}{path}"

    def read(self, table: Table) -> DataFrame:
        """The table's rows up to this batch, so that a rerun sees what the first run saw. Raises MissingTable."""
        rows = iceberg.read(self.spark, table)
        return rows.filter(rows["batch"] <= self.batch)

    def read_batch(self, table: Table) -> DataFrame:
        """The table's rows of this batch. Raises MissingTable."""
        return iceberg.read_batch(self.spark, table, self.batch)

    def registry(self, model: str = RECOMMENDER) -> Registry:
        """The models' register. Raises ConfigurationError in a container of a YARN that does not share our home: what
        is written to a folder there is gone with it."""
        mlflow, ours = self.settings.processing.mlflow_url, self.settings.spark.yarn_managed
        if self.in_container and not mlflow and not ours:
            raise ConfigurationError(
                ["CLICKSTREAM_PROCESSING__MLFLOW_URL is missing: a driver in a container keeps no folder of its own"]
            )
        return Registry(self.settings, model)

    def settle(self, rows: DataFrame) -> DataFrame:
        """The rows as they are now, checkpointed on HDFS until the job ends: independent of later writes to their
        tables and of executors that die. Their plan is cut off, which Spark would otherwise optimise again at each
        use."""
        return rows.checkpoint()

    def overwrite(self, table: Table, rows: DataFrame, rules: Rules = quality.rows) -> None:
        """Replaces the table's rows of this batch. Raises BadRows, and nothing is published, when `rules` finds any."""
        publish.overwrite(self.spark, table, rows, self.batch, self._approval(table, rules))

    def overwrite_together(self, tables: Mapping[Table, DataFrame]) -> None:
        """Replaces the tables' rows of this batch. Raises BadRows, and nothing is published, when any has bad ones."""
        changes = [
            publish.overwriting(table, rows, self.batch, self._approval(table, quality.rows))
            for table, rows in tables.items()
        ]
        publish.all_or_none(self.spark, *changes)

    def replace_matching(self, table: Table, rows: DataFrame, writer: str = "audit") -> None:
        """Deletes rows with `gone`, updates or inserts the others, by the table's key. Raises BadRows.

        A `writer` that is not the table's job has another name than that, so that neither takes the other's branch.
        """
        publish.replace_matching(self.spark, table, rows, f"{writer}_{self.batch}", self._approval(table, quality.rows))

    @cached_property
    def began(self) -> datetime:
        """When the platform's first batch ended."""
        return datetime.fromisoformat(next(cuts.all_cuts(self.fs, self.layout)).taken_at)

    @cached_property
    def _same_hours(self) -> list[int]:
        """Numbers of the batches of the same hours of the weeks before, but none before the windows of features were
        full: until then their tables grow with each hour."""
        full = self.began + timedelta(days=self.settings.processing.feature_days)
        weeks = timedelta(weeks=quality.WEEKS + 1)
        weeks_before = cuts.since(self.fs, self.layout, max(full, datetime.fromisoformat(self.cut.taken_at) - weeks))
        return quality.same_hours(list(weeks_before), self.cut)

    def _volume(self, table: Table, written: DataFrame) -> list[Finding]:
        """Whether the batch has about as many rows as those of the same hours of the weeks before."""
        if not self._same_hours:
            return []
        usual, factor = iceberg.sizes(self.spark, table, self._same_hours), self.settings.processing.volume_factor
        return quality.volume(written.count(), usual, factor, f"rows of {table.name}")

    def _approval(self, table: Table, rules: Rules) -> publish.Approve:
        """The report of what was found lies on HDFS until a run finds nothing."""
        path = quality_report(self.settings.hdfs.root, table.name, self.batch)

        def approve(written: DataFrame) -> None:
            findings = rules(written, table) + (self._volume(table, written) if table.steady else [])
            if not findings:
                self.fs.delete(path)
                return
            report = {"table": table.name, "batch": self.cut.name, "findings": [one.facts() for one in findings]}
            self.fs.write_atomically(path, json.dumps(report, indent=1, default=str).encode(), overwrite=True)
            raise BadRows(table.name, self.cut.name, [str(one) for one in findings], path)

        return approve


def curated(fs: Hdfs, layout: Layout, cut: Cut) -> None:
    """Raises NotCurated if the batch has no curated events."""
    if not ledger.balanced(fs, layout, cut.name):
        raise NotCurated(cut.name)


def any_batch(fs: Hdfs, layout: Layout, cut: Cut) -> None:
    """Accepts every batch: for jobs that need its number alone."""


def run(
    name: str,
    manual: str,
    work: Callable[[Job], dict[str, Any]],
    argv: Sequence[str] | None = None,
    ready: Ready = curated,
) -> int:
    """Runs job `name` and returns its exit code; `manual` is its --help, what `work` returns its facts.

    `ready` is asked before a session is started: it raises where the batch is not there yet.
    """
    parser = argparse.ArgumentParser(
        prog=name, description=manual, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--batch", required=True, metavar="NAME", help="the cut that ends the batch (`clickstream cut`)"
    )
    batch = parser.parse_args(argv).batch
    started = time.monotonic()
    try:
        facts = _run(name, batch, work, ready)
    except ClickstreamError as error:
        print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code if isinstance(error, ProcessingError) else 1 if isinstance(error, StorageError) else 2
    seconds = round(time.monotonic() - started, 1)
    print(json.dumps({"event": "job_finished", "job": name, "batch": batch, "seconds": seconds, **facts}), flush=True)
    return 0


def _run(name: str, batch: str, work: Callable[[Job], dict[str, Any]], ready: Ready) -> dict[str, Any]:
    settings = Settings.from_env()
    fs, layout = Hdfs(settings), Layout(settings.hdfs.root, settings.kafka.topic)
    cut = cuts.get(fs, layout, batch)
    ready(fs, layout, cut)
    SparkContext._ensure_initialized()  # a SparkConf is empty before a JVM runs
    in_container = SparkConf().get("spark.submit.deployMode") == "cluster"
    with nullcontext() if in_container else local_lock.hold(settings.home, name, batch):
        borrowed = SparkSession.getActiveSession() is not None
        tag = yarn_tag(settings, name, batch)
        # In a container the application was submitted, with its tag, before this line.
        spark = SparkSession.builder.appName(f"{name} {batch}").config("spark.yarn.tags", tag).getOrCreate()
        try:
            if spark.sparkContext.master == "yarn":
                yarn_lock.take_over(spark.sparkContext, tag)
            this = Job(settings, spark, fs, layout, cut, in_container)
            with _checkpoints(this, name):
                return work(this)
        finally:
            if not borrowed:
                spark.stop()


@contextmanager
def _checkpoints(this: Job, name: str) -> Iterator[None]:
    """Gives Spark a folder for checkpoints, empty now and gone at the end."""
    path = f"{this.settings.hdfs.root}/checkpoints/{name}/batch={this.batch}"
    this.fs.delete(path, recursive=True)
    this.spark.sparkContext.setCheckpointDir(this.url(path))
    try:
        yield
    finally:
        this.fs.delete(path, recursive=True)
