"""All settings of the platform, in one frozen object.

`Settings.from_env` reads, in rising order of precedence, the defaults, a TOML file (`$CLICKSTREAM_CONFIG`, else
`$CLICKSTREAM_HOME/clickstream.toml`; commented reference: infra/config/clickstream.toml) and environment variables
(`CLICKSTREAM_KAFKA__PORT=9192`). It reports all errors at once.

`clickstream up` starts a server unless the settings name an existing one: `kafka.bootstrap_servers`, `hdfs.url`,
`airflow.url`, or `spark.hadoop_conf_dir` for YARN.
"""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from infra.errors import ConfigurationError
from infra.settings.collector import Collector
from infra.settings.jobs import Compaction, Processing, Sink
from infra.settings.section import Section
from infra.settings.servers import Airflow, Hdfs, Kafka, Lineage, Spark, Webapp

PREFIX = "CLICKSTREAM_"
CONFIG_DIR = Path(__file__).parents[1] / "config"


class Settings(BaseSettings):
    """The whole configuration; see the module's docstring for where values come from."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid", validate_default=True
    )

    home: Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())] = Path(".clickstream")
    java_home: Path | None = None  # JAVA_HOME does as well
    kafka: Kafka = Kafka()
    hdfs: Hdfs = Hdfs()
    spark: Spark = Spark()
    airflow: Airflow = Airflow()
    lineage: Lineage = Lineage()
    collector: Collector = Collector()
    sink: Sink = Sink()
    compaction: Compaction = Compaction()
    processing: Processing = Processing()
    webapp: Webapp = Webapp()
    _file: Path | None = None  # where it is not the home's own
    _left_to_file: frozenset[str] = frozenset()  # variables that a child reads from the file itself

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
        if not settings.hdfs.user and os.environ.get("HADOOP_USER_NAME"):
            user = {"user": os.environ["HADOOP_USER_NAME"]}
            settings = settings.model_copy(update={"hdfs": settings.hdfs.model_copy(update=user)})
        settings._file = file.absolute() if f"{PREFIX}CONFIG" in os.environ else None
        settings._left_to_file = frozenset(
            name for name in _reloaded(file) if not any(given.startswith(name) for given in environment)
        )
        return settings

    def to_env(self) -> dict[str, str]:
        """The environment of child processes, from which their `from_env` reads these settings.

        Settings that collector and web app can reload from the file (SIGHUP) are left out.
        """
        environment = {f"{PREFIX}HOME": str(self.home)}
        if self._file:
            environment[f"{PREFIX}CONFIG"] = str(self._file)
        if self.java_home:
            environment[f"{PREFIX}JAVA_HOME"] = str(self.java_home)
        for section, values in self:
            if isinstance(values, Section):
                # What was set, be it to its default: a file in the home might say otherwise.
                for field, value in sorted(values.model_dump(mode="json", exclude_unset=True).items()):
                    name = f"{PREFIX}{section}__{field}".upper()
                    if value is not None and name not in self._left_to_file:
                        environment[name] = json.dumps(value) if isinstance(value, dict | list) else str(value)
        return environment


# Read before the settings themselves, or set for the processes that a supervisor starts.
_OTHER_VARIABLES = ("config", "service")

# What the workers of collector and web app use; the rest their main process took when it was started.
_RELOADED = ("collector", "webapp")
_TAKEN_AT_START = {"url", "host", "port", "tls", "workers", "threads", "drain_seconds"}

# Never printed; `privacy` as a whole is what an error of the salt shows.
_SECRETS = {"write_keys", "password", "database", "privacy", "properties"}


def _reloaded(file: Path) -> set[str]:
    """Variables of the settings in the file that can be reloaded while their server runs."""
    found = tomllib.loads(file.read_text()) if file.is_file() else {}
    return {
        f"{PREFIX}{section}__{field}".upper()
        for section in _RELOADED
        for field in found.get(section, {}).keys() - _TAKEN_AT_START
    }


def _describe(error: ErrorDetails, file: Path) -> str:
    """One line that names the setting as the environment spells it."""
    name = PREFIX + "__".join(str(part).upper() for part in error["loc"])
    where = "" if name in os.environ else f" (or {'.'.join(map(str, error['loc']))} in {file})"
    if error["type"] == "extra_forbidden":
        return f"{name}{where}: no such setting"
    given = "" if _SECRETS & {*error["loc"]} else f", not {error['input']!r}"
    return f"{name}{where}: {error['msg']}{given}"
