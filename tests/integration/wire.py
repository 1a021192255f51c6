"""HTTP as bytes on a socket, for requests that no client library would send."""

from __future__ import annotations

import io
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse, IncompleteRead

TIMEOUT_SECONDS = 30
Headers = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Wire:
    """What a client sends on one connection.

    `methods`: of the requests in it, each of which is due an answer; none where it is no HTTP, and the server may hang
    up. `ends`: the client closes its side, which is how the other learns that nothing more comes.
    """

    data: bytes
    methods: tuple[str, ...] = ()
    ends: bool = False

    def __str__(self) -> str:
        return f"{self.data[:300]!r} ({len(self.data)} bytes)"


def request(
    method: str, target: bytes, headers: Headers = (), body: bytes = b"", chunk: int = 0, last: bool = True
) -> bytes:
    """A well-formed request with a body of stated length, or in chunks of `chunk` bytes. `last`: of its connection."""
    lines = [b"%s %s HTTP/1.1" % (method.encode(), target), b"Host: collector"]
    lines += [name + b": " + value for name, value in headers]
    if last:
        lines.append(b"Connection: close")
    if chunk:
        lines.append(b"Transfer-Encoding: chunked")
        pieces = [body[at : at + chunk] for at in range(0, len(body), chunk)]
        body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    elif body or method in ("POST", "PUT", "PATCH"):
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def one(method: str, target: str | bytes, headers: Headers = (), body: bytes | str = b"", chunk: int = 0) -> Wire:
    """A connection with one well-formed request."""
    raw_target = target.encode() if isinstance(target, str) else target
    raw_body = body.encode(errors="surrogatepass") if isinstance(body, str) else body
    return Wire(request(method, raw_target, headers, raw_body, chunk), (method,))


def exchange(host: str, port: int, wire: Wire) -> list[int]:
    """The statuses of the answers, as many as came before the server closed the connection."""
    answer = bytearray()
    with socket.create_connection((host, port), TIMEOUT_SECONDS) as connection:
        try:
            connection.sendall(wire.data)
            if wire.ends:
                connection.shutdown(socket.SHUT_WR)
        except OSError:  # it has answered already, or hangs up; after that, there is nothing to shut down
            pass
        try:
            while piece := connection.recv(65536):
                answer += piece
        except ConnectionError:
            pass
    return _statuses(bytes(answer), wire.data.partition(b" ")[0].decode(errors="replace"))


def _statuses(answer: bytes, method: str) -> list[int]:
    """`method`: of the first request, as an answer to HEAD has no body; those that follow it are like it."""
    if not answer.startswith(b"HTTP/1."):
        return []  # HTTP/2's preface is answered in HTTP/2
    stream = _Answer(answer)
    statuses: list[int] = []
    while stream.tell() < len(answer):
        response = HTTPResponse(stream, method=method)  # type: ignore[arg-type]
        try:
            response.begin()
            response.read()
        except IncompleteRead:
            break  # the server hung up in the midst of an answer, which is none
        except HTTPException as error:
            raise AssertionError(f"no HTTP: {error!r} in {answer[:300]!r}") from error
        statuses.append(response.status)
    return statuses


class _Answer(io.BytesIO):
    """What http.client takes for a socket; several answers are read from it in turn."""

    def makefile(self, mode: str) -> _Answer:
        return self

    def close(self) -> None:
        pass
