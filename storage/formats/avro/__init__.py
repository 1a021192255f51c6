"""Avro container files: `sink.format = avro`, the default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from storage.formats.avro import merge
from storage.formats.avro.blocks import read_metadata, rows
from storage.formats.avro.erase import erase_file
from storage.formats.avro.writer import Container
from storage.formats.envelope import body_fields, plain_envelope
from storage.formats.file_info import FileInfo
from storage.formats.format import Codec, Format, Part
from storage.formats.headers import read_enough
from storage.hdfs import Hdfs


def _require(check_bodies: bool) -> None:
    if check_bodies:
        from storage.formats.arrow_decoder import require  # pyarrow takes a while to import

        require("sink.check_bodies")


def _writer(schema: Mapping[str, Any], partition: int, codec: Codec, check_bodies: bool) -> Container:
    """Checks bodies that others encoded; our own plain envelopes need no check."""
    if not check_bodies or schema == plain_envelope():
        return Container(schema, partition, codec)
    from storage.formats.arrow_decoder import decoder  # it needs datafusion

    return Container(schema, partition, codec, decoder(body_fields(schema)).sound)


def _read_info(fs: Hdfs, path: str) -> FileInfo:
    return read_enough(fs.read_head, path, read_metadata)


def _part(fs: Hdfs, path: str) -> Part:
    """Any files can become one: records of an older schema are brought up to the newest."""
    return Part(path)


def _merge(fs: Hdfs, parts: Sequence[Part], target: str, codec: Codec) -> FileInfo:
    return merge.merge(fs, [part.path for part in parts], target, codec)


FORMAT = Format(
    suffix="avro",
    spark_source="avro",
    columnar=False,
    require=_require,
    writer=_writer,
    read_info=_read_info,
    rows=rows,
    part=_part,
    merge=_merge,
    erase=erase_file,
)
