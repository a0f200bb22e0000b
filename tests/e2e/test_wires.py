"""The wires from outside: generic gRPC tools, etcd's own counters, and peers that break the frame format."""

import asyncio
import base64
import re
import struct
import urllib.request
from collections import Counter
from collections.abc import Iterator

import grpc
import msgpack
import pytest
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from lambent.client import Client
from tests.e2e.evidence import Evidence, deploy
from tests.e2e.fleet import Fleet
from tests.e2e.load import calling, eventually

pytestmark = pytest.mark.e2e

TIMED = ("LeaseKeepAlive", "Status")
"""What comes with time and not with calls: every part renews its lease, and asks a member that has sent no
change for a second whether it still lives."""

SERVICES = ["Invocations", "Functions", "Fleet"]


@pytest.fixture
def channel(shared: Fleet) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(shared.endpoint) as channel:
        yield channel


def test_health(channel: grpc.Channel) -> None:
    """SERVING, as a whole and for each service; an unknown service is NOT_FOUND."""
    stub = health_pb2_grpc.HealthStub(channel)
    for service in ["", *(f"lambent.v1.{name}" for name in SERVICES)]:
        answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as raised:
        stub.Check(health_pb2.HealthCheckRequest(service="nothing"), timeout=5)
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND


async def test_reflection(channel: grpc.Channel, client: Client, name: str, evidence: Evidence) -> None:
    """A tool that has none of our files calls a function by what reflection tells it alone."""
    await deploy(client, name, evidence, handler="app.echo")
    assert await asyncio.to_thread(_call_by_reflection, channel, name) == b'{"a":1}'


def _call_by_reflection(channel: grpc.Channel, name: str) -> bytes:
    database = ProtoReflectionDescriptorDatabase(channel)
    assert {f"lambent.v1.{service}" for service in SERVICES} <= set(database.get_services())
    pool = descriptor_pool.DescriptorPool(database)
    method = pool.FindServiceByName("lambent.v1.Invocations").FindMethodByName("Invoke")
    request, response = map(message_factory.GetMessageClass, (method.input_type, method.output_type))
    asked = json_format.ParseDict({"function_name": name, "payload": "eyJhIjoxfQ=="}, request())
    invoke: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/lambent.v1.Invocations/Invoke")
    answered = response.FromString(invoke(asked.SerializeToString(), timeout=20))
    return base64.b64decode(json_format.MessageToDict(answered)["payload"])


async def test_warm_calls_cost_no_etcd_operation(
    shared: Fleet, client: Client, name: str, evidence: Evidence
) -> None:
    """10,000 calls through one stream: etcd counts no operation, no request, no message because of them."""
    await deploy(client, name, evidence, handler="app.echo", concurrency=2)

    async with client.stream() as stream:

        async def some(count: int) -> None:
            for _ in range(count):
                assert (await stream.invoke(name, b"1")).function_error == ""

        await asyncio.gather(*(some(5) for _ in range(64)))
        before = await asyncio.to_thread(etcd_operations, shared.etcd[0])
        await asyncio.gather(*(some(10_000 // 64 + 1) for _ in range(64)))
        after = await asyncio.to_thread(etcd_operations, shared.etcd[0])
    assert before["grpc_server_handled_total Range"] > 0  # the counters count
    assert after - before == Counter()


def etcd_operations(endpoint: str) -> Counter[str]:
    """Etcd's own counts of requests and messages by method, and of what its store did; without TIMED."""
    with urllib.request.urlopen(f"http://{endpoint}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    counts: Counter[str] = Counter()
    for metric, labels, value in re.findall(r"^(\w+)(?:\{(.*)\})? (\S+)$", text, re.MULTILINE):
        method = re.search(r'grpc_method="(\w+)"', labels)
        if method and method[1] not in TIMED and metric.startswith("grpc_server_"):
            if metric.endswith("_total"):
                counts[f"{metric} {method[1]}"] += int(float(value))
        elif re.fullmatch(r"etcd(_debugging)?_mvcc_(put|range|txn|delete|watch_stream)_total", metric):
            counts[metric] += int(float(value))
    return counts


def frame(size: int, head_size: int, head: bytes = b"", body: bytes = b"") -> bytes:
    return struct.pack(">IH", size, head_size) + head + body


def head(*fields: object) -> bytes:
    packed: bytes = msgpack.packb(fields)
    return packed


def whole(packed: bytes, body: bytes = b"") -> bytes:
    return frame(2 + len(packed) + len(body), len(packed), packed, body)


HELLO = whole(head(1, 1, "stranger@1"))
EVENT = (2, "r1", "no-such-instance", 5, 3000, "arn", "", False)

LIES = {
    "a frame of four gigabytes": HELLO + frame(0xFFFF_FFFF, 7),
    "a head that is larger than its frame": HELLO + frame(10, 60_000),
    "fewer bytes announced than come": HELLO + whole(head(*EVENT, 2), b"four"),
    "a payload above the limit announced": HELLO + whole(head(*EVENT, 2**40), b"x"),
    "no greeting": whole(head(*EVENT, 1), b"x"),
    "a greeting twice": HELLO + HELLO,
    "a piece of nothing": HELLO + whole(head(4, "r1"), b"x"),
    "what only a worker says": HELLO + whole(head(3, "r1", False, 1.0, None, 1), b"x"),
    "another format altogether": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("what", LIES)
async def test_a_peer_that_lies(
    shared: Fleet, client: Client, name: str, evidence: Evidence, what: str
) -> None:
    """It loses its connection to the worker, while calls over another one go on undisturbed."""
    await deploy(client, name, evidence, concurrency=2)
    host, _, port = shared.part("worker-1")["addresses"]["data"].rpartition(":")
    async with calling(client, name, callers=4, sleep=0.005) as load:
        await eventually(lambda: len(evidence.births()) == 2, "both instances are there")
        await load.more(4)
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(LIES[what])
        async with asyncio.timeout(3):  # a worker gives up a silent peer after five
            said = await _rest(reader)
        writer.close()
        assert said == b"" or b"worker-1@" in said  # its greeting, and nothing else
        await load.more(8)
    assert load.errors == []
    assert len(evidence.births()) == 2


async def _rest(reader: asyncio.StreamReader) -> bytes:
    """What comes until the connection is closed, in order or with a reset."""
    said = b""
    try:
        while more := await reader.read(4096):
            said += more
    except ConnectionResetError:
        pass
    return said
