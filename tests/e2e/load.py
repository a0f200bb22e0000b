"""Callers that do not stop calling, and conditions to wait for."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any, Final, TypeVar, overload

import grpc
import grpc.aio
import pytest

from lambent.client import Client
from lambent.messages import Invocation
from lambent_chassis import grpc_options
from lambent_proto.errors import LambentError, NotReady
from lambent_proto.v1 import invoke_pb2, invoke_pb2_grpc

T = TypeVar("T")

LOOK_EVERY_S: Final = 0.02


@overload
async def eventually(
    condition: Callable[[], Coroutine[Any, Any, T | None]], what: str, within_s: float = ...
) -> T: ...
@overload
async def eventually(condition: Callable[[], T | None], what: str, within_s: float = ...) -> T: ...
async def eventually(condition: Callable[[], Any], what: str, within_s: float = 15.0) -> Any:
    """Looks again and again until the condition is true, and returns what it gave."""
    deadline = time.monotonic() + within_s
    while True:
        found = condition()
        value = await found if isinstance(found, Coroutine) else found
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}; last seen: {value!r}"
        await asyncio.sleep(LOOK_EVERY_S)


async def known_to(client: Client, name: str) -> None:
    async def listed() -> bool:
        return name in [function.name for function in await client.list_functions()]

    await eventually(listed, "the frontend knows the function")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One call as its caller saw it."""

    call: str
    begin: float
    end: float
    answer: Invocation | None = None
    error: LambentError | None = None


@dataclass(slots=True)
class Load:
    outcomes: list[Outcome] = field(default_factory=list)
    """In the order in which they ended."""

    @property
    def errors(self) -> list[LambentError]:
        return [outcome.error for outcome in self.outcomes if outcome.error is not None]

    async def more(self, number: int, within_s: float = 20.0) -> None:
        """Waits for so many further outcomes."""
        enough = len(self.outcomes) + number
        await eventually(lambda: len(self.outcomes) >= enough, f"{number} more outcomes", within_s)


@asynccontextmanager
async def calling(client: Client, name: str, *, callers: int, sleep: float) -> AsyncIterator[Load]:
    """So many callers, each with one call after the other; on exit those under way come to their end."""
    load = Load()
    numbers = count(1)
    stopping = False

    async def call_again_and_again(caller: int) -> None:
        while not stopping:
            load.outcomes.append(await one_call(client, name, f"{caller}.{next(numbers)}", sleep))

    async with asyncio.TaskGroup() as tasks:
        for caller in range(callers):
            tasks.create_task(call_again_and_again(caller))
        try:
            yield load
        finally:
            stopping = True


async def one_call(
    client: Client, name: str, call: str = "", sleep: float = 0.0, *, timeout_s: float | None = None
) -> Outcome:
    """An error of the service is an outcome too."""
    begin = time.monotonic()
    try:
        answer = await client.invoke(name, {"call": call, "sleep": sleep}, timeout_s=timeout_s)
    except LambentError as error:
        return Outcome(call, begin, time.monotonic(), error=error)
    return Outcome(call, begin, time.monotonic(), answer=answer)


async def refusal(client: Client, name: str, payload: bytes = b"") -> grpc.StatusCode:
    """The status that a unary call from any gRPC client ends with."""
    request = invoke_pb2.InvokeRequest(function_name=name, payload=payload)
    async with grpc.aio.insecure_channel(client.endpoint, options=grpc_options.CHANNEL) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await invoke_pb2_grpc.InvocationsStub(channel).Invoke(request, timeout=30)
    return raised.value.code()


class Callers:
    """Each has one call after the other, through the frontends in turns, and uses another one where one says
    that it never took the call."""

    def __init__(self, clients: list[Client], workers: Sequence[str]) -> None:
        self.load = Load()
        self._clients = clients
        self._workers = sorted(workers)
        self._numbers = count()
        self._over = False

    @asynccontextmanager
    async def calling(self, name: str, *, callers: int, sleep: float) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(callers):
                tasks.create_task(self._call_again_and_again(name, sleep))
            try:
                yield
            finally:
                self._over = True

    async def _call_again_and_again(self, name: str, sleep: float) -> None:
        while not self._over:
            call = next(self._numbers)
            for turn in range(len(self._clients)):
                client = self._clients[(call + turn) % len(self._clients)]
                outcome = await one_call(client, name, str(call), sleep)
                if not isinstance(outcome.error, NotReady):
                    break
            self.load.outcomes.append(outcome)

    async def whole(self) -> None:
        """Waits until each frontend serves, says that all workers take instances, and calls go on."""
        for client in self._clients:
            await eventually(partial(self._all_there, client), "all workers are back")
        await self.load.more(20)

    async def _all_there(self, client: Client) -> bool:
        try:
            nodes = (await client.nodes()).nodes
        except LambentError:
            return False
        return sorted(node.name for node in nodes if node.state == "connected") == self._workers
