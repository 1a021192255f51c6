"""Trains on a batch's features, and publishes the recommendations that the web app shows."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import chain, dag, task
from stages import CUT, DEFAULTS, FEATURES, command, final, gates, notify, spark_job, verified

DOC = """
### Who is champion

Runs whenever features were announced, on the newest batch announced; `cut` names another batch.

1. **train_recommender** searches the best recipe; **evaluate_recommender** measures it beside the champion and
   popularity, and decides its promotion. A challenger that does not beat the champion is not published, and the run
   still succeeds: the lists are then made by the champion's recipe on the new data.
2. **build_examples** makes training examples of impressions. From them and from candidates **train_ranker** learns in
   which order the lists are best shown, and evaluates the lists that visitors see; **train_click_models** learns the
   chance of a click. **compared** prints the decisions.
3. **recommend_items** and **export_recommendations** publish the lists in one atomic step; **verified** asks the web
   app which version it serves.
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
    """Examples, search, evaluation, gates, registry, order, recommendations, export, verification."""

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
        """Prints the promotion gate's decisions with their reasons, and the champion."""
        command("models", "decision", "--batch", batch)
        command("models", "decision", "--batch", batch, "--model", "ranker")
        command("models", "list")

    name = batch()
    examples, train = spark_job("build_examples", name), spark_job("train_recommender", name)
    rank, recommend = spark_job("train_ranker", name), spark_job("recommend_items", name)
    chain(train, spark_job("evaluate_recommender", name), rank, [recommend, compared(name)])
    chain(examples, [rank, spark_job("train_click_models", name)])
    chain(recommend, spark_job("export_recommendations", name), verified())


clickstream_train()
