"""What can go wrong in the web app.

ExportError             an export that can't be served: a missing table or column, a null key
"""

from __future__ import annotations

from infra.errors import ClickstreamError


class ExportError(ClickstreamError):
    """Export `version` is unusable for `reason`; the one before it stays in service."""

    def __init__(self, version: str, reason: str) -> None:
        self.version, self.reason = version, reason
        super().__init__(f"export {version}: {reason}")
