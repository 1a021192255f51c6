"""Iglu's self-describing JSON, {schema, data}, as Snowplow's trackers attach it to an event's parameters. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from ingest.errors import InvalidEvent
from ingest.protocols import values


def contexts(params: Mapping[str, str]) -> list[dict[str, Any]]:
    """The attached self-describing JSONs, copied: {schema, data}."""
    found = document(params, "cx", "co")
    if found is None:
        return []
    field = "cx" if "cx" in params else "co"
    listed = values.mapping(found, field).get("data")
    if not isinstance(listed, list):
        raise InvalidEvent(f"{field}.data", "is no array")
    attached = [dict(values.mapping(one or None, f"{field}.data.{index}")) for index, one in enumerate(listed)]
    return [{"schema": one.get("schema"), "data": one.get("data")} for one in attached]


def document(params: Mapping[str, str], encoded: str, plain: str) -> object:
    """The JSON of a parameter that comes in base64url or plain; None when there is neither."""
    field, text = (encoded, params[encoded]) if encoded in params else (plain, params.get(plain))
    if text is None:
        return None
    try:
        if field == encoded:
            text = base64.urlsafe_b64decode(text.replace("+", "-").replace("/", "_") + "=" * (-len(text) % 4)).decode()
        return values.parse_json(text)
    except (ValueError, binascii.Error):
        raise InvalidEvent(field, "is no JSON" if field == plain else "is no JSON in base64url") from None


def schema_name(described: Mapping[str, Any]) -> tuple[str, str]:
    """Vendor and name of iglu:vendor/name/jsonschema/1-0-0; empty when it is no such URI."""
    schema = described.get("schema")
    parts = schema.removeprefix("iglu:").split("/") if isinstance(schema, str) else []
    return (parts[0], parts[1]) if len(parts) == 4 and parts[1] else ("", "")
