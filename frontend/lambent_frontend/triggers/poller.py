"""One trigger at work in this frontend: its source, a line for each of its shards, and how it goes."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from lambent_chassis.clock import monotonic_s
from lambent_frontend.invoker import Invoker
from lambent_frontend.triggers.calls import Ended, call_with
from lambent_frontend.triggers.core import queue, stream
from lambent_frontend.triggers.core.batches import Limits
from lambent_frontend.triggers.core.messages import Batch, Discard, Tally, pause_s
from lambent_frontend.triggers.core.pattern import parse_all
from lambent_frontend.triggers.given_up import record_of
from lambent_frontend.triggers.lines import Line
from lambent_frontend.triggers.on_failure import OnFailure
from lambent_frontend.triggers.sources.base import Item, Kept, QueueSource, SourceFailed, StreamSource
from lambent_frontend.triggers.store import NotOurs
from lambent_frontend.triggers.tallies import decoded, encoded
from lambent_proto.errors import LambentError
from lambent_proto.triggers import Trigger

LINES_EVERY_S: Final = 5.0
"""How often a stream is asked for its shards."""
WORKED_S: Final = 10.0
"""A line, or a source, that worked for so long before it failed is tried again after the first pause."""
ALL: Final = ""
"""In the place of a line's name."""
MOST_AT_ONCE: Final = 1000
"""Batches at one time of a queue whose trigger sets no limit, Lambda's."""

_log = structlog.get_logger()


@dataclass(slots=True)
class Course:
    """How it goes, for people."""

    result: str = "No records processed"
    error: str = ""
    """Of the last call, or of a destination."""


class Poller:
    def __init__(
        self,
        trigger: Trigger,
        source: QueueSource | StreamSource,
        invoker: Invoker,
        on_failure: OnFailure,
        held: Callable[[], None],
        kept: Kept,
    ) -> None:
        self.course = Course()
        self._trigger = trigger
        self._source = source
        self._invoker = invoker
        self._on_failure = on_failure
        self._held = held
        self._kept = kept
        self._tallies: dict[str, tuple[Tally, ...]] = {}
        """By line, what failed there, as it was told last."""
        self._filters = parse_all(trigger.filters)
        self._lines: dict[str, Line] = {}
        self._broken: dict[str, str] = {}
        """By line what it said when it failed last; under ALL, why it is not known which lines there are."""
        self._before = 0
        """Records that lines were done with which have failed since."""
        self._stop = asyncio.Event()

    @property
    def records(self) -> int:
        """Done with so far."""
        return self._before + sum(line.done for line in self._lines.values())

    @property
    def result(self) -> str:
        return (
            "PROBLEM: a part of the event source cannot be used" if self._broken_now else self.course.result
        )

    @property
    def error(self) -> str:
        """What goes wrong just now, with a part of the source before a call; empty if nothing does."""
        return next(iter(self._broken_now), self.course.error)

    @property
    def _broken_now(self) -> list[str]:
        return [said for name, said in self._broken.items() if name == ALL or not self._lines[name].reads]

    async def lag(self) -> int | None:
        return await self._source.lag()

    def stop(self) -> None:
        """No call begins any more; `run` returns when those under way are over."""
        self._stop.set()
        for line in self._lines.values():
            line.stop()

    async def run(self) -> None:
        """Of an open source. Raises what the source raises, or what says that the trigger is not ours."""
        if isinstance(self._source, StreamSource):
            failures = await self._kept.failures()
            self._tallies = {line: decoded(value) for line, value in failures.items()}
        async with asyncio.TaskGroup() as tasks:
            while not self._stop.is_set():
                for name in await self._known_names():
                    if name not in self._lines and not self._stop.is_set():
                        self._lines[name] = self._line(name)
                        tasks.create_task(self._keep(name))
                await self._pause(LINES_EVERY_S)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()

    async def _known_names(self) -> Sequence[str]:
        """A stream that does not say now which lines it has goes on with those that are known."""
        if not isinstance(self._source, StreamSource):
            return [""]
        try:
            names = await self._source.lines()
        except (LambentError, NotOurs, SourceFailed):
            raise
        except Exception as error:
            if not self._lines:
                raise
            self._note(ALL, error)
            return []
        self._broken.pop(ALL, None)
        return names

    async def _keep(self, name: str) -> None:
        """A line of a stream that fails is begun anew, while the others go on."""
        failures, began = 0, monotonic_s()
        while (error := await self._failed(name)) is not None:
            failures = failures + 1 if monotonic_s() < began + WORKED_S else 1
            self._before += self._lines[name].done
            self._lines[name] = self._line(name)
            self._note(name, error)
            await self._pause(pause_s(failures))
            if self._stop.is_set():
                return
            began = monotonic_s()

    def _note(self, name: str, error: BaseException) -> None:
        self._broken[name] = f"{name}: {error}" if name else str(error)
        _log.warning("trigger_line_failed", trigger=self._trigger.id, line=name, error=str(error)[:1000])

    async def _failed(self, name: str) -> BaseException | None:
        """None if the line is over. Raises what ends all of them."""
        error: BaseException | None = None
        try:
            await self._lines[name].run()
        except* (LambentError, NotOurs, SourceFailed):
            raise
        except* Exception as errors:
            if not isinstance(self._source, StreamSource):
                raise
            self._source.rewind(name)
            error = first_of(errors)
        return error

    def _line(self, name: str) -> Line:
        return Line(
            self._source,
            name,
            self._engine(name),
            self._filters,
            call=self._call,
            given_up=self._given_up,
            held=self._held,
            keep=partial(self._keep_tallies, name),
        )

    async def _keep_tallies(self, name: str, tallies: tuple[Tally, ...]) -> None:
        self._tallies[name] = tallies
        await self._kept.keep_failures(name, encoded(tallies))

    def _engine(self, name: str) -> queue.Queue | stream.Shard:
        trigger, limits = self._trigger, Limits(self._trigger.batch_size, self._trigger.window_s)
        if isinstance(self._source, QueueSource):
            most = trigger.max_concurrency or MOST_AT_ONCE
            return queue.Queue(queue.Rules(limits, most, self._source.deliveries))
        return stream.Shard(
            stream.Rules(
                limits, trigger.parallelization, trigger.max_retries, trigger.max_age_s, trigger.bisect
            ),
            self._tallies.get(name, ()),
        )

    async def _call(self, batch: Batch, event: bytes) -> Ended:
        ended = await call_with(self._invoker, self._trigger, batch, event)
        failed = "PROBLEM: the function is gone" if ended.gone else "PROBLEM: Function call failed"
        self.course.result = failed if ended.problem else "OK"
        self.course.error = ended.problem
        return ended

    async def _given_up(self, discard: Discard, items: Sequence[Item], ended: Ended | None) -> None:
        told = record_of(self._trigger, discard, items, ended)
        _log.warning(
            "records_given_up",
            trigger=self._trigger.id,
            condition=discard.condition,
            records=discard.batch.ids[:100],
            calls=discard.calls,
        )
        if self._trigger.on_failure:
            self.course.error = await self._on_failure.tell(self._trigger.on_failure, told)


def first_of(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    first: BaseException = errors
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first
