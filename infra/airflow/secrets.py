"""Keys and passwords of an Airflow that the platform runs itself."""

from __future__ import annotations

import json
import secrets

from infra.settings import Settings


def installation_secrets(settings: Settings) -> dict[str, str]:
    """Keys and the admin's password, made once per installation and kept in a file that only its owner reads."""
    file = settings.home / "airflow" / "secrets.json"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        made = {
            "secret_key": secrets.token_hex(32),
            "jwt_secret": secrets.token_hex(48),
            "password": secrets.token_urlsafe(12),
        }
        file.touch(mode=0o600)
        file.write_text(json.dumps(made))
    known: dict[str, str] = json.loads(file.read_text())
    return known


def password(settings: Settings) -> str:
    """The password of `airflow.username`: from the settings, else this installation's own."""
    if settings.airflow.password or not settings.airflow.managed:
        return settings.airflow.password
    return installation_secrets(settings)["password"]


def write_password_file(settings: Settings) -> None:
    """The file from which Airflow's simple auth manager reads the admin's password."""
    file = settings.home / "airflow" / "passwords.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps({settings.airflow.username: password(settings)}))
