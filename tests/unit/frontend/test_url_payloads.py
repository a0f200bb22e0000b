"""Payload format 2.0 in both directions, where URLs are, and what web pages may, as tables."""

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from lambent_frontend.urls import cors
from lambent_frontend.urls.answer import MOST_PARSED, Malformed, interpreted
from lambent_frontend.urls.event import UrlRequest, event
from lambent_frontend.urls.hosts import Hosts, is_base
from lambent_proto.urls import Cors

ASKED = UrlRequest(
    method="POST",
    path="/p",
    query="",
    fields=[(b"host", b"id.lambda-url.localhost:9000")],
    body=b"",
    request_id="12345678-1234-4234-a234-123456789012",
    at=1_583_348_638.39,
    source="192.0.2.1",
    url_id="id",
    domain="lambda-url.localhost",
    port=9000,
)


def told(**fields: Any) -> Any:
    return json.loads(event(replace(ASKED, **fields)))


def with_headers(*fields: tuple[bytes, bytes]) -> Any:
    return told(fields=fields)["headers"]


def test_the_least_there_is() -> None:
    """What was not sent is not there; stages and path parameters are API Gateway's alone."""
    assert told() == {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/p",
        "rawQueryString": "",
        "headers": {
            "host": "id.lambda-url.localhost:9000",
            "x-forwarded-for": "192.0.2.1",
            "x-forwarded-proto": "http",
            "x-forwarded-port": "9000",
            "x-amzn-trace-id": "Root=1-12345678-12344234a234123456789012",
        },
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "id",
            "domainName": "id.lambda-url.localhost",
            "domainPrefix": "id",
            "http": {
                "method": "POST",
                "path": "/p",
                "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.1",
                "userAgent": "",
            },
            "requestId": ASKED.request_id,
            "routeKey": "$default",
            "stage": "$default",
            "time": "04/Mar/2020:19:03:58 +0000",
            "timeEpoch": 1583348638390,
        },
        "isBase64Encoded": False,
    }


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("a=1&b=2", {"a": "1", "b": "2"}),
        ("a=1&a=2&a", {"a": "1,2,"}),
        ("a%20b=c%26d", {"a b": "c&d"}),
        ("a=%ff", {"a": "�"}),
        ("=x", {"": "x"}),
    ],
)
def test_the_query(query: str, expected: dict[str, str]) -> None:
    made = told(query=query)
    assert (made["rawQueryString"], made["queryStringParameters"]) == (query, expected)


def test_headers_that_came_several_times() -> None:
    headers = with_headers((b"a", b"1"), (b"b", b"x"), (b"a", b"2, 3"))
    assert (headers["a"], headers["b"]) == ("1,2, 3", "x")


def test_headers_about_the_connection_are_not_the_function_s() -> None:
    headers = with_headers((b"connection", b"keep-alive, x-a"), (b"te", b"trailers"), (b"upgrade", b"h2c"))
    assert not headers.keys() & {"connection", "te", "upgrade"}


def test_what_proxies_say_is_kept() -> None:
    """Who is nearest stands at the end: what stands before it, its sender has said."""
    sent = (
        (b"x-forwarded-for", b"203.0.113.9"),
        (b"x-forwarded-proto", b"https"),
        (b"x-forwarded-port", b"443"),
    )
    headers = with_headers(*sent)
    assert headers["x-forwarded-for"] == "203.0.113.9, 192.0.2.1"
    assert (headers["x-forwarded-proto"], headers["x-forwarded-port"]) == ("https", "443")


@pytest.mark.parametrize("value", ["ä".encode(), "ä".encode("latin-1")])
def test_headers_in_utf_8_or_latin_1(value: bytes) -> None:
    assert with_headers((b"a", value))["a"] == "ä"


@pytest.mark.parametrize("sent", ["€".encode(), b"a" * 1025, b"a\tb", b""])
def test_a_trace_that_cannot_go_back_is_another(sent: bytes) -> None:
    """It is a header of the answer as well."""
    assert with_headers((b"x-amzn-trace-id", sent))["x-amzn-trace-id"].startswith("Root=1-12345678-")


