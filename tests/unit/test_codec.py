"""The contract on the wire: the codec, and the rules by which the schema may evolve."""

from __future__ import annotations

import copy
import io
import itertools
import json
import random
from pathlib import Path
from typing import Any

import fastavro
import msgspec
import pytest
from fastavro.schema import fingerprint
from msgspec.structs import replace

import ingest
from ingest.errors import CodecError
from ingest.event import codec
from ingest.event.encoder import encode_body
from ingest.event.event import EVENT_TYPES, ClickEvent, Device, Page, Source, as_dict
from tests.support.events import FULL, minimal

SCHEMAS = Path(ingest.__file__).parent / "schemas" if ingest.__file__ else Path()
VERSIONS = sorted(SCHEMAS.glob("click_event.v*.avsc"), key=lambda path: int(path.suffixes[0][2:]))

MINIMAL = minimal(event_type="custom", occurred_at=-62135596800000, received_at=0)


def test_the_full_event_sets_every_field() -> None:
    # Else a field could be lost by the codec without a test to see it.
    optional = [field for field in msgspec.structs.fields(ClickEvent) if not field.required]
    assert len(optional) > 20
    for field in optional:
        default = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
        assert getattr(FULL, field.name) != default, field.name


@pytest.mark.parametrize("event", [FULL, MINIMAL], ids=["full", "minimal"])
def test_an_event_survives_the_wire(event: ClickEvent) -> None:
    assert codec.decode(codec.encode(event)) == event


def test_the_hand_written_encoder_writes_what_fastavro_writes() -> None:
    schema = fastavro.parse_schema(copy.deepcopy(codec.SCHEMA))
    written_by_hand = 0
    for seed in range(40):
        event = _random_event(random.Random(seed))
        out = io.BytesIO()
        fastavro.schemaless_writer(out, schema, as_dict(event))
        assert codec.encode(event)[codec.HEADER_SIZE :] == out.getvalue(), f"seed {seed}"
        written_by_hand += len(out.getvalue()) == len(_by_hand(event))
    assert written_by_hand > 10, "the texts are too long to test the encoder"


@pytest.mark.parametrize("size", [0, 63, 64, 8191, 8192, 70_000])
def test_a_text_may_have_any_length(size: int) -> None:
    for event in (
        replace(MINIMAL, user_id="x" * size),
        replace(MINIMAL, properties={"a": "x" * size}),
        replace(MINIMAL, page=Page(title="x" * size)),
    ):
        assert codec.decode(codec.encode(event)) == event


@pytest.mark.parametrize("number", [0, 63, 64, 8191, 8192, 2**27, 2**41, 2**62, 2**63 - 1])
def test_a_number_may_have_any_size(number: int) -> None:
    event = replace(MINIMAL, sequence=number, occurred_at=-number)
    assert codec.decode(codec.encode(event)) == event


def test_the_fingerprint_is_pinned() -> None:
    assert codec.FINGERPRINT.hex() == "5f79f5c220ffa200"
    assert codec.encode(MINIMAL)[:10].hex() == "c3015f79f5c220ffa200"


def test_fingerprints_are_those_of_the_avro_specification() -> None:
    # 0x7275d51a3f395c8f is the specification's own value for "int"; on the wire it is little-endian.
    assert bytes.fromhex(fingerprint('"int"', "CRC-64-AVRO"))[::-1].hex() == "7275d51a3f395c8f"


@pytest.mark.parametrize("value", [b"", b"\xc3\x01short", b"\xc3\x02" + bytes(20), b'{"json": true}'])
def test_what_is_no_single_object_encoding_is_refused(value: bytes) -> None:
    with pytest.raises(CodecError):
        codec.decode(value)


def test_an_unknown_schema_is_named() -> None:
    with pytest.raises(CodecError) as caught:
        codec.decode(b"\xc3\x01" + b"ABCDEFGH" + b"body")
    assert caught.value.fingerprint == b"ABCDEFGH"


@pytest.mark.parametrize("damage", [lambda body: body[:-3], lambda body: body + b"\x00"], ids=["short", "long"])
def test_a_body_that_does_not_follow_its_schema_is_refused(damage: Any) -> None:
    with pytest.raises(CodecError):
        codec.decode(damage(codec.encode(FULL)))


def test_the_newest_released_version_is_the_contract() -> None:
    assert VERSIONS, "no released version"
    assert json.loads(VERSIONS[-1].read_text()) == codec.SCHEMA


