"""The native protocol: what is taken, corrected, flagged and refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ingest.errors import InvalidEvent
from ingest.event.context import Context
from ingest.event.event import ClickEvent, event_id
from ingest.protocols.native import MAX_PROPERTIES, parse

NOW = 1_795_245_567_000
DAY = 86_400_000
CHROME = "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
LIVE = Context("shop", NOW, ip="203.0.113.77", user_agent=CHROME)
RUN = Context("shop", NOW, ip="203.0.113.77", user_agent=CHROME, run="history.jsonl")


def event(context: Context = LIVE, **fields: Any) -> ClickEvent:
    return parse({"event_type": "click", "occurred_at": NOW, "anonymous_id": "v1"} | fields, context)


def refused(context: Context = LIVE, **fields: Any) -> tuple[str, str]:
    with pytest.raises(InvalidEvent) as caught:
        event(context, **fields)
    return caught.value.field, caught.value.reason


def test_three_fields_are_enough() -> None:
    got = event()
    assert (got.event_type, got.occurred_at, got.anonymous_id, got.received_at) == ("click", NOW, "v1", NOW)
    assert got.event_id == event_id("shop", got.message_id)
    assert got.flags == ()


@pytest.mark.parametrize("name", ["event_type", "occurred_at", "anonymous_id"])
def test_a_missing_required_field_is_named(name: str) -> None:
    payload = {"event_type": "click", "occurred_at": NOW, "anonymous_id": "v1"}
    del payload[name]
    with pytest.raises(InvalidEvent) as caught:
        parse(payload, LIVE)
    assert (caught.value.field, caught.value.reason) == (name, "field required")


def test_a_visitor_may_be_explicitly_anonymous() -> None:
    assert event(anonymous_id=None).key is None
    assert event(anonymous_id=None, user_id="u1").key == b"u1"


@pytest.mark.parametrize(
    ("given", "millis"),
    [
        ("2015-05-17T10:05:03Z", 1431857103000),
        ("2015-05-17T12:05:03.250+02:00", 1431857103250),
        ("2015-05-17t10:05:03.123456z", 1431857103123),
        (1431857103000, 1431857103000),
        (1431857103000.6, 1431857103001),
        (0, 0),
        ("0001-01-01T00:00:00Z", -62135596800000),
        ("9999-12-31T23:59:59.999Z", 253402300799999),
    ],
)
def test_times_are_rfc_3339_or_milliseconds(given: object, millis: int) -> None:
    assert event(RUN, occurred_at=given).occurred_at == millis


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("2015-05-17T10:05:03", "has no time zone"),
        ("yesterday", "is neither RFC 3339 nor milliseconds since 1970"),
        ("1431857103000", "is neither RFC 3339 nor milliseconds since 1970"),
        (True, "is neither RFC 3339 nor milliseconds since 1970"),
        (None, "is neither RFC 3339 nor milliseconds since 1970"),
        (253402300800000, "lies outside the years 1 to 9999"),
        (-62135596800001, "lies outside the years 1 to 9999"),
        ("0001-01-01T00:00:00+14:00", "lies outside the years 1 to 9999"),
        (float("nan"), "lies outside the years 1 to 9999"),
        (10**400, "lies outside the years 1 to 9999"),
    ],
)
def test_a_time_that_is_none_is_refused(given: object, reason: str) -> None:
    assert refused(occurred_at=given) == ("occurred_at", reason)


def test_a_clients_wrong_clock_is_corrected_by_its_time_of_sending() -> None:
    an_hour_slow = NOW - 3_600_000
    assert event(occurred_at=an_hour_slow - 5000, sent_at=an_hour_slow).occurred_at == NOW - 5000
    batch = Context("shop", NOW, sent_at=an_hour_slow)
    assert event(batch, occurred_at=an_hour_slow - 5000).occurred_at == NOW - 5000


def test_a_correction_beyond_all_calendars_is_refused() -> None:
    field, _ = refused(occurred_at=253402300799999, sent_at=-62135596800000)
    assert field == "sent_at"


@pytest.mark.parametrize(
    ("offset", "flags"), [(3_600_001, ("odd_clock",)), (3_599_999, ()), (-31 * DAY, ("odd_clock",))]
)
def test_a_live_event_far_from_now_is_kept_and_flagged(offset: int, flags: tuple[str, ...]) -> None:
    got = event(occurred_at=NOW + offset)
    assert (got.occurred_at, got.flags) == (NOW + offset, flags)


def test_replayed_history_keeps_its_times_without_a_flag() -> None:
    got = event(RUN, occurred_at=1431857103000, sent_at=1431857104000)
    assert (got.occurred_at, got.flags, got.source.run) == (1431857103000, (), "history.jsonl")


def test_replayed_history_of_the_future_is_flagged() -> None:
    got = event(RUN, occurred_at=NOW + 3_600_001, sent_at=NOW)
    assert (got.occurred_at, got.flags) == (NOW + 3_600_001, ("odd_clock",))


def test_the_path_is_that_of_the_url_unless_given() -> None:
    assert event(page={"url": "https://a.example/b%20c/?q=1#f"}).page.path == "/b c/"
    assert event(page={"url": "https://a.example/b", "path": "/other"}).page.path == "/other"


def test_a_campaign_is_read_from_the_url_and_the_given_one_wins() -> None:
    got = event(page={"url": "https://a.example/?utm_source=x&utm_medium=m&gclid=g"}, campaign={"source": "mine"})
    assert got.campaign == {"source": "mine", "medium": "m", "gclid": "g"}


def test_property_types_survive_as_json() -> None:
    got = event(properties={"n": 1, "s": "1", "l": [True, None], "o": {"ü": 1.5}})
    assert got.properties == {"n": "1", "s": '"1"', "l": "[true,null]", "o": '{"ü":1.5}'}


def test_unknown_fields_are_kept_as_flagged_properties() -> None:
    got = event(color="red", properties={"color": "blue"}, page={"url": "/x", "depth": 3})
    assert got.properties == {"color": '"blue"', "color (top level)": '"red"', "page.depth": "3"}
    assert got.flags == ("unknown_field",)


def test_long_text_is_cut_and_flagged() -> None:
    got = event(page={"title": "x" * 5000}, properties={"long": "y" * 20_000, "deep": ["z" * 20_000]})
    assert got.page.title is not None
    assert len(got.page.title) == 1024
    assert len(json.loads(got.properties["long"])) == 8192
    assert json.loads(got.properties["deep"]).startswith('["zzz')
    assert got.flags == ("truncated",)


def test_long_ids_are_refused_as_cutting_them_would_merge_visitors() -> None:
    field, _ = refused(anonymous_id="x" * 513)
    assert field == "anonymous_id"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"event_type": "explode"}, "event_type"),
        ({"anonymous_id": ""}, "anonymous_id"),
        ({"anonymous_id": 7}, "anonymous_id"),
        ({"position": -1}, "position"),
        ({"position": 2**31}, "position"),
        ({"quantity": "2"}, "quantity"),
        ({"propensity": 1.5}, "propensity"),
        ({"value": float("inf")}, "value"),
        ({"currency": "EURO"}, "currency"),
        ({"consent": {"ads": "yes"}}, "consent.ads"),
        ({"experiments": {"e": 1}}, "experiments.e"),
        ({"page": {"url": 3}}, "page.url"),
        ({"page": "x"}, "page"),
        ({"ip": "300.1.1.1"}, "ip"),
        ({"properties": [1]}, "properties"),
        ({"properties": {str(n): n for n in range(MAX_PROPERTIES + 1)}}, "properties"),
        ({str(n): n for n in range(MAX_PROPERTIES + 1)}, "properties"),
        ({"sequence": -1}, "sequence"),
        ({"user_id": {"a": "b"}}, "user_id"),
        ({"campaign": {"x" * 513: "a"}}, "campaign." + "x" * 100),
        ({"currency": "EUR\n"}, "currency"),
        ({"propensity": float("nan")}, "propensity"),
        ({"value": float("nan")}, "value"),
        ({"value": 10**400}, "value"),
        ({"position": 1.0}, "position"),
        ({"sequence": True}, "sequence"),
        ({"sdk": "x" * 257}, "sdk"),
        ({"properties": {"n": [float("inf")]}}, "properties"),
        ({"properties": {"": 1}}, "properties."),
    ],
)
def test_a_wrong_value_is_refused_and_its_field_named(fields: dict[str, object], field: str) -> None:
    assert refused(**fields)[0] == field


def test_a_lone_surrogate_in_a_property_survives_as_an_escape() -> None:
    got = event(properties={"s": "\ud800"})
    assert json.loads(got.properties["s"]) == "\ud800"
    assert got.properties["s"].isascii()


def test_a_live_event_gets_the_requests_agent_and_anonymised_address() -> None:
    got = event()
    assert (got.device.browser, got.device.is_bot, got.ip) == ("Chrome", False, "203.0.113.0")


def test_history_never_gets_those_of_whoever_replays_it() -> None:
    got = event(RUN)
    assert (got.device.browser, got.ip) == (None, None)


def test_a_servers_payload_brings_its_visitors_agent_and_address() -> None:
    got = event(RUN, user_agent="Googlebot/2.1", ip="2001:db8:1:2::3")
    assert (got.device.is_bot, got.ip) == (True, "2001:db8:1::")


def test_the_whole_address_is_kept_only_when_settings_say_so() -> None:
    assert event(Context("shop", NOW, ip="203.0.113.77", anonymize_ip=False)).ip == "203.0.113.77"


def test_blank_optional_ids_are_none() -> None:
    got = event(user_id="", item_id="", message_id="", currency="")
    assert (got.user_id, got.item_id, got.currency) == (None, None, None)
    assert got.message_id


def test_a_reason_never_repeats_what_was_sent() -> None:
    for fields in ({"event_type": "s3cret"}, {"currency": "s3cret"}, {"page": {"url": ["s3cret"]}}, {"ip": "s3cret"}):
        assert "s3cret" not in refused(**fields)[1], fields


def test_the_events_of_one_message_differ_by_index() -> None:
    payload = {"event_type": "purchase", "occurred_at": NOW, "anonymous_id": "v1", "message_id": "m1"}
    ids = [parse(payload, LIVE, index).event_id for index in range(3)]
    assert ids == [event_id("shop", "m1", index) for index in range(3)]
    assert len(set(ids)) == 3


def test_the_clients_library_is_kept() -> None:
    assert event(sdk="analytics-python/2.4.0").source.sdk == "analytics-python/2.4.0"
    assert event(sdk="").source.sdk is None
    assert event().flags == ()


def test_a_payload_is_left_as_it_was() -> None:
    payload = {"event_type": "click", "occurred_at": NOW, "anonymous_id": "v1", "page": {"depth": 1}, "color": "red"}
    before = json.dumps(payload)
    parse(payload, LIVE)
    assert json.dumps(payload) == before


def test_events_of_one_page_don_t_share_what_another_says_of_it() -> None:
    first = event(page={"url": "/a", "title": "A"})
    second = event(page={"url": "/a", "title": "B"})
    assert (first.page.title, second.page.title, first.page.path, second.page.path) == ("A", "B", "/a", "/a")
