"""A fleet whose parts speak TLS among themselves: it works, and each is let in where it belongs alone."""

import asyncio
import json
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import grpc
import pytest

from lambent_chassis import link
from lambent_chassis.clock import monotonic_s
from lambent_chassis.etcd import Etcd, Tls
from lambent_chassis.peering import Files, Mtls
from lambent_proto import frames, identity, keys
from lambent_proto.ids import FrontendId
from lambent_proto.internal import control_pb2, control_pb2_grpc
from lambent_proto.v1 import fleet_pb2, fleet_pb2_grpc
from tests.e2e.fleet import Fleet, up

pytestmark = pytest.mark.e2e

WITHIN_S: Final = 10.0


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with up(tmp_path_factory.mktemp("mtls") / "data", "--mtls", "--workers", "1") as fleet:
        yield fleet
        assert fleet.stop() == 0


def certificates(fleet: Fleet, part: str, name: str) -> Files:
    folder = fleet.data / "certificates"
    return Files(folder / "ca" / "ca.crt", folder / f"{part}-{name}.crt", folder / f"{part}-{name}.key")


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def answer(port: int, said: bytes, context: ssl.SSLContext | None) -> bytes:
    """What comes back; nothing where the other side hangs up, or says no."""
    try:
        plain = socket.create_connection(("127.0.0.1", port), timeout=WITHIN_S)
        with plain, context.wrap_socket(plain) if context else plain as connection:
            connection.sendall(said)
            heard = b""
            while piece := connection.recv(65536):
                heard += piece
            return heard
    except OSError:
        return b""


def logged(fleet: Fleet, part: str, event: str) -> str:
    """The reason of the last such line; waits for one."""
    deadline = monotonic_s() + WITHIN_S
    while monotonic_s() < deadline:
        lines = (fleet.data / "logs" / f"{part}.log").read_text().splitlines()
        if found := [line for line in lines if event in line]:
            return str(json.loads(found[-1])["reason"])
    raise AssertionError(f"{part} has not said {event}")


def test_calls_logs_and_listings_work(fleet: Fleet, echo: Path) -> None:
    """What goes between all of its parts."""
    deployed = fleet.lambent("deploy", str(echo), "--name", "echo", "--handler", "echo.handler")
    assert deployed.returncode == 0, deployed.stderr
    for _ in range(2):
        invoked = fleet.lambent("invoke", "echo", "-d", '{"a": 1}')
        assert invoked.returncode == 0, invoked.stderr
    assert fleet.lambent("logs", "echo").returncode == 0
    assert b"worker-1" in fleet.lambent("nodes").stdout


def test_metrics_are_for_any_certificate_of_the_fleet(fleet: Fleet) -> None:
    port = port_of(fleet.part("worker-1")["addresses"]["metrics"])
    context = Mtls(certificates(fleet, "operator", "up")).dialling()
    context.check_hostname = False
    request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
    assert b"lambent_worker_instances" in answer(port, request, context)


async def asked(stub: "control_pb2_grpc.PlacementAsyncStub", rpc: str) -> None:
    """As a frontend `f9` or a worker `w9` would."""
    if rpc == "Describe":
        await stub.Describe(control_pb2.DescribeRequest())
    elif rpc == "AttachWorker":
        hello = control_pb2.WorkerReport(hello=control_pb2.WorkerHello(node="w9@1", memory_mb=9))
        await anext(aiter(stub.AttachWorker(iter([hello]))))
    else:
        greeting = control_pb2.FrontendReport(hello=control_pb2.FrontendHello(frontend="f9.1"))
        await anext(aiter(stub.AttachFrontend(iter([greeting]))))


@pytest.mark.parametrize(
    ("part", "name", "rpc", "why"),
    [
        ("worker", "worker-1", "Describe", "of a frontend is needed, and this one is of worker worker-1"),
        ("operator", "up", "Describe", "of a frontend is needed, and this one is of operator up"),
        (
            "frontend",
            "frontend",
            "AttachWorker",
            "of worker w9 is needed, and this one is of frontend frontend",
        ),
        ("worker", "worker-1", "AttachWorker", "of worker w9 is needed, and this one is of worker worker-1"),
        ("worker", "worker-1", "AttachFrontend", "of frontend f9 is needed, and this one is of worker"),
    ],
)
async def test_placement_takes_from_each_what_is_its_part(
    fleet: Fleet, part: str, name: str, rpc: str, why: str
) -> None:
    """Neither another part's requests, nor another worker's."""
    address = fleet.part("placement")["addresses"]["control"]
    peering = Mtls(certificates(fleet, part, name))
    async with peering.channel(address, identity.dns_name("placement")) as channel:
        stub = control_pb2_grpc.PlacementStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await asyncio.wait_for(asked(stub, rpc), WITHIN_S)
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert why in (refused.value.details() or "")
    assert why in logged(fleet, "placement", "peer_refused")


