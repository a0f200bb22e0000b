"""Frontends that ask each other: real doors, queues in real files, and one that does not answer."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from lambent_frontend.async_invocations import AsyncInvocations
from lambent_frontend.calls import Counted, Explained
from lambent_frontend.others import Others
from lambent_frontend.peer_door import PeerDoor
from lambent_frontend.queue.queue import Queue
from lambent_frontend.queue.runner import Runner
from lambent_frontend.queue.sqlite import SqliteStore
from lambent_frontend.queue.store import Asked
from lambent_frontend.remembered import Remembered
from lambent_proto.errors import InUse, InvalidRequest, NotReady, UnknownRequest
from lambent_proto.ids import FrontendId, FunctionName, RequestId
from lambent_proto.v1 import async_invocations_pb2 as pb
from lambent_proto.v1 import fleet_pb2
from tests.unit.scripted import ScriptedDispatcher

F = FunctionName("f")


class NothingRuns(Runner):
    """What is in the queue stays there."""

    def __init__(self) -> None:
        pass

    def attempt(self, event: RequestId) -> int:
        return 0

    def more(self, lane: str, due: float) -> None:
        pass

    def cancelled(self, event: object) -> None:
        pass


class Frontend:
    """One that others can ask, with a queue in a file of its own."""

    def __init__(self, name: str, folder: Path) -> None:
        self.id = FrontendId(name)
        self.address = ""
        self.dispatcher = ScriptedDispatcher()
        self.store = SqliteStore.open(folder / name, most_bytes=10**9, spare_bytes=1)
        self.queue = Queue(
            self.store,
            None,  # type: ignore[arg-type]
            NothingRuns(),
            now=lambda: 100.0,
            results_s=60.0,
            given_up_s=60.0,
        )

    async def put(self, event: str, at: float) -> None:
        await self.store.put(RequestId(event), Asked(F, ""), b"{}", at, None)


class Fleet:
    """Several, each of which knows where the others are. What is asked of it is asked of the first."""

    def __init__(self, frontends: list[Frontend]) -> None:
        self.frontends = frontends
        self.addresses = {it.id: it.address for it in frontends[1:]}
        asked = frontends[0]
        others = Others(lambda: self.addresses)
        self.calls = AsyncInvocations(asked.queue, asked.id, others)
        self.remembered = Remembered(asked.dispatcher, asked.id, {}, others)

    async def all_listed(self, most: int) -> list[list[str]]:
        """By pages."""
        pages, marker = [], ""
        while True:
            asked = pb.ListAsyncInvocationsRequest(function_name=F, max_items=most, marker=marker)
            page = await self.calls.list(asked)
            pages.append([it.request_id for it in page.invocations])
            if not (marker := page.next_marker):
                return pages


@asynccontextmanager
async def fleet(folder: Path, *names: str) -> AsyncIterator[Fleet]:
    async with AsyncExitStack() as stack:
        frontends = [Frontend(name, folder) for name in names]
        for it in frontends:
            door = PeerDoor()
            it.address = door.listen("127.0.0.1", 0)
            await door.start(Remembered(it.dispatcher, it.id), AsyncInvocations(it.queue, it.id))
            stack.push_async_callback(it.store.close)
            stack.push_async_callback(door.stop)
        async with asyncio.timeout(30):
            yield Fleet(frontends)


def get(event: str) -> pb.GetAsyncInvocationRequest:
    return pb.GetAsyncInvocationRequest(function_name=F, request_id=event)


def explained(request_id: str) -> Explained:
    times = 1.0, 0.0, 0.0, 2.0
    return Explained(
        RequestId(request_id), "f", "succeeded", "", "warm", "idle", "n", "i", *times, "", "none"
    )


async def test_a_call_that_another_frontend_took(tmp_path: Path) -> None:
    """It is found, cancelled and refused a second run, all through one that never had it."""
    async with fleet(tmp_path, "a", "b", "c") as three:
        await three.frontends[2].put("r-1", 1.0)
        assert (await three.calls.get(get("r-1"))).frontend == "c"
        cancel = pb.CancelAsyncInvocationRequest(function_name=F, request_id="r-1")
        assert (await three.calls.cancel(cancel)).state == "cancelled"
        redrive = pb.RedriveAsyncInvocationRequest(function_name=F, request_id="r-1")
        with pytest.raises(InUse, match="only what was given up runs again"):
            await three.calls.redrive(redrive)


async def test_one_that_nobody_knows(tmp_path: Path) -> None:
    async with fleet(tmp_path, "a", "b") as two:
        with pytest.raises(UnknownRequest, match="r-9"):
            await two.calls.get(get("r-9"))
        with pytest.raises(UnknownRequest, match="no frontend that is there remembers"):
            await two.remembered.explain(fleet_pb2.ExplainRequest(request_id="r-9"))


async def test_one_frontend_is_silent(tmp_path: Path) -> None:
    """It may know the call: nobody says that there is none. What the others know is known all the same."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # it is there and does not listen
        async with fleet(tmp_path, "a", "b") as two:
            two.addresses[FrontendId("gone")] = f"127.0.0.1:{silent.getsockname()[1]}"
            await two.frontends[1].put("r-1", 1.0)
            assert (await two.calls.get(get("r-1"))).frontend == "b"
            with pytest.raises(NotReady, match="gone did not answer"):
                await two.calls.get(get("r-9"))
            page = await two.calls.list(pb.ListAsyncInvocationsRequest(function_name=F))
            assert [it.request_id for it in page.invocations] == ["r-1"]
            assert page.missing_frontends == ["gone"]
            assert (await two.calls.queue(pb.GetQueueRequest())).missing_frontends == ["gone"]
            assert (await two.remembered.reasons(fleet_pb2.CountReasonsRequest())).missing_frontends == [
                "gone"
            ]


