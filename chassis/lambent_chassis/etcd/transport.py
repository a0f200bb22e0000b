"""The way to etcd's members: one channel each, one of them in use, the next one as soon as that one fails."""

import asyncio
import itertools
from collections.abc import Sequence
from typing import Final

import grpc.aio
import structlog

from lambent_chassis.clock import monotonic_s
from lambent_chassis.etcd import wire_pb2 as wire
from lambent_chassis.etcd.answers import Answers
from lambent_chassis.etcd.errors import (
    EtcdClosed,
    EtcdDenied,
    EtcdError,
    EtcdReplaced,
    EtcdUnavailable,
    from_rpc,
    wants_token,
)
from lambent_chassis.etcd.member import Endpoint, Member
from lambent_chassis.etcd.rpcs import AUTHENTICATE, LINEARIZABLE, RANGE, Answer, Request, Rpc

BUDGET_S: Final = 15.0
"""An operation gives up after this long. etcd elects a new leader in one to three seconds."""
TRY_S: Final = 2.0
"""A member that has not answered after this long is left. A write whose leader died would hang for 7 s."""
LONGEST_TRY_S: Final = 8.0
"""Tries grow up to this once every member has had one, so that a large answer can arrive."""
CONNECT_S: Final = 1.0
PAUSE_S: Final = 0.2
"""Between rounds over all members."""

_HAS_LEADER: Final[tuple[tuple[str, str], ...]] = (("hasleader", "true"),)
"""Makes a member without quorum refuse at once instead of falling silent."""