def test_cookies() -> None:
    made = told(fields=[(b"cookie", b"a=1; b=2;"), (b"cookie", b" c=3")])
    assert made["cookies"] == ["a=1", "b=2", "c=3"]
    assert "cookies" not in told(fields=[(b"cookie", b" ; ")])


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        (b"application/json", b"{}", "{}"),
        (b"Application/JSON; charset=utf-8", b"{}", "{}"),
        (b"application/problem+json", b"{}", "{}"),
        (b"image/svg+xml", b"<svg/>", "<svg/>"),
        (b"text/csv", "ä".encode(), "ä"),
        (b"text/plain", b"\xff", None),
        (b"application/octet-stream", b"a", None),
        (b"application/x-www-form-urlencoded", b"a=1", None),
        (b"multipart/form-data; boundary=b", b"a", None),
        (b"", b"a", None),
    ],
)
def test_the_body(content_type: bytes, body: bytes, text: str | None) -> None:
    made = told(fields=[(b"content-type", content_type)], body=body)
    assert made["isBase64Encoded"] is (text is None)
    assert made["body"] == (base64.b64encode(body).decode() if text is None else text)


def test_who_signed() -> None:
    """The function hears whose key it was, and does not get the signature."""
    made = told(key_id="LAKEY", fields=[(b"authorization", b"AWS4-HMAC-SHA256 ...")])
    assert made["requestContext"]["accountId"] == "000000000000"
    iam = made["requestContext"]["authorizer"]["iam"]
    assert (iam["accessKey"], iam["userArn"]) == ("LAKEY", "arn:aws:iam::000000000000:user/LAKEY")
    assert "authorization" not in made["headers"]
    assert with_headers((b"authorization", b"Bearer mine"))["authorization"] == "Bearer mine"


# Answers


@pytest.mark.parametrize(
    ("payload", "status", "body"),
    [
        (b'{"hello": "world"}', 200, b'{"hello": "world"}'),
        (b'["hello", 3, true]', 200, b'["hello", 3, true]'),
        (b'"hello"', 200, b"hello"),
        ('"ä"'.encode(), 200, "ä".encode()),
        (b"3", 200, b"3"),
        (b"null", 200, b"null"),
        (b'{"body": "b"}', 200, b'{"body": "b"}'),
        (b'{"statusCode": 201}', 201, b""),
        (b'{"statusCode": "418", "body": "tea"}', 418, b"tea"),
        (b'{"statusCode": 200, "body": "YQ==", "isBase64Encoded": true}', 200, b"a"),
        (b'{"statusCode": 200, "body": "YQ==", "isBase64Encoded": false}', 200, b"YQ=="),
        (b'{"statusCode": 599, "body": null, "headers": null, "cookies": null}', 599, b""),
        (b'{"statusCode": 204, "body": "none"}', 204, b""),
        (b'{"statusCode": 304, "body": "none"}', 304, b""),
    ],
)
def test_answers(payload: bytes, status: int, body: bytes) -> None:
    answer = interpreted(payload)
    assert (answer.status, answer.body) == (status, body)
    assert answer.headers == {"content-type": "application/json"}


def test_an_answer_s_headers() -> None:
    """The last of a name counts, whatever its case; what only the server knows is left out."""
    said = {
        "X-A": "1",
        "x-a": " 2\t",
        "Content-Type": "text/html",
        "x-int": 3,
        "x-float": 1.5,
        "x-bool": True,
        "x-none": None,
        "Content-Length": "7",
        "Transfer-Encoding": "chunked",
        "X-Amzn-RequestId": "mine",
        "x-umlaut": "ä",
    }
    answer = interpreted(json.dumps({"statusCode": 200, "headers": said, "cookies": ["a=1", "b=2"]}).encode())
    assert answer.headers == {
        "content-type": "text/html",
        "x-a": "2",
        "x-int": "3",
        "x-float": "1.5",
        "x-bool": "true",
        "x-umlaut": "Ã¤",
    }
    assert answer.cookies == ("a=1", "b=2")


