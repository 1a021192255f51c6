"""Rolls back to the previous champion, beside whatever else is running."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import Param, chain, dag, task
from stages import DEFAULTS, command, notify, verified

DOC = """
### Who recommended before

**rolled_back** makes the champion's predecessor, or the version `to`, champion again, and publishes its lists
(`clickstream models rollback`); if it has none it changes nothing and fails. **verified** asks the web app which
version it serves. A training that is running is not waited for: lists of a model that is no longer champion are kept,
but not shown.
"""


@dag(
    schedule=None,
    start_date=datetime(2015, 1, 1),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(minutes=30),
    on_failure_callback=notify,
    default_args=DEFAULTS | {"priority_weight": 1000},  # before everything else that waits for room
    tags=["clickstream", "models"],
    doc_md=DOC,
    params={
        "to": Param(
            None,
            type=["null", "string"],
            pattern=r"^[A-Za-z0-9._-]*$",
            description="A version that the gate has let pass, as `clickstream models list` names it",
        ),
    },
)
def clickstream_rollback() -> None:
    """Rollback to the predecessor, or to a version by its name, with its lists."""

    @task(retries=0)
    def rolled_back(params: dict[str, Any]) -> None:
        """`clickstream models rollback`; not retried, since a second one would go back further."""
        command("models", "rollback", *(["--to", params["to"]] if params["to"] else []))

    chain(rolled_back(), verified())


clickstream_rollback()
