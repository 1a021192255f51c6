"""Raw session actions from a file in the columns of the RecSys Challenge 2019 (trivago)."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from processing.bench.clicks.impressions import Action
from processing.bench.files import FileError, read_table

_COLUMNS = ("user_id", "session_id", "timestamp", "step", "action_type", "reference", "impressions", "prices")
_NEEDED = _COLUMNS[:5]
_NUMBERS = {"timestamp": pa.float64(), "step": pa.int64()}


def read_actions(path: Path) -> list[Action]:
    """One a row; impressions and prices are separated by |. Raises FileError."""
    table = read_table(path, lambda name: name in _COLUMNS and name not in _NUMBERS)
    if missing := [name for name in _COLUMNS if name not in table.column_names]:
        raise FileError(path, f"no column {missing[0]!r} among {', '.join(table.column_names)}")
    columns = []
    for name in _COLUMNS:
        values = table[name]
        if name in _NEEDED and values.null_count:
            raise FileError(path, f"column {name!r} has {values.null_count} empty values")
        try:
            columns.append(values.cast(_NUMBERS.get(name, pa.string())).to_pylist())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise FileError(path, f"column {name!r}: {error}") from error
    return [_action(path, number, *row) for number, row in enumerate(zip(*columns, strict=True), 1)]


def _action(
    path: Path,
    number: int,
    user: str,
    session: str,
    time: float,
    step: int,
    kind: str,
    reference: str | None,
    impressions: str | None,
    prices: str | None,
) -> Action:
    items = tuple(impressions.split("|")) if impressions else ()
    try:
        paid = tuple(map(float, prices.split("|"))) if prices else ()
    except ValueError as error:
        raise FileError(path, f"row {number}: column 'prices': {error}") from None
    if paid and len(paid) != len(items):
        raise FileError(path, f"row {number}: {len(items)} impressions, but {len(paid)} prices")
    return Action(user, session, time, step, kind, reference or "", items, paid)
