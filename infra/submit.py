"""What spark-submit needs besides spark-defaults.conf: the job's file, our code as a zip, Spark's jars for YARN."""

from __future__ import annotations

import zipfile
from pathlib import Path

from infra.errors import ConfigurationError
from infra.settings import Settings

_PROJECT = Path(__file__).parents[1]
_PACKAGES = ("infra", "ingest", "storage", "processing")


def jobs() -> list[str]:
    """Names of all Spark jobs."""
    return sorted(file.stem for file in (_PROJECT / "processing" / "jobs").glob("[a-z]*.py"))


def pool(job: str) -> str:
    """Airflow's pool of one slot for what only this job writes: a table has one writer at a time, over all DAGs."""
    return f"clickstream_{job}"


def job_file(job: str) -> str:
    """Path of the script that spark-submit runs. Raises ConfigurationError for an unknown job."""
    file = _PROJECT / "processing" / "jobs" / f"{job}.py"
    if not file.is_file():
        raise ConfigurationError([f"there is no Spark job {job} in {file.parent}"])
    return str(file)


def write_code(settings: Settings) -> Path:
    """Our packages as a .zip for --py-files (a .whl works on the driver and fails on executors)."""
    target = settings.home / "run" / "clickstream.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for package in _PACKAGES:
            for file in sorted((_PROJECT / package).rglob("*")):
                if file.suffix in {".py", ".avsc"}:
                    archive.write(file, file.relative_to(_PROJECT))
    return target


def spark_home() -> Path:
    """Where pyspark keeps its jars and spark-submit."""
    import pyspark

    return Path(pyspark.__file__).parent


def write_spark_archive(settings: Settings) -> Path:
    """Spark's own jars as one uncompressed zip, made once; YARN's containers unpack it from HDFS."""
    target = settings.home / "run" / spark_archive_name()
    if not target.exists():
        partial = target.with_suffix(".partial")
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
            for jar in sorted((spark_home() / "jars").glob("*.jar")):
                archive.write(jar, jar.name)
        partial.rename(target)
    return target


def spark_archive_name() -> str:
    """Its file name, with Spark's version."""
    from importlib.metadata import version

    return f"spark-{version('pyspark')}-jars.zip"
