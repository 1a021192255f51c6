"""Arguments of spark-submit besides spark-defaults.conf: the job's file and tag, our code as a zip, and paths."""

from __future__ import annotations

import argparse
import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path

from infra import project
from infra.errors import ConfigurationError
from infra.settings import PREFIX, Settings

# Sections of servers, with their passwords and paths, that no job looks at.
_NOT_FOR_JOBS = ("AIRFLOW", "COLLECTOR", "COMPACTION", "KAFKA", "SINK", "WEBAPP")


def jobs() -> list[str]:
    """Names of all Spark jobs."""
    return sorted(file.stem for file in project.JOBS.glob("[a-z]*.py"))


def pool(job: str) -> str:
    """Airflow's pool, of one slot, of all tasks that run this job: a table has one writer at a time in all DAGs."""
    return f"clickstream_{job}"


def job_file(job: str) -> str:
    """Path of the script that spark-submit runs. Raises ConfigurationError for an unknown job."""
    file = project.JOBS / f"{job}.py"
    if not file.is_file():
        raise ConfigurationError([f"there is no Spark job {job} in {file.parent}"])
    return str(file)


def write_code(settings: Settings) -> Path:
    """Our packages as a .zip for --py-files (a .whl works on the driver and fails on executors)."""
    target = settings.home / "run" / "clickstream.zip"
    written = target.with_suffix(".new")
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for package in project.SPARK_PACKAGES:
            for file in sorted((project.ROOT / package).rglob("*")):
                if file.suffix in {".py", ".avsc"}:
                    archive.write(file, file.relative_to(project.ROOT))
    return written.replace(target)  # whole for a job that starts meanwhile


def spark_home() -> Path:
    """Folder of pyspark's jars and spark-submit."""
    import pyspark

    return Path(pyspark.__file__).parent


def hadoop_conf_dir(settings: Settings) -> Path:
    """The HADOOP_CONF_DIR in force: an existing cluster's, else the one that `clickstream up` renders."""
    return settings.spark.hadoop_conf_dir or settings.hdfs.conf_dir or settings.home / "conf" / "hadoop"


def library(settings: Settings) -> str:
    """Folder on HDFS of the archives that YARN's containers unpack."""
    return f"{settings.hdfs.root}/lib"


def event_logs(settings: Settings) -> str:
    """Folder on HDFS of Spark's event logs."""
    return f"{settings.hdfs.root}/spark-events"


def yarn_tag(settings: Settings, job: str, batch: str) -> str:
    """The YARN tag of one job and batch of this platform, by which a retry finds its predecessor.

    YARN takes 100 characters and ignores case, names of batches may be longer and differ by case: hence a digest.
    """
    whose = (settings.hdfs.address, settings.hdfs.root, settings.kafka.topic, job, batch)
    return f"clickstream-{job}-{hashlib.sha256(repr(whose).encode()).hexdigest()[:16]}"


def job_settings(settings: Settings) -> dict[str, str]:
    """Environment of a driver in a YARN container: the settings that jobs read, without this machine's paths."""
    sections = {
        name: value
        for name, value in settings.to_env().items()
        if "__" in name and name.removeprefix(PREFIX).split("__")[0] not in _NOT_FOR_JOBS
    }
    found = sections | {f"{PREFIX}KAFKA__TOPIC": settings.kafka.topic}
    if settings.hdfs.conf_dir:  # Spark brings HADOOP_CONF_DIR along; YARN knows where its containers are
        found[f"{PREFIX}HDFS__CONF_DIR"] = "{{PWD}}/__spark_conf__/__hadoop_conf__"
    found.pop(f"{PREFIX}SPARK__HADOOP_CONF_DIR", None)
    found.pop(f"{PREFIX}SPARK__CONF", None)
    return found


def command(settings: Settings, job: str, arguments: Sequence[str], options: Sequence[str] = ()) -> list[str]:
    """The spark-submit command of a job, with the tag of its batch and more `options` of spark-submit."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--batch", default="")
    batch = parser.parse_known_args(arguments)[0].batch
    tag = f"spark.yarn.tags={yarn_tag(settings, job, batch)}"
    return [str(spark_home() / "bin" / "spark-submit"), "--conf", tag, *options, job_file(job), *arguments]
