"""The main job on real servers: the numbers balance, and every door shows what came of it."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import requests

from infra.services.airflow import password
from infra.services.cluster import Cluster
from infra.settings import Settings
from infra.submit import job_file

COMMAND = Path(sys.executable).with_name("clickstream")
LOG = Path(__file__).parents[2] / "ingest" / "data" / "access.log.gz"


@pytest.fixture(scope="module")
def whole(cluster_settings: Settings) -> Settings:
    """The session's cluster with everything else running beside Kafka and HDFS; the session's end stops it all."""
    run(cluster_settings, "up")
    return cluster_settings


@pytest.fixture(scope="module")
def facts(whole: Settings, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `clickstream demo` says of its run on the bundled log."""
    file = tmp_path_factory.mktemp("demo") / "facts.json"
    run(whole, "demo", "--exit", "--json", str(file))
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def run(settings: Settings, *arguments: str) -> str:
    """A `clickstream` command as a person runs it; what it printed."""
    done = clickstream(settings, *arguments)
    assert done.returncode == 0, f"{arguments}: {done.stderr[-3000:]}"
    return done.stdout


def clickstream(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **settings.to_env()}
    return subprocess.run([COMMAND, *arguments], env=environment, capture_output=True, text=True, check=False)


def test_each_line_of_the_log_has_one_outcome(facts: dict[str, Any]) -> None:
    with gzip.open(LOG, "rb") as log:
        assert facts["lines"] == sum(1 for _ in log) == 10_000
    assert facts["lines"] == facts["accepted"] + facts["rejected"] + facts["filtered"]
    assert facts["rejected"] == 1


def test_no_event_is_lost_or_doubled_on_its_way(facts: dict[str, Any]) -> None:
    assert facts["appended"] >= facts["accepted"] > 1000
    assert facts["landed"] + facts["quarantined"] == facts["appended"]
    assert facts["landed"] == facts["curated"] + facts["duplicates"] + facts["invalid"]
    assert facts["curated"] == facts["accepted"]


def test_something_was_learnt_and_its_figures_come_with_their_n(facts: dict[str, Any]) -> None:
    assert facts["sessions"] >= facts["visitors"] > 100
    assert facts["items"] > 50
    assert facts["recommendations"] > 0
    model = facts["model"]
    assert model["algorithm"] == "als"  # four users are too few to search by
    assert model["promoted"] is True
    for name in ("recall_at_10", "ndcg_at_10", "baseline_recall_at_10", "baseline_ndcg_at_10"):
        assert (model[name] is None) == (model["n_users"] == 0)
        assert model[name] is None or 0 <= model[name] <= 1


def test_the_first_model_is_champion_and_its_gate_is_told(facts: dict[str, Any], whole: Settings) -> None:
    [model] = json.loads(run(whole, "models", "list", "--json"))
    assert (model["aliases"], model["promoted"]) == (["champion"], True)
    shown = json.loads(run(whole, "models", "show", "--json"))
    assert shown["model"] == f"als-{facts['batch']}" and len(shown["gate"]) == 3


def test_airflow_ran_it(facts: dict[str, Any], whole: Settings) -> None:
    assert facts["dag_runs"] == [{"dag_id": "clickstream_batch", "state": "success"}]
    assert {"up", "replay", "curate_events", "train_recommender"} <= set(facts["seconds"])


def test_every_service_is_well_and_the_pages_answer(facts: dict[str, Any], whole: Settings) -> None:
    status = json.loads(run(whole, "status", "--json"))
    assert {service["state"] for service in status["services"].values()} == {"healthy"}
    for page in (f"{status['urls']['collector']}/readyz", f"{status['urls']['webapp']}/health"):
        assert requests.get(page, timeout=10).ok


