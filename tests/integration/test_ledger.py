"""The ledger, counted from files as they lie on a real HDFS; and the commands that show it."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from infra.settings import Settings
from storage import exports
from storage.batches import cuts, ledger
from storage.batches.cuts import Cut
from storage.errors import BatchError, StorageError
from storage.formats.avro.writer import Container
from storage.formats.envelope import plain_envelope
from storage.formats.file_info import FileInfo, Gap, Span
from storage.hdfs import Hdfs
from storage.layout import Layout
from tests.support.commands import facts, run
from tests.support.corners import own_topics, produce
from tests.support.events import event


def land(
    fs: Hdfs,
    layout: Layout,
    first: int,
    last: int,
    quarantined: Sequence[Span] = (),
    gaps: Sequence[Gap] = (),
    partition: int = 0,
) -> None:
    """A file whose header says this."""
    container = Container(plain_envelope(), partition, "null")
    records = last - first + 1 - sum(s[1] - s[0] + 1 for s in quarantined) - sum(g[1] - g[0] + 1 for g in gaps)
    info = FileInfo(layout.topic, partition, first, last, records, tuple(quarantined), tuple(gaps))
    path = f"{layout.raw(partition)}/{layout.file(partition, first, last, 'avro')}"
    fs.create(path, container.file(info), create_parents=True)


def test_a_file_over_a_cut_is_counted_exactly_in_both_batches(fs: Hdfs, layout: Layout) -> None:
    land(fs, layout, 0, 29, [(8, 11)], [(14, 16, "kafka"), (20, 24, "lost"), (28, 28, "kafka")])
    one = cuts.take(fs, layout, "one", lambda: {0: 10})
    two = cuts.take(fs, layout, "two", lambda: {0: 22})
    three = cuts.take(fs, layout, "three", lambda: {0: 30})

    def terms(cut: Cut) -> tuple[int, ...]:
        found = ledger.current(fs, layout, cut)
        assert found.landed_complete
        return tuple(found.total(name) for name in ("landed", "quarantined", "explained", "lost", "files"))

    assert terms(one) == (8, 2, 0, 0, 1)
    assert terms(two) == (5, 2, 3, 2, 1)
    assert terms(three) == (4, 0, 1, 3, 1)


def test_what_no_file_answers_for_is_missing_and_said_by_partition(fs: Hdfs, layout: Layout) -> None:
    land(fs, layout, 0, 9)
    land(fs, layout, 15, 19)
    cut = cuts.take(fs, layout, "one", lambda: {0: 20, 1: 3, 2: 0})
    found = ledger.current(fs, layout, cut)
    assert (found.landed_complete, found.missing) == (False, {0: 5, 1: 3})
    land(fs, layout, 10, 14)
    land(fs, layout, 0, 7, partition=1)
    assert ledger.current(fs, layout, cut).landed_complete


def test_compacted_files_count_instead_of_their_parts(fs: Hdfs, layout: Layout) -> None:
    for first in (0, 10):
        land(fs, layout, first, first + 9)
    land(fs, layout, 0, 19, [(3, 3)])
    found = ledger.current(fs, layout, cuts.take(fs, layout, "one", lambda: {0: 20}))
    assert [found.total(name) for name in ("landed", "quarantined", "files")] == [19, 1, 1]


def test_a_header_larger_than_the_first_look_is_read_whole(fs: Hdfs, layout: Layout) -> None:
    gaps: list[Gap] = [(n, n, "kafka") for n in range(1, 20_000, 2)]
    land(fs, layout, 0, 19_999, gaps=gaps)
    found = ledger.current(fs, layout, cuts.take(fs, layout, "one", lambda: {0: 20_000}))
    assert (found.total("landed"), found.total("explained")) == (10_000, 10_000)


def test_a_file_whose_header_contradicts_its_name_or_is_cut_short_is_an_error(fs: Hdfs, layout: Layout) -> None:
    land(fs, layout, 0, 9)
    cut = cuts.take(fs, layout, "one", lambda: {0: 10})
    (file,) = cuts.files(fs, layout, cut)
    whole = fs.read(file.path)
    for content, reason in ((whole[:100], "cut short"), (b"", "cut short"), (b"text", "not an Avro")):
        fs.write_atomically(file.path, content, overwrite=True)
        with pytest.raises(StorageError, match=reason):
            ledger.current(fs, layout, cut)
    fs.write_atomically(file.path, whole.replace(b"clickstream.last\x029", b"clickstream.last\x028"), overwrite=True)
    with pytest.raises(StorageError, match=r"its header says partition 0, 0\.\.8"):
        ledger.current(fs, layout, cut)


def test_the_publish_gate_is_recorded_by_partition_and_kept_when_landing_is_counted_again(
    fs: Hdfs, layout: Layout
) -> None:
    land(fs, layout, 0, 9)
    land(fs, layout, 0, 4, partition=1)
    cut = cuts.take(fs, layout, "one", lambda: {0: 10, 1: 5, 2: 0})
    with pytest.raises(BatchError, match="has no ledger yet"):
        ledger.load(fs, layout, cut)
    ledger.record_landing(fs, layout, ledger.current(fs, layout, cut))
    assert not ledger.load(fs, layout, cut).curated_yet
    recorded = ledger.record_publish(fs, layout, cut, {0: (8, 2, 0), 1: (4, 0, 1)})
    assert recorded.published_balanced
    assert ledger.load(fs, layout, cut) == recorded == ledger.current(fs, layout, cut)
    ledger.record_landing(fs, layout, ledger.current(fs, layout, cut))
    assert ledger.load(fs, layout, cut) == recorded
    again = ledger.record_publish(fs, layout, cut, {0: (8, 1, 0), 1: (4, 0, 1)})
    assert again.curated_yet and not again.published_balanced
    with pytest.raises(BatchError, match=r"no partitions \[7\]"):
        ledger.record_publish(fs, layout, cut, {7: (1, 0, 0)})


def test_the_commands_cut_show_and_judge(cluster_settings: Settings) -> None:
    settings = own_topics(cluster_settings, partitions=1)
    fs, layout = Hdfs(settings), Layout(settings.hdfs.root, settings.kafka.topic)
    assert "has no cut yet" in str(run(settings, "ledger").exception)
    produce(settings, 0, [event(str(n)) for n in range(10)])
    taken = facts(run(settings, "cut", "--name", "one", "--json"))
    assert (taken["name"], taken["offsets"], taken["ends"]) == ("one", 10, {"0": 10})

    incomplete = run(settings, "ledger", "--json")
    assert (incomplete.exit_code, facts(incomplete)["missing"]) == (1, 10)
    land(fs, layout, 0, 9)
    complete = run(settings, "ledger", "--batch", "one", "--json")
    assert (complete.exit_code, facts(complete)["landed"], facts(complete)["curated"]) == (0, 10, None)
    assert "not curated yet" in run(settings, "ledger").stdout

    ledger.record_publish(fs, layout, cuts.get(fs, layout, "one"), {0: (8, 1, 0)})
    unbalanced = run(settings, "ledger")
    assert unbalanced.exit_code == 1 and "publish gate: does not balance" in unbalanced.stdout
    ledger.record_publish(fs, layout, cuts.get(fs, layout, "one"), {0: (8, 1, 1)})
    assert run(settings, "ledger").exit_code == 0

    before = facts(run(settings, "report", "--json"))
    assert (before["curated"], before["duplicates"], before["sessions"], before["export"]) == (8, 1, None, None)
    learnt = {"sessions": 3, "visitors": 2, "items": 5, "model": {"algorithm": "als"}, "recommendations": 7}
    report = exports.report(settings.hdfs.root, "v1")
    fs.write_atomically(report, json.dumps(learnt).encode())
    exports.publish_current(fs, settings.hdfs.root, "v1")
    assert learnt.items() <= facts(run(settings, "report", "--batch", "one", "--json")).items()
    assert "als" in run(settings, "report").stdout


def test_a_default_name_is_the_time_in_utc(cluster_settings: Settings) -> None:
    settings = own_topics(cluster_settings, partitions=1)
    found = facts(run(settings, "cut", "--json"))
    assert found["taken_at"][:13] == found["name"][:13]
    assert len(found["name"]) == len("2026-11-21T05-32-10Z") and found["name"].endswith("Z")


def test_an_hdfs_that_does_not_answer_is_told_by_its_setting(corner: Settings) -> None:
    absent = corner.model_copy(update={"hdfs": corner.hdfs.model_copy(update={"url": "hdfs://127.0.0.1:1"})})
    with pytest.raises(StorageError, match="CLICKSTREAM_HDFS__URL"):
        Hdfs(absent).list("/")
