"""Archives for YARN's containers: Spark's jars, and the Python packages that jobs import, as one zip each.

Each name has a hash of the content, so an archive on HDFS is never uploaded twice and never replaced.
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

from infra import jars, project
from infra.errors import DependencyError
from infra.spark import submit

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
    """The installed packages that jobs import, with their dependencies, without those that Spark brings.

    Workers need the same minor version of Python and the same architecture. Raises DependencyError for a package
    whose installed files are not recorded.
    """
    hashes, files = {}, {}
    for package in _packages():
        for name, digest, file in _content(package):
            hashes[name], files[name] = digest, file
    return Archive(f"environment-{_digest(hashes.items())}.zip", files)


def _content(package: Distribution) -> Iterator[tuple[str, str, Path]]:
    """(path below site-packages, hash, file) of each file that the package may need at run time."""
    if package.files is None:
        raise DependencyError(f"{package.name} does not say which files it installed: install it with pip or uv")
    for file in package.files:
        # Scripts and data lie outside, and what was made later has no hash.
        if file.hash and ".." not in file.parts and not _NOT_NEEDED & {*file.parts}:
            yield file.as_posix(), file.hash.value, Path(str(package.locate_file(file)))


def _packages() -> list[Distribution]:
    """Distributions that jobs import, directly or not; those not installed here are left out."""
    owners = packages_distributions()
    imported = {name.partition(".")[0] for name in _imported()} | _USED_BY_SPARK
    waiting = [Requirement(owner) for name in imported - set(project.SPARK_PACKAGES) for owner in owners.get(name, [])]
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
    """Names of all modules that the jobs, and our modules that they import, import anywhere in their code, or name in a
    text, as registries of modules do: "storage.formats.avro", "processing.algorithms.als:IMPLICIT"."""
    found: set[str] = set()
    waiting = [f"processing.jobs.{job}" for job in submit.jobs()]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        if name.partition(".")[0] in project.SPARK_PACKAGES and (file := project.source(name)):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Import):
                    waiting += [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.module:
                    waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    module = node.value.partition(":")[0]
                    is_ours = module.partition(".")[0] in project.SPARK_PACKAGES
                    if is_ours and module.replace(".", "_").isidentifier() and project.source(module):
                        waiting.append(module)
    return found


def _digest(content: Iterable[tuple[str, str]]) -> str:
    return hashlib.sha256(repr(sorted(content)).encode()).hexdigest()[:16]