def test_a_reload_takes_a_new_key_from_the_file_and_nobody_is_refused(facts: dict[str, Any], whole: Settings) -> None:
    def status(key: str) -> int:
        url = f"{whole.collector.address}/collect"
        return requests.post(url, data="", headers={"X-Write-Key": key}, timeout=10).status_code

    assert (status("demo"), status("late")) == (400, 401)  # 400: the key is right, the body is empty
    (whole.home / "clickstream.toml").write_text('[collector.write_keys]\ndemo = "demo"\nlate = "late"\n')
    assert "collector, webapp" in run(whole, "reload")
    deadline = time.monotonic() + 60
    while [status("late") for _ in range(8)] != [400] * 8:
        assert time.monotonic() < deadline
        assert status("demo") == 400
        assert requests.get(f"{whole.webapp.address}/health", timeout=10).ok


def test_the_ledger_balances_in_its_own_command(facts: dict[str, Any], whole: Settings) -> None:
    ledger = json.loads(run(whole, "ledger", "--batch", facts["batch"], "--json"))
    assert ledger["published_balanced"] is True


def test_replaying_the_same_file_adds_no_row(facts: dict[str, Any], whole: Settings) -> None:
    replayed = json.loads(run(whole, "replay", "--json"))
    assert replayed["accepted"] == facts["accepted"]
    cut = json.loads(run(whole, "cut", "--json"))["name"]
    landed_when_complete(whole, cut)
    environment = Cluster(whole).environment()
    submit = [Path(sys.executable).with_name("spark-submit"), job_file("curate_events"), "--batch", cut]
    done = subprocess.run(submit, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    again = json.loads(run(whole, "report", "--batch", cut, "--json"))
    assert (again["curated"], again["duplicates"]) == (0, facts["accepted"])


def test_simulated_shoppers_pass_through_kafka_as_tail_shows(facts: dict[str, Any], whole: Settings) -> None:
    simulated = json.loads(run(whole, "simulate", "--visitors", "5", "--seed", "11", "--json"))
    assert simulated["accepted"] == simulated["lines"] > 50
    shown = run(whole, "tail", "--from-beginning", "--no-follow", "--json").splitlines()
    sources = Counter(json.loads(line)["value"]["source"]["run"] for line in shown)
    assert sources[simulated["run"]] == simulated["accepted"]
    assert sources["access.log.gz"] >= facts["accepted"]


def landed_when_complete(settings: Settings, cut: str) -> None:
    """Waits for the landing gate as the DAG does."""
    deadline = time.monotonic() + 60
    while not json.loads(clickstream(settings, "ledger", "--batch", cut, "--json").stdout)["landed_complete"]:
        assert time.monotonic() < deadline, f"{cut} is not landed after a minute"


def test_the_pages_in_a_real_browser(facts: dict[str, Any], whole: Settings, browser_page: Any) -> None:
    shots = Path(os.environ.get("SCREENSHOTS", Path(__file__).parent / "screenshots"))
    shots.mkdir(exist_ok=True)

    def offsets() -> int:
        from infra.topics import end_offsets

        return sum(end_offsets(whole, whole.kafka.topic).values())

    before = offsets()
    browser_page.goto(facts["urls"]["webapp"])
    browser_page.wait_for_selector("[data-list-id] [data-item-id]")
    browser_page.screenshot(path=shots / "webapp.png", full_page=True)
    browser_page.locator("[data-list-id] a[data-item-id], [data-list-id] [data-item-id] a").first.click()
    browser_page.wait_for_load_state("load")
    browser_page.screenshot(path=shots / "item.png", full_page=True)
    for _ in range(100):
        if offsets() >= before + 3:  # two page views and a click at the least
            break
        browser_page.wait_for_timeout(100)
    assert offsets() >= before + 3

    browser_page.goto(facts["urls"]["namenode"] + "/dfshealth.html#tab-overview")
    browser_page.wait_for_selector("text=Live Nodes")
    browser_page.screenshot(path=shots / "namenode.png")

    browser_page.goto(facts["urls"]["airflow"])
    browser_page.fill("input[name=username]", whole.airflow.username)
    browser_page.fill("input[name=password]", password(whole))
    browser_page.click("button[type=submit]")
    browser_page.wait_for_url(lambda url: "login" not in url)
    browser_page.goto(facts["urls"]["airflow"] + "/dags/clickstream_batch")
    browser_page.wait_for_selector("text=export_recommendations")
    browser_page.screenshot(path=shots / "airflow.png")
