"""What of a refused payload is kept."""

from __future__ import annotations

import base64
import json
from typing import Any

from infra.settings.collector import Privacy
from ingest.event.context import Context
from ingest.event.rejected import MAX_PAYLOAD, Reject, encode, of_text, redact, redact_line
from ingest.policy.privacy import Rules
from ingest.rejects.stored import StoredReject


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
    def record() -> dict[str, Any]:
        [value] = encode(
            Reject(0, "event", "odd", {"x": 1}),
            write_key="k", protocol="segment", run=None, received_at=5, is_line=False, sent_at=4,
        )  # fmt: skip
        document: dict[str, Any] = json.loads(value)
        return document

    one = record()
    assert one.pop("id") != record()["id"]
    assert one == {
        "reason": "odd", "field": "event", "write_key": "k", "received_at": 5, "sent_at": 4,
        "source": {"protocol": "segment", "run": None}, "payload": {"x": 1},
    }  # fmt: skip


def test_what_may_not_be_kept_is_not_kept_here_either() -> None:
    rules = Rules(Privacy(never_store=("color",)))
    context = Context(write_key="k", received_at=5)
    [value] = encode(
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
    for text in ("x" * 1_000_000, "a@" * 500_000, "a.b" * 250_000 + "@", "a@" + "b." * 500_000):
        assert redact(text)


def test_what_is_too_long_is_cut_and_says_so() -> None:
    [value] = encode(
        Reject(3, "event", "too large", {"x": "é" * 300_000}),
        write_key="k", protocol="native", run=None, received_at=5, is_line=True,
    )  # fmt: skip
    document = json.loads(value)
    assert (document["truncated"], document["line"], len(document["payload"])) == (True, 3, 200_000)


def test_messages_that_are_refused_together_fill_few_records_and_lose_nothing() -> None:
    messages = [{"n": n, "email": "a@b.example", "ip": 1, "text": "é" * (n % 50)} for n in range(20_000)]
    values = encode(
        Reject(7, "batch", "holds more than 7 events", messages, messages=len(messages)),
        write_key="k", protocol="segment", run=None, received_at=5, is_line=False,
    )  # fmt: skip
    documents = [json.loads(value) for value in values]
    assert [one["n"] for document in documents for one in document["payload"]] == list(range(20_000))
    assert [len(document["payload"]) for document in documents] == [document["messages"] for document in documents]
    assert not any("truncated" in document for document in documents)
    texts = [json.dumps(document["payload"]) for document in documents]
    assert max(map(len, texts)) <= MAX_PAYLOAD
    assert len(values) < 2 * sum(map(len, texts)) / MAX_PAYLOAD
    assert "b.example" not in "".join(texts), "redacted, which makes some of them longer"
    assert len({document["id"] for document in documents}) == len(documents)


def test_of_messages_refused_together_only_one_that_is_too_large_is_cut() -> None:
    reject = Reject(0, "batch", "odd", [1, "x" * 300_000, [2]], messages=3)
    values = encode(reject, write_key="k", protocol="segment", run=None, received_at=5, is_line=False)
    documents = [json.loads(value) for value in values]
    assert [document.get("truncated", False) for document in documents] == [False, True, False]
    assert (documents[0]["payload"], documents[2]["payload"]) == ([1], [[2]])


def test_a_text_that_is_cut_says_so_also_when_redaction_makes_it_short() -> None:
    text = "a@" + "b." * 150_000 + "example rest"
    reject = of_text(0, "body", "odd", text)
    [value] = encode(reject, write_key="k", protocol="native", run=None, received_at=5, is_line=False)
    document = json.loads(value)
    assert (len(document["payload"]) < 100, document["truncated"]) == (True, True)
    assert not of_text(0, "body", "odd", "short").truncated


def test_a_text_that_is_no_json_keeps_no_key() -> None:
    for text in ('{"writeKey" : "secret-1", ', '{"a": 1, "api_key":"secret-1', '{"write_key": "secret-1"} {'):
        assert "secret" not in str(of_text(0, "body", "odd", text).payload)


def test_one_message_that_nests_too_deeply_costs_the_others_nothing() -> None:
    deep: dict[str, Any] = {}
    for _ in range(600):
        deep = {"a": deep}
    reject = Reject(0, "batch", "odd", [{"n": 1}, deep, {"n": 2}], messages=3)
    [value] = encode(reject, write_key="k", protocol="native", run=None, received_at=5, is_line=False)
    document = json.loads(value)
    assert (document["truncated"], document["payload"]) == (True, [{"n": 1}, "[nested too deeply]", {"n": 2}])
    apart = list(StoredReject.read(0, 0, document).apart())
    assert [one.payload for one in apart if isinstance(one.payload, dict) and not one.truncated] == [{"n": 1}, {"n": 2}]
    assert len({one.id for one in apart}) == 3
