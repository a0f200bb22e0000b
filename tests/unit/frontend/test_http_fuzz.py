"""Whatever comes over HTTP, no bug of ours answers: every request gets an answer of the right shape, none of
them 500."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lambent_chassis.etcd import Etcd, EtcdServer, find_etcd
from lambent_chassis.objects import open_store
from lambent_frontend.async_invocations import AsyncInvocations
from lambent_frontend.calling import Calling
from lambent_frontend.catalogue import Catalogue
from lambent_frontend.event_invokes import EventInvokes
from lambent_frontend.function_urls import FunctionUrls
from lambent_frontend.functions import Functions
from lambent_frontend.http import bodies
from lambent_frontend.http.api import Api
from lambent_frontend.http.gate import Open
from lambent_frontend.http.messages import Request, Response
from lambent_frontend.http.operations import operations
from lambent_frontend.http.routes import OPERATIONS
from lambent_frontend.invoker import Invoker
from lambent_frontend.layer_catalogue import LayerCatalogue
from lambent_frontend.layers import Layers
from lambent_frontend.limits import Limits
from lambent_frontend.packages import Packages
from lambent_frontend.policies import Policies
from lambent_frontend.queue.adapters import adapters
from lambent_frontend.queue.destinations import Destinations
from lambent_frontend.registry import Registry
from lambent_frontend.triggers.store import TriggerStore
from lambent_frontend.triggers.triggers import Triggers
from lambent_frontend.urls.hosts import Hosts
from lambent_frontend.versions import Versions
from lambent_proto.ids import FrontendId, FunctionName
from lambent_proto.internal import control_pb2
from tests.unit.frontend.http_client import connected, invoking, listening
from tests.unit.frontend.test_functions import package
from tests.unit.scripted import ScriptedDispatcher

pytestmark = pytest.mark.integration

Run = Callable[[Coroutine[Any, Any, Any]], Any]

MODELS = [it for it in vars(bodies).values() if isinstance(it, type) and issubclass(it, bodies.Body)]
DIRECT = [
    *("GetFunction", "GetFunctionConfiguration", "ListFunctions", "DeleteFunction", "GetFunctionConcurrency"),
    *("ListVersionsByFunction", "GetAlias", "ListAliases", "DeleteAlias", "ListTags", "UntagResource"),
    *("GetProvisionedConcurrencyConfig", "DeleteProvisionedConcurrencyConfig", "GetLayerVersion"),
    *("GetPolicy", "RemovePermission", "GetFunctionUrlConfig", "ListFunctionUrlConfigs"),
    *(
        "DeleteFunctionUrlConfig",
        "GetLayerVersionByArn",
        "ListLayers",
        "ListLayerVersions",
        "DeleteLayerVersion",
        "GetAccountSettings",
    ),
]
NAMES = sorted({name for model in MODELS for name in model.model_fields})
WORDS = st.sampled_from(
    [
        "f",
        "g",
        "1",
        "2",
        "$LATEST",
        "live",
        "",
        "..",
        "../f",
        "a/b",
        "f:1",
        "f:live",
        "arn:aws:lambda:::f",
        "\0",
        "é",
    ]
) | st.text(max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | WORDS, inner, max_size=3)
    ),
    max_leaves=8,
)
NUMBERS = st.sampled_from([-(2**31) - 1, -1, 0, 1, 3, 512, 2**31, 2**63, 2**80])
ZIP = base64.b64encode(package()).decode()
SOUND = {
    "FunctionName": st.sampled_from(["f", "g"]),
    "Runtime": st.just("python3.11"),
    "Handler": st.just("app.handler"),
    "Code": st.just({"ZipFile": ZIP}),
    "Content": st.just({"ZipFile": ZIP}),
    "ZipFile": st.just(ZIP),
    "Name": st.sampled_from(["live", "7", "a b"]),
    "FunctionVersion": st.sampled_from(["1", "2", "$LATEST"]),
    "RoutingConfig": st.just({"AdditionalVersionWeights": {"2": 0.5}}),
    "ReservedConcurrentExecutions": NUMBERS,
    "ProvisionedConcurrentExecutions": NUMBERS,
    "Tags": st.dictionaries(WORDS, WORDS, max_size=3),
    "Layers": st.lists(WORDS, max_size=6),
    "MemorySize": NUMBERS,
    "Timeout": NUMBERS,
    "EphemeralStorage": st.fixed_dictionaries({"Size": NUMBERS}),
    "Description": WORDS,
    "Role": WORDS,
    "RevisionId": WORDS,
    "CodeSha256": WORDS,
    "Publish": st.booleans(),
    "DryRun": st.booleans(),
    "StatementId": st.sampled_from(["s", "t", "a b"]),
    "Action": st.sampled_from(["lambda:InvokeFunctionUrl", "lambda:InvokeFunction", "*", "s3:GetObject"]),
    "Principal": st.sampled_from(["*", "123456789012", "s3.amazonaws.com", "arn:aws:iam::1:user/a"]) | WORDS,
    "FunctionUrlAuthType": st.sampled_from(["NONE", "AWS_IAM", "OTHER"]),
    "AuthType": st.sampled_from(["NONE", "AWS_IAM", "OTHER"]),
    "InvokeMode": st.sampled_from(["BUFFERED", "RESPONSE_STREAM", "OTHER"]),
    "Cors": st.fixed_dictionaries({}, optional={"AllowOrigins": st.lists(WORDS), "MaxAge": NUMBERS}),
    "Environment": st.fixed_dictionaries({"Variables": st.dictionaries(WORDS, WORDS, max_size=3)}),
}
"""Values that get past the first checks."""

OBJECTS = st.fixed_dictionaries(
    {}, optional={name: SOUND.get(name, VALUES) for name in NAMES}
) | st.dictionaries(WORDS, VALUES, max_size=3)


IN_PATHS = {
    "FunctionName": st.sampled_from(["f", "f", "f", "g", "f:1", "f:live", "f:$LATEST"]) | WORDS,
    "Name": st.sampled_from(["live", "other"]) | WORDS,
    "StatementId": st.sampled_from(["s", "t"]) | WORDS,
    "LayerName": st.just("f") | WORDS,
    "VersionNumber": st.sampled_from(["1", "2", "0", "-1", "1" * 30, "²"]) | WORDS,
    "Resource": st.just("arn:aws:lambda:us-east-1:000000000000:function:f") | WORDS,
}
QUERIES = st.dictionaries(
    st.sampled_from(["Qualifier", "Marker", "MaxItems", "FunctionVersion", "List", "find", "Arn", "tagKeys"]),
    WORDS | st.just("arn:aws:lambda:us-east-1:000000000000:layer:f:1"),
    max_size=2,
)
HEADERS = st.dictionaries(
    st.sampled_from(
        [
            b"x-amz-invocation-type",
            b"x-amz-log-type",
            b"x-amz-client-context",
            b"x-lambent-tenant",
            b"x-lambent-priority",
            b"x-lambent-deadline-s",
            b"x-lambent-sticky-key",
        ]
    ),
    st.sampled_from([b"DryRun", b"Tail", b"e30=", b"high", b"1e400", b"nan", b"\xff"])
    | st.binary(max_size=9),
    max_size=2,
)
WITH_BODY = sorted({it.__name__ for it in MODELS} & OPERATIONS.keys())
THERE = [*(4 * WITH_BODY), "Invoke", *DIRECT]
"""Operations that are there, those with a body more often."""


def bodies_of(operation: str) -> st.SearchStrategy[bytes]:
    """Mostly of the operation's own fields, each mostly sound."""
    fields = getattr(bodies, operation).model_fields if hasattr(bodies, operation) else {}
    sound = {name: SOUND.get(name, VALUES) for name in fields}
    needed = {name: sound.pop(name) for name, field in fields.items() if field.is_required()}
    whole = st.fixed_dictionaries(needed, optional=sound)
    few = st.fixed_dictionaries(needed, optional={name: SOUND[name] for name in sound if name in SOUND})
    made = few | few | few | few | whole | OBJECTS | VALUES
    return made.map(lambda it: json.dumps(it).encode()) | st.binary(max_size=30)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """Of an operation, with what stands in its path, its query and its body made up."""
    operation = draw(st.sampled_from([*THERE, "any"]))
    if operation == "any":
        operation = draw(st.sampled_from(sorted(OPERATIONS)))
    method, uri = OPERATIONS[operation]
    path, _, query = uri.partition("?")
    safe = draw(st.sampled_from(["", ":$"]))
    segments = [
        quote(draw(IN_PATHS.get(it.strip("{}"), WORDS)), safe=safe) if it.startswith("{") else it
        for it in path.split("/")
    ]
    said = urlencode(draw(QUERIES))
    return Request(
        draw(st.sampled_from([method] * 20 + ["PATCH"])),
        "/".join(segments),
        "&".join(part for part in (query, said) if part),
        draw(HEADERS),
        draw(bodies_of(operation)),
    )


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """On uvloop, as a frontend runs: its transports differ from asyncio's own in what they allow."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield runner.run


@pytest.fixture(scope="module")
def api(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """With a real etcd and a real store, and a function `f` with a version and an alias."""
    made = whole(tmp_path_factory.mktemp("fuzz"))
    yield run(made.__aenter__())
    run(made.__aexit__(None, None, None))


async def described(_: FunctionName) -> control_pb2.DescribeResponse:
    return control_pb2.DescribeResponse()


@asynccontextmanager
async def whole(folder: Path) -> AsyncIterator[Api]:
    async with (
        await EtcdServer.start(find_etcd(), folder / "etcd") as server,
        Etcd([server.endpoint]) as etcd,
    ):
        catalogue = Catalogue(etcd, lambda *_: None)
        following = asyncio.create_task(catalogue.follow())
        await catalogue.ready.wait()
        (folder / "packages").mkdir()
        packages = Packages(open_store(str(folder / "packages")))
        registry, limits, layers = Registry(etcd, catalogue), Limits(etcd, catalogue), LayerCatalogue(etcd)
        functions = Functions(catalogue, registry, packages, layers, limits)
        versions = Versions(catalogue, registry, limits, described)
        invoker = Invoker(catalogue, ScriptedDispatcher(), waiting_s=1)
        configs = EventInvokes(catalogue, registry, Destinations(adapters({}), ("*",), {}).check)
        policies, hosts = Policies(catalogue, registry), Hosts("")
        there = operations(
            Calling(invoker),
            functions,
            versions,
            Layers(layers, packages),
            limits,
            policies,
            FunctionUrls(catalogue, registry, hosts.address),
            AsyncInvocations(None, FrontendId("f")),
            configs,
            Triggers(TriggerStore(etcd), catalogue, lambda _: None, {}),
            lambda *_: "",
        )
        yield Api(there, Open())
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


MADE = json.dumps(
    {
        "FunctionName": "f",
        "Runtime": "python3.11",
        "Handler": "app.handler",
        "Code": {"ZipFile": ZIP},
        "Publish": True,
    }
).encode()


async def answered(api: Api, request: Request) -> Response:
    """With `f` and a version of it there."""
    made = await api.answer(Request("POST", "/2015-03-31/functions", body=MADE))
    assert made.status in (201, 409)
    return await api.answer(request)


def check(answer: Response) -> None:
    assert answer.status < 500 or answer.status == 501, answer
    if answer.status >= 400:
        told = json.loads(answer.body)
        assert isinstance(told.get("message") or told["Message"], str)
        assert answer.headers["x-amzn-ErrorType"].endswith("Exception")
    for name, value in answer.headers.items():
        assert value.isprintable(), (name, value)
        value.encode("latin-1")


@settings(
    max_examples=600,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(request=requests())
@pytest.mark.timeout(180)
def test_every_operation(run: Run, api: Api, request: Request) -> None:
    """Made-up requests of every operation, and of none."""
    check(run(answered(api, request)))


HEADS = [
    b"POST /2015-03-31/functions/echo/invocations HTTP/1.1\r\n",
    b"GET / HTTP/1.1\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Expect: 100-continue\r\n",
    b"Connection: close\r\n",
    b"Upgrade: h2c\r\nConnection: upgrade\r\n",
    b"\r\n",
    b"5\r\nabcde\r\n",
    b"0\r\n\r\n",
    b"12345",
    b"A: b\r\n",
    b"HEAD /nowhere HTTP/1.1\r\n",
]


@settings(max_examples=300, deadline=None)
@given(pieces=st.lists(st.sampled_from(HEADS) | st.binary(max_size=20), max_size=12))
@pytest.mark.timeout(180)
def test_any_bytes(run: Run, pieces: list[bytes]) -> None:
    """Each is answered or the connection ends; what is answered is HTTP, and nothing stays held."""
    run(talk(pieces))


async def talk(pieces: list[bytes]) -> None:
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    async with listening(invoking(ScriptedDispatcher())) as (server, port):
        async with connected(port) as client:
            for piece in pieces:
                client.send(piece)
            client.writer.write_eof()
            said = await client.ended()
        assert server.held == 0
    assert failures == []
    assert not said or said.startswith(b"HTTP/1.1 ")
    assert b"HTTP/1.1 5" not in said
