"""A wall clock that jumps, as NTP may set it."""

from __future__ import annotations

from pathlib import Path

import pytest


class Clock:
    """The wall clock of a process; its monotonic one goes on as it does.

    What libfaketime 0.9.10 can't do: after a jump time.sleep fails, so that the server can't end by itself; and what
    waits for a condition until a wall time, as librdkafka does, doesn't wait while the clock is behind, and waits for
    hours while it is ahead: so it never is; nor is it behind at the start, where librdkafka would now and then wait
    for its own threads without letting them run.
    """

    def __init__(self, folder: Path) -> None:
        libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
        if not libraries:
            pytest.skip("the clock can't be faked: libfaketime is absent (apt install faketime)")
        self._file = folder / "clock"
        self.set(behind=0)
        self.environment = {
            "LD_PRELOAD": str(libraries[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, behind: int) -> None:
        """By how many hours from now on."""
        new = self._file.with_suffix(".new")
        new.write_text(f"-{behind * 3600}s\n")
        new.replace(self._file)  # an empty file would be the true time
