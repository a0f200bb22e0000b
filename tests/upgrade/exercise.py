"""What two releases have to be able to do together, asked through a frontend of either."""

import io
import json
import sys
import zipfile
from typing import Final

import grpc.aio

from lambent.client import Client
from lambent_proto.v1 import invoke_pb2, invoke_pb2_grpc
from tests.chaos.parts import SOURCE
from tests.e2e.load import eventually

ECHO: Final = """
def handler(event, context):
    print("called")
    if event.get("fail"):
        raise ValueError("not today")
    return event
"""
LARGE: Final = 1_000_000
"""Bytes of an event that goes in several frames."""


async def exercised(client: Client, *, streams: bool, drains: bool = True) -> None:
    """Raises what fails. With `streams` there is Node.js; with `drains` there are two workers."""
    await client.create_function(
        "echo", _zip("index.py", ECHO), runtime=f"python3.{sys.version_info.minor}", handler="index.handler"
    )
    cold = await _echoed(client, "cold")
    assert cold == "cold"
    assert await _echoed(client, "warm") == "warm"
    assert await _echoed(client, "x" * LARGE) == "warm"
    await _traced(client)
    failed = await client.invoke("echo", {"fail": True}, timeout_s=20)
    assert failed.function_error == "Unhandled"
    await _asynchronous(client)
    await _published(client)
    await _told(client, failed.request_id)
    if streams:
        await _streamed(client)
    if drains:
        await _drained(client)


async def _echoed(client: Client, text: str) -> str:
    done = await client.invoke("echo", {"text": text}, timeout_s=20)
    assert done.json() == {"text": text}
    return str(done.explanation.start)


async def _traced(client: Client) -> None:
    """A caller's trace is passed on where the worker takes it, and harms nobody else."""
    traced = (("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),)
    request = invoke_pb2.InvokeRequest(function_name="echo", payload=b'{"text": "traced"}')
    async with grpc.aio.insecure_channel(client.endpoint) as channel:
        stub = invoke_pb2_grpc.InvocationsStub(channel)
        answer = await stub.Invoke(request, timeout=20, metadata=traced)
    assert json.loads(answer.payload) == {"text": "traced"}


async def _asynchronous(client: Client) -> None:
    request = await client.async_invocations.begin("echo", {})

    async def over() -> bool:
        return (await client.async_invocations.get("echo", request)).state == "succeeded"

    await eventually(over, "the asynchronous call has succeeded")


async def _published(client: Client) -> None:
    version = await client.versions.publish("echo")
    await client.versions.create_alias("echo", "live", version.version)
    assert (await client.invoke("echo:live", {"a": 1}, timeout_s=20)).json() == {"a": 1}


async def _told(client: Client, request: str) -> None:
    assert (await client.explain(request)).outcome == "function_error"
    assert {it.function_name for it in await client.instances("echo")} == {"echo"}
    lines = [line.text async for line in client.logs("echo")]
    assert "called" in "".join(lines)


async def _streamed(client: Client) -> None:
    await client.create_function(
        "parts", _zip("index.js", SOURCE), runtime="nodejs", handler="index.handler", timeout_s=20
    )
    text = ""
    async with client.invoke_with_response_stream(
        "parts", {"parts": 4, "pause_ms": 20}, timeout_s=20
    ) as answer:
        async for part in answer:
            text += part.decode()
    assert (text, answer.function_error) == ("0;1;2;3;", "")


async def _drained(client: Client) -> None:
    (node, *_) = {it.node for it in await client.instances("echo")}
    await client.drain(node)

    async def empty() -> bool:
        return {it.name: it.state for it in (await client.nodes()).nodes}[node] == "drained"

    await eventually(empty, f"{node} is drained")
    assert await _echoed(client, "elsewhere") == "warm"
    await client.drain(node, undo=True)


def _zip(name: str, source: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, source)
    return buffer.getvalue()
