"""Anybody's table of examples from a file: which rows are positive, which columns are numbers and which categories."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from processing.bench.files import FileError, read_table


@dataclass(frozen=True)
class Examples:
    """`labels` of 0 and 1; `table` has the columns `numeric` (float64) and `categorical` (string), with nulls where the
    file has none. `left_out` says why a column is not among them."""

    table: pa.Table
    labels: npt.NDArray[np.int64]
    numeric: list[str]
    categorical: list[str]
    left_out: dict[str, str]


def read_examples(
    path: Path, label: str, positive: str, ignored: Collection[str] = (), categorical: Collection[str] = ()
) -> Examples:
    """The rows with `positive` in the column `label` are the positive ones. Types are those of the file, but for
    columns of numbers that are named `categorical`. Raises FileError."""
    table = read_table(path, lambda name: name in categorical)
    for name in (label, *ignored, *categorical):
        if name not in table.column_names:
            raise FileError(path, f"no column {name!r} among {', '.join(table.column_names)}")
    labels = _labels(path, table[label], label, positive)
    columns, left_out = {}, dict.fromkeys(ignored, "ignored")
    for name in table.column_names:
        if name != label and name not in left_out:
            values = table[name]
            if reason := _useless(values):
                left_out[name] = reason
            elif name in categorical or _is_text(values.type):
                columns[name] = values.cast(pa.string())
            else:
                columns[name] = _number(values)
    if not columns:
        raise FileError(path, f"no column to learn from: {left_out}")
    texts = [name for name, values in columns.items() if values.type == pa.string()]
    return Examples(pa.table(columns), labels, [name for name in columns if name not in texts], texts, left_out)


def _labels(path: Path, values: pa.ChunkedArray, label: str, positive: str) -> npt.NDArray[np.int64]:
    if values.null_count:
        raise FileError(path, f"column {label!r} has {values.null_count} empty values")
    try:
        texts = np.char.lower(values.cast(pa.string()).to_numpy().astype(str))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise FileError(path, f"column {label!r}: {error}") from error
    labels: npt.NDArray[np.int64] = (texts == positive.lower()).astype(np.int64)
    if not 0 < labels.sum() < len(labels):
        there = ", ".join(sorted(set(texts.tolist()))[:10])
        raise FileError(
            path, f"column {label!r}: {'every' if labels.all() else 'no'} row is {positive!r}; it has {there}"
        )
    return labels


def _useless(values: pa.ChunkedArray) -> str | None:
    """Why a column tells nothing of a row that was not seen before; None if it may."""
    if pa.types.is_nested(values.type) or pa.types.is_binary(values.type):
        return f"type {values.type}"
    if values.null_count == len(values):
        return "no values"
    distinct = pc.count_distinct(values, mode="only_valid").as_py()
    if distinct + bool(values.null_count) < 2:
        return "one value"
    # Measured numbers may all be different.
    if distinct == len(values) and not pa.types.is_floating(values.type):
        return "as many values as rows"
    return None


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind))


def _number(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Truth is 1; a moment is its milliseconds since 1970, a date its days."""
    if pa.types.is_timestamp(values.type):
        values = values.cast(pa.timestamp("ms")).cast(pa.int64())
    elif pa.types.is_date32(values.type):
        values = values.cast(pa.int32())
    elif pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    elif pa.types.is_temporal(values.type):
        values = values.cast(pa.int64(), safe=False)
    return values.cast(pa.float64())
