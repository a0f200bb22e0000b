"""The schedules that there are and how far each has come: a frontend's view of etcd, by one watch."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from lambent_chassis.etcd import Change, KeyValue, Snapshot
from lambent_frontend.schedules import records
from lambent_frontend.schedules.expressions import Next, parse
from lambent_frontend.schedules.records import Progress, Unreadable
from lambent_frontend.schedules.schedule import BadSchedule, Schedule
from lambent_proto import keys

_log = structlog.get_logger()


class Store(Protocol):
    """What is needed of `lambent_chassis.etcd.Etcd`."""

    def follow_prefix(self, prefix: str) -> AsyncIterator[Snapshot | list[Change]]: ...


@dataclass(frozen=True, slots=True)
class Defined:
    """A schedule that can be read."""

    schedule: Schedule
    after: Next


@dataclass(slots=True)
class Known:
    """What etcd has under one name. Revisions are 0 for what is not there."""

    defined: Defined | None = None
    """None too if it cannot be read."""
    revision: int = 0
    progress: Progress | None = None
    progress_revision: int = 0
    seen_at: float = 0.0
    """When the progress was seen to be so."""
    readable: bool = True
    """Whether the progress can be read, if there is one."""

    @property
    def decided_until(self) -> float:
        assert self.defined is not None
        made_at = self.defined.schedule.made_at
        return max(made_at, self.progress.decided_until) if self.progress else made_at


@dataclass(slots=True)
class View:
    now: Callable[[], float]
    changed: Callable[[], None]
    """Called after news."""
    known: dict[str, Known] = field(default_factory=dict)

    async def follow(self, store: Store) -> None:
        """Never returns."""
        async for news in store.follow_prefix(keys.ALL_OF_SCHEDULES):
            if isinstance(news, Snapshot):
                self._reset(news)
            else:
                for change in news:
                    value = change.value if change.kind == "put" else None
                    self._set(change.key, value, change.mod_revision)
            self.changed()

    def moved(self, name: str, progress: Progress, revision: int) -> None:
        """This frontend has written it: its next turn need not wait for the watch.

        Unless the schedule was changed since: it may be another of this name, and the watch will tell.
        """
        known = self.known.get(name)
        if known is not None and revision > max(known.progress_revision, known.revision):
            known.progress, known.progress_revision, known.readable = progress, revision, True
            known.seen_at = self.now()

    def _reset(self, snapshot: Snapshot) -> None:
        there: dict[str, KeyValue] = {item.key: item for item in snapshot.items}
        for name in list(self.known):
            for key in (keys.schedule(name), keys.fired(name)):
                if key not in there:
                    self._set(key, None, snapshot.revision)
        for key, item in there.items():
            self._set(key, item.value, item.mod_revision)

    def _set(self, key: str, value: bytes | None, revision: int) -> None:
        """What is known as newer stays."""
        if key.startswith(keys.SCHEDULES):
            self._set_schedule(key.removeprefix(keys.SCHEDULES), value, revision)
        elif key.startswith(keys.FIRED):
            self._set_progress(key.removeprefix(keys.FIRED), value, revision)

    def _set_schedule(self, name: str, value: bytes | None, revision: int) -> None:
        known = self.known.setdefault(name, Known())
        if revision > known.revision:
            known.defined = None if value is None else _defined(name, value)
            known.revision = 0 if value is None else revision
        self._forget(name)

    def _set_progress(self, name: str, value: bytes | None, revision: int) -> None:
        known = self.known.setdefault(name, Known())
        if revision > known.progress_revision:
            known.progress, known.readable = None, True
            if value is not None:
                try:
                    known.progress = Progress.decode(value)
                except Unreadable as error:
                    known.readable = False
                    _log.error("schedule_progress_unreadable", schedule=name, error=str(error), fix=_FIX)
            known.progress_revision = 0 if value is None else revision
            known.seen_at = self.now()
        self._forget(name)

    def _forget(self, name: str) -> None:
        known = self.known[name]
        if not known.revision and not known.progress_revision:
            del self.known[name]


_FIX: Final = "it fires no more: delete the schedule and make it again"


def _defined(name: str, value: bytes) -> Defined | None:
    try:
        schedule = records.decode(value)
        if schedule.name != name:
            raise Unreadable(f"it says that it is {schedule.name!r:.80}")
        return Defined(schedule, parse(schedule.expression, schedule.time_zone, schedule.made_at))
    except (Unreadable, BadSchedule) as error:
        _log.error("schedule_unreadable", schedule=name, error=str(error), fix=_FIX)
        return None
