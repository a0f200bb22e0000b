"""The only caller of the frontend's core: calls and frames in, frames and answers out.

Nothing here awaits, so nothing comes between an event and what follows from it. Payloads stay here; the
core knows requests by their identifiers.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple, Protocol, assert_never

from lambent_chassis.clock import monotonic_s
from lambent_frontend.call_log import Told
from lambent_frontend.calls import Answer, Begun, Call, Candidate, Counted, Explained
from lambent_frontend.core import commands as do
from lambent_frontend.core import events as on
from lambent_frontend.core.call import Priority
from lambent_frontend.core.dispatcher import Dispatcher as Core
from lambent_frontend.durations import Durations
from lambent_frontend.recorder import Ended
from lambent_proto import frames
from lambent_proto.definition import Definition
from lambent_proto.errors import DeadlinePassed, LambentError, LostWithWorker, Throttled, UnknownFunction
from lambent_proto.ids import ACCOUNT, REGION, FunctionName, InstanceId, LeaseNumber, NodeId, RequestId

TICK_S: Final = 0.05
"""How often the core looks at deadlines and lingering leases."""

REMEMBERED: Final = 10_000
"""How many finished calls can still be explained."""

INIT_FAILED: Final = "init_failed"
"""The reason of a start that failed in the function's initialisation."""

_counted: Final = lru_cache(1024)(Counted)
"""They are few, and a NamedTuple is dear to make: two a call."""

Done = Callable[[Answer | LambentError], None]
ToPlacement = do.Demand | do.Release | do.AnswerRecall | do.TellServed | do.ReportLink | do.Attach

_ERRORS: Final[dict[do.Outcome, type[LambentError]]] = {
    do.Outcome.THROTTLED: Throttled,
    do.Outcome.DEADLINE: DeadlinePassed,
    do.Outcome.LOST: LostWithWorker,
    do.Outcome.REMOVED: UnknownFunction,
}

_OUTCOMES: Final[dict[do.Outcome, str]] = {
    do.Outcome.THROTTLED: "throttled",
    do.Outcome.DEADLINE: "timed_out",
    do.Outcome.LOST: "lost",
    do.Outcome.REMOVED: "failed",
}


class Workers(Protocol):
    """The data connections to the workers."""

    levels: dict[NodeId, str]
    """The level of isolation of each that is registered."""
    streaming: set[NodeId]
    """Those of a release that streams answers; the others answer whole."""
    tracing: set[NodeId]
    """Those of a release that takes traces; at the others functions get one of the request id."""

    def send(self, node: NodeId, event: frames.Event) -> None: ...

    def flow(self, node: NodeId, frame: frames.Taken | frames.Unheard) -> None:
        """About a streamed answer. Dropped where no connection is left."""

    def unlink(self, node: NodeId) -> None: ...


@dataclass(slots=True, eq=False)
class _Pending:
    call: Call
    done: Done | None
    """None once the caller went away, or was told of its deadline: the answer finds nobody."""
    arrived_at: float
    outcome: str = ""
    """Once it is known. What was given up may still run."""
    sent: do.Dispatch | None = None
    isolation: str = ""
    """Of the node it was sent to, noted then: the node may be gone when it is asked for."""
    answer: frames.Answer | None = None
    has_begun: bool = False
    """It is streamed, and `call.parts` know."""
    untaken: int = 0
    """Bytes of parts that have come, and nobody has taken."""
    parts_bytes: int = 0
    """Bytes of all that have come."""


class Finished(NamedTuple):
    """What is remembered of a call that has ended."""

    function: str
    outcome: str
    message: str
    sent: do.Dispatch | None
    """How it was sent, or was to be when its start failed; None if it never was."""
    running_ms: float
    isolation: str
    priority: Priority
    tenant: str
    refused: do.Finish | None
    arrived_at: float


