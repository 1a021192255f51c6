"""The main job on real servers: the numbers balance, and every door shows what came of it."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from playwright.sync_api import expect

from infra.airflow.client import Orchestrator
from infra.airflow.secrets import password
from infra.services.cluster import Cluster
from infra.settings import Settings
from infra.spark.submit import job_file
from processing.runtime.registry import Registry
from storage import exports
from storage.hdfs import Hdfs
from tests.support.waiting import eventually

DAGS = Path(__file__).parents[2] / "dags"
COMMAND = Path(sys.executable).with_name("clickstream")
LOG = Path(__file__).parents[2] / "ingest" / "data" / "access.log.gz"


@pytest.fixture(scope="module")
def whole(cluster_settings: Settings) -> Iterator[Settings]:
    """The session's cluster with everything else running beside Kafka and HDFS, which alone go on after the module."""
    supervisor = Cluster(cluster_settings).supervisor
    kept = supervisor.states().keys()
    run(cluster_settings, "up")
    yield cluster_settings
    for service in supervisor.states().keys() - kept:
        supervisor.stop(service)


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
    assert shown["model"] == f"als-{facts['batch']}"
    assert [check["name"] for check in shown["gate"]] == ["better", "rollback", "smoke", "drift"]


def test_airflow_ran_it(facts: dict[str, Any], whole: Settings) -> None:
    dags = ("clickstream_hourly", "clickstream_train")
    assert facts["dag_runs"] == [{"dag_id": dag, "state": "success"} for dag in dags]
    assert [run["run_type"] for run in Orchestrator(whole).runs("clickstream_train")] == ["asset_triggered"]
    assert {"up", "replay", "curate_events", "train_recommender"} <= set(facts["seconds"])


def test_every_service_is_well_and_the_pages_answer(facts: dict[str, Any], whole: Settings) -> None:
    status = json.loads(run(whole, "status", "--json"))
    assert {service["state"] for service in status["services"].values()} == {"healthy"}
    assert status["broken_dags"] == {}
    for page in (f"{status['urls']['collector']}/readyz", f"{status['urls']['webapp']}/health"):
        assert requests.get(page, timeout=10).ok


def test_prometheus_is_told_where_each_part_shows_its_numbers(facts: dict[str, Any], whole: Settings) -> None:
    config = yaml.safe_load((whole.home / "conf" / "prometheus" / "prometheus.yml").read_text())
    found = {}
    for job in config["scrape_configs"]:
        for target in job["static_configs"][0]["targets"]:
            answer = requests.get(f"{job.get('scheme', 'http')}://{target}/metrics", timeout=10)
            found[job["job_name"]] = answer.text.count(f"clickstream_{job['job_name']}_")
    assert found.keys() == {"collector", "sink", "webapp"} and all(found.values())


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
    assert done.returncode == 0, done.stdout[-3000:]  # where spark-submit puts all that a job's Python says
    again = json.loads(run(whole, "report", "--batch", cut, "--json"))
    assert (again["curated"], again["invalid"]) == (0, 0), again
    assert again["duplicates"] == again["landed"] >= facts["accepted"], again  # more: a request that was repeated


def test_simulated_shoppers_pass_through_kafka_as_tail_shows(facts: dict[str, Any], whole: Settings) -> None:
    simulated = json.loads(run(whole, "simulate", "--visitors", "5", "--seed", "11", "--json"))
    assert simulated["accepted"] == simulated["lines"] > 50
    shown = run(whole, "tail", "--from-beginning", "--no-follow", "--json").splitlines()
    sources = Counter(json.loads(line)["value"]["source"]["run"] for line in shown)
    assert sources[simulated["run"]] == simulated["accepted"]
    assert sources["access.log.gz"] >= facts["accepted"]


def test_what_was_shown_before_comes_back_within_a_minute(facts: dict[str, Any], whole: Settings) -> None:
    another_champion(whole, "als-other")
    shows(whole, "als-other")
    began = time.monotonic()
    ran = json.loads(run(whole, "run", "clickstream_rollback", "--wait", "--json"))
    took = time.monotonic() - began
    assert (ran["state"], ran["failed"]) == ("success", {})
    shown = requests.get(f"{whole.webapp.address}/health", timeout=10).json()
    assert shown["version"] == f"als-{facts['batch']}"
    print(f"\nrolled back in {took:.0f} s")


def another_champion(settings: Settings, name: str) -> None:
    """The champion under another name, its lists too, promoted in its place."""
    registry, fs, root = Registry(settings), Hdfs(settings), settings.hdfs.root
    champion = registry.champion()
    assert champion is not None
    made = registry.register(registry.run(name, {"batch": name}), name, champion.batch, champion.source, champion.facts)
    copy = exports.unfinished(root)
    for table in ("for_visitors", "similar", "popular", "items"):
        for file in fs.list(exports.table(root, champion.name, table)):
            fs.create(f"{copy}/{table}/{file.name}", [fs.read(file.path)], create_parents=True)
    report = json.loads(fs.read(exports.report(root, champion.name)))
    assert exports.name_version(fs, root, copy, report | {"model_version": name}) == made.name == name
    run(settings, "models", "promote", name, "--despite", "to have something to go back from")


def shows(settings: Settings, version: str) -> None:
    """Waits until the web app does."""
    health = f"{settings.webapp.address}/health"
    eventually(lambda: requests.get(health, timeout=10).json()["version"] == version, 30)


def test_an_unknown_dag_and_a_wrong_parameter_are_named(facts: dict[str, Any], whole: Settings) -> None:
    unknown = clickstream(whole, "run", "clickstream_monthly")
    assert (unknown.returncode, "clickstream_monthly" in unknown.stderr) == (2, True)
    wrong = clickstream(whole, "run", "clickstream_hourly", "--conf", "cut=a/b")
    assert (wrong.returncode, "cut" in wrong.stderr) == (2, True)


def landed_when_complete(settings: Settings, cut: str) -> None:
    """Waits for the landing gate as the DAG does."""
    eventually(
        lambda: json.loads(clickstream(settings, "ledger", "--batch", cut, "--json").stdout)["landed_complete"], 180
    )


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
    for dag in ("clickstream_hourly", "clickstream_train"):
        for view in ("grid", "graph"):
            browser_page.evaluate("view => localStorage.setItem('default_dag_view', JSON.stringify(view))", view)
            browser_page.goto(f"{facts['urls']['airflow']}/dags/{dag}")
            browser_page.wait_for_selector("text=build_features" if dag.endswith("hourly") else "text=verified")
            browser_page.screenshot(path=shots / f"{dag}-{view}.png")
    for dag in sorted(file.stem for file in DAGS.glob("clickstream_*.py")):
        browser_page.goto(f"{facts['urls']['airflow']}/dags/{dag}")
        browser_page.get_by_role("button", name="Trigger Dag", exact=True).click()
        begin = browser_page.get_by_role("dialog").get_by_role("button", name="Trigger", exact=True)
        expect(begin).to_be_enabled()  # nothing has to be filled in
        browser_page.screenshot(path=shots / f"{dag}-form.png")
