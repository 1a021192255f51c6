"""up, down, status, submit, logs, destroy: the commands around the one-machine cluster."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from infra.demo import demo, live_states
from infra.errors import ServiceError
from infra.settings import Settings

_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print facts as JSON.")


@click.command()
@click.argument("services", nargs=-1)
@click.option("--with", "extra", type=click.Choice(["yarn", "history"]), multiple=True, help="Also start this.")
@_AS_JSON
def up(services: tuple[str, ...], extra: tuple[str, ...], as_json: bool) -> dict[str, float]:
    """Start Kafka, HDFS, Airflow, collector, sink and web app, or just SERVICES; wait until each is well."""
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
@_AS_JSON
def status(as_json: bool = False) -> dict[str, Any]:
    """Show each service's state, and the URLs. Exit code 1 unless all are well."""
    from infra.services.cluster import Cluster

    settings = Settings.from_env()
    cluster = Cluster(settings)
    services = cluster.status()
    facts = {"home": str(settings.home), "services": services, "urls": cluster.urls()}
    if as_json:
        click.echo(json.dumps(facts, indent=2))
    else:
        table = Table("service", "state", "pid", "problem", box=None)
        for name, service in services.items():
            table.add_row(name, service["state"], str(service["pid"] or ""), service["problem"] or "")
        Console().print(table)
        for name, url in facts["urls"].items():  # type: ignore[attr-defined]
            click.echo(f"{name}: {url}")
    if any(service["state"] not in ("healthy", "external") for service in services.values()):
        click.get_current_context().exit(1)
    return facts


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
    from infra.submit import command

    settings = Settings.from_env()
    mode = ["--deploy-mode", deploy_mode] if deploy_mode else []
    options = [*mode, *(part for one in conf for part in ("--conf", one))]
    submitted = command(settings, job, arguments, options)
    if not (settings.home / "conf" / "spark" / "spark-defaults.conf").is_file():
        raise ServiceError("submit", f"{settings.home} has no configuration of Spark yet: run `clickstream up` first")
    done = subprocess.run(submitted, env=Cluster(settings).environment(), check=False)
    click.get_current_context().exit(done.returncode)


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


commands = [demo, up, down, reload, status, submit, logs, destroy]
