"""OpenTelemetry's spans of a call, as a collector gets them from client, frontend, worker and function."""

from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from lambent.client import Client
from lambent_proto.tracing import Trace, read
from tests.e2e.by_hand import running
from tests.e2e.evidence import RUNTIME, package
from tests.e2e.fleet import Fleet
from tests.e2e.load import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

WITHIN_S = 20.0
SOURCE = """
import os

def handler(event, context):
    if event == "fail":
        raise ValueError("no")
    return os.environ["_X_AMZN_TRACE_ID"]
"""


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Span]] = []
        """Each with the service that told of it."""

    def Export(
        self, request: pb.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> pb.ExportTraceServiceResponse:
        for of_resource in request.resource_spans:
            said = {it.key: it.value.string_value for it in of_resource.resource.attributes}
            for of_scope in of_resource.scope_spans:
                self.spans += [(said["service.name"], span) for span in of_scope.spans]
        return pb.ExportTraceServiceResponse()

    def of(self, trace_id: str) -> dict[str, tuple[str, Span]]:
        """By name."""
        return {it[1].name: it for it in list(self.spans) if it[1].trace_id.hex() == trace_id}

    async def until(self, trace_id: str, names: set[str]) -> dict[str, tuple[str, Span]]:
        await eventually(lambda: names <= self.of(trace_id).keys(), f"spans {names}", WITHIN_S)
        return self.of(trace_id)


@pytest.fixture(scope="module")
def collector() -> Iterator[tuple[Collector, str]]:
    kept = Collector()
    server = grpc.server(ThreadPoolExecutor(4))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(kept, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield kept, f"http://127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.fixture(scope="module")
def fleet(collector: tuple[Collector, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAMBENT_OTLP_ENDPOINT", collector[1])
        with running(tmp_path_factory.mktemp("otlp"), "--workers", "1") as fleet:
            patch.undo()
            yield fleet


@pytest.fixture
async def client(fleet: Fleet) -> AsyncIterator[Client]:
    async with Client(fleet.endpoint) as client:
        yield client


@contextmanager
def within(trace_id: str, *, sampled: bool) -> Iterator[None]:
    """A span of the caller's."""
    flags = trace.TraceFlags(int(sampled))
    context = trace.SpanContext(int(trace_id, 16), int(CALLER, 16), is_remote=False, trace_flags=flags)
    with trace.use_span(trace.NonRecordingSpan(context)):
        yield


CALLER = "53995c3f42cd8ad8"


async def deploy(client: Client, name: str) -> None:
    await client.create_function(name, package({"app.py": SOURCE}), runtime=RUNTIME, handler="app.handler")


async def test_a_call_from_its_caller_to_its_function(
    client: Client, collector: tuple[Collector, str], name: str
) -> None:
    """Each span is below the one before; what the function itself tells would be below its run."""
    kept, _ = collector
    await deploy(client, name)
    traced = "5759e988bd862e3fe1be46a994272793"
    with within(traced, sampled=True):
        told = (await client.invoke(name, {})).json()
    names = {f"invoke {name}", "wait", "start", "init", f"run {name}"}
    spans = await kept.until(traced, names)
    assert spans.keys() == names
    call, run = spans[f"invoke {name}"][1], spans[f"run {name}"][1]
    assert call.parent_span_id.hex() == CALLER
    assert {spans[it][1].parent_span_id for it in names - {f"invoke {name}"}} == {call.span_id}
    assert read(told) == Trace(traced, run.span_id.hex(), sampled=True)
    assert {service for service, _ in spans.values()} == {"lambent-frontend", "lambent-worker"}
    said = {it.key: it.value for it in call.attributes}
    assert said["faas.coldstart"].bool_value
    assert said["lambent.outcome"].string_value == "succeeded"
    assert call.status.code != Status.STATUS_CODE_ERROR


async def test_who_decides_what_is_traced(
    client: Client, collector: tuple[Collector, str], name: str
) -> None:
    """The caller by its flag; a call without a trace is one of its own, named by its request id."""
    kept, _ = collector
    await deploy(client, name)
    untraced = "00000000000000000000000000000001"
    with within(untraced, sampled=False):
        told = (await client.invoke(name, {})).json()
    assert read(told) == Trace(untraced, CALLER, sampled=False)
    alone = await client.invoke(name, "fail")
    spans = await kept.until(alone.request_id.replace("-", ""), {f"invoke {name}", "wait", f"run {name}"})
    assert spans[f"invoke {name}"][1].parent_span_id == b""
    for it in (f"invoke {name}", f"run {name}"):
        assert spans[it][1].status.code == Status.STATUS_CODE_ERROR
    assert "start" not in spans  # it was warm
    assert kept.of(untraced) == {}
