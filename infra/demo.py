"""`clickstream demo`: starts the servers, replays a log, runs the DAG, and checks that the numbers balance.

It calls the commands that a person would type (`up`, `replay`, `cut`, `report`) and uses the facts that they return.
"""

from __future__ import annotations

import contextlib
import io
import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import requests
from rich.console import Console
from rich.table import Table

from infra.airflow import secrets
from infra.airflow.client import Orchestrator
from infra.errors import ClickstreamError, ServiceError
from infra.live import live_states
from infra.services.cluster import Cluster
from infra.settings import Settings

HOURLY, TRAIN = "clickstream_hourly", "clickstream_train"


class UnbalancedError(ClickstreamError):
    """Numbers of the demo contradict each other: something was lost or counted twice."""


def play(
    context: click.Context, file: Path | None, format_: str, master: str | None, exit_: bool, json_file: Path | None
) -> dict[str, Any]:
    """Runs the whole demo and returns its facts. Defaults: the bundled log as `file`, the settings' Spark `master`."""
    settings = Settings.from_env()
    if master:
        settings = settings.model_copy(update={"spark": settings.spark.model_copy(update={"master": master})})
    was_up = Cluster(settings).supervisor.running
    if not was_up:  # one batch is shown: the end of an hour must not begin another
        settings = settings.model_copy(update={"airflow": settings.airflow.model_copy(update={"schedule": ""})})
    run = _Run(context, settings, Console(stderr=True))
    cluster = Cluster(settings)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with run.stage("up"):
            run.up(cluster)
        facts = run.events(file, format_)
        run.summary(facts)
        if json_file:
            json_file.write_text(json.dumps(facts, indent=2) + "\n")
        check(facts)
        if not exit_:
            run.console.print("[bold]All is up.[/] Ctrl-C ends it; the data stays.")
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
    finally:
        if not was_up:
            cluster.down()
    return facts


def check(facts: dict[str, Any]) -> None:
    """Checks the equations between the stages' counts. Raises UnbalancedError with all that don't hold."""
    held = {
        "lines = accepted + rejected + filtered": facts["lines"]
        == facts["accepted"] + facts["rejected"] + facts["filtered"],
        "appended >= accepted": facts["appended"] >= facts["accepted"],
        "landed + quarantined = appended": facts["landed"] + facts["quarantined"] == facts["appended"],
        "landed = curated + duplicates + invalid": facts["landed"]
        == facts["curated"] + facts["duplicates"] + facts["invalid"],
    }
    broken = [equation for equation, holds in held.items() if not holds]
    if broken:
        raise UnbalancedError(f"{'; '.join(broken)} does not hold: {json.dumps(facts)}")


class _Run:
    """One demo: its stages, each timed and shown."""

    def __init__(self, context: click.Context, settings: Settings, console: Console) -> None:
        self._context, self._settings, self.console = context, settings, console
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - began, 1)

    def up(self, cluster: Cluster) -> None:
        with live_states(self.console, "service") as states:
            cluster.up(states.__setitem__)

    def events(self, file: Path | None, format_: str) -> dict[str, Any]:
        """Runs every stage from the file to the export; returns the facts of this run's batch."""
        with self.stage("replay"):
            arguments = ["--format", format_, *([str(file)] if file else [])]
            replayed = self._command("replay", *arguments)
            self._spool_drained()
        with self.stage("cut"):
            cut = self._command("cut")
        orchestrator = Orchestrator(self._settings)
        with self.stage("hourly"):
            self._follow(orchestrator, HOURLY, orchestrator.trigger(HOURLY, {"cut": cut["name"]}))
        with self.stage("train"):
            self._follow(orchestrator, TRAIN, orchestrator.woken_for(cut["name"], TRAIN))
        with contextlib.redirect_stdout(io.StringIO()):  # the summary shows the same and more
            report = self._command("report", "--batch", cut["name"])
        return {
            **replayed,
            **report,
            "batch": cut["name"],
            "dag_runs": [{"dag_id": dag, "state": "success"} for dag in (HOURLY, TRAIN)],
            "seconds": self.seconds,
            "urls": Cluster(self._settings).urls(),
        }

    def _command(self, name: str, *arguments: str) -> dict[str, Any]:
        """Calls the command `name` of any package; returns its facts."""
        root = self._context.find_root().command
        assert isinstance(root, click.Group)
        facts: dict[str, Any] = root.commands[name].main([*arguments], prog_name=name, standalone_mode=False)
        return facts

    def _spool_drained(self, patience: float = 60.0) -> None:
        """Waits until the collector's spool is empty, so that the batch holds every accepted event."""
        collector = self._settings.collector
        deadline = time.monotonic() + patience
        while spooled := requests.get(f"{collector.address}/readyz", timeout=5, verify=collector.verify).json()[
            "spooled"
        ]:
            if time.monotonic() > deadline:
                raise ServiceError("collector", f"{spooled} events wait in the spool: Kafka does not take them")
            time.sleep(0.2)

    def _follow(self, orchestrator: Orchestrator, dag: str, run_id: str) -> None:
        """Shows a run's tasks to its end, and notes what each took. Raises ServiceError when it fails."""
        with live_states(self.console, "task") as states:
            ran = orchestrator.follow(dag, run_id, states.update)
        if ran["state"] != "success":
            where = orchestrator.page(dag, run_id)
            raise ServiceError("airflow", f"run {run_id} of {dag} failed at {list(ran['failed'])}: see {where}")
        self.seconds.update(ran["seconds"])

    def summary(self, facts: dict[str, Any]) -> None:
        """The numbers from lines to model, the time each stage took, and where to look."""
        numbers = Table("from lines to recommendations", "", title=f"Batch {facts['batch']}")
        for name in (
            *("lines", "accepted", "rejected", "filtered", "appended", "landed", "quarantined", "landed_files"),
            *("curated", "duplicates", "invalid", "sessions", "visitors", "items", "recommendations"),
        ):
            numbers.add_row(name, f"{facts[name]:,}")
        for name, value in facts["model"].items():
            numbers.add_row(f"model: {name}", f"{value:.4f}" if isinstance(value, float) else str(value))
        times = Table("stage", "seconds")
        for name, seconds in self.seconds.items():
            times.add_row(name, f"{seconds:.1f}")
        self.console.print(numbers, times)
        for name, url in facts["urls"].items():
            self.console.print(f"{name:10} {url}")
        user = self._settings.airflow.username
        self.console.print(f"Airflow's login: {user} / {secrets.password(self._settings)}", markup=False)
