"""The landing gate as an Airflow trigger: a task waits for it in the triggerer, without a worker slot.

Imported by Airflow only.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

_LEAST_SECONDS = 30.0  # for HDFS to answer, even if the deadline is nearer


class LandingTrigger(BaseTrigger):
    """Fires with {"closed": ""} once each offset of the batch is accounted for, or at the deadline with the reason.

    `deadline` in seconds since 1970, so that a restart of the triggerer does not extend it. An HDFS that does not
    answer is waited for, too. What is missing is logged whenever it changes.
    """

    def __init__(self, batch: str, deadline: float, poll_seconds: float = 2.0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.batch, self.deadline, self.poll_seconds = batch, deadline, poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class's path, and the arguments of its constructor."""
        arguments = {"batch": self.batch, "deadline": self.deadline, "poll_seconds": self.poll_seconds}
        return f"{type(self).__module__}.{type(self).__name__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Polls the ledger."""
        told = None
        while True:
            closed = await self._closed_in_time()
            if not closed or time.time() >= self.deadline:
                yield TriggerEvent({"closed": closed})  # type: ignore[no-untyped-call]
                return
            if closed != told:
                self.log.info("batch %s has not landed: %s", self.batch, closed)
                told = closed
            await asyncio.sleep(self.poll_seconds)

    async def _closed_in_time(self) -> str:
        """`_closed`, without waiting beyond the deadline for a NameNode that hangs."""
        seconds = max(self.deadline - time.time(), _LEAST_SECONDS)
        try:
            return await asyncio.wait_for(asyncio.to_thread(self._closed), seconds)
        except TimeoutError:
            return f"HDFS (CLICKSTREAM_HDFS__URL) has not answered for {seconds:.0f} s"

    def _closed(self) -> str:
        """Reason why the gate is closed; empty if it is open."""
        from infra.settings import Settings
        from storage.batches.gates import Gates
        from storage.errors import StorageError

        try:
            missing = Gates(Settings.from_env()).current_ledger(self.batch).missing
        except StorageError as error:
            return str(error)
        return f"partition -> missing offsets {missing}" if missing else ""
