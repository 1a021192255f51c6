"""Compaction on a real HDFS, of files that the sink's own writer made."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import fastavro
import pytest

from infra.settings import Settings
from infra.settings.jobs import Compaction
from storage.audit.topic import audit
from storage.batches import cuts, ledger
from storage.formats.headers import read_info
from storage.hdfs import Hdfs
from storage.landed import position
from storage.layout import Layout
from storage.sink.epochs import claim_epoch
from storage.upkeep.compaction import Compacted, compact
from tests.support.commands import facts, run
from tests.support.landing import UNREADABLE, Lander, files, newer_event, rows

RULES = Compaction(min_files=2, grace_seconds=3600)


def land_some(fs: Hdfs, layout: Layout) -> None:
    """Six files of three kinds: two codecs, an older and a newer schema, quarantined and missing offsets."""
    lander = Lander(fs, layout)
    lander.events(3_000).file()
    lander.events(40).values(UNREADABLE).file()
    lander = Lander(fs, layout, codec_="deflate")
    lander.events(50).gap(9).file()
    lander.gap(5, "lost").file()
    lander = Lander(fs, layout)
    lander.values(*(newer_event(f"n{n}") for n in range(30))).file()
    lander.events(20).file()
    end = position(fs, layout, 0)
    cut = cuts.take(fs, layout, "one", lambda: {0: end})
    ledger.record_landing(fs, layout, ledger.current(fs, layout, cut))


def compacted(fs: Hdfs, layout: Layout, ahead: float = 0.0, **rules: float) -> Compacted:
    return compact(fs, layout, RULES.model_copy(update=rules), "zstandard", lambda: time.time() + ahead)


def test_many_become_one_with_the_same_records_and_the_parts_go_later(fs: Hdfs, layout: Layout) -> None:
    land_some(fs, layout)
    before, parts = rows(fs, layout), files(fs, layout)
    assert len(parts) == 6
    done = compacted(fs, layout)
    assert (done.written, done.ledgers, done.deleted, done.failed) == (1, 1, 0, {})
    (larger,) = files(fs, layout)
    assert rows(fs, layout) == before
    # Anybody's Avro library reads it, and whoever listed the parts before still can.
    read = list(fastavro.reader(io.BytesIO(fs.read(larger))))
    assert [row["offset"] for row in read] == [offset for _, offset, *_ in before]
    assert sum(len(list(fastavro.reader(io.BytesIO(fs.read(part))))) for part in parts) == len(before)
    assert len(read_info(fs, larger).gaps) == 2
    assert compacted(fs, layout, ahead=3000).deleted == 0
    assert compacted(fs, layout, ahead=3700).deleted == 6
    assert rows(fs, layout) == before
    assert not audit(fs, layout, deep=True).findings
    assert ledger.load(fs, layout, cuts.get(fs, layout, "one")).total("files") == 1
    assert position(fs, layout, 0) == before[-1][1] + 1


def test_several_at_once_write_one_file_and_leave_nothing_behind(fs: Hdfs, layout: Layout) -> None:
    land_some(fs, layout)
    before = rows(fs, layout)
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: compacted(fs, layout), range(4)))
    assert sum(one.written for one in done) == 1
    assert not [one.failed for one in done if one.failed]
    assert rows(fs, layout) == before
    assert len(fs.names(f"{layout.raw(0)}/b=0000000000")) == 7


def test_beside_an_owner_that_goes_on_publishing_nothing_is_touched_that_is_open(fs: Hdfs, layout: Layout) -> None:
    land_some(fs, layout)
    epoch = claim_epoch(fs, layout, 0)
    lander = Lander(fs, layout)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(compacted, fs, layout)
        for _ in range(5):
            lander.events(10).file()
        assert running.result().written == 1
    assert epoch.is_live()
    assert len(files(fs, layout)) == 6
    assert not audit(fs, layout, deep=True).findings


KILLED = """
import os, sys, time
from infra.settings.jobs import Compaction
from infra.settings import Settings
from storage.upkeep.compaction import compact
from storage.hdfs import Hdfs
from storage.layout import Layout

class Dying(Hdfs):
    def __getattribute__(self, name):
        if name == sys.argv[1]:
            self.left = self.__dict__.get("left", int(sys.argv[2])) - 1
            if self.left < 0:
                os.kill(os.getpid(), 9)
        return super().__getattribute__(name)

settings = Settings(hdfs={"port": int(sys.argv[3]), "root": sys.argv[4]})
rules = Compaction(min_files=2, grace_seconds=0)
compact(Dying(settings), Layout(sys.argv[4], sys.argv[5]), rules, "zstandard", lambda: time.time() + 9)
"""


@pytest.mark.parametrize(("verb", "times"), [("rename", 0), ("rename", 1), ("delete", 0), ("delete", 3)])
def test_killed_it_leaves_each_record_once_and_the_next_run_ends_it(
    corner: Settings, fs: Hdfs, layout: Layout, verb: str, times: int
) -> None:
    land_some(fs, layout)
    before = rows(fs, layout)
    where = [str(corner.hdfs.port), corner.hdfs.root, corner.kafka.topic]
    died = subprocess.run([sys.executable, "-c", KILLED, verb, str(times), *where], timeout=60)
    assert died.returncode == -9
    assert rows(fs, layout) == before
    assert not audit(fs, layout, deep=True).findings
    compacted(fs, layout, ahead=4_000, grace_seconds=0)
    assert rows(fs, layout) == before
    assert len(fs.names(f"{layout.raw(0)}/b=0000000000")) == 1
    assert ledger.load(fs, layout, cuts.get(fs, layout, "one")).total("files") == 1


def test_the_command_says_what_there_is_to_do_and_does_it(corner: Settings, fs: Hdfs, layout: Layout) -> None:
    lander = Lander(fs, layout)
    for _ in range(8):
        lander.events(5).file()
    cuts.take(fs, layout, "one", lambda: {0: 40})
    assert "8 files of" in run(corner, "compact", "--dry-run").stdout
    assert len(files(fs, layout)) == 8
    done = run(corner, "compact", "--json")
    assert (done.exit_code, facts(done)["written"], facts(done)["expired"]["batches"]) == (0, 1, [])
    assert len(files(fs, layout)) == 1
    assert run(corner, "compact").exit_code == 0
