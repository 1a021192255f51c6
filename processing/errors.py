"""What can go wrong in a job.

ProcessingError                 base; the job prints it as one line on stderr
├── MissingTable                a table, or its rows of this batch, that an earlier job makes: exit 2
├── MissingModel                no model was trained, or none chosen, for this batch: exit 2
└── UnbalancedBatch             the publish gate: landed is not curated + duplicates + invalid: exit 1
"""

from __future__ import annotations

from collections.abc import Mapping

from infra.errors import ClickstreamError


class ProcessingError(ClickstreamError):
    """Base of what jobs raise; `exit_code` is the process's."""

    exit_code = 2


class MissingTable(ProcessingError):  # noqa: N818 - the domain's own term
    """`table` does not exist, or has nothing of `batch`; `job` makes it."""

    def __init__(self, table: str, job: str, batch: str | None = None) -> None:
        self.table, self.job, self.batch = table, job, batch
        what = f"has no rows of batch {batch}" if batch else "does not exist"
        super().__init__(f"table {table} {what}: run {job} first")


class MissingModel(ProcessingError):  # noqa: N818
    """Nothing was trained, or decided, for `batch`; `job` does it."""

    def __init__(self, batch: str, path: str, job: str) -> None:
        self.batch, self.path, self.job = batch, path, job
        super().__init__(f"no model of batch {batch} at {path}: run {job} first")


class UnbalancedBatch(ProcessingError):  # noqa: N818
    """`differences` maps a partition to (landed, curated, duplicates, invalid) that do not add up."""

    exit_code = 1

    def __init__(self, batch: str, differences: Mapping[int, tuple[int, int, int, int]]) -> None:
        self.batch, self.differences = batch, dict(differences)
        lines = [
            f"partition {p}: landed {landed} is not curated {curated} + duplicates {duplicates} + invalid {invalid}"
            for p, (landed, curated, duplicates, invalid) in sorted(self.differences.items())
        ]
        super().__init__(f"batch {batch} does not balance: " + "; ".join(lines))
