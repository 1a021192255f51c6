"""Requests that are meant to break a collector: a fixed list, by name."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from functools import cache

from ingest.protocols.snowplow import TP2
from tests.integration.hostile_parts import (
    BATCHES,
    CLICK,
    HEADERS,
    KEY,
    LIMIT,
    LINES,
    METHODS,
    PAGE,
    PIXELS,
    QUERIES,
    ROUTES,
    VALUES,
    WITH_KEY,
)
from tests.integration.wire import Wire, one, request


@cache
def corpus() -> dict[str, Wire]:
    """Name -> what is sent."""
    parts = (_methods(), _bodies(), _batches(), _forms(), _headers(), _lines(), _no_http())
    return {name: wire for part in parts for name, wire in part}


@cache
def large() -> dict[str, Wire]:
    """The same of bodies that are of many MB, or become that."""
    return dict(_large())


def bomb(size: int) -> bytes:
    """Gzip of `size` zeros, a thousandth as large, made at once: after a full flush each block is the same again."""
    squeeze = zlib.compressobj(9, wbits=31)
    first, again = (squeeze.compress(bytes(1 << 20)) + squeeze.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    return first + again * ((size >> 20) - 1) + squeeze.flush()


def _methods() -> Iterator[tuple[str, Wire]]:
    for route in ROUTES:
        for method in METHODS:
            yield f"{method} {route}", one(method, route, WITH_KEY)
    for target in (
        "*",
        "http://other.example/collect",
        "//collect",
        "/%2e%2e/collect",
        "/collect%00",
        "/\u00e9",
        "/%ff",
        "/a" * 8000,
    ):
        for method in ("GET", "POST", "OPTIONS"):
            yield f"{method} {target[:40]}", one(method, target, WITH_KEY)
    for query in QUERIES:
        for path in (*PIXELS, "/collect", "/v1/batch"):
            yield f"{path}?{query[:40]}", one("GET" if path in PIXELS else "POST", f"{path}?{query}", WITH_KEY, b"[{}]")


def _bodies() -> Iterator[tuple[str, Wire]]:
    """Bodies that are no JSON, or hardly."""
    document = json.dumps({"batch": [CLICK], "data": [{"e": "pv"}]}).encode()
    bodies = {
        "nothing": b"", "blanks": b" \r\n\t" * 1000, "NUL": b"\x00" * 100, "random bytes": bytes(range(256)) * 20,
        "BOM": b"\xef\xbb\xbf" + document, "only BOM": b"\xef\xbb\xbf", "UTF-16": document.decode().encode("utf-16"),
        "broken UTF-8": document[:-1] + b',"x":"\xc3\x28\xed\xa0\x80\xf5"}', "overlong UTF-8": b'{"a":"\xc0\xaf"}',
        "lone quote": b'"', "open brackets": b"[" * 100_000, "open objects": b'{"a":' * 100_000,
        "deep": b"[" * 50_000 + b"]" * 50_000, "deep in a batch": b'{"batch":[' + b"[" * 900 + b"]" * 900 + b"]}",
        "two documents": document * 2, "documents by line": document + b"\n" + document + b"\n{", "NaN": b"NaN",
        "a number": b"9" * 100_000, "a string": b'"x"', "empty batch": b'{"batch":[],"data":[]}',
        "batch in batch": b'{"batch":{"batch":[]},"data":{"data":[]}}',
        "same keys": b"{" + b",".join([b'"batch":[]'] * 5000) + b"}",
        "many keys": json.dumps(dict.fromkeys(map(str, range(20_000)))).encode(),
        "absurd keys": json.dumps({"\u202e" * 999: 1, "": 2, "\ud800": 3, "a" * 100_000: 4}).encode(),
        "context of all": json.dumps({"batch": [{}] * 900, "context": {"page": "x" * 100_000}}).encode(),
        "gzip cut": gzip.compress(document)[:-5], "gzip header": b"\x1f\x8b",
        "gzip garbage": b"\x1f\x8b\x08\x00" + bytes(range(256)),
        "gzip wrong sum": gzip.compress(document)[:-8] + bytes(8), "gzip and more": gzip.compress(document) + b"more",
        "gzip in gzip": gzip.compress(gzip.compress(document)),
        "gzip members": gzip.compress(b"") * 50_000 + gzip.compress(document), "deflate": zlib.compress(document),
        "gzip of nothing": gzip.compress(b""), "PHP": b"<?php system($_GET['c']); ?>",
        "XML": b'<!DOCTYPE x [<!ENTITY a "a"><!ENTITY b "&a;&a;">]><x>&b;</x>',
        "pickle": b"\x80\x04\x95\x00cos\nsystem\n(S'id'\ntR.", "YAML": b"!!python/object/apply:os.system ['id']",
        "log lines": b"a\nTraceback forged\nlevel=error\r\n",
    }  # fmt: skip
    for name, body in bodies.items():
        for route in (*BATCHES, "/v1/t", LINES):
            yield f"{route} {name}", one("POST", route, WITH_KEY, body)
        yield f"chunked {name}", one("POST", "/collect", WITH_KEY, body, chunk=max(1, len(body) // 7))


def _batches() -> Iterator[tuple[str, Wire]]:
    """Each value in each protocol's message, and batches of very many."""
    templates = {
        "/collect": '[{"event_type":"click","occurred_at":1795260000000,"anonymous_id":"v","x":%s},%s]',
        "/v1/batch": '{"batch":[{"type":"track","event":"Order Completed","properties":%s,"context":%s}]}',
        "/batch/": '{"batch":[{"event":"$pageview","distinct_id":"u","properties":%s,"timestamp":%s}]}',
        TP2: '{"data":[{"e":"ue","ue_pr":%s,"co":%s}]}',
    }
    for route, template in templates.items():
        for number, value in enumerate(VALUES):
            yield f"{route} value {number}", one("POST", route, WITH_KEY, template % (value, value))
    click = CLICK | {"type": "track", "event": "x"}
    for route, name, message in (
        ("/collect", "batch", click),
        ("/v1/batch", "batch", click),
        ("/batch/", "batch", None),
        (TP2, "data", None),
    ):
        body = json.dumps({name: [message] * 10_001}).encode()
        yield f"{route} 10,001 messages", one("POST", route, WITH_KEY, gzip.compress(body, 1))


