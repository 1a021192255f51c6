"""Anybody's ratings or sessions from a file: CSV, TSV, JSON lines or Parquet, gzipped or not; ids become
integers.

Ids are texts: 007 is not 7, and an id of 20 digits is no number that is rounded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, json
from pyarrow import parquet as pq

from infra.errors import ClickstreamError

# A column is found by any of its usual names; what RecBole appends for the type (user_id:token) is left out.
_NAMES = {
    "user": ("user", "user_id", "userid", "visitor_id", "visitor"),
    "session": ("session", "session_id", "sessionid"),
    "item": ("item", "item_id", "itemid", "product_id", "movieid"),
    "rating": ("rating", "weight", "score"),
    "timestamp": ("timestamp", "time", "order", "occurred_at"),
}
_IDS = ("user", "session", "item")
_ROW = msgspec.json.Decoder(dict[str, msgspec.Raw])
IsText = Callable[[str], bool]  # whether a column of this name is read as texts, whatever they look like


class FileError(ClickstreamError):
    """A file that is not what a bench needs: names the file, and the column or line."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"{path}: {reason}")


@dataclass(frozen=True, eq=False)
class Ratings:
    """One row a rating, compared by identity.

    `users` and `items` index the ids in `user_ids` and `item_ids`; `times` may be missing.
    """

    users: npt.NDArray[np.int64]
    items: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    times: npt.NDArray[np.float64] | None
    user_ids: list[str]
    item_ids: list[str]

    def __len__(self) -> int:
        return len(self.users)

    def part(self, chosen: npt.NDArray[Any]) -> Ratings:
        """The rows of a mask or of indices, with the same ids."""
        times = None if self.times is None else self.times[chosen]
        return Ratings(self.users[chosen], self.items[chosen], self.values[chosen], times, self.user_ids, self.item_ids)


@dataclass(frozen=True)
class Sessions:
    """`items` of each session in the order of their times, indexing `item_ids`; `ends` when each ended. Sessions go by
    their ends."""

    items: list[list[int]]
    ends: list[float]
    item_ids: list[str]


def read_ratings(*paths: Path) -> tuple[Ratings, ...]:
    """The ratings of each file; ids have the same index in all of them. Raises FileError."""
    tables = [_columns(path, ("user", "item", "rating"), ("timestamp",)) for path in paths]
    columns, parts = _together(paths, tables)
    users, items = (pc.dictionary_encode(columns[name]) for name in ("user", "item"))
    everything = Ratings(
        _indices(users),
        _indices(items),
        columns["rating"].to_numpy(zero_copy_only=False),
        columns["timestamp"].to_numpy(zero_copy_only=False) if "timestamp" in columns else None,
        users.dictionary.to_pylist(),
        items.dictionary.to_pylist(),
    )
    return tuple(everything.part(rows) for rows in parts)


def read_sessions(*paths: Path) -> tuple[Sessions, ...]:
    """The sessions of each file; items have the same index in all of them. Raises FileError."""
    tables = [_columns(path, ("session", "item", "timestamp"), ()) for path in paths]
    columns, parts = _together(paths, tables)
    sessions, items = (pc.dictionary_encode(columns[name]) for name in ("session", "item"))
    ids, times = items.dictionary.to_pylist(), columns["timestamp"].to_numpy(zero_copy_only=False)
    return tuple(_sessions(_indices(sessions)[rows], _indices(items)[rows], times[rows], ids) for rows in parts)


def _sessions(
    sessions: npt.NDArray[np.int64], items: npt.NDArray[np.int64], times: npt.NDArray[np.float64], ids: list[str]
) -> Sessions:
    order = np.lexsort((times, sessions))
    starts = np.flatnonzero(np.diff(sessions[order], prepend=-1))
    runs = np.split(order, starts[1:])
    runs.sort(key=lambda run: float(times[run[-1]]))
    return Sessions([items[run].tolist() for run in runs], [float(times[run[-1]]) for run in runs], ids)


def _indices(encoded: pa.DictionaryArray) -> npt.NDArray[np.int64]:
    indices: npt.NDArray[np.int64] = encoded.indices.to_numpy().astype(np.int64)
    return indices


