"""A small file is written anew when HDFS seems to wait for ever, and readers never see a half of it."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import pytest

from infra.settings import Settings
from storage import hdfs
from storage.errors import Unreachable
from storage.hdfs import Hdfs


class Hanging(Hdfs):
    """An HDFS whose first writes never end."""

    def __init__(self, hangs: int) -> None:
        super().__init__(Settings())
        self.hangs, self.files, self.created = hangs, dict[str, bytes](), 0
        self.never = threading.Event()

    def create(self, path: str, chunks: Iterable[bytes], create_parents: bool = False) -> int:
        self.created += 1
        self.files[path] = b""
        if self.created <= self.hangs:
            self.never.wait()
        self.files[path] = b"".join(chunks)
        return len(self.files[path])

    def rename(self, source: str, target: str, overwrite: bool = False) -> None:
        if target in self.files and not overwrite:
            raise FileExistsError(target)
        self.files[target] = self.files.pop(source)

    def delete(self, path: str, recursive: bool = False) -> bool:
        return self.files.pop(path, None) is not None


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdfs, "_SMALL_WRITE_SECONDS", 0.05)
    monkeypatch.setattr(hdfs, "_SMALL_WRITE_TRIES", 3)


def test_a_write_that_hangs_is_begun_anew() -> None:
    fs = Hanging(hangs=2)
    fs.write_atomically("/a/b", b"whole")
    assert fs.files == {"/a/b": b"whole"}


def test_writes_that_all_hang_end_with_the_path_and_the_setting() -> None:
    fs = Hanging(hangs=3)
    with pytest.raises(Unreachable, match=r"/a/b: .*CLICKSTREAM_HDFS__URL.* file of 5 bytes in 3 times"):
        fs.write_atomically("/a/b", b"whole")
    assert fs.files == {}


def test_a_taken_name_stays_and_nothing_temporary_is_left() -> None:
    fs = Hanging(hangs=0)
    fs.files["/a/b"] = b"first"
    with pytest.raises(FileExistsError):
        fs.write_atomically("/a/b", b"second")
    assert fs.files == {"/a/b": b"first"}
