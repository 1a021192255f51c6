"""What is kept of whom."""

from __future__ import annotations

import base64
import json
import time
from collections import Counter
from typing import Any

import pytest

from infra.settings.collector import Privacy
from ingest.errors import Dropped
from ingest.event import codec, enrich
from ingest.event.context import Context
from ingest.policy.privacy import IDENTIFIERS, Rules
from ingest.protocols import native

SALT = "0123456789abcdef"
LIVE = Context(
    write_key="shop", received_at=1_795_245_567_000, ip="203.0.113.9", user_agent="Mozilla/5.0 Firefox/140.0"
)
CLICK: dict[str, Any] = {
    "event_type": "click",
    "occurred_at": LIVE.received_at,
    "anonymous_id": "visitor-1",
    "user_id": "user-1",
    "client_session_id": "session-1",
    "ip": "203.0.113.77",
    "item_id": "lamp",
    "page": {"url": "https://shop.example/lamp?color=red&gclid=click-1&uid=user-1#sid=session-1", "title": "Lamp"},
    "properties": {
        "color": "red",
        "traits": {"name": "Ann"},
        "snowplow.contexts": [{"data": {"userId": "user-1", "previousSessionId": "session-0", "tab": 3}}],
    },
}
WHO = ("visitor-1", "user-1", "session-1", "session-0", "203.0.113", "click-1", "Ann")


def rules(**settings: object) -> Rules:
    return Rules(Privacy.model_validate(settings))


def kept(
    payload: dict[str, Any], policy: Rules, headers: dict[str, str] | None = None, context: Context = LIVE
) -> tuple[dict[str, Any], tuple[str, ...], Counter[str]]:
    """Payload and flags as they are stored, and the counts."""
    counts: Counter[str] = Counter()
    cleaned, after = policy.apply(payload, policy.request(context, headers or {}), counts)
    stored = json.dumps(cleaned) + str(native.parse(cleaned, after))
    if "anonymous" in after.flags:
        assert codec.encode(native.parse(cleaned, after))
        for who in WHO:
            assert who not in stored
        assert after.ip is None and native.parse(cleaned, after).key is None
    return dict(cleaned), after.flags, counts


def test_where_nothing_is_set_everything_stays_as_it_is() -> None:
    policy, counts = rules(), Counter[str]()
    context = policy.request(LIVE, {"Sec-GPC": "1", "DNT": "1"})
    payload, after = policy.apply(CLICK, context, counts)
    assert payload is CLICK and after is context is LIVE
    assert not counts


ANONYMOUS_WAYS: list[tuple[dict[str, object], dict[str, str], dict[str, Any]]] = [
    ({"anonymous": True}, {}, {}),
    ({"gpc": "anonymous"}, {"Sec-GPC": "1"}, {}),
    ({"dnt": "anonymous"}, {"DNT": "1"}, {}),
    ({}, {"SP-Anonymous": "*"}, {}),
    ({}, {}, {"anonymous": True}),
    ({}, {}, {"anonymous": "1"}),
    ({"consent_category": "analytics"}, {}, {}),
    ({"consent_category": "analytics"}, {}, {"consent": {"analytics": False, "ads": True}}),
    ({"consent_category": "analytics", "assume_consent": True}, {}, {"consent": {"analytics": False}}),
]


@pytest.mark.parametrize(("settings", "headers", "own"), ANONYMOUS_WAYS)
def test_the_anonymous_leave_no_identifier_and_still_count(
    settings: dict[str, object], headers: dict[str, str], own: dict[str, Any]
) -> None:
    payload, flags, counts = kept(CLICK | own, rules(**settings), headers)
    assert flags == ("anonymous",)
    assert counts == {"anonymous": 1}
    assert (payload["anonymous_id"], payload["item_id"], payload["event_type"]) == (None, "lamp", "click")
    assert payload["page"] == {"url": "https://shop.example/lamp?color=red#", "title": "Lamp"}
    assert payload["properties"] == {"color": "red", "snowplow.contexts": [{"data": {"tab": 3}}]}


@pytest.mark.parametrize(
    ("settings", "headers", "own"),
    [
        ({"gpc": "anonymous", "dnt": "drop"}, {"Sec-GPC": "0"}, {}),
        ({"dnt": "drop"}, {"Sec-GPC": "1"}, {}),
        ({"consent_category": "analytics"}, {}, {"consent": {"analytics": True}}),
        ({"consent_category": "analytics", "assume_consent": True}, {}, {"consent": {"ads": False}}),
        ({}, {}, {"anonymous": False}),
    ],
)
def test_without_the_wish_identifiers_stay(
    settings: dict[str, object], headers: dict[str, str], own: dict[str, Any]
) -> None:
    payload, flags, counts = kept(CLICK | own, rules(**settings), headers)
    assert payload == {name: value for name, value in (CLICK | own).items() if name != "anonymous"}
    assert (flags, counts) == ((), {})