def _together(paths: tuple[Path, ...], tables: list[pa.Table]) -> tuple[dict[str, Any], list[npt.NDArray[np.int64]]]:
    """All rows by column, and which rows are each file's."""
    for path, table in zip(paths, tables, strict=True):
        if table.column_names != tables[0].column_names:
            raise FileError(path, f"columns {table.column_names}, but {paths[0]} has {tables[0].column_names}")
    whole = pa.concat_tables(tables)
    ends = np.cumsum([len(table) for table in tables])
    parts = [np.arange(end - len(table), end) for end, table in zip(ends, tables, strict=True)]
    return {name: whole[name].combine_chunks() for name in whole.column_names}, parts


def _columns(path: Path, needed: tuple[str, ...], optional: tuple[str, ...]) -> pa.Table:
    """Ids as strings, everything else as numbers."""
    table = read_table(path, _is_id)
    by_name = {_usual(name): name for name in table.column_names}
    found = {}
    for column in (*needed, *optional):
        present = [by_name[name] for name in _NAMES[column] if name in by_name]
        if present:
            found[column] = table[present[0]]
        elif column in needed:
            raise FileError(path, f"no column {column!r} among {', '.join(table.column_names)}")
    for column, values in found.items():
        if values.null_count:
            raise FileError(path, f"column {column!r} has {values.null_count} empty values")
        try:
            found[column] = values if column in _IDS else _numbers(values)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise FileError(path, f"column {column!r}: {error}") from error
    return pa.table(found)


def _usual(name: str) -> str:
    return name.split(":")[0].strip().lower()


def _is_id(name: str) -> bool:
    return any(_usual(name) in _NAMES[column] for column in _IDS)


def _numbers(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Values as doubles; times in whatever unit, as only their order and their distances count."""
    if pa.types.is_temporal(values.type):
        values = values.cast(pa.timestamp("ms")).cast(pa.int64())
    return values.cast(pa.float64())


def read_table(path: Path, is_text: IsText = lambda name: False) -> pa.Table:
    """Reads a table by its suffix, but for .gz: a tab in the first line means that it separates the columns. An empty
    text is null. Raises FileError for one that can't be read, has no rows, or a column twice."""
    try:
        table = _read(path, is_text)
    except (OSError, pa.ArrowInvalid, msgspec.DecodeError) as error:
        raise FileError(path, str(error)) from error
    if not len(table):
        raise FileError(path, "no rows")
    if len(set(table.column_names)) < len(table.column_names):
        raise FileError(path, f"a column is there twice: {', '.join(table.column_names)}")
    for number, name in enumerate(table.column_names):
        if is_text(name):
            table = table.set_column(number, name, _texts(path, name, table[name]))
    return table


def _read(path: Path, is_text: IsText) -> pa.Table:
    kind = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if kind == ".parquet":
        return pq.read_table(path)
    with pa.input_stream(str(path), compression="detect") as stream:
        data = stream.read()
    if kind in (".jsonl", ".ndjson", ".json"):
        return _read_json(data, is_text)
    parsed = csv.ParseOptions(delimiter="\t" if b"\t" in data.split(b"\n", 1)[0] else ",")
    names = csv.open_csv(pa.BufferReader(data), parse_options=parsed).schema.names
    texts = csv.ConvertOptions(column_types={name: pa.string() for name in names if is_text(name)})
    return csv.read_csv(pa.BufferReader(data), parse_options=parsed, convert_options=texts)


def _read_json(data: bytes, is_text: IsText) -> pa.Table:
    """JSON lines; numbers and truth values of text columns are put into quotes as they are written."""
    lines, texts = [], set[str]()
    for line in data.splitlines():
        if line.strip():
            row = _ROW.decode(line)
            plain = {name: bytes(raw) for name, raw in row.items() if is_text(name)}
            texts |= plain.keys()
            if unquoted := {name: raw for name, raw in plain.items() if raw[:1] not in b'"n[{'}:
                quoted = {name: msgspec.Raw(b'"%s"' % raw) for name, raw in unquoted.items()}
                line = msgspec.json.encode({**row, **quoted})
            lines.append(line)
    schema = pa.schema([(name, pa.string()) for name in sorted(texts)])
    return json.read_json(
        pa.BufferReader(b"\n".join(lines)), parse_options=json.ParseOptions(explicit_schema=schema if texts else None)
    )


def _texts(path: Path, name: str, values: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        texts = values.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise FileError(path, f"column {name!r}: {error}") from error
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)
