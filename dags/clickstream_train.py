"""From a batch's features to the recommendations that the web app shows, or to a refusal that is shown."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import chain, dag, task
from stages import CUT, DEFAULTS, FEATURES, command, final, gates, notify, spark_job, verified

DOC = """
### Who is champion

Runs whenever features were published; `cut` names another batch, by default it is the newest that was announced.

1. **build_examples** and **train_click_models** learn what orders candidates; **train_recommender** searches the best
   recipe and **evaluate_recommender** measures it beside the champion and popularity, and asks the gate.
2. **compared** shows the gate's answer. A challenger that does not beat the champion stays unpublished, and the run
   succeeds all the same: the lists are then made by the champion's recipe on the new data.
3. **recommend_items**, **export_recommendations**: one atomic swap; **verified** asks the running web app.
"""


@dag(
    schedule=[FEATURES],
    start_date=datetime(2015, 1, 1),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=6),
    on_failure_callback=notify,
    default_args=DEFAULTS,
    tags=["clickstream", "models"],
    doc_md=DOC,
    params={"cut": CUT},
)
def clickstream_train() -> None:
    """Examples, search, evaluation, gate, registry, recommendations, export, verification."""

    @task
    def batch(params: dict[str, Any], triggering_asset_events: Any = None) -> str:
        """The name of the batch: the parameter's, the newest announced, else the newest that is curated."""
        events = [event for of_asset in (triggering_asset_events or {}).values() for event in of_asset]
        events.sort(key=lambda event: event.timestamp)
        announced = [name for event in events if (name := event.extra.get("batch"))]  # a person's event has none
        with final():
            return params["cut"] or (announced[-1] if announced else gates().newest_curated())

    @task
    def compared(batch: str) -> None:
        """Shows why the gate decided as it did, and who is in force."""
        command("models", "decision", "--batch", batch)
        command("models", "list")

    name = batch()
    examples, train = spark_job("build_examples", name), spark_job("train_recommender", name)
    evaluate, recommend = spark_job("evaluate_recommender", name), spark_job("recommend_items", name)
    chain(train, evaluate, [recommend, compared(name)])
    chain(examples, spark_job("train_click_models", name), recommend)
    chain(recommend, spark_job("export_recommendations", name), verified())


clickstream_train()
