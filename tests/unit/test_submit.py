"""What goes to a cluster with a job: its tag, its settings, its packages; and what stays here."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from infra import commands
from infra.errors import ConfigurationError, ServiceError
from infra.services.spark import upload
from infra.settings import Settings
from infra.spark import archives, submit
from infra.spark.archives import Archive
from processing.algorithms import ALGORITHMS
from storage.formats import FORMATS
from tests.fakes import FakeShell


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "run").mkdir()
    return Settings(home=tmp_path)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    (tmp_path / "a.jar").write_text("jar")
    return Archive("spark-1.zip", {"a.jar": tmp_path / "a.jar"})


def test_a_tag_is_that_of_one_job_and_batch_of_one_platform_and_pleases_yarn() -> None:
    own, other = Settings(), Settings(hdfs={"root": "/other"})
    tags = {
        submit.yarn_tag(own, "curate_events", "b1"),
        submit.yarn_tag(own, "curate_events", "B1"),
        submit.yarn_tag(own, "build_sessions", "b1"),
        submit.yarn_tag(other, "curate_events", "b1"),
    }
    assert len(tags) == 4 and submit.yarn_tag(own, "curate_events", "b1") in tags
    longest = submit.yarn_tag(own, max(submit.jobs(), key=len), "b" * 500)
    assert len(longest) <= 100 and longest == longest.lower() and longest.isascii()


def test_a_job_is_submitted_with_the_tag_of_its_batch() -> None:
    settings = Settings()
    command = submit.command(settings, "curate_events", ["--batch=b1", "--more"], ["--deploy-mode", "cluster"])
    tag = submit.yarn_tag(settings, "curate_events", "b1")
    assert command[1:5] == ["--conf", f"spark.yarn.tags={tag}", "--deploy-mode", "cluster"]
    assert command[-2:] == ["--batch=b1", "--more"] and Path(command[-3]).name == "curate_events.py"
    with pytest.raises(ConfigurationError, match="there is no Spark job nothing"):
        submit.command(settings, "nothing", [])


def test_a_driver_in_a_container_gets_what_jobs_need_and_neither_secrets_nor_paths_of_this_machine() -> None:
    settings = Settings(
        home="/here/home",
        java_home="/here/java",
        kafka={"topic": "shop", "properties": {"sasl.password": "hidden"}},
        hdfs={"url": "hdfs://ns", "conf_dir": "/here/hadoop"},
        spark={"hadoop_conf_dir": "/here/yarn", "conf": {"spark.hadoop.fs.s3a.secret.key": "hidden"}},
        airflow={"password": "hidden"},
        collector={"write_keys": {"shop": "hidden"}},
        processing={"dedup_days": 3},
    )
    given = submit.job_settings(settings)
    assert given == {
        "CLICKSTREAM_KAFKA__TOPIC": "shop",
        "CLICKSTREAM_HDFS__URL": "hdfs://ns",
        "CLICKSTREAM_HDFS__CONF_DIR": "{{PWD}}/__spark_conf__/__hadoop_conf__",
        "CLICKSTREAM_PROCESSING__DEDUP_DAYS": "3",
    }


def test_the_environment_holds_what_jobs_import_and_what_that_needs_but_neither_spark_nor_servers() -> None:
    environment = archives.environment()
    tops = {name.split("/")[0] for name in environment.files}
    assert {"hdfs_native", "pydantic", "pydantic_core", "pandas", "dateutil", "numpy", "numpy.libs", "pyarrow"} <= tops
    # What only a module needs that a registry names in a text: a format, a recommender.
    assert {"backports", "fastavro"} <= tops
    assert {*FORMATS, *(entry.place.split(":")[0].rpartition(".")[2] for entry in ALGORITHMS.values())} <= {
        name.rpartition(".")[2] for name in archives._imported()
    }
    assert not {"pyspark", "py4j", "airflow", "flask", "kafka", "pytest", "infra", "bin", ".."} & tops
    assert not any("/tests/" in name for name in environment.files)
    assert environment.files["hdfs_native/__init__.py"].is_file()
    assert environment.name.startswith("environment-") and environment.name.endswith(".zip")


def test_another_version_of_a_package_gives_another_name() -> None:
    names = {archives._digest(content.items()) for content in ({"a.py": "1"}, {"a.py": "2"}, {"b.py": "1"})}
    assert len(names) == 3


def test_only_what_is_missing_is_uploaded(settings: Settings, archive: Archive) -> None:
    library = submit.library(settings)
    shell = FakeShell([f"{library}/environment-1.zip"])
    wanted = [archive, Archive("environment-1.zip", {})]
    assert upload(settings, shell, wanted) == ["spark-1.zip"]
    assert shell.there == {f"{library}/environment-1.zip", f"{library}/spark-1.zip"}
    assert upload(settings, shell, wanted) == [] and shell.puts == 1
    assert not list((settings.home / "run").iterdir())


def test_a_home_that_uploads_the_same_at_the_same_time_is_no_trouble(settings: Settings, archive: Archive) -> None:
    shell = FakeShell(rival=True)
    upload(settings, shell, [archive])
    assert shell.there == {f"{submit.library(settings)}/spark-1.zip"}


def test_an_upload_that_fails_is_told(settings: Settings, archive: Archive) -> None:
    class Full(FakeShell):
        def run(self, verb: str, *arguments: str) -> None:
            if verb == "-put":
                raise ServiceError("hdfs", "put: the quota is exceeded")

    with pytest.raises(ServiceError, match="quota"):
        upload(settings, Full(), [archive])


def test_an_archive_holds_its_files_by_their_names(tmp_path: Path, archive: Archive) -> None:
    with zipfile.ZipFile(archive.write(tmp_path)) as written:
        assert {name: written.read(name) for name in written.namelist()} == {"a.jar": b"jar"}


def test_the_command_asks_for_the_servers_where_they_were_never_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLICKSTREAM_HOME", str(tmp_path))
    with pytest.raises(ServiceError, match="clickstream up"):
        commands.submit.main(["curate_events", "--batch", "b1"], standalone_mode=False)
