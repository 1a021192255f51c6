"""Decodes encoded bodies into Arrow columns. The only module that imports datafusion.

The bodies become one block of an Avro container, in memory, which datafusion reads. A mark behind each body, of random
bytes that no event can know, shows that every body was read from its first byte to its last: one that is too short or
too long would otherwise shift its neighbours.
"""

from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import compress
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.compute as pc
from fastavro.schema import parse_schema

from infra.errors import DependencyError
from ingest.event.codec import without_logical_types
from storage.errors import ContainerError
from storage.formats.envelope import varint

_SYNC = bytes(16)
_MARK_NAME = "clickstream_mark"
_JOIN = 1_000  # bodies at a time


def require(setting: str) -> None:
    """Raises DependencyError, which names the setting that needs it, if datafusion is not installed."""
    try:
        import datafusion  # noqa: F401
    except ImportError as error:
        raise DependencyError(f"{setting} needs datafusion: pip install 'clickstream[parquet]'") from error


@cache
def decoder(fields: str) -> Decoder:
    """A decoder of bodies with these Avro fields, given in JSON."""
    return Decoder(json.loads(fields))


class Decoder:
    """Decodes bodies that consist of these fields of an Avro record; `schema` is that of the columns."""

    def __init__(self, fields: Sequence[Mapping[str, Any]]) -> None:
        self._mark = os.urandom(16)
        mark = {"name": _MARK_NAME, "type": {"type": "fixed", "name": "ClickstreamMark", "size": len(self._mark)}}
        body = {"type": "record", "name": "Body", "namespace": "clickstream", "fields": list(fields)}
        self._header = _header(body | {"fields": [*fields, mark]})
        self._reader = parse_schema(without_logical_types(body))
        marked: pa.Schema = _read_avro([self._header], 1).schema().remove_metadata()
        self.schema: pa.Schema = marked.remove(marked.get_field_index(_MARK_NAME))

    def decode(self, bodies: Sequence[bytes]) -> list[pa.Array]:
        """The bodies' columns. Raises ContainerError if a body does not follow the schema; `sound` tells which."""
        size = sum(map(len, bodies)) + len(self._mark) * len(bodies)
        chunks = [self._header, varint(len(bodies)) + varint(size)]
        for at in range(0, len(bodies), _JOIN):
            chunks += (self._mark.join(bodies[at : at + _JOIN]), self._mark)
        # One batch with all rows: asked for a second with bytes left in the block, datafusion 55 would never return.
        try:
            stream = _read_avro([*chunks, _SYNC], len(bodies)).execute_stream()
            batch = next(iter(stream)).to_pyarrow()
        except StopIteration:
            raise ContainerError("bodies without rows") from None
        except Exception as error:  # datafusion raises plain Exception
            raise ContainerError(f"a body does not follow its schema: {error}") from error
        marks = batch.column(_MARK_NAME)
        if batch.num_rows != len(bodies) or not pc.all(pc.equal(marks, pa.scalar(self._mark, marks.type))).as_py():
            raise ContainerError("a body is longer or shorter than its schema says")
        return [batch.column(name) for name in self.schema.names]

    def sound(self, bodies: Sequence[bytes]) -> list[bool]:
        """For each body, whether it follows the schema: one decode if all do.

        If some don't, fastavro sorts out those that it refuses, too, before the rest is bisected.
        """
        if self._decodes(bodies):
            return [True] * len(bodies)
        found = [self._follows(body) for body in bodies]
        rest = iter(self._bisect(list(compress(bodies, found))))
        return [follows and next(rest) for follows in found]

    def _bisect(self, bodies: Sequence[bytes]) -> list[bool]:
        """The same by bisection, down to single bodies that can't be decoded."""
        if self._decodes(bodies):
            return [True] * len(bodies)
        if len(bodies) == 1:
            return [False]
        middle = len(bodies) // 2
        return self._bisect(bodies[:middle]) + self._bisect(bodies[middle:])

    def _decodes(self, bodies: Sequence[bytes]) -> bool:
        try:
            if bodies:
                self.decode(bodies)
        except ContainerError:
            return False
        return True

    def _follows(self, body: bytes) -> bool:
        """Whether a body follows the schema according to fastavro, which is quicker for a single one."""
        stream = io.BytesIO(body)
        try:
            fastavro.schemaless_reader(stream, self._reader, None)
        except Exception:  # fastavro has no common error for garbled input
            return False
        return stream.tell() == len(body)


def _header(schema: Mapping[str, Any]) -> bytes:
    entries = {"avro.schema": json.dumps(schema).encode(), "avro.codec": b"null"}
    parts = [b"Obj\x01", varint(len(entries))]
    for name, value in entries.items():
        parts += [varint(len(name)), name.encode(), varint(len(value)), value]
    return b"".join([*parts, b"\x00", _SYNC])


def _read_avro(chunks: Sequence[bytes], rows: int) -> Any:
    """A container as a DataFrame of datafusion, in batches of `rows` rows."""
    from datafusion import SessionConfig, SessionContext

    # A new context for each file, since a context may cache by path.
    context = SessionContext(SessionConfig().with_target_partitions(1).with_batch_size(max(1, rows)))
    return context.read_avro(_in_memory(chunks), file_extension="")


_thread = threading.local()


def _in_memory(chunks: Sequence[bytes]) -> str:
    """Path of a file in memory with these chunks. Each thread reuses one, which saves allocating its pages."""
    if not hasattr(_thread, "file"):
        _thread.file = os.memfd_create("bodies")
    file: int = _thread.file
    os.lseek(file, 0, os.SEEK_SET)
    os.ftruncate(file, sum(os.write(file, chunk) for chunk in chunks))
    return f"/proc/self/fd/{file}"
