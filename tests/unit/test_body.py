"""Bodies: what is one message, what are many, and what is none at all."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from ingest.errors import BodyTooLarge, InvalidEvent
from ingest.http.body import decompress, read_messages, unwrap_form


def payloads(raw: bytes, lines: bool = False) -> list[Any]:
    return [message.payload for message in read_messages(raw, lines=lines, at_most=100).messages]


@pytest.mark.parametrize(
    "text",
    [
        '{"a": "\\ud83d\\ude00 \\u0000"}',
        '{"a": 1, "a": 2}',
        '{"n": [0, -0, 1.5, 1E5, 12345678901234567890123, true, null]}',
        '{"s": "Grüße 漢"}',
    ],
)
def test_json_is_what_the_standard_library_says(text: str) -> None:
    assert payloads(text.encode()) == [json.loads(text)]
    assert payloads(f"[{text}, {text}]".encode()) == [json.loads(text)] * 2


@pytest.mark.parametrize("odd", ['"\\ud800"', "1e400", "1" + "0" * 400])
def test_what_only_the_standard_library_takes_does_not_cost_the_batch(odd: str) -> None:
    assert payloads(f'[{{"a": {odd}}}, {{"b": 1}}]'.encode()) == [{"a": json.loads(odd)}, {"b": 1}]


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 01}',
        b'{"a": "\t"}',
        b"{'a': 1}",
        b'{"a": 1,}',
        b'{"a": 1} x',
        b'{"a": "\xff"}',
        b'{"a":' * 50_000,
        b'{"a": 1' + b"0" * 5000 + b"}",
        b"\xef\xbb\xbf",
        b"\x00",
    ],
)
def test_what_is_no_json_is_refused_as_a_whole(raw: bytes) -> None:
    with pytest.raises(InvalidEvent) as caught:
        read_messages(raw, lines=False, at_most=100)
    assert caught.value.field == "body"


def test_a_bad_line_is_only_that_lines_problem() -> None:
    messages = read_messages(b'{"a": 1}\n{"a": NaN}\n\n{"a": 2}\n', lines=True, at_most=100, first_line=5).messages
    assert [message.number for message in messages] == [5, 6, 7, 8]
    assert [message.problem for message in messages] == [None, "is not JSON", None, None]
    assert [message.payload for message in messages] == [{"a": 1}, '{"a": NaN}', None, {"a": 2}]


def test_the_envelope_speaks_for_all_messages() -> None:
    messages = read_messages(b'{"batch": [1, 2], "sent_at": 3}', lines=False, at_most=100)
    assert (messages.kind, dict(messages.envelope)) == ("batch", {"sent_at": 3})


@pytest.mark.parametrize(
    ("raw", "lines"),
    [(b"[1,2,3,4]", False), (b'{"batch":[1,2,3,4]}', False), (b"1\n2\n3\n4", True), (b"1\n" * 4, True)],
)
def test_no_more_messages_are_read_than_asked_for(raw: bytes, lines: bool) -> None:
    assert len(read_messages(raw, lines=lines, at_most=2).messages) == 2
    assert len(read_messages(raw, lines=lines, at_most=4).messages) == 4


@pytest.mark.parametrize(
    "raw",
    [
        b"--" * 4_000_000,
        b"data={}&" + b"a&" * 4_000_000,
        b'--x\r\nContent-Disposition: form-data; name="data"\r\n\r\n{}\r\n' * 100_000 + b"--x--\r\n",
    ],
    ids=["a boundary without end", "fields", "parts"],
)
def test_a_form_without_end_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidEvent) as caught:
        unwrap_form(raw)
    assert caught.value.field == "body"


def test_gzip_of_many_members_is_one_body_up_to_the_limit() -> None:
    raw = b"".join(gzip.compress(b"ab") for _ in range(1000))
    assert decompress(raw, 2000) == b"ab" * 1000
    with pytest.raises(BodyTooLarge):
        decompress(raw, 1999)
    with pytest.raises(InvalidEvent):
        decompress(raw[:-1], 2000)
