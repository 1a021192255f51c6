"""A file of raw/ or of an export gets its name when it is whole, or takes the place of the one that has it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from storage.errors import StorageError
from storage.hdfs import Hdfs
from storage.layout import temporary


def rewrite(fs: Hdfs, path: str, write: Callable[[str], Any], overwrite: bool = False) -> None:
    """Has `write` make a file under a name of its own, and check it, then gives it the name `path` in one step.

    Raises what `write` raises, and FileExistsError when the name is taken; then nothing is left of the file.
    """
    unfinished = temporary(path)
    try:
        write(unfinished)
        fs.rename(unfinished, path, overwrite)
    except BaseException:
        with suppress(OSError, StorageError):
            fs.delete(unfinished)
        raise
