"""Which topic the files are of: one that was deleted and created anew has the same name, and other records.

<root>/epochs/<topic>/topic.json     {"id": …}, Kafka's id of the topic, written once by its first owner
"""

from __future__ import annotations

import json
from contextlib import suppress

from storage.errors import LogError
from storage.hdfs import Hdfs
from storage.layout import Layout


def check(fs: Hdfs, layout: Layout, topic_id: str) -> None:
    """Raises LogError when what is landed is of another topic of this name than Kafka has now."""
    path = f"{layout.root}/epochs/{layout.topic}/topic.json"
    with suppress(FileExistsError):
        if not fs.exists(path):
            fs.write_atomically(path, json.dumps({"id": topic_id}).encode())
    known = json.loads(fs.read(path))["id"]
    if known != topic_id:
        raise LogError(
            f"{layout.topic} was deleted and created anew: its id is {topic_id}, and what is landed is of {known}. "
            f"Nothing is read, nothing reset. Move {layout.topic} of raw, epochs, cuts, ledger and quarantine below "
            f"{layout.root} away, or land it under another CLICKSTREAM_HDFS__ROOT."
        )
