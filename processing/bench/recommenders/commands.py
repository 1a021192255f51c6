"""clickstream bench ratings and next-item: recommenders side by side on anybody's data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ingest.bench.commands import bench
from processing.algorithms import ALGORITHMS
from processing.bench.options import FILE, cells, chosen, needs, spark_where
from processing.bench.recommenders.catalog import NEXT_ITEM, RECOMMENDERS

if TYPE_CHECKING:
    from processing.bench.files import Ratings

_RANKING, _OF_ALL = ("ndcg", "recall", "map", "mrr"), ("coverage", "novelty_bits")


@bench.command("ratings")
@click.option("--file", type=FILE, help="Ratings that `--split` divides.")
@click.option(
    "--split", default="stratified:0.75", show_default=True, help="stratified:SHARE, time:SHARE, kfold:FOLDS."
)
@click.option("--train", type=FILE, help="Ratings to learn from, beside --test, instead of --file.")
@click.option("--test", type=FILE)
@click.option("--algorithms", default=",".join(RECOMMENDERS), show_default=True, help="Separated by commas.")
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

    Lists are made of all items that a user has not in the train part, and compared with what the test part shows the
    user to have met. Parameters are tuned inside the train part; intervals are of 95 % over users, by bootstrap;
    differences from popularity are of the same users.

    popularity (how many users met an item) and biases are baselines, which need no Spark; the others are production's
    recommenders, fitted as the jobs fit them, in a Spark that is started on this machine (Java 17 or 21). als_explicit
    and biases predict ratings: RMSE and MAE are over the test rows whose user and item the train part has; how many
    others there are is printed.
    """
    from rich.console import Console

    names = chosen(algorithms, RECOMMENDERS)
    if (file is None) == (train is None or test is None):
        raise click.UsageError("give --file, or both --train and --test")
    try:
        from processing.bench.recommenders.ratings import run
        from processing.bench.splits import Split
    except ImportError as error:
        raise needs("ratings") from error
    try:
        how = Split.parse(split)
        parts = _parts(file, how, train, test, seed)
        inner = how if how.kind == "time" else Split("stratified", 0.75)
        with Console(stderr=True).status("") as status, spark_where(bool(ALGORITHMS.keys() & set(names))):
            results = run(parts, inner, names, k, seed, status.update)
    except ValueError as error:
        raise click.UsageError(f"--split: {error}") from error
    facts = {"k": k, "split": split if file else None, "results": results}
    if as_json:
        click.echo(json.dumps(facts))
    else:
        _print(facts)
    return facts


@bench.command("next-item")
@click.option("--train", type=FILE, required=True, help="Sessions to learn from.")
@click.option("--test", type=FILE, required=True, help="Sessions whose next items are guessed.")
@click.option("--algorithms", default=",".join(NEXT_ITEM), show_default=True, help="Separated by commas.")
@click.option("--k", type=click.IntRange(1), default=20, show_default=True, help="Length of the lists.")
@click.option("--seed", default=42, show_default=True, help="Of the bootstrap; the algorithms leave nothing to chance.")
@click.option("--json", "as_json", is_flag=True, help="Print facts as JSON.")
def next_item(train: Path, test: Path, algorithms: str, k: int, seed: int, as_json: bool) -> dict[str, Any]:
    """What comes next in a session: columns session, item, and time or order; CSV, TSV, JSON lines or Parquet.

    For each item of a test session but the first, what was before it is given and it is the one right answer.
    Intervals are of 95 % over sessions, by bootstrap; so are the differences from popularity and from the Markov chain,
    which are of the same predictions. popularity, markov and vsknn are baselines; nearest_sessions is production's.
    """
    from rich.console import Console
    from rich.table import Column, Table

    names = chosen(algorithms, NEXT_ITEM)
    try:
        from processing.bench.files import read_sessions
        from processing.bench.recommenders.next_item import BASELINES, run
    except ImportError as error:
        raise needs("next-item") from error
    with Console(stderr=True).status("reading") as status:
        learnt, held_out = read_sessions(train, test)
        facts: dict[str, Any] = {"k": k, "results": run(learnt, held_out, names, k, seed, status.update)}
    if as_json:
        click.echo(json.dumps(facts))
        return facts
    table = Table(Column(no_wrap=True), f"recall@{k}", "95 %", f"MRR@{k}", "95 %", "predictions", box=None)
    ahead = Table(Column(no_wrap=True), "ahead of", f"recall@{k}", "95 %", f"MRR@{k}", "95 %", box=None)
    for name, result in facts["results"].items():
        table.add_row(name, *cells(result, "recall"), *cells(result, "mrr"), f"{result['predictions']:,}")
        for other in BASELINES:
            if f"recall_over_{other}" in result:
                differences = [cells(result, f"{metric}_over_{other}", signed=True) for metric in ("recall", "mrr")]
                ahead.add_row(name, other, *differences[0], *differences[1])
    Console().print(table)
    if ahead.row_count:
        Console().print(ahead)
    return facts


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
    from rich.table import Column, Table

    console, results = Console(), facts["results"]
    lists = Table(
        Column(no_wrap=True), *(f"{name}@{facts['k']}" for name in _RANKING), "coverage", "novelty, bits", box=None
    )
    predictions = Table(Column(no_wrap=True), "RMSE", "95 %", "MAE", "95 %", "rows", "cold rows left out", box=None)
    ahead = Table(Column(no_wrap=True), f"nDCG@{facts['k']}", "95 %", "over popularity", "95 %", "users", box=None)
    for name, result in results.items():
        lists.add_row(name, *(cells(result, column)[0] for column in (*_RANKING, *_OF_ALL)))
        over = cells(result, "ndcg_over_popularity", signed=True)
        ahead.add_row(name, *cells(result, "ndcg"), *over, f"{result['users']:,}")
        if "predicted" in result:
            rows = f"{result['predicted']:,}", f"{result['cold']:,}"
            predictions.add_row(name, *cells(result, "rmse"), *cells(result, "mae"), *rows)
    for table in (lists, ahead, predictions):
        if table.row_count:
            console.print(table)
    for name, result in results.items():
        if any(result["parameters"]):
            click.echo(f"{name}: {'; '.join(dict.fromkeys(map(str, result['parameters'])))}")
