"""What hostile requests are made of: routes, values of JSON, parts of query strings, headers."""

from __future__ import annotations

import base64

from ingest.protocols.segment import KINDS
from ingest.protocols.snowplow import TP2

KEY = "hostile-key"
WITH_KEY = ((b"X-Write-Key", KEY.encode()),)
PAGE = ((b"Origin", b"https://shop.example"),)
BATCHES = ("/collect", "/v1/batch", "/v1/import", "/v1/b", "/batch/", "/beacon/v1/batch", TP2)
POSTED = (*BATCHES, *(f"/v1/{kind}" for kind in KINDS), *(f"/v1/{kind[0]}" for kind in KINDS))
LINES = "/collect/access-log?source=x"
PIXELS = ("/i", "/pixel.gif")
ROUTES = (
    *POSTED,
    LINES,
    *PIXELS,
    "/metrics",
    "/healthz",
    "/readyz",
    "/",
    "/none",
    "/v1/",
    "/v1/batch/x",
    "/collect/",
    "/static/x",
)
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "BREW", "get")
NOW = 1_795_260_000_000
CLICK = {"event_type": "click", "occurred_at": NOW, "anonymous_id": "v1"}
LIMIT = 8 << 20  # the default of collector.max_body_bytes

# Whatever stands in a field of JSON.
VALUES = [
    "null", "true", "0", "-0", "-1", "1.5", "1e400", "-1e400", "1e-400", "NaN", "Infinity", '""', '"x"', "[]", "{}",
    "01", "'x'", '"\\ud800"', '"\\udfff\\ud800"', '"\\u0000"', '"\x00"', '"\\x"', '"a\tb"', '{"":""}',
    '{"a":{"b":[1,{"c":1e400}]}}', "1" + "0" * 30, "1" + "0" * 400, "9" * 5000, "9223372036854775808",
    "-9223372036854775809", "0.1" + "1" * 500, '"2015-05-17T10:05:03Z"', '"0001-01-01T00:00:00+23:59"',
    '"9999-12-31T23:59:59-23:59"', '"2015-02-30T00:00:00Z"', '"-2015-05-17T10:05:03Z"', '"2015-W20"',
    '"\uff12\uff10\uff11\uff15-05-17T10:05:03Z"', "253402300799999",
    "-62135596800001", '"300.1.1.1"', '"2001:db8::1%eth0"',
    '"::ffff:1.2.3.4"', '"' + ":" * 50 + '"', '{"url":"https://[x/?utm_source=%ff"}', '{"url":"http://[::1]:99999/"}',
    '{"url":"//\\u0000"}', '{"a":"\\ud800"}', '{"\\ud800":"a"}', '{"__proto__":{"x":1}}', '{"a":1,"a":2,"a":{}}',
    '{"' + "k" * 5000 + '":1}', '"' + "é" * 9000 + '"', '"' + "\U0001f600" * 3000 + '"', '"' + "x" * 70_000 + '"',
    "[" * 300 + "]" * 300, "[" * 3000 + "]" * 3000, '{"a":' * 200 + "1" + "}" * 200, '"${jndi:ldap://x.example/a}"',
    "\"' OR 1=1; DROP TABLE events; --\"", '"a\\nlevel=error msg=forged\\r\\nX: y"',
    '"{{7*7}}<script>alert(1)</script>"', '"../../../../etc/passwd"', '"%s%n%x{0}{x.__class__}"',
    '"\\u202e\\ufeff\\u2028"', '["a",1,null,{}]', "[" + ",".join(["1"] * 300) + "]",
    '{"schema":"iglu:a/b/jsonschema/1-0-0","data":[]}',
    '{"products":[' + ",".join(['{"product_id":"a","price":1e308,"quantity":9}'] * 60) + "]}", '{"products":{}}',
]  # fmt: skip
FIELDS = [
    "event_type", "occurred_at", "anonymous_id", "event_name", "message_id", "sent_at", "sequence", "user_id", "page",
    "client_session_id", "campaign", "consent", "user_agent", "ip", "sdk", "item_id", "list_id", "position", "value",
    "propensity", "order_id", "currency", "quantity", "experiments", "properties", "write_key", "batch", "page.url",
    "type", "event", "messageId", "anonymousId", "userId", "timestamp", "originalTimestamp", "sentAt", "context",
    "traits", "integrations", "previousId", "groupId", "uuid", "distinct_id", "e", "eid", "aid", "dtm", "stm", "ttm",
    "ue_px", "ue_pr", "cx", "co", "duid", "url", "refr", "ti_pr", "ti_qu", "tr_tt", "se_ca", "se_ac", "se_va", "p",
    "tv", "data", "anonymous", "", "__class__", "a" * 600, "\\u0000", "\\ud800",
]  # fmt: skip
# Parts of a query string, and of a header.
QUERIES = [
    "%", "%zz", "%00", "%ff%fe", "%ed%a0%80", "+", "=", "&&&", "a=" + "b" * 9000, "run=" + "r" * 60_000,
    "run=%0a%0dforged", "source=%00", "source=../../x", "first_line=-1", "first_line=9e9", "first_line=%EF%BC%91",
    "first_line=999999999999999", "write_key=" + KEY, "writeKey=" + KEY, "write_key=none", "write_key=%ff",
    "data=%7B%7D", "data=e30", "data=" + "A" * 5000, "value=nan", "value=1e999", "value=%D9%A1", "position=1_0",
    "occurred_at=" + "9" * 400, "event_type=\u00e9", "e=pv&aid=" + KEY, "e=ue&ue_px=AAAA&aid=" + KEY,
    "e=ue&ue_pr=%7B%22data%22%3A7%7D&aid=" + KEY, "e=se&aid=" + KEY, "e=ti&aid=" + KEY, "e=tr&tr_tt=NaN&aid=" + KEY,
    "e=pv&dtm=" + "9" * 30 + "&aid=" + KEY, "e=pv&cx=%00&aid=" + KEY, "e[]=pv", ";;;", "a[b][c]=1",
]  # fmt: skip
HEADERS = [
    (b"Content-Type", b"application/x-ndjson"), (b"Content-Type", b"multipart/form-data"),
    (b"Content-Type", b";;=\xff"), (b"Content-Type", b"text/plain; charset=utf-7"),
    (b"Content-Encoding", b"gzip, gzip, br"), (b"Cookie", b"=;=;;a"), (b"Cookie", b'clickstream_id="\\377\\000'),
    (b"Cookie", b"clickstream_id=" + b"x" * 4000), (b"Cookie", b"\xff\xfe=\x80"),
    (b"Cookie", b"clickstream_id=aaaaaaaa; clickstream_id=bbbbbbbb"), (b"Authorization", b"Basic"),
    (b"Authorization", b"Basic !!!"), (b"Authorization", b"Basic " + base64.b64encode(b"\xff\xfe:")),
    (b"Authorization", b"Basic " + b"QUFB" * 2000), (b"Authorization", b"Digest username=\"\xff, realm=,,,"),
    (b"Authorization", b"Bearer \xe9"), (b"Authorization", b"\t"), (b"X-Write-Key", b"\xff"), (b"X-Write-Key", b""),
    (b"X-Write-Key", KEY.encode()), (b"Origin", b"https://shop.example"), (b"Origin", b"null"),
    (b"Origin", b"\xff\xfe"), (b"Origin", b"https://x.example\tY"), (b"Origin", b"x" * 5000),
    (b"Access-Control-Request-Headers", b"x" * 5000), (b"Access-Control-Request-Headers", b"\xe9, \xff"),
    (b"Access-Control-Request-Headers", b"a\tb"), (b"Access-Control-Request-Method", b"\xff"),
    (b"User-Agent", b"\xff\x80"), (b"User-Agent", b"Mozilla/5.0 " + b"(" * 5000),
    (b"User-Agent", b"${jndi:ldap://x.example/a}"), (b"Referer", b"http://[x/\xff"), (b"DNT", b"1"),
    (b"Sec-GPC", b"1"), (b"SP-Anonymous", b"*"), (b"X-Forwarded-For", b"1.2.3.4, \xff"), (b"Range", b"bytes=0-"),
    (b"If-None-Match", b"*"), (b"Accept-Encoding", b"\xff"), (b"Expect", b"200-ok"), (b"Upgrade", b"h2c"),
    (b"X-\xc3\xa9", b"x"), (b"X_Write_Key", KEY.encode()), (b"Forwarded", b"for=\"_x\""),
    (b"Sec-CH-UA", b'"x";v=\xff'), (b"Content-Language", b"\x01"),
]  # fmt: skip
