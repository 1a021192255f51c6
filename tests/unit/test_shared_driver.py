"""One driver for job after job: real processes and sockets, jobs without Spark."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

from infra.errors import ServiceError
from infra.settings import Settings
from infra.spark.drivers import Client, Drivers
from tests.support.waiting import eventually

# A driver as spark-submit would start it, whose jobs are these; what it logs goes where its JVM's output would.
DRIVER = """
import os, sys, time
from pathlib import Path
from processing.driver import Server

def run(request):
    job, batch = request["job"], request["batch"]
    print("begins", job, batch, os.getpid(), *request["conf"].items(), flush=True)
    if job == "wait":
        while not Path(batch).exists():
            time.sleep(0.02)
    if job == "die":
        os._exit(9)
    print("ends", job, end="")
    return int(batch) if job == "exit" else 0

Server(Path(sys.argv[-1]), run).serve(idle_seconds=float(sys.argv[1]), jobs=int(sys.argv[2]))
"""


class Driven:
    """Drivers of one home, and what their jobs said."""

    def __init__(self, home: Path) -> None:
        self.home, self.said = home, list[str]()

    def drivers(self, idle_seconds: float = 60.0, jobs: int = 9) -> Drivers:
        command = [sys.executable, "-c", DRIVER, str(idle_seconds), str(jobs)]
        return Drivers(Settings(home=self.home), command)

    def run(self, job: str, batch: str = "b1", run: str = "r1", drivers: Drivers | None = None, **conf: str) -> int:
        return Client(drivers or self.drivers(), self.said.append).run(run, job, batch, conf)

    def pids(self) -> list[int]:
        """Of the drivers that began jobs, in order."""
        return [int(line.split()[3]) for line in self.said if line.startswith("begins")]

    def processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # or a zombie
                if str(self.home / "run" / "drivers") in " ".join(process.cmdline()):  # empty in one that just ended
                    found.append(process)
        return found


@pytest.fixture
def home() -> Iterator[Path]:
    """Of a short path: a socket's is 108 bytes at most."""
    with TemporaryDirectory(prefix="home") as name:
        yield Path(name)


@pytest.fixture
def driven(home: Path) -> Iterator[Driven]:
    found = Driven(home)
    yield found
    left = found.processes()
    for process in left:
        process.kill()
    psutil.wait_procs(left, timeout=10)


def test_jobs_follow_each_other_in_one_driver_each_with_its_own_lines_and_exit_code(driven: Driven) -> None:
    assert [driven.run("exit", code) for code in ("0", "65", "2")] == [0, 65, 2]
    assert driven.run("exit", "0", **{"spark.yarn.tags": "t"}) == 0
    [pid] = set(driven.pids())
    told = [line for line in driven.said if line.startswith(("begins", "ends"))]
    assert told[1::2] == ["ends exit"] * 4
    assert told[::2] == [
        *(f"begins exit {code} {pid}" for code in (0, 65, 2)),
        f"begins exit 0 {pid} ('spark.yarn.tags', 't')",
    ]


def test_a_job_that_broke_has_its_exit_code_and_the_next_one_a_new_driver(driven: Driven) -> None:
    assert [driven.run("exit", code) for code in ("1", "0")] == [1, 0]
    assert len(set(driven.pids())) == 2
    eventually(lambda: len(driven.processes()) == 1)


def test_a_driver_that_dies_loses_its_job_alone(driven: Driven) -> None:
    driven.run("exit", "0")
    with pytest.raises(ServiceError, match="ended in the midst of die"):
        driven.run("die")
    eventually(lambda: not driven.processes())
    assert driven.run("exit", "0") == 0
    assert len(set(driven.pids())) == 2
    assert len(list((driven.home / "run" / "drivers").glob("*.log"))) == 1


