"""Client hints: what browsers say of themselves beside an agent that no longer changes."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from infra.settings.collector import Collector
from ingest.errors import InvalidEvent
from ingest.event import codec, enrich, hints
from ingest.event.context import Context
from ingest.event.event import Device
from ingest.event.hints import Hints
from ingest.protocols import native
from tests.fakes import FakePublisher
from tests.support.tracked import client_of

NOW = 1_795_260_000_000
ENGINE = "AppleWebKit/537.36 (KHTML, like Gecko)"
WINDOWS = f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {ENGINE} Chrome/126.0.0.0 Safari/537.36"
LINUX = f"Mozilla/5.0 (X11; Linux x86_64) {ENGINE} Chrome/126.0.0.0 Safari/537.36"
UBUNTU = f"Mozilla/5.0 (X11; Ubuntu; Linux x86_64) {ENGINE} Chrome/126.0.0.0 Safari/537.36"
MAC = f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {ENGINE} Chrome/126.0.0.0 Safari/537.36"
PHONE = f"Mozilla/5.0 (Linux; Android 10; K) {ENGINE} Chrome/126.0.0.0 Mobile Safari/537.36"
TABLET = f"Mozilla/5.0 (Linux; Android 10; K) {ENGINE} Chrome/126.0.0.0 Safari/537.36"
WEBVIEW = f"Mozilla/5.0 (Linux; Android 14; Pixel 8; wv) {ENGINE} Version/4.0 Chrome/126.0.6478.71 Mobile Safari/537.36"
EDGE = f"{WINDOWS} Edg/126.0.0.0"
EDGE_PHONE = f"{PHONE} EdgA/126.0.0.0"
SAFARI = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/17.4 Safari/605.1.15"

BRAVE_SAYS = '"Not/A)Brand";v="8", "Chromium";v="126", "Brave";v="126"'
CHROME_SAYS = '"Not/A)Brand";v="8", "Chromium";v="126", "Google Chrome";v="126"'
EDGE_SAYS = '"Not/A)Brand";v="8", "Chromium";v="126", "Microsoft Edge";v="126"'
OPERA_SAYS = '"Opera";v="112", "Chromium";v="126", "Not;A=Brand";v="8"'
SAMSUNG_SAYS = r'"Samsung Internet";v="25.0", "Not\\A\"Brand";v="99", "Chromium";v="121"'


def headers(brands: str, mobile: str = "?0", platform: str = "", **more: str) -> dict[str, str]:
    """As a browser sends them; `more`: those that a page asked for, of which underscores are hyphens."""
    asked = {f"Sec-CH-UA-{name.replace('_', '-')}": value for name, value in more.items()}
    return {"Sec-CH-UA": brands, "Sec-CH-UA-Mobile": mobile, "Sec-CH-UA-Platform": f'"{platform}"'} | asked


def of(sent: dict[str, str]) -> Hints | None:
    return hints.of_request({f"HTTP_{name.upper().replace('-', '_')}": value for name, value in sent.items()})


def told(agent: str | None, sent: dict[str, str]) -> tuple[str | None, str | None, str | None]:
    device = enrich.device(agent, of(sent))
    return device.browser, device.os, device.type


@pytest.mark.parametrize(
    ("agent", "sent", "browser"),
    [
        (WINDOWS, headers(BRAVE_SAYS), "Brave"),
        (WINDOWS, headers(CHROME_SAYS), "Chrome"),
        (PHONE, headers(CHROME_SAYS, "?1"), "Chrome Mobile"),
        (WINDOWS, headers(EDGE_SAYS), "Edge"),
        (EDGE, headers(EDGE_SAYS), "Edge"),
        (EDGE_PHONE, headers(EDGE_SAYS, "?1"), "Edge Mobile"),
        (PHONE, headers(EDGE_SAYS, "?1"), "Edge Mobile"),
        (WINDOWS, headers(OPERA_SAYS), "Opera"),
        (PHONE, headers(SAMSUNG_SAYS, "?1"), "Samsung Internet"),
        (LINUX, headers('"Chromium";v="124", "YaBrowser";v="24.6", "Not-A.Brand";v="99"'), "Yandex Browser"),
        (LINUX, headers('"Not A Brand";v="99", "Chromium";v="126"'), "Chrome"),
        (WEBVIEW, headers('"Android WebView";v="126", "Chromium";v="126"', "?1"), "Chrome Mobile WebView"),
        (SAFARI, headers(CHROME_SAYS), "Chrome"),
        (None, headers(CHROME_SAYS), "Chrome"),
    ],
)
def test_the_brand_names_the_browser(agent: str | None, sent: dict[str, str], browser: str) -> None:
    assert told(agent, sent)[0] == browser


@pytest.mark.parametrize(
    ("agent", "sent", "os"),
    [
        (WINDOWS, headers(CHROME_SAYS, platform="Windows"), "Windows"),
        (WINDOWS, headers(CHROME_SAYS, platform="Windows", Platform_Version='"10.0.0"'), "Windows"),
        (WINDOWS, headers(CHROME_SAYS, platform="Windows", Platform_Version='"13.0.0"'), "Windows 11"),
        (WINDOWS, headers(CHROME_SAYS, platform="Windows", Platform_Version='"15.0.0"'), "Windows 11"),
        (WINDOWS, headers(CHROME_SAYS, platform="Windows", Platform_Version='""'), "Windows"),
        (WINDOWS, headers(CHROME_SAYS, platform="macOS", Platform_Version='"14.5.0"'), "Mac OS X"),
        (UBUNTU, headers(CHROME_SAYS, platform="Linux"), "Ubuntu"),
        (WINDOWS, headers(CHROME_SAYS, platform="Linux"), "Linux"),
        (LINUX, headers(CHROME_SAYS, platform="Chromium OS"), "Chrome OS"),
        (MAC, headers(CHROME_SAYS, platform="Unknown"), "Mac OS X"),
    ],
)
def test_the_platform_names_the_system(agent: str, sent: dict[str, str], os: str) -> None:
    assert told(agent, sent)[1] == os


@pytest.mark.parametrize(
    ("agent", "sent", "kind"),
    [
        (WINDOWS, headers(CHROME_SAYS, platform="Windows", Platform_Version='"15.0.0"'), "desktop"),
        (PHONE, headers(CHROME_SAYS, "?1", "Android"), "mobile"),
        (TABLET, headers(CHROME_SAYS, "?0", "Android"), "tablet"),
        (TABLET, headers(CHROME_SAYS, "?1", "Android"), "mobile"),
        (PHONE, headers(CHROME_SAYS, "?0", "Android"), "tablet"),
        (PHONE, headers(CHROME_SAYS, "?1", "Android", Model='"Pixel Tablet"'), "tablet"),
        (PHONE, headers(CHROME_SAYS, "?1", "Android", Model='"Pixel 8"'), "mobile"),
        (LINUX, headers(CHROME_SAYS, "?0", "Linux", Form_Factors='"Tablet", "EInk"'), "tablet"),
        (LINUX, headers(CHROME_SAYS, "?0", "Linux", Form_Factors='"XR"'), "other"),
        (LINUX, headers('"Chromium";v="126", "HeadlessChrome";v="126"', platform="Linux"), "bot"),
    ],
)
def test_mobile_model_and_form_name_the_kind_of_device(agent: str, sent: dict[str, str], kind: str) -> None:
    assert told(agent, sent)[2] == kind


def test_a_bot_stays_a_bot_whatever_its_hints_say() -> None:
    bot = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
    device = enrich.device(bot, of(headers(CHROME_SAYS, "?1", "Android")))
    assert (device.is_bot, device.type) == (True, "bot")


def test_a_model_that_is_no_name_changes_no_agent() -> None:
    evil = headers(CHROME_SAYS, "?1", "Android", Model='"x) Googlebot/2.1 ("')
    assert told(PHONE, evil) == ("Chrome Mobile", "Android", "mobile")


@pytest.mark.parametrize(
    "broken",
    ["", '"Brave', "Brave", '"Brave";v="1",', '"Brave";v=", "x"', '"Brave" "x"', '"Br\u00e4ve"', "," * 400, '"' * 600],
)
def test_a_header_that_is_broken_anywhere_says_nothing(broken: str) -> None:
    assert of(headers(broken, mobile="1", platform='"')) == Hints()


def test_a_structured_list_is_read_with_escapes_and_parameters() -> None:
    found = of(headers(r'"a\"b\\c";v="1, 2";w;x=?1 ,"Brave";v=12'))
    assert found is not None and found.brands == ('a"b\\c', "Brave")


def test_the_list_with_whole_versions_serves_where_the_other_is_broken() -> None:
    found = of(headers("", Full_Version_List='"Not/A)Brand";v="8.0.0.0", "Brave";v="126.0.0.0"'))
    assert found is not None and found.brands == ("Not/A)Brand", "Brave")


def test_a_request_without_hints_has_none() -> None:
    assert of({"User-Agent": "Mozilla/5.0", "Sec-GPC": "1"}) is None


BRAVE = {"brands": [{"brand": "Brave", "version": "126"}], "mobile": False, "platform": "Windows"}
LIVE = Context("shop", NOW, user_agent=WINDOWS, hints=of(headers(OPERA_SAYS, "?0", "Windows", Platform_Version='"15"')))


def device(context: Context = LIVE, **fields: Any) -> Device:
    payload = {"event_type": "page_view", "occurred_at": NOW, "anonymous_id": "v1"} | fields
    return native.parse(payload, context).device


def test_an_events_own_hints_go_before_those_of_its_request() -> None:
    assert (device().browser, device().os) == ("Opera", "Windows 11")
    own = device(user_agent_data=BRAVE)
    assert (own.browser, own.os) == ("Brave", "Windows 11"), "where its own say nothing, the request's hold"


def test_a_requests_hints_are_none_of_another_agent() -> None:
    assert device(user_agent=MAC) == enrich.device(MAC)
    assert device(user_agent=WINDOWS).browser == "Opera", "its own agent, told twice"
    assert device(Context("shop", NOW, hints=LIVE.hints)) == Device(), "a server's tracker"
    assert device(Context("shop", NOW, user_agent=WINDOWS, hints=LIVE.hints, run="history")) == Device()
    assert device(Context("shop", NOW, run="history"), user_agent=MAC, user_agent_data=BRAVE).browser == "Brave"


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"brands": "Brave"}, "user_agent_data.brands"),
        ({"brands": [{"brand": "x" * 65}]}, "user_agent_data.brands"),
        ({"mobile": "?1"}, "user_agent_data.mobile"),
        ("Brave", "user_agent_data"),
    ],
)
def test_native_hints_that_are_wrong_are_named(wrong: object, field: str) -> None:
    with pytest.raises(InvalidEvent) as raised:
        device(user_agent_data=wrong)
    assert raised.value.field == field


def test_of_a_trackers_hints_what_can_be_read_is() -> None:
    assert hints.readable(BRAVE | {"mobile": "no", "bitness": "64"}) == {k: BRAVE[k] for k in ("brands", "platform")}
    assert hints.readable({"brands": 7}) is None
    assert hints.readable("[redacted]") is None


# Through the app


@pytest.fixture
def publisher() -> FakePublisher:
    return FakePublisher()


@pytest.fixture
def client(publisher: FakePublisher) -> FlaskClient:
    return client_of(Collector(), publisher)


def stored(publisher: FakePublisher) -> Device:
    [value] = publisher.on("clicks")
    return codec.decode(value).device


def test_the_hints_of_a_pages_request_are_in_its_event(client: FlaskClient, publisher: FakePublisher) -> None:
    event = {"event_type": "page_view", "occurred_at": NOW, "anonymous_id": "v1"}
    sent = headers(BRAVE_SAYS, "?0", "Windows", Platform_Version='"15.0.0"')
    answer = client.post("/collect", json=event, headers=sent | {"X-Write-Key": "demo", "User-Agent": WINDOWS})
    assert answer.status_code == 200
    assert stored(publisher) == Device("Brave", "Windows 11", "desktop", False)


def test_segments_hints_are_read_and_stay_a_property(client: FlaskClient, publisher: FakePublisher) -> None:
    about = {"userAgent": WINDOWS, "userAgentData": BRAVE | {"architecture": 86}}
    message = {"messageId": "m1", "anonymousId": "v1", "event": "Seen", "context": about, "writeKey": "demo"}
    assert client.post("/v1/t", json=message, headers={"User-Agent": "analytics-node/3.1"}).status_code == 200
    [value] = publisher.on("clicks")
    assert codec.decode(value).device == Device("Brave", "Windows", "desktop", False)
    assert json.loads(codec.decode(value).properties["context.userAgentData"]) == about["userAgentData"]


def test_snowplows_context_of_hints_is_read(client: FlaskClient, publisher: FakePublisher) -> None:
    data = {"isMobile": True, "brands": [{"brand": "Microsoft Edge", "version": "126"}], "platform": "Android"}
    context = {"schema": "iglu:org.ietf/http_client_hints/jsonschema/1-0-0", "data": data}
    contexts = {"schema": "iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-0", "data": [context]}
    query = {"e": "pv", "eid": "e1", "aid": "demo", "cx": base64.urlsafe_b64encode(json.dumps(contexts).encode())}
    assert client.get("/i", query_string=query, headers={"User-Agent": TABLET}).status_code == 200
    assert stored(publisher) == Device("Edge Mobile", "Android", "mobile", False)


def test_a_servers_hints_are_not_its_visitors(client: FlaskClient, publisher: FakePublisher) -> None:
    message = {"messageId": "m1", "anonymousId": "v1", "event": "Seen", "writeKey": "demo"}
    answer = client.post("/v1/t", json=message, headers=headers(BRAVE_SAYS) | {"User-Agent": "analytics-node/3.1"})
    assert answer.status_code == 200
    assert stored(publisher) == Device()
