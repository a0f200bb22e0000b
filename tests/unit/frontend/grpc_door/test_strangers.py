"""Clients that are neither ours nor grpcio's: of HTTP/2 at the own server, and Node.js's of gRPC at both."""

import asyncio
import contextlib
import json
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from lambent_frontend.grpc_door.connection import one_network
from lambent_frontend.grpc_door.core import wire
from lambent_frontend.grpc_door.core.calls import framed
from lambent_frontend.grpc_door.server import ALPN, OwnServer
from lambent_frontend.tls import PublicTls
from lambent_proto.v1 import invoke_pb2, invoke_pb2_grpc
from tests.unit import scripted
from tests.unit.frontend.grpc_door.test_core import headers
from tests.unit.scripted import ScriptedDispatcher, serving

ROOT = Path(__file__).parents[4]
GRPC_JS = ROOT / "build" / "grpc-js"

METHOD = "/lambent.v1.Invocations/Invoke"
GRPC = ("-H", "te: trailers", "-H", "content-type: application/grpc")


@pytest.fixture
def dispatcher() -> ScriptedDispatcher:
    return ScriptedDispatcher()


@pytest.fixture
async def address(dispatcher: ScriptedDispatcher, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    monkeypatch.setattr(scripted, "OWN", True)
    async with serving(dispatcher) as address:
        yield address


@pytest.fixture
def body(tmp_path: Path) -> Path:
    """One message: an invocation of `echo`."""
    message = invoke_pb2.InvokeRequest(function_name="echo", payload=b"{}").SerializeToString()
    path = tmp_path / "body"
    path.write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)
    return path


