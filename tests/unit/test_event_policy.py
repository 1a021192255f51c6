"""The rules in their order."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from infra.settings.collector import Collector
from ingest.errors import Dropped, InvalidEvent, Quarantined
from ingest.event.context import Context
from ingest.policy.pipeline import EventPolicy

CONTEXT = Context(write_key="shop", received_at=5, ip="203.0.113.9")
CLICK: dict[str, Any] = {"event_type": "click", "anonymous_id": "v", "properties": {"color": "red", "email": "a@b.c"}}


def policy(folder: Path, **settings: Any) -> EventPolicy:
    (folder / "click.json").write_text(json.dumps({"properties": {"color": {"type": "string"}}}))
    plan = {"folder": str(folder), "unknown_property": "quarantine"}
    return EventPolicy(Collector.model_validate({"tracking_plan": plan} | settings))


def test_what_is_never_stored_is_gone_before_the_plan_looks(tmp_path: Path) -> None:
    counts = Counter[str]()
    payload, context = policy(tmp_path, privacy={"never_store": ["email"]}).apply(CLICK, CONTEXT, counts)
    assert payload["properties"] == {"color": "red"}
    assert context.flags == ("redacted",)
    assert counts == {"dropped": 1}


def test_flags_of_all_rules_go_with_the_event(tmp_path: Path) -> None:
    rules = {"privacy": {"internal_networks": ["203.0.113.0/24"], "anonymous": True}}
    plan = {"folder": str(tmp_path), "unknown_property": "warn"}
    checked = policy(tmp_path, **rules, tracking_plan=plan)
    _, context = checked.apply(CLICK | {"properties": {"hue": 1}}, checked.request(CONTEXT, {}), Counter())
    assert context.flags == ("internal", "anonymous", "unplanned_property")


def test_departures_from_the_plan_are_counted(tmp_path: Path) -> None:
    counts = Counter[str]()
    with pytest.raises(Quarantined):
        policy(tmp_path).apply(CLICK, CONTEXT, counts)
    assert counts == {"against_plan": 1}


def test_who_wants_no_record_is_not_examined(tmp_path: Path) -> None:
    strict = policy(tmp_path, privacy={"gpc": "drop"})
    with pytest.raises(Dropped, match="gpc"):
        strict.apply(CLICK, strict.request(CONTEXT, {"Sec-GPC": "1"}), Counter())


def test_nesting_without_end_is_refused_before_anything_walks_through_it(tmp_path: Path) -> None:
    deep: Any = 1
    for _ in range(2 * sys.getrecursionlimit()):
        deep = [deep]
    with pytest.raises(InvalidEvent, match="32 levels"):
        policy(tmp_path, privacy={"never_store": ["email"]}).apply(
            CLICK | {"properties": {"x": deep}}, CONTEXT, Counter()
        )
