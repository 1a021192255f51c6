"""Hypothesis strategies for requests between valid and absurd, made of the corpus' parts."""

from __future__ import annotations

import gzip

from hypothesis import strategies as st

from ingest.protocols.segment import KINDS
from ingest.protocols.snowplow import TP2
from tests.integration.hostile_parts import FIELDS, HEADERS, LINES, METHODS, PIXELS, QUERIES, ROUTES, VALUES, WITH_KEY
from tests.integration.wire import Wire, one, request

_BASES = {
    "/collect": '"event_type":"click","occurred_at":1795260000000,"anonymous_id":"v"',
    "/v1/batch": '"type":"track","event":"Product Viewed","anonymousId":"v","properties":{"product_id":"a"}',
    "/batch/": '"event":"$pageview","distinct_id":"u"',
    TP2: '"e":"pv","eid":"1"',
    **dict.fromkeys((f"/v1/{kind}" for kind in KINDS), '"anonymousId":"v","userId":"u"'),
}
_ENVELOPES = {"/v1/batch": ('{"batch":[', "]}"), "/batch/": ('{"batch":[', "]}"), TP2: ('{"data":[', "]}")}
_SHORT_VALUES = [value for value in VALUES if len(value) < 5000]

_odd_fields = st.lists(st.tuples(st.sampled_from(FIELDS), st.sampled_from(_SHORT_VALUES)), max_size=3)
_texts = st.text(max_size=40).map(lambda text: text.encode(errors="surrogatepass"))
_headers = st.lists(st.sampled_from(HEADERS), max_size=3).map(lambda given: tuple(dict(given).items()))
_queries = st.lists(st.sampled_from(QUERIES), max_size=3).map("&".join)


@st.composite
def _documents(draw: st.DrawFn, route: str) -> bytes:
    """JSON of the protocol, with odd fields within and around its messages."""

    def message() -> str:
        odd = "".join(f',"{name}":{value}' for name, value in draw(_odd_fields))
        return "{" + _BASES[route] + odd + "}"

    opening, closing = _ENVELOPES.get(route, ("", ""))
    if route == "/collect":
        opening, closing = draw(
            st.sampled_from([("", ""), ("[", "]"), ('{"batch":[', '],"sent_at":1795260000000}'), ("data=", "")])
        )
    if not opening or opening == "data=":
        return (opening + message() + closing).encode()
    messages = ",".join(message() for _ in range(draw(st.integers(1, 3))))
    return (opening + messages + closing).encode()


@st.composite
def _broken(draw: st.DrawFn, body: bytes) -> bytes:
    """With a byte changed, cut, squeezed, or all of them."""
    if body and draw(st.booleans()):
        at = draw(st.integers(0, len(body) - 1))
        body = body[:at] + bytes([draw(st.integers(0, 255))]) + body[at + 1 :]
    if draw(st.integers(0, 5)) == 0:
        body = body[: draw(st.integers(0, len(body)))]
    if draw(st.integers(0, 5)) == 0:
        body = gzip.compress(body, 1)[: draw(st.sampled_from([None, -4, 12]))]
    return body


@st.composite
def hostile_requests(draw: st.DrawFn) -> Wire:
    """One connection: mostly one well-formed request, sometimes several, sometimes broken HTTP."""
    kind = draw(st.integers(0, 9))
    if kind < 6:
        route = draw(st.sampled_from(sorted(_BASES)))
        body = draw(_documents(route))
        if draw(st.booleans()):
            body = draw(_broken(body))
        method = "POST"
    else:
        route, method = draw(st.sampled_from([*ROUTES, *PIXELS, *PIXELS, LINES])), draw(st.sampled_from(METHODS))
        body = draw(st.one_of(st.just(b""), st.binary(max_size=60), _texts))
    query = draw(_queries) if draw(st.integers(0, 2)) == 0 else ""
    target = f"{route}{'&' if '?' in route else '?'}{query}" if query else route
    headers = draw(_headers) if draw(st.integers(0, 2)) == 0 else ()
    headers = (*(WITH_KEY if draw(st.integers(0, 9)) else ()), *headers)
    chunk = draw(st.sampled_from([0, 0, 0, 1, 7, 1000])) if body else 0
    if kind < 9:
        return one(method, target, headers, body, chunk)
    data = request(method, target.encode(), headers, body, chunk, last=False)
    if draw(st.booleans()):
        # A server that has answered without reading a body may hang up, so only the first is due.
        return Wire(data + request(method, target.encode(), headers, body, chunk), (method,))
    cut = draw(st.integers(0, len(data)))
    return Wire(data[:cut] + draw(st.binary(max_size=20)), ends=True)
