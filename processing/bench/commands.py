"""clickstream bench ratings and next-item: recommenders side by side on anybody's data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from infra.errors import DependencyError
from ingest.bench.commands import bench

if TYPE_CHECKING:
    from processing.bench.files import Ratings

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_ALGORITHMS = ("popularity", "cooccurrence", "ease")
_NEXT = ("popularity", "markov", "vsknn", "blend")
_RANKING, _OF_ALL = ("ndcg", "recall", "map", "mrr"), ("coverage", "novelty_bits")


@bench.command("ratings")
@click.option("--file", type=_FILE, help="Ratings that `--split` divides.")
@click.option(
    "--split", default="stratified:0.75", show_default=True, help="stratified:SHARE, time:SHARE, kfold:FOLDS."
)
@click.option("--train", type=_FILE, help="Ratings to learn from, beside --test, instead of --file.")
@click.option("--test", type=_FILE)
@click.option("--algorithms", default=",".join(_ALGORITHMS), show_default=True, help="Separated by commas.")
@click.option("--k", type=click.IntRange(1), default=10, show_default=True, help="Length of the lists.")
@click.option("--seed", default=42, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print facts as JSON.")
def ratings(
    file: Path | None,
    split: str,
    train: Path | None,
    test: Path | None,
    algorithms: str,
    k: int,
    seed: int,
    as_json: bool,
) -> dict[str, Any]:
    """Recommenders on columns user, item, rating and, if there is one, timestamp: CSV, TSV, JSON lines or Parquet.

    Parameters are tuned inside the train part; intervals are of 95 % over users, by bootstrap.
    """
    from rich.console import Console

    names = _chosen(algorithms, _ALGORITHMS)
    if (file is None) == (train is None or test is None):
        raise click.UsageError("give --file, or both --train and --test")
    try:
        from processing.bench.ratings import run
        from processing.training.splits import Split
    except ImportError as error:
        raise _needs("ratings") from error
    try:
        how = Split.parse(split)
        parts = _parts(file, how, train, test, seed)
        console = Console(stderr=True)
        with console.status("") as status:
            inner = how if how.kind == "time" else Split("stratified", 0.75)
            facts = {
                "k": k,
                "split": split if file else None,
                "results": run(parts, inner, names, k, seed, status.update),
            }
    except ValueError as error:
        raise click.UsageError(f"--split: {error}") from error
    if as_json:
        click.echo(json.dumps(facts))
    else:
        _print(facts)
    return facts


@bench.command("next-item")
@click.option("--train", type=_FILE, required=True, help="Sessions to learn from.")
@click.option("--test", type=_FILE, required=True, help="Sessions whose next items are guessed.")
@click.option("--algorithms", default=",".join(_NEXT), show_default=True, help="Separated by commas.")
@click.option("--k", type=click.IntRange(1), default=20, show_default=True, help="Length of the lists.")
@click.option("--json", "as_json", is_flag=True, help="Print facts as JSON.")
def next_item(train: Path, test: Path, algorithms: str, k: int, as_json: bool) -> dict[str, Any]:
    """What comes next in a session: columns session, item, and time or order; CSV, TSV, JSON lines or Parquet."""
    from rich.console import Console
    from rich.table import Table

    names = _chosen(algorithms, _NEXT)
    try:
        from processing.bench.files import read_sessions
        from processing.bench.next_item import run
    except ImportError as error:
        raise _needs("next-item") from error
    with Console(stderr=True).status("reading") as status:
        learnt, held_out = read_sessions(train, test)
        facts: dict[str, Any] = {"k": k, "results": run(learnt, held_out, names, k, status.update)}
    if as_json:
        click.echo(json.dumps(facts))
        return facts
    table = Table("", f"recall@{k}", "95 %", f"MRR@{k}", "95 %", "predictions", box=None)
    for name, result in facts["results"].items():
        cells = [
            cell for metric in ("recall", "mrr") for cell in _estimate(result[metric], result[f"{metric}_interval"])
        ]
        table.add_row(name, *cells, f"{result['predictions']:,}")
    Console().print(table)
    return facts


def _chosen(algorithms: str, known: tuple[str, ...]) -> list[str]:
    names = [name.strip() for name in algorithms.split(",")]
    if unknown := set(names) - set(known):
        raise click.UsageError(f"--algorithms: {', '.join(sorted(unknown))}: choose of {', '.join(known)}")
    return names


def _needs(command: str) -> DependencyError:
    return DependencyError(f"clickstream bench {command} needs numpy: pip install 'clickstream[spark]'")


def _estimate(mean: float | None, interval: list[float] | None) -> tuple[str, str]:
    return ("", "") if mean is None or interval is None else (f"{mean:.3f}", f"[{interval[0]:.3f}, {interval[1]:.3f}]")


def _parts(
    file: Path | None, how: Any, train: Path | None, test: Path | None, seed: int
) -> list[tuple[Ratings, Ratings]]:
    from processing.bench.files import read_ratings

    if file is None:
        assert train is not None and test is not None
        learnt, held_out = read_ratings(train, test)
        return [(learnt, held_out)]
    [whole] = read_ratings(file)
    return [(whole.part(mask), whole.part(~mask)) for mask in how.masks(whole.users, whole.times, seed)]


def _print(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", *(f"{name}@{facts['k']}" for name in _RANKING), "coverage", "novelty, bits", box=None)
    for name, result in facts["results"].items():
        cells = ["" if result[column] is None else f"{result[column]:.3f}" for column in (*_RANKING, *_OF_ALL)]
        table.add_row(name, *cells)
    console = Console()
    console.print(table)
    for name, result in facts["results"].items():
        if result["ndcg_interval"] is not None:
            low, high = result["ndcg_interval"]
            click.echo(f"{name}: nDCG 95 % [{low:.3f}, {high:.3f}], {result['users']:,} users, {result['parameters']}")


commands: list[click.Command] = [bench]
