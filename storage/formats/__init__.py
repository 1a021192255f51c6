"""Formats of landed files: written from encoded bodies, read, merged, and people erased from them.

A format is a module here with a `FORMAT`, and a line in FORMATS; nothing outside knows a format by its name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pkgutil import resolve_name

from storage.errors import StorageError
from storage.formats.format import Format


class Formats(Mapping[str, Format]):
    """Suffix -> Format. A format's module, and the libraries that it needs, are imported when it is first asked for."""

    def __init__(self, **modules: str) -> None:
        self._modules = modules

    def __getitem__(self, suffix: str) -> Format:
        found: Format = resolve_name(f"{self._modules[suffix]}:FORMAT")
        return found

    def __contains__(self, suffix: object) -> bool:
        return suffix in self._modules

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)


FORMATS = Formats(
    avro="storage.formats.avro",
    parquet="storage.formats.parquet",
)


def format_of(path: str) -> Format:
    """The format that a file's name states. Raises StorageError if it is none."""
    suffix = path.rsplit(".", 1)[-1]
    if suffix not in FORMATS:
        raise StorageError(path, f"no reader for {suffix!r}")
    return FORMATS[suffix]
