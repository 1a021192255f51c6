"""Which topic the files are of: one that was deleted and created anew has the same name, and other records.

<root>/epochs/<topic>/id=<id>/     an empty folder: Kafka's id of the topic in URL-safe base64, made by its first owner
"""

from __future__ import annotations

from storage.errors import LogError
from storage.hdfs import Hdfs
from storage.layout import Layout

_PREFIX = "id="
_URL_SAFE = str.maketrans("+/", "-_")


def check(fs: Hdfs, layout: Layout, topic_id: str) -> None:
    """Raises LogError when what is landed is of another topic of this name than Kafka has now."""
    folder, topic_id = f"{layout.root}/epochs/{layout.topic}", topic_id.translate(_URL_SAFE)
    known = _known(fs, folder)
    if not known:
        fs.mkdirs(f"{folder}/{_PREFIX}{topic_id}")
        known = _known(fs, folder)  # another owner may have found another topic at this moment
    for other in known - {topic_id}:
        raise LogError(
            f"{layout.topic} was deleted and created anew: its id is {topic_id}, and what is landed is of {other}. "
            f"Nothing is read, nothing reset. Move {layout.topic} of raw, epochs, cuts, ledger and quarantine below "
            f"{layout.root} away, or land it under another CLICKSTREAM_HDFS__ROOT."
        )


def _known(fs: Hdfs, folder: str) -> set[str]:
    return {name.removeprefix(_PREFIX) for name in fs.names(folder) if name.startswith(_PREFIX)}
