"""Settings of the servers: addresses, paths and sizes.

The collector's are in infra/settings/collector.py, those of sink and jobs in infra/settings/jobs.py.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from infra.settings.section import Name, OptionalPath, Port, Section

Mode = Annotated[str, Field(pattern=r"^[0-7]{3,4}$")]
Cron = Annotated[str, Field(pattern=r"^(\S+ \S+ \S+ \S+ \S+)?$")]


class Kafka(Section):
    """Kafka. `properties`: passed to every Kafka client as they are (SASL, TLS …)."""

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
    """HDFS. `url`: an existing one (`hdfs://nameservice1`), with `conf_dir`, its HADOOP_CONF_DIR.

    `user`: the user name without Kerberos; default: HADOOP_USER_NAME, else the process's user. `replication`,
    `block_bytes` and the modes (octal): of the sink's files. `storage_policy`, `erasure_coding`: of the sink's folders,
    set through the NameNode's web server at `http_url`.
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
        """URL of the NameNode's web server; empty if it is an existing one and not set."""
        return (self.http_url or ("" if self.url else f"http://{self.host}:{self.http_port}")).rstrip("/")


class Spark(Section):
    """How jobs are submitted. `hadoop_conf_dir`: of an existing YARN. `yarn_url`: its ResourceManager's web server, by
    which Airflow follows and ends drivers in containers. `catalog`: the Iceberg catalog's type.

    `python`: the interpreter on YARN's workers, of the same minor version as this one; packages are shipped.
    `yarn_memory_mb`: memory for containers, if `up` starts YARN. `event_log_days`: age at which the history server
    deletes event logs.
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
        """Whether `up` starts YARN, if it is used."""
        return self.hadoop_conf_dir is None


class Airflow(Section):
    """Airflow. `url`: an existing one, with its `username` and `password`.

    `schedule`: when a batch is cut, as cron in UTC, from the first `up` on; empty: only by hand. `landing_minutes`: how
    long a run waits for its batch to land before it fails. `notify_url`: gets a JSON document for each failure.
    `metrics_url`: gets Airflow's metrics by OTLP over HTTP.
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
        """`database` with the driver psycopg for PostgreSQL; empty for SQLite in the home."""
        scheme, _, rest = self.database.partition("://")
        return f"postgresql+psycopg://{rest}" if scheme in ("postgres", "postgresql") else self.database


class Lineage(Section):
    """OpenLineage. `url`: receives the events of Airflow and Spark, http(s)://… or file:///…; empty: none."""

    url: Annotated[str, Field(pattern=r"^(https?://.+|file:///.+)?$")] = ""

    @property
    def file(self) -> str:
        """The path of the file to append to; empty if the URL is no file."""
        return self.url.removeprefix("file://") if self.url.startswith("file:") else ""

    @property
    def transport(self) -> dict[str, Any]:
        """The transport's configuration for OpenLineage's Python client."""
        if self.file:
            return {"type": "file", "log_file_path": self.file, "append": True}
        return {"type": "http", "url": self.url} if self.url else {}


class Webapp(Section):
    """The storefront. `collector_url`: the collector's URL for browsers."""

    url: str = ""
    host: str = "127.0.0.1"
    port: Port = 8001
    write_key: Name = "demo"
    collector_url: str = ""
    refresh_seconds: Annotated[float, Field(gt=0)] = 5.0

    @property
    def address(self) -> str:
        return (self.url or f"http://{self.host}:{self.port}").rstrip("/")
