"""The event schemas that writers use: which is newer, and how a body is transcoded to a newer one. No I/O."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import fastavro
from fastavro.schema import parse_schema

from ingest.event.codec import SCHEMA, schema_fingerprint, without_logical_types
from storage.errors import ContainerError

Schema = Mapping[str, Any]


class SchemaRegistry:
    """Fingerprint (8 bytes, as in single-object encoding) -> schema, in the order of topic `clicks.schemas`."""

    def __init__(self) -> None:
        self._schemas: dict[bytes, Schema] = {}
        self._versions: set[bytes] = set()

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
        """Adds a schema under the fingerprint that is computed from it, which is returned."""
        fingerprint = schema_fingerprint(schema)
        if fingerprint not in self._schemas:
            self._schemas[fingerprint] = schema
            if extends(schema, SCHEMA) or extends(SCHEMA, schema):
                self._versions.add(fingerprint)
        return fingerprint

    def is_version(self, fingerprint: bytes) -> bool:
        """Whether a known schema is a version of the event contract, older or newer, and not somebody else's."""
        return fingerprint in self._versions

    def newer(self, one: bytes, other: bytes) -> bool:
        """Whether schema `one` is newer than `other`.

        Versions only add fields, so a schema that extends another is newer; of equal ones the one that was added later.
        The order alone is not enough: an old collector that restarts publishes its schema again, and compaction of the
        topic keeps only that later record.
        """
        if not self.extends(one, other):
            return False
        order = list(self._schemas)
        return not self.extends(other, one) or order.index(one) > order.index(other)

    def extends(self, newer: bytes, older: bytes) -> bool:
        """Whether a body of schema `older` can be transcoded to `newer` without loss."""
        return extends(self[newer], self[older])


def extends(newer: Any, older: Any) -> bool:
    """Whether `newer` is `older`, or only adds to it: fields with a default, symbols, branches of unions."""
    if isinstance(newer, list) or isinstance(older, list):
        return all(any(extends(branch, one) for branch in _branches(newer)) for one in _branches(older))
    kind = _kind(older)
    if _kind(newer) != kind:
        return False
    match kind:
        case "record":
            added = _fields(newer).keys() - _fields(older).keys()
            return (
                newer["name"] == older["name"]
                and all("default" in _fields(newer)[name] for name in added)
                and all(
                    name in _fields(newer) and extends(_fields(newer)[name]["type"], field["type"])
                    for name, field in _fields(older).items()
                )
            )
        case "enum":
            return set(older["symbols"]) <= set(newer["symbols"])
        case "array" | "map":
            of = "items" if kind == "array" else "values"
            return extends(newer[of], older[of])
    return True


def _kind(schema: Any) -> str:
    """The name of a type, which may be given as a text or as an object with attributes."""
    return schema if isinstance(schema, str) else _kind(schema["type"])


def _branches(schema: Any) -> list[Any]:
    return schema if isinstance(schema, list) else [schema]


def _fields(record: Schema) -> dict[str, Any]:
    return {field["name"]: field for field in record["fields"]}


def transcoder(writer: Schema, reader: Schema) -> Callable[[bytes], bytes]:
    """A function from a body of `writer` to the body of the same event in `reader`; raises ContainerError."""
    old, new = (parse_schema(without_logical_types(schema)) for schema in (writer, reader))

    def transcode(body: bytes) -> bytes:
        source, target = io.BytesIO(body), io.BytesIO()
        try:
            fastavro.schemaless_writer(target, new, fastavro.schemaless_reader(source, old, new))
        except Exception as error:  # fastavro has no common error for garbled input
            raise ContainerError(f"body does not follow its schema: {error!r}") from error
        if source.tell() != len(body):
            raise ContainerError(f"{len(body) - source.tell()} bytes after the body")
        return target.getvalue()

    return transcode
