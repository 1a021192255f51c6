"""clickstream bench classify and impressions: click and conversion models on anybody's data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from infra.options import AS_JSON
from ingest.bench.commands import bench
from processing.bench.clicks.catalog import ORDERS, RERANKERS
from processing.bench.options import FILE, cells, chosen, needs, spark_where
from processing.training import CLASSIFIERS

_SHOWN = ("auc", "pr_auc", "log_loss")


@bench.command("classify")
@click.argument("file", type=FILE)
@click.option("--label", required=True, help="The column that is to be told.")
@click.option("--positive", required=True, help="Its value in the positive rows.")
@click.option("--without", multiple=True, metavar="COLUMN", help="Measure without these columns too.")
@click.option("--ignore", multiple=True, metavar="COLUMN", help="Never learn from these columns.")
@click.option("--categorical", multiple=True, metavar="COLUMN", help="Numbers that are names.")
@click.option("--algorithms", default=",".join(CLASSIFIERS), show_default=True, help="Separated by commas.")
@click.option("--folds", type=click.IntRange(2), default=5, show_default=True)
@click.option("--seed", default=42, show_default=True)
@AS_JSON
def classify(
    file: Path,
    label: str,
    positive: str,
    without: tuple[str, ...],
    ignore: tuple[str, ...],
    categorical: tuple[str, ...],
    algorithms: str,
    folds: int,
    seed: int,
    as_json: bool,
) -> dict[str, Any]:
    """Which rows of FILE are positive: CSV, TSV, JSON lines or Parquet, gzipped or not, with a header.

    Columns of numbers, truth values and times are numbers, others are categories; one with a single value, or with as
    many as there are rows (but for measured numbers), is named and left out. MLlib's gradient-boosted trees, random
    forest and logistic regression learn from all of them, and again without those of --without.

    Nested: each row gets its probability from a model of the other folds' rows, whose parameters and calibration
    come from inner folds of these alone. AUC, PR-AUC (average precision) and log loss have 95 % intervals over rows, by
    bootstrap; the reliability curve has ten bins of equal counts, ECE is the mean distance from it. Starts Spark on
    this machine (Java 17 or 21).
    """
    from rich.console import Console

    names = chosen(algorithms, CLASSIFIERS)
    try:
        import numpy as np

        from processing.bench.clicks.examples import read_examples
    except ImportError as error:
        raise needs("classify") from error
    examples = read_examples(file, label, positive, ignore, categorical)
    if unknown := set(without) - {*examples.numeric, *examples.categorical}:
        raise click.UsageError(f"--without: {', '.join(sorted(unknown))}: not among the columns that are learnt from")
    counts = np.bincount(examples.labels)
    if counts.min() < 2 * folds:
        raise click.UsageError(
            f"--folds: {folds} need {2 * folds} rows of each kind; {counts[1]} of {len(examples.labels)} are positive"
        )
    with Console(stderr=True).status("starting Spark") as status, spark_where(True) as spark:
        from processing.bench.clicks.classify import run

        assert spark is not None
        settings = [(), without] if without else [()]
        results = run(spark, examples, settings, names, folds, seed, status.update)
    facts = {"rows": len(examples.labels), "positive": int(examples.labels.sum()), "left_out": examples.left_out}
    facts |= {"folds": folds, "results": results}
    if as_json:
        click.echo(json.dumps(facts))
        return facts
    for column, reason in examples.left_out.items():
        click.echo(f"{column}: left out, {reason}")
    for setting, of in results.items():
        click.echo(f"\n{setting}, {facts['rows']:,} rows, {facts['positive']:,} positive")
        _print(of)
    return facts


@bench.command("impressions")
@click.argument("file", type=FILE)
@click.option("--split", default="time:0.8", show_default=True, help="time:SHARE, of the lists that is train.")
@click.option("--algorithms", default=",".join(RERANKERS), show_default=True, help="Separated by commas.")
@click.option("--seed", default=42, show_default=True)
@AS_JSON
def impressions(file: Path, split: str, algorithms: str, seed: int, as_json: bool) -> dict[str, Any]:
    """In which order a list should have been shown: session actions in FILE, in the columns of the RecSys Challenge
    2019 (user_id, session_id, timestamp, step, action_type, reference, impressions, prices).

    Each clickout's list is put in order by what was known before the click: given is the order that was shown, touched
    has what the session touched before first, logistic and gbt are MLlib's click models of place, price, the session's
    and the user's earlier actions and how often an item was clicked in the train part. MRR is of the clicked item's
    place, first how often it comes first; 95 % intervals, also of the differences from the given order and from
    touched, are over users, by bootstrap. Starts Spark on this machine (Java 17 or 21) where a model is asked for.
    """
    from rich.console import Console
    from rich.table import Table

    names = chosen(algorithms, RERANKERS)
    try:
        from processing.bench.clicks.actions import read_actions
        from processing.bench.clicks.impressions import replay
        from processing.bench.splits import Split
    except ImportError as error:
        raise needs("impressions") from error
    try:
        how = Split.parse(split)
    except ValueError as error:
        raise click.UsageError(f"--split: {error}") from error
    if how.kind != "time":
        raise click.UsageError(f"--split: {split!r}: lists are split by time alone, time:SHARE")
    with Console(stderr=True).status("reading") as status, spark_where(bool(CLASSIFIERS.keys() & set(names))) as spark:
        shown = replay(read_actions(file), how.part)
        if shown.train.all() or not shown.train.any():
            raise click.UsageError(f"{file}: of {len(shown.train)} lists {int(shown.train.sum())} are before the split")
        try:
            results = _run_impressions(spark, shown, names, seed, status.update)
        except ValueError as error:
            raise click.UsageError(f"{file}: {error}") from error
    facts = {"split": split, "train_lists": int(shown.train.sum()), "test_lists": int((~shown.train).sum())}
    facts |= {"without_list": shown.without_list, "clicked_elsewhere": shown.clicked_elsewhere, "results": results}
    if as_json:
        click.echo(json.dumps(facts))
        return facts
    click.echo(
        f"{facts['train_lists']:,} lists to learn from, {facts['test_lists']:,} to order; left out: "
        f"{shown.without_list:,} clickouts without a list, {shown.clicked_elsewhere:,} of an item not in it"
    )
    table = Table("", "MRR", "95 %", "over given", "95 %", "over touched", "95 %", "first", box=None)
    for name, result in results.items():
        over = [cell for other in ORDERS for cell in cells(result, f"mrr_over_{other}", signed=True)]
        table.add_row(name, *cells(result, "mrr"), *over, cells(result, "first")[0])
    Console().print(table)
    _print({name: result for name, result in results.items() if "auc" in result})
    return facts


def _run_impressions(*arguments: Any) -> dict[str, Any]:
    try:
        from processing.bench.clicks.reranking import run
    except ImportError as error:
        raise needs("impressions") from error
    return run(*arguments)


def _print(results: dict[str, Any]) -> None:
    """Tables of how good probabilities are, and what the models look at."""
    from rich.console import Console
    from rich.table import Table

    if not results:
        return
    good = Table("", *(head for name in ("AUC", "PR-AUC", "log loss") for head in (name, "95 %")), "ECE", box=None)
    for name, result in results.items():
        good.add_row(name, *(cell for metric in _SHOWN for cell in cells(result, metric)), cells(result, "ece")[0])
    console = Console()
    console.print(good)
    best = min(results, key=lambda name: float(results[name]["log_loss"]))
    curve = Table(f"{best} predicted", "observed", "rows", box=None)
    for one in results[best]["reliability"]:
        curve.add_row(f"{one['predicted']:.3f}", f"{one['observed']:.3f}", f"{one['count']:,}")
    console.print(curve)
    for name, result in results.items():
        if "importances" in result:
            most = ", ".join(f"{column} {share:.2f}" for column, share in list(result["importances"].items())[:6])
            click.echo(f"{name} looks at {most}")
