"""What of a refused payload is kept."""

from __future__ import annotations

import base64
import json
from typing import Any

from infra.policy import Privacy
from ingest.privacy import Rules
from ingest.protocols import Context
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


def test_private_fields_are_redacted_also_where_trackers_nest_json_in_text() -> None:
    inner = {"data": {"phone": 1, "to": "a@b.example", "n": 2}}
    payload = {
        "ue_pr": json.dumps(inner),
        "ue_px": base64.urlsafe_b64encode(json.dumps(inner).encode()).decode().rstrip("="),
        "cx": "no base64 of a@b.example",
    }
    redacted = redact(payload)
    assert isinstance(redacted, dict)
    left = {"data": {"phone": "[redacted]", "to": "[redacted]", "n": 2}}
    assert json.loads(redacted["ue_pr"]) == left
    assert json.loads(base64.urlsafe_b64decode(redacted["ue_px"])) == left
    assert redacted["cx"] == "no base64 of [redacted]"


def test_keys_and_agents_of_all_trackers_are_redacted() -> None:
    payload = {"api_key": "k", "token": "k", "ua": "Firefox", "$ip": "203.0.113.9", "secret": "s", "tokens": 3}
    assert redact(payload) == dict.fromkeys(payload, "[redacted]") | {"$ip": "203.0.113.0", "tokens": 3}


def test_a_record_has_an_id_of_its_own_and_the_batchs_time() -> None:
    def record(**more: Any) -> dict[str, Any]:
        value = encode(
            Reject(0, "event", "odd", {"x": 1}),
            write_key="k", protocol="segment", run=None, received_at=5, is_line=False, **more,
        )  # fmt: skip
        document: dict[str, Any] = json.loads(value)
        return document

    assert record()["id"] != record()["id"]
    assert record(record_id="mine", sent_at=4) == {
        "id": "mine", "reason": "odd", "field": "event", "write_key": "k", "received_at": 5, "sent_at": 4,
        "source": {"protocol": "segment", "run": None}, "payload": {"x": 1},
    }  # fmt: skip


def test_what_may_not_be_kept_is_not_kept_here_either() -> None:
    rules = Rules(Privacy(never_store=("color",)))
    context = Context(write_key="k", received_at=5)
    value = encode(
        Reject(0, "event", "odd", {"properties": {"color": "red", "size": 2}}),
        write_key="k", protocol="native", run=None, received_at=5, is_line=False, scrub=rules.scrubber(context),
    )  # fmt: skip
    assert json.loads(value)["payload"] == {"properties": {"size": 2}}


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
