"""The rules that every native payload passes before it is parsed, in their order. Pure.

    policy = EventPolicy(settings.collector)                     # once, at start
    context = policy.request(context, request.headers)           # once per request
    payload, context = policy.apply(payload, context, counts)    # once per native payload, then native.parse

Depth comes first, as the other rules recurse; privacy comes before the plan, so that neither flags nor rejects reveal
what may not be stored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from werkzeug.datastructures import Headers

from infra.settings.collector import Collector
from ingest.errors import InvalidEvent
from ingest.event.context import Context
from ingest.policy import tracking_plan
from ingest.policy.privacy import Rules
from ingest.policy.rate_limits import check_depth


class EventPolicy:
    """All rules, compiled. Raises ConfigurationError or DependencyError for a tracking plan that can't be used."""

    def __init__(self, settings: Collector) -> None:
        self.privacy = Rules(settings.privacy)
        self._plan = tracking_plan.load(settings.tracking_plan)
        self._max_depth = settings.max_depth

    def request(self, context: Context, headers: Mapping[str, str] | Headers) -> Context:
        """The context with the wishes in the request's headers; see privacy.Rules.request."""
        return self.privacy.request(context, headers)

    def apply(
        self, payload: Mapping[str, Any], context: Context, counts: Counter[str]
    ) -> tuple[Mapping[str, Any], Context]:
        """The native payload as it may be stored, and the context with its flags.

        Raises Dropped if nothing may be stored, InvalidEvent or Quarantined by depth or plan.
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
