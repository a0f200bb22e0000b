"""Function URLs over a socket: who is let in, what the function gets, what comes back, whatever it is."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from lambent_chassis.etcd import Change, KeyValue, Snapshot
from lambent_frontend.access import AccessKeys
from lambent_frontend.calls import Call
from lambent_frontend.catalogue import Catalogue
from lambent_frontend.http import limits
from lambent_frontend.http.api import Api
from lambent_frontend.http.doors import Doors
from lambent_frontend.http.gate import Locked, Open
from lambent_frontend.http.url_door import UrlDoor
from lambent_frontend.invoker import Invoker
from lambent_frontend.policy import user_arn
from lambent_frontend.urls.hosts import Hosts
from lambent_proto import keys
from lambent_proto.access import AccessKey, Rule, new_access_key
from lambent_proto.errors import DeadlinePassed, LostWithWorker, NotReady, Throttled
from lambent_proto.ids import FunctionName
from lambent_proto.policies import Policy, Statement
from lambent_proto.urls import AWS_IAM, BUFFERED, NONE, RESPONSE_STREAM, Cors, FunctionUrl
from tests.unit.frontend.followed import definition
from tests.unit.frontend.http_client import WITHIN_S, Answer, Client, connected, listening
from tests.unit.scripted import WAITING_S, Done, Known, ScriptedDispatcher, answer

OPEN = "o" * 32
SIGNED = "s" * 32
STREAMED = "t" * 32
HOST = f"{OPEN}.lambda-url.localhost"


class Functions(ScriptedDispatcher):
    """Every call is answered with `says`, or fails with an error of `errors`."""

    says: bytes = b'"hello"'

    def submit(self, call: Call, done: Done) -> None:
        self.calls.append(call)
        done(self.errors.get(call.definition.name) or answer(self.says))

    @property
    def event(self) -> Any:
        """What the last call had."""
        return json.loads(self.calls[-1].payload)


class Stored:
    """What etcd has, told at once."""

    def __init__(self, *policy: Statement) -> None:
        self._values = {
            keys.function(F): definition("f").encode(),
            keys.url(F, ""): url(OPEN, NONE),
            keys.policy(F, ""): Policy(OPENED, "r").encode(),
            keys.function(G): definition("g").encode(),
            keys.url(G, ""): url(SIGNED, AWS_IAM),
            keys.policy(G, ""): Policy(policy, "r").encode(),
            keys.function(HELD): definition("held").encode(),
            keys.url(HELD, ""): url(STREAMED, NONE, RESPONSE_STREAM),
            keys.policy(HELD, ""): Policy(OPENED, "r").encode(),
        }

    async def follow_prefix(self, prefix: str) -> AsyncIterator[Snapshot | list[Change]]:
        items = [KeyValue(key, value, 1, 1) for key, value in self._values.items()]
        yield Snapshot(items=items, revision=1)
        await asyncio.Event().wait()


F, G, HELD = FunctionName("f"), FunctionName("g"), FunctionName("held")
OPENED = (
    Statement(sid="a", action="lambda:InvokeFunctionUrl", principal="*", url_auth_type=NONE),
    Statement(sid="b", action="lambda:InvokeFunction", principal="*", via_url=True),
)


def url(url_id: str, auth_type: str, mode: str = BUFFERED) -> bytes:
    return FunctionUrl(
        id=url_id,
        auth_type=auth_type,
        invoke_mode=mode,
        cors=Cors(allow_origins=("https://a.example",)) if mode == RESPONSE_STREAM else None,
        created_at=0,
        modified_at=0,
        revision="r",
    ).encode()


@asynccontextmanager
async def served(
    functions: ScriptedDispatcher, access_keys: AccessKeys | None, *policy: Statement
) -> AsyncIterator[int]:
    """The port of both doors."""
    catalogue = Catalogue(Stored(*policy), lambda *_: None)
    following = asyncio.create_task(catalogue.follow())
    async with asyncio.timeout(WITHIN_S):
        await catalogue.ready.wait()
    hosts, invoker = Hosts(""), Invoker(catalogue, functions, waiting_s=WAITING_S)
    api = Api({}, Open() if access_keys is None else Locked(access_keys))
    async with listening(Doors(api, UrlDoor(hosts, catalogue, invoker, access_keys), hosts)) as (_, port):
        yield port
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def ask(port: int, host: str, path: str = "/", **headers: str) -> Answer:
    async with connected(port) as client:
        lines = [f"GET {path} HTTP/1.1", f"Host: {host}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        client.send("\r\n".join([*lines, "", ""]).encode("latin-1"))
        return await client.answer()


def signature(key: AccessKey, host: str, path: str = "/", service: str = "lambda") -> dict[str, str]:
    """As AWS's clients make it."""
    request = AWSRequest("GET", f"http://{host}{path}", headers={"Host": host})
    SigV4Auth(Credentials(key.id, key.secret), service, "eu-west-1").add_auth(request)
    return {name.replace("-", "_"): value for name, value in request.headers.items() if name != "Host"}