def test_a_driver_ends_at_once_with_whoever_asked(driven: Driven) -> None:
    asks = f"""
import sys; from pathlib import Path
from infra.settings import Settings
from infra.spark.drivers import Client, Drivers
drivers = Drivers(Settings(home=Path({str(driven.home)!r})), {driven.drivers()._command!r})
Client(drivers, lambda line: print(line, flush=True)).run("r1", "wait", "never", {{}})
"""
    with subprocess.Popen([sys.executable, "-c", asks], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        pid = next(int(line.split()[3]) for line in worker.stdout if line.startswith("begins"))
        worker.send_signal(signal.SIGKILL)
    eventually(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


@pytest.mark.parametrize("warm", [False, True])
def test_a_task_that_is_stopped_ends_its_driver(driven: Driven, warm: bool) -> None:
    if warm:
        driven.run("exit", "0")
    client, failed = Client(driven.drivers(), driven.said.append), list[ServiceError]()

    def ask() -> None:
        with pytest.raises(ServiceError) as error:
            client.run("r1", "wait", "never", {})
        failed.append(error.value)

    asking = threading.Thread(target=ask)
    asking.start()
    eventually(lambda: any("begins wait" in line for line in driven.said))
    client.stop()
    asking.join(10)
    assert "was stopped" in str(failed[0])
    eventually(lambda: not driven.processes())


@pytest.mark.parametrize(("turn_seconds", "drivers"), [(60.0, 1), (0.1, 2)])
def test_jobs_of_a_run_wait_for_its_driver_but_not_for_long_and_another_run_has_its_own(
    driven: Driven, tmp_path: Path, turn_seconds: float, drivers: int
) -> None:
    go, said = tmp_path / "go", tmp_path / "said"
    said.touch()

    def ask(run: str) -> subprocess.Popen[bytes]:
        asks = f"""
import sys; from pathlib import Path
from infra.settings import Settings
from infra.spark.drivers import Client, Drivers
drivers = Drivers(Settings(home=Path({str(driven.home)!r})), {driven.drivers()._command!r}, {turn_seconds})
with open({str(said)!r}, "a", buffering=1) as said:
    Client(drivers, lambda line: said.write(line + chr(10))).run({run!r}, "wait", {str(go)!r}, {{}})
sys.stdin.read()  # a driver ends with its parent, which here is no JVM but this
"""
        return subprocess.Popen([sys.executable, "-c", asks], stdin=subprocess.PIPE)

    def begun() -> list[str]:
        return [line.split()[3] for line in said.read_text().splitlines() if line.startswith("begins")]

    asking = [ask("r1")]
    eventually(lambda: len(begun()) == 1)
    asking.append(ask("r1"))
    eventually(lambda: len(begun()) == drivers)
    asking.append(ask("r2"))
    eventually(lambda: len(begun()) == drivers + 1)
    go.touch()
    eventually(lambda: said.read_text().count("ends wait") == 3)
    for process in asking:
        process.communicate(timeout=30)
    assert [process.returncode for process in asking] == [0, 0, 0]
    assert len(set(begun())) == drivers + 1


def test_a_driver_that_nobody_asks_ends_and_so_does_one_that_had_its_share(driven: Driven) -> None:
    assert driven.run("exit", "0", drivers=driven.drivers(idle_seconds=0.2)) == 0
    eventually(lambda: not driven.processes())
    few = driven.drivers(jobs=2)
    assert [driven.run("exit", "0", drivers=few) for _ in range(3)] == [0, 0, 0]
    _, *pids = driven.pids()
    assert pids[0] == pids[1] != pids[2]
    eventually(lambda: len(driven.processes()) == 1)


def test_one_that_was_prepared_is_taken_and_what_a_killed_one_left_is_not(driven: Driven) -> None:
    drivers = driven.drivers()
    drivers.prepare()
    eventually(lambda: bool(drivers.idle()))
    drivers.prepare()
    [process] = driven.processes()
    assert driven.run("exit", "0") == 0
    assert driven.pids() == [process.pid]
    process.kill()
    assert driven.run("exit", "0") == 0
    assert len(set(driven.pids())) == 2


def test_other_settings_or_code_have_another_driver(driven: Driven) -> None:
    driven.run("exit", "0")
    (driven.home / "run" / "clickstream.zip").write_bytes(b"newer")
    driven.run("exit", "0")
    assert len(set(driven.pids())) == 2


def test_what_keeps_a_driver_from_starting_is_told(driven: Driven) -> None:
    broken = Drivers(Settings(home=driven.home), [sys.executable, "-c", "import sys; sys.exit('no such master')"])
    with pytest.raises(ServiceError, match="ended with 1"):
        driven.run("exit", "0", drivers=broken)
    assert driven.said == ["no such master"]


def test_a_home_whose_path_is_too_long_for_a_socket_has_no_shared_driver(home: Path) -> None:
    assert Drivers(Settings(home=home), []).usable
    assert not Drivers(Settings(home=home / ("x" * 60)), []).usable
