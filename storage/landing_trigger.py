"""The landing gate as a trigger of Airflow's: while it is closed, a task waits in the triggerer and holds no slot.

Imported by Airflow alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

_LEAST_SECONDS = 30.0  # that HDFS has to answer, late as it may be


class LandingTrigger(BaseTrigger):
    """Fires when each offset of the batch is accounted for, with {"closed": ""}, or at the `deadline` (seconds since
    1970, so that a restart of the triggerer does not put it off) with what is missing.

    HDFS that does not answer is waited for as well. The task's log says what is missing whenever that changes.
    """

    def __init__(self, batch: str, deadline: float, poll_seconds: float = 2.0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.batch, self.deadline, self.poll_seconds = batch, deadline, poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class and the arguments of its constructor."""
        arguments = {"batch": self.batch, "deadline": self.deadline, "poll_seconds": self.poll_seconds}
        return f"{type(self).__module__}.{type(self).__name__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Asks the ledger again and again."""
        told = None
        while True:
            closed = await self._asked()
            if not closed or time.time() >= self.deadline:
                yield TriggerEvent({"closed": closed})  # type: ignore[no-untyped-call]
                return
            if closed != told:
                self.log.info("batch %s has not landed: %s", self.batch, closed)
                told = closed
            await asyncio.sleep(self.poll_seconds)

    async def _asked(self) -> str:
        """Why the gate is closed. A NameNode that hangs, and the thread that asks it, are given up at the deadline."""
        seconds = max(self.deadline - time.time(), _LEAST_SECONDS)
        try:
            return await asyncio.wait_for(asyncio.to_thread(self._closed), seconds)
        except TimeoutError:
            return f"HDFS (CLICKSTREAM_HDFS__URL) has not answered for {seconds:.0f} s"

    def _closed(self) -> str:
        """Why the gate is closed; empty when it is open."""
        from infra.settings import Settings
        from storage.errors import StorageError
        from storage.gates import Gates

        try:
            missing = Gates(Settings.from_env()).landing(self.batch).missing
        except StorageError as error:
            return str(error)
        return f"partition -> missing offsets {missing}" if missing else ""
