"""Options and cells that the commands of the benches share: names of algorithms, numbers with their intervals."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from infra.errors import DependencyError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def chosen(algorithms: str, known: Collection[str]) -> list[str]:
    """The names, each once, in their order. Raises UsageError for one that is not known."""
    names = list(dict.fromkeys(name.strip() for name in algorithms.split(",")))
    if unknown := set(names) - set(known):
        raise click.UsageError(f"--algorithms: {', '.join(sorted(unknown))}: choose of {', '.join(known)}")
    return names


def needs(command: str) -> DependencyError:
    return DependencyError(f"clickstream bench {command} needs numpy: pip install 'clickstream[spark]'")


@contextmanager
def spark_where(needed: bool) -> Iterator[SparkSession | None]:
    """A Spark session on this machine, where it is needed. Raises DependencyError without pyspark or Java."""
    if not needed:
        yield None
        return
    try:
        from processing.bench.local_spark import session
    except ImportError as error:
        raise DependencyError("MLlib's models need Spark: pip install 'clickstream[spark]'") from error
    with session() as spark:
        yield spark


def cells(facts: Mapping[str, Any], metric: str, signed: bool = False) -> tuple[str, str]:
    """A metric and its interval, empty where there is none."""
    mean, interval = facts.get(metric), facts.get(f"{metric}_interval")
    if mean is None or interval is None:
        return "" if mean is None else f"{mean:.3f}", ""
    number = "+.3f" if signed else ".3f"
    return f"{mean:{number}}", f"[{interval[0]:{number}}, {interval[1]:{number}}]"
