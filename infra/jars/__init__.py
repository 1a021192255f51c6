"""The JVM jars of Kafka, Hadoop and Spark's extensions: what is needed (*.toml), exactly which (*.lock.toml, with
sha256), fetched by jgo into the user's Maven cache. `python -m infra.jars` resolves the locks anew.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tenacity import retry, stop_after_attempt, wait_exponential

from infra.errors import DependencyError

if TYPE_CHECKING:
    from jgo.env._lockfile import LockedDependency
    from jgo.maven import MavenContext

Bundle = Literal["kafka", "hadoop", "spark", "lineage", "bench"]
BUNDLES: tuple[Bundle, ...] = ("kafka", "hadoop", "spark")  # what the platform runs on
AT_NEED: tuple[Bundle, ...] = ("lineage", "bench")
_HERE = Path(__file__).parent
_LAST = "hadoop-client-minicluster"


def jars(bundle: Bundle) -> list[Path]:
    """The bundle's jars in class path order, downloaded and checked against the lock where they are not yet there.

    Raises DependencyError naming the jar that can't be had or has another checksum.
    """
    try:
        from jgo.env import LockFile
    except ImportError as error:
        raise DependencyError("jgo is not installed: install the extra `cluster`") from error
    logging.getLogger("jgo").setLevel(logging.ERROR)
    locked = LockFile.load(_HERE / f"{bundle}.lock.toml").dependencies
    context = _maven()
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda one: _fetch(context, one), locked))
    return sorted(paths, key=lambda path: path.name.startswith(_LAST))


def class_path(paths: Iterable[Path]) -> str:
    """For `java -cp`."""
    return ":".join(map(str, paths))


def _maven() -> MavenContext:
    from jgo.maven import MavenContext

    return MavenContext(timeout=60)


def _fetch(context: MavenContext, locked: LockedDependency) -> Path:
    artifact = (
        context.project(locked.groupId, locked.artifactId)
        .at_version(locked.version)
        .artifact(classifier=locked.classifier or "", packaging=locked.packaging)
    )

    @retry(stop=stop_after_attempt(4), wait=wait_exponential(), reraise=True)
    def fetch() -> Path:
        path = Path(artifact.resolve())
        digest = _sha256(path)
        if digest != locked.sha256:
            path.unlink()  # cut short by a crash, or another file: the next try fetches it anew
            raise DependencyError(f"{artifact.filename}: sha256 {digest}, locked is {locked.sha256}")
        return path

    try:
        return fetch()
    except DependencyError:
        raise
    except Exception as error:
        raise DependencyError(f"{artifact.filename} can't be fetched from Maven Central: {error}") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def lock(bundle: Bundle) -> None:
    """Resolves the bundle's coordinates with all they depend on, and writes its lock."""
    from jgo.env import EnvironmentBuilder, EnvironmentSpec

    spec = EnvironmentSpec.load(_HERE / f"{bundle}.toml")
    file = EnvironmentBuilder(_maven()).resolve_lockfile(spec)
    file.save(_HERE / f"{bundle}.lock.toml")
