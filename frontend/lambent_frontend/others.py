"""The other frontends of the fleet, asked for what each alone knows of its own calls."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, TypeVar

import grpc.aio

from lambent_chassis.peering import PLAIN, Peering
from lambent_proto import identity
from lambent_proto.errors import (
    DeadlinePassed,
    InvalidRequest,
    LambentError,
    LostWithWorker,
    NotReady,
    UnknownRequest,
)
from lambent_proto.ids import FrontendId
from lambent_proto.status import from_rpc

T = TypeVar("T")
Ask = Callable[[grpc.aio.Channel], Awaitable[T]]

ASKED_WITHIN_S: Final = 2.0
"""For one that is stopped: those that have died are not in etcd for long, and refuse at once."""

_SILENT: Final = (NotReady, LostWithWorker, DeadlinePassed)


class Heard(NamedTuple):
    """Who has not answered, and why those who have did not say what was asked."""

    missing: list[FrontendId]
    refused: list[LambentError]


class Others:
    """`addresses` are those at which the others can be asked. A channel lives as long as a question: they are
    people's, and rare."""

    def __init__(
        self,
        addresses: Callable[[], Mapping[FrontendId, str]] = lambda: MappingProxyType({}),
        peering: Peering = PLAIN,
    ) -> None:
        self._addresses = addresses
        self._peering = peering

    async def all(self, ask: Ask[T]) -> tuple[dict[FrontendId, T], Heard]:
        """What each says. One that has no queue, and so knows nothing, is neither here nor there."""
        asked = dict(self._addresses())
        said = await asyncio.gather(*(self._one(address, ask) for address in asked.values()))
        heard, answers = Heard([], []), dict[FrontendId, T]()
        for frontend, it in zip(asked, said, strict=True):
            if isinstance(it, _SILENT):
                heard.missing.append(frontend)
            elif isinstance(it, LambentError):
                heard.refused.append(it)
            else:
                answers[frontend] = it
        return answers, heard

    async def whoever_knows(self, unknown: UnknownRequest, ask: Ask[T]) -> T:
        """The answer of the one that knows the call. Raises what that one does, or `unknown`."""
        answers, heard = await self.all(ask)
        for answer in answers.values():
            return answer
        for error in heard.refused:
            if not isinstance(error, UnknownRequest | InvalidRequest):
                raise error
        if heard.missing:
            raise NotReady(
                f"{unknown.message}; and {', '.join(sorted(heard.missing))} did not answer: it may know",
                unknown.request_id,
            )
        raise unknown

    async def _one(self, address: str, ask: Ask[T]) -> T | LambentError:
        try:
            channel = self._peering.channel(address, identity.dns_name("frontend"))
            async with asyncio.timeout(ASKED_WITHIN_S), channel:
                return await ask(channel)
        except grpc.aio.AioRpcError as error:
            return from_rpc(error)
        except TimeoutError:
            return NotReady(f"the frontend at {address} does not answer")


ALONE: Final = Others()
"""For who asks nobody else."""
