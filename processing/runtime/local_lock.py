"""A job runs once at a time on this machine: a retry ends its predecessor before it starts, another batch waits.

A retry comes when its submitter lost the first try, which may be alive all the same; Airflow may then give the job's
slot to another batch, which has to leave the first one its tables. Each job records who runs it (pid and start time of
itself and of its JVM) in <home>/run/jobs/<job>-<batch>.json. A pid alone proves nothing, since numbers are used again;
with its start time it does. A driver in a container of YARN has no such home; there and elsewhere predecessors on YARN
are found by their tag (processing/runtime/yarn_lock.py).
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import structlog

log = structlog.get_logger()

_POLL_SECONDS = 0.5
_CLOCK_STEP_SECONDS = 2.0  # start times are told from the boot time, which follows corrections of the clock
_Identity = tuple[int, float]  # pid and start time, seconds since 1970


@contextmanager
def hold(home: Path, job: str, batch: str, patience: float = 10.0) -> Iterator[None]:
    """Holds the lock of a job and batch. A predecessor of the same batch is ended first, with its JVM; the job of
    another batch is awaited, however long that takes. The record is removed at the end.

    `patience`: seconds that a predecessor has to end by itself.
    """
    folder = home / "run" / "jobs"
    folder.mkdir(parents=True, exist_ok=True)
    record, own, told = folder / f"{job}-{batch}.json", _own_processes(), list[str]()
    while others := _taken_by(record, job, own, patience):
        if others != told:
            log.warning("job_awaits_other_batches", job=job, batch=batch, records=others)
            told = others
        time.sleep(_POLL_SECONDS)
    try:
        yield
    finally:
        if _read(record) == own:
            record.unlink(missing_ok=True)


def _taken_by(record: Path, job: str, own: list[_Identity], patience: float) -> list[str]:
    """Ends the predecessor, and writes the record unless other batches have the job: their records are returned."""
    with (record.parent / f"{job}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of two that start at once the second ends the first
        predecessor = _alive(record)
        for process in predecessor:
            log.warning("job_predecessor_ended", record=record.stem, pid=process.pid)
        _end(predecessor, patience)
        others = sorted(file.stem for file in record.parent.glob(f"{job}-*.json") if file != record and _alive(file))
        if not others:
            _write(record, own)
    return others


def _own_processes() -> list[_Identity]:
    """This process and, below spark-submit, the JVM that started it: ended together, or one would linger."""
    me = psutil.Process()
    parent = me.parent()
    jvm = [parent] if parent is not None and parent.name() == "java" else []
    return [(process.pid, process.create_time()) for process in (me, *jvm)]


def _alive(record: Path) -> list[psutil.Process]:
    """The recorded processes that still run, but for this one and its own JVM."""
    own = {pid for pid, _ in _own_processes()}
    found = []
    for pid, started in _read(record):
        try:
            process = psutil.Process(pid)
            same = abs(process.create_time() - started) < _CLOCK_STEP_SECONDS
            ended = process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            continue
        if same and not ended and pid not in own:
            found.append(process)
    return found


def _end(processes: list[psutil.Process], patience: float) -> None:
    """Asks, waits, then insists, and returns when all are gone."""
    for process in processes:
        _signal(process, kill=False)
    _, stubborn = psutil.wait_procs(processes, timeout=patience)
    for process in stubborn:
        _signal(process, kill=True)
    psutil.wait_procs(stubborn, timeout=max(patience, 5.0))


def _signal(process: psutil.Process, *, kill: bool) -> None:
    try:
        process.kill() if kill else process.terminate()
    except psutil.NoSuchProcess:
        return


def _read(record: Path) -> list[_Identity]:
    """The processes in the record; none if it is missing, or if a crash left it in pieces."""
    try:
        processes = json.loads(record.read_text())["processes"]
        return [(int(one["pid"]), float(one["create_time"])) for one in processes]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return []


def _write(record: Path, processes: list[_Identity]) -> None:
    text = json.dumps({"processes": [{"pid": pid, "create_time": started} for pid, started in processes]})
    temporary = record.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(text)
    temporary.replace(record)
