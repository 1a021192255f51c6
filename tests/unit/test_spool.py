"""The spool on a real disk."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.delivery.record import Record
from ingest.delivery.spool import Spool
from ingest.errors import PublishError, SpoolFull

MIB = 1024 * 1024


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = Spool(tmp_path / "spool.db", MIB)
    yield opened
    opened.close()


def record(number: int, size: int = 10) -> Record:
    return Record("clicks", None if number % 2 else b"key", f"{number:0{size}d}".encode())


def drain(spool: Spool) -> list[Record]:
    found: list[Record] = []
    while batch := spool.oldest(7):
        found += [item for _, item in batch]
        spool.delete([id_ for id_, _ in batch])
    return found


def test_records_come_back_oldest_first_and_whole(spool: Spool) -> None:
    spool.append([record(n) for n in range(5)])
    spool.append([record(n) for n in range(5, 20)])
    assert len(spool) == 20
    assert drain(spool) == [record(n) for n in range(20)]
    assert len(spool) == 0


def test_records_survive_their_process(tmp_path: Path) -> None:
    # Opened twice without a close between, as after a kill -9.
    first = Spool(tmp_path / "spool.db", MIB)
    first.append([record(1)])
    second = Spool(tmp_path / "spool.db", MIB)
    assert [item for _, item in second.oldest(10)] == [record(1)]
    first.close()
    second.close()


def test_ids_are_never_used_twice(spool: Spool) -> None:
    # A slow drainer may delete what another one has already drained: it must not hit newer records.
    spool.append([record(1)])
    ids = [id_ for id_, _ in spool.oldest(10)]
    spool.delete(ids)
    spool.append([record(2)])
    spool.delete(ids)
    assert [item for _, item in spool.oldest(10)] == [record(2)]


def test_a_full_spool_says_so_takes_nothing_more_and_recovers(spool: Spool) -> None:
    with pytest.raises(SpoolFull):
        for start in range(0, 10_000, 10):
            spool.append([record(n, 1000) for n in range(start, start + 10)])
    held = len(spool)
    assert held % 10 == 0, "an append is all or nothing"
    assert 500 < held < 1100
    assert drain(spool) == [record(n, 1000) for n in range(held)]
    spool.append([record(n, 1000) for n in range(100)])
    assert len(spool) == 100


def test_the_disk_gets_its_space_back(spool: Spool) -> None:
    spool.append([record(n, 1000) for n in range(500)])
    drain(spool)
    assert spool.path.stat().st_size < 100_000


def test_a_spool_of_size_zero_takes_nothing(tmp_path: Path) -> None:
    off = Spool(tmp_path / "spool.db", 0)
    with pytest.raises(SpoolFull):
        off.append([record(1)])
    off.close()


def test_what_kafka_refuses_is_set_aside_not_lost(spool: Spool) -> None:
    spool.append([record(1), record(2)])
    [(id_, _), _] = spool.oldest(2)
    spool.set_aside(id_, "too large")
    assert [item for _, item in spool.oldest(10)] == [record(2)]
    assert spool.refused() == [(record(1), "too large")]


def test_threads_share_a_spool(spool: Spool) -> None:
    threads = [
        threading.Thread(target=lambda n=n: [spool.append([record(n * 10 + i)]) for i in range(10)]) for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(item.value for item in drain(spool)) == [record(n).value for n in range(40)]


def test_a_folder_that_cannot_be_made_is_a_publish_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PublishError):
        Spool(tmp_path / "file" / "spool.db", MIB)


def test_a_big_spool_is_read_in_pieces(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", 20 * MIB)
    spool.append([record(n, MIB) for n in range(10)])
    assert len(spool.oldest(10)) == 5
    spool.close()


def test_promised_room_is_kept_for_those_whom_it_was_promised(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", MIB, headroom=MIB // 2)
    late = [record(n, 1000) for n in range(50)]
    with spool.reserve(late):
        with pytest.raises(SpoolFull):
            for start in range(0, 10_000, 10):
                spool.append([record(n, 1000) for n in range(start, start + 10)])
        before = len(spool)
        assert 200 < before < 600
        spool.append(late, promised=True)
    assert len(spool) == before + 50
    with pytest.raises(SpoolFull):
        spool.check_room()
    drain(spool)
    spool.check_room()
    spool.close()


def test_no_more_is_promised_than_there_is(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", MIB, headroom=400_000, processes=2)
    with (
        spool.reserve([record(1, 150_000)]),
        pytest.raises(SpoolFull),
        spool.reserve([record(2, 150_000)], patience=0.01),
    ):
        pass
    with spool.reserve([record(2, 150_000)], patience=0.01):
        pass
    with pytest.raises(SpoolFull), spool.reserve([record(3, 250_000)], patience=0.01):  # more than its share, ever
        pass
    spool.close()


def test_who_is_promised_room_may_wait_for_another_to_give_it_back(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", MIB, headroom=200_000)
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        with spool.reserve([record(1, 150_000)]):
            held.set()
            go.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    threading.Timer(0.05, go.set).start()
    with spool.reserve([record(2, 150_000)], patience=5):
        assert go.is_set()
    holder.join()
    spool.close()


def test_the_ballast_holds_the_disk_space_that_was_promised(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", MIB, headroom=200_000)
    ballast = tmp_path / "spool.ballast"
    assert ballast.stat().st_blocks * 512 >= 200_000
    ballast.write_bytes(b"")
    spool.check_room()
    assert ballast.stat().st_blocks * 512 >= 200_000
    spool.close()


def test_a_spool_with_a_record_that_is_too_old_takes_nothing_new(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", MIB, max_age_seconds=0.01)
    spool.append([record(1)])
    time.sleep(0.02)
    with pytest.raises(SpoolFull, match="oldest record"):
        spool.check_room()
    assert spool.state().records == 1 and spool.state().oldest_seconds >= 0.02
    drain(spool)
    spool.check_room()
    spool.close()


def test_a_wall_clock_that_jumps_makes_no_record_older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path / "spool.db", MIB, max_age_seconds=1800)
    spool.append([record(1)])
    true = time.time
    for jump in (7200, -3600):
        monkeypatch.setattr(time, "time", lambda jump=jump: true() + jump)
        spool.append([record(1)])
        spool.check_room()
        assert spool.state().oldest_seconds < 1800
    spool.close()


def test_a_damaged_record_is_set_aside_and_the_others_are_drained(spool: Spool) -> None:
    spool.append([record(n) for n in range(3)])
    with sqlite3.connect(spool.path) as other:
        other.execute("UPDATE waiting SET value = X'78' WHERE id = 2")
    other.close()
    assert drain(spool) == [record(0), record(2)]
    [(_, reason)] = spool.refused()
    assert "checksum" in reason


def test_a_file_that_is_no_spool_is_put_aside_whole(tmp_path: Path) -> None:
    (tmp_path / "spool.db").write_bytes(b"nonsense" * 1000)
    spool = Spool(tmp_path / "spool.db", MIB)
    spool.append([record(1)])
    assert len(spool) == 1
    [aside] = tmp_path.glob("spool.damaged-*")
    assert aside.read_bytes() == b"nonsense" * 1000
    spool.close()


def test_threads_that_append_at_once_share_a_commit(spool: Spool) -> None:
    spool._lock.acquire()  # all of them arrive while another one commits
    threads = [threading.Thread(target=spool.append, args=([record(n)],)) for n in range(8)]
    for thread in threads:
        thread.start()
    while len(spool._queue) < 8:
        time.sleep(0.001)
    commits: list[str] = []
    spool._db.set_trace_callback(lambda statement: commits.append(statement) if statement == "COMMIT" else None)
    spool._lock.release()
    for thread in threads:
        thread.join()
    assert len(spool) == 8 and commits == ["COMMIT"]
