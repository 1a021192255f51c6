"""Back to who recommended before, beside whatever else is running."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import Param, chain, dag, task
from stages import DEFAULTS, command, notify, verified

DOC = """
### Who recommended before

**rolled_back** makes the champion's predecessor champion again, or the version that `to` names, and shows its own
lists (`clickstream models rollback`), or changes nothing and fails where it has none; **verified** asks the running web
app. A training under way is not waited for: lists that it makes for a model which is no longer champion are kept, but
not shown.
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
    """The predecessor, or a version by its name, and its lists."""

    @task(retries=0)
    def rolled_back(params: dict[str, Any]) -> None:
        """`clickstream models rollback`. A second one would go further back: it is not retried."""
        command("models", "rollback", *(["--to", params["to"]] if params["to"] else []))

    chain(rolled_back(), verified())


clickstream_rollback()
