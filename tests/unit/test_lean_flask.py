"""The leaner Flask answers as Flask does."""

from __future__ import annotations

import io
from typing import Any

import pytest
from flask import Blueprint, Flask, Response, jsonify, redirect, request
from werkzeug.exceptions import HTTPException

from ingest.http.lean_flask import LeanFlask, LeanRequest


def build(kind: type[Flask]) -> Flask:
    """The same small application on either."""
    app = kind("test", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = 100
    part = Blueprint("part", __name__, url_prefix="/part")
    part.after_request(lambda response: _mark(response, "part"))
    app.after_request(lambda response: _mark(response, "app"))
    app.register_error_handler(HTTPException, lambda error: (f"oh {error.code}", error.code))

    @app.route("/echo", methods=["GET", "POST"])
    def echo() -> Response:
        return jsonify(args=request.args.to_dict(), body=request.get_data(as_text=True), path=request.path)

    @part.get("/pixel.gif")
    def pixel() -> Response:
        return Response(b"GIF89a", content_type="image/gif")

    app.add_url_rule("/there", view_func=lambda: redirect("/echo"), endpoint="there")
    app.add_url_rule("/plain/<name>", view_func=lambda name: name, endpoint="plain")
    app.register_blueprint(part)
    return app


def _mark(response: Response, name: str) -> Response:
    response.headers.add("X-Seen", name)
    return response


@pytest.mark.parametrize(
    ("method", "path", "options"),
    [
        ("GET", "/echo?a=1&a=2&b=%C3%BC", {}),
        ("POST", "/echo", {"data": b"x" * 100}),
        ("POST", "/echo", {"data": b"x" * 101}),
        ("HEAD", "/echo", {}),
        ("OPTIONS", "/echo", {}),
        ("PUT", "/echo", {}),
        ("GET", "/nothing", {}),
        ("GET", "/part/pixel.gif", {}),
        ("GET", "/there", {}),
        ("GET", "/plain/%C3%BC", {}),
        ("GET", "/plain//x", {}),
        ("GET", "//echo", {}),
        ("GET", "/echo", {"headers": {"Host": "shop.example:8000"}}),
    ],
)
def test_answers_are_those_of_flask(method: str, path: str, options: dict[str, Any]) -> None:
    lean, full = (build(kind).test_client().open(path, method=method, **options) for kind in (LeanFlask, Flask))
    assert (lean.status, lean.data) == (full.status, full.data)
    ours, theirs = ({k: v for k, v in r.headers if k != "Content-Type"} for r in (lean, full))
    assert ours == theirs


def environ(body: bytes, length: str | None) -> dict[str, Any]:
    given = {"REQUEST_METHOD": "POST", "wsgi.input": io.BytesIO(body), "wsgi.url_scheme": "http"}
    return given if length is None else given | {"CONTENT_LENGTH": length}


def test_a_body_is_read_up_to_its_stated_length() -> None:
    assert LeanRequest(environ(b"abcdef", "3")).read(10) == b"abc"


@pytest.mark.parametrize(("length", "code"), [("11", 413), ("9" * 15, 413), ("7", 400)])
def test_a_body_too_long_or_cut_off_is_refused(length: str, code: int) -> None:
    with pytest.raises(HTTPException) as caught:
        LeanRequest(environ(b"abcdef", length)).read(10)
    assert caught.value.code == code


def test_a_body_in_chunks_is_read_whole_or_refused() -> None:
    ended = {"wsgi.input_terminated": True}
    assert LeanRequest(environ(b"abcdef", None) | ended).read(6) == b"abcdef"
    assert LeanRequest(environ(b"abcdef", None)).read(6) == b"", "nobody can tell where it ends"
    with pytest.raises(HTTPException) as caught:
        LeanRequest(environ(b"abcdef", None) | ended).read(5)
    assert caught.value.code == 413


def test_a_request_without_a_query_has_no_parameters() -> None:
    assert LeanRequest(environ(b"", "0")).query.get("a") is None
    assert LeanRequest(environ(b"", "0") | {"QUERY_STRING": "a=1"}).query.get("a") == "1"