def _forms() -> Iterator[tuple[str, Wire]]:
    start = b'--x\r\nContent-Disposition: form-data; name="data"'
    bodies = {
        "no end": start + b"\r\n\r\n{}", "no boundary": b"--\r\n", "no headers": b"--x\r\n\r\n{}\r\n--x--\r\n",
        "a file": start + b'; filename="../../x"\r\nContent-Type: \xff\r\n\r\n{}\r\n--x--\r\n',
        "huge header": start + b"; a=" + b"b" * 90_000, "boundary of bytes": b"--\xff\xfe\r\n\r\n--\xff\xfe--",
        "long boundary": b"--" + b"b" * 90_000,
        "encoded": start + b"\r\nContent-Transfer-Encoding: base64\r\n\r\ne30=\r\n--x--\r\n",
        "many parts": (start + b"\r\n\r\n{}\r\n") * 2000 + b"--x--\r\n",
        "odd charset": start + b"\r\nContent-Type: text/plain; charset=none\r\n\r\n{}\r\n--x--\r\n",
        "percents": b"data=%", "broken percents": b"data=%zz%ff%00&write_key=%",
        "many fields": b"data={}&" + b"a=b&" * 20_000, "only names": b"data=" + b"&" * 50_000,
        "twice": b"data=[]&data={}&write_key=" + KEY.encode(), "half a form": b"data", "NUL": b"data=%00",
        "gzip in a form": b"data=" + gzip.compress(b"{}"),
        "name of bytes": b'--x\r\nContent-Disposition: form-data; name="\xff"\r\n\r\n1\r\n--x--\r\n',
        "no name": b"--x\r\nContent-Disposition: form-data\r\n\r\n{}\r\n--x--\r\n", "dashes": b"--" * 4_000_000,
        "millions of fields": b"data={}&" + b"a&" * 4_000_000,
        "very many parts": (start + b"\r\n\r\n{}\r\n") * 100_000,
    }  # fmt: skip
    for name, body in bodies.items():
        yield f"form {name}", one("POST", "/collect", WITH_KEY, body)


