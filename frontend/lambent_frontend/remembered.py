"""What frontends remember of their calls: how one went, and how many went how."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

import grpc.aio

from lambent_chassis.clock import monotonic_s
from lambent_frontend.activity import counted, merged, recent, told
from lambent_frontend.calls import Candidate, Counted, Dispatcher, Explained
from lambent_frontend.driver import Driver
from lambent_frontend.others import ALONE, Others
from lambent_frontend.wire import fill_explanation, priority_told
from lambent_proto.errors import InvalidRequest, UnknownRequest
from lambent_proto.ids import FrontendId, NodeId, RequestId, node_name
from lambent_proto.v1 import fleet_pb2, fleet_pb2_grpc

WHATS: Final = ("warm", "cold", "snapstart", "waited", "refused", "outcome", "attempt")
"""What is counted by reason, in this order."""

WINDOW_S: Final = 60.0
"""How far back `activity` looks unless it is said."""
LEAST_WINDOW_S: Final = 1.0
MOST_WINDOW_S: Final = 300.0
MOST_CALLS: Final = 200
"""Of the last ones, to be told at one time."""
LOOK_EVERY_S: Final = 0.5


class Remembered:
    def __init__(
        self,
        dispatcher: Dispatcher,
        frontend: FrontendId,
        attempts: Mapping[Counted, int] = MappingProxyType({}),
        others: Others = ALONE,
        drivers: Sequence[Driver] = (),
    ) -> None:
        """`attempts` are those of asynchronous calls, counted as they end. What this frontend does not know
        `others` are asked for. `drivers` are those of all shards, for `activity`."""
        self._dispatcher = dispatcher
        self._frontend = frontend
        self._attempts = attempts
        self._others = others
        self._drivers = drivers
        self._since = monotonic_s()
        self._lately: tuple[float, float, int, fleet_pb2.GetActivityResponse] | None = None
        """When `activity` was asked for last, the window, the calls, and what was answered."""
        self._looking = asyncio.Lock()
        """Who asks while somebody looks gets what that one sees."""

    async def explain(self, request: fleet_pb2.ExplainRequest) -> fleet_pb2.ExplainResponse:
        """Raises UnknownRequest, and NotReady if one that may know did not answer."""
        explained = self._dispatcher.explain(RequestId(request.request_id))
        if explained is None:
            unknown = UnknownRequest(
                f"no frontend that is there remembers a call {request.request_id!r}: each keeps its last "
                "10,000, and forgets them when it ends",
                request.request_id,
            )

            async def ask(channel: grpc.aio.Channel) -> fleet_pb2.ExplainResponse:
                return await fleet_pb2_grpc.FleetStub(channel).Explain(request)

            return await self._others.whoever_knows(unknown, ask)
        response = self._told(explained)
        response.candidates.extend(_candidate(it) for it in explained.candidates)
        return response

    def _told(self, explained: Explained) -> fleet_pb2.ExplainResponse:
        response = fleet_pb2.ExplainResponse(
            request_id=explained.request_id,
            function_name=explained.function,
            outcome=explained.outcome,
            message=explained.message,
            frontend=self._frontend,
            priority=priority_told(explained.priority),
            tenant=explained.tenant,
        )
        fill_explanation(response.explanation, explained)
        return response

    async def activity(self, request: fleet_pb2.GetActivityRequest) -> fleet_pb2.GetActivityResponse:
        """Of all frontends together. However many ask the same, they are asked once in LOOK_EVERY_S. Raises
        InvalidRequest."""
        window_s = request.window_s or WINDOW_S
        if not LEAST_WINDOW_S <= window_s <= MOST_WINDOW_S:
            raise InvalidRequest(f"window_s is {window_s:g}: 1 to 300 seconds can be looked back")
        if request.calls > MOST_CALLS:
            raise InvalidRequest(f"calls is {request.calls}: the last {MOST_CALLS} can be told at the most")

        async with self._looking:
            if self._lately is not None:
                at, *asked, answer = self._lately
                if asked == [window_s, request.calls] and monotonic_s() - at < LOOK_EVERY_S:
                    return answer
            answer = await self._activity(window_s, request)
            self._lately = monotonic_s(), window_s, request.calls, answer
            return answer

    async def _activity(
        self, window_s: float, request: fleet_pb2.GetActivityRequest
    ) -> fleet_pb2.GetActivityResponse:
        async def ask(channel: grpc.aio.Channel) -> fleet_pb2.GetActivityResponse:
            return await fleet_pb2_grpc.FleetStub(channel).GetActivity(request)

        answers, heard = await self._others.all(ask)
        now = monotonic_s()
        lived_s = max(now - self._since, LEAST_WINDOW_S)
        calls = [it for answer in answers.values() for it in answer.calls]
        calls += [
            fleet_pb2.RecentCall(call=self._told(explained), age_s=age_s)
            for request_id, age_s in recent(self._drivers, now, request.calls)
            if (explained := self._dispatcher.explain(request_id)) is not None
        ]
        calls.sort(key=lambda it: it.age_s)
        functions = [it for answer in answers.values() for it in answer.functions]
        return fleet_pb2.GetActivityResponse(
            functions=merged([*functions, *told(counted(self._drivers, now, min(window_s, lived_s)))]),
            calls=calls[: request.calls],
            frontend=self._frontend,
            frontends=sorted([self._frontend, *answers]),
            missing_frontends=sorted(heard.missing),
        )

    async def reasons(self, request: fleet_pb2.CountReasonsRequest) -> fleet_pb2.CountReasonsResponse:
        """Of all frontends together."""

        async def ask(channel: grpc.aio.Channel) -> fleet_pb2.CountReasonsResponse:
            return await fleet_pb2_grpc.FleetStub(channel).CountReasons(request)

        answers, heard = await self._others.all(ask)
        counts = Counter({**self._dispatcher.counts, **self._attempts})
        for answer in answers.values():
            for it in answer.counts:
                counts[Counted(it.what, it.reason)] += it.count
        counted = sorted(counts.items(), key=lambda it: (_place(it[0].what), -it[1]))
        return fleet_pb2.CountReasonsResponse(
            counts=(fleet_pb2.ReasonCount(what=it.what, reason=it.reason, count=n) for it, n in counted),
            frontend=self._frontend,
            frontends=sorted([self._frontend, *answers]),
            missing_frontends=sorted(heard.missing),
        )


def _place(what: str) -> int:
    """What a newer release counts comes last."""
    return WHATS.index(what) if what in WHATS else len(WHATS)


def _candidate(it: Candidate) -> fleet_pb2.Candidate:
    return fleet_pb2.Candidate(
        node=node_name(NodeId(it.node)),
        points=it.points,
        preferred=it.preferred,
        instances=it.instances,
        package=it.package,
        free=it.free,
        sticky=it.sticky,
    )
