"""The parts of the settings that are servers: every address, path and size, with its default.

What the collector's policy is made of stands in infra/policy.py, by which rules events are landed and learnt from in
infra/rules.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from infra.policy import Cookie, Origin, Privacy, Rates, Section, TrackingPlan, WriteKey

Port = Annotated[int, Field(ge=1, le=65535)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]
Mode = Annotated[str, Field(pattern=r"^[0-7]{3,4}$")]
Cron = Annotated[str, Field(pattern=r"^(\S+ \S+ \S+ \S+ \S+)?$")]
OptionalPath = Annotated[Path | None, BeforeValidator(lambda value: None if value == "" else value)]


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
    """The file system. `url` is that of an existing one (`hdfs://nameservice1`); `conf_dir` its HADOOP_CONF_DIR.

    `user`: as whom it knows us where it has no Kerberos; HADOOP_USER_NAME does as well, else it is the process's own.
    `replication`, `block_bytes` and the modes (octal) are those of the sink's files; `storage_policy` and
    `erasure_coding` are given to its folders by the NameNode's web server, which is at `http_url`.
    """

    url: str = ""
    conf_dir: OptionalPath = None
    user: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]*$")] = ""
    host: str = "127.0.0.1"
    port: Port = 8020
    http_port: Port = 9870
    datanode_port: Port = 9866
    datanode_http_port: Port = 9864
    datanode_ipc_port: Port = 9867
    heap: str = "384m"
    replication: Annotated[int, Field(ge=1)] = 1
    block_bytes: Annotated[int, Field(ge=1024**2, multiple_of=512)] = 128 * 1024**2
    file_mode: Mode = "644"
    folder_mode: Mode = "755"
    storage_policy: Annotated[str, Field(pattern=r"^[A-Z_]*$")] = ""
    erasure_coding: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]*$")] = ""
    http_url: str = ""
    root: Annotated[str, Field(pattern=r"^/[^:]*[^/:]$")] = "/clickstream"

    @property
    def managed(self) -> bool:
        return not self.url

    @property
    def address(self) -> str:
        return self.url or f"hdfs://{self.host}:{self.port}"

    @property
    def http_address(self) -> str:
        """Of the NameNode's web server; empty for an existing one whose setting is missing."""
        return (self.http_url or ("" if self.url else f"http://{self.host}:{self.http_port}")).rstrip("/")


class Spark(Section):
    """How jobs are submitted. `hadoop_conf_dir` is that of an existing YARN, `yarn_url` that of its ResourceManager's
    pages, by which Airflow follows and ends drivers in containers; `catalog` is the Iceberg catalog's type.

    `python` is the interpreter on YARN's workers, of this one's minor version; it needs no packages, they are shipped.
    `yarn_memory_mb` is what a YARN that `up` starts may give away. Event logs older than `event_log_days` are deleted
    while the history server runs.
    """

    master: str = "local[2]"
    deploy_mode: Literal["client", "cluster"] = "client"
    driver_memory: str = "1g"
    executor_memory: str = "1g"
    shuffle_partitions: Annotated[int, Field(ge=1)] = 4
    hadoop_conf_dir: OptionalPath = None
    yarn_url: Annotated[str, Field(pattern=r"^(https?://.+)?$")] = ""
    catalog: Literal["hadoop", "jdbc", "rest", "hive"] = "hadoop"
    catalog_uri: str = ""
    conf: dict[str, str] = Field(default_factory=dict)
    python: str = "python3"
    event_log_days: Annotated[int, Field(ge=1)] = 30
    history_port: Port = 18080
    yarn_port: Port = 8032
    yarn_http_port: Port = 8088
    yarn_memory_mb: Annotated[int, Field(ge=1024)] = 6144

    @property
    def yarn_managed(self) -> bool:
        """Whether a YARN that is asked for is `up`'s own."""
        return self.hadoop_conf_dir is None


class Airflow(Section):
    """The orchestrator. `url` is that of an existing one, with its `username` and `password`.

    `schedule`: when a batch is cut, as cron in UTC, from the first `up` on; empty: only by hand. `landing_minutes`: how
    long a run waits for its batch to land before it fails. `notify_url` is sent a JSON document for each failure,
    `metrics_url` Airflow's metrics by OTLP over HTTP.
    """

    url: str = ""
    host: str = "127.0.0.1"
    port: Port = 8080
    username: str = "admin"
    password: str = ""
    database: str = ""
    log_port: Port = 8793
    trigger_log_port: Port = 8794
    parallelism: Annotated[int, Field(ge=1)] = 2
    schedule: Cron = "0 * * * *"
    landing_minutes: Annotated[float, Field(gt=0)] = 60.0
    notify_url: Annotated[str, Field(pattern=r"^(https?://.+)?$")] = ""
    metrics_url: Annotated[str, Field(pattern=r"^(https?://.+)?$")] = ""

    @property
    def managed(self) -> bool:
        return not self.url

    @property
    def address(self) -> str:
        return (self.url or f"http://{self.host}:{self.port}").rstrip("/")

    @property
    def sqlalchemy_url(self) -> str:
        """`database` with the driver that we bring, psycopg, for PostgreSQL; empty for SQLite in the home."""
        scheme, _, rest = self.database.partition("://")
        return f"postgresql+psycopg://{rest}" if scheme in ("postgres", "postgresql") else self.database


class Lineage(Section):
    """Where Airflow and Spark tell, as OpenLineage, what was made of what: http(s)://… or file:///…; empty: nowhere."""

    url: Annotated[str, Field(pattern=r"^(https?://.+|file:///.+)?$")] = ""

    @property
    def file(self) -> str:
        """The path of a file that events are appended to, if it is one."""
        return self.url.removeprefix("file://") if self.url.startswith("file:") else ""

    @property
    def transport(self) -> dict[str, Any]:
        """As OpenLineage's Python client is told."""
        if self.file:
            return {"type": "file", "log_file_path": self.file, "append": True}
        return {"type": "http", "url": self.url} if self.url else {}


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