def _headers() -> Iterator[tuple[str, Wire]]:
    for number, header in enumerate(HEADERS):
        for method, route in (
            ("POST", "/collect"),
            ("OPTIONS", "/v1/t"),
            ("GET", "/pixel.gif?write_key=" + KEY),
            ("POST", TP2),
        ):
            body = json.dumps([CLICK]) if method == "POST" else ""
            origin = () if header[0] == b"Origin" else PAGE
            key = () if header[0] == b"X-Write-Key" else WITH_KEY
            yield f"header {number} {method} {route}", one(method, route, (*key, *origin, header), body)
    many = tuple((b"X-%d" % n, b"x") for n in range(90))
    yield "many headers", one("POST", "/collect", (*WITH_KEY, *many), "[]")
    yield "same headers", one("POST", "/collect", WITH_KEY * 50, "[]")


def _lines() -> Iterator[tuple[str, Wire]]:
    ndjson = (*WITH_KEY, (b"Content-Type", b"application/x-ndjson"))
    log = b'1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 5 "-" "x"'
    bodies = {
        "line feeds": b"\n" * 20_000, "returns": b"\r" * 20_000, "NULs": b"\x00\n" * 500,
        "bytes": bytes(range(256)) * 30, "a long one": b"x" * 500_000, "quotes": b'"' * 5000, "brackets": b"[" * 5000,
        "half": log[:40] + b"\n", "date": log.replace(b"2015", b"9999"), "no date": log.replace(b"17/May", b"99/Xxx"),
        "address": log.replace(b"1.2.3.4", b"::ffff:999"), "many": (log + b"\n") * 10_000,
        "too many": (log + b"\n") * 10_001, "injection": log + b"\x1b[31m\nTraceback\\n\r\n",
        "agent": log.replace(b'"x"', b'"' + b"(" * 9000 + b'"'), "objects": b"{}\n" * 10_000,
        "BOMs": b"\xef\xbb\xbf{}\n" * 100, "deep": b"[" * 9000 + b"\n",
        "separators": "{}\u2028{}\u0085{}\x0c{}".encode(),
    }  # fmt: skip
    for name, body in bodies.items():
        yield f"log {name}", one("POST", LINES, WITH_KEY, gzip.compress(body, 1))
        yield f"ndjson {name}", one("POST", "/collect?source=f&first_line=7", ndjson, gzip.compress(body, 1))


