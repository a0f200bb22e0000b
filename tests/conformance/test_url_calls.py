"""Function URLs as HTTP clients call them: the event, the answer, errors, web pages, a web framework."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection, HTTPMessage, HTTPResponse, IncompleteRead
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from tests.conformance.conftest import package
from tests.conformance.test_functions import create
from tests.conformance.test_packages import WEB, installed, zipped
from tests.conformance.test_urls import URL, VIA
from tests.e2e.fleet import Fleet

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(180)]

SOURCE = """
import json

def handler(event, context):
    path = event["rawPath"]
    if path == "/raise":
        raise ValueError("no such thing")
    if path == "/say":
        return json.loads(event["body"])
    return {"statusCode": 200, "body": json.dumps({"event": event, "id": context.aws_request_id})}
"""


class Answer(NamedTuple):
    status: int
    headers: HTTPMessage
    body: bytes


class Site:
    """A function's URL, and a connection that stays."""

    def __init__(self, fleet: Fleet, url: str) -> None:
        self.url = url
        self.host = urlsplit(url).netloc
        self._connection = HTTPConnection("127.0.0.1", int(fleet.http.rpartition(":")[2]), timeout=30)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Names of headers with _ for -. A body that is iterated over goes in chunks."""
        sent = {"Host": self.host} | {name.replace("_", "-"): value for name, value in headers.items()}
        chunked = body is not None and not isinstance(body, (bytes, str))
        self._connection.request(method, path, body, sent, encode_chunked=chunked)
        answer = self._connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())

    def begun(self, path: str) -> HTTPResponse:
        """An answer whose body is still to be read."""
        self._connection.request("GET", path, headers={"Host": self.host})
        return self._connection.getresponse()

    def told(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """The event that the function had."""
        return json.loads(self.ask(method, path, body, **headers).body)["event"]

    def says(self, said: object, **headers: str) -> Answer:
        """What the client gets when the function says that."""
        return self.ask("POST", "/say", json.dumps(said), content_type="application/json", **headers)

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def reach(fleet: Fleet) -> Iterator[Callable[[str], Site]]:
    with ExitStack() as sites:
        yield lambda url: sites.enter_context(closing(Site(fleet, url)))


def opened(aws: Any, name: str, **qualifier: str) -> str:
    """The URL of what everybody may call."""
    made = aws.create_function_url_config(FunctionName=name, AuthType="NONE", **qualifier)
    for sid, fields in (("url", URL), ("via", VIA)):
        aws.add_permission(FunctionName=name, StatementId=sid, **fields, **qualifier)
    url: str = made["FunctionUrl"]
    return url


@pytest.fixture(scope="module")
def site(fleet: Fleet, aws: Any) -> Iterator[Site]:
    create(aws, "site", Code={"ZipFile": package(SOURCE)})
    site = Site(fleet, opened(aws, "site"))
    yield site
    site.close()
    aws.delete_function(FunctionName="site")


def test_the_event(site: Site) -> None:
    """Payload format 2.0."""
    event = site.told(
        "PUT",
        "/a%20b//c?x=1&y=&x=%C3%A4+2",
        "ä".encode(),
        Cookie="a=1; b=2",
        X_Two="Three",
        user_agent="tests",
    )
    context, headers = event.pop("requestContext"), event.pop("headers")
    assert event == {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/a%20b//c",
        "rawQueryString": "x=1&y=&x=%C3%A4+2",
        "cookies": ["a=1", "b=2"],
        "queryStringParameters": {"x": "1,ä 2", "y": ""},
        "body": "w6Q=",
        "isBase64Encoded": True,
    }
    name = urlsplit(site.url).hostname or ""
    assert context["http"] == {
        "method": "PUT",
        "path": "/a%20b//c",
        "protocol": "HTTP/1.1",
        "sourceIp": "127.0.0.1",
        "userAgent": "tests",
    }
    assert (context["accountId"], context["domainName"]) == ("anonymous", name)
    assert context["apiId"] == context["domainPrefix"] == name.partition(".")[0]
    assert "authorizer" not in context
    assert (headers["x-two"], headers["host"]) == ("Three", site.host)
    assert (headers["x-forwarded-for"], headers["x-forwarded-proto"]) == ("127.0.0.1", "http")
    assert headers["x-forwarded-port"] == site.host.rpartition(":")[2]
    assert headers["x-amzn-trace-id"].startswith("Root=1-")


def test_ids(site: Site) -> None:
    """One request id for the answer, the event and the invocation; a trace goes on."""
    answer = site.ask("GET", "/", x_amzn_trace_id="Root=1-5759e988-bd862e3fe1be46a994272793")
    told = json.loads(answer.body)
    assert answer.headers["x-amzn-requestid"] == told["id"] == told["event"]["requestContext"]["requestId"]
    assert answer.headers["x-amzn-trace-id"] == "Root=1-5759e988-bd862e3fe1be46a994272793"
    assert "body" not in told["event"]
    assert told["event"]["isBase64Encoded"] is False
    assert not any(name.lower().startswith("x-lambent") for name in answer.headers)


def test_a_body_in_chunks(site: Site) -> None:
    event = site.told("POST", "/", iter([b'{"a"', b": 1}"]), content_type="application/json; charset=utf-8")
    assert (event["body"], event["isBase64Encoded"]) == ('{"a": 1}', False)
    assert event["headers"]["content-length"] == "8"
    assert "transfer-encoding" not in event["headers"]


def test_an_answer_with_all_there_is(site: Site) -> None:
    answer = site.says(
        {
            "statusCode": 418,
            "headers": {"Content-Type": "image/x", "X-Number": 7, "Connection": "close", "x-umlaut": "ä"},
            "cookies": ["a=1; Path=/", "b=2"],
            "body": "/wA=",
            "isBase64Encoded": True,
        }
    )
    assert (answer.status, answer.body) == (418, b"\xff\x00")
    assert answer.headers.get_all("Set-Cookie") == ["a=1; Path=/", "b=2"]
    assert (answer.headers["content-type"], answer.headers["x-number"]) == ("image/x", "7")
    assert answer.headers.get_all("content-type") == ["image/x"]
    assert answer.headers["x-umlaut"].encode("latin-1").decode() == "ä"
    assert "connection" not in answer.headers


@pytest.mark.parametrize(
    ("said", "body"),
    [
        ({"hello": "world"}, {"hello": "world"}),
        (["hello", 3, True], ["hello", 3, True]),
        (3.1, 3.1),
        (None, None),
    ],
)
def test_an_answer_that_is_inferred(site: Site, said: object, body: object) -> None:
    answer = site.says(said)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert json.loads(answer.body) == body


def test_a_string_is_the_body_itself(site: Site) -> None:
    answer = site.says("hello")
    assert (answer.status, answer.body) == (200, b"hello")


@pytest.mark.parametrize(
    "said",
    [
        {"statusCode": "none"},
        {"statusCode": 200, "body": {"a": 1}},
        {"statusCode": 200, "headers": {"x-a": "b\r\nset-cookie: c=d"}},
        {"statusCode": 200, "headers": {"x-a\r\nset-cookie": "b"}},
        {"statusCode": 200, "cookies": ["a=b\r\n\r\n<script>"]},
        {"statusCode": 200, "body": "=", "isBase64Encoded": True},
    ],
)
def test_a_malformed_answer(site: Site, said: object) -> None:
    answer = site.says(said)
    assert (answer.status, answer.body) == (502, b"Internal Server Error")
    assert "set-cookie" not in answer.headers


def test_a_function_that_fails(site: Site) -> None:
    answer = site.ask("GET", "/raise")
    assert (answer.status, answer.body) == (502, b"Internal Server Error")
    assert site.ask("GET", "/").status == 200  # on the same connection


def test_head(site: Site) -> None:
    answer = site.ask("HEAD", "/")
    assert (answer.status, answer.body) == (200, b"")
    assert site.ask("GET", "/").status == 200


def test_too_large_a_body(reach: Callable[[str], Site], site: Site) -> None:
    """By its own bytes, or by those that its base64 has."""
    for size in (6_291_557, 5_000_000):
        answer = reach(site.url).ask("POST", "/", bytes(size))
        assert (answer.status, answer.headers["x-amzn-errortype"]) == (
            413,
            "RequestEntityTooLargeException",
        )


def test_who_may_not_hears_no_more(reach: Callable[[str], Site], aws: Any, name: str) -> None:
    """Unknown URLs, and those of functions whose policy says nothing, or half; there is no way to the API."""
    create(aws, name, Code={"ZipFile": package(SOURCE)})
    closed = reach(aws.create_function_url_config(FunctionName=name, AuthType="NONE")["FunctionUrl"])
    for sid, fields in (("", {}), ("url", URL)):
        if sid:
            aws.add_permission(FunctionName=name, StatementId=sid, **fields)
        answer = closed.ask("GET", "/2015-03-31/functions")
        assert (answer.status, answer.body) == (403, b'{"Message":"Forbidden"}')
    aws.add_permission(FunctionName=name, StatementId="via", **VIA)
    assert closed.ask("GET", "/2015-03-31/functions").status == 200
    for host in ("a" * 32, "nobody", "", "a.b"):
        nowhere = reach(f"http://{host}.lambda-url.localhost:1/")
        answer = nowhere.ask("GET", "/2015-03-31/functions")
        assert (answer.status, answer.body) == (403, b'{"Message":null}')
        assert answer.headers["x-amzn-errortype"] == "AccessDeniedException"
    aws.delete_function(FunctionName=name)
    answer = closed.ask("GET", "/2015-03-31/functions")
    assert (answer.status, answer.body) == (403, b'{"Message":null}')


def test_throttled(reach: Callable[[str], Site], aws: Any, name: str) -> None:
    create(aws, name, Code={"ZipFile": package(SOURCE)})
    off = reach(opened(aws, name))
    aws.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    answer = off.ask("GET", "/")
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (429, "TooManyRequestsException")
    assert json.loads(answer.body)["message"] == "Rate Exceeded."
    assert name not in str(answer.headers)


def test_web_pages_of_other_origins(aws: Any, site: Site) -> None:
    """The settings answer for a page that asks first, and speak for the function; others get nothing."""
    cors = {
        "AllowOrigins": ["https://a.example"],
        "AllowMethods": ["GET", "PUT"],
        "AllowHeaders": ["x-a"],
        "ExposeHeaders": ["x-b"],
        "MaxAge": 60,
    }
    aws.update_function_url_config(FunctionName="site", Cors=cors)
    asks = {"Access_Control_Request_Method": "PUT"}
    asked = site.ask("OPTIONS", "/raise", Origin="https://a.example", **asks)
    assert (asked.status, asked.body) == (200, b"")
    assert asked.headers["access-control-allow-origin"] == "https://a.example"
    assert asked.headers["access-control-allow-methods"] == "GET,PUT"
    assert asked.headers["access-control-allow-headers"] == "x-a"
    assert asked.headers["access-control-max-age"] == "60"
    other = site.ask("OPTIONS", "/", Origin="https://b.example", **asks)
    assert "access-control-allow-origin" not in other.headers
    for origin, allowed in (("https://a.example", "https://a.example"), ("https://b.example", None)):
        said = {"statusCode": 200, "headers": {"Access-Control-Allow-Origin": "*"}}
        answer = site.says(said, Origin=origin)
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, allowed)
        assert answer.headers["access-control-expose-headers"] == ("x-b" if allowed else None)
    aws.update_function_url_config(FunctionName="site", Cors={})
    event = site.told("OPTIONS", "/", Origin="https://a.example", **asks)
    assert event["requestContext"]["http"]["method"] == "OPTIONS"


def test_an_alias_has_its_own(reach: Callable[[str], Site], aws: Any, name: str) -> None:
    create(
        aws, name, Code={"ZipFile": package("def handler(event, context): return context.function_version")}
    )
    aws.publish_version(FunctionName=name)
    aws.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    for version, qualifier in (("$LATEST", {}), ("1", {"Qualifier": "live"})):
        answer = reach(opened(aws, name, **qualifier)).ask("GET", "/")
        assert answer.body.decode() == version


def test_a_web_framework_behind_its_url(fleet: Fleet, aws: Any, name: str, tmp_path: Path) -> None:
    """With curl: by the URL itself, and by the path for clients that do not find such hosts."""
    code = zipped(installed(tmp_path, "starlette>=0.40,<2", "mangum>=0.19,<1"), WEB)
    create(aws, name, Code={"ZipFile": code}, MemorySize=256, Timeout=30)
    url = opened(aws, name)
    url_id = urlsplit(url).netloc.partition(".")[0]
    for base in (url, f"http://{fleet.http}/lambda-url/{url_id}/"):
        said, status = curl(f"{base}greet/ann?times=2", "-A", "tests/1", "-d", '{"a": "ä"}', "-H", JSON)
        assert (json.loads(said), status) == ({"hello": "ann", "times": "2", "sent": {"a": "ä"}}, "201")
    assert curl(f"{url}nowhere") == ("Not Found", "404")
    assert curl(f"{url}greet/ann", "-X", "PUT")[1] == "405"


JSON = "content-type: application/json"


def curl(url: str, *options: str) -> tuple[str, str]:
    """Body and status. Names below localhost are loopback addresses to curl by itself."""
    command = ["curl", "--silent", "--show-error", "--max-time", "60", "-w", "\n%{http_code}", *options, url]
    try:
        done = subprocess.run(command, capture_output=True, check=True, text=True, timeout=70)
    except FileNotFoundError:
        pytest.skip("there is no curl here")
    body, _, status = done.stdout.rpartition("\n")
    return body, status


STREAMS = """
exports.handler = awslambda.streamifyResponse(async (event, stream) => {
  const { pipe, throws, plain } = event.queryStringParameters ?? {};
  if (throws === 'early') throw new TypeError('too early');
  if (!plain) stream = awslambda.HttpResponseStream.from(stream, {
    statusCode: 201, headers: { 'content-type': 'text/plain', 'x-a': 'b' }, cookies: ['a=1', 'b=2'],
  });
  stream.write('first ');
  if (pipe) await require('node:fs').promises.readFile(pipe);
  if (throws) throw new TypeError('too late');
  stream.write(event.rawPath);
  stream.end();
});
"""


@pytest.fixture(scope="module")
def streams(fleet: Fleet, aws: Any) -> Iterator[Site]:
    code = {"ZipFile": package(STREAMS, "index.js")}
    create(aws, "url-streams", Code=code, Runtime="nodejs", Handler="index.handler", Timeout=20)
    site = Site(fleet, opened(aws, "url-streams"))
    yield site
    site.close()
    aws.delete_function(FunctionName="url-streams")


def test_a_streamed_answer_that_is_gathered(streams: Site) -> None:
    """What a function streams is the same for who gets it whole."""
    answer = streams.ask("GET", "/second")
    assert (answer.status, answer.body) == (201, b"first /second")
    assert (answer.headers["content-type"], answer.headers["x-a"]) == ("text/plain", "b")
    assert answer.headers.get_all("set-cookie") == ["a=1", "b=2"]
    assert answer.headers["content-length"] == "13"
    plain = streams.ask("GET", "/second?plain=1")
    assert (plain.status, plain.body) == (200, b"first /second")
    assert streams.ask("GET", "/?throws=early").status == 502


def test_a_streamed_answer_in_parts(aws: Any, streams: Site, site: Site, tmp_path: Path) -> None:
    """The first is here while the function still waits for the test."""
    aws.update_function_url_config(FunctionName="url-streams", InvokeMode="RESPONSE_STREAM")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    answer = streams.begun(f"/second?pipe={pipe}")
    assert (answer.status, answer.headers["transfer-encoding"], answer.headers["x-a"]) == (
        201,
        "chunked",
        "b",
    )
    assert answer.headers.get_all("set-cookie") == ["a=1", "b=2"]
    assert answer.read(6) == b"first "
    pipe.write_text("go on")
    assert answer.read() == b"/second"
    assert streams.ask("GET", "/third?plain=1").body == b"first /third"
    assert streams.ask("GET", "/?throws=early").status == 502
    with pytest.raises(IncompleteRead):
        streams.ask("GET", "/?throws=late")
    aws.update_function_url_config(FunctionName="site", InvokeMode="RESPONSE_STREAM")
    whole = site.says({"statusCode": 404, "body": "none"})
    assert (whole.status, json.loads(whole.body)) == (200, {"statusCode": 404, "body": "none"})
    aws.update_function_url_config(FunctionName="site", InvokeMode="BUFFERED")