def test_every_version_reads_every_other() -> None:
    schemas = {path.name: json.loads(path.read_text()) for path in VERSIONS}
    assert not incompatibilities(schemas)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda s: s["fields"].append({"name": "new", "type": "string"}), id="new field without default"),
        pytest.param(lambda s: s["fields"].pop(0), id="field without default removed"),
        pytest.param(lambda s: s["fields"][4].update(type="string"), id="type changed"),
        pytest.param(lambda s: s["fields"][2]["type"]["symbols"].__setitem__(7, "other"), id="default symbol removed"),
        pytest.param(lambda s: s["fields"][0].update(name="id"), id="field renamed"),
    ],
)
def test_a_change_that_breaks_readers_is_caught(change: Any) -> None:
    changed = copy.deepcopy(codec.SCHEMA)
    change(changed)
    assert incompatibilities({"now": codec.SCHEMA, "changed": changed})


def test_a_new_optional_field_is_allowed_and_read_past() -> None:
    newer = copy.deepcopy(codec.SCHEMA)
    newer["fields"].append({"name": "weather", "type": ["null", "string"], "default": None})
    assert not incompatibilities({"now": codec.SCHEMA, "newer": newer})

    out = io.BytesIO()
    record = as_dict(FULL) | {"weather": "rain"}
    fastavro.schemaless_writer(out, fastavro.parse_schema(copy.deepcopy(newer)), record)
    print_ = codec.schema_fingerprint(newer)
    assert codec.decode(codec.MARKER + print_ + out.getvalue(), {print_: newer}) == FULL


def incompatibilities(schemas: dict[str, dict[str, Any]]) -> list[str]:
    """Pairs (writer, reader) of which the reader can't read what the writer writes."""
    records = {
        "full": as_dict(FULL),
        **{t: as_dict(replace(FULL, event_type=t)) for t in EVENT_TYPES},  # type: ignore[arg-type]
        "minimal": as_dict(MINIMAL),
    }
    found = []
    for (writer, written), (reader, read) in itertools.permutations(schemas.items(), 2):
        for kind, record in records.items():
            try:
                out = io.BytesIO()
                # A writer of its own version fills what only it knows, and lacks what it doesn't.
                known = record | {f["name"]: _sample(f) for f in written["fields"] if f["name"] not in record}
                fastavro.schemaless_writer(out, fastavro.parse_schema(copy.deepcopy(written)), known)
                out.seek(0)
                fastavro.schemaless_reader(
                    out, fastavro.parse_schema(copy.deepcopy(written)), fastavro.parse_schema(copy.deepcopy(read))
                )
                if out.read(1):
                    found.append(f"{writer} -> {reader}: bytes left of {kind}")
            except Exception as error:  # fastavro raises whatever it stumbles over
                found.append(f"{writer} -> {reader}: {kind}: {error!r}")
    return found


def _sample(field: dict[str, Any]) -> Any:
    return field.get("default", "sample")


def _by_hand(event: ClickEvent) -> bytes:
    try:
        return encode_body(event)
    except IndexError:
        return b""


def _random_event(rng: random.Random) -> ClickEvent:
    def text() -> str:
        return "".join(rng.choices('aé漢😀 \\"\x00', k=rng.choice([0, 1, 7, 63, 64, 3000])))

    def maybe(value: Any) -> Any:
        return value if rng.random() < 0.5 else None

    def texts() -> dict[str, str]:
        return {f"{n}{text()[:5]}": text() for n in range(rng.choice([0, 1, 5]))}

    def number(bits: int) -> int:
        return rng.randrange(2 ** rng.randrange(1, bits))

    return ClickEvent(
        event_id=text(), message_id=text(), event_type=rng.choice(EVENT_TYPES),  # type: ignore[arg-type]
        event_name=maybe(text()), occurred_at=rng.choice([-1, 1]) * number(50), received_at=number(50),
        sequence=number(63), anonymous_id=maybe(text()), user_id=maybe(text()), client_session_id=maybe(text()),
        page=Page(maybe(text()), maybe(text()), maybe(text()), maybe(text())), campaign=texts(),
        device=Device(maybe(text()), maybe(text()), maybe(text()), rng.random() < 0.5), ip=maybe(text()),
        consent={name: rng.random() < 0.5 for name in texts()}, write_key=text(),
        source=Source(text(), maybe(text()), maybe(text())), item_id=maybe(text()), list_id=maybe(text()),
        position=maybe(number(31)), propensity=maybe(rng.random()), impression_id=maybe(text()),
        model_version=maybe(text()), order_id=maybe(text()), value=maybe(rng.uniform(-1e9, 1e9)),
        currency=maybe("EUR"), quantity=maybe(number(31)), experiments=texts(), properties=texts(),
        flags=tuple(texts()),
    )  # fmt: skip
