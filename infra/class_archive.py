"""The classes that Spark jobs load, as Java's own archive (class data sharing): a job maps it, and need not find, read
and verify 20,000 classes in jars. `python -m infra.class_archive` makes it of what `processing/rehearsal.py` loads.

A JVM that finds another Java or other jars than those of the archive does without it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from infra import jars, submit
from infra.errors import ServiceError
from infra.services.jvm import java_home
from infra.settings import Settings

_REHEARSAL = Path(__file__).parents[1] / "processing" / "rehearsal.py"


def path() -> Path:
    """Where the archive lies: in the Python environment, as Spark's jars do."""
    return Path(sys.prefix) / "share" / "clickstream" / "spark.jsa"


def class_path() -> str:
    """What stands first in a driver's class path: an archive is of just these jars in this order, in which Spark's
    launcher has its own."""
    own = submit.spark_home() / "jars"
    return jars.class_path([*jars.jars("spark"), *own.glob("slf4j-api-*.jar"), own / "*"])


def make(settings: Settings) -> bool:
    """Makes the archive anew; false where this Java can't. Raises ServiceError when the rehearsal fails."""
    target = path()
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as name:
        made = Path(name) / "made.jsa"
        options = f"-Xss16m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:ArchiveClassesAtExit='{made}'"
        environment = {
            "JAVA_HOME": java_home(settings),
            "PYSPARK_PYTHON": sys.executable,
            "PYTHONPATH": _REHEARSAL.parents[1],
            "SPARK_CONF_DIR": f"{name}/none",  # an archive knows no folder that holds anything
            "SPARK_LOCAL_IP": "127.0.0.1",
        }
        command = [
            *("env", "-u", "HADOOP_CONF_DIR", "-u", "YARN_CONF_DIR"),
            *(f"{variable}={value}" for variable, value in environment.items()),
            *(str(submit.spark_home() / "bin" / "spark-submit"), "--master", "local[1]"),
            *("--driver-class-path", class_path(), "--driver-java-options", options),
            *(str(_REHEARSAL), name),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ServiceError("spark", f"{_REHEARSAL.name} fails: {(done.stderr or done.stdout)[-2000:]}")
        if not made.exists():  # a Java without an archive of its own classes
            return False
        made.replace(target)
    return True


if __name__ == "__main__":
    made = make(Settings.from_env())
    sys.stdout.write(f"class archive: {path() if made else 'none, this Java has no base archive'}\n")
