"""clickstream train, evaluate, recommend: the jobs of a batch by hand; models: what MLflow knows of theirs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from infra.options import AS_JSON
from infra.settings import Settings
from infra.spark import submit
from processing.bench.commands import commands as benches
from storage.cli.context import platform

if TYPE_CHECKING:
    from processing.runtime.registry import Registry, Version

_MODEL = click.option(
    "--model",
    type=click.Choice(["recommender", "ranker", "clicked", "converted"]),
    default="recommender",
    show_default=True,
    help="What recommends; what orders its lists; or what tells the chance of a click, or of the cart.",
)
_BATCH = click.option(
    "--batch", metavar="NAME", help="The cut that ends the batch; by default the newest that is curated."
)


@click.command()
@_BATCH
@AS_JSON
def train(batch: str | None, as_json: bool) -> dict[str, Any]:
    """Find the best recommender of a batch and the best models of clicks, and register them as challengers."""
    return _submit(["train_recommender", "build_examples", "train_click_models"], batch, as_json)


@click.command()
@_BATCH
@AS_JSON
def evaluate(batch: str | None, as_json: bool) -> dict[str, Any]:
    """Measure a batch's challenger beside champion and popularity, then the order of its lists; promote what passes."""
    return _submit(["evaluate_recommender", "train_ranker"], batch, as_json)


@click.command()
@_BATCH
@AS_JSON
def recommend(batch: str | None, as_json: bool) -> dict[str, Any]:
    """Make a batch's lists with the model in force, and show them in the web app."""
    return _submit(["recommend_items", "export_recommendations"], batch, as_json)


def _submit(jobs: list[str], batch: str | None, as_json: bool) -> dict[str, Any]:
    """Runs the jobs by spark-submit, with the home's configuration; their logs go to stderr, what they found to
    stdout."""
    from infra.services.cluster import Cluster
    from storage.batches import ledger

    settings, fs, layout = platform()
    name = batch or ledger.newest_curated(fs, layout).name
    environment = Cluster(settings).environment()
    program = str(Path(environment["PYSPARK_PYTHON"]).with_name("spark-submit"))
    facts: dict[str, Any] = {}
    for job in jobs:
        command = [program, submit.job_file(job), "--batch", name]
        ran = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
        if ran.returncode:
            click.get_current_context().exit(ran.returncode)
        facts |= _finished(ran.stdout)
    if as_json:
        click.echo(json.dumps(facts))
    else:
        for fact, value in facts.items():
            click.echo(f"{fact}: {value}")
    return facts


def _finished(output: str) -> dict[str, Any]:
    """The job's last line of facts; in cluster mode it is in the driver's log, not here."""
    for line in reversed(output.splitlines()):
        if line.startswith('{"event": "job_finished"'):
            found: dict[str, Any] = json.loads(line)
            return {name: value for name, value in found.items() if name not in ("event", "job")}
    return {}


@click.group()
def models() -> None:
    """What was trained, what the gate said of it, and who is champion. Reads MLflow alone."""


@models.command("list")
@_MODEL
@AS_JSON
def list_models(model: str, as_json: bool) -> list[dict[str, Any]]:
    """All versions, the newest first."""
    from rich.console import Console
    from rich.table import Table

    facts = [_facts(version) for version in _registry(model).versions()]
    if as_json:
        click.echo(json.dumps(facts))
        return facts
    table = Table("", "model", "algorithm", "gate", "alias", box=None)
    for fact in facts:
        gate = {True: "passed", False: "refused", None: ""}[fact["promoted"]]
        table.add_row(str(fact["number"]), fact["model"], fact["algorithm"], gate, ", ".join(fact["aliases"]))
    Console().print(table)
    return facts


@models.command("show")
@click.argument("version", default="champion")
@_MODEL
@AS_JSON
def show(version: str, model: str, as_json: bool) -> dict[str, Any]:
    """One version, by its number, name or alias: recipe, metrics, snapshots, and the gate's reasons."""
    registry = _registry(model)
    found = registry.get(version)
    run = registry.read_run(found.run_id)
    facts = _facts(found) | {
        "recipe": found.facts["recipe"],
        "source": found.source,
        "trained_at": datetime.fromtimestamp(run["started"] / 1000, UTC).isoformat(timespec="seconds"),
        "code": run["tags"].get("code"),
        "snapshots": found.facts["snapshots"],
        "gate": found.decision.get("checks", []),
        "despite": found.facts.get("despite"),
        "metrics": run["metrics"],
        "run_id": found.run_id,
    }
    if as_json:
        click.echo(json.dumps(facts))
        return facts
    for name, value in facts.items():
        if name not in ("gate", "metrics"):
            click.echo(f"{name}: {value}")
    _show_checks(facts["gate"])
    for name, value in sorted(facts["metrics"].items()):
        if "_low" not in name and "_high" not in name:
            click.echo(f"{name}: {value:.4g}")
    return facts


