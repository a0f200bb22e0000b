"""Schedules: made, shown, changed, deleted. Bad input changes nothing."""

import asyncio
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol, TypeVar

import structlog

from lambent_chassis.etcd import Compare, Delete, EtcdError, KeyValue, Put, Snapshot
from lambent_frontend import commits
from lambent_frontend.rules import page_size
from lambent_frontend.schedules import records
from lambent_frontend.schedules.core import next_due
from lambent_frontend.schedules.expressions import Next, parse
from lambent_frontend.schedules.records import Progress, Unreadable
from lambent_frontend.schedules.schedule import MOST_JITTER_S, BadSchedule, Misfire, Overlap, Schedule
from lambent_frontend.wire import Definitions
from lambent_proto import keys
from lambent_proto.errors import (
    Contended,
    Internal,
    InvalidRequest,
    NotReady,
    ScheduleExists,
    UnknownFunction,
    UnknownSchedule,
)
from lambent_proto.ids import FunctionName
from lambent_proto.v1 import schedules_pb2 as pb

MAX_EVENT_BYTES: Final = 262_144
"""EventBridge's limit of a target's input, 256 KB."""

MAX_EXPRESSION: Final = 256
"""Characters: EventBridge's limit."""

_NAME: Final = re.compile(r"[a-zA-Z0-9-_]{1,64}")

_log = structlog.get_logger()

Choice = TypeVar("Choice", Overlap, Misfire)


class Store(commits.Store, Protocol):
    """What is needed of `lambent_chassis.etcd.Etcd`."""

    async def get_prefix(self, prefix: str) -> Snapshot: ...


class Schedules:
    """`permit` raises AccessDenied if who is served now may not invoke the function that it is given."""

    def __init__(
        self,
        store: Store,
        definitions: Definitions,
        permit: Callable[[str], None],
        *,
        now: Callable[[], float],
    ) -> None:
        self._store = store
        self._definitions = definitions
        self._permit = permit
        self._now = now

    async def create(self, request: pb.CreateScheduleRequest) -> pb.Schedule:
        name, settings = request.name, request.settings
        if not _NAME.fullmatch(name):
            raise InvalidRequest(f"{name[:80]!r} is no name of a schedule: 1 to 64 of a-z, A-Z, 0-9, - and _")
        for field in ("function_name", "expression"):
            if not settings.HasField(field):
                raise InvalidRequest(f"a schedule takes a {field}")
        blank = Schedule(name=name, function="", expression="")
        schedule, after = await self._changed(blank, settings)
        put = Put(keys.schedule(name), records.encode(schedule))
        if await commits.commit(self._store, [Compare.absent(put.key)], [put], _of(name)) is None:
            raise ScheduleExists(f"there is a schedule {name!r} already: update it, or take another name")
        return _described(schedule, after, None)

    async def update(self, request: pb.UpdateScheduleRequest) -> pb.Schedule:
        name = request.name
        async for _ in commits.tries():
            stored = await self._stored(name)
            schedule, after = await self._changed(_decoded(stored), request.settings)
            fence, put = _same(stored), Put(stored.key, records.encode(schedule))
            if await commits.commit(self._store, [fence], [put], _of(name)) is not None:
                return _described(schedule, after, await self._get(keys.fired(name)))
        raise _contended(name)

    async def get(self, request: pb.GetScheduleRequest) -> pb.Schedule:
        schedule = _decoded(await self._stored(request.name))
        return _described(schedule, _after(schedule), await self._get(keys.fired(request.name)))

    async def list(self, request: pb.ListSchedulesRequest) -> pb.ListSchedulesResponse:
        """The marker is the name of the last one given."""
        count = page_size(request.max_items)
        found = await self._get_prefix(keys.SCHEDULES)
        left = [item for item in found if item.key.removeprefix(keys.SCHEDULES) > request.marker]
        fired = {item.key: item for item in await self._get_prefix(keys.FIRED)}
        answer = pb.ListSchedulesResponse()
        for item in left[:count]:
            name = item.key.removeprefix(keys.SCHEDULES)
            try:
                schedule = records.decode(item.value)
                described = _described(schedule, _after(schedule), fired.get(keys.fired(name)))
            except (Unreadable, InvalidRequest) as error:
                _log.warning("schedule_unreadable", schedule=name, error=str(error))
                continue
            answer.schedules.append(described)
        if len(left) > count:
            answer.next_marker = left[count - 1].key.removeprefix(keys.SCHEDULES)
        return answer

    async def delete(self, request: pb.DeleteScheduleRequest) -> pb.DeleteScheduleResponse:
        name = request.name
        async for _ in commits.tries():
            stored = await self._stored(name)
            gone = Delete(stored.key), Delete(keys.fired(name))
            if await commits.commit(self._store, [_same(stored)], gone, _of(name)) is not None:
                return pb.DeleteScheduleResponse()
        raise _contended(name)

    async def _changed(self, before: Schedule, settings: pb.ScheduleSettings) -> tuple[Schedule, Next]:
        """Where its times are others, or begin again, they count from now."""
        schedule = replace(before, **_checked(settings))
        self._permit(schedule.function)
        if settings.HasField("function_name"):
            self._check_function(schedule.function)
        times, now = ((it.expression, it.time_zone) for it in (before, schedule))
        if times == now and (before.enabled or not schedule.enabled):
            return schedule, _after(schedule)
        schedule = replace(schedule, made_at=self._now())
        return schedule, await asyncio.to_thread(_coming, schedule)

    def _check_function(self, function: str) -> None:
        name, _, qualifier = function.partition(":")
        found = self._definitions.get(FunctionName(name))
        if found is not None and qualifier:
            found = self._definitions.resolve(FunctionName(name), qualifier, 0.0)
        if found is None:
            what = f"version or alias {qualifier[:80]!r} of it" if qualifier else "such function"
            raise UnknownFunction(f"function {name[:80]!r}: there is no {what}; deploy it first")

    async def _stored(self, name: str) -> KeyValue:
        stored = await self._get(keys.schedule(name))
        if stored is None:
            raise UnknownSchedule(f"there is no schedule {name[:80]!r}")
        return stored

    async def _get(self, key: str) -> KeyValue | None:
        try:
            return await self._store.get(key)
        except EtcdError as error:
            raise NotReady(f"the metadata store does not answer: {error}") from error

    async def _get_prefix(self, prefix: str) -> Sequence[KeyValue]:
        try:
            return (await self._store.get_prefix(prefix)).items
        except EtcdError as error:
            raise NotReady(f"the metadata store does not answer: {error}") from error


