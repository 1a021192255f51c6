"""Where the code of the platform lies: the one place that knows packages above infra, and only by path and name."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]
SPARK_PACKAGES = ("infra", "ingest", "storage", "processing")  # that Spark's jobs import
JOBS = ROOT / "processing" / "jobs"
REHEARSAL = ROOT / "processing" / "rehearsal.py"  # loads the classes that jobs load
DRIVER = ROOT / "processing" / "driver.py"  # runs one job after another
DAGS = ROOT / "dags"
FORMATS = "storage.formats:FORMATS"  # names that settings may choose
ALGORITHMS = "processing.algorithms:ALGORITHMS"


def source(module: str) -> Path | None:
    """The file of one of our modules; None if it is none."""
    path = ROOT.joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)