async def said(*command: str) -> str:
    """By a program that has to be here, and to end well."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
    )
    async with asyncio.timeout(40):
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode(errors="replace")
    return output.decode(errors="replace")


async def test_node(address: str, dispatcher: ScriptedDispatcher) -> None:
    """With windows of a thousand bytes: many calls at once, megabytes, errors, and a call that it cancels."""
    script = Path(__file__).with_name("node_client.mjs")
    seen = json.loads(await said("node", str(script), address))
    assert {(it["status"], it["code"], it["reset"]) for it in seen["many"]} == {(200, "0", 0)}
    assert seen["large"]["code"] == "0"
    assert seen["large"]["bytes"] > 3_000_000
    assert seen["unknown"]["code"] == str(grpc.StatusCode.NOT_FOUND.value[0])
    assert seen["absent"]["code"] == str(grpc.StatusCode.UNIMPLEMENTED.value[0])
    assert seen["cancelled"]["reset"] == 8
    assert not dispatcher.held or len(dispatcher.abandoned) == len(dispatcher.held)


@pytest.mark.usefixtures("door")
@pytest.mark.parametrize("encrypted", [False, True])
async def test_grpc_js(
    dispatcher: ScriptedDispatcher, certificate: tuple[Path, Path], encrypted: bool
) -> None:
    """The library that programs in Node.js use: many calls, 6 MB, compressed ones, errors with all they say,
    deadlines, a call that it cancels, streams."""
    if not (GRPC_JS / "node_modules" / "@grpc" / "grpc-js").is_dir():
        pytest.skip("@grpc/grpc-js is not in build/grpc-js, where .ci/run puts it")
    script, ca = str(Path(__file__).with_name("grpc_js_client.mjs")), [str(certificate[0])] * encrypted
    async with serving(dispatcher, tls=PublicTls(*certificate) if encrypted else None) as address:
        port = address.rpartition(":")[2]
        told = (f"localhost:{port}", str(GRPC_JS), str(ROOT / "proto"), *ca)
        seen = json.loads(await said("node", script, *told))
        await dispatcher.until(lambda: len(dispatcher.abandoned) == 2)
    assert {(it["code"], len(it["request"])) for it in seen["many"]} == {(0, 1)}
    assert [it["bytes"] for it in (*seen["large"], seen["packed"])] == [6_000_000] * 4
    unknown, late, cancelled = seen["unknown"], seen["late"], seen["cancelled"]
    assert unknown["code"] == grpc.StatusCode.NOT_FOUND.value[0]
    assert unknown["said"]
    assert unknown["details"] == 1
    assert late["code"] == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
    assert cancelled["code"] == grpc.StatusCode.CANCELLED.value[0]
    assert sorted(seen["ids"]) == list(range(1, 1_001))
    assert seen["parts"] == 6_000_000


async def test_curl(address: str, body: Path, tmp_path: Path) -> None:
    """It is answered, trailers and all; what is no gRPC is told so."""
    url = f"http://{address}{METHOD}"
    curl = ("curl", "-sS", "--http2-prior-knowledge", "-D", "-", "-o", str(tmp_path / "out"))
    heads = await said(*curl, *GRPC, "--data-binary", f"@{body}", url)
    assert "grpc-status: 0" in heads
    assert "lambent-request-id: " in heads
    response = invoke_pb2.InvokeResponse.FromString((tmp_path / "out").read_bytes()[5:])
    assert response.payload == b"{}"
    assert (await said(*curl, url)).startswith("HTTP/2 405")
    assert (await said(*curl, "-X", "POST", url)).startswith("HTTP/2 415")


async def test_curl_with_a_message_that_cannot_be_unpacked(address: str, tmp_path: Path) -> None:
    """It is told so."""
    path = tmp_path / "body"
    path.write_bytes(b"\1" + (4).to_bytes(4, "big") + b"none")
    packed = ("-H", "grpc-encoding: gzip", "--data-binary", f"@{path}")
    curl = ("curl", "-sS", "--http2-prior-knowledge", "-D", "-", "-o", str(tmp_path / "out"))
    assert "grpc-status: 13" in await said(*curl, *GRPC, *packed, f"http://{address}{METHOD}")


async def test_nghttp(address: str, body: Path) -> None:
    """A client with priorities and padding, which checks what it gets by itself."""
    said_ = await said(
        "nghttp", "-v", "-m", "20", "-b", "8", *GRPC, "-d", str(body), f"http://{address}{METHOD}"
    )
    assert said_.count("grpc-status: 0") == 20
    assert "INVALID" not in said_
    assert "recv RST_STREAM" not in said_


@pytest.mark.parametrize("window", [30, 4])
async def test_h2load(address: str, body: Path, window: int) -> None:
    """Thousands of calls over several connections, also through windows of 15 bytes, and none fails."""
    out = await said(
        *("h2load", "-n", "2000", "-c", "5", "-m", "50", "-w", str(window), "-W", str(window)),
        *(*GRPC, "-d", str(body), f"http://{address}{METHOD}"),
    )
    found = re.search(r"requests: .* (\d+) succeeded, (\d+) failed, (\d+) errored", out)
    assert found is not None, out
    assert found.groups() == ("2000", "0", "0")


async def test_tls_without_alpn_is_left(certificate: tuple[Path, Path]) -> None:
    """Who does not say that it will speak HTTP/2 is not spoken to."""
    server = OwnServer()
    port = server.add_secure_port("127.0.0.1:0", PublicTls(*certificate).context(ALPN))
    await server.start()
    plain = ssl.create_default_context(cafile=str(certificate[0]))
    reader, writer = await asyncio.open_connection("localhost", port, ssl=plain)
    assert await reader.read() == b""
    writer.close()
    await server.stop(0)


class Callers:
    """Connections from addresses of this machine, all of them closed at the end."""

    def __init__(self, port: int, tls: ssl.SSLContext | None) -> None:
        self._port = port
        self._tls = tls
        self._writers: list[asyncio.StreamWriter] = []

    async def silent(self) -> asyncio.StreamWriter:
        """It says nothing, not even of TLS."""
        _, writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers.append(writer)
        return writer

    async def let_in(self, host: str) -> bool:
        name = "localhost" if self._tls else None
        try:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", self._port, local_addr=(host, 0), ssl=self._tls, server_hostname=name
            )
            self._writers.append(writer)
            return await reader.read(1) != b""
        except OSError:
            return False

    def close(self) -> None:
        for writer in self._writers:
            writer.close()


@pytest.mark.parametrize("encrypted", [False, True])
async def test_one_address_leaves_room_to_others(certificate: tuple[Path, Path], encrypted: bool) -> None:
    """Over TLS a connection counts before its greeting has ended; that of a client that went does not."""
    server, tls = OwnServer(most_connections=8), None
    if encrypted:
        tls = ssl.create_default_context(cafile=str(certificate[0]))
        tls.set_alpn_protocols(["h2"])
        port = server.add_secure_port("127.0.0.1:0", PublicTls(*certificate).context(ALPN))
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    callers = Callers(port, tls)
    try:
        gone, *_ = [await callers.silent() for _ in range(3)]
        assert await callers.let_in("127.0.0.1")
        assert not await callers.let_in("127.0.0.1")
        assert await callers.let_in("127.0.0.2")
        gone.close()
        async with asyncio.timeout(10):
            while not await callers.let_in("127.0.0.1"):  # until the server has seen it go
                pass
            await server.stop(0)
    finally:
        callers.close()
        await server.stop(0)


async def test_who_takes_no_answer_goes_and_others_are_served() -> None:
    """Once more of them wait than there may, by far the most of them for one address."""
    server = OwnServer(most_untaken=8_000_000)
    server.handlers["/a/b"] = grpc.unary_unary_rpc_method_handler(megabyte, bytes, bytes)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0))
    try:
        writer.write(wire.PREFACE + wire.settings_frame([wire.Setting(wire.INITIAL_WINDOW_SIZE, 0)]))
        for stream in range(1, 21, 2):
            asked = headers(stream) + wire.frame(wire.DATA, wire.END_STREAM, stream, framed(b""))
            writer.write(asked)
        async with asyncio.timeout(20), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call: Any = channel.unary_unary("/a/b")
            assert len(await call(b"")) == 1_000_000
            with contextlib.suppress(ConnectionError):
                await reader.read()
            assert len(await call(b"")) == 1_000_000
    finally:
        writer.close()
        await server.stop(0)


async def megabyte(_: object, __: object) -> bytes:
    return b"1" * 1_000_000


@pytest.mark.parametrize(
    ("address", "known"),
    [
        ("10.0.0.7", "10.0.0.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::9", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
    ],
)
def test_who_has_one_address_of_ipv6_has_many(address: str, known: str) -> None:
    assert one_network(address) == known


async def test_all_addresses_are_those_of_both_kinds() -> None:
    """As behind grpcio's; and a caller is known by the address that it has."""
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    server = OwnServer()
    method = grpc.unary_unary_rpc_method_handler(
        who, invoke_pb2.InvokeRequest.FromString, invoke_pb2.InvokeResponse.SerializeToString
    )
    server.add_registered_method_handlers("lambent.v1.Invocations", {"Invoke": method})
    port = server.add_insecure_port("[::]:0")
    await server.start()
    request = invoke_pb2.InvokeRequest()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            answer = await invoke_pb2_grpc.InvocationsStub(channel).Invoke(request, timeout=20)
    finally:
        await server.stop(0)
    assert answer.payload.startswith(b"ipv4:127.0.0.1:")


async def who(_: object, context: grpc.aio.ServicerContext[object, object]) -> invoke_pb2.InvokeResponse:
    return invoke_pb2.InvokeResponse(payload=context.peer().encode())
