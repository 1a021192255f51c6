"""Writes a file under a temporary name and renames it to its final one, which may be that of a file to replace."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from storage.errors import StorageError
from storage.hdfs import Hdfs
from storage.layout import temporary_path


def rewrite(fs: Hdfs, path: str, write: Callable[[str], Any], overwrite: bool = False) -> None:
    """Calls `write` with a temporary path, to write and check the file, then renames it to `path` in one step.

    Raises what `write` raises, and FileExistsError if `path` is taken; then the temporary file is deleted.
    """
    unfinished = temporary_path(path)
    try:
        write(unfinished)
        fs.rename(unfinished, path, overwrite)
    except BaseException:
        with suppress(OSError, StorageError):
            fs.delete(unfinished)
        raise
