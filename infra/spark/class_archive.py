"""A class data sharing archive (CDS) of the classes that Spark jobs load, which saves reading and verifying 20,000
classes in jars. `python -m infra.spark.class_archive` makes it from what `processing/rehearsal.py` loads.

A JVM with another Java version or other jars ignores the archive.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from infra import jars, project
from infra.errors import ServiceError
from infra.jars.jvm import java_home
from infra.settings import Settings
from infra.spark import submit


def path() -> Path:
    """Path of the archive, in the Python environment like Spark's jars."""
    return Path(sys.prefix) / "share" / "clickstream" / "spark.jsa"


def class_path() -> str:
    """First entries of a driver's class path: an archive is valid for exactly these jars, in this order."""
    own = submit.spark_home() / "jars"
    return jars.class_path([*jars.jars("spark"), *own.glob("slf4j-api-*.jar"), own / "*"])


def make(settings: Settings) -> bool:
    """Makes the archive anew; returns False if this Java can't. Raises ServiceError if the rehearsal fails."""
    target = path()
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as name:
        made = Path(name) / "made.jsa"
        options = f"-Xss16m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:ArchiveClassesAtExit='{made}'"
        environment = {
            "JAVA_HOME": java_home(settings),
            "PYSPARK_PYTHON": sys.executable,
            "PYTHONPATH": project.ROOT,
            "SPARK_CONF_DIR": f"{name}/none",  # CDS forbids non-empty folders in the class path
            "SPARK_LOCAL_IP": "127.0.0.1",
        }
        command = [
            *("env", "-u", "HADOOP_CONF_DIR", "-u", "YARN_CONF_DIR"),
            *(f"{variable}={value}" for variable, value in environment.items()),
            *(str(submit.spark_home() / "bin" / "spark-submit"), "--master", "local[1]"),
            *("--driver-class-path", class_path(), "--driver-java-options", options),
            *(str(project.REHEARSAL), name),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ServiceError("spark", f"{project.REHEARSAL.name} fails: {(done.stderr or done.stdout)[-2000:]}")
        if not made.exists():  # a Java without an archive of its own classes
            return False
        made.replace(target)
    return True


if __name__ == "__main__":
    made = make(Settings.from_env())
    sys.stdout.write(f"class archive: {path() if made else 'none, this Java has no base archive'}\n")
