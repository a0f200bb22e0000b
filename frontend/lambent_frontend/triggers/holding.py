"""One trigger that this frontend has: does what was asked of it last, and says in etcd when that is so."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import structlog

from lambent_chassis.clock import monotonic_s, unix_s
from lambent_frontend.triggers.core.states import DELETING
from lambent_frontend.triggers.poller import WORKED_S, Poller, first_of
from lambent_frontend.triggers.sources.base import QueueSource, SourceFailed, StreamSource
from lambent_frontend.triggers.store import Claim, NotOurs, TriggerStore
from lambent_proto.errors import LambentError, NotReady
from lambent_proto.triggers import Trigger, TriggerStatus

SAY_EVERY_S: Final = 3.0
"""How often at most is said in etcd how a trigger goes."""
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 30.0
"""Between two attempts with a source that fails."""
CLOSE_S: Final = 5.0
"""How long a source is waited for that is closed. One that hangs shall not hold up all the others."""
FORGET_S: Final = 10.0
"""The same of one that is told of a trigger that is being deleted."""

_log = structlog.get_logger()

AnySource = QueueSource | StreamSource


@dataclass(frozen=True, slots=True)
class Known:
    trigger: Trigger
    mod_revision: int


class Lag(NamedTuple):
    trigger: str
    function: str
    """With the qualifier, as it was asked for."""
    records: int


class Holding:
    def __init__(
        self,
        frontend: str,
        claim: Claim,
        store: TriggerStore,
        source_of: Callable[[Trigger], Awaitable[AnySource]],
        poller_of: Callable[[Trigger, AnySource], Poller],
    ) -> None:
        """`source_of` raises SourceFailed."""
        self._claim = claim
        self._store = store
        self._source_of = source_of
        self._poller_of = poller_of
        self._known: Known | None = None
        self._status = TriggerStatus(frontend=frontend)
        self._said = TriggerStatus()
        self._changed = asyncio.Event()
        self._giving_up = False
        self._poller: Poller | None = None

    def set(self, known: Known | None) -> None:
        """What was asked last; None: it is no more."""
        if known != self._known:
            self._known = known
            self._interrupt()

    @property
    def lag(self) -> Lag | None:
        """As it was looked at last; None while the source does not say."""
        known, records = self._known, self._status.lag
        if known is None or self._poller is None or records is None:
            return None
        return Lag(known.trigger.id, known.trigger.asked, records)

    def give_up(self) -> None:
        """`run` returns once the calls under way are over, and the trigger is nobody's then."""
        if not self._giving_up:
            self._giving_up = True
            self._interrupt()

    def _interrupt(self) -> None:
        self._changed.set()
        if self._poller is not None:
            self._poller.stop()

    async def run(self) -> None:
        """Raises what says that the trigger is not ours any more, and NotReady."""
        pause_s = FIRST_PAUSE_S
        while not self._giving_up and (known := self._known) is not None:
            self._changed.clear()
            began = monotonic_s()
            if known.trigger.pending == DELETING:
                await self._forget(known.trigger)
                await self._store.remove(self._claim, known.trigger, known.mod_revision)
                await self._changed.wait()
            elif not known.trigger.enabled:
                await self._say(revision=known.mod_revision, error="")
                await self._changed.wait()
            elif await self._poll(known):
                pause_s = FIRST_PAUSE_S
            else:
                if monotonic_s() >= began + WORKED_S:
                    pause_s = FIRST_PAUSE_S
                await self._pause(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        await self._store.release(self._claim)

    async def _forget(self, trigger: Trigger) -> None:
        """A source that cannot be reached now keeps what it has: a trigger can be deleted all the same."""
        try:
            async with asyncio.timeout(FORGET_S):
                source = await self._source_of(trigger)
                try:
                    await source.forget()
                finally:
                    await source.close()
        except Exception as error:  # noqa: BLE001 - a library's own, of whatever kind
            _log.warning("trigger_source_keeps_its_place", trigger=trigger.id, error=repr(error)[:1000])

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    async def _poll(self, known: Known) -> bool:
        """False if the source failed, however long it worked before."""
        try:
            source = await self._source_of(known.trigger)
        except Exception as error:  # noqa: BLE001 - a library's own, of whatever kind
            await self._failed(known, error)
            return False
        try:
            await source.open()
            poller = self._poller = self._poller_of(known.trigger, source)
            await self._say(revision=known.mod_revision, error="")
            if self._changed.is_set():
                return True
            async with asyncio.TaskGroup() as tasks:
                saying = tasks.create_task(self._keep_saying(poller))
                await poller.run()
                saying.cancel()
            return True
        except* (LambentError, NotOurs):
            raise
        except* Exception as errors:  # noqa: BLE001 - as above
            await self._failed(known, first_of(errors))
        finally:
            self._poller = None
            await self._close(known, source)
        return False

    async def _close(self, known: Known, source: AnySource) -> None:
        try:
            async with asyncio.timeout(CLOSE_S):
                await source.close()
        except Exception as error:  # noqa: BLE001 - as above, and it is over in any case
            _log.warning("trigger_source_not_closed", trigger=known.trigger.id, error=repr(error)[:1000])

    async def _failed(self, known: Known, error: BaseException) -> None:
        said = str(error) if isinstance(error, SourceFailed) else f"{type(error).__name__}: {error}"
        _log.warning("trigger_source_failed", trigger=known.trigger.id, error=said[:1000])
        await self._say(result="PROBLEM: the event source cannot be used", error=said[:1000])

    # What is said of it

    async def _keep_saying(self, poller: Poller) -> None:
        before, at = 0, monotonic_s()
        while True:
            await asyncio.sleep(SAY_EVERY_S)
            now, records = monotonic_s(), poller.records
            facts = {
                "result": poller.result,
                "error": poller.error[:1000],
                "lag": await self._lag(poller),
                "rate": round((records - before) / (now - at), 1),
                "records": self._status.records + records - before,
            }
            before, at = records, now
            with contextlib.suppress(NotReady):  # it is said again
                await self._say(**facts)

    async def _lag(self, poller: Poller) -> int | None:
        """None while the source does not say. If it cannot be used, to read it says so."""
        try:
            async with asyncio.timeout(SAY_EVERY_S):
                return await poller.lag()
        except Exception:  # noqa: BLE001 - a library's own, of whatever kind
            return None

    async def _say(self, **facts: object) -> None:
        self._status = replace(self._status, **facts)  # type: ignore[arg-type]
        if replace(self._status, at=0.0) == replace(self._said, at=0.0):
            return
        self._status = replace(self._status, at=unix_s())
        await self._store.say(self._claim, self._status)
        self._said = self._status