class Driver:
    """Carries calls to instances of one shard: for it, the `Dispatcher` of the public services."""

    def __init__(
        self,
        *,
        max_waiting: int,
        max_waiting_bytes: int,
        rate_per_concurrency: float,
        linger_s: float,
        durations: Durations | None = None,
    ) -> None:
        """`durations` may be shared with the drivers of other shards."""
        self.core = Core(
            max_waiting=max_waiting,
            max_waiting_bytes=max_waiting_bytes,
            rate_per_concurrency=rate_per_concurrency,
            linger_s=linger_s,
        )
        self.counts: Counter[Counted] = Counter()
        self.durations = durations or Durations()
        self.workers: Workers
        self.to_placement: Callable[[ToPlacement], None]
        self.record: Callable[[Ended], None] | None = None
        """Told of each call of which nothing runs any more."""
        self.told: Callable[[Told], None] | None = None
        """Told of each call whose outcome is known."""
        self.began: Callable[[Call], None] | None = None
        """Told of each call that comes."""
        self._pending: dict[RequestId, _Pending] = {}
        self.finished: OrderedDict[RequestId, Finished] = OrderedDict()
        """The last ones, the newest last."""
        self._candidates: OrderedDict[InstanceId, Sequence[Candidate]] = OrderedDict()
        self._voided: tuple[InstanceId, NodeId] | None = None
        """What the lease was on that is being taken away."""
        self._broken = False

    # For the public services

    def submit(self, call: Call, done: Done) -> None:
        now = monotonic_s()
        if self.began is not None:
            self.began(call)
        self._pending[call.request_id] = _Pending(call, done, now)
        size = len(call.payload) + len(call.client_context)
        rights = call.priority, call.tenant, size, call.sticky
        self.feed(
            on.InvocationArrived(call.request_id, call.definition.key, now + call.deadline_s, now, *rights)
        )

    def abandon(self, request_id: RequestId) -> None:
        pending = self._pending.get(request_id)
        if pending is None or pending.done is None:
            return
        pending.done = None
        self._remember(pending, "cancelled", "the caller went away")
        if pending.sent is None:
            self._over(pending)
        else:
            self._unhear(pending, pending.sent)
        self.feed(on.InvocationAbandoned(request_id, monotonic_s()))

    def under_way(self, request_id: RequestId) -> bool:
        return request_id in self._pending

    def taken(self, request_id: RequestId, size: int) -> None:
        pending = self._pending.get(request_id)
        if pending is not None and pending.done is not None and pending.sent is not None:
            pending.untaken -= size
            self.workers.flow(pending.sent.node, frames.Taken(request_id, size))

    def explain(self, request_id: RequestId) -> Explained | None:
        found = self.finished.get(request_id)
        if found is None:
            return None
        what = request_id, found.function, found.outcome, found.message
        sent, rights = found.sent, (found.priority, found.tenant)
        if sent is None:
            why, waited_for = "", ""
            if found.refused is not None:
                why, waited_for = found.refused.refusal, found.refused.waited_for
            return Explained(*what, "", why, "", "", 0, 0, 0, 0, waited_for, "", (), *rights)
        return Explained(
            *what,
            _kind(sent),
            sent.reason,
            _display(sent.node),
            sent.instance,
            sent.waited_s * 1000,
            sent.starting_ms,
            sent.init_ms,
            found.running_ms,
            sent.waited_for,
            found.isolation,
            self._candidates.get(sent.instance, ()) if sent.cold else (),
            *rights,
        )

    # For the shells around it

    def chosen(self, instance: InstanceId, candidates: Sequence[Candidate]) -> None:
        """The nodes that placement compared for a new instance, to be explained if somebody asks."""
        self._candidates[instance] = candidates
        if len(self._candidates) > REMEMBERED:
            self._candidates.popitem(last=False)

    def function_changed(self, name: FunctionName, before: Definition | None, now: Definition | None) -> None:
        """The catalogue's news: a version appeared, took another's place, or went away."""
        at = monotonic_s()
        if now is not None and (before is None or before.key == now.key):
            self.feed(on.VersionDefined(now.key, now.concurrency))
        elif now is not None and before is not None:
            for pending in self._pending.values():
                if pending.sent is None and pending.call.definition.key == before.key:
                    pending.call.definition = now  # it waits for the new version from here on
            self.feed(on.VersionReplaced(before.key, now.key, now.concurrency, at))
        elif before is not None:
            self.feed(on.VersionRemoved(before.key, at))

    def frontends_counted(self, number: int) -> None:
        self.feed(on.FrontendsCounted(number))

    def concurrency_set(self, concurrency: int) -> None:
        """The fleet's."""
        self.feed(on.ConcurrencySet(concurrency))

    def begun(self, begun: frames.Begun) -> None:
        pending = self._pending.get(begun.request_id)
        if pending is None or pending.done is None or pending.sent is None or pending.call.parts is None:
            return
        pending.has_begun = True
        how = self._told(pending, pending.sent, frames.Answer(begun.request_id, False, 0.0, None, b""))
        pending.call.parts.began(Begun(begun.content_type, how))

    def part(self, part: frames.Part) -> None:
        """Raises BadFrame for what its worker should not have sent."""
        pending = self._pending.get(part.request_id)
        if pending is None or pending.done is None or pending.call.parts is None:
            return  # on its way when its caller left
        pending.untaken += len(part.data)
        pending.parts_bytes += len(part.data)
        if not pending.has_begun or pending.untaken > frames.WINDOW_BYTES + frames.MAX_AHEAD_BYTES:
            raise frames.BadFrame(f"a PART for {part.request_id[:64]!r}, for which it had no window")
        pending.call.parts.part(part.data)

    def answered(self, answer: frames.Answer) -> None:
        pending = self._pending.get(answer.request_id)
        if pending is None or pending.sent is None:
            return
        pending.answer = answer
        sent = pending.sent
        if pending.done is None:
            self._over(pending, answer.running_ms)
        self.feed(on.EventAnswered(sent.instance, answer.request_id, monotonic_s()))

    def refused(self, refusal: frames.Refused) -> None:
        pending = self._pending.get(refusal.request_id)
        if pending is None or pending.sent is None:
            return
        sent, pending.sent = pending.sent, None
        if pending.done is None:
            self._over(pending)
        self.feed(on.EventRefused(sent.instance, refusal.request_id, refusal.reason, monotonic_s()))

    def lost(self, lost: frames.Lost) -> None:
        pending = self._pending.get(lost.request_id)
        if pending is None or pending.sent is None:
            return
        if pending.done is None:
            self._over(pending)
        self.feed(on.EventLost(pending.sent.instance, lost.request_id, lost.reason, monotonic_s()))

    def link_down(self, node: NodeId) -> None:
        self.feed(on.LinkDown(node, monotonic_s()))
        unheard = [p for p in self._pending.values() if p.done is None and p.sent and p.sent.node == node]
        for pending in unheard:  # nobody waits for these, and now no answer comes either
            self._over(pending)

    def voided(self, event: on.LeaseVoided) -> None:
        """Placement takes a lease away. Where it was a start that failed, one call fails with it."""
        lease = self.core.books.leases.get(event.instance)
        self._voided = None if lease is None else (event.instance, lease.node)
        self.feed(event)

    def tick(self) -> None:
        self.feed(on.Tick(monotonic_s()))

    def feed(self, event: on.Event) -> None:
        if self._broken:
            raise RuntimeError("the dispatcher met a fault before, see the log: this process must end")
        try:
            for command in self.core.handle(event):
                self._carry_out(command)
        except BaseException:
            self._broken = True  # the books may be half changed; the next tick ends the process
            raise

    def _carry_out(self, command: do.Command) -> None:
        match command:
            case do.Dispatch():
                self._dispatch(command)
            case do.Finish():
                self._finish(command)
            case do.Unlink():
                self.workers.unlink(command.node)
            case (
                do.Demand()
                | do.Release()
                | do.AnswerRecall()
                | do.TellServed()
                | do.ReportLink()
                | do.Attach()
            ):
                self.to_placement(command)
            case _:
                assert_never(command)

    def _dispatch(self, command: do.Dispatch) -> None:
        pending = self._pending[command.request]
        pending.sent = command
        pending.isolation = self.workers.levels.get(command.node, "")
        call = pending.call
        definition = call.definition
        streams = call.parts is not None and command.node in self.workers.streaming
        self.workers.send(
            command.node,
            frames.Event(
                command.request,
                command.instance,
                command.number,
                int(definition.timeout_s * 1000),
                _arn(call),
                call.client_context,
                call.tail,
                call.payload,
                frames.WINDOW_BYTES if streams else 0,
                call.given_trace if call.given_trace and command.node in self.workers.tracing else "",
            ),
        )

    def _finish(self, command: do.Finish) -> None:
        pending = self._pending[command.request]
        done, pending.done = pending.done, None
        outcome: Answer | LambentError
        if command.outcome is do.Outcome.ANSWERED and pending.answer is not None:
            outcome = self._answer(pending, pending.answer)
        elif command.outcome is do.Outcome.INIT_FAILED:
            outcome = self._init_failed(pending, command.error)
        else:
            error = _ERRORS[command.outcome](command.detail, command.request)
            if isinstance(error, Throttled):
                error.throttle_reason = command.throttle
            refused = command if command.refusal else None
            self._remember(pending, _OUTCOMES[command.outcome], command.detail, refused=refused)
            outcome = error
        still_runs = command.outcome is do.Outcome.DEADLINE
        if pending.sent is not None and command.outcome is not do.Outcome.ANSWERED:
            self._unhear(pending, pending.sent)
        if not still_runs:
            self._over(pending, pending.answer.running_ms if pending.answer else None)
        if done is not None:
            done(outcome)

    def _unhear(self, pending: _Pending, sent: do.Dispatch) -> None:
        if pending.call.parts is not None and sent.node in self.workers.streaming:
            self.workers.flow(sent.node, frames.Unheard(pending.call.request_id))

    def _answer(self, pending: _Pending, answer: frames.Answer) -> Answer:
        assert pending.sent is not None
        self._remember(pending, "function_error" if answer.failed else "succeeded", "", answer.running_ms)
        return self._told(pending, pending.sent, answer)

    def _told(self, pending: _Pending, sent: do.Dispatch, answer: frames.Answer) -> Answer:
        return Answer(
            answer.payload,
            answer.failed,
            answer.tail or b"",
            _kind(sent),
            sent.reason,
            _display(sent.node),
            sent.instance,
            sent.waited_s * 1000,
            sent.starting_ms,
            sent.init_ms,
            answer.running_ms,
            sent.waited_for,
            pending.isolation,
        )

    def _init_failed(self, pending: _Pending, error: bytes) -> Answer:
        """The function's own fault, so an answer and not an error: as Lambda has it. The call was never sent,
        and is remembered as if it had been, with all its time as waiting."""
        instance, node = self._voided or (InstanceId(""), NodeId(""))
        waited_s = monotonic_s() - pending.arrived_at
        request, none = pending.call.request_id, LeaseNumber(0)
        how = True, INIT_FAILED, waited_s, "", 0.0, 0.0
        failed = do.Dispatch(node, instance, none, request, *how)
        pending.isolation = self.workers.levels.get(node, "")
        self._remember(pending, "function_error", "its initialisation failed", unsent=failed)
        return self._told(pending, failed, frames.Answer(request, True, 0.0, None, error))

    def _remember(
        self,
        pending: _Pending,
        outcome: str,
        message: str,
        running_ms: float = 0.0,
        refused: do.Finish | None = None,
        unsent: do.Dispatch | None = None,
    ) -> None:
        pending.outcome = outcome
        self._count(pending.sent, outcome, refused)
        if pending.sent is not None:
            self.durations.note(pending.sent, _kind(pending.sent), running_ms if pending.answer else None)
        call, how = pending.call, (pending.sent or unsent, running_ms, pending.isolation)
        self.finished[call.request_id] = Finished(
            call.definition.name,
            outcome,
            message,
            *how,
            call.priority,
            call.tenant,
            refused,
            pending.arrived_at,
        )
        if len(self.finished) > REMEMBERED:
            self.finished.popitem(last=False)
        if self.told is not None:
            self.told(self._for_log(pending, outcome, message, running_ms, refused, unsent))

    def _for_log(
        self,
        pending: _Pending,
        outcome: str,
        message: str,
        running_ms: float,
        refused: do.Finish | None,
        unsent: do.Dispatch | None,
    ) -> Told:
        request_id, sent, answer = pending.call.request_id, pending.sent or unsent, pending.answer
        if sent is None:
            why = (refused.refusal, refused.waited_for) if refused is not None else ("", "")
            how = Answer(b"", True, b"", "", why[0], "", "", 0.0, 0.0, 0.0, 0.0, why[1], "")
        else:
            how = self._told(pending, sent, frames.Answer(request_id, False, running_ms, None, b""))
        size = pending.parts_bytes + (len(answer.payload) if answer is not None else 0)
        return Told(pending.call, outcome, message, how, size)

    def _count(self, sent: do.Dispatch | None, outcome: str, refused: do.Finish | None) -> None:
        counts = self.counts
        counts[_counted("outcome", outcome)] += 1
        if sent is not None:
            counts[_counted(_kind(sent), sent.reason)] += 1
        if refused is not None:
            counts[_counted("refused", refused.refusal)] += 1
        waited = sent or refused
        if waited is not None and waited.waited_for:
            counts[_counted("waited", waited.waited_for)] += 1

    def _over(self, pending: _Pending, running_ms: float | None = None) -> None:
        """Nothing of the call waits or runs any more."""
        del self._pending[pending.call.request_id]
        if self.record is None:
            return
        definition, sent = pending.call.definition, pending.sent
        self.record(
            Ended(
                pending.arrived_at,
                definition.name,
                definition.memory_mb,
                running_ms,
                _kind(sent) if sent else "",
                sent.waited_s * 1000 if sent else 0.0,
                sent.starting_ms + sent.init_ms if sent else 0.0,
                pending.outcome,
            )
        )


def _arn(call: Call) -> str:
    """The function as it was called, version or alias included."""
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{call.definition.name}"
    return f"{arn}:{call.qualifier}" if call.qualifier else arn


def _kind(sent: do.Dispatch) -> str:
    if sent.restored:
        return "snapstart"
    return "cold" if sent.cold else "warm"


def _display(node: NodeId) -> str:
    return node.partition("@")[0]
