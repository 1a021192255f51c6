"""A live table of states on the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Table


@contextmanager
def live_states(console: Console, kind: str) -> Iterator[dict[str, str]]:
    """A table of states that redraws itself while the block runs."""
    states: dict[str, str] = {}

    def table() -> Table | str:
        if not states:
            return ""
        shown = Table(kind, "state", box=None)
        for name, state in states.items():
            shown.add_row(name, f"[green]{state}" if state in ("healthy", "success") else state)
        return shown

    with Live(get_renderable=table, console=console, refresh_per_second=4):
        yield states