@models.command("decision")
@_BATCH
@_MODEL
@AS_JSON
def decision(batch: str | None, model: str, as_json: bool) -> dict[str, Any]:
    """What the gate said of a batch's challenger, and whose recipe makes the batch's lists."""
    from processing.training import model_files
    from storage.batches import cuts, ledger

    settings, fs, layout = platform()
    cut = cuts.get(fs, layout, batch) if batch else ledger.newest_curated(fs, layout)
    found = model_files.in_force(fs, settings.hdfs.root, cut, model)
    facts = {"batch": cut.name, "in_force": found.version, "promoted": found.promoted, "checks": found.checks}
    if as_json:
        click.echo(json.dumps(facts))
        return facts
    click.echo(
        f"{cut.name}: {found.version} is in force, the challenger was {'' if found.promoted else 'not '}promoted"
    )
    _show_checks(found.checks)
    return facts


@models.command("promote")
@click.argument("version")
@click.option("--despite", metavar="REASON", help="Promote what the gate refused; the reason is kept.")
@_MODEL
@AS_JSON
def promote(version: str, despite: str | None, model: str, as_json: bool) -> dict[str, Any]:
    """Make a version champion: its lists are shown at once where they were exported, later batches use its recipe."""
    registry = _registry(model)
    has_lists = _has_lists(registry.get(version), model)
    return _in_force(registry.promote(version, despite), has_lists, as_json)


@models.command("rollback")
@click.option("--to", metavar="VERSION", help="An earlier champion; by default the one before.")
@_MODEL
@AS_JSON
def rollback(to: str | None, model: str, as_json: bool) -> dict[str, Any]:
    """Make the champion's predecessor champion again, and show its lists; without those nothing is changed.

    The recipe that was taken back returns by `promote` alone: no later batch brings it back by itself.
    """
    from processing.runtime.registry import NotPromotable

    registry = _registry(model)
    before = registry.get(to) if to else registry.predecessor()
    has_lists = _has_lists(before, model)
    if model == "recommender" and not has_lists:
        instead = f"`clickstream models promote {before.name}` has the next batch make some with its recipe"
        raise NotPromotable(f"{before.name} has no lists that could be shown; {instead}")
    return _in_force(registry.rollback(to), has_lists, as_json)


def _has_lists(version: Version, model: str) -> bool:
    """Whether lists of its own were exported: only a recommender has some.

    Asked before the registry changes anything: with HDFS away, or without lists, it must not.
    """
    from storage import exports

    settings, fs, _ = platform()
    return model == "recommender" and fs.exists(exports.report(settings.hdfs.root, version.name))


def _in_force(champion: Version, shown: bool, as_json: bool) -> dict[str, Any]:
    """Points the web app to the champion's own lists if they are to be `shown`. Raises NotShown."""
    from processing.runtime.registry import NotShown
    from storage import exports
    from storage.errors import StorageError

    settings, fs, _ = platform()
    try:
        if shown:
            exports.publish_current(fs, settings.hdfs.root, champion.name)
    except StorageError as error:
        raise NotShown(champion.name, error) from error
    facts = _facts(champion) | {"lists_shown": shown}
    if as_json:
        click.echo(json.dumps(facts))
    else:
        lists = "its lists are shown" if shown else "no lists are its own; the next batch makes some with its recipe"
        click.echo(f"{champion.name} is champion: {lists}")
    return facts


def _show_checks(checks: Sequence[Mapping[str, Any]]) -> None:
    for check in checks:
        click.echo(f"gate, {check['name']}: {'passed' if check['passed'] else 'refused'}: {check['detail']}")


def _facts(version: Version) -> dict[str, Any]:
    return {
        "number": version.number,
        "model": version.name,
        "batch": version.batch,
        "algorithm": version.facts["recipe"]["algorithm"],
        "aliases": list(version.aliases),
        "promoted": version.decision.get("promoted"),
    }


def _registry(model: str) -> Registry:
    from processing.runtime.registry import Registry

    return Registry(Settings.from_env(), model)


commands: list[click.Command] = [*benches, train, evaluate, recommend, models]
