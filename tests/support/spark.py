"""What tests of Spark's parts share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


Events = Callable[..., "DataFrame"]
Run = Callable[[str, str], int]  # (job, batch) -> exit code
KNOWN = "event_id STRING, batch BIGINT, partition INT, offset BIGINT, payload_hash BIGINT"  # as curation looks back
