"""Errors of jobs.

ProcessingError                 base; the job prints it as one line on stderr
├── MissingTable                a table, or its rows of this batch, that an earlier job makes: exit 2
├── NotCurated                  a batch that has to go through the publish gate first: exit 2
├── NotLanded                   a batch of which offsets are missing: exit 65
├── OutOfOrder                  an earlier batch was not curated yet, and may be: exit 1
├── MissingModel                no model was trained, or none chosen, for this batch: exit 2
├── Superseded                  the same job was submitted again and takes over: exit 1
├── WrongSchema                 a table's column has another type than this version writes: exit 2
├── NotErased                   a landed file can't be read, so that nobody knows who is in it: exit 65
├── BadRows                     a quality check failed, so nothing was published: exit 65
└── UnbalancedBatch             the publish gate: landed is not curated + duplicates + invalid: exit 65
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from infra.errors import GATE_CLOSED, ClickstreamError


class ProcessingError(ClickstreamError):
    """Base of what jobs raise; `exit_code` is the process's."""

    exit_code = 2


class MissingTable(ProcessingError):
    """`table` does not exist, or has nothing of `batch`; `job` makes it."""

    def __init__(self, table: str, job: str, batch: str | None = None) -> None:
        self.table, self.job, self.batch = table, job, batch
        what = f"has no rows of batch {batch}" if batch else "does not exist"
        super().__init__(f"table {table} {what}: run {job} first")


class NotCurated(ProcessingError):
    """`batch` has not gone through the publish gate: what is made of its events would be made of a part."""

    def __init__(self, batch: str) -> None:
        self.batch = batch
        super().__init__(f"batch {batch} is not curated: run curate_events first")


class NotLanded(ProcessingError):
    """`missing`: partition -> offsets of `batch` that are not on HDFS."""

    exit_code = GATE_CLOSED

    def __init__(self, batch: str, missing: Mapping[int, int]) -> None:
        self.batch, self.missing = batch, dict(missing)
        which = ", ".join(f"{count} of partition {p}" for p, count in sorted(self.missing.items()))
        super().__init__(f"batch {batch} has not landed: offsets are missing, {which}")


class MissingModel(ProcessingError):
    """Nothing was trained, or decided, for `batch`; `job` does it."""

    def __init__(self, batch: str, path: str, job: str) -> None:
        self.batch, self.path, self.job = batch, path, job
        super().__init__(f"no model of batch {batch} at {path}: run {job} first")


class Superseded(ProcessingError):
    """Application `newer` of the same job and batch was submitted after `own`."""

    exit_code = 1

    def __init__(self, own: str, newer: str) -> None:
        self.own, self.newer = own, newer
        super().__init__(f"{own} gives way to {newer}, the same job and batch submitted later")


class UnbalancedBatch(ProcessingError):
    """`differences` maps a partition to (landed, curated, duplicates, invalid) that do not add up."""

    exit_code = GATE_CLOSED

    def __init__(self, batch: str, differences: Mapping[int, tuple[int, int, int, int]]) -> None:
        self.batch, self.differences = batch, dict(differences)
        lines = [
            f"partition {p}: landed {landed} is not curated {curated} + duplicates {duplicates} + invalid {invalid}"
            for p, (landed, curated, duplicates, invalid) in sorted(self.differences.items())
        ]
        super().__init__(f"batch {batch} does not balance: " + "; ".join(lines))


class OutOfOrder(ProcessingError):
    """`earlier` comes before `batch` and was not curated yet: whose event is first could not be told."""

    exit_code = 1

    def __init__(self, batch: str, earlier: str) -> None:
        self.batch, self.earlier = batch, earlier
        why = f"comes after {earlier}, which is not curated yet or was refused"
        super().__init__(f"batch {batch} {why}: run curate_events on it first")


class WrongSchema(ProcessingError):
    """`column` of `table` is of type `found`, and should be `wanted`."""

    def __init__(self, table: str, column: str, found: str, wanted: str) -> None:
        self.table, self.column, self.found, self.wanted = table, column, found, wanted
        super().__init__(f"table {table}: column {column} is {found}, this version writes {wanted}")


class BadRows(ProcessingError):
    """`findings` of the checks on `table`; which rows they are about is told in `report`, a file on HDFS."""

    exit_code = GATE_CLOSED

    def __init__(self, table: str, batch: str, findings: Sequence[str], report: str) -> None:
        self.table, self.batch, self.findings, self.report = table, batch, list(findings), report
        super().__init__(f"table {table}, batch {batch}, not published: {'; '.join(findings)}: see {report}")


class NotErased(ProcessingError):
    """`failed`: path of a landed file -> why whoever is to be forgotten may still be in it."""

    exit_code = GATE_CLOSED

    def __init__(self, failed: Mapping[str, str]) -> None:
        self.failed = dict(failed)
        files = "; ".join(f"{path}: {why}" for path, why in self.failed.items())
        super().__init__(f"requests stay open, since files can't be read: {files}")
