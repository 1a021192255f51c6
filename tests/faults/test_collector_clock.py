"""A collector whose wall clock jumps, as NTP may set it: nothing is refused for it, and nothing lost."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from infra.services.cluster import Cluster
from infra.settings import Settings
from ingest.tools.tail import tail
from tests.support.clock import Clock
from tests.support.ports import free_ports
from tests.support.served import Account, balanced, collector, health, load
from tests.support.waiting import eventually


@pytest.mark.cluster
def test_a_clock_that_jumps_refuses_and_loses_nothing(tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    base = Settings(home=tmp_path / "home", **free_ports())
    cluster = Cluster(base, only=["kafka"])
    # The spool's age is what a jump could make too large.
    settings = base.model_copy(update={"collector": base.collector.model_copy(update={"spool_max_age_seconds": 1800})})
    account = Account()

    def more() -> None:
        before = len(account.accepted)
        eventually(lambda: len(account.accepted) > before + 500)

    began = time.time()
    try:
        cluster.up()
        with collector(settings, tmp_path / "collector.log", clock.environment, signal.SIGKILL):
            with load(settings, account):
                more()
                for behind in (2, 3, 1):
                    clock.set(behind)
                    more()
                cluster.supervisor.stop("kafka")
                eventually(lambda: health(settings)["spooled"] > 100)
                for behind in (2, 3, 0):
                    clock.set(behind)
                    more()
                cluster.up()
                eventually(lambda: health(settings)["kafka"] == "up")
                more()
            balanced(settings, account)
        assert (account.refused, account.cut) == (set(), set())
        hours_told = {round((received - began) / 3600) for received in received_at(settings)}
        assert hours_told == {-3, -2, -1, 0}, "the clock has jumped"
    finally:
        cluster.down()


def received_at(settings: Settings) -> list[float]:
    """When the collector says that it received what is in Kafka, in seconds since 1970."""
    records = tail(settings, settings.kafka.topic, from_beginning=True, follow=False)
    return [record.value["received_at"] / 1000 for record in records]
