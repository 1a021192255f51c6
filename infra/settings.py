"""Every address, path and size of the platform, in one frozen object.

`Settings.from_env` reads, in rising order of precedence, the defaults below, a TOML file
(`$CLICKSTREAM_CONFIG`, else `$CLICKSTREAM_HOME/clickstream.toml`; commented reference: infra/config/clickstream.toml)
and environment variables (`CLICKSTREAM_KAFKA__PORT=9192`). It reports all errors at once.

A server is started by `clickstream up` unless its address is set: with `kafka.bootstrap_servers`, `hdfs.url` or
`airflow.url` set, or `spark.hadoop_conf_dir` for YARN, the platform uses what is there instead.
"""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from infra.errors import ConfigurationError
from infra.policy import Cookie, Origin, Privacy, Rates, Section, TrackingPlan, WriteKey

Port = Annotated[int, Field(ge=1, le=65535)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]
OptionalPath = Annotated[Path | None, BeforeValidator(lambda value: None if value == "" else value)]

PREFIX = "CLICKSTREAM_"
CONFIG_DIR = Path(__file__).parent / "config"


class Kafka(Section):
    """The event log. `properties` are passed to every Kafka client as they are (SASL, TLS …)."""

    bootstrap_servers: str = ""
    host: str = "127.0.0.1"
    port: Port = 9092
    controller_port: Port = 9093
    heap: str = "384m"
    topic: Name = "clicks"
    partitions: Annotated[int, Field(ge=1)] = 4
    replication: Annotated[int, Field(ge=1)] = 1
    retention_hours: Annotated[int, Field(ge=1)] = 168
    properties: dict[str, str] = Field(default_factory=dict)

    @property
    def managed(self) -> bool:
        return not self.bootstrap_servers

    @property
    def address(self) -> str:
        return self.bootstrap_servers or f"{self.host}:{self.port}"

    @property
    def schemas_topic(self) -> str:
        return f"{self.topic}.schemas"

    @property
    def rejected_topic(self) -> str:
        return f"{self.topic}.rejected"


class Hdfs(Section):
    """The file system. `url` is that of an existing one (`hdfs://nameservice1`); `conf_dir` its HADOOP_CONF_DIR."""

    url: str = ""
    conf_dir: OptionalPath = None
    host: str = "127.0.0.1"
    port: Port = 8020
    http_port: Port = 9870
    datanode_port: Port = 9866
    datanode_http_port: Port = 9864
    datanode_ipc_port: Port = 9867
    heap: str = "384m"
    replication: Annotated[int, Field(ge=1)] = 1
    root: Annotated[str, Field(pattern=r"^/[^:]*[^/:]$")] = "/clickstream"

    @property
    def managed(self) -> bool:
        return not self.url

    @property
    def address(self) -> str:
        return self.url or f"hdfs://{self.host}:{self.port}"


class Spark(Section):
    """How jobs are submitted. `hadoop_conf_dir` is that of an existing YARN; `catalog` the Iceberg catalog's type."""

    master: str = "local[2]"
    deploy_mode: Literal["client", "cluster"] = "client"
    driver_memory: str = "1g"
    executor_memory: str = "1g"
    shuffle_partitions: Annotated[int, Field(ge=1)] = 4
    hadoop_conf_dir: OptionalPath = None
    catalog: Literal["hadoop", "jdbc", "rest", "hive"] = "hadoop"
    catalog_uri: str = ""
    conf: dict[str, str] = Field(default_factory=dict)
    yarn_port: Port = 8032
    yarn_http_port: Port = 8088


class Airflow(Section):
    """The orchestrator. `url` is that of an existing one, with its `username` and `password`."""

    url: str = ""
    host: str = "127.0.0.1"
    port: Port = 8080
    username: str = "admin"
    password: str = ""
    database: str = ""
    log_port: Port = 8793
    trigger_log_port: Port = 8794
    parallelism: Annotated[int, Field(ge=1)] = 2

    @property
    def managed(self) -> bool:
        return not self.url

    @property
    def address(self) -> str:
        return (self.url or f"http://{self.host}:{self.port}").rstrip("/")


