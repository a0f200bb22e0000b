"""Who may do what over HTTP: no operation of Lambda's API is answered unasked."""

import asyncio
import functools
import json

import pytest
import structlog

from lambent_frontend.access import permit
from lambent_frontend.call_log import CALLER
from lambent_frontend.event_invokes import EventInvokes
from lambent_frontend.guard import MAX_LOGGED
from lambent_frontend.http.api import Api
from lambent_frontend.http.asked import Asked
from lambent_frontend.http.event_invokes import EventInvokeOperations
from lambent_frontend.http.gate import Locked, Open, is_of_no_page
from lambent_frontend.http.messages import Request, Response
from lambent_frontend.http.routes import OPERATIONS, OURS
from lambent_proto.access import ACTIONS, AccessKey, Rule, new_access_key
from lambent_proto.errors import AccessDenied
from lambent_proto.v1 import async_invocations_pb2 as pb
from tests.unit.scripted import Known

ARN = "arn:aws:lambda:us-east-1:000000000000:function"


class Recorded:
    """Every operation is there, and remembers what came through."""

    def __init__(self, *known: AccessKey) -> None:
        self.came: list[str] = []
        self.callers: list[str] = []
        """Whose key the log would have."""
        self.api = Api(dict.fromkeys(OPERATIONS | OURS, self), Locked(Known(*known)))

    async def __call__(self, asked: Asked) -> Response:
        if asked.operation in ("CreateFunction", "CreateEventSourceMapping"):
            asked.permit(asked.operation, json.loads(asked.request.body)["FunctionName"])
        self.came.append(asked.operation)
        self.callers.append(CALLER.get())
        return Response(200)

    async def ask(self, method: str, path: str, token: str = "", body: bytes = b"{}") -> int:
        path, _, query = path.partition("?")
        headers = {b"authorization": f"Bearer {token}".encode()} if token else {}
        return (await self.api.answer(Request(method, path, query, headers, body))).status


def key(*rules: str) -> AccessKey:
    return new_access_key(map(Rule.parse, rules), "", 0.0)


@pytest.mark.parametrize(("operation", "route"), (OPERATIONS | OURS).items())
async def test_no_operation_is_answered_without_a_key(operation: str, route: tuple[str, str]) -> None:
    method, path = route
    for name in ("FunctionName", "LayerName", "Resource"):
        path = path.replace(f"{{{name}}}", "f")
    one = key("InvokeFunction@other")
    recorded = Recorded(one)
    assert await recorded.ask(method, path) == 403
    assert await recorded.ask(method, path, "x.y") == 403
    body = b'{"FunctionName": "f"}'
    assert await recorded.ask(method, path, one.token, body) in (400, 403)  # 400: an ARN that is none
    assert recorded.came == []


@pytest.mark.parametrize(
    ("rule", "method", "path", "status"),
    [
        ("InvokeFunction@f", "POST", "/2015-03-31/functions/f/invocations", 200),
        ("InvokeFunction@f", "POST", "/2015-03-31/functions/f%3Alive/invocations", 200),
        ("InvokeFunction@f", "POST", "/2015-03-31/functions/000000000000:function:f/invocations", 200),
        ("InvokeFunction@f", "POST", "/2015-03-31/functions/g/invocations", 403),
        ("InvokeFunction@f", "POST", "/2015-03-31/functions/g%3Af/invocations", 403),
        ("InvokeFunction@f", "POST", "/2015-03-31/functions/f%2F..%2Fg/invocations", 400),
        ("InvokeFunction@f", "POST", "/2021-11-15/functions/f/response-streaming-invocations", 200),
        ("InvokeFunction@f", "POST", "/2021-11-15/functions/g/response-streaming-invocations", 403),
        ("ListFunctions", "GET", "/2015-03-31/functions", 200),
        ("ListFunctions@f", "GET", "/2015-03-31/functions", 403),
        ("GetLayerVersion@layer:l", "GET", "/2018-10-31/layers/l/versions/1", 200),
        ("GetLayerVersion@l", "GET", "/2018-10-31/layers/l/versions/1", 403),
        (
            "GetLayerVersion@layer:l",
            "GET",
            "/2018-10-31/layers?find=LayerVersion&Arn=arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Alayer%3Al%3A1",
            200,
        ),
        (
            "GetLayerVersion@layer:l",
            "GET",
            "/2018-10-31/layers?find=LayerVersion&Arn=arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Alayer%3Am%3A1",
            403,
        ),
        ("ListTags@f", "GET", "/2017-03-31/tags/arn:aws:lambda:us-east-1:000000000000:function:f", 200),
        ("ListTags@f", "GET", "/2017-03-31/tags/arn:aws:lambda:us-east-1:000000000000:function:g", 403),
    ],
)
async def test_a_rule_is_about_what_the_request_names(rule: str, method: str, path: str, status: int) -> None:
    one = key(rule)
    assert await Recorded(one).ask(method, path, one.token) == status


