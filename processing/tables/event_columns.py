"""The columns that follow from the event's schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ingest.event.fields import kind

_SQL = {
    "string": "STRING",
    "enum": "STRING",
    "boolean": "BOOLEAN",
    "int": "INT",
    "long": "BIGINT",
    "double": "DOUBLE",
    "timestamp": "TIMESTAMP",
}


def sql_columns(record: Mapping[str, Any]) -> dict[str, str]:
    """Name -> SQL type of an Avro record's fields, in order."""
    return {field["name"]: _sql_type(field) for field in record["fields"]}


def _sql_type(field: Mapping[str, Any]) -> str:
    of, type_ = kind(field), field["type"]
    if of == "record":
        return f"STRUCT<{', '.join(f'{name}: {inner}' for name, inner in sql_columns(type_).items())}>"
    if of == "map":
        return f"MAP<STRING, {_SQL[type_['values']]}>"
    return f"ARRAY<{_SQL[type_['items']]}>" if of == "array" else _SQL[of]