@pytest.mark.parametrize(
    ("settings", "headers", "reason"),
    [
        ({"gpc": "drop", "dnt": "anonymous"}, {"Sec-GPC": "1", "DNT": "1"}, "gpc"),
        ({"dnt": "drop", "gpc": "anonymous"}, {"Sec-GPC": "1", "DNT": "1"}, "dnt"),
        ({"consent_category": "analytics", "without_consent": "drop"}, {}, "consent"),
    ],
)
def test_what_is_to_be_dropped_is_dropped_for_a_reason_that_counts(
    settings: dict[str, object], headers: dict[str, str], reason: str
) -> None:
    with pytest.raises(Dropped) as raised:
        kept(CLICK, rules(**settings), headers)
    assert raised.value.reason == reason


@pytest.mark.parametrize("consent", [7, [], {"analytics": "yes"}, {"analytics": 1}, "analytics"])
def test_what_is_no_consent_gives_none(consent: object) -> None:
    policy = rules(consent_category="analytics", without_consent="drop")
    with pytest.raises(Dropped):
        policy.apply(CLICK | {"consent": consent}, LIVE, Counter())


def test_a_replays_headers_are_not_its_visitors_wish() -> None:
    replay = Context(write_key="shop", received_at=5, run="2015", ip="10.0.0.1")
    policy = rules(gpc="drop", internal_networks=["10.0.0.0/8"])
    assert policy.request(replay, {"Sec-GPC": "1"}) == replay


def test_of_an_anonymous_identify_no_trait_is_kept() -> None:
    person = CLICK | {"event_type": "identify", "properties": {"address": "Ann's street", "plan": "gold"}}
    payload, _, _ = kept(person, rules(anonymous=True))
    assert payload["properties"] == {}


def test_every_click_id_that_we_read_counts_as_an_identifier() -> None:
    read = {name for name in IDENTIFIERS if enrich.campaign(f"https://x.example/?{name}=1")}
    assert read == set(enrich._CLICK_IDS)


def test_listed_names_are_never_stored_wherever_they_are() -> None:
    policy = rules(never_store=["email", "*token*"], hashed=["customer_no"], salt=SALT)
    payload, flags, counts = kept(
        CLICK
        | {
            "E-Mail": "a@b.example",
            "page": {"url": "https://shop.example/?user%5Bemail%5D=a%40b.example&x=1;accessToken=t#/route?token=t&y=2"},
            "properties": {
                "eMail": 1,
                "form": [{"traits.email": "a", "n": [1, {"csrf_token": "t"}]}],
                "customerNo": 17,
                "nested": '{"email": "a@b.example", "a": 1}',
                "link": "/next?email=a@b.example",
            },
        },
        policy,
    )
    hashed = payload["properties"].pop("customerNo")
    assert hashed.startswith("hashed:") and len(hashed) == 39
    assert payload["properties"] == {"form": [{"n": [1, {}]}], "nested": '{"a": 1}', "link": "/next?"}
    assert payload["page"] == {"url": "https://shop.example/?x=1#/route?y=2"}
    assert "E-Mail" not in payload and payload["anonymous_id"] == "visitor-1"
    assert flags == ("redacted",)
    assert counts == {"dropped": 9, "hashed": 1}


def test_a_name_of_the_contract_can_be_taken_out_too() -> None:
    policy = rules(never_store=["anonymous_id", "position", "title"], hashed=["user_id", "quantity"], salt=SALT)
    payload, _, counts = kept(CLICK | {"position": 3, "quantity": 2}, policy)
    assert payload["anonymous_id"] is None
    assert payload["user_id"].startswith("hashed:")
    assert not {"position", "quantity"} & payload.keys(), "a hash would be of the wrong type"
    assert "title" not in payload["page"]
    assert counts == {"dropped": 4, "hashed": 2}, "the userId within a context as well"


def test_a_hash_depends_on_value_and_salt_and_stays_when_it_comes_again() -> None:
    def hashed(value: object, salt: str = SALT) -> str:
        payload, _, _ = kept(CLICK | {"properties": {"email": value}}, rules(hashed=["email"], salt=salt))
        return str(payload["properties"]["email"])

    assert hashed("a@b.example") == hashed("a@b.example")
    assert len({hashed("a@b.example"), hashed("c@d.example"), hashed("a@b.example", SALT * 9), hashed(["x"])}) == 4
    assert hashed(hashed("a@b.example")) == hashed("a@b.example")