@pytest.mark.parametrize("most", [1, 2, 3, 10])
async def test_a_list_over_all_queues(tmp_path: Path, most: int) -> None:
    """Oldest first over all, each call once, whatever the size of a page."""
    async with fleet(tmp_path, "a", "b", "c") as three:
        a, b, c = three.frontends
        for at, (frontend, event) in enumerate([(b, "1"), (a, "2"), (b, "3"), (c, "4"), (c, "5"), (a, "6")]):
            await frontend.put(event, float(at))
        pages = await three.all_listed(most)
        assert [event for page in pages for event in page] == ["1", "2", "3", "4", "5", "6"]
        assert all(len(page) <= most for page in pages)


async def test_a_marker_that_was_never_given(tmp_path: Path) -> None:
    async with fleet(tmp_path, "a") as one:
        for marker in ("17", "a:x", ":1", "a:1,,"):
            with pytest.raises(InvalidRequest, match="none that was given"):
                await one.calls.list(pb.ListAsyncInvocationsRequest(function_name=F, marker=marker))


async def test_the_queues_of_all(tmp_path: Path) -> None:
    async with fleet(tmp_path, "a", "b") as two:
        await two.frontends[1].put("r-1", 1.0)
        told = await two.calls.queue(pb.GetQueueRequest())
        assert (told.frontend, dict(told.by_state)) == ("a", {})
        assert [(it.frontend, dict(it.by_state)) for it in told.others] == [("b", {"queued": 1})]


async def test_a_call_is_explained_by_who_served_it(tmp_path: Path) -> None:
    async with fleet(tmp_path, "a", "b") as two:
        two.frontends[1].dispatcher.explained[RequestId("r-1")] = explained("r-1")
        told = await two.remembered.explain(fleet_pb2.ExplainRequest(request_id="r-1"))
        assert (told.frontend, told.outcome) == ("b", "succeeded")


async def test_reasons_are_those_of_all(tmp_path: Path) -> None:
    """Added up, the most frequent first of each kind."""
    async with fleet(tmp_path, "a", "b") as two:
        a, b = (it.dispatcher.counts for it in two.frontends)
        a[Counted("warm", "idle_lease")], a[Counted("warm", "provisioned")] = 2, 3
        b[Counted("warm", "idle_lease")], b[Counted("cold", "no_instance")] = 5, 1
        told = await two.remembered.reasons(fleet_pb2.CountReasonsRequest())
        assert [(it.what, it.reason, it.count) for it in told.counts] == [
            ("warm", "idle_lease", 7),
            ("warm", "provisioned", 3),
            ("cold", "no_instance", 1),
        ]
        assert told.frontends == ["a", "b"]
