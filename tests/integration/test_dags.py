"""Every DAG loads, explains itself, and has the order that the ledger's gates need."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from infra import submit
from infra.settings import Settings

DAGS = Path(__file__).parents[2] / "dags"
AFTER = {
    "landed": set(),
    "curate_events": {"landed"},
    "published": {"curate_events"},
    "build_sessions": {"published"},
    "build_features": {"published"},
    "build_examples": {"build_features"},
    "train_recommender": {"build_features"},
    "evaluate_recommender": {"train_recommender"},
    "train_click_models": {"build_examples"},
    "recommend_items": {"evaluate_recommender", "train_click_models"},
    "export_recommendations": {"build_sessions", "recommend_items"},
}


@pytest.fixture(scope="module")
def dagbag(tmp_path_factory: pytest.TempPathFactory) -> Any:
    os.environ["AIRFLOW_HOME"] = str(tmp_path_factory.mktemp("airflow"))
    os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(dag_folder=str(DAGS))


def test_every_file_of_the_folder_gives_a_dag(dagbag: Any) -> None:
    assert not dagbag.import_errors
    assert set(dagbag.dags) == {file.stem for file in DAGS.glob("clickstream_*.py")} != set()


def test_each_dag_explains_itself(dagbag: Any) -> None:
    for dag in dagbag.dags.values():
        assert dag.doc_md and dag.tags
        assert all(dag.params.get_param(name).description for name in dag.params)


def test_the_batch_runs_in_order_behind_its_gates(dagbag: Any) -> None:
    dag = dagbag.dags["clickstream_batch"]
    assert {task.task_id: task.upstream_task_ids for task in dag.tasks} == AFTER
    assert dag.max_active_runs == 1


def test_each_job_has_a_pool_for_one_writer_of_its_tables(dagbag: Any) -> None:
    jobs = [task for task in dagbag.dags["clickstream_batch"].tasks if task.task_type == "SparkSubmitOperator"]
    assert len(jobs) == 9
    assert {job.pool for job in jobs} == {submit.pool(name) for name in submit.jobs()}
    assert all(job.application_args == ["--batch", "{{ params.cut }}"] for job in jobs)
    assert all(Path(job.application).stem == job.task_id for job in jobs)


def test_each_job_carries_the_tag_by_which_its_retry_finds_it_on_yarn(dagbag: Any) -> None:
    dag = dagbag.dags["clickstream_batch"]
    for job in dag.tasks:
        if job.task_type == "SparkSubmitOperator":
            rendered = dag.get_template_env().from_string(job.conf["spark.yarn.tags"]).render(params={"cut": "b1"})
            assert rendered == submit.yarn_tag(Settings(), job.task_id, "b1")
