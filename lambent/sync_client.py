"""The client for programs without asyncio. Its calls may come from any number of threads at one time.

    with SyncClient() as client:
        print(client.invoke("resize", {"width": 200}).json())
        for done in client.map("resize", ({"width": width} for width in range(100, 500))):
            print(done.json())

One thread of its own runs a `Client`, so that calls of several threads share messages as those of tasks do.
"""

import asyncio
import atexit
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import grpc

from lambent.answer_stream import AnswerStream
from lambent.client import Client
from lambent.messages import Invocation, Priority
from lambent_proto.errors import LostWithWorker
from lambent_proto.v1 import invoke_pb2

P = ParamSpec("P")
R = TypeVar("R")


def _waiting_for(
    method: Callable[Concatenate[Client, P], Coroutine[Any, Any, R]],
) -> "Callable[Concatenate[SyncClient, P], R]":
    """The client's method, as one that returns when it is done."""

    def called(self: "SyncClient", /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._wait(method(self._client, *args, **kwargs))

    called.__name__, called.__doc__ = method.__name__, method.__doc__
    return called


class SyncClient:
    """Takes what `Client` takes. Usable once it is entered, until it is left."""

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        access_key: str | None = None,
        retries: int = 3,
    ) -> None:
        self._client = Client(endpoint, credentials=credentials, access_key=access_key, retries=retries)
        self._thread = threading.Thread(
            target=lambda: self._loop.run_forever(), name="lambent-client", daemon=True
        )
        self._open = False
        # Of what is begun before the client is left nothing is forgotten. It may be taken within itself:
        # a map that is collected as garbage ends its calls in whatever thread that happens.
        self._beginning = threading.RLock()

    def __enter__(self) -> Self:
        if self._thread.ident is not None:
            raise RuntimeError("a SyncClient is entered once: make another one")
        self._loop = asyncio.new_event_loop()
        self._thread.start()
        self._open = True
        # The interpreter stops the thread wherever it is, and a map that ends after that would wait for ever.
        atexit.register(self._leave)
        self._wait(self._client.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        """Ends what other threads still wait for, too."""
        atexit.unregister(self._leave)
        if not self._thread.is_alive():
            return  # in a fork of the process that entered
        with self._beginning:
            if not self._open:
                return
            self._open = False
            ended = asyncio.run_coroutine_threadsafe(self._end(), self._loop)
        ended.result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._client.__aexit__(None, None, None)

    invoke = _waiting_for(Client.invoke)
    dry_run = _waiting_for(Client.dry_run)
    create_function = _waiting_for(Client.create_function)
    update_function = _waiting_for(Client.update_function)
    get_function = _waiting_for(Client.get_function)
    list_functions = _waiting_for(Client.list_functions)
    delete_function = _waiting_for(Client.delete_function)
    publish_layer_version = _waiting_for(Client.publish_layer_version)
    get_layer_version = _waiting_for(Client.get_layer_version)
    list_layers = _waiting_for(Client.list_layers)
    list_layer_versions = _waiting_for(Client.list_layer_versions)
    delete_layer_version = _waiting_for(Client.delete_layer_version)
    concurrency = _waiting_for(Client.concurrency)
    set_concurrency = _waiting_for(Client.set_concurrency)
    nodes = _waiting_for(Client.nodes)
    drain = _waiting_for(Client.drain)
    instances = _waiting_for(Client.instances)
    explain = _waiting_for(Client.explain)
    reasons = _waiting_for(Client.reasons)

    def invoke_with_response_stream(
        self,
        name: str,
        payload: bytes | object = b"",
        *,
        tail: bool = False,
        timeout_s: float | None = None,
        client_context: Mapping[str, object] | None = None,
        priority: Priority = "normal",
        tenant: str = "",
        sticky_key: str = "",
    ) -> "SyncAnswerStream":
        """As `Client.invoke_with_response_stream`, with plain `with` and `for`."""
        answer = self._client.invoke_with_response_stream(
            name,
            payload,
            tail=tail,
            timeout_s=timeout_s,
            client_context=client_context,
            priority=priority,
            tenant=tenant,
            sticky_key=sticky_key,
        )
        return SyncAnswerStream(self, answer)

    def map(
        self,
        name: str,
        payloads: Iterable[bytes | object],
        *,
        in_flight: int = 64,
        timeout_s: float | None = None,
        priority: Priority = "normal",
        tenant: str = "",
    ) -> Generator[Invocation, None, None]:
        """As `Client.map`. `payloads` is iterated in the client's own thread, so cannot call the client."""
        answers = self._client.map(
            name, payloads, in_flight=in_flight, timeout_s=timeout_s, priority=priority, tenant=tenant
        )
        step = asyncio.Lock()  # one that Ctrl-C gave up ends a moment later
        try:
            while (done := self._wait(_next(answers, step))) is not None:
                yield done
        finally:
            if self._open and self._thread.is_alive():
                ending = self._begin(_close(answers, step))
                if threading.current_thread() is not self._thread:  # which may collect it as garbage
                    ending.result()

    def run(self, work: Callable[[Client], Coroutine[Any, Any, R]]) -> R:
        """What a coroutine that is given the client returns: for all that has no method of its own here."""
        return self._wait(work(self._client))

    def _wait(self, work: Coroutine[Any, Any, R]) -> R:
        """Ctrl-C in the caller's thread gives the call up."""
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("this is the SyncClient's own thread, which cannot wait for itself")
        pending = self._begin(work)
        try:
            return pending.result()
        except CancelledError:
            if self._open:
                raise
            raise LostWithWorker("the client was left before the answer came, it may have run") from None
        except BaseException:
            pending.cancel()
            raise

    def _begin(self, work: Coroutine[Any, Any, R]) -> "Future[R]":
        # A thread is not there any more in a fork; the lock may be held there for ever.
        if self._thread.is_alive():
            with self._beginning:
                if self._open:
                    return asyncio.run_coroutine_threadsafe(work, self._loop)
        work.close()
        raise RuntimeError("a SyncClient is used within its `with` block, by the process that entered it")


class SyncAnswerStream:
    """An `AnswerStream` without asyncio, with the same attributes."""

    def __init__(self, client: SyncClient, answer: AnswerStream) -> None:
        self._client = client
        self._answer = answer

    def __enter__(self) -> Self:
        self._client._wait(self._answer.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client._wait(self._answer.__aexit__(None, None, None))

    def __iter__(self) -> Iterator[bytes]:
        while (part := self._client._wait(_next_part(self._answer))) is not None:
            yield part

    @property
    def content_type(self) -> str:
        return self._answer.content_type

    @property
    def executed_version(self) -> str:
        return self._answer.executed_version

    @property
    def request_id(self) -> str:
        return self._answer.request_id

    @property
    def function_error(self) -> str:
        return self._answer.function_error

    @property
    def error(self) -> bytes:
        return self._answer.error

    @property
    def tail(self) -> bytes:
        return self._answer.tail

    @property
    def explanation(self) -> invoke_pb2.Explanation:
        return self._answer.explanation


async def _next_part(answer: AnswerStream) -> bytes | None:
    return await anext(answer, None)


async def _next(answers: AsyncGenerator[Invocation, None], step: asyncio.Lock) -> Invocation | None:
    async with step:
        return await anext(answers, None)


async def _close(answers: AsyncGenerator[Invocation, None], step: asyncio.Lock) -> None:
    async with step:
        await answers.aclose()