async def test_what_is_created_is_named_in_the_body() -> None:
    one = key("CreateFunction@mine-*")
    recorded = Recorded(one)
    path = "/2015-03-31/functions"
    assert await recorded.ask("POST", path, one.token, b'{"FunctionName": "mine-1"}') == 200
    assert await recorded.ask("POST", path, one.token, b'{"FunctionName": "yours"}') == 403
    assert recorded.came == ["CreateFunction"]


async def test_a_trigger_s_function_is_named_in_the_body_too() -> None:
    one = key("CreateEventSourceMapping@mine-*")
    recorded = Recorded(one)
    path = "/2015-03-31/event-source-mappings"
    assert await recorded.ask("POST", path, one.token, b'{"FunctionName": "mine-1"}') == 200
    assert await recorded.ask("POST", path, one.token, b'{"FunctionName": "yours"}') == 403
    for method, which in (
        ("GET", path),
        ("GET", f"{path}/id"),
        ("PUT", f"{path}/id"),
        ("DELETE", f"{path}/id"),
    ):
        assert await recorded.ask(method, which, one.token) == 403


@pytest.mark.parametrize(
    ("method", "path", "action", "resource"),
    [
        ("PUT", "/2015-03-31/functions/f/code", "UpdateFunctionCode", "f"),
        ("DELETE", "/2015-03-31/functions/000000000000:function:f:live", "DeleteFunction", "f"),
        ("POST", "/2018-10-31/layers/libs/versions", "PublishLayerVersion", "layer:libs"),
        ("DELETE", "/2018-10-31/layers/libs/versions/1", "DeleteLayerVersion", "layer:libs"),
        ("DELETE", "/2017-03-31/tags/function:f?tagKeys=a", "UntagResource", "f"),
        ("PUT", f"/2015-03-31/functions/{'f' * 1000}/code", "UpdateFunctionCode", "f" * MAX_LOGGED),
    ],
)
async def test_each_change_leaves_a_line_as_over_grpc(
    method: str, path: str, action: str, resource: str
) -> None:
    with structlog.testing.capture_logs() as logs:
        await Recorded().ask(method, path)
    (line,) = [line for line in logs if line["event"] == "audit"]
    assert (line["action"], line["resource"], line["outcome"]) == (action, resource, "failed")


async def test_who_goes_away_before_the_answer_leaves_a_line_too() -> None:
    begun = asyncio.Event()

    async def never_answers(_: Asked) -> Response:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    one = key("DeleteFunction")
    headers = {b"authorization": f"Bearer {one.token}".encode()}
    request = Request("DELETE", "/2015-03-31/functions/f", "", headers)
    with structlog.testing.capture_logs() as logs:
        asking = asyncio.create_task(
            Api({"DeleteFunction": never_answers}, Locked(Known(one))).answer(request)
        )
        await begun.wait()
        asking.cancel()
        await asyncio.wait([asking])
    (line,) = [line for line in logs if line["event"] == "audit"]
    assert (line["resource"], line["access_key"], line["outcome"]) == ("f", one.id, "failed")


