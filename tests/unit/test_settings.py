"""Settings: where they come from, and that all errors are told at once."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from infra.errors import ConfigurationError
from infra.settings import CONFIG_DIR, Settings


def test_the_environment_wins_over_the_file_and_the_file_over_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clickstream.toml").write_text("[kafka]\nport = 1111\npartitions = 7\n")
    monkeypatch.setenv("CLICKSTREAM_HOME", str(tmp_path))
    monkeypatch.setenv("CLICKSTREAM_KAFKA__PORT", "2222")
    kafka = Settings.from_env().kafka
    assert (kafka.port, kafka.partitions, kafka.controller_port) == (2222, 7, 9093)


def test_all_errors_are_told_at_once_by_the_name_that_sets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLICKSTREAM_KAFKA__PORT", "many")
    monkeypatch.setenv("CLICKSTREAM_SINK__MAX_BYTES", "0")
    monkeypatch.setenv("CLICKSTREAM_HDFS__ROUTE", "/x")
    monkeypatch.setenv("CLICKSTREAM_KAKFA__PORT", "1")
    with pytest.raises(ConfigurationError) as raised:
        Settings.from_env()
    told = "\n".join(raised.value.problems)
    for name in ("KAFKA__PORT", "SINK__MAX_BYTES", "HDFS__ROUTE", "KAKFA__PORT"):
        assert f"CLICKSTREAM_{name}" in told


def test_an_error_in_the_file_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[kafka]\nport = 0\n")
    monkeypatch.setenv("CLICKSTREAM_CONFIG", str(file))
    with pytest.raises(ConfigurationError, match=r"kafka\.port in .*mine\.toml"):
        Settings.from_env()


def test_a_configuration_file_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLICKSTREAM_CONFIG", "/nowhere/clickstream.toml")
    with pytest.raises(ConfigurationError, match="CLICKSTREAM_CONFIG"):
        Settings.from_env()


def test_settings_survive_the_environment_of_a_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(
        home=tmp_path,
        java_home="/opt/java",
        kafka={"bootstrap_servers": "a:1,b:2", "properties": {"security.protocol": "SSL"}},
        collector={
            "write_keys": {"shop": "s3cret", "app": {"secret": "x", "origins": ["https://App.example/"]}},
            "allowed_origins": ["https://shop.example"],
            "privacy": {"never_store": ["email"], "internal_networks": ["10.1.2.3/8"]},
            "cookie": {"days": 0},
        },
        sink={"max_age_seconds": 1.5},
    )
    for name, value in settings.to_env().items():
        monkeypatch.setenv(name, value)
    assert Settings.from_env().model_dump() == settings.model_dump()


def test_a_default_that_was_asked_for_beats_the_file_of_the_home_in_a_child_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clickstream.toml").write_text('[spark]\nmaster = "yarn"\n')
    monkeypatch.setenv("CLICKSTREAM_HOME", str(tmp_path))
    monkeypatch.setenv("CLICKSTREAM_SPARK__MASTER", "local[2]")
    environment = Settings.from_env().to_env()
    monkeypatch.delenv("CLICKSTREAM_SPARK__MASTER")
    assert Settings.from_env().spark.master == "yarn"
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert Settings.from_env().spark.master == "local[2]"


def test_what_a_server_may_read_again_is_left_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.toml"
    keys = '[collector]\nport = 1234\nmax_events = 7\nrates = {{ip = "5/second"}}\nwrite_keys = {{a = "{}"}}\n'
    file.write_text(keys.format("old"))
    monkeypatch.setenv("CLICKSTREAM_CONFIG", str(file))
    monkeypatch.setenv("CLICKSTREAM_COLLECTOR__RATES__IP", "9/second")
    environment = Settings.from_env().to_env()
    assert environment["CLICKSTREAM_COLLECTOR__PORT"] == "1234"
    assert "9/second" in environment["CLICKSTREAM_COLLECTOR__RATES"]
    file.write_text(keys.format("new"))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    collector = Settings.from_env().collector
    assert (collector.write_keys["a"].secret, collector.max_events, collector.rates.ip) == ("new", 7, "9/second")


def test_the_user_of_hdfs_is_the_settings_else_that_of_hadoops_variable_and_children_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HADOOP_USER_NAME", "somebody")
    found = Settings.from_env()
    assert (found.hdfs.user, found.to_env()["CLICKSTREAM_HDFS__USER"]) == ("somebody", "somebody")
    monkeypatch.setenv("CLICKSTREAM_HDFS__USER", "anybody")
    assert Settings.from_env().hdfs.user == "anybody"
    monkeypatch.setenv("HADOOP_USER_NAME", "")
    monkeypatch.setenv("CLICKSTREAM_HDFS__USER", "")
    assert Settings.from_env().hdfs.user == ""


def test_a_server_is_managed_unless_its_address_is_set() -> None:
    own = Settings()
    assert own.kafka.managed and own.hdfs.managed and own.airflow.managed
    others = Settings(
        kafka={"bootstrap_servers": "k:9092"}, hdfs={"url": "hdfs://ns"}, airflow={"url": "https://airflow.example/"}
    )
    assert not (others.kafka.managed or others.hdfs.managed or others.airflow.managed)
    assert others.airflow.address == "https://airflow.example"


def without_none(value: Any) -> Any:
    """As TOML has it, which knows no null."""
    if isinstance(value, dict):
        return {name: without_none(inner) for name, inner in value.items()}
    return "" if value is None else value


def test_the_reference_file_shows_every_setting_with_its_default() -> None:
    text = (CONFIG_DIR / "clickstream.toml").read_text()
    shown = tomllib.loads(re.sub(r"^#(\w+ = )", r"\1", text, flags=re.MULTILINE))
    defaults = Settings().model_dump(mode="json", exclude={"home", "java_home"})
    assert {"cookie", "privacy", "rates", "tracking_plan"} <= defaults["collector"].keys()
    assert shown == without_none(defaults)


@pytest.mark.parametrize(
    ("collector", "reason"),
    [
        ({"write_keys": {"shop": ""}}, "secret"),
        ({"write_keys": {"a": "same", "b": {"secret": "same"}}}, "two write keys"),
        ({"write_keys": {"a": {"secret": "s", "origins": ["shop.example"]}}}, "origin"),
        ({"allowed_origins": ["https://shop.example/path"]}, "origin"),
        ({"rates": {"ip": "many"}}, "many"),
        ({"cookie": {"same_site": "None", "secure": False}}, "secure"),
        ({"privacy": {"hashed": ["email"], "salt": "short"}}, "salt"),
        ({"privacy": {"internal_networks": ["300.0.0.0/8"]}}, "300"),
    ],
)
def test_a_policy_that_cannot_hold_is_refused(collector: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Settings(collector=collector)


def test_an_error_never_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLICKSTREAM_COLLECTOR__WRITE_KEYS", '{"a": "hidden-1", "b": "hidden-1"}')
    monkeypatch.setenv("CLICKSTREAM_COLLECTOR__PRIVACY", '{"hashed": ["email"], "salt": "hidden-2"}')
    with pytest.raises(ConfigurationError) as raised:
        Settings.from_env()
    assert len(raised.value.problems) == 2
    assert "hidden" not in str(raised.value)


def test_a_write_key_is_its_secret_alone_or_a_table() -> None:
    keys = Settings(collector={"write_keys": {"a": "s", "b": {"secret": "t", "rate": "5/second"}}}).collector.write_keys
    assert [(key.secret, key.rate) for key in keys.values()] == [("s", ""), ("t", "5/second")]


def test_part_of_a_policy_in_the_environment_leaves_the_files_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clickstream.toml").write_text('[collector.privacy]\ngpc = "drop"\ndnt = "drop"\n')
    monkeypatch.setenv("CLICKSTREAM_HOME", str(tmp_path))
    monkeypatch.setenv("CLICKSTREAM_COLLECTOR__PRIVACY__DNT", "anonymous")
    privacy = Settings.from_env().collector.privacy
    assert (privacy.gpc, privacy.dnt) == ("drop", "anonymous")


def test_a_database_of_airflow_gets_the_driver_that_we_bring() -> None:
    urls = {
        "": "",
        "postgresql://airflow@db/airflow": "postgresql+psycopg://airflow@db/airflow",
        "postgres://airflow@db/airflow": "postgresql+psycopg://airflow@db/airflow",
        "mysql+pymysql://airflow@db/airflow": "mysql+pymysql://airflow@db/airflow",
    }
    for given, used in urls.items():
        assert Settings(airflow={"database": given}).airflow.sqlalchemy_url == used


def test_lineage_goes_to_a_file_or_to_a_server() -> None:
    assert Settings().lineage.transport == {}
    file = Settings(lineage={"url": "file:///var/lib/lineage.jsonl"}).lineage
    assert file.transport == {"type": "file", "log_file_path": "/var/lib/lineage.jsonl", "append": True}
    assert Settings(lineage={"url": "http://marquez:5000"}).lineage.transport["url"] == "http://marquez:5000"


@pytest.mark.parametrize("cron", ["hourly", "0 *", "@hourly"])
def test_a_schedule_is_cron(cron: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLICKSTREAM_AIRFLOW__SCHEDULE", cron)
    with pytest.raises(ConfigurationError, match="CLICKSTREAM_AIRFLOW__SCHEDULE"):
        Settings.from_env()


def test_a_name_that_no_package_registers_is_told_with_those_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLICKSTREAM_SINK__FORMAT", "csv")
    monkeypatch.setenv("CLICKSTREAM_PROCESSING__SEARCH_ALGORITHMS", '["ease", "oracle"]')
    with pytest.raises(ConfigurationError) as raised:
        Settings.from_env()
    message = str(raised.value)
    assert "CLICKSTREAM_SINK__FORMAT" in message and "avro, parquet, not 'csv'" in message
    assert "CLICKSTREAM_PROCESSING__SEARCH_ALGORITHMS" in message and "nearest_sessions, not 'oracle'" in message