def key(*rules: str) -> AccessKey:
    return new_access_key(map(Rule.parse, rules), "", 0.0)


@pytest.mark.parametrize(
    ("rule", "statements", "status"),
    [
        ("InvokeFunctionUrl@g", (), 200),
        ("InvokeFunctionUrl", (), 200),
        ("InvokeFunctionUrl@f", (), 403),
        ("InvokeFunction@g", (), 403),
        ("InvokeFunction@f", ("*",), 200),
        ("InvokeFunction@f", ("mine",), 200),
        ("InvokeFunction@f", ("other",), 403),
    ],
)
async def test_who_may_call_what_asks_for_a_signature(
    rule: str, statements: tuple[str, ...], status: int
) -> None:
    """A rule of the key, or the function's policy; the function hears whose key it was."""
    one, functions = key(rule), Functions()
    named = {"*": "*", "mine": user_arn(one.id), "other": user_arn("LAOTHER")}
    allowed = [
        Statement(sid=action, action=f"lambda:{action}", principal=named[who])
        for who in statements
        for action in ("InvokeFunctionUrl", "InvokeFunction")
    ]
    async with served(functions, Known(one), *allowed) as port:
        host = f"{SIGNED}.lambda-url.localhost"
        told = await ask(port, host, "/a%20b", **signature(one, host, "/a%20b"))
        assert told.status == status
        if status == 200:
            assert functions.event["requestContext"]["authorizer"]["iam"]["accessKey"] == one.id
            assert "authorization" not in functions.event["headers"]
            assert functions.calls[-1].caller == one.id
        else:
            assert (told.body, functions.calls) == (b'{"Message":"Forbidden"}', [])


async def test_what_is_no_signature_for_it() -> None:
    """None, a token, another service's, another host's or path's, another secret's, one that is not known."""
    one, other = key("*"), key("*")
    host = f"{SIGNED}.lambda-url.localhost"
    functions = Functions()
    async with served(functions, Known(one)) as port:
        refused = [
            await ask(port, host),
            await ask(port, host, authorization=f"Bearer {one.token}"),
            await ask(port, host, **signature(one, host, service="execute-api")),
            await ask(port, host, **signature(one, HOST)),
            await ask(port, host, "/b", **signature(one, host, "/a")),
            await ask(port, host, **signature(other, host)),
            await ask(port, "127.0.0.1", f"/lambda-url/{SIGNED}/", **signature(one, host)),
        ]
        assert [told.status for told in refused] == [403] * len(refused)
        assert functions.calls == []
        path = f"/lambda-url/{SIGNED}/"
        assert (await ask(port, "127.0.0.1", path, **signature(one, "127.0.0.1", path))).status == 200


async def test_where_nobody_is_asked_a_signature_is_accepted_unread() -> None:
    host = f"{SIGNED}.lambda-url.localhost"
    async with served(functions := Functions(), None) as port:
        assert (await ask(port, host)).status == 403
        assert (await ask(port, host, **signature(key("*"), HOST))).status == 200
        assert "authorizer" not in functions.event["requestContext"]


