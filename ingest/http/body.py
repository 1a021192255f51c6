"""A request's body -> messages: gzip, JSON object, array, {"batch": […]}, or a message a line. Pure."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Mapping, Sequence
from io import BytesIO
from urllib.parse import parse_qsl

import msgspec
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.formparser import FormDataParser

from ingest.errors import BodyTooLarge, InvalidEvent
from ingest.event.message import Message, Messages
from ingest.protocols.values import strict_json

_FORM = re.compile(rb"(?:data|write_key)=")
_GZIP = b"\x1f\x8b"
_MAX_FIELDS, _MAX_BOUNDARY = 100, 200  # of a form; browsers' boundaries have some 40 characters


def decompress(raw: bytes, limit: int) -> bytes:
    """The decompressed body. Gzip is detected by its first bytes, as proxies lose headers.

    Raises BodyTooLarge beyond `limit` bytes, InvalidEvent if the gzip is broken.
    """
    plain = _gunzip(raw, limit + 1) if raw.startswith(_GZIP) else raw
    if len(plain) > limit:
        raise BodyTooLarge(limit)
    return plain


def _gunzip(raw: bytes, at_most: int) -> bytes:
    try:
        member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        plain = member.decompress(raw, at_most)
        if not member.unused_data or len(plain) == at_most:
            if not member.eof and len(plain) < at_most:
                raise InvalidEvent("body", "ends within its gzip")
            return plain
        with gzip.GzipFile(fileobj=BytesIO(raw)) as members:  # copies no rest for each of them
            return members.read(at_most)
    except (zlib.error, EOFError, gzip.BadGzipFile) as error:
        raise InvalidEvent("body", "is broken gzip") from error


def inflate_prefix(raw: bytes, limit: int) -> tuple[bytes, bool]:
    """At most `limit` bytes of the decompressed body, and whether they are the whole body. Raises InvalidEvent."""
    try:
        if len(raw) <= limit:
            return decompress(raw, limit), True
    except BodyTooLarge:
        pass
    if not raw.startswith(_GZIP):
        return raw[:limit], False
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(raw, limit), False
    except zlib.error as error:
        raise InvalidEvent("body", "is broken gzip") from error


def unwrap_form(raw: bytes) -> tuple[bytes, Mapping[str, str]]:
    """The field `data` of a form, and its other fields; a body that is no form is returned as it is.

    A form is detected by its first bytes: `data=`, `write_key=`, or a multipart boundary.
    """
    if raw.lstrip(b"\r\n").startswith(b"--"):
        return _unwrap_multipart(raw.lstrip(b"\r\n"))
    if not _FORM.match(raw):
        return raw, {}
    text = raw.decode(errors="replace")
    try:
        fields = dict(parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_FIELDS))
    except ValueError:
        raise InvalidEvent("body", f"is a form of more than {_MAX_FIELDS} fields") from None
    return fields.pop("data", "").encode(), fields


def _unwrap_multipart(raw: bytes) -> tuple[bytes, Mapping[str, str]]:
    first, end_of_line, _ = raw[:_MAX_BOUNDARY].partition(b"\r\n")
    boundary = first.removeprefix(b"--").decode(errors="replace")
    try:
        if not end_of_line:
            raise ValueError("no boundary")
        parser = FormDataParser(silent=False, max_form_parts=_MAX_FIELDS)
        _, form, files = parser.parse(BytesIO(raw), "multipart/form-data", len(raw), {"boundary": boundary})
    except (ValueError, RequestEntityTooLarge):
        raise InvalidEvent("body", f"is a broken form, or one of more than {_MAX_FIELDS} fields") from None
    blobs = {name: file.read().decode(errors="replace") for name, file in files.items()}
    fields = {**form.to_dict(), **blobs}
    return fields.pop("data", "").encode(), fields


def split_lines(raw: bytes, at_most: int) -> list[str]:
    """The first lines of a log: only a line feed ends a line, and a byte that is no UTF-8 becomes \\xhh."""
    lines = raw.decode(errors="backslashreplace").split("\n", at_most)
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines[:at_most]]


def read_messages(raw: bytes, *, lines: bool, at_most: int, first_line: int = 1) -> Messages:
    """The first `at_most` messages of a decompressed body. `lines`: the sender declared one message per line.

    Raises InvalidEvent if the body as a whole is malformed; a malformed line is a problem of that message alone.
    """
    if lines:
        return _read_lines(raw, at_most, first_line)
    if not raw.strip():
        raise InvalidEvent("body", "is empty")
    try:
        document = _parse(raw.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise InvalidEvent("body", "is not UTF-8") from None
    except ValueError as error:
        if _several_documents(raw):  # sendBeacon labels whatever it sends as text/plain
            return _read_lines(raw, at_most, first_line)
        raise InvalidEvent("body", "is not JSON") from error
    if isinstance(document, list):
        return Messages("batch", numbered(document[:at_most]), {})
    if not isinstance(document, dict):
        raise InvalidEvent("body", "is neither a JSON object nor an array")
    if "batch" not in document:
        envelope = {name: document.pop(name) for name in ("write_key",) if name in document}
        return Messages("single", [Message(0, document)], envelope)
    batch = document.pop("batch")
    if not isinstance(batch, list):
        raise InvalidEvent("batch", "is no array")
    return Messages("batch", numbered(batch[:at_most]), document)


def numbered(payloads: Sequence[object]) -> list[Message]:
    """The messages of a batch."""
    return [Message(index, payload) for index, payload in enumerate(payloads)]


def _read_lines(raw: bytes, at_most: int, first_line: int) -> Messages:
    messages = []
    for number, line in enumerate(split_lines(raw.removeprefix(b"\xef\xbb\xbf"), at_most), first_line):
        payload: object = None
        problem = None
        if line.strip():
            try:
                payload = _parse(line)
            except ValueError:
                problem, payload = "is not JSON", line
        messages.append(Message(number, payload, problem, line))
    return Messages("lines", messages, {})


def _several_documents(raw: bytes) -> bool:
    first, end_of_line, rest = raw.strip().partition(b"\n")
    if not end_of_line or not rest:
        return False
    try:
        return isinstance(_parse(first.decode()), dict)
    except ValueError:
        return False


_fast = msgspec.json.Decoder()


def _parse(text: str) -> object:
    """The JSON value. Raises ValueError, also for deep nesting.

    What msgspec refuses is parsed by the standard library, which accepts lone surrogates and numbers beyond a double's
    range: they cost only the events that hold them, not the whole batch.
    """
    try:
        return _fast.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return strict_json(text)
