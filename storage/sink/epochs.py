"""Epochs: which process may write a partition. Each is taken by one exclusive rename; no lease, lock service or clock.

    <epochs>/e=7/<token>/…       the working folder of the live epoch 7
    <epochs>/fenced/e=6          an epoch that has ended; empty, but its name stays: a number is never used twice
    <epochs>/new-<token>/<token> a claim that has no number yet

To own a partition: (1) N = 1 + the highest number, live or fenced; (2) rename a new folder to e=N, and start again if
that is taken; (3) list: withdraw if there is an epoch above N, or N itself was fenced meanwhile; (4) move every epoch
below N to fenced/. Only then is the position read from the files. A paused former owner finds its folder gone: its
creates and renames fail.

The token is needed if a process slept between (1) and (2), and creates a number again that was fenced meanwhile: the
former owner of that number would find e=N, but not its own e=N/<token>.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from storage.errors import Fenced, StorageError
from storage.hdfs import Hdfs
from storage.layout import Layout

Step = Literal["prepared", "numbered", "renamed", "checked", "fenced"]
_EPOCH = re.compile(r"^e=(\d+)$")
_NEW = "new-"


@dataclass(frozen=True, slots=True)
class Epoch:
    """The right to publish files of a partition, as long as its working folder `path` exists."""

    fs: Hdfs
    layout: Layout
    partition: int
    number: int
    path: str

    def create(self, name: str, chunks: Iterable[bytes]) -> int:
        """Writes a file in the working folder, hidden from readers; returns its size. Raises Fenced, StorageError."""
        try:
            return self.fs.create(f"{self.path}/{name}", chunks)
        except (OSError, StorageError) as error:
            raise self._why(error, name) from error

    def publish(self, name: str, final: str, overwrite: bool = False) -> None:
        """Renames a created file to its final path, where readers see it. Raises Fenced or StorageError."""
        try:
            self.fs.mkdirs(final.rsplit("/", 1)[0])
            self.fs.rename(f"{self.path}/{name}", final, overwrite)
        except (OSError, StorageError) as error:
            raise self._why(error, final) from error

    def is_live(self) -> bool:
        """Whether no other process has taken the partition; that may change at any time."""
        return self.fs.exists(self.path)

    def release(self) -> None:
        """Ends the epoch: this process can publish nothing more. No error if it has ended already."""
        root, token = self.layout.epochs(self.partition), self.path.rsplit("/", 1)[-1]
        _fence(self.fs, root, self.number, token)

    def _why(self, error: Exception, name: str) -> Exception:
        if not self.is_live():
            return Fenced(self.layout.topic, self.partition, self.number)
        return error if isinstance(error, StorageError) else StorageError(name, str(error))


def claim_epoch(fs: Hdfs, layout: Layout, partition: int) -> Epoch:
    """Makes the caller the partition's only owner. Raises Fenced if another process overtook it."""
    steps = claim_steps(fs, layout, partition)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            epoch: Epoch = end.value
            return epoch


def claim_steps(fs: Hdfs, layout: Layout, partition: int) -> Generator[Step, None, Epoch]:
    """The protocol, with a yield after each step, so that tests can stop an owner anywhere."""
    root, token = layout.epochs(partition), uuid.uuid4().hex
    while True:
        fs.mkdirs(f"{root}/{_NEW}{token}/{token}")
        yield "prepared"
        number = 1 + max([0, *_live(fs, root), *_fenced(fs, root)])
        yield "numbered"
        try:
            fs.rename(f"{root}/{_NEW}{token}", f"{root}/e={number}")
        except (FileExistsError, FileNotFoundError):
            continue  # the number is taken, or a later owner has deleted our folder
        yield "renamed"
        live, fenced = _live(fs, root), _fenced(fs, root)
        if max([*live, *fenced], default=0) > number or number in fenced:
            _fence(fs, root, number, token)
            raise Fenced(layout.topic, partition, number)
        yield "checked"
        for lower in sorted(live):
            if lower < number:
                _fence(fs, root, lower)
        for name in fs.names(root):
            if name.startswith(_NEW):  # of processes that died, or will start again when they see us
                fs.delete(f"{root}/{name}", recursive=True)
        yield "fenced"
        return Epoch(fs, layout, partition, number, f"{root}/e={number}/{token}")


def _live(fs: Hdfs, root: str) -> set[int]:
    return {int(match[1]) for name in fs.names(root) if (match := _EPOCH.match(name))}


def _fenced(fs: Hdfs, root: str) -> set[int]:
    return _live(fs, f"{root}/fenced")


def _fence(fs: Hdfs, root: str, number: int, token: str = "") -> None:
    """Moves e=`number` to fenced/ and empties it there; with a `token` only if it has that token."""
    source, target = f"{root}/e={number}", f"{root}/fenced/e={number}"
    if token and not fs.exists(f"{source}/{token}"):
        return
    fs.mkdirs(f"{root}/fenced")
    try:
        fs.rename(source, target)
    except FileNotFoundError:
        return  # another process has done it
    except FileExistsError:
        fs.delete(source, recursive=True)  # a number that was created again: it is in fenced/ already
        return
    with suppress(FileNotFoundError):
        for entry in fs.list(target):
            fs.delete(entry.path, recursive=True)