async def test_the_api_is_as_closed_as_before() -> None:
    """An open URL is no way to it, neither by host nor by path; other hosts are the API's still."""
    listing = "/2015-03-31/functions"
    async with served(functions := Functions(), Known(key("*"))) as port:
        for host, path in (
            (HOST, listing),
            (HOST, f"/lambda-url/{OPEN}/..{listing}"),
            ("127.0.0.1", f"/lambda-url/{OPEN}{listing}"),
        ):
            assert (await ask(port, host, path)).body == b"hello"
        assert len(functions.calls) == 3
        for host in (
            "127.0.0.1",
            "localhost",
            "lambda-url.localhost",
            f"{OPEN}.example.com",
            f"{HOST}.example",
        ):
            told = await ask(port, host, listing)
            assert (told.status, told.error) == (403, "MissingAuthenticationTokenException")
        assert len(functions.calls) == 3


async def test_a_web_page_may_call_a_url_and_not_the_api() -> None:
    async with served(Functions(), None) as port:
        assert (await ask(port, HOST, origin="https://a.example")).status == 200
        assert (
            await ask(port, "127.0.0.1", "/2015-03-31/functions", origin="https://a.example")
        ).status == 403


async def test_a_page_by_path_has_not_the_api_s_origin() -> None:
    """Where nobody is asked it could read there what it likes. Beside what the function says itself."""
    functions = Functions()
    functions.says = b'{"statusCode": 200, "headers": {"Content-Security-Policy": "default-src *"}}'
    async with served(functions, None) as port:
        by_path = await ask(port, "localhost", f"/lambda-url/{OPEN}/")
        said = by_path.headers["content-security-policy"]
        assert said == "default-src *, sandbox allow-forms allow-scripts"
        assert (await ask(port, HOST)).headers["content-security-policy"] == "default-src *"