def _no_http() -> Iterator[tuple[str, Wire]]:
    """What is no HTTP, or ends too early. Those with an answer due are valid after all."""
    body = json.dumps([CLICK]).encode()
    good = request("POST", b"/collect", WITH_KEY, body)
    first = request("POST", b"/collect", WITH_KEY, body, last=False)
    chunked = (
        b"POST /v1/batch HTTP/1.1\r\nHost: x\r\nX-Write-Key: %s\r\nTransfer-Encoding: chunked\r\n\r\n" % KEY.encode()
    )
    head = b"POST /collect HTTP/1.1\r\nHost: x\r\nX-Write-Key: %s\r\n" % KEY.encode()
    raws = {
        "nothing": b"", "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100), "NULs": bytes(1000),
        "spaces": b" " * 5000, "lines": b"\r\n" * 500, "HTTP/0.9": b"GET /\r\n", "HTTP/9": b"GET / HTTP/9.9\r\n\r\n",
        "no version": b"POST /collect\r\n\r\n", "no path": b"GET  HTTP/1.1\r\n\r\n",
        "spaces in path": b"GET /a b c HTTP/1.1\r\nHost: x\r\n\r\n",
        "bytes in path": b"GET /\xff\x00 HTTP/1.1\r\n\r\n",
        "CONNECT": b"CONNECT x.example:80 HTTP/1.1\r\nHost: x\r\n\r\n",
        "PROXY": b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n" + good, "SMTP": b"EHLO x\r\n",
        "long path": b"GET /" + b"a" * 300_000 + b" HTTP/1.1\r\n\r\n",
        "long header": head + b"X: " + b"x" * 1_000_000 + b"\r\n\r\n",
        "endless headers": head + b"".join(b"X-%d: y\r\n" % n for n in range(5000)) + b"\r\n",
        "no colon": head + b"X\r\n\r\n", "NUL in a header": head + b"X: a\x00b\r\n\r\n",
        "return in a header": head + b"X: a\rb\r\n\r\n", "folded": head + b"X: a\r\n b\r\n\r\n",
        "blank in a name": head + b"X : a\r\n\r\n", "no host": b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n",
        "WebSocket": head + b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\r\n",
        "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9) + b"\xff" * 100,
        "length of text": head + b"Content-Length: ten\r\n\r\n" + body,
        "negative length": head + b"Content-Length: -1\r\n\r\n" + body,
        "signed length": head + b"Content-Length: +9\r\n\r\n" + body,
        "two lengths": head + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n" + body,
        "huge length": head + b"Content-Length: 99999999999999999999\r\n\r\n",
        "too short a body": head + b"Content-Length: 5000\r\n\r\n" + body,
        "too long a body": head + b"Content-Length: 5\r\n\r\n" + body,
        "a lie of gigabytes": head + b"Content-Length: 9999999999\r\n\r\n" + body,
        "length and chunks": head
        + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\n\r\n",
        "odd encoding": head + b"Transfer-Encoding: cow\r\n\r\n",
        "chunked twice": head + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        "chunk of text": chunked + b"zz\r\n{}\r\n0\r\n\r\n", "negative chunk": chunked + b"-5\r\n{}\r\n0\r\n\r\n",
        "huge chunk": chunked + b"fffffffffffffffffff\r\n{}", "chunk of gigabytes": chunked + b"7fffffff\r\n{}",
        "chunk too short": chunked + b"50\r\n{}\r\n0\r\n\r\n", "chunk too long": chunked + b"1\r\n{}}}}\r\n0\r\n\r\n",
        "no last chunk": chunked + b"2\r\n{}\r\n", "chunk without end": chunked + b"2\r\n{}0\r\n\r\n",
        "chunk extension": chunked + b"2;" + b"x" * 100_000 + b"\r\n{}\r\n0\r\n\r\n",
        "trailers": chunked + b"2\r\n{}\r\n0\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
        "line feeds only": good.replace(b"\r\n", b"\n"),
        "expects": head + b"Expect: 100-continue\r\nContent-Length: 500\r\n\r\n",
    }  # fmt: skip
    for name, data in raws.items():
        yield f"raw {name}", Wire(data, ends=True)
    for cut in (1, 5, 20, 60, 100, len(good) - len(body) - 1, len(good) - len(body), len(good) - 1):
        yield f"raw cut at {cut}", Wire(good[:cut], ends=True)
    for path in (b"/collect", b"/v1/batch", TP2.encode(), b"/collect/access-log?source=x"):
        yield f"raw half a body at {path.decode()}", Wire(request("POST", path, WITH_KEY, body)[:-20], ends=True)
    yield "pipelined", Wire(first * 9 + good, ("POST",) * 10)
    yield "pipelined with garbage", Wire(first * 3 + b"\x00garbage\r\n\r\n", ends=True)
    yield "HTTP/1.0", Wire(b"GET /healthz HTTP/1.0\r\n\r\n", ("GET",))


def _large() -> Iterator[tuple[str, Wire]]:
    bombs = {
        "a bomb of a bomb of 10 GB": gzip.compress(bomb(10 << 30)),
        "1 MB for 1 GB": bomb(1 << 30),
        "7 MB for 7 GB": bomb(7 << 30),
        "10 MB for 10 GB": bomb(10 << 30),
        "8 KB for the limit": bomb(LIMIT),
    }
    routes = ("/collect", "/v1/batch", "/batch/", TP2, LINES)
    for name, body in bombs.items():
        for route in routes:
            yield f"{route} {name}", one("POST", route, WITH_KEY, body)
    for route in routes:
        yield f"{route} too large", one("POST", route, WITH_KEY, b" " * (LIMIT + 1))
        yield f"{route} too large in chunks", one("POST", route, WITH_KEY, b" " * 10_000_000, chunk=1_000_000)
    tiny = {"/collect": b"[%s0]", "/v1/batch": b'{"batch":[%s0]}', TP2: b'{"data":[%s0]}'}
    for route, template in tiny.items():
        yield (
            f"{route} millions of elements",
            one("POST", route, WITH_KEY, gzip.compress(template % (b"{}," * 2_700_000), 1)),
        )
    yield "millions of lines", one("POST", LINES, WITH_KEY, gzip.compress(b"\n" * LIMIT, 1))
