"""up, down, status, submit, run, logs, destroy: the commands around the one-machine cluster."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from infra.errors import ServiceError
from infra.options import AS_JSON
from infra.settings import Settings


@click.command()
@click.option("--input", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Events to replay.")
@click.option(
    "--format", "format_", type=click.Choice(["access-log", "jsonl"]), default="access-log", show_default=True
)
@click.option("--master", help="Where Spark runs: local[N] or yarn.")
@click.option("--exit", "exit_", is_flag=True, help="Tear down after the summary instead of staying up.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the facts here.")
@click.pass_context
def demo(
    context: click.Context, file: Path | None, format_: str, master: str | None, exit_: bool, json_file: Path | None
) -> dict[str, Any]:
    """Run everything end to end: start the servers, replay a log, land, learn, and show what came of it."""
    from infra.demo import play

    return play(context, file, format_, master, exit_, json_file)


@click.command()
@click.argument("services", nargs=-1)
@click.option("--with", "extra", type=click.Choice(["yarn", "history"]), multiple=True, help="Also start this.")
@AS_JSON
def up(services: tuple[str, ...], extra: tuple[str, ...], as_json: bool) -> dict[str, float]:
    """Start Kafka, HDFS, Airflow, collector, sink and web app, or just SERVICES; wait until each is well."""
    from rich.console import Console

    from infra.live import live_states
    from infra.services.cluster import Cluster

    with live_states(Console(stderr=True), "service") as states:
        took = Cluster(Settings.from_env(), extra, services).up(states.__setitem__)
    if as_json:
        click.echo(json.dumps(took))
    return took


@click.command()
def down() -> None:
    """Stop everything that `up` started; the data stays."""
    from infra.services.cluster import Cluster

    Cluster(Settings.from_env()).down()


@click.command()
def reload() -> list[str]:
    """Replace the workers of collector and web app: new code, certificates and settings of the file, nobody refused."""
    from infra.services.cluster import Cluster

    asked = Cluster(Settings.from_env()).reload()
    if not asked:
        raise ServiceError("reload", "neither collector nor webapp runs here")
    click.echo(f"{', '.join(asked)}: replacing their workers one by one; see `clickstream logs`")
    return asked


@click.command()
@AS_JSON
def status(as_json: bool = False) -> dict[str, Any]:
    """Show each service's state, DAGs that can't be read, and the URLs. Exit code 1 unless all are well."""
    from rich.console import Console
    from rich.table import Table

    from infra.services.cluster import Cluster

    settings = Settings.from_env()
    cluster = Cluster(settings)
    services = cluster.status()
    well = {name for name, service in services.items() if service["state"] in ("healthy", "external")}
    broken = _broken_dags(settings) if well & {"airflow", "airflow-api-server"} else {}
    facts = {"home": str(settings.home), "services": services, "broken_dags": broken, "urls": cluster.urls()}
    if as_json:
        click.echo(json.dumps(facts, indent=2))
    else:
        table = Table("service", "state", "pid", "problem", box=None)
        for name, service in services.items():
            table.add_row(name, service["state"], str(service["pid"] or ""), service["problem"] or "")
        for file, why in broken.items():
            table.add_row(file, "broken", "", why)
        Console().print(table)
        for name, url in facts["urls"].items():  # type: ignore[attr-defined]
            click.echo(f"{name}: {url}")
    if broken or well != services.keys():
        click.get_current_context().exit(1)
    return facts


def _broken_dags(settings: Settings) -> dict[str, str]:
    """DAG file -> import error. Airflow keeps the version it read before, or does without the DAG."""
    from infra.airflow.client import Orchestrator

    try:
        found = Orchestrator(settings).broken_files()
    except ServiceError as error:
        return {"dags": str(error)}
    names = {Path(file).name: why for file, why in found.items()}
    return {name: why for name, why in names.items() if name.startswith("clickstream_")}  # others may be beside them


@click.command(context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True})
@click.option("--deploy-mode", type=click.Choice(["client", "cluster"]), help="Where the driver runs on YARN.")
@click.option("--conf", multiple=True, metavar="NAME=VALUE", help="One more setting of Spark.")
@click.argument("job")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def submit(deploy_mode: str | None, conf: tuple[str, ...], job: str, arguments: tuple[str, ...]) -> None:
    """Run the Spark JOB with its ARGUMENTS by spark-submit; `clickstream submit JOB --help` is its manual.

    On YARN it carries the tag by which a retry of the same job and batch finds it and ends it first.
    """
    from infra.services.cluster import Cluster
    from infra.spark.submit import command

    settings = Settings.from_env()
    mode = ["--deploy-mode", deploy_mode] if deploy_mode else []
    options = [*mode, *(part for one in conf for part in ("--conf", one))]
    submitted = command(settings, job, arguments, options)
    if not (settings.home / "conf" / "spark" / "spark-defaults.conf").is_file():
        raise ServiceError("submit", f"{settings.home} has no configuration of Spark yet: run `clickstream up` first")
    done = subprocess.run(submitted, env=Cluster(settings).environment(), check=False)
    click.get_current_context().exit(done.returncode)


@click.command()
@click.argument("dag")
@click.option("--conf", multiple=True, metavar="NAME=VALUE", help="A parameter of the DAG; the value may be JSON.")
@click.option("--wait", is_flag=True, help="Follow the run to its end; exit code 1 if it fails.")
@AS_JSON
@click.pass_context
def run(context: click.Context, dag: str, conf: tuple[str, ...], wait: bool, as_json: bool) -> dict[str, Any]:
    """Start a run of an Airflow DAG: `clickstream run clickstream_hourly --conf cut=NAME --wait`."""
    from rich.console import Console

    from infra.airflow.client import Orchestrator

    orchestrator = Orchestrator(Settings.from_env())
    if wait:
        orchestrator.check_not_paused(dag)
    run_id = orchestrator.trigger(dag, dict(map(_parameter, conf)), patience=10)
    facts: dict[str, Any] = {"dag_id": dag, "run_id": run_id, "url": orchestrator.page(dag, run_id)}
    if wait:
        console = Console(stderr=True)
        with console.status("") as line:
            facts |= orchestrator.follow(dag, run_id, lambda states: line.update(_progress(states)))
    if as_json:
        click.echo(json.dumps(facts))
    else:
        for name, value in facts.items():
            if name != "failed":
                click.echo(f"{name}: {value}")
    if facts.get("state") == "failed":
        for task, log in facts["failed"].items():
            click.echo(f"--- {task}\n{log}", err=True)
        context.exit(1)
    return facts


def _parameter(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--conf")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _progress(states: Mapping[str, str]) -> str:
    """One line: the number of tasks that have ended, and the state of each other task."""
    ended = [state for state in states.values() if state in ("success", "skipped", "failed", "upstream_failed")]
    told = ("running", "deferred", "up_for_retry")
    busy = [f"{name} {state}" for name, state in states.items() if state in told or state.startswith("waits")]
    return f"{len(ended)} of {len(states)} tasks: {', '.join(busy) or 'waiting for the scheduler'}"


@click.command()
@click.argument("service")
@click.option("-f", "--follow", is_flag=True, help="Go on printing what comes.")
@click.option("-n", "--lines", default=100, show_default=True, help="How many lines from the end.")
def logs(service: str, follow: bool, lines: int) -> None:
    """Print a service's log."""
    folder = Settings.from_env().home / "logs"
    file = folder / f"{service}.log"
    if not file.exists():
        known = ", ".join(sorted(path.stem for path in folder.glob("*.log"))) or "none yet"
        raise ServiceError(service, f"has no log in {folder}; there are: {known}")
    subprocess.run(["tail", "-n", str(lines), *(["-F"] if follow else []), str(file)], check=False)


@click.command()
@click.option("--yes", is_flag=True, help="Really do it.")
def destroy(yes: bool) -> None:
    """Stop everything and delete CLICKSTREAM_HOME with all its data."""
    from infra.services.cluster import Cluster

    settings = Settings.from_env()
    if not yes:
        raise ServiceError("destroy", f"would delete {settings.home} with all its data: add --yes")
    if not (settings.home / "run").is_dir():
        raise ServiceError("destroy", f"{settings.home} is no home of clickstream (CLICKSTREAM_HOME)")
    Cluster(settings).down()
    shutil.rmtree(settings.home)


commands = [demo, up, down, reload, status, submit, run, logs, destroy]