async def test_calls_of_urls_leave_room_to_the_api(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many strangers call, and however large: who is of the team is answered."""
    monkeypatch.setattr(limits, "SHARE", 5)
    async with served(Functions(), Known(key("*"))) as port:
        async with connected(port) as client:
            client.request("POST", f"/lambda-url/{OPEN}/", b"123456")
            assert (await client.answer()).status == 503
        async with connected(port) as client:
            client.request("POST", f"/lambda-url/{OPEN}/", b"12345")
            assert (await client.answer()).status == 200
            client.request("POST", f"/lambda-url/{OPEN}/", b"12345")
            assert (await client.answer()).status == 200
        async with connected(port) as client:
            client.request("POST", "/2015-03-31/functions", b"123456")
            assert (await client.answer()).status == 403


async def test_the_length_that_head_is_told() -> None:
    """What the body of a GET would have: as the function says, which knows, or what its answer has."""
    functions = Functions()
    async with served(functions, None) as port, connected(port) as client:
        for says, length in (
            (b'{"statusCode": 200, "headers": {"Content-Length": "1234"}}', "1234"),
            (b'{"statusCode": 200, "headers": {"Content-Length": "many"}}', "0"),
            (b'{"statusCode": 200, "headers": {"Content-Length": 9}, "body": "12"}', "2"),
            (b'"123"', "3"),
        ):
            functions.says = says
            client.send(f"HEAD / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            assert (await client.answer(bodiless=True)).headers["content-length"] == length
        functions.says = b'{"statusCode": 200, "headers": {"Content-Length": "1234"}, "body": "12"}'
        client.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        assert (await client.answer()).body == b"12"


@pytest.mark.parametrize(
    ("error", "status", "body"),
    [
        (Throttled("function 'f' is full"), 429, b'{"Type": "User", "message": "Rate Exceeded."}'),
        (LostWithWorker("node n1 was lost"), 502, b"Internal Server Error"),
        (DeadlinePassed("late"), 502, b"Internal Server Error"),
        (NotReady("stopping"), 503, b'{"Message":"Service Unavailable"}'),
    ],
)
async def test_lambent_s_own_errors(error: Any, status: int, body: bytes) -> None:
    """With a reason, and nothing of what is behind it."""
    functions = Functions()
    functions.errors["f"] = error
    async with served(functions, None) as port:
        told = await ask(port, HOST)
    assert (told.status, told.body) == (status, body)
    assert told.headers["x-lambent-error"] == error.reason
    assert "x-lambent-message" not in told.headers


# Whatever comes


@pytest.fixture(scope="module")
def run() -> Iterator[asyncio.Runner]:
    """On uvloop, as a frontend runs."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield runner


TEXT = st.text(max_size=8) | st.sampled_from(["a\r\nx-injected: c", "\x00", "\ud800", "ä", "YQ==", "="])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
NAMES = st.sampled_from(["a", "a", "Content-Type", "content-length", "b\r\nx-injected"]) | TEXT
LIKE_ANSWERS = st.fixed_dictionaries(
    {"statusCode": st.sampled_from([200, 200, "201", 204, 302, 304, 599])},
    optional={
        "headers": st.dictionaries(NAMES, TEXT | SCALARS, max_size=2),
        "cookies": st.lists(TEXT, max_size=2),
        "body": TEXT,
        "isBase64Encoded": st.booleans(),
    },
)
ANY = st.fixed_dictionaries(
    {},
    optional={
        "statusCode": st.sampled_from([200, 600, 99, "x"]) | SCALARS,
        "headers": st.dictionaries(NAMES, SCALARS) | SCALARS,
        "cookies": st.lists(SCALARS, max_size=3) | SCALARS,
        "body": SCALARS | st.lists(SCALARS, max_size=2),
        "isBase64Encoded": SCALARS,
    },
)


@settings(max_examples=300, deadline=None)
@given(says=(LIKE_ANSWERS | LIKE_ANSWERS | ANY | SCALARS).map(lambda it: json.dumps(it).encode()))
@pytest.mark.timeout(180)
def test_whatever_a_function_answers(run: asyncio.Runner, says: bytes) -> None:
    """It is one whole answer of HTTP, and the connection goes on with the next."""
    run.run(twice(says))


async def twice(says: bytes) -> None:
    functions = Functions()
    functions.says = says
    async with served(functions, None) as port, connected(port) as client:
        first = await asked(client)
        assert first.status == 502 or 200 <= first.status < 600
        assert "x-injected" not in first.headers
        if first.status == 502 and first.body == b"Internal Server Error":
            assert "set-cookie" not in first.headers
        functions.says = b'"next"'
        assert (await asked(client)).body == b"next"


async def asked(client: Client) -> Answer:
    client.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    return await client.answer()


FIELDS = st.tuples(
    st.sampled_from(
        ["Cookie", "Content-Type", "Origin", "X-Forwarded-For", "X-Amzn-Trace-Id", "Authorization"]
    )
    | st.text("abcX-_", min_size=1, max_size=5),
    st.sampled_from(["€".encode(), b"a" * 2000, b"\xff"])
    | st.binary(max_size=12).map(lambda it: bytes(byte for byte in it if byte > 31 and byte != 127)),
)


@settings(max_examples=300, deadline=None)
@given(
    path=st.text("/a.%2F;+\\~é:@", max_size=12),
    query=st.text("a=&%2;+é", max_size=12),
    fields=st.lists(FIELDS, max_size=5),
    body=st.binary(max_size=20),
    chunked=st.booleans(),
)
@pytest.mark.timeout(180)
def test_whatever_a_client_sends(
    run: asyncio.Runner, path: str, query: str, fields: list[tuple[str, bytes]], body: bytes, chunked: bool
) -> None:
    """The function gets all of it, or the client is told that it is no request."""
    run.run(sent(path, query, fields, body, chunked))


async def sent(path: str, query: str, fields: list[tuple[str, bytes]], body: bytes, chunked: bool) -> None:
    head = f"POST /{path}?{query} HTTP/1.1\r\nHost: {HOST}\r\n".encode("latin-1")
    head += b"".join(name.encode() + b": " + value + b"\r\n" for name, value in fields)
    if chunked:
        pieces = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        head += b"Transfer-Encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n"
    else:
        head += b"Content-Length: %d\r\n\r\n" % len(body) + body
    async with served(functions := Functions(), None) as port, connected(port) as client:
        client.send(head)
        told = await client.answer()
    assert told.status in (200, 400)
    if told.status == 200:
        event = functions.event
        assert (event["rawPath"], event["rawQueryString"]) == (f"/{path}", query)
        assert ("body" in event) == bool(body)
        assert event["headers"]["x-forwarded-for"].endswith("127.0.0.1")
