"""The event schemas that writers use: which is newer, and how a body moves up to a newer one. No I/O."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import fastavro
from fastavro.schema import parse_schema

from ingest.codec import schema_fingerprint, without_logical_types
from storage.errors import ContainerError

Schema = Mapping[str, Any]


class Registry:
    """fingerprint (8 bytes, as single-object encoding has it) -> schema, as `clicks.schemas` brought them."""

    def __init__(self) -> None:
        self._schemas: dict[bytes, Schema] = {}

    def __contains__(self, fingerprint: bytes) -> bool:
        return fingerprint in self._schemas

    def __getitem__(self, fingerprint: bytes) -> Schema:
        return self._schemas[fingerprint]

    def __len__(self) -> int:
        return len(self._schemas)

    @property
    def known(self) -> Mapping[bytes, Schema]:
        return self._schemas

    def add(self, schema: Schema) -> bytes:
        """Learns a schema, under the fingerprint that it has, whatever anyone claims; returns that."""
        fingerprint = schema_fingerprint(schema)
        self._schemas.setdefault(fingerprint, schema)
        return fingerprint

    def newer(self, one: bytes, other: bytes) -> bool:
        """Whether schema `one` is newer than `other`.

        Versions only ever gain fields, so the one with more is newer; among equals the one that appeared later. The
        order of appearance alone would not do: an old collector that restarts publishes its schema again, and
        compaction of the topic keeps only that later record.
        """
        order = list(self._schemas)
        return (extent(self[one]), order.index(one)) > (extent(self[other]), order.index(other))


def extent(schema: Any) -> int:
    """How many fields, symbols and branches a schema has, at all depths: it grows with each version."""
    if isinstance(schema, Mapping):
        own = len(schema.get("fields", ())) + len(schema.get("symbols", ()))
        nested = [schema.get("type"), schema.get("items"), schema.get("values"), *schema.get("fields", ())]
        return own + sum(extent(part) for part in nested if not isinstance(part, str))
    if isinstance(schema, list):
        return len(schema) + sum(extent(branch) for branch in schema)
    return 0


def transcoder(writer: Schema, reader: Schema) -> Callable[[bytes], bytes]:
    """A function from a body of `writer` to the body of the same event in `reader`; raises ContainerError."""
    old, new = (parse_schema(without_logical_types(schema)) for schema in (writer, reader))

    def transcode(body: bytes) -> bytes:
        source, target = io.BytesIO(body), io.BytesIO()
        try:
            fastavro.schemaless_writer(target, new, fastavro.schemaless_reader(source, old, new))
        except Exception as error:  # fastavro raises whatever its input makes it stumble over
            raise ContainerError(f"body does not follow its schema: {error!r}") from error
        if source.tell() != len(body):
            raise ContainerError(f"{len(body) - source.tell()} bytes after the body")
        return target.getvalue()

    return transcode
