"""The rules that every event passes between its protocol and the contract, in their order. Pure.

    gate = Gate(settings.collector)                              # once, at start
    context = gate.request(context, request.headers)             # once a request
    payload, context = gate.pass_(payload, context, counts)      # each native payload, then native.parse

Depth first, as the others walk through the payload; privacy before the plan, so that neither flags nor refused records
tell of what may not be kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from werkzeug.datastructures import Headers

from infra.sections import Collector
from ingest import tracking_plan
from ingest.errors import InvalidEvent
from ingest.limits import check_depth
from ingest.privacy import Rules
from ingest.protocols import Context


class Gate:
    """All rules, compiled. Raises ConfigurationError or DependencyError for a tracking plan that can't be used."""

    def __init__(self, settings: Collector) -> None:
        self.privacy = Rules(settings.privacy)
        self._plan = tracking_plan.load(settings.tracking_plan)
        self._max_depth = settings.max_depth

    def request(self, context: Context, headers: Mapping[str, str] | Headers) -> Context:
        """The context with what the request's headers wish; see privacy.Rules.request."""
        return self.privacy.request(context, headers)

    def pass_(
        self, payload: Mapping[str, Any], context: Context, counts: Counter[str]
    ) -> tuple[Mapping[str, Any], Context]:
        """The native payload as it may be stored, and the context whose flags go with it.

        Raises Dropped where nothing may be kept, InvalidEvent (Quarantined) by depth or plan.
        """
        check_depth(payload, self._max_depth)
        payload, context = self.privacy.apply(payload, context, counts)
        if self._plan is not None:
            try:
                flags = self._plan.check(payload)
            except InvalidEvent:
                counts["against_plan"] += 1
                raise
            if flags:
                context = replace(context, flags=(*context.flags, *flags))
        return payload, context
