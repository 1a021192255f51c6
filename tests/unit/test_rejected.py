"""What of a refused payload is kept."""

from __future__ import annotations

import json

from ingest.rejected import Reject, encode, redact, redact_line


def test_private_fields_are_redacted_at_any_depth() -> None:
    payload = {
        "ip": "203.0.113.9", "userAgent": "Firefox", "traits": [{"Email": "a@b.example", "phone": 1}],
        "write_key": "secret", "page": {"url": "/?m=a.b%40c.example&x=1"}, "shipping": "x", "ip_address": "1.2.3.4",
    }  # fmt: skip
    assert redact(payload) == {
        "ip": "203.0.113.0", "userAgent": "[redacted]", "traits": [{"Email": "[redacted]", "phone": "[redacted]"}],
        "write_key": "[redacted]", "page": {"url": "/?m=[redacted]&x=1"}, "shipping": "x", "ip_address": "[redacted]",
    }  # fmt: skip


def test_a_line_keeps_its_shape_without_addresses() -> None:
    assert redact_line('203.0.113.9 - bob@a.example "GET /"') == '203.0.113.0 - [redacted] "GET /"'
    assert redact_line("2001:db8:1:2::3 - x") == "2001:db8:1:: - x"
    assert redact_line('{"ip":"203.0.113.9"') == '{"ip":"203.0.113.0"'


def test_redaction_takes_linear_time() -> None:
    # A pattern that backtracks would need minutes for this body, and anyone can send one.
    for text in ("x" * 4_000_000, "a@" * 2_000_000, "a.b" * 1_000_000 + "@", "a@" + "b." * 2_000_000):
        assert redact(text)


def test_what_is_too_long_is_cut_and_says_so() -> None:
    value = encode(
        Reject(3, "event", "too large", {"x": "é" * 300_000}),
        write_key="k", protocol="native", run=None, received_at=5, is_line=True,
    )  # fmt: skip
    document = json.loads(value)
    assert (document["truncated"], document["line"], len(document["payload"])) == (True, 3, 200_000)