def test_what_has_no_such_name_is_untouched_and_unflagged() -> None:
    policy = rules(never_store=["password"])
    payload, flags, counts = kept(CLICK, policy)
    assert (payload, flags, counts) == (CLICK, (), {})


@pytest.mark.parametrize(
    ("ip", "own", "internal"),
    [
        ("10.1.2.3", None, True),
        ("::ffff:10.1.2.3", None, True),
        ("fd00::1", None, True),
        ("203.0.113.9", None, False),
        ("203.0.113.9", "10.9.9.9", True),
        (None, None, False),
    ],
)
def test_internal_traffic_is_marked_and_kept(ip: str | None, own: str | None, internal: bool) -> None:
    policy = rules(internal_networks=["10.0.0.0/8", "fd00::/8"])
    context = Context(write_key="shop", received_at=LIVE.received_at, ip=ip)
    _, flags, _ = kept(CLICK | {"ip": own}, policy, context=context)
    assert flags == (("internal",) if internal else ())


def test_internal_traffic_is_known_also_when_it_is_anonymous() -> None:
    policy = rules(internal_networks=["203.0.113.0/24"], anonymous=True)
    assert kept(CLICK, policy)[1] == ("internal", "anonymous")


def scrubbed(value: Any, policy: Rules, headers: dict[str, str] | None = None) -> Any:
    return policy.scrubber(policy.request(LIVE, headers or {}))(value)


def test_refused_payloads_of_any_protocol_obey_the_same_rules() -> None:
    inner = base64.urlsafe_b64encode(json.dumps({"data": [{"email": "a@b.example", "userId": "u1"}]}).encode())
    snowplow = {"e": "ue", "duid": "v1", "cx": inner.decode().rstrip("="), "aid": "shop"}
    listed = scrubbed(snowplow, rules(never_store=["email"]))
    assert json.loads(base64.urlsafe_b64decode(listed["cx"])) == {"data": [{"userId": "u1"}]}
    assert listed["duid"] == "v1"
    anonymous = scrubbed(snowplow, rules(), {"SP-Anonymous": "*"})
    assert json.loads(base64.urlsafe_b64decode(anonymous["cx"])) == {"data": [{}]}
    assert anonymous.keys() == {"e", "cx", "aid"}
    assert scrubbed(snowplow, rules()) is snowplow
    assert scrubbed(snowplow | {"cx": "no base64!"}, rules(never_store=["email"]))["cx"] == "no base64!"


def test_json_without_end_within_a_string_is_a_string() -> None:
    deep = "[" * 100_000 + '{"email": "a"}' + "]" * 100_000
    payload, _, _ = kept(CLICK | {"properties": {"x": deep}}, rules(never_store=["email"]))
    assert payload["properties"]["x"] == deep.replace('"a"', '""')


def test_refused_payloads_without_consent_keep_nobody() -> None:
    policy = rules(consent_category="analytics")
    assert scrubbed({"userId": "u", "x": 1}, policy) == {"x": 1}
    assert scrubbed({"anonymous_id": "v", "x": 1}, policy) == {"anonymous_id": None, "x": 1}
    consenting = {"user_id": "u", "consent": {"analytics": True}}
    assert scrubbed(consenting, policy) == consenting
    assert scrubbed({"x": 1}, rules(consent_category="analytics", without_consent="drop")) is None
    assert scrubbed({"x": 1}, rules(gpc="drop"), {"Sec-GPC": "1"}) is None


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ('{"email": "a@b\\"c", "x": 1', '{"email": "", "x": 1'),
        ('{"email":"a', '{"email":""'),
        ("email=a%40b&x=1", 'email=""&x=1'),
        ('user%5Bemail%5D=a&x={"password": 12}', 'user%5Bemail%5D=""&x={"password": ""}'),
        ("nothing here", "nothing here"),
    ],
)
def test_what_is_no_json_loses_the_values_after_such_names(text: str, left: str) -> None:
    assert scrubbed(text, rules(never_store=["email", "password"])) == left


def test_scrubbing_a_broken_text_takes_linear_time() -> None:
    policy = rules(never_store=["email"])
    started = time.perf_counter()
    for text in ("x" * 500_000, "a:" * 250_000, 'a="' * 100_000, "a" + " " * 500_000, '"\\' * 250_000):
        scrubbed(text, policy)
    assert time.perf_counter() - started < 20