class Configs(EventInvokes):
    """Remembers what is to be configured."""

    def __init__(self) -> None:
        self.came: list[pb.PutEventInvokeConfigRequest] = []

    async def put(self, request: pb.PutEventInvokeConfigRequest) -> pb.EventInvokeConfig:
        self.came.append(request)
        return pb.EventInvokeConfig(function_name=request.function_name, settings=request.settings)


async def test_a_function_as_destination_takes_the_right_to_call_it() -> None:
    """As it is called with whatever is sent there: a key that may configure alone may not have that done."""
    body = {"DestinationConfig": {"OnFailure": {"Destination": f"{ARN}:g:live"}}}
    request = Request("PUT", "/", body=json.dumps(body).encode())
    asked = Asked("PutFunctionEventInvokeConfig", request, {"FunctionName": "f"}, {})
    asked.permit = functools.partial(permit, key("PutFunctionEventInvokeConfig@f"))
    configs = Configs()
    put = EventInvokeOperations(configs).operations()["PutFunctionEventInvokeConfig"]
    with pytest.raises(AccessDenied, match="InvokeFunction on 'g'"):
        await put(asked)
    assert not configs.came
    asked.permit = functools.partial(permit, key("InvokeFunction@g"))
    assert (await put(asked)).status == 200
    assert configs.came[0].settings.on_failure == f"{ARN}:g:live"


def test_actions_are_lambdas_or_our_own() -> None:
    own = {"InvokeFunction", "SetConcurrency", "ListInstances", "ListNodes", "DrainNode", "Explain"}
    own |= {"CountReasons", "GetActivity", "GetShadow", "ReadLogs", "InvokeFunctionUrl", "GetQueue"}
    own |= {f"{what}Schedule" for what in ("Create", "Update", "Get", "Delete")} | {"ListSchedules"}
    assert ACTIONS - own <= (OPERATIONS | OURS).keys()


@pytest.mark.parametrize(
    ("host", "answered"),
    [
        ("", True),
        ("127.0.0.1:9000", True),
        ("10.0.0.7", True),
        ("[::1]:9000", True),
        ("localhost:9000", True),
        ("LOCALHOST.", True),
        ("abc.lambda-url.localhost:9000", True),
        ("frontend:9000", True),
        ("lambent.example:9000", True),
        ("Lambent.Example.", True),
        ("evil.example:9000", False),
        ("a.lambent.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("127.0.0.1@evil.example", False),
        ("[evil.example]", False),
        ("evil.example.", False),
    ],
)
async def test_a_name_that_a_page_may_have_is_not_answered_where_nobody_is_asked(
    host: str, answered: bool
) -> None:
    """A page that gives its own name this machine's address could read everything otherwise."""
    api = Api(dict.fromkeys(OPERATIONS, done), Open(["lambent.example"]))
    headers = {b"host": host.encode()} if host else {}
    answer = await api.answer(Request("GET", "/2015-03-31/functions", headers=headers))
    assert answer.status == (200 if answered else 403)
    assert b"http_names" in answer.body or answered
    assert is_of_no_page(host) == (answered and "xample" not in host)


async def done(_: Asked) -> Response:
    return Response(200)


async def test_where_keys_are_asked_for_any_name_will_do() -> None:
    """A page has none."""
    one = key("*")
    headers = {b"host": b"api.example", b"authorization": f"Bearer {one.token}".encode()}
    api = Api(dict.fromkeys(OPERATIONS, done), Locked(Known(one)))
    assert (await api.answer(Request("GET", "/2015-03-31/functions", headers=headers))).status == 200


async def test_a_call_knows_whose_key_it_was_made_with() -> None:
    """Each request its own: nothing is left of the one before on a connection."""
    one, other = key("*@*"), key("*@*")
    recorded = Recorded(one, other)
    for it in (one, other):
        await asyncio.create_task(recorded.ask("GET", "/2015-03-31/functions/f", it.token))
    assert recorded.callers == [one.id, other.id]
    assert CALLER.get() == ""
