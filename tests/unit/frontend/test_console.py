"""The console's door: whose requests it answers, with which rights, and what its page may do in a browser."""

import asyncio
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import lambent_frontend.console.door as door
from lambent_frontend.access import AccessKeys
from lambent_frontend.console.behind import Behind
from lambent_frontend.console.door import Console
from lambent_frontend.guard import Guard
from lambent_frontend.http.doors import Doors
from lambent_frontend.http.gate import Locked, Open
from lambent_frontend.http.messages import Request, Response
from lambent_frontend.urls.hosts import Hosts
from lambent_proto.access import AccessKey, Rule, new_access_key
from lambent_proto.errors import UnknownRequest
from lambent_proto.status import errors_as_status
from lambent_proto.v1 import fleet_pb2
from tests.unit.scripted import Known

PAGE = Path(door.__file__).parent / "page"
HOST = "127.0.0.1:9000"


class Nobody:
    """A servicer whose methods are not to be reached."""

    def __getattr__(self, name: str) -> Any:
        async def method(request: Any, context: Any) -> None:
            raise AssertionError(name)

        return method


class Fleet(Nobody):
    def __init__(self) -> None:
        self.wrote = 0
        self.reading = asyncio.Event()
        self.ended = False

    async def ListNodes(self, request: Any, context: Any) -> fleet_pb2.ListNodesResponse:
        return fleet_pb2.ListNodesResponse(nodes=[fleet_pb2.Node(name="n1", memory_mb=512)])

    @errors_as_status
    async def Explain(self, request: Any, context: Any) -> fleet_pb2.ExplainResponse:
        raise UnknownRequest("nobody knows it", request.request_id)

    async def ReadLogs(self, request: Any, context: Any) -> None:
        try:
            while True:
                await context.write(fleet_pb2.ReadLogsResponse(lines=[fleet_pb2.LogLine(text="<b>")]))
                self.wrote += 1
                self.reading.set()
                if request.function_name == "short":
                    return
        finally:
            self.ended = True


def console(keys: AccessKeys | None = None, fleet: Fleet | None = None) -> Console:
    guard = Guard(keys)
    behind = Behind(
        fleet or Fleet(),
        *(Nobody() for _ in range(4)),
    )
    gate = Open() if keys is None else Locked(keys)
    return Console(behind.methods(guard), gate, asks=guard.asks)


def asked(
    method: str = "ListNodes", body: object = None, *, host: str = HOST, token: str = "", **headers: str
) -> Request:
    sent = {"host": host, "origin": f"http://{host}", "content-type": "application/json", **headers}
    if token:
        sent["authorization"] = f"Bearer {token}"
    encoded = {name.replace("_", "-").encode(): value.encode() for name, value in sent.items()}
    return Request("POST", f"/console/call/{method}", "", encoded, json.dumps(body or {}).encode())


def got(path: str, host: str = HOST) -> Request:
    return Request("GET", path, "", {b"host": host.encode()})


def said(answer: Response) -> Any:
    return json.loads(answer.body)


def key(*rules: str) -> AccessKey:
    return new_access_key(map(Rule.parse, rules), "", 0.0)


async def test_the_page_may_call_and_gets_json() -> None:
    answer = await console().answer(asked())
    assert answer.status == 200
    assert said(answer)["nodes"][0]["name"] == "n1"
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},  # a function's page under /lambda-url/ has this one
        {"origin": ""},
        {"origin": "http://127.0.0.1:9001"},
        {"origin": "http://[127.0.0.1"},
        {"host": "", "origin": "null"},
        {"content_type": "text/plain"},
        {"content_type": ""},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "cross-site"},
    ],
)
async def test_what_no_page_of_its_own_sends_is_refused(headers: Mapping[str, str]) -> None:
    answer = await console().answer(asked(**headers))
    assert answer.status in (403, 405)
    assert b"n1" not in answer.body


async def test_a_get_calls_nothing() -> None:
    answer = await console().answer(Request("GET", "/console/call/ListNodes", "", {b"host": HOST.encode()}))
    assert answer.status == 405


@pytest.mark.parametrize(("host", "status"), [("rebound.example:9000", 403), ("localhost:9000", 200)])
async def test_a_name_that_a_page_of_elsewhere_can_have(host: str, status: int) -> None:
    """Where nobody is asked for a key, neither the page nor a call is answered to it."""
    assert (await console().answer(asked(host=host))).status == status
    assert (await console().answer(got("/console/", host))).status == status


async def test_any_name_will_do_where_keys_are_asked_for() -> None:
    looks = key("ListNodes")
    its = console(Known(looks))
    assert (await its.answer(got("/console/", "lambent.example"))).status == 200
    assert (await its.answer(asked(host="lambent.example", token=looks.token))).status == 200


