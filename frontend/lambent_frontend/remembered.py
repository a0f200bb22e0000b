"""What frontends remember of their calls: how one went, and how many went how."""

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import grpc.aio

from lambent_frontend.calls import Candidate, Counted, Dispatcher
from lambent_frontend.others import ALONE, Others
from lambent_frontend.wire import fill_explanation, priority_told
from lambent_proto.errors import UnknownRequest
from lambent_proto.ids import FrontendId, NodeId, RequestId, node_name
from lambent_proto.v1 import fleet_pb2, fleet_pb2_grpc

WHATS: Final = ("warm", "cold", "snapstart", "waited", "refused", "outcome", "attempt")
"""What is counted by reason, in this order."""


class Remembered:
    def __init__(
        self,
        dispatcher: Dispatcher,
        frontend: FrontendId,
        attempts: Mapping[Counted, int] = MappingProxyType({}),
        others: Others = ALONE,
    ) -> None:
        """`attempts` are those of asynchronous calls, counted as they end. What this frontend does not know
        `others` are asked for."""
        self._dispatcher = dispatcher
        self._frontend = frontend
        self._attempts = attempts
        self._others = others

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
        response.candidates.extend(_candidate(it) for it in explained.candidates)
        return response

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
