"""What YARN's containers unpack: Spark's jars, and the Python packages that jobs import, each as one zip.

A name tells the content by a hash, so that what lies on HDFS is never uploaded twice and never replaced.
"""

from __future__ import annotations

import ast
import hashlib
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution, packages_distributions, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from infra import jars, submit
from infra.errors import DependencyError

_USED_BY_SPARK = {"numpy", "pandas", "pyarrow"}  # in functions that run on executors
_LEFT_OUT = {"pyspark", "py4j", "datafusion"}  # Spark brings its own; with datafusion only the sink works
_NOT_NEEDED = {"tests", "include", "__pycache__"}  # without Hadoop's native code YARN needs 10 ms for each file


@dataclass(frozen=True)
class Archive:
    """`files` maps a path in the zip to a file of this machine."""

    name: str
    files: Mapping[str, Path]

    def write(self, folder: Path) -> Path:
        """The zip in `folder`; not compressed, since jars are and the rest is unpacked once per worker."""
        target = folder / self.name
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
            for name, file in self.files.items():
                archive.write(file, name)
        return target


def spark() -> Archive:
    """Spark's own jars and those of its extensions."""
    own = sorted((submit.spark_home() / "jars").glob("*.jar"))
    files = {jar.name: jar for jar in [*own, *jars.jars("spark")]}
    digest = _digest((name, str(file.stat().st_size)) for name, file in files.items())
    return Archive(f"spark-{version('pyspark')}-{digest}.zip", files)


def environment() -> Archive:
    """The installed packages that our jobs import, with all that those depend on, but for Spark's part.

    Workers need the same minor version of Python and the same kind of machine. Raises DependencyError for a package
    whose files are not known.
    """
    hashes, files = {}, {}
    for package in _packages():
        for name, digest, file in _content(package):
            hashes[name], files[name] = digest, file
    return Archive(f"environment-{_digest(hashes.items())}.zip", files)


def _content(package: Distribution) -> Iterator[tuple[str, str, Path]]:
    """(path below site-packages, its hash, file) of what the package installed and may need when it runs."""
    if package.files is None:
        raise DependencyError(f"{package.name} does not say which files it installed: install it with pip or uv")
    for file in package.files:
        # Scripts and data lie outside, and what was made later has no hash.
        if file.hash and ".." not in file.parts and not _NOT_NEEDED & {*file.parts}:
            yield file.as_posix(), file.hash.value, Path(str(package.locate_file(file)))


def _packages() -> list[Distribution]:
    """What jobs import, directly or not; what is not installed here, they do without here too."""
    owners = packages_distributions()
    imported = {name.partition(".")[0] for name in _imported()} | _USED_BY_SPARK
    waiting = [Requirement(owner) for name in imported - set(submit.PACKAGES) for owner in owners.get(name, [])]
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        for extra in {"", *wanted.extras}:
            if name in _LEFT_OUT or (name, extra) in seen:
                continue
            seen.add((name, extra))
            try:
                found[name] = distribution(name)
            except PackageNotFoundError:
                continue
            requirements = map(Requirement, found[name].requires or [])
            waiting += [one for one in requirements if one.marker is None or one.marker.evaluate({"extra": extra})]
    return [found[name] for name in sorted(found)]


def _imported() -> set[str]:
    """Names of all modules that the jobs' files import, and our modules among those, wherever the import stands."""
    found: set[str] = set()
    waiting = [f"processing.jobs.{job}" for job in submit.jobs()]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        if name.partition(".")[0] in submit.PACKAGES and (file := submit.source(name)):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Import):
                    waiting += [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.module:
                    waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def _digest(content: Iterable[tuple[str, str]]) -> str:
    return hashlib.sha256(repr(sorted(content)).encode()).hexdigest()[:16]
