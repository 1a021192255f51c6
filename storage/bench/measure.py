"""Measures a program: time, processor time and memory of its processes and their children."""

from __future__ import annotations

import os
import resource
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from infra.errors import ServiceError

_SAMPLE_SECONDS = 0.2
_PATIENCE_SECONDS = 60
Processes = Sequence[psutil.Popen]


@dataclass(frozen=True, slots=True)
class Program:
    """A command line with its whole environment. It is terminated when the work is done, unless it `ends` by itself."""

    command: Sequence[str]
    environment: Mapping[str, str]
    ends: bool = False


@dataclass(frozen=True, slots=True)
class Cost:
    """`seconds` from the programs' start until the work was done; processor seconds until they ended; the peak of their
    resident memory together, as sampled; the machine's load average at their start."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    load_average: float


def measure(
    name: str, programs: Sequence[Program], folder: Path, until: Callable[[Processes], None]
) -> tuple[Cost, list[str]]:
    """Starts the programs, waits for `until` and for their end; returns the cost and each program's log.

    No other child of this process may end meanwhile. Raises ServiceError, with its last line, if a program fails.
    """
    logs = logs_of(name, folder, len(programs))
    load, cpu, began = os.getloadavg()[0], _children_cpu(), time.monotonic()
    with ExitStack() as stack:
        processes = [stack.enter_context(_started(*each)) for each in zip(programs, logs, strict=True)]
        with _watched(processes) as peak:
            until(processes)
            seconds = time.monotonic() - began
            for program, process in zip(programs, processes, strict=True):
                if not program.ends:
                    process.terminate()
            codes = [process.wait(_PATIENCE_SECONDS) for process in processes]
    said = [log.read_text(errors="replace") for log in logs]
    for code, text in zip(codes, said, strict=True):
        if code:
            raise ServiceError(name, f"ended with code {code}: {last_line(text)}")
    return Cost(seconds, _children_cpu() - cpu, peak[0], load), said


def logs_of(name: str, folder: Path, programs: int) -> list[Path]:
    """Paths of the programs' logs, which are their standard error."""
    return [folder / f"{name}-{number}.log" for number in range(programs)]


def first_line(processes: Processes) -> None:
    """For `measure`: waits until each process has printed a line, or ended."""
    for process in processes:
        process.stdout.readline()


def last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it said nothing"


@contextmanager
def _started(program: Program, log: Path) -> Iterator[psutil.Popen]:
    with log.open("wb") as errors:
        process = psutil.Popen(
            list(program.command), env=dict(program.environment), stdout=subprocess.PIPE, stderr=errors
        )
    try:
        yield process
    finally:
        process.stdout.close()
        with suppress(psutil.NoSuchProcess):
            family = [process, *process.children(recursive=True)]
            for member in family:
                with suppress(psutil.NoSuchProcess):
                    member.kill()
            process.wait(_PATIENCE_SECONDS)


@contextmanager
def _watched(processes: Processes) -> Iterator[list[int]]:
    """The peak of their memory so far, in a list of one item, sampled by a thread."""
    peak, over = [0], threading.Event()

    def sample() -> None:
        while not over.wait(_SAMPLE_SECONDS):
            peak[0] = max(peak[0], sum(map(_resident, processes)))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


def _resident(process: psutil.Process) -> int:
    """Resident bytes of the process and its descendants."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        for member in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                total += member.memory_info().rss
    return total


def _children_cpu() -> float:
    """Processor seconds of all children that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
