"""Events that don't follow their plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infra.errors import ConfigurationError
from infra.settings.collector import TrackingPlan
from ingest.errors import InvalidEvent, Quarantined
from ingest.policy.tracking_plan import Plan, load

SCHEMA = {
    "type": "object",
    "properties": {
        "color": {"type": "string", "enum": ["red", "blue"]},
        "size": {"type": "integer"},
        "to": {"type": "object", "properties": {"zip": {"type": "string", "pattern": "^[0-9]{5}$"}}},
        "mail": {"type": "string", "format": "email"},
    },
    "required": ["item_id"],
    "additionalProperties": False,
}
GOOD: dict[str, Any] = {"event_type": "custom", "event_name": "Lamp Lit", "item_id": "lamp", "value": 1.5}


def plan(folder: Path, schema: object = SCHEMA, **verdicts: str) -> Plan:
    (folder / "Lamp Lit.json").write_text(json.dumps(schema))
    loaded = load(TrackingPlan.model_validate({"folder": str(folder), **verdicts}))
    assert loaded is not None
    return loaded


def test_without_a_folder_there_is_no_plan() -> None:
    assert load(TrackingPlan()) is None


def test_an_event_that_follows_its_plan_has_no_flag(tmp_path: Path) -> None:
    strict = plan(tmp_path, unknown_event="reject", unknown_property="reject", invalid="reject")
    assert strict.check(GOOD) == ()
    assert strict.check(GOOD | {"properties": {"color": "red", "size": 2, "to": {"zip": "12345"}}}) == ()
    assert strict.check(GOOD | {"properties": None}) == ()


@pytest.mark.parametrize(
    ("change", "setting", "flag", "field", "reason"),
    [
        ({"event_name": "Lamp Burst"}, "unknown_event", "unplanned_event", "event_name", "is not in"),
        ({"event_name": None}, "unknown_event", "unplanned_event", "event_type", "is not in"),
        ({"properties": {"hue": 1}}, "unknown_property", "unplanned_property", "properties.hue", "is not in"),
        ({"hue": 1}, "unknown_property", "unplanned_property", "properties.hue", "is not in"),
        ({"properties": {"color": "secret"}}, "invalid", "against_plan", "properties.color", "plan's enum"),
        ({"properties": {"size": "secret"}}, "invalid", "against_plan", "properties.size", "plan's type"),
        ({"properties": {"to": {"zip": "secret"}}}, "invalid", "against_plan", "properties.to.zip", "plan's pattern"),
        ({"properties": {"mail": "secret"}}, "invalid", "against_plan", "properties.mail", "plan's format"),
        ({"item_id": None}, "invalid", "against_plan", "item_id", "is missing"),
        ({"properties": {"color": "\ud800"}}, "invalid", "against_plan", "properties", "can't check"),
    ],
)
def test_what_departs_from_the_plan_is_treated_as_set(
    tmp_path: Path, change: dict[str, Any], setting: str, flag: str, field: str, reason: str
) -> None:
    payload = GOOD | change
    others = {name: "allow" for name in ("unknown_event", "unknown_property", "invalid") if name != setting}
    assert plan(tmp_path, **others, **{setting: "allow"}).check(payload) == ()
    assert plan(tmp_path, **others, **{setting: "warn"}).check(payload) == (flag,)
    with pytest.raises(Quarantined) as aside:
        plan(tmp_path, **others, **{setting: "quarantine"}).check(payload)
    with pytest.raises(InvalidEvent) as refused:
        plan(tmp_path, **others, **{setting: "reject"}).check(payload)
    assert not isinstance(refused.value, Quarantined)
    for raised in (aside.value, refused.value):
        assert raised.field == field
        assert reason in raised.reason and "secret" not in raised.reason


def test_of_several_problems_the_gravest_counts_and_all_warnings_are_flagged(tmp_path: Path) -> None:
    payload = GOOD | {"properties": {"hue": 1, "size": "x"}}
    assert plan(tmp_path, unknown_property="warn", invalid="warn").check(payload) == (
        "unplanned_property",
        "against_plan",
    )
    with pytest.raises(Quarantined, match=r"properties\.size"):
        plan(tmp_path, unknown_property="warn", invalid="quarantine").check(payload)
    with pytest.raises(InvalidEvent, match=r"properties\.hue"):
        plan(tmp_path, unknown_property="reject", invalid="quarantine").check(payload)


@pytest.mark.parametrize("more", [{"additionalProperties": True}, {"patternProperties": {"^x_": {"type": "integer"}}}])
def test_a_schema_that_allows_more_properties_knows_them(tmp_path: Path, more: dict[str, Any]) -> None:
    opened = {name: value for name, value in SCHEMA.items() if name != "additionalProperties"} | more
    assert plan(tmp_path, opened, unknown_property="reject").check(GOOD | {"properties": {"x_1": 1}}) == ()


def test_the_type_of_further_properties_holds(tmp_path: Path) -> None:
    typed = SCHEMA | {"additionalProperties": {"type": ["integer", "number", "string"]}}
    assert plan(tmp_path, typed, invalid="reject").check(GOOD | {"properties": {"x": 1}}) == ()
    with pytest.raises(InvalidEvent, match=r"properties\.x"):
        plan(tmp_path, typed, invalid="reject").check(GOOD | {"properties": {"x": None}})


@pytest.mark.parametrize("payload", [{}, {"event_type": 3}, {"event_type": "click", "properties": [1]}])
def test_what_the_contract_refuses_is_left_to_it(tmp_path: Path, payload: dict[str, Any]) -> None:
    assert plan(tmp_path, unknown_event="reject", invalid="reject").check(payload) == ()


def test_a_name_that_no_file_can_have_is_escaped(tmp_path: Path) -> None:
    (tmp_path / "a%2Fb.json").write_text(json.dumps(SCHEMA))
    assert plan(tmp_path, unknown_event="reject").check(GOOD | {"event_name": "a/b"}) == ()


def test_all_files_that_are_no_schema_are_told_at_start(tmp_path: Path) -> None:
    for name, text in {
        "broken": "{",
        "list": "[1]",
        "none": "{}",
        "typo": '{"type": "objct", "properties": {}}',
        "regex": '{"properties": {"x": {"pattern": "("}}}',
        "abroad": '{"properties": {"x": {"$ref": "http://127.0.0.1:1/x.json"}}}',
        "latin": "\udce9",
        "fine": json.dumps(SCHEMA),
    }.items():
        (tmp_path / f"{name}.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigurationError) as raised:
        load(TrackingPlan(folder=str(tmp_path)))
    told = [Path(problem.partition(": ")[0]).stem for problem in raised.value.problems]
    assert told == ["abroad", "broken", "latin", "list", "none", "regex", "typo"]
    assert all("\n" not in problem for problem in raised.value.problems)


def test_a_folder_without_schemas_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="TRACKING_PLAN__FOLDER"):
        load(TrackingPlan(folder=str(tmp_path / "nowhere")))
