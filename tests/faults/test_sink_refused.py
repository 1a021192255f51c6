"""An HDFS that refuses: a message that names the path, and all is there when it is over."""

from __future__ import annotations

import getpass

import pytest
import requests

from infra.settings import Settings
from tests.support.corners import produce
from tests.support.events import event
from tests.support.proof import proved
from tests.support.sinks import corner, landed, load, sink_process, supervised
from tests.support.waiting import eventually


def web(settings: Settings, operation: str, **parameters: str) -> None:
    """A request to the NameNode as its superuser, about the root folder."""
    query = {"op": operation, "user.name": getpass.getuser(), **parameters}
    answer = requests.put(f"{settings.hdfs.http_address}/webhdfs/v1{settings.hdfs.root}", params=query, timeout=30)
    assert answer.ok, answer.text


@pytest.mark.parametrize("folder", ["", "/raw", "/epochs"])
def test_a_folder_of_somebody_else_is_a_message_that_names_it(cluster_settings: Settings, folder: str) -> None:
    place = corner(cluster_settings, max_age_seconds=0.5)
    root = place.settings.hdfs.root
    ids: list[str | None] = [str(n) for n in range(20)]
    produce(place.settings, 0, [event(str(n)) for n in range(20)])
    place.fs.mkdirs(f"{root}{folder}")
    if folder:
        place.fs.mkdirs(root)
        web(place.settings, "SETPERMISSION", permission="777")
    with sink_process(place.settings, HADOOP_USER_NAME="somebody") as sink:
        assert sink.ended() == 2, sink.tail()
        message = sink.last_line()
    assert message.startswith(f"clickstream: HDFS: {root}{folder}") and "ermission denied" in message, message
    with sink_process(place.settings) as sink:
        landed(place, "all", worker=sink)
        sink.stop()
    print(f"\n{message[:200]}: {proved(place, {0: ids})}")


@pytest.mark.parametrize("quota", ["storagespacequota", "namespacequota"])
def test_a_quota_that_is_exceeded_and_raised(cluster_settings: Settings, quota: str) -> None:
    place = corner(cluster_settings, partitions=2, max_age_seconds=0.5)
    with load(place.settings, 2) as producing, supervised(place.settings) as sink:
        eventually(lambda: len(place.files(place.layout, 1)) > 1)
        web(place.settings, "SETQUOTA", **{quota: "1"})
        eventually(lambda: len(sink.lives) > 2)  # it tries again, and that does not help
        before = len(place.files(place.layout, 0))
        web(place.settings, "SETQUOTA", **{quota: str(2**62)})
        eventually(lambda: len(place.files(place.layout, 0)) > before)
        sent = producing.stop()
        landed(place, "all")
    root = place.settings.hdfs.root
    assert all(f"exit 2: clickstream: HDFS: {root}/" in words and "uota" in words for words in sink.last_words())
    print(f"\n{len(sink.lives)} lives, {sink.last_words()[0][:250]}: {proved(place, sent)}")