async def test_a_worker_takes_events_from_frontends_alone(fleet: Fleet) -> None:
    """A part of the fleet that is none hears nothing, and the log says whose certificate it was."""
    worker = fleet.part("worker-1")["addresses"]
    peering = Mtls(certificates(fleet, "operator", "up"))
    lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    heard: list[frames.Frame] = []
    connection = await link.dial(
        "127.0.0.1",
        port_of(worker["data"]),
        decoder=lambda: frames.Decoder(frames.TO_FRONTEND),
        on_frame=lambda _, frame: heard.append(frame),
        on_lost=lambda _, __: lost.set_result(None),
        ssl=peering.dialling(),
        name=identity.dns_name("worker", "worker-1"),
    )
    greeting = frames.encode(frames.Hello("frontend.1"))
    assert isinstance(greeting, bytes)
    connection.send(greeting)
    async with asyncio.timeout(WITHIN_S):
        await lost
    assert heard == []
    assert "this one is of operator up" in logged(fleet, "worker-1", "link_refused")


async def test_a_workers_logs_are_for_frontends_alone(fleet: Fleet) -> None:
    address = fleet.part("worker-1")["addresses"]["control"]
    peering = Mtls(certificates(fleet, "placement", "placement"))
    async with peering.channel(address, identity.dns_name("worker", "worker-1")) as channel:
        stub = control_pb2_grpc.WorkerLogsStub(channel)
        lines = stub.ReadLogs(control_pb2.ReadWorkerLogsRequest(function_name="echo"))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await asyncio.wait_for(anext(aiter(lines)), WITHIN_S)
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_frontend_is_asked_for_its_calls_by_frontends_alone(fleet: Fleet) -> None:
    """It answers there without a key, so that a certificate of another part's must not do."""
    files = certificates(fleet, "operator", "up")
    tls = Tls(ca_file=files.ca, cert_file=files.cert, key_file=files.key)
    async with Etcd(fleet.etcd, tls=tls) as etcd:
        (told,) = (await etcd.get_prefix(keys.frontend_address(FrontendId("")))).items
    for part, name, allowed in (("worker", "worker-1", False), ("frontend", "frontend", True)):
        peering = Mtls(certificates(fleet, part, name))
        async with peering.channel(told.value.decode(), identity.dns_name("frontend")) as channel:
            asked = fleet_pb2_grpc.FleetStub(channel).CountReasons(
                fleet_pb2.CountReasonsRequest(), timeout=WITHIN_S
            )
            if allowed:
                await asked
                continue
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await asked
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert "this one is of worker worker-1" in logged(fleet, "frontend", "peer_refused")


def test_etcd_asks_for_a_certificate_too(fleet: Fleet) -> None:
    """And a command finds one by the file of any part."""
    plain = fleet.lambent("key", "ls", "--etcd", fleet.etcd[0])
    assert plain.returncode != 0
    config = fleet.data / "config" / "frontend.toml"
    listed = fleet.lambent("key", "ls", "--config", str(config))
    assert listed.returncode == 0, listed.stderr


def test_a_renewed_certificate_needs_no_restart(fleet: Fleet, echo: Path) -> None:
    """All are made anew; the worker is killed, and everything that meets it again does so by the new ones."""
    ca, folder = fleet.data / "certificates" / "ca", fleet.data / "certificates"
    for part, name in (("frontend", "frontend"), ("placement", "placement"), ("worker", "worker-1")):
        issued = fleet.lambent("cert", "issue", part, name, "--ca", str(ca), "--out", str(folder))
        assert issued.returncode == 0, issued.stderr
    fleet.runs_again("worker-1", fleet.kill("worker-1"))
    fleet.lambent("deploy", str(echo), "--name", "again", "--handler", "echo.handler")
    invoked = fleet.lambent("invoke", "again", "-d", "{}")
    assert invoked.returncode == 0, invoked.stderr
    shown = subprocess.run(
        [
            *("openssl", "s_client", "-connect", fleet.part("worker-1")["addresses"]["data"]),
            *("-cert", str(folder / "operator-up.crt"), "-key", str(folder / "operator-up.key")),
        ],
        input="",
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert "worker worker-1" in shown.stdout
