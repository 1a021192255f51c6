"""Synthetic events on HDFS as the sink leaves them, at millions a minute.

All events are one encoded event with other ids, visitors, items and times in the same places: those have a fixed width,
so that a matrix of bytes is filled column by column. The same number and seed give the same events.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from infra.settings import Settings
from ingest.event.codec import FINGERPRINT, SCHEMA, encode, split
from ingest.event.event import ClickEvent, Device, Page, Source
from storage.batches import cuts
from storage.batches.cuts import Cut
from storage.formats import FORMATS
from storage.formats.envelope import event_envelope
from storage.formats.file_info import FileInfo
from storage.hdfs import Hdfs
from storage.layout import Layout

Numbers = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

DAYS, VISITS, EVENTS_PER_VISITOR, ITEMS = 30, 4, 25, 10_000
_STARTS_AT = 1_780_000_000_000  # milliseconds
_MINUTE, _HOUR = 60_000, 3_600_000
_PER_FILE, _CHUNK = 250_000, 50_000
_SALTS = 16  # of a seed
# So that each is found in the encoded event, and nothing else looks like it.
_EVENT_ID, _VISITOR, _ITEM = "0b5e7e57-0000-4000-8000-000000000000", "v00000000", "i00000"
_MARKED_TIME = 1_788_888_888_888


def land(settings: Settings, name: str, events: int, seed: int = 0) -> Cut:
    """Writes so many events into the partitions of `kafka.topic` and takes the cut `name` behind them."""
    fs, layout = Hdfs(settings), Layout(settings.hdfs.root, settings.kafka.topic)
    partitions = settings.kafka.partitions
    visitors = max(1, events // EVENTS_PER_VISITOR)
    ends = {}
    for partition in range(partitions):
        numbers = np.arange(partition, events, partitions, dtype=np.int64)
        ends[partition] = len(numbers)
        for first in range(0, len(numbers), _PER_FILE):
            bodies = encoded(numbers[first : first + _PER_FILE], visitors, seed)
            _write(fs, layout, partition, first, bodies, settings)
    return cuts.take(fs, layout, name, lambda: ends)


def _write(
    fs: Hdfs, layout: Layout, partition: int, first: int, chunks: Iterator[list[bytes]], settings: Settings
) -> None:
    format_ = FORMATS[settings.sink.format]
    container = format_.writer(event_envelope(SCHEMA), partition, settings.sink.codec, False)
    offset = first
    for bodies in chunks:
        times, keys = [_STARTS_AT] * len(bodies), [None] * len(bodies)
        container.extend(offset, times, bodies, keys, sum(map(len, bodies)))
        offset += len(bodies)
    last = offset - 1
    info = FileInfo(layout.topic, partition, first, last, container.finish(), fingerprint=FINGERPRINT.hex())
    path = f"{layout.raw(partition)}/{layout.file(partition, first, last, format_.suffix)}"
    fs.create(path, container.file(info), create_parents=True)


def encoded(numbers: Numbers, visitors: int, seed: int = 0) -> Iterator[list[bytes]]:
    """Bodies of the events of these numbers, some at a time. A visitor has some four visits of twenty minutes."""
    template = np.frombuffer(split(encode(_TEMPLATE))[1], dtype=np.uint8)
    places = {text: _place(template, text.encode()) for text in (_EVENT_ID, _VISITOR, _ITEM)}
    time_at = _place(template, _time_bytes(np.array([_MARKED_TIME])).tobytes())

    def random(of: Numbers, salt: int) -> Numbers:
        return _random(of, salt + _SALTS * seed)

    for start in range(0, len(numbers), _CHUNK):
        some = numbers[start : start + _CHUNK]
        rows = np.tile(template, (len(some), 1))
        chance = [random(some, salt) for salt in range(5)]
        visitor = chance[0] % visitors
        visit = random(visitor * VISITS + chance[1] % VISITS, 9) % (DAYS * 24 * _HOUR)
        times = _STARTS_AT + visit + chance[2] % (20 * _MINUTE)
        item = ((chance[3] % 1_000_000 / 1_000_000) ** 2 * ITEMS).astype(np.int64)
        _digits(rows, places[_EVENT_ID] + 24, some, 12)
        _digits(rows, places[_EVENT_ID], random(some, 7) % 100_000_000, 8)
        _digits(rows, places[_VISITOR] + 1, visitor, 8)
        _digits(rows, places[_ITEM] + 1, item, 5)
        encoded_times = _time_bytes(times)
        rows[:, time_at : time_at + encoded_times.shape[1]] = encoded_times
        data, width = rows.tobytes(), rows.shape[1]
        yield [data[at : at + width] for at in range(0, len(data), width)]


_TEMPLATE = ClickEvent(
    event_id=_EVENT_ID,
    message_id="m",
    event_type="page_view",
    occurred_at=_MARKED_TIME,
    received_at=_STARTS_AT,
    anonymous_id=_VISITOR,
    page=Page(url="https://shop.example/products/of/the/week", path="/products/of/the/week", title="A product"),
    campaign={"source": "newsletter", "medium": "email"},
    device=Device(browser="Chrome 138", os="Windows 10", type="desktop"),
    consent={"analytics": True},
    write_key="bench",
    source=Source(protocol="native", sdk="bench"),
    item_id=_ITEM,
    properties={"price": "12.5", "category": '"garden"', "stock": "17"},
)


def _place(template: Bytes, part: bytes) -> int:
    whole = template.tobytes()
    at = whole.find(part)
    if at < 0 or whole.find(part, at + 1) >= 0:
        raise AssertionError(f"{part!r} is not once in an encoded event")
    return at


def _digits(rows: Bytes, at: int, numbers: Numbers, width: int) -> None:
    for place in range(width):
        rows[:, at + width - 1 - place] = ord("0") + numbers // 10**place % 10


def _time_bytes(times: Numbers) -> Bytes:
    """(times x 6): milliseconds of this century as Avro's long: zigzag, seven bits a byte, six of them."""
    zigzag = times << 1
    parts = [(zigzag >> (7 * place)) & 0x7F | (0x80 if place < 5 else 0) for place in range(6)]
    return np.stack(parts, axis=1).astype(np.uint8)


def _random(numbers: Numbers, salt: int) -> Numbers:
    """Not negative, a function of number and salt: the finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    with np.errstate(over="ignore"):
        z = numbers.astype(np.uint64) + np.uint64((salt + 1) * 0x9E3779B97F4A7C15 % 2**64)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return ((z ^ (z >> np.uint64(31))) >> np.uint64(1)).astype(np.int64)
