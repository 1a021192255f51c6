"""What each protocol's entry says, held against the parts that go by it."""

from __future__ import annotations

import pytest

from ingest.event import anonymise, scrub
from ingest.policy.privacy import IDENTIFIERS, PAYLOAD_FIELDS
from ingest.protocols import PROTOCOLS
from ingest.protocols.protocol import Protocol

ALL = pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)


def plain(name: str) -> str:
    return "".join(filter(str.isalnum, name)).lower()


def test_no_two_routes_have_one_path() -> None:
    paths = [route.path for protocol in PROTOCOLS.values() for route in protocol.routes]
    assert len(paths) == len({path.rstrip("/") for path in paths}) > 15


@ALL
def test_a_message_can_be_sent_again(protocol: Protocol) -> None:
    assert bool(protocol.batch_path) != bool(protocol.resend)
    if protocol.routes and protocol.batch_path:
        assert protocol.batch_path in {route.path for route in protocol.routes}


@ALL
def test_the_senders_names_are_of_native_fields(protocol: Protocol) -> None:
    assert protocol.fields.keys() <= PAYLOAD_FIELDS
    if protocol.time_fields:
        assert protocol.sender_field("occurred_at") in protocol.time_fields.occurred_at
        assert protocol.sender_field("sent_at") == protocol.time_fields.sent_at


@ALL
@pytest.mark.parametrize("native", ["anonymous_id", "user_id"])
def test_anonymous_mode_and_erasure_know_under_which_names_people_are_sent(protocol: Protocol, native: str) -> None:
    name = plain(protocol.sender_field(native))
    assert name in {plain(one) for one in IDENTIFIERS}
    assert name in anonymise.ID_NAMES


def test_privacy_looks_into_what_a_protocol_sends_in_base64() -> None:
    encoded = {name for protocol in PROTOCOLS.values() for name in protocol.encoded}
    assert {plain(name) for name in encoded} == scrub.ENCODED
