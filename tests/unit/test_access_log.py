"""Lines of an access log."""

from __future__ import annotations

import pytest

from ingest.protocols.access_log import Filtered, PageView, Rejected, message_id, parse

CHROME = "Mozilla/5.0 (X11; Linux x86_64) Chrome/32.0"


def line(
    request: str = "GET /a HTTP/1.1", status: int = 200, time: str = "17/May/2015:10:05:03 +0000", agent: str = CHROME
) -> str:
    return f'83.149.9.216 - - [{time}] "{request}" {status} 203023 "http://ref.example/" "{agent}"'


def view(text: str) -> dict[str, object]:
    outcome = parse(text, 7, "access.log")
    assert isinstance(outcome, PageView)
    return outcome.payload


def test_a_page_view_says_who_what_when_and_from_where() -> None:
    payload = view(line("GET /blog/tags/jquery%20mobile?page=2 HTTP/1.1"))
    assert payload["page"] == {"path": "/blog/tags/jquery mobile", "referrer": "http://ref.example/"}
    assert payload["item_id"] == "/blog/tags/jquery mobile"
    assert payload["occurred_at"] == 1431857103000
    assert payload["ip"] == "83.149.9.216"
    assert payload["user_agent"] == CHROME
    assert payload["sequence"] == 7


def test_a_lines_time_is_in_its_own_zone() -> None:
    assert view(line(time="17/May/2015:03:05:03 -0700"))["occurred_at"] == 1431857103000


def test_a_visitor_is_an_address_with_an_agent() -> None:
    visitor = view(line())["anonymous_id"]
    assert view(line("GET /b HTTP/1.1"))["anonymous_id"] == visitor
    assert view(line(agent="other"))["anonymous_id"] != visitor
    assert view(line().replace("83.149.9.216", "83.149.9.217"))["anonymous_id"] != visitor


def test_message_ids_are_of_file_line_and_content() -> None:
    assert message_id("a.log", 3, "x") == message_id("a.log", 3, "x")
    assert len({message_id(*parts) for parts in [("a", 3, "x"), ("b", 3, "x"), ("a", 4, "x"), ("a", 3, "y")]}) == 4
    assert view(line())["message_id"] == message_id("access.log", 7, line())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "blank"),
        ("  ", "blank"),
        (line("GET /a.PNG HTTP/1.1"), "asset"),
        (line("GET /favicon.ico HTTP/1.1"), "asset"),
        (line("GET /style.css?v=3 HTTP/1.1"), "asset"),
        (line("GET /robots.txt HTTP/1.1"), "robots"),
        (line("GET /index.rss HTTP/1.1"), "feed"),
        (line("GET /feed.xml HTTP/1.1"), "feed"),
        (line("GET /?flav=atom HTTP/1.1"), "feed"),
        (line("GET /blog/feed/ HTTP/1.1"), "feed"),
        (line("GET /paper.pdf HTTP/1.1"), "download"),
        (line("GET /x.tar.gz HTTP/1.1"), "download"),
        (line("HEAD /a HTTP/1.1"), "method"),
        (line("POST /a HTTP/1.1", 404), "method"),
        (line(status=206), "status"),
        (line(status=301), "status"),
        (line(status=404), "status"),
        (line("-", 408), "status"),
        (line(r"\x16\x03\x01", 400), "status"),
    ],
)
def test_what_is_no_page_view_is_filtered_with_its_reason(text: str, reason: str) -> None:
    assert parse(text, 1, "f") == Filtered(reason)


@pytest.mark.parametrize(
    "request_", ["GET / HTTP/1.0", "GET /a.html HTTP/1.1", "GET /v1.2/ HTTP/2.0", "GET /a?b=c.png"]
)
def test_pages_are_pages(request_: str) -> None:
    assert isinstance(parse(line(request_), 1, "f"), PageView)
    assert isinstance(parse(line(request_, status=304), 1, "f"), PageView)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (line()[:-1], "line"),
        ("what is this", "line"),
        (line(time="17/Mai/2015:10:05:03 +0000"), "occurred_at"),
        (line(time="32/May/2015:10:05:03 +0000"), "occurred_at"),
        (line("nonsense"), "request"),
    ],
)
def test_what_cannot_be_understood_is_rejected_naming_the_part(text: str, field: str) -> None:
    outcome = parse(text, 1, "f")
    assert isinstance(outcome, Rejected)
    assert outcome.field == field


def test_the_servers_escapes_are_undone() -> None:
    assert view(line(agent=r"a \"b\" \\ \xc3\xa9"))["user_agent"] == 'a "b" \\ é'
    assert view(line(agent=r"\xe4\xe5"))["user_agent"] == r"\xe4\xe5"  # bytes that are no UTF-8 stay as they are


def test_a_host_name_in_place_of_an_address_is_a_visitor_without_one() -> None:
    payload = view(line().replace("83.149.9.216", "host.example"))
    assert payload["ip"] is None
    assert payload["anonymous_id"]
