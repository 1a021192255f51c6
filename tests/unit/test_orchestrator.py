"""What the command line tells of an Airflow that can't go on: a DAG file that is broken, a pool without a free slot."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from click.testing import CliRunner

from infra import commands
from infra.airflow.client import Orchestrator
from infra.commands import _progress
from infra.errors import ServiceError
from infra.settings import Settings
from infra.settings.servers import Airflow

RUN = "dags/hourly/dagRuns/r1"
TASKS = f"{RUN}/taskInstances"


class FakeAirflow:
    """Answers what it was given, path below /api/v2 -> answers in their order, the last of them for ever; else 404.

    Of a collection, oldest first, it gives a page, as Airflow does: never more than 100.
    """

    def __init__(self, port: int) -> None:
        self.answers: dict[str, list[Any]] = {"importErrors": [{"import_errors": []}]}
        self.started: list[str] = []
        self.refusal = ""  # with which it answers 400 to who starts a run
        self.settings = Settings(airflow=Airflow(url=f"http://127.0.0.1:{port}"))

    def answer(self, path: str) -> Any:
        asked = urlsplit(path.removeprefix("/api/v2/"))
        left = self.answers.get(asked.path, [None])
        found = left.pop(0) if len(left) > 1 else left[0]
        if not asked.query or found is None:
            return found
        query = dict(parse_qsl(asked.query))
        [(name, rows)] = found.items()
        rows = rows[::-1] if query.get("order_by", "").startswith("-") else rows
        first = int(query["offset"])
        return {name: rows[first : first + min(int(query["limit"]), 100)], "total_entries": len(rows)}


@pytest.fixture
def airflow() -> Iterator[FakeAirflow]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = fake.answer(self.path)
            self.reply(404 if body is None else 200, body)

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if fake.refusal:
                return self.reply(400, {"detail": fake.refusal})
            if not self.path.endswith("/started/dagRuns"):
                return self.do_GET()
            status = 409 if asked["dag_run_id"] in fake.started else 200
            fake.started.append(asked["dag_run_id"])
            if status == 200:
                time.sleep(0.3)  # longer than anyone waits: the answer is lost
            self.reply(status, asked)

        def reply(self, status: int, body: Any) -> None:
            self.send_response(status)
            self.end_headers()
            with contextlib.suppress(BrokenPipeError):
                self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        fake = FakeAirflow(server.server_port)
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield fake
        server.shutdown()


def task(name: str, state: str | None, began: str | None = None) -> dict[str, Any]:
    return {
        "task_id": name,
        "state": state,
        "start_date": began,
        "map_index": -1,
        "pool": f"clickstream_{name}",
        "duration": 1.0,
    }


def test_a_dag_whose_file_is_broken_is_told_at_once_and_by_its_error(airflow: FakeAirflow) -> None:
    trace = "Traceback (most recent call last):\n  File …\nSyntaxError: '(' was never closed\n"
    airflow.answers["importErrors"] = [{"import_errors": [{"filename": "dags/hourly.py", "stack_trace": trace}]}]
    with pytest.raises(ServiceError, match=r"no DAG hourly: dags/hourly.py can't be read: SyntaxError: '\(' was never"):
        Orchestrator(airflow.settings, pause=0.01).trigger("hourly", {}, patience=60)


def test_a_file_that_broke_after_its_dag_was_known_is_told_as_well(airflow: FakeAirflow) -> None:
    airflow.refusal = "Dag with dag_id: 'hourly' has import errors and cannot be triggered"
    broken = [{"filename": f"dags/{name}.py", "stack_trace": "NameError: x"} for name in ("clickstream_a", "theirs")]
    airflow.answers["importErrors"] = [{"import_errors": broken}]
    with pytest.raises(ServiceError, match=r"hourly can't be run: dags/clickstream_a.py can't be read: NameError: x"):
        Orchestrator(airflow.settings, pause=0.01).trigger("hourly", {}, patience=60)
    assert commands._broken_dags(airflow.settings) == {"clickstream_a.py": "NameError: x"}
    airflow.refusal = "cut is not a cut"
    with pytest.raises(ServiceError, match=r"400 .*cut is not a cut"):
        Orchestrator(airflow.settings, pause=0.01).trigger("hourly", {}, patience=60)


def test_nobody_waits_for_a_run_of_a_paused_dag(airflow: FakeAirflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLICKSTREAM_AIRFLOW__URL", airflow.settings.airflow.address)
    airflow.answers["dags/started"] = [{"is_paused": True}]
    ended = CliRunner().invoke(commands.run, ["started", "--wait"])
    assert isinstance(ended.exception, ServiceError) and airflow.started == []
    assert f"is paused, a run would wait for ever: unpause it at {airflow.settings.airflow.address}" in str(
        ended.exception
    )


def test_a_dag_that_nobody_knows_is_an_error_after_a_while(airflow: FakeAirflow) -> None:
    with pytest.raises(ServiceError, match="no DAG houry: http"):
        Orchestrator(airflow.settings, pause=0.01).trigger("houry", {}, patience=0)


def test_a_run_whose_start_was_not_answered_is_started_once(
    airflow: FakeAirflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.airflow.client._TIMEOUT", 0.2)
    run_id = Orchestrator(airflow.settings, pause=0.01).trigger("started", {})
    assert airflow.started == [run_id, run_id]  # asked twice, for the same run


def test_a_task_that_waits_for_a_full_pool_says_so(airflow: FakeAirflow) -> None:
    began = "2026-05-01T12:00:00Z"
    airflow.answers[RUN] = [{"state": "running"}, {"state": "success"}]
    airflow.answers[TASKS] = [
        {"task_instances": [task("curate", "scheduled"), task("cut", "success", began), task("unknown", "scheduled")]},
        {"task_instances": [task("curate", "success", began), task("cut", "success", began)]},
    ]
    airflow.answers["pools/clickstream_curate"] = [{"open_slots": 0, "slots": 1}]
    told: list[dict[str, str]] = []
    ended = Orchestrator(airflow.settings, pause=0.01).follow("hourly", "r1", told.append)
    assert (ended["state"], ended["failed"]) == ("success", {})
    full = "waits for pool clickstream_curate, of whose 1 slots none is free"
    missing = "waits for pool clickstream_unknown, which does not exist"
    assert told[0] == {"cut": "success", "curate": full, "unknown": missing}
    assert _progress(told[0]) == f"1 of 3 tasks: curate {full}, unknown {missing}"
    assert told[1] == {"curate": "success", "cut": "success"}


def test_of_a_run_that_has_ended_it_is_known_who_failed_and_who_never_had_a_slot(airflow: FakeAirflow) -> None:
    began = "2026-05-01T12:00:00Z"
    airflow.answers[TASKS] = [
        {
            "task_instances": [
                task("cut", "success", began),
                task("curate", "skipped"),
                task("features", "skipped"),
                task("quality", None),
                task("sessions", "failed"),  # its file could not be loaded
                task("announced", "upstream_failed"),
            ]
        }
    ]
    airflow.answers["pools/clickstream_curate"] = [{"open_slots": 0, "slots": 1}]
    airflow.answers["pools/clickstream_features"] = [{"open_slots": 1, "slots": 1}]
    airflow.answers["pools/clickstream_quality"] = [{"open_slots": -1, "slots": -1}]  # no limit
    found = Orchestrator(airflow.settings, pause=0.01).troubles("hourly", "r1")
    assert found == {"sessions": "failed", "curate": "waits for pool clickstream_curate, of whose 1 slots none is free"}


def test_a_run_is_found_by_the_batch_for_which_an_asset_woke_it(airflow: FakeAirflow) -> None:
    of = "dags/train/dagRuns"
    runs = [("r1", "asset_triggered"), ("by-hand", "manual"), ("r3", "asset_triggered"), ("r4", "asset_triggered")]
    listed = [{"dag_run_id": run, "run_type": kind} for run, kind in runs]
    airflow.answers[of] = [{"dag_runs": []}, {"dag_runs": [{"dag_run_id": "old", "run_type": "manual"}] * 150 + listed}]
    for run, batch in (("r1", "hour-1"), ("by-hand", "hour-2"), ("r3", "hour-2")):  # the newest has not said it yet
        airflow.answers[f"{of}/{run}/taskInstances/batch/xcomEntries/return_value"] = [{"value": batch}]
    assert Orchestrator(airflow.settings, pause=0.01).woken_for("hour-2", "train", patience=30) == "r3"
    with pytest.raises(ServiceError, match="train was not woken for hour-9 within 0 s: is it paused"):
        Orchestrator(airflow.settings, pause=0.01).woken_for("hour-9", "train", patience=0)


def test_a_run_of_more_tasks_than_a_page_holds_is_followed_to_its_last(airflow: FakeAirflow) -> None:
    began = "2026-05-01T12:00:00Z"
    mapped = [task("curate", "success", began) | {"map_index": number} for number in range(230)]
    airflow.answers[RUN] = [{"state": "success"}]
    airflow.answers[TASKS] = [{"task_instances": mapped}]
    ended = Orchestrator(airflow.settings, pause=0.01).follow("hourly", "r1", lambda states: None)
    assert len(ended["seconds"]) == 230 and "curate[229]" in ended["seconds"]
