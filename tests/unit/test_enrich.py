"""What is read from an event's own data."""

from __future__ import annotations

import pytest

from ingest.event import enrich

IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 Version/17.5 Mobile Safari/604.1"
IPAD = "Mozilla/5.0 (iPad; CPU OS 6_0_1 like Mac OS X) AppleWebKit/536.26 Version/6.0 Mobile/10A523 Safari/8536.25"
CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36"


@pytest.mark.parametrize(
    ("agent", "kind", "is_bot"),
    [
        (CHROME, "desktop", False),
        (IPHONE, "mobile", False),
        (IPAD, "tablet", False),
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "bot", True),
        ("Tiny Tiny RSS/1.11 (http://tt-rss.org/)", "bot", True),
        ("curl/7.22.0", "bot", True),
        ("something new", "other", False),
        ("-", None, False),
        (None, None, False),
    ],
)
def test_devices_and_bots_are_told_by_their_agent(agent: str | None, kind: str | None, is_bot: bool) -> None:
    device = enrich.device(agent)
    assert (device.type, device.is_bot) == (kind, is_bot)


def test_browser_and_system_are_families() -> None:
    assert (enrich.device(CHROME).browser, enrich.device(CHROME).os) == ("Chrome", "Windows")


@pytest.mark.parametrize(
    ("url", "campaign"),
    [
        ("/?utm_source=News&UTM_Medium=mail&x=1&gclid=x", {"source": "News", "medium": "mail", "gclid": "x"}),
        ("https://a.example/?utm_source=a&utm_source=b", {"source": "a"}),
        ("https://a.example/?utm_=a&utm_term=", {}),
        ("https://a.example/", {}),
        ("http://[broken/?utm_source=a", {}),
        ("https://a.example/?" + "&".join(f"a{n}=1" for n in range(300)), {}),
        (None, {}),
    ],
)  # fmt: skip
def test_campaigns_are_in_the_query(url: str | None, campaign: dict[str, str]) -> None:
    assert enrich.campaign(url) == campaign


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://a.example/b/c?d#e", "/b/c"),
        ("/b?c", "/b"),
        ("/b%20c/%C3%A9", "/b c/é"),
        ("/a%2Fb/c", "/a%2Fb/c"),
        ("/a%00/b", "/a%00/b"),
        ("/a%ff", "/a%ff"),
        ("/100%", "/100%"),
        ("//favicon", "/favicon"),
        ("https://a.example", None),
        ("http://[broken", None),
    ],
)
def test_a_path_has_no_query_and_one_spelling(url: str, path: str | None) -> None:
    assert enrich.page_path(url) == path


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.77", "203.0.113.0"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::"),
        ("::ffff:203.0.113.77", "203.0.113.0"),
        ("fe80::1%eth0", "fe80::"),
    ],
)
def test_an_address_is_cut_to_its_network(address: str, network: str) -> None:
    assert enrich.anonymize_ip(address) == network


def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(ValueError, match="does not appear"):
        enrich.anonymize_ip("example.com")