async def test_each_call_needs_the_right_that_it_needs_over_grpc() -> None:
    looks = key("ListNodes")
    its = console(Known(looks))
    unknown, wrong = await its.answer(asked()), await its.answer(asked(token="no.key"))
    assert [(it.status, said(it)["error"]["code"]) for it in (unknown, wrong)] == [
        (401, "UNAUTHENTICATED")
    ] * 2
    assert (await its.answer(asked(token=looks.token))).status == 200
    for method, body in (
        ("ListInstances", {}),
        ("Explain", {"request_id": "x"}),
        ("GetActivity", {}),
        ("RedriveAsyncInvocation", {"function_name": "f", "request_id": "x"}),
        ("UpdateTrigger", {"id": "x"}),
    ):
        refused = await its.answer(asked(method, body, token=looks.token))
        assert (refused.status, said(refused)["error"]["code"]) == (403, "PERMISSION_DENIED"), method


async def test_errors_have_their_names() -> None:
    answer = await console().answer(asked("Explain", {"request_id": "x"}))
    assert answer.status == 404
    assert said(answer)["error"] == {"code": "NOT_FOUND", "message": "nobody knows it"}


async def test_what_cannot_be_read_is_the_callers_fault() -> None:
    answer = await console().answer(asked("Explain", {"no_such": 1}))
    assert (answer.status, said(answer)["error"]["code"]) == (400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    "method", ["DeleteFunction", "CreateFunction", "DrainNode", "SetConcurrency", "../x"]
)
async def test_what_the_page_does_not_do_cannot_be_called(method: str) -> None:
    assert (await console().answer(asked(method))).status == 404


async def test_no_script_runs_but_its_own_and_nobody_frames_it() -> None:
    """By a number that is another one each time."""
    first, second = await console().answer(got("/console/")), await console().answer(got("/console/"))
    policy = first.headers["Content-Security-Policy"]
    (nonce,) = set(re.findall(rb'nonce="([^"]+)"', first.body))
    assert f"script-src 'nonce-{nonce.decode()}';" in policy
    assert nonce not in second.body
    for rule in ("default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"):
        assert rule in policy
    assert "unsafe" not in policy
    assert first.headers["X-Frame-Options"] == "DENY"


@pytest.mark.parametrize("path", ["/console/../door.py", "/console/%2e%2e/door.py", "/console/door.py"])
async def test_it_gives_out_the_pages_files_alone(path: str) -> None:
    assert (await console().answer(got(path))).status == 404


async def test_without_its_slash_it_leads_to_it() -> None:
    answer = await console().answer(got("/console"))
    assert (answer.status, answer.headers["Location"]) == (308, "/console/")


@pytest.mark.parametrize("file", sorted(PAGE.iterdir()), ids=lambda it: it.name)
def test_the_page_is_whole_in_itself_and_makes_no_markup(file: Path) -> None:
    text = file.read_text()
    assert not re.findall(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text
    )
    assert not re.findall(r"\bon\w+=", text), "a handler in markup, which the policy forbids"
    loaded = set(re.findall(r"https?://[^\s\"'`]+", text))
    assert loaded <= {"http://www.w3.org/2000/svg"}


async def test_a_stream_comes_in_lines_to_its_end() -> None:
    answer = await console().answer(asked("ReadLogs", {"function_name": "short"}))
    assert answer.parts is not None
    lines = [json.loads(part) async for part in answer.parts]
    assert [it["lines"][0]["text"] for it in lines] == ["<b>"]


async def test_a_stream_that_may_not_be_read_says_so_in_its_last_line() -> None:
    looks = key("ReadLogs@g")
    answer = await console(Known(looks)).answer(asked("ReadLogs", {"function_name": "f"}, token=looks.token))
    assert answer.parts is not None
    (line,) = [json.loads(part) async for part in answer.parts]
    assert line["error"]["code"] == "PERMISSION_DENIED"


async def test_a_page_that_reads_slowly_holds_up_the_reading_and_one_that_leaves_ends_it() -> None:
    fleet = Fleet()
    answer = await console(fleet=fleet).answer(asked("ReadLogs", {"function_name": "long"}))
    assert answer.parts is not None
    async with asyncio.timeout(10):
        await anext(answer.parts)
        for _ in range(20):
            await asyncio.sleep(0)
        assert fleet.wrote < 10
        await answer.parts.aclose()
    assert fleet.ended


class Answers:
    """Says who it is."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def answer(self, *_: object) -> Response:
        return Response(200, self._name.encode())


@pytest.mark.parametrize(
    ("host", "path", "on", "who"),
    [
        (HOST, "/console/", True, b"page"),
        (HOST, "/console", True, b"page"),
        (HOST, "/console/", False, b"api"),
        (HOST, "/consoles", True, b"api"),
        ("some.lambda-url.localhost:9000", "/console/", True, b"url"),
        (HOST, "/lambda-url/some/console/", True, b"url"),
    ],
)
async def test_whose_a_path_is(host: str, path: str, on: bool, who: bytes) -> None:
    """A function's URL has its own `/console`; where the console is off there is only the API."""
    api: Any = Answers("api")
    urls: Any = Answers("url")
    doors = Doors(api, urls, Hosts(""), console() if on else None)
    body = (await doors.answer(got(path, host))).body
    assert body == who or (who == b"page" and (b"<main" in body or body == b""))