@pytest.mark.parametrize(
    "said",
    [
        {"statusCode": 101},
        {"statusCode": 600},
        {"statusCode": 200.5},
        {"statusCode": True},
        {"statusCode": None},
        {"statusCode": "²00"},
        {"headers": ["a"]},
        {"headers": {"a b": "c"}},
        {"headers": {"": "c"}},
        {"headers": {"a": "b\r\nc: d"}},
        {"headers": {"a": "b\nc"}},
        {"headers": {"a": "b\x00"}},
        {"headers": {"a": ["b"]}},
        {"headers": {"a:b\r\nc": "d"}},
        {"headers": {"a": "\ud800"}},
        {"cookies": "a=b"},
        {"cookies": ["a=b\r\nc: d"]},
        {"cookies": [None]},
        {"body": {"a": 1}},
        {"body": "\ud800"},
        {"body": "a", "isBase64Encoded": True},
        {"body": "YQ==\n", "isBase64Encoded": True},
        {"body": "ä", "isBase64Encoded": True},
    ],
)
def test_answers_that_are_none(said: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        interpreted(json.dumps({"statusCode": 200} | said).encode())


@pytest.mark.parametrize("payload", [b"", b"no", b"[" * 100_000, b"\xff", b"a" + bytes(9), b"[]" + bytes(8)])
def test_what_is_no_json_is_the_body(payload: bytes) -> None:
    """As a function streams it whose URL gathers its answers."""
    answer = interpreted(payload)
    assert (answer.status, answer.body) == (200, payload)
    assert answer.headers == {"content-type": "application/octet-stream"}


LARGE = MOST_PARSED + 1


@pytest.mark.parametrize(
    ("payload", "content_type"),
    [
        (b" [" + b"1," * LARGE + b"1]\n", "application/json"),
        (b'{"a": "' + b"1" * LARGE + b'"}', "application/json"),
        (b'{"a": "statusCode", "b": "' + b"1" * LARGE + b'"}', "application/json"),
        (b"1" * 1000 + b" " * LARGE, "application/json"),
        (b"[" + b"1," * LARGE, "application/octet-stream"),
        (b'{"a": "statusCode' + b"1" * LARGE + b"}", "application/octet-stream"),
        (b"\xff" * LARGE, "application/octet-stream"),
    ],
)
def test_a_large_answer_is_what_a_small_one_is(payload: bytes, content_type: str) -> None:
    answer = interpreted(payload)
    assert (answer.status, answer.headers, answer.body) == (200, {"content-type": content_type}, payload)


@pytest.mark.parametrize("name", ["statusCode", "status\\u0043ode", "\\u0073tatusCode"])
def test_a_large_answer_may_have_a_status(name: str) -> None:
    body = "\u00e4" * LARGE
    large = f'{{"{name}": 201, "b": [{{"c": 1.5}}], "headers": {{"A": "b"}}, "body": "{body}"}}'
    answer = interpreted(large.encode())
    assert (answer.status, answer.headers["a"], answer.body) == (201, "b", body.encode())


def test_the_last_of_two_fields_counts() -> None:
    assert interpreted(b'{"statusCode": 200, "statusCode": 404}').status == 404


def test_what_was_streamed_may_have_a_head() -> None:
    answer = interpreted(
        b'{"statusCode": 404, "headers": {"content-type": "text/plain"}}' + bytes(8) + b"no\0"
    )
    assert (answer.status, answer.headers, answer.body) == (404, {"content-type": "text/plain"}, b"no\0")
    with pytest.raises(Malformed):
        interpreted(b'{"statusCode": 99}' + bytes(8))


def test_what_was_streamed_may_be_large_json_behind_a_head_without_a_status() -> None:
    body = b'{"a": "' + b"1" * LARGE + b'"}'
    answer = interpreted(b'{"headers": {"content-type": "text/plain"}}' + bytes(8) + body)
    assert (answer.status, answer.headers, answer.body) == (200, {"content-type": "text/plain"}, body)


# Hosts


@pytest.mark.parametrize(
    ("host", "path", "expected"),
    [
        ("id.lambda-url.localhost:9000", "/a", ("id", "/a")),
        ("ID.Lambda-URL.LOCALHOST", "/a", ("id", "/a")),
        ("id.lambda-url.localhost.:9000", "/lambda-url/other/", ("id", "/lambda-url/other/")),
        ("a.b.lambda-url.localhost", "/2015-03-31/functions", ("a.b", "/2015-03-31/functions")),
        (".lambda-url.localhost", "/", ("", "/")),
        ("lambda-url.localhost", "/", None),
        ("idlambda-url.localhost", "/", None),
        ("id.lambda-url.localhost.example", "/", None),
        ("127.0.0.1:9000", "/lambda-url/id/a/b", ("id", "/a/b")),
        ("127.0.0.1:9000", "/lambda-url/id", ("id", "/")),
        ("127.0.0.1:9000", "/lambda-url/id//a", ("id", "//a")),
        ("127.0.0.1:9000", "/lambda-url/", ("", "/")),
        ("127.0.0.1:9000", "/lambda-url", None),
        ("127.0.0.1:9000", "//lambda-url/id", None),
        ("[::1]:9000", "/2015-03-31/functions", None),
        ("", "/", None),
    ],
)
def test_whose_a_request_is(host: str, path: str, expected: tuple[str, str] | None) -> None:
    named = Hosts("").named(host, path)
    assert (None if named is None else named[:2]) == expected
    assert named is None or named.by_path == host.startswith("127.0.0.1")


def test_addresses() -> None:
    own = Hosts("")
    own.listening(9000)
    assert own.address("id") == "http://id.lambda-url.localhost:9000/"
    behind = Hosts("https://fn.example.com")
    behind.listening(9000)
    assert behind.address("id") == "https://id.fn.example.com/"
    assert behind.named("id.fn.example.com", "/") == ("id", "/", False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://fn.example.com", True),
        ("http://fn.example.com:8080", True),
        ("fn.example.com", False),
        ("https://fn.example.com/", False),
        ("https://FN.example.com", False),
        ("https://a@fn.example.com", False),
    ],
)
def test_bases(text: str, expected: bool) -> None:
    assert is_base(text) is expected


