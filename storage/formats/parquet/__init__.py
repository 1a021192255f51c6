"""Parquet files: `sink.format = parquet`, which needs datafusion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from storage.formats import arrow_decoder
from storage.formats.file_info import FileInfo
from storage.formats.format import Codec, Format
from storage.formats.headers import read_enough
from storage.formats.parquet.erase import erase_file
from storage.formats.parquet.footer import read_info
from storage.formats.parquet.merge import merge, part
from storage.formats.parquet.rows import rows
from storage.formats.parquet.writer import ParquetFile
from storage.hdfs import Hdfs


def _require(check_bodies: bool) -> None:
    arrow_decoder.require("sink.format = parquet")


def _writer(schema: Mapping[str, Any], partition: int, codec: Codec, check_bodies: bool) -> ParquetFile:
    """Bodies are always checked, since they are decoded, and always compressed by zstandard."""
    return ParquetFile(schema, partition)


def _read_info(fs: Hdfs, path: str) -> FileInfo:
    return read_enough(fs.read_tail, path, read_info)


FORMAT = Format(
    suffix="parquet",
    spark_source="parquet",
    columnar=True,
    require=_require,
    writer=_writer,
    read_info=_read_info,
    rows=rows,
    part=part,
    merge=merge,
    erase=erase_file,
)
