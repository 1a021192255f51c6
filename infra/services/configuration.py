"""The configuration files of all servers, rendered from the templates in infra/config."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from infra import jars, project
from infra.airflow import secrets
from infra.jars import jvm
from infra.services import airflow
from infra.services.service import Service
from infra.services.supervision import socket_path
from infra.settings import CONFIG_DIR, Settings
from infra.spark import archives, class_archive, submit


def render(settings: Settings, services: Sequence[Service], *, yarn: bool) -> Path:
    """Writes every configuration file, and returns the path of supervisord's."""
    home = settings.home
    for folder in ("run", "logs", "data", "conf", "airflow"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    loader = jinja2.FileSystemLoader(CONFIG_DIR)
    templates = jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    context = {
        "s": settings,
        "services": services,
        "socket": socket_path(settings),
        "dags_folder": project.DAGS,
        **_spark_context(settings, yarn),
        "python": sys.executable,
        "java_home": jvm.java_home(settings),
        "secrets": secrets.installation_secrets(settings),
        "first_start": airflow.first_start(settings),
    }
    for name in templates.list_templates(filter_func=lambda name: "/" in name):
        target = home / name if name.startswith("airflow/") else home / "conf" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        written = target.with_name(f"{target.name}.new")  # a job that starts meanwhile reads a whole file
        written.touch(mode=0o600)
        written.write_text(templates.get_template(name).render(context))
        written.replace(target)
    secrets.write_password_file(settings)
    submit.write_code(settings)
    return home / "conf" / "supervisor" / "supervisord.conf"


def _spark_context(settings: Settings, yarn: bool) -> dict[str, Any]:
    """Variables of the templates of Spark's configuration."""
    context: dict[str, Any] = {
        "yarn": yarn,
        "spark_jars": jars.jars("spark"),
        "class_path": class_archive.class_path(),
        "class_archive": class_archive.path() if class_archive.path().exists() else None,
        "lineage_jars": jars.jars("lineage") if settings.lineage.url else [],
        "event_logs": submit.event_logs(settings),
        "hadoop_conf_dir": submit.hadoop_conf_dir(settings),
        "one_machine": settings.spark.yarn_managed and not settings.spark.master.startswith("spark://"),
    }
    if yarn:
        context |= {
            "library": submit.library(settings),
            "spark_archive": archives.spark().name,
            "environment_archive": archives.environment().name,
            "job_settings": submit.job_settings(settings),
        }
    return context
