"""Options that commands of several packages share."""

from __future__ import annotations

import click

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print facts as JSON.")
