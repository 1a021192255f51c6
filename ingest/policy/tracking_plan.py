"""A tracking plan: JSON Schemas by event name, and what happens to events that don't follow them.

    plan = tracking_plan.load(settings.collector.tracking_plan)    # once; None if no folder is set
    flags = plan.check(payload)                                    # once per native payload; raises InvalidEvent

<folder>/<name>.json describes the properties of events with that event_name, else that event_type. The event's own
fields about items and money (item_id, value …) are checked with them, so that a plan can require them. A property that
the schema doesn't name is unknown, unless its `additionalProperties` allow it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from infra.errors import ConfigurationError, DependencyError
from infra.settings.collector import TrackingPlan, Verdict
from ingest.errors import InvalidEvent, Quarantined
from ingest.event.fields import KINDS, said
from ingest.policy.privacy import PAYLOAD_FIELDS

if TYPE_CHECKING:
    from jsonschema_rs import Validator

UNKNOWN_EVENT, UNKNOWN_PROPERTY, INVALID = "unplanned_event", "unplanned_property", "against_plan"  # flags of events
_NOT_SEEN = ("event_type", "event_name", "anonymous_id", "user_id", "propensity", "model_version")
# The event's own fields that a plan can require: single values that the client sends.
SEEN = tuple(name for name in said() if KINDS.get(name) not in (None, "map", "array") and name not in _NOT_SEEN)

_SEVERITY: dict[Verdict, int] = {"allow": 0, "warn": 1, "quarantine": 2, "reject": 3}
_MAX_FIELD = 256


@dataclass(frozen=True, slots=True)
class Problem:
    """A violation of the plan; `field` and `reason` never hold a value that was sent."""

    flag: str
    verdict: Verdict
    field: str
    reason: str


@dataclass(frozen=True, slots=True)
class _Schema:
    validator: Validator
    names: Set[str]
    is_open: bool  # to properties that it doesn't name


class Plan:
    """The schemas of all planned events."""

    def __init__(self, schemas: Mapping[str, _Schema], verdicts: TrackingPlan) -> None:
        self._schemas, self._verdicts = schemas, verdicts

    def check(self, payload: Mapping[str, Any]) -> tuple[str, ...]:
        """The flags of a native payload. Raises InvalidEvent to reject it, Quarantined to quarantine it.

        Of several violations the gravest decides.
        """
        problems = list(self._problems(payload))
        if not problems:
            return ()
        worst = max(problems, key=lambda problem: _SEVERITY[problem.verdict])
        if worst.verdict == "reject":
            raise InvalidEvent(worst.field, worst.reason)
        if worst.verdict == "quarantine":
            raise Quarantined(worst.field, worst.reason)
        return tuple(dict.fromkeys(problem.flag for problem in problems if problem.verdict == "warn"))

    def _problems(self, payload: Mapping[str, Any]) -> Iterator[Problem]:
        name = payload.get("event_name") or payload.get("event_type")
        properties = payload.get("properties") or {}
        if not isinstance(name, str) or not isinstance(properties, Mapping):
            return  # the contract refuses it anyway
        if further := payload.keys() - PAYLOAD_FIELDS:  # which become properties as well
            properties = {**{one: payload[one] for one in further}, **properties}
        schema = self._schemas.get(name)
        if schema is None:
            field = "event_name" if payload.get("event_name") else "event_type"
            yield Problem(UNKNOWN_EVENT, self._verdicts.unknown_event, field, "is not in the tracking plan")
            return
        unknown = next((one for one in properties if one not in schema.names), None)
        if unknown is not None and not schema.is_open:
            field = f"properties.{unknown}"[:_MAX_FIELD]
            yield Problem(UNKNOWN_PROPERTY, self._verdicts.unknown_property, field, "is not in the tracking plan")
        broken = _first_error(schema.validator, properties, payload)
        if broken is not None:
            yield Problem(INVALID, self._verdicts.invalid, *broken)


def load(settings: TrackingPlan) -> Plan | None:
    """The plan in the settings' folder; None if no folder is set.

    Raises ConfigurationError with a line for each invalid file, DependencyError if the validator isn't installed.
    """
    if not settings.folder:
        return None
    try:
        import jsonschema_rs  # noqa: F401
    except ImportError as error:
        raise DependencyError("a tracking plan needs jsonschema-rs: pip install 'clickstream[plan]'") from error
    folder = Path(settings.folder).expanduser()
    files = sorted(folder.glob("*.json"))
    problems: list[str] = []
    schemas: dict[str, _Schema] = {}
    for file in files:
        try:
            schemas[unquote(file.stem)] = _read(file)
        except (OSError, ValueError, RecursionError) as error:
            problems.append(f"{file}: {_first_line(error)}")
    if not files:
        problems = [f"CLICKSTREAM_COLLECTOR__TRACKING_PLAN__FOLDER: there is no .json file in {folder}"]
    if problems:
        raise ConfigurationError(problems)
    return Plan(schemas, settings)


def _read(file: Path) -> _Schema:
    """The compiled schema, without references to other files. Raises ValueError, OSError."""
    import jsonschema_rs

    schema = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(schema, dict):
        raise ValueError("is no JSON object")
    names = schema.get("properties")
    if not isinstance(names, dict):
        raise ValueError('has no "properties"')
    more = schema.get("additionalProperties", False)
    # Closed schemas would refuse the contract's fields beside the properties; `unknown_property` says it instead.
    checked = {key: value for key, value in schema.items() if key != "additionalProperties" or more is not False}
    is_open = more is not False or bool(schema.get("patternProperties"))
    validator = jsonschema_rs.validator_for(checked, offline=True, validate_formats=True)
    return _Schema(validator, names.keys(), is_open)


def _first_error(
    validator: Validator, properties: Mapping[str, Any], payload: Mapping[str, Any]
) -> tuple[str, str] | None:
    """Field and reason of the schema's first error; None if there is none."""
    instance = {name: value for name in SEEN if (value := payload.get(name)) is not None} | dict(properties)
    try:
        if validator.is_valid(instance):
            return None
        error = next(iter(validator.iter_errors(instance)))
    except ValueError:  # half a surrogate pair, or nesting without end
        return "properties", "hold what the tracking plan can't check"
    path = [str(part) for part in error.instance_path]
    keyword = str(error.kind.name)
    if keyword == "required":
        path.append(str(error.kind.property))  # type: ignore[attr-defined]
    field = path[0] if path and path[0] in SEEN and path[0] not in properties else ".".join(("properties", *path))
    reason = "is missing, by the tracking plan" if keyword == "required" else f"breaks the tracking plan's {keyword}"
    return field[:_MAX_FIELD], reason


def _first_line(error: Exception) -> str:
    return str(getattr(error, "message", error)).splitlines()[0]