class Transport:
    """Asks whichever member answers. A session's calls share the choice, so that one failure serves all."""

    def __init__(self, endpoints: Sequence[Endpoint], user: str, password: str) -> None:
        self._members = [Member(endpoint) for endpoint in endpoints]
        self._current = 0
        self._working = ""
        self._credentials = (user, password)
        self._token = ""
        self._renewing = asyncio.Lock()
        self._closed = False
        self._cluster = 0
        self._revision = 0
        self._gone: tuple[str, str] | None = None
        """Where a backup answered, and how that showed."""
        self.answers = Answers()
        self._log = structlog.get_logger()

    @property
    def endpoints(self) -> str:
        return ", ".join(member.endpoint for member in self._members)

    @property
    def has_user(self) -> bool:
        return bool(self._credentials[0])

    @property
    def token(self) -> str:
        return self._token

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with every call."""
        return (*_HAS_LEADER, ("token", self._token)) if self._token else _HAS_LEADER

    @property
    def cluster(self) -> int:
        """etcd's own number of the cluster that this session is with; 0 before the first answer."""
        return self._cluster

    def recognise(self, header: wire.Header, endpoint: str) -> None:
        """Raises EtcdReplaced if an answer is another cluster's."""
        self._cluster = self._cluster or header.cluster_id
        if header.cluster_id not in (0, self._cluster):
            how = f"the number of its cluster is {header.cluster_id:x}, and was {self._cluster:x}"
            raise EtcdReplaced(endpoint, how)

    async def reached(self, revision: int, key: bytes) -> None:
        """Returns if etcd has come to this revision, which somebody was told that it had.

        One member may be behind; the cluster may not. Raises EtcdReplaced, EtcdUnavailable.
        """
        answer = await self.call(RANGE, wire.RangeRequest(key=key), repeat=True)
        if answer.header.revision < revision:
            self._gone_back(self._take().endpoint, answer.header.revision, revision)

    def _gone_back(self, endpoint: str, revision: int, before: int) -> None:
        """For good: a backup comes to the revision that was known, and is another etcd all the same."""
        self._gone = endpoint, f"its revision is {revision}, and has been {before}"
        raise EtcdReplaced(*self._gone)

    async def close(self) -> None:
        self._closed = True
        for member in self._members:
            await member.close()

    async def call(
        self, rpc: Rpc[Request, Answer], request: Request, *, repeat: bool, budget_s: float = BUDGET_S
    ) -> Answer:
        """Asks until a member answers.

        Without `repeat` a request that may have been taken is not sent a second time.

        Raises:
            EtcdUnavailable: after `budget_s`, or once the result is unknown.
            EtcdError: etcd's own refusal.
        """
        deadline = monotonic_s() + budget_s
        unknown = False
        for attempt in itertools.count():
            rounds = attempt // len(self._members)
            try_s = min(TRY_S * 2**rounds, LONGEST_TRY_S, max(deadline - monotonic_s(), 0.1))
            try:
                return await self.once(rpc, request, try_s)
            except EtcdUnavailable as failed:
                unknown = unknown or failed.unknown
                last = failed
            if unknown and not repeat:
                raise EtcdUnavailable(f"{last}. It may have been carried out.", unknown=True) from last
            if monotonic_s() >= deadline:
                break
            if (attempt + 1) % len(self._members) == 0:
                await asyncio.sleep(PAUSE_S)
        raise EtcdUnavailable(
            f"No etcd member answered within {budget_s:g} s at {self.endpoints} (last: {last}). "
            "Check that etcd runs, has a majority of its members, and that these are its client URLs.",
            unknown=unknown,
        )

    async def once(self, rpc: Rpc[Request, Answer], request: Request, timeout_s: float) -> Answer:
        """Asks the member in use, one time; leaves it when it does not answer.

        Raises:
            EtcdUnavailable: it did not answer.
            EtcdReplaced: it is another etcd.
            EtcdError: etcd's own refusal.
        """
        member = self._take()
        if self._gone and rpc.path in LINEARIZABLE:  # leases may still be ended
            raise EtcdReplaced(*self._gone)
        if not await member.connected(min(CONNECT_S, timeout_s)):
            reason = await member.why_not_connected()
            self.leave(member, reason)
            self.answers.failed["no_answer"] += 1
            raise EtcdUnavailable(f"etcd at {member.endpoint}: {reason}")
        before = self._revision
        for fresh in (False, True):
            token = self._token
            # etcd refuses even to authenticate for a token that ran out.
            metadata = _HAS_LEADER if rpc.path == AUTHENTICATE.path else self.metadata
            asked_at = monotonic_s()
            try:
                answer = await member.ask(rpc, request, timeout_s, metadata)
            except grpc.aio.AioRpcError as error:
                failure = from_rpc(error, member.endpoint)
            except asyncio.InvalidStateError:
                failure = EtcdUnavailable(f"etcd at {member.endpoint} ended the call", unknown=True)
            except EtcdUnavailable as error:
                failure = error
            else:
                self.answers.answered.note(monotonic_s() - asked_at)
                self._check(rpc, answer, member.endpoint, before)
                self._worked(member)
                return answer
            if fresh or not isinstance(failure, EtcdDenied) or not self._may_renew(rpc, failure):
                break
            await self.renew_token(token)
        self.answers.failed["no_answer" if isinstance(failure, EtcdUnavailable) else "refused"] += 1
        if isinstance(failure, EtcdUnavailable):
            self.leave(member, str(failure))
        raise failure

    async def connected(self) -> Member:
        """The first member that can be reached, however long that takes."""
        for attempt in itertools.count():
            member = self._take()
            if await member.connected(CONNECT_S):
                return member
            self.leave(member, "no connection")
            if (attempt + 1) % len(self._members) == 0:
                await asyncio.sleep(PAUSE_S)
        raise AssertionError("unreachable")

    def leave(self, member: Member, reason: str) -> None:
        """Goes on with the next member, unless somebody did so already."""
        if self._members[self._current] is not member:
            return
        self._current = (self._current + 1) % len(self._members)
        if member.endpoint == self._working:
            self._working = ""
            self._log.warning("etcd_member_left", endpoint=member.endpoint, reason=reason)

    async def renew_token(self, stale: str) -> None:
        """Authenticates again, unless somebody did so since `stale` was taken.

        Raises:
            EtcdDenied: etcd does not take the user and password.
        """
        async with self._renewing:
            if self._token != stale:
                return
            user, password = self._credentials
            request = wire.AuthenticateRequest(name=user, password=password)
            try:
                self._token = (await self.call(AUTHENTICATE, request, repeat=True)).token
            except EtcdDenied:
                raise
            except EtcdError as refused:
                if "authentication is not enabled" not in str(refused):
                    raise
                self._log.warning("etcd_authentication_off", user=user)

    def _may_renew(self, rpc: Rpc[Request, Answer], failure: EtcdDenied) -> bool:
        return self.has_user and rpc.path != AUTHENTICATE.path and wants_token(str(failure))

    def _check(self, rpc: Rpc[Request, Answer], answer: Answer, endpoint: str, before: int) -> None:
        """`before` is what revision this session knew of when it asked: no later answer may be older."""
        header: wire.Header = answer.header  # type: ignore[attr-defined]  # all of etcd's answers have one
        self.recognise(header, endpoint)
        if rpc.path in LINEARIZABLE:
            if header.revision < before:
                self._gone_back(endpoint, header.revision, before)
            self._revision = max(self._revision, header.revision)

    def _take(self) -> Member:
        if self._closed:
            raise EtcdClosed("this etcd session is closed")
        return self._members[self._current]

    def _worked(self, member: Member) -> None:
        if self._working != member.endpoint and self._members[self._current] is member:
            self._working = member.endpoint
            self._log.info("etcd_member_taken", endpoint=member.endpoint)
