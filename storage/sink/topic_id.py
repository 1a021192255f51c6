"""Checks that a topic is the one that was landed: one that was deleted and created again has other records.

<root>/epochs/<topic>/id=<id>/     empty; Kafka's id of the topic in URL-safe base64, created by its first owner
"""

from __future__ import annotations

from storage.errors import LogError
from storage.hdfs import Hdfs
from storage.layout import Layout

_PREFIX = "id="
_URL_SAFE = str.maketrans("+/", "-_")


def check(fs: Hdfs, layout: Layout, topic_id: str) -> None:
    """Raises LogError if the landed files are of another topic of this name than Kafka has now."""
    folder, topic_id = f"{layout.root}/epochs/{layout.topic}", topic_id.translate(_URL_SAFE)
    stored = _stored_ids(fs, folder)
    if not stored:
        fs.mkdirs(f"{folder}/{_PREFIX}{topic_id}")
        stored = _stored_ids(fs, folder)  # another owner may have stored another id meanwhile
    for other in stored - {topic_id}:
        raise LogError(
            f"{layout.topic} was deleted and created anew: its id is {topic_id}, and what is landed is of {other}. "
            f"Nothing is read, nothing reset. Move {layout.topic} of raw, epochs, cuts, ledger and quarantine below "
            f"{layout.root} away, or land it under another CLICKSTREAM_HDFS__ROOT."
        )


def _stored_ids(fs: Hdfs, folder: str) -> set[str]:
    return {name.removeprefix(_PREFIX) for name in fs.names(folder) if name.startswith(_PREFIX)}
