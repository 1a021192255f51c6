"""The footer of a Parquet file, which says in its key-value metadata what the file holds. No I/O."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from storage.errors import ContainerError
from storage.formats.file_info import FileInfo

_TAIL = 8  # bytes: the footer's length, and the magic
_MAGIC = b"PAR1"


def read_info(tail: bytes) -> FileInfo:
    """The FileInfo in a file's last bytes. Raises ContainerError, `truncated` if they are too few."""
    return said_by(read_footer(footer_of(tail)))


def footer_of(tail: bytes) -> bytes:
    """The footer in a file's last bytes. Raises ContainerError, `truncated` if they are too few."""
    if tail[-4:] != _MAGIC:
        raise ContainerError("not a Parquet file")
    size = int.from_bytes(tail[-_TAIL:-4], "little") + _TAIL
    if len(tail) < size:
        raise ContainerError("the footer is longer than what was read of it", truncated=True)
    return tail[-size:]


def read_footer(footer: bytes) -> pq.FileMetaData:
    """Parses a footer. Raises ContainerError."""
    try:
        return pq.read_metadata(pa.BufferReader(footer))
    except (pa.ArrowException, OSError) as error:
        raise ContainerError(f"the footer can't be read: {error}") from error


def said_by(footer: pq.FileMetaData) -> FileInfo:
    """The FileInfo in a footer. Raises ContainerError."""
    return FileInfo.from_metadata({name.decode(): value for name, value in (footer.metadata or {}).items()})
