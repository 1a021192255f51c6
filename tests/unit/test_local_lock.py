"""A retry ends its predecessor, another batch waits for it: real processes, told by pid and start time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from processing.runtime.local_lock import hold
from tests.support.waiting import eventually

HOLD = """
import signal, sys, time
from pathlib import Path
from processing.runtime.local_lock import hold
if sys.argv[2] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
with hold(Path(sys.argv[1]), "job", "b1"):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def predecessor(home: Path, manner: str = "obedient") -> Iterator[subprocess.Popen[str]]:
    """A process that holds the job, and would for a minute."""
    command = [sys.executable, "-c", HOLD, str(home), manner]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def record(home: Path) -> Path:
    return home / "run" / "jobs" / "job-b1.json"


def test_a_live_predecessor_is_ended_first(tmp_path: Path) -> None:
    with predecessor(tmp_path) as process:
        assert json.loads(record(tmp_path).read_text())["processes"][0]["pid"] == process.pid
        with hold(tmp_path, "job", "b1"):
            assert not psutil.pid_exists(process.pid)
            assert json.loads(record(tmp_path).read_text())["processes"][0]["pid"] == os.getpid()
        assert not record(tmp_path).exists()


def test_one_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    with predecessor(tmp_path, "stubborn") as process, hold(tmp_path, "job", "b1", patience=0.2):
        assert not psutil.pid_exists(process.pid)


def test_another_job_is_left_alone(tmp_path: Path) -> None:
    with predecessor(tmp_path) as process, hold(tmp_path, "other", "b1"):
        assert process.poll() is None


def test_another_batch_waits_until_the_job_is_free_and_ends_nobody(tmp_path: Path) -> None:
    held, done = threading.Event(), threading.Event()

    def wait_for_it() -> None:
        with hold(tmp_path, "job", "b2"):
            held.set()
            done.wait(60)

    with predecessor(tmp_path) as process:
        waiting = threading.Thread(target=wait_for_it)
        waiting.start()
        assert not held.wait(1.5)
        assert process.poll() is None
        process.kill()  # -9: its record stays
        assert held.wait(10)
        assert record(tmp_path).exists() and record(tmp_path).with_name("job-b2.json").exists()
        done.set()
        waiting.join()
    eventually(lambda: not record(tmp_path).with_name("job-b2.json").exists())


def test_a_pid_that_is_used_again_is_somebody_else(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as stranger:
        try:
            started = psutil.Process(stranger.pid).create_time()
            record(tmp_path).parent.mkdir(parents=True)
            processes = [{"pid": stranger.pid, "create_time": started - 100}]
            record(tmp_path).write_text(json.dumps({"processes": processes}))
            with hold(tmp_path, "job", "b1"):
                assert stranger.poll() is None
        finally:
            stranger.kill()


def test_a_record_in_pieces_stops_nobody(tmp_path: Path) -> None:
    record(tmp_path).parent.mkdir(parents=True)
    record(tmp_path).write_text('{"processes": [{"pid": 1')
    with hold(tmp_path, "job", "b1"):
        assert json.loads(record(tmp_path).read_text())["processes"][0]["pid"] == os.getpid()
