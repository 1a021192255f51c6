"""The web app on exports as Spark leaves them on a real HDFS."""

from __future__ import annotations

import io
import json
import uuid

import pyarrow.parquet as pq

from infra.settings import Settings
from storage import exports
from storage.hdfs import Hdfs
from tests.support.exports import TABLES
from webapp.app import create_app
from webapp.exports import HdfsExports
from webapp.recommendations import RecommendationStore


def publish(fs: Hdfs, root: str, version: str) -> None:
    """An export as Spark writes it: folders of part files beside _SUCCESS, then the pointer."""
    for name, table in TABLES.items():
        part = io.BytesIO()
        pq.write_table(table, part, compression="zstd")
        folder = exports.table(root, version, name)
        fs.create(f"{folder}/part-00000-c000.zstd.parquet", [part.getvalue()], create_parents=True)
        fs.create(f"{folder}/_SUCCESS", [b""])
    fs.create(exports.report(root, version), [json.dumps({"version": version}).encode()])
    exports.publish_current(fs, root, version)


def test_the_shop_finds_each_new_export_on_hdfs(cluster_settings: Settings) -> None:
    hdfs = cluster_settings.hdfs.model_copy(update={"root": f"/storefront-{uuid.uuid4().hex}"})
    settings = cluster_settings.model_copy(update={"hdfs": hdfs})
    fs, store = Hdfs(settings), RecommendationStore(HdfsExports(settings))
    assert (store.refresh(), store.error) == ("absent", None)
    for version in ("als-2026-11-21T05-32-10Z", "als-2026-11-21T06"):
        publish(fs, hdfs.root, version)
        assert (store.refresh(), store.error) == ("loaded", None)
        assert store.snapshot is not None
        assert (store.snapshot.version, store.snapshot.report) == (version, {"version": version})
        assert [item.title for item in store.snapshot.items.values()] == ["A", "B", "C"]
        assert dict(store.snapshot.for_visitors) == {"ann": (("/b", 1.0),)}
    client = create_app(settings, store).test_client()
    assert client.get("/health").get_json()["version"] == "als-2026-11-21T06"
    assert "People also viewed" in client.get("/item/a").text


def test_a_version_that_is_not_there_is_an_error_and_no_export(cluster_settings: Settings) -> None:
    hdfs = cluster_settings.hdfs.model_copy(update={"root": f"/storefront-{uuid.uuid4().hex}"})
    settings = cluster_settings.model_copy(update={"hdfs": hdfs})
    exports.publish_current(Hdfs(settings), hdfs.root, "gone")
    store = RecommendationStore(HdfsExports(settings))
    assert (store.refresh(), store.snapshot) == ("failed", None)
    assert store.error is not None and "gone" in store.error