# Web pages

SOME = Cors(allow_origins=("https://a", "https://b"), allow_credentials=True, expose_headers=("x-a",))


def test_an_origin_that_is_allowed() -> None:
    headers = cors.applied(SOME, "https://b", {"vary": "Accept", "access-control-max-age": "1", "x-a": "1"})
    assert headers == {
        "x-a": "1",
        "vary": "Accept, Origin",
        "access-control-allow-origin": "https://b",
        "access-control-allow-credentials": "true",
        "access-control-expose-headers": "x-a",
    }


@pytest.mark.parametrize("origin", ["https://c", "null", "https://a.evil", "HTTPS://A"])
def test_an_origin_that_is_not(origin: str) -> None:
    said = {"access-control-allow-origin": "*", "x-a": "1"}
    assert cors.applied(SOME, origin, said) == {"x-a": "1"}
    assert cors.preflight(SOME, origin) == {}


def test_any_origin_is_named_to_nobody() -> None:
    every = Cors(allow_origins=("*",), allow_credentials=True)
    assert cors.applied(every, "https://a", {})["access-control-allow-origin"] == "*"


def test_what_no_page_asked_for_stays_as_the_function_said() -> None:
    said = {"access-control-allow-origin": "*"}
    assert cors.applied(SOME, "", said) == said
    assert cors.applied(None, "https://c", said) == said
