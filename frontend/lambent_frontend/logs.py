"""One log of a function out of those that each node keeps."""

import asyncio
import heapq
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Final, NamedTuple

import grpc.aio

from lambent_proto.internal import control_pb2, control_pb2_grpc
from lambent_proto.v1 import fleet_pb2

MAX_LINES: Final = 500
"""Most lines of the past in a message."""

_QUEUED: Final = 1000
"""Lines that may wait for a slow reader, before the nodes are made to wait."""


class Line(NamedTuple):
    at: float
    node: str
    instance: str
    request_id: str
    text: str


Read = Callable[[bool], AsyncIterator[list[Line]]]


class NodeLog(NamedTuple):
    """`read(follow)` gives a node's lines, oldest first; it ends with an RPC error if the node is lost."""

    node: str
    read: Read


def node_log(channel: grpc.aio.Channel, node: str, function_name: str) -> NodeLog:
    async def read(follow: bool) -> AsyncIterator[list[Line]]:
        request = control_pb2.ReadWorkerLogsRequest(function_name=function_name, follow=follow)
        async for batch in control_pb2_grpc.WorkerLogsStub(channel).ReadLogs(request):
            yield [Line(line.at, node, line.instance, line.request_id, line.text) for line in batch.lines]

    return NodeLog(node, read)


async def past_and_future(
    logs: Sequence[NodeLog], *, follow: bool
) -> AsyncGenerator[list[fleet_pb2.LogLine], None]:
    """All nodes' lines so far, oldest first; then, to follow, each new one as it comes.

    A node that cannot be read shows as a line that says so, and the others go on.
    """
    pasts = await asyncio.gather(*(_past(log) for log in logs))
    merged = list(heapq.merge(*pasts))
    for begin in range(0, len(merged), MAX_LINES):
        yield [_public(line) for line in merged[begin : begin + MAX_LINES]]
    if not follow:
        return
    news: asyncio.Queue[list[Line]] = asyncio.Queue(_QUEUED)
    tasks = [
        asyncio.create_task(_follow(log, Counter(past), news)) for log, past in zip(logs, pasts, strict=True)
    ]
    try:
        while True:
            yield [_public(line) for line in await news.get()]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _past(log: NodeLog) -> list[Line]:
    lines: list[Line] = []
    try:
        async for batch in log.read(False):
            lines += batch
    except grpc.aio.AioRpcError as error:
        lines.append(_unreadable(log.node, lines, error))
    return lines


async def _follow(log: NodeLog, shown: Counter[Line], news: asyncio.Queue[list[Line]]) -> None:
    """A node begins with its past once more: what was shown is left out, one line for one line."""
    last: list[Line] = []
    try:
        async for batch in log.read(True):
            new = []
            for line in batch:
                if shown[line] > 0:
                    shown[line] -= 1
                else:
                    new.append(line)
            if new:
                last = new
                await news.put(new)
    except grpc.aio.AioRpcError as error:
        await news.put([_unreadable(log.node, last, error)])


def _unreadable(node: str, before: list[Line], error: grpc.aio.AioRpcError) -> Line:
    """Placed behind the node's last known line."""
    at = before[-1].at if before else 0.0
    return Line(at, node, "", "", f"[lambent: the log of node {node} cannot be read on: {error.details()}]")


def _public(line: Line) -> fleet_pb2.LogLine:
    return fleet_pb2.LogLine(
        at=line.at, node=line.node, instance=line.instance, request_id=line.request_id, text=line.text
    )
