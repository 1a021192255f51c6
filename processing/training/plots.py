"""Pictures of an evaluation. Pure: results in, a figure out, drawn without a display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from processing.training.comparison import METRICS, K, Result
from processing.training.outcomes import Judged


def metrics(results: Sequence[Result]) -> Any:
    """A matplotlib figure: each metric of all users, a bar per contestant with its 95 % interval."""
    return _bars([r for r in results if r.segment == "all"], [f"{name}@{K}" for name in METRICS], "contestant")


def segments(results: Sequence[Result], contestant: str) -> Any:
    """A matplotlib figure: nDCG of one contestant by segment, with its 95 % interval and the number of users."""
    from matplotlib.figure import Figure

    own = [result for result in results if result.contestant == contestant]
    figure = Figure(figsize=(7, 0.5 * len(own) + 1.2), layout="constrained")
    axes = figure.subplots()
    for place, result in enumerate(own):
        estimate = result.estimates["ndcg"]
        if estimate.mean is None or estimate.low is None or estimate.high is None:
            continue
        axes.plot([estimate.low, estimate.high], [place, place], color="tab:blue")
        axes.plot([estimate.mean], [place], "o", color="tab:blue")
    axes.set_yticks(range(len(own)), [f"{result.segment} (n = {result.n_users})" for result in own])
    axes.set_xlabel(f"nDCG@{K} of {contestant}, 95 % interval")
    axes.set_xlim(left=0)
    axes.invert_yaxis()
    return figure


def reliability(judged: Sequence[Judged]) -> Any:
    """A matplotlib figure: for each contestant, what share came true of what it gave which probability."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    highest = max((bin_.predicted for one in judged for bin_ in one.reliability), default=1.0)
    axes.plot([0, highest], [0, highest], color="grey", linewidth=1, linestyle="--")
    for one in judged:
        axes.plot(*zip(*((b.predicted, b.observed) for b in one.reliability), strict=True), "o-", label=one.contestant)
    axes.set_xlabel("probability given")
    axes.set_ylabel("share that came true")
    axes.legend()
    return figure


def _bars(results: Sequence[Result], names: Sequence[str], title: str) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / max(1, len(results))
    for number, result in enumerate(results):
        places = [place + (number - (len(results) - 1) / 2) * width for place in range(len(names))]
        means, errors = _with_errors(result.estimates)
        axes.bar(places, means, width, yerr=errors, capsize=3, label=f"{result.contestant} (n = {result.n_users})")
    axes.set_xticks(range(len(names)), names)
    axes.legend(title=title)
    return figure


def _with_errors(estimates: Mapping[str, Any]) -> tuple[list[float], list[list[float]]]:
    """Means, and how far the interval reaches below and above; zeros where there is nobody to compare on."""
    known = [estimate if estimate.mean is not None else None for estimate in estimates.values()]
    means = [one.mean if one else 0.0 for one in known]
    below = [max(0.0, one.mean - one.low) if one else 0.0 for one in known]
    above = [max(0.0, one.high - one.mean) if one else 0.0 for one in known]
    return means, [below, above]
