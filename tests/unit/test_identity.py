"""Write keys, cookies and sessions."""

from __future__ import annotations

from itertools import count

import pytest
from werkzeug.http import parse_cookie

from infra.settings.collector import Cookie, WriteKey
from ingest.event.identity import Browser, KeyRing, with_visitor

NOW = 1_795_245_567_000
KEYS = {
    "shop": WriteKey(secret="secret-1", origins=("https://shop.example",)),
    "app": WriteKey(secret="gehëim"),
}
RING = KeyRing(KEYS)
ID = "0198-visitor"
MINUTE = 60_000


def browser(cookies: dict[str, str] | None = None, now: int = NOW, anonymous: bool = False, **rules: object) -> Browser:
    numbers = count(1)
    return Browser(
        Cookie.model_validate(rules), cookies or {}, now, anonymous=anonymous, new_id=lambda: f"new-id-{next(numbers)}"
    )


def stored(visit: Browser) -> dict[str, str]:
    """The cookies that a browser has after the answer."""
    return {name: value for line in visit.set_cookies() for name, value in parse_cookie(line.split(";")[0]).items()}


@pytest.mark.parametrize(
    ("secret", "name"),
    [
        ("secret-1", "shop"),
        ("gehëim", "app"),
        ("shop", None),
        ("secret-", None),
        ("", None),
        (None, None),
        ("\ud800", None),
    ],
)
def test_a_key_is_known_by_its_secret_only(secret: str | None, name: str | None) -> None:
    assert RING.resolve(secret) == name


@pytest.mark.parametrize(
    ("key", "origin", "allowed"),
    [
        ("shop", "https://shop.example", True),
        ("shop", "HTTPS://Shop.example", True),
        ("shop", "https://everywhere.example", True),
        ("shop", "https://evil.example", False),
        ("shop", "null", False),
        ("shop", None, True),
        ("app", "https://evil.example", True),
    ],
)
def test_a_key_with_origins_is_for_their_pages(key: str, origin: str | None, allowed: bool) -> None:
    assert RING.allows(key, origin, frozenset({"https://everywhere.example"})) is allowed
    assert RING.origins == {"https://shop.example"}


def test_a_new_browser_gets_a_cookie_that_only_the_collector_reads() -> None:
    visit = browser(domain="shop.example")
    assert visit.anonymous_id() == visit.anonymous_id() == "new-id-1"
    assert visit.set_cookies() == [
        "clickstream_id=new-id-1; Domain=shop.example; Max-Age=34128000; Secure; HttpOnly; Path=/; SameSite=Lax"
    ]


def test_a_browser_that_comes_back_is_known_and_its_cookie_lives_on() -> None:
    visit = browser({"clickstream_id": ID})
    assert visit.anonymous_id() == ID
    assert stored(visit) == {"clickstream_id": ID}


def test_no_cookie_is_set_where_no_event_asked() -> None:
    assert browser({"clickstream_id": ID}).set_cookies() == []


@pytest.mark.parametrize("forged", ["short", "x" * 129, "a b c d e f g", "ev\x00il-value", 'quo"ted-value'])
def test_a_cookie_that_is_no_id_of_ours_is_replaced(forged: str) -> None:
    assert browser({"clickstream_id": forged}).anonymous_id() == "new-id-1"


def test_without_days_there_are_no_cookies() -> None:
    visit = browser({"clickstream_id": ID}, days=0, session_minutes=30)
    assert (visit.anonymous_id(), visit.session_id(), visit.set_cookies()) == (None, None, [])


def test_the_anonymous_get_no_id_and_lose_their_cookies() -> None:
    visit = browser({"clickstream_id": ID, "clickstream_id_session": f"{ID}.{NOW}"}, anonymous=True, session_minutes=30)
    assert (visit.anonymous_id(), visit.session_id()) == (None, None)
    assert stored(visit) == {"clickstream_id": "", "clickstream_id_session": ""}
    assert all("Max-Age=0" in line for line in visit.set_cookies())
    assert browser(anonymous=True).set_cookies() == []


@pytest.mark.parametrize(
    ("last", "goes_on"),
    [(NOW, True), (NOW - 30 * MINUTE, True), (NOW - 30 * MINUTE - 1, False), (NOW + 1, False)],
)
def test_a_session_ends_by_inactivity(last: int, goes_on: bool) -> None:
    visit = browser({"clickstream_id_session": f"session-1.{last}"}, session_minutes=30)
    assert visit.session_id() == ("session-1" if goes_on else "new-id-1")
    assert stored(visit)["clickstream_id_session"] == f"{visit.session_id()}.{NOW}"


def test_each_event_prolongs_the_session() -> None:
    first = browser(session_minutes=30)
    session = first.session_id()
    cookies = stored(first)
    for step in range(1, 4):
        visit = browser(cookies, NOW + step * 20 * MINUTE, session_minutes=30)
        assert visit.session_id() == session
        cookies = stored(visit)


@pytest.mark.parametrize("broken", ["", "x.1", "session-1", "session-1.", "session-1.1e5", "session-1.٣"])
def test_a_broken_session_is_a_new_one(broken: str) -> None:
    assert browser({"clickstream_id_session": broken}, session_minutes=30).session_id() == "new-id-1"


@pytest.mark.parametrize("own", [{"anonymous_id": "mine"}, {"anonymous_id": None, "user_id": "u"}])
def test_the_clients_own_ids_are_respected(own: dict[str, object]) -> None:
    visit = browser({"clickstream_id": ID})
    assert with_visitor(own, visit) is own
    assert visit.set_cookies() == []


def test_an_event_that_names_nobody_is_the_browsers() -> None:
    visit = browser({"clickstream_id": ID}, session_minutes=30)
    assert with_visitor({"event_type": "click"}, visit) == {
        "event_type": "click",
        "anonymous_id": ID,
        "client_session_id": "new-id-1",
    }
    assert with_visitor({"client_session_id": "mine"}, visit)["client_session_id"] == "mine"
    assert with_visitor({"user_id": "u"}, visit)["anonymous_id"] == ID, "which links the two"


def test_of_the_anonymous_an_event_that_names_nobody_has_no_visitor() -> None:
    assert with_visitor({"event_type": "click"}, browser({"clickstream_id": ID}, anonymous=True)) == {
        "event_type": "click",
        "anonymous_id": None,
    }


def test_without_cookies_a_missing_visitor_stays_missing() -> None:
    assert with_visitor({"event_type": "click"}, browser(days=0)) == {"event_type": "click"}
