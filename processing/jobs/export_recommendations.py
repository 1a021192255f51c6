"""Exports the lists of a batch for the web app, which reads no tables, and puts them in force.

Writes for_visitors, similar, popular and items as Parquet, and report.json with the facts of the batch, to a folder
that nobody reads, renames it to v=<version> in one step, then points CURRENT to it. A rerun makes a version of its own
(<model>-<batch>-2 …), so no reader's folder ever changes. An older batch than the one in force does not replace it,
nor do the lists of who is no longer champion.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from processing.recommend import export
from processing.runtime import job
from processing.runtime.job import Job


def work(this: Job) -> dict[str, Any]:
    """Writes, renames, points."""
    facts = export.report(this)
    version = export.write(this, facts)
    in_force = export.put_in_force(this, version)
    return {"version": version, "in_force": in_force, "recommendations": facts["recommendations"]}


def main(argv: Sequence[str] | None = None) -> int:
    return job.run("export_recommendations", __doc__ or "", work, argv)


if __name__ == "__main__":
    sys.exit(main())
