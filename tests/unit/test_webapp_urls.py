"""Any item id makes a URL that leads back to it."""

from __future__ import annotations

import pytest
from flask import Flask, request

from webapp.urls import RestConverter, item_ids, item_url, visitor_url

IDS = [
    "/",
    "/presentations/logstash-1/file.html",
    "/presentations/logstash-1/",
    "/blog/tags/jquery mobile",
    "/blog/tags/jquery%20mobile",
    "/a?b=c&d#e",
    "/100%",
    "/%2F/%00",
    "/grüße/日本/🙂",
    "/a;b,c=d@e:f",
    "/back\\slash \"quoted\" 'single' <tag>",
    "//double//slash",
    "/a//b",
    "/a//",
    "/a/../b",
    "/a/./b",
    "/..",
    "/.",
    "/.hidden/...",
    "/new\nline",
    "sku-17",
    "sku 17/blue?",
    "item",
    "",
    "?",
    "../etc",
    "~",
]


@pytest.mark.parametrize("item_id", IDS)
def test_an_item_id_survives_its_url(item_id: str) -> None:
    app = Flask(__name__)
    app.url_map.merge_slashes = False
    app.url_map.converters["rest"] = RestConverter
    app.add_url_rule("/item", view_func=lambda: {"id": request.args["id"]}, endpoint="query")
    app.add_url_rule("/item/<rest:rest>", view_func=lambda rest: {"id": item_ids(rest)[0]}, endpoint="path")
    assert app.test_client().get(item_url(item_id)).get_json() == {"id": item_id}


@pytest.mark.parametrize("item_id", IDS)
def test_a_url_has_nothing_that_a_browser_or_proxy_would_rewrite(item_id: str) -> None:
    url = item_url(item_id)
    path = url.partition("?")[0]
    assert url.isascii() and url.isprintable() and not {*url} & {*' "<>\\#'}
    assert not {"", ".", ".."} & {*path.split("/")[1:-1]}
    assert path.split("/")[-1] not in (".", "..")


def test_paths_make_readable_urls_and_all_are_distinct() -> None:
    assert item_url("/blog/geekery/ssl-latency.html") == "/item/blog/geekery/ssl-latency.html"
    assert item_url("sku 17") == "/item?id=sku%2017"
    assert len({*map(item_url, IDS)}) == len(IDS)


def test_a_visitor_id_is_one_segment() -> None:
    assert visitor_url("a/b c?") == "/as/a%2Fb%20c%3F"