class Tls(Section):
    """HTTPS: PEM files of the certificate with its chain, of its key, and of the CA by which our own clients check it.

    Without a `ca` they trust those of certifi, as everybody does.
    """

    certificate: OptionalPath = None
    key: OptionalPath = None
    ca: OptionalPath = None

    @model_validator(mode="after")
    def _both_are_there(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together")
        for file in (self.certificate, self.key, self.ca):
            if file is not None and not file.is_file():
                raise ValueError(f"there is no file {file}")
        return self


class Collector(Section):
    """The HTTP door for events. `write_keys`: a key's name, stored with each event -> the secret that clients send.

    Whether events of an unknown key are refused, or kept aside in `clicks.rejected`, says `unknown_write_key`.
    """

    url: str = ""
    host: str = "127.0.0.1"
    port: Port = 8000
    tls: Tls = Tls()
    workers: Annotated[int, Field(ge=1)] = 2
    threads: Annotated[int, Field(ge=1)] = 16  # of each worker
    drain_seconds: Annotated[float, Field(ge=0)] = 1.0
    write_keys: dict[Name, WriteKey] = Field(default_factory=lambda: {"demo": WriteKey(secret="demo")})
    unknown_write_key: Literal["refuse", "quarantine"] = "refuse"
    allowed_origins: list[Origin] = Field(default_factory=list)
    anonymize_ip: bool = True
    max_body_bytes: Annotated[int, Field(ge=1024)] = 8 * 1024 * 1024
    max_events: Annotated[int, Field(ge=1)] = 10_000
    max_depth: Annotated[int, Field(ge=2, le=200)] = 32
    ack_timeout_seconds: Annotated[float, Field(gt=0)] = 2.0
    spool_max_bytes: Annotated[int, Field(ge=0)] = 1024**3
    spool_headroom_bytes: Annotated[int, Field(ge=1024**2)] = 64 * 1024**2
    spool_max_age_seconds: Annotated[float, Field(gt=0)] = 7 * 86400.0
    cookie: Cookie = Cookie()
    privacy: Privacy = Privacy()
    rates: Rates = Rates()
    tracking_plan: TrackingPlan = TrackingPlan()

    @field_validator("write_keys")
    @classmethod
    def _secrets_differ(cls, keys: dict[str, WriteKey]) -> dict[str, WriteKey]:
        if len({key.secret for key in keys.values()}) < len(keys):
            raise ValueError("two write keys have the same secret")
        return keys

    @property
    def address(self) -> str:
        scheme = "https" if self.tls.certificate else "http"
        return (self.url or f"{scheme}://{self.host}:{self.port}").rstrip("/")

    @property
    def verify(self) -> bool | str:
        """What `requests` asks about certificates."""
        return str(self.tls.ca) if self.tls.ca else True


class Sink(Section):
    """When a file is closed and how much memory its owner may use."""

    group: Name = "clickstream-sink"
    metrics_port: Port = 8002
    codec: Literal["zstandard", "deflate", "null"] = "zstandard"
    max_bytes: Annotated[int, Field(ge=1)] = 64 * 1024 * 1024
    max_records: Annotated[int, Field(ge=1)] = 5_000_000
    max_age_seconds: Annotated[float, Field(gt=0)] = 300.0
    memory_bytes: Annotated[int, Field(ge=1)] = 256 * 1024 * 1024
    cut_poll_seconds: Annotated[float, Field(gt=0)] = 1.0
    schema_deadline_seconds: Annotated[float, Field(ge=0)] = 60.0


class Processing(Section):
    """Rules of the tables."""

    session_gap_minutes: Annotated[int, Field(ge=1)] = 30
    dedup_days: Annotated[int, Field(ge=0)] = 7
    recommendations_per_visitor: Annotated[int, Field(ge=1)] = 20


class Webapp(Section):
    """The storefront. `collector_url` is the collector as browsers see it."""

    url: str = ""
    host: str = "127.0.0.1"
    port: Port = 8001
    write_key: Name = "demo"
    collector_url: str = ""
    refresh_seconds: Annotated[float, Field(gt=0)] = 5.0

    @property
    def address(self) -> str:
        return (self.url or f"http://{self.host}:{self.port}").rstrip("/")


class Settings(BaseSettings):
    """The whole configuration; see the module's docstring for where values come from."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid", validate_default=True
    )

    home: Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())] = Path(".clickstream")
    java_home: OptionalPath = None  # JAVA_HOME does as well
    kafka: Kafka = Kafka()
    hdfs: Hdfs = Hdfs()
    spark: Spark = Spark()
    airflow: Airflow = Airflow()
    collector: Collector = Collector()
    sink: Sink = Sink()
    processing: Processing = Processing()
    webapp: Webapp = Webapp()

    @classmethod
    def settings_customise_sources(  # type: ignore[override]
        cls, settings_cls: type[BaseSettings], **sources: PydanticBaseSettingsSource
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (sources["init_settings"],)  # only from_env reads the environment

    @classmethod
    def from_env(cls) -> Settings:
        """The settings in force; the only reader of the environment.

        Raises ConfigurationError with one line for each wrong or unknown value, naming where to set it.
        """
        environment = [name for name in os.environ if name.startswith(PREFIX)]
        problems = [
            f"{name}: no such setting"
            for name in sorted(environment)
            if name.removeprefix(PREFIX).split("__")[0].lower() not in {*cls.model_fields, *_OTHER_VARIABLES}
        ]
        home = Path(os.environ.get(f"{PREFIX}HOME", ".clickstream")).expanduser()
        file = Path(os.environ.get(f"{PREFIX}CONFIG", home / "clickstream.toml"))
        if f"{PREFIX}CONFIG" in os.environ and not file.is_file():
            problems.append(f"{PREFIX}CONFIG: there is no file {file}")

        class FromEnv(cls):  # type: ignore[misc, valid-type]
            @classmethod
            def settings_customise_sources(
                cls, settings_cls: type[BaseSettings], **sources: PydanticBaseSettingsSource
            ) -> tuple[PydanticBaseSettingsSource, ...]:
                return sources["env_settings"], TomlConfigSettingsSource(settings_cls, file)

        try:
            settings: Settings = FromEnv()
        except tomllib.TOMLDecodeError as error:
            raise ConfigurationError([*problems, f"{file}: {error}"]) from error
        except SettingsError as error:
            raise ConfigurationError([*problems, f"{error}: {error.__cause__}"]) from error
        except ValidationError as error:
            raise ConfigurationError(problems + [_describe(e, file) for e in error.errors()]) from error
        if problems:
            raise ConfigurationError(problems)
        if settings.java_home is None and os.environ.get("JAVA_HOME"):
            settings = settings.model_copy(update={"java_home": Path(os.environ["JAVA_HOME"])})
        return settings

    def to_env(self) -> dict[str, str]:
        """The environment from which `from_env` reads these settings again: for the processes that we start."""
        environment = {f"{PREFIX}HOME": str(self.home)}
        if self.java_home:
            environment[f"{PREFIX}JAVA_HOME"] = str(self.java_home)
        for section, values in self:
            if isinstance(values, Section):
                # What was set, be it to its default: a file in the home might say otherwise.
                for field, value in sorted(values.model_dump(mode="json", exclude_unset=True).items()):
                    if value is not None:
                        name = f"{PREFIX}{section}__{field}".upper()
                        environment[name] = json.dumps(value) if isinstance(value, dict | list) else str(value)
        return environment


# Read before the settings themselves, or set for the processes that a supervisor starts.
_OTHER_VARIABLES = ("config", "service")

# Never printed; `privacy` as a whole is what an error of the salt shows.
_SECRETS = {"write_keys", "password", "privacy", "properties"}


def _describe(error: ErrorDetails, file: Path) -> str:
    """One line that names the setting as the environment spells it."""
    name = PREFIX + "__".join(str(part).upper() for part in error["loc"])
    where = "" if name in os.environ else f" (or {'.'.join(map(str, error['loc']))} in {file})"
    if error["type"] == "extra_forbidden":
        return f"{name}{where}: no such setting"
    given = "" if _SECRETS & {*error["loc"]} else f", not {error['input']!r}"
    return f"{name}{where}: {error['msg']}{given}"
