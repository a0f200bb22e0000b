"""What the Telemetry API answers to extensions, beside what it sends them."""

import json
import socket

import pytest

from tests.integration.worker.api_scene import NEXT, ApiScene, Client, api_scene

pytestmark = pytest.mark.integration

TELEMETRY, LOGS = "/2022-07-01/telemetry", "/2020-08-15/logs"
WANTED = json.dumps(
    {
        "schemaVersion": "2022-12-13",
        "destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain:2"},
        "types": ["platform"],
    }
).encode()
OF_LOGS = WANTED.replace(b"2022-12-13", b"2020-08-15")


async def registered(scene: ApiScene) -> tuple[Client, str]:
    client = await scene.client()
    path = "/2020-01-01/extension/register"
    _, headers, _ = await client.asks("POST", path, b'{"events": []}', Lambda_Extension_Name="watcher")
    return client, headers["lambda-extension-identifier"]


async def subscribed(client: Client, me: str, path: str, body: bytes) -> tuple[int, object]:
    status, _, answer = await client.asks("PUT", path, body, Lambda_Extension_Identifier=me)
    document = json.loads(answer)
    return status, document["errorType"] if isinstance(document, dict) else document


async def test_who_has_registered_may_subscribe() -> None:
    """Also to what does not listen yet, and again, but not with the other API as well."""
    async with api_scene("watcher") as scene:
        client, me = await registered(scene)
        assert await subscribed(client, me, TELEMETRY, WANTED) == (200, "OK")
        assert await subscribed(client, me, TELEMETRY, WANTED) == (200, "OK")
        assert await subscribed(client, me, LOGS, OF_LOGS) == (400, "Logs.ValidationError")
        await client.close()


async def test_what_is_refused() -> None:
    async with api_scene("watcher") as scene:
        client, me = await registered(scene)
        unknown = "0f8fad5b-d9cb-469f-a165-70867728950e"
        expected = "Extension.UnknownExtensionIdentifier"
        assert await subscribed(client, unknown, TELEMETRY, WANTED) == (403, expected)
        expected = "Extension.MissingExtensionIdentifier"
        assert await subscribed(client, "", TELEMETRY, WANTED) == (403, expected)
        assert await subscribed(client, me, TELEMETRY, b"{}") == (400, "ValidationError")
        assert await subscribed(client, me, LOGS, WANTED) == (400, "Logs.ValidationError")
        await client.close()


async def test_after_init_nobody_can_subscribe() -> None:
    async with api_scene("watcher") as scene:
        client, me = await registered(scene)
        runtime, waiting = await scene.client(), await scene.client()
        runtime.send("GET", NEXT)
        waiting.send("GET", "/2020-01-01/extension/event/next", Lambda_Extension_Identifier=me)
        assert await scene.hears() == (["ready"], b"")
        assert await subscribed(client, me, TELEMETRY, WANTED) == (403, "Telemetry.SubscriptionClosed")
        for it in (client, runtime, waiting):
            await it.close()


async def never(port: int) -> socket.socket:
    raise PermissionError("only root can enter the network of an instance")


async def test_where_nothing_can_be_sent_an_extension_hears_that() -> None:
    """With Lambda's words for it: extensions know them from its emulator, and go on without."""
    async with api_scene("watcher", connect=never) as scene:
        client, me = await registered(scene)
        assert await subscribed(client, me, TELEMETRY, WANTED) == (202, "Telemetry.NotSupported")
        assert await subscribed(client, me, LOGS, OF_LOGS) == (202, "Logs.NotSupported")
        await client.close()
