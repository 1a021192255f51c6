"""Fakes at the I/O boundary, shared by all tests. Each behaves as the real thing does where a test looks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class FakeExports:
    """The web app's ExportReader over exports in memory; `failure`, when set, is what every call raises."""

    def __init__(self, exports: Mapping[str, Any] | None = None, current: str | None = None) -> None:
        self.exports: dict[str, Any] = dict(exports or {})
        self.current = current
        self.failure: Exception | None = None
        self.loads: list[str] = []

    def current_version(self) -> str | None:
        self._fail()
        return self.current

    def load(self, version: str) -> Any:
        self._fail()
        self.loads.append(version)
        return self.exports[version]

    def publish(self, version: str, export: Any) -> None:
        self.exports[version] = export
        self.current = version

    def _fail(self) -> None:
        if self.failure:
            raise self.failure
