"""Who may write a partition: epochs, taken by one exclusive rename each. No lease, no lock service, no clock.

    <epochs>/e=7/<token>/…       the working folder of the live epoch 7
    <epochs>/fenced/e=6          epochs that are over; emptied, but the name stays, so that a number is never used twice
    <epochs>/new-<token>/<token> a claim that has no number yet

To own a partition: (1) N = 1 + the highest number, live or fenced; (2) rename an own folder to e=N, again if that is
taken; (3) list: if anyone is above N, or N itself was fenced meanwhile, withdraw; (4) move every epoch below N to
fenced/. Only then is the position read from the files. A paused former owner finds its folder gone: create and rename
fail.

The token closes one more hole: a claimant that slept between (1) and (2) may re-create a number that was fenced
meanwhile, and the former owner of that number would find e=N again, but not its e=N/<token>.
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
from storage.layout import Layout, visible

Step = Literal["prepared", "numbered", "renamed", "checked", "fenced"]
_EPOCH = re.compile(r"^e=(\d+)$")
_NEW = "new-"


@dataclass(frozen=True, slots=True)
class Epoch:
    """The right to publish files of a partition, as long as `path`, its working folder, is there."""

    fs: Hdfs
    layout: Layout
    partition: int
    number: int
    path: str

    def create(self, name: str, chunks: Iterable[bytes]) -> int:
        """Writes a file in the working folder, unseen by readers; its size in bytes. Raises Fenced or StorageError."""
        try:
            return self.fs.create(f"{self.path}/{name}", chunks)
        except (OSError, StorageError) as error:
            raise self._why(error, name) from error

    def publish(self, name: str, final: str, overwrite: bool = False) -> None:
        """Moves a created file to its final path: the one moment in which it appears. Raises Fenced or StorageError."""
        try:
            self.fs.mkdirs(final.rsplit("/", 1)[0])
            self.fs.rename(f"{self.path}/{name}", final, overwrite)
        except (OSError, StorageError) as error:
            raise self._why(error, final) from error

    def held(self) -> bool:
        """Whether nobody has taken the partition yet; it may have changed when you read this."""
        return self.fs.exists(self.path)

    def release(self) -> None:
        """Ends the epoch, so that nothing of this process can publish any more. Harmless when it has ended already."""
        root, token = self.layout.epochs(self.partition), self.path.rsplit("/", 1)[-1]
        _fence(self.fs, root, self.number, token)

    def _why(self, error: Exception, name: str) -> Exception:
        if not self.held():
            return Fenced(self.layout.topic, self.partition, self.number)
        return error if isinstance(error, StorageError) else StorageError(name, str(error))


def claim(fs: Hdfs, layout: Layout, partition: int) -> Epoch:
    """Makes the caller the partition's only owner. Raises Fenced when somebody came later and is ahead."""
    steps = claiming(fs, layout, partition)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            epoch: Epoch = end.value
            return epoch


def claiming(fs: Hdfs, layout: Layout, partition: int) -> Generator[Step, None, Epoch]:
    """The protocol, one yield after each of its steps, so that tests can stop an owner anywhere."""
    root, token = layout.epochs(partition), uuid.uuid4().hex
    while True:
        fs.mkdirs(f"{root}/{_NEW}{token}/{token}")
        yield "prepared"
        number = 1 + max([0, *_live(fs, root), *_fenced(fs, root)])
        yield "numbered"
        try:
            fs.rename(f"{root}/{_NEW}{token}", f"{root}/e={number}")
        except (FileExistsError, FileNotFoundError):
            continue  # the number is taken, or a later owner has tidied our folder away
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
            if name.startswith(_NEW):  # of claimants that died, or will see us and start again
                fs.delete(f"{root}/{name}", recursive=True)
        yield "fenced"
        return Epoch(fs, layout, partition, number, f"{root}/e={number}/{token}")


def position(fs: Hdfs, layout: Layout, partition: int) -> int:
    """The first offset that no visible file covers: 0 for a new partition. Only the owner may rely on it."""
    root = layout.raw(partition)
    for bucket in reversed(fs.names(root)):
        ranges = visible(fs.names(f"{root}/{bucket}"))
        if ranges:  # a crash between mkdirs and rename leaves an empty bucket
            return max(r.last for r in ranges) + 1
    return 0


def _live(fs: Hdfs, root: str) -> set[int]:
    return {int(match[1]) for name in fs.names(root) if (match := _EPOCH.match(name))}


def _fenced(fs: Hdfs, root: str) -> set[int]:
    return _live(fs, f"{root}/fenced")


def _fence(fs: Hdfs, root: str, number: int, token: str = "") -> None:
    """Moves e=`number` to fenced/ and empties it there; with `token`, only if it is that claimant's."""
    source, target = f"{root}/e={number}", f"{root}/fenced/e={number}"
    if token and not fs.exists(f"{source}/{token}"):
        return
    fs.mkdirs(f"{root}/fenced")
    try:
        fs.rename(source, target)
    except FileNotFoundError:
        return  # somebody else has done it
    except FileExistsError:
        fs.delete(source, recursive=True)  # a number that was re-created late: its name is in fenced/ already
        return
    with suppress(FileNotFoundError):
        for entry in fs.list(target):
            fs.delete(entry.path, recursive=True)