def _checked(settings: pb.ScheduleSettings) -> dict[str, Any]:
    """What they set of a Schedule. Raises InvalidRequest."""
    given = {field.name: value for field, value in settings.ListFields()}
    changes: dict[str, Any] = {it: given[it] for it in ("time_zone", "enabled") if it in given}
    if "function_name" in given:
        changes["function"] = given["function_name"]
    if "expression" in given:
        changes["expression"] = given["expression"].strip()
        if len(changes["expression"]) > MAX_EXPRESSION:
            raise InvalidRequest(f"the expression has more than {MAX_EXPRESSION} characters")
    if "event" in given:
        changes["event"] = _event(given["event"])
    if "overlap" in given:
        changes["overlap"] = _choice(Overlap, "overlap", given["overlap"])
    if "misfire" in given:
        changes["misfire"] = _choice(Misfire, "misfire", given["misfire"])
    if "jitter_s" in given:
        changes["jitter_s"] = given["jitter_s"]
        if not 0 <= given["jitter_s"] <= MOST_JITTER_S:
            raise InvalidRequest(
                f"jitter_s is {given['jitter_s']:g}; allowed: 0 to {MOST_JITTER_S:,.0f} seconds"
            )
    return changes


def _event(event: bytes) -> bytes:
    if len(event) > MAX_EVENT_BYTES:
        raise InvalidRequest(f"the event has {len(event):,} bytes, the limit is {MAX_EVENT_BYTES:,}")
    if event:
        try:
            json.loads(event)
        except (ValueError, RecursionError) as error:
            raise InvalidRequest(f"the event is no JSON: {error}") from error
    return event


def _choice(kind: type[Choice], what: str, text: str) -> Choice:
    try:
        return kind(text)
    except ValueError:
        raise InvalidRequest(f"{what} is {text[:80]!r}; allowed: {', '.join(kind)}") from None


def _after(schedule: Schedule) -> Next:
    """Raises InvalidRequest."""
    try:
        return parse(schedule.expression, schedule.time_zone, schedule.made_at)
    except BadSchedule as error:
        raise InvalidRequest(str(error)) from error


def _coming(schedule: Schedule) -> Next:
    """Raises InvalidRequest if it never comes, which may take a second to find out."""
    after = _after(schedule)
    if after(schedule.made_at) is None:
        raise InvalidRequest(f"{schedule.expression} in {schedule.time_zone} never comes, or is over already")
    return after


def _decoded(stored: KeyValue) -> Schedule:
    try:
        return records.decode(stored.value)
    except Unreadable as error:
        name = stored.key.removeprefix(keys.SCHEDULES)
        raise Internal(
            f"schedule {name!r} cannot be read as it is stored ({error}): delete it and make it again"
        ) from error


def _described(schedule: Schedule, after: Next, fired: KeyValue | None) -> pb.Schedule:
    settings = pb.ScheduleSettings(
        function_name=schedule.function,
        expression=schedule.expression,
        time_zone=schedule.time_zone,
        event=schedule.event,
        overlap=schedule.overlap,
        misfire=schedule.misfire,
        jitter_s=schedule.jitter_s,
        enabled=schedule.enabled,
    )
    told = pb.Schedule(name=schedule.name, settings=settings)
    told.counts_from.FromNanoseconds(int(schedule.made_at * 1e9))
    try:
        progress = Progress.decode(fired.value) if fired else None
    except Unreadable as error:
        told.last_outcome = f"unreadable, it fires no more ({error}): delete the schedule and make it again"
        return told
    decided_until = max(schedule.made_at, progress.decided_until if progress else 0.0)
    if schedule.enabled and (due := next_due(schedule, after, decided_until)) is not None:
        told.next_due.FromNanoseconds(int(due.at * 1e9))
    if progress is not None:
        _tell(told, progress)
    return told


def _tell(told: pb.Schedule, progress: Progress) -> None:
    told.left_out = progress.left_out
    if not progress.request_id:
        return
    told.last_due.FromNanoseconds(int(progress.due * 1e9))
    told.last_fired.FromNanoseconds(int(progress.fired_at * 1e9))
    told.last_request_id, told.last_frontend = progress.request_id, progress.frontend
    under_way = "running" if progress.running else progress.outcome
    told.last_outcome = under_way if progress.queued else "claimed"


def _same(stored: KeyValue) -> Compare:
    return Compare.mod_revision(stored.key, stored.mod_revision)


def _of(name: str) -> str:
    return f"schedule {name!r}"


def _contended(name: str) -> Contended:
    return Contended(
        f"schedule {name!r} is being changed by others over and over: nothing was changed, try again"
    )
