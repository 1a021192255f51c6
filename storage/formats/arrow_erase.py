"""Erases people from envelopes in Arrow tables, for formats that keep records in columns."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ingest.event.anonymise import People, anonymised
from storage.formats.parquet.rows import plain_times


def own_rows(table: pa.Table, people: People) -> list[int]:
    """Indices of the rows of events, or plain records, of these people."""
    if "event" not in table.column_names:
        times = table["appended_at"].cast(pa.int64()).to_pylist()
        rows = zip(times, table["key"].to_pylist(), table["value"].to_pylist(), strict=True)
        return [at for at, row in enumerate(rows) if people.own_plain(*row)]
    event = table["event"].combine_chunks()
    users, visitors = (pa.array(list(ids), pa.string()) for ids in (people.users, people.visitors))
    named = pc.or_(pc.is_in(event.field("user_id"), users), pc.is_in(event.field("anonymous_id"), visitors))
    candidates = pc.indices_nonzero(named).to_pylist()
    rows = plain_times(event.take(pa.array(candidates, pa.int64()))).to_pylist()
    return [at for at, row in zip(candidates, rows, strict=True) if people.own(row)]


def anonymised_rows(table: pa.Table, rows: list[int]) -> pa.Table:
    """The table with these rows anonymised."""
    if not rows:
        return table
    if "event" in table.column_names:
        event = table["event"].combine_chunks()
        plain = plain_times(event.take(pa.array(rows, pa.int64())))
        new = pa.array([anonymised(each) for each in plain.to_pylist()], plain.type)
        times = [column.cast(field.type) for column, field in zip(new.flatten(), event.type, strict=True)]
        return _put(table, "event", rows, pa.StructArray.from_arrays(times, fields=list(event.type)))
    for name in ("key", "value"):
        table = _put(table, name, rows, pa.nulls(len(rows), table.schema.field(name).type))
    return table


def _put(table: pa.Table, name: str, rows: list[int], values: Any) -> pa.Table:
    """The table with a column's values replaced in these rows."""
    at, order = table.column_names.index(name), list(range(len(table)))
    for number, row in enumerate(rows):
        order[row] = len(table) + number
    column = pa.concat_arrays([table[name].combine_chunks(), values]).take(pa.array(order))
    return table.set_column(at, table.schema.field(at), column)
