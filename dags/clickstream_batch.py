"""One batch, from its cut to the recommendations that the web app shows.

Waits until the ledger's landing gate says that every offset of the batch is accounted for, then runs the Spark jobs,
asserts the publish gate after curating, and exports what was learnt. Jobs that don't need each other run side by side.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import Param, chain, dag, task

from infra.submit import job_file, pool, yarn_tag

DOC = """
### One batch of clicks

Give `cut` the name of a cut (`clickstream cut` takes one and prints it). The run

1. **landed**: waits until every offset up to the cut is in HDFS, quarantined, or explained (`clickstream ledger`);
2. **curate_events**: deduplicates and validates; **published** asserts landed = curated + duplicates + invalid;
3. **build_sessions**, **build_features**, **build_examples**: as of the data's own time;
4. **train_recommender** finds the best recipe, **evaluate_recommender** asks the gate whether it becomes champion,
   **train_click_models** does both for what orders the candidates, **recommend_items** makes the lists of whoever is in
   force;
5. **export_recommendations**: one atomic swap for the web app.

Every task can be cleared and run again: the same cut gives the same rows.
"""


def spark_job(name: str) -> SparkSubmitOperator:
    """A job of processing/jobs."""
    return SparkSubmitOperator(
        task_id=name,
        name=name,
        application=job_file(name),
        application_args=["--batch", "{{ params.cut }}"],
        conn_id="clickstream_spark",
        conf={"spark.yarn.tags": f"{{{{ yarn_tag('{name}', params.cut) }}}}"},
        pool=pool(name),
    )


def tag(job: str, cut: str) -> str:
    """By this a retry of a job finds what its predecessor left on YARN."""
    from infra.settings import Settings

    return yarn_tag(Settings.from_env(), job, cut)


@dag(
    schedule=None,
    start_date=datetime(2015, 1, 1),
    catchup=False,
    max_active_runs=1,
    tags=["clickstream"],
    doc_md=DOC,
    user_defined_macros={"yarn_tag": tag},
    default_args={"owner": "clickstream", "retries": 2, "retry_delay": timedelta(seconds=10)},
    params={
        "cut": Param(type="string", pattern=r"^[A-Za-z0-9._-]+$", description="Name of the cut that ends the batch")
    },
)
def clickstream_batch() -> None:
    """Landing gate, curation, sessions, features, training, recommendations, export."""

    @task.sensor(poke_interval=2, timeout=1800, mode="reschedule", retries=0)
    def landed(cut: str) -> bool:
        """Whether each offset of the batch is landed, quarantined, or explained; says what is missing."""
        from infra.settings import Settings
        from storage import batches, ledger
        from storage.hdfs import Hdfs
        from storage.layout import Layout

        settings = Settings.from_env()
        fs, layout = Hdfs(settings), Layout(settings.hdfs.root, settings.kafka.topic)
        found = ledger.landing(fs, layout, batches.get(fs, layout, cut))
        if not found.landed_complete:
            print(f"not landed yet: partition -> missing offsets {found.missing}")
        ledger.record_landing(fs, layout, found)  # final: nobody counts it again
        return found.landed_complete

    @task(retries=0)
    def published(cut: str) -> None:
        """Asserts landed = curated + duplicates + invalid, each counted on its own."""
        from infra.settings import Settings
        from storage import batches, ledger
        from storage.hdfs import Hdfs
        from storage.layout import Layout

        settings = Settings.from_env()
        fs, layout = Hdfs(settings), Layout(settings.hdfs.root, settings.kafka.topic)
        found = ledger.read(fs, layout, batches.get(fs, layout, cut))
        if not found.published_balanced:
            raise ValueError(f"the publish gate of {cut} does not balance: {found}")

    ready = published("{{ params.cut }}")
    trained, examples = spark_job("train_recommender"), spark_job("build_examples")
    recommend, export = spark_job("recommend_items"), spark_job("export_recommendations")
    chain(landed("{{ params.cut }}"), spark_job("curate_events"), ready)
    chain(ready, spark_job("build_features"), [trained, examples])
    chain(trained, spark_job("evaluate_recommender"), recommend, export)
    chain(examples, spark_job("train_click_models"), recommend)
    chain(ready, spark_job("build_sessions"), export)


clickstream_batch()
