"""Which code runs: the package's version, and a hash of the sources, which no commit needs to have seen."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from infra.settings import Settings

_PACKAGES = ("infra", "ingest", "storage", "processing")


def of(settings: Settings) -> str:
    """`<version>+<hash>`, of the zip that spark-submit ships where there is one, else of the files beside this one."""
    here = Path(__file__).parents[2]  # in a container itself the zip
    archive = here if here.is_file() else settings.home / "run" / "clickstream.zip"
    if archive.is_file():
        with zipfile.ZipFile(archive) as found:
            sums = {entry.filename: entry.CRC for entry in found.infolist()}
    else:
        sums = _files(here)
    digest = hashlib.sha256("\n".join(f"{name} {crc}" for name, crc in sorted(sums.items())).encode())
    try:
        return f"{version('clickstream')}+{digest.hexdigest()[:12]}"
    except PackageNotFoundError:  # on a worker that has the zip alone
        return digest.hexdigest()[:12]


def _files(project: Path) -> dict[str, int]:
    return {
        file.relative_to(project).as_posix(): zlib.crc32(file.read_bytes())
        for package in _PACKAGES
        for file in (project / package).rglob("*")
        if file.suffix in {".py", ".avsc"}
    }
