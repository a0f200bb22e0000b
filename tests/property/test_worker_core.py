"""Whatever comes in whatever order, a worker keeps its promises: orders, events and accidents."""

from typing import Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lambent_proto.ids import Epoch, FrontendId, InstanceId, LeaseNumber, RequestId, VersionKey
from lambent_worker.core import commands as do
from lambent_worker.core import events as on
from lambent_worker.core.agent import FENCE_MARGIN_S, Agent, State

V: Final = VersionKey("f:$LATEST:1")
TTL_S: Final = 10.0
recent = st.sampled_from([0, 0, 0, 1, 1, 2])
"""Which of the instances is meant: the newest, the one before, or one that may be long gone."""
frontends = st.sampled_from([FrontendId("f1"), FrontendId("f1"), FrontendId("f2")])
# Most of what comes is in order; some of it is old.
steps = st.sampled_from([0, 0, 0, 1, 1, -1])
behind = st.sampled_from([0, 0, 0, 0, 0, 1])


class Worker(RuleBasedStateMachine):
    """The real core, and a host that holds what it was told to hold."""

    @initialize()
    def begin(self) -> None:
        self.agent = Agent(memory_mb=512)
        self.now = 0.0
        self.valid_until = TTL_S
        self.newest = 1
        self.owed_freed: set[InstanceId] = set()
        self.sandboxes: dict[InstanceId, str] = {}
        self.running: dict[InstanceId, RequestId] = {}
        self.asked: dict[RequestId, FrontendId] = {}
        self.answers: dict[RequestId, int] = {}
        self.ids: list[InstanceId] = []
        self.retired = 0
        self.byes = 0
        self.feed(on.RegistrationRenewed(TTL_S))
        self.feed(on.LeaderFollowed(Epoch(1)))
        for _ in range(2):
            self.granted(twice=False, old=0, memory_mb=128, soon_ready=True)

    @precondition(lambda self: self.retired or self.byes)
    @rule()
    def registers_anew(self) -> None:
        self.begin()

    def feed(self, event: on.Event) -> list[do.Command]:
        commands = self.agent.handle(event)
        for command in commands:
            self.carry_out(command)
        return commands

    def carry_out(self, command: do.Command) -> None:  # noqa: C901 - a case a command
        match command:
            case do.Start():
                assert not self.agent.leaving, "started while it is about to end"
                assert self.now < self.valid_until - FENCE_MARGIN_S, "started with no time left"
                assert command.instance not in self.sandboxes, "started twice"
                self.sandboxes[command.instance] = "starting"
            case do.Kill():
                assert self.sandboxes[command.instance] != "killed", "killed twice"
                self.sandboxes[command.instance] = "killed"
            case do.Deliver():
                assert self.now < self.valid_until - FENCE_MARGIN_S, "delivered with no time left"
                assert self.sandboxes[command.instance] == "ready", "handed to one that is not ready"
                assert command.instance not in self.running, "two events at a time"
                self.running[command.instance] = command.request
            case do.Answer() | do.TimeOut():
                assert self.asked[command.request] == command.frontend, "answered to another frontend"
                self.answers[command.request] = self.answers.get(command.request, 0) + 1
                assert self.answers[command.request] == 1, "answered twice"
                if isinstance(command, do.TimeOut):
                    assert self.running.pop(command.instance) == command.request
            case do.Lose():
                assert self.asked[command.request] == command.frontend, "told to another frontend"
                self.answers[command.request] = self.answers.get(command.request, 0) + 1
                assert self.answers[command.request] == 1, "answered twice"
            case do.ReportFreed():
                busy = command.instance in self.running
                assert busy == command.busy, "free is said while an event runs"
                if not busy:
                    self.owed_freed.discard(command.instance)
            case do.Retire():
                self.retired += 1
            case do.SayBye():
                self.byes += 1
            case _:
                pass

    def pick(self, back: int) -> InstanceId:
        return self.ids[-1 - back] if back < len(self.ids) else InstanceId("unknown")

    def number(self, instance: InstanceId, step: int) -> LeaseNumber:
        """As new as the newest lease of the instance, or newer, or older."""
        held = self.agent.instances.get(instance)
        return LeaseNumber((held.number if held else 1) + step)

    def order(self, event: on.GrantArrived | on.FenceArrived | on.EvictArrived) -> list[do.Command]:
        commands = self.feed(event)
        if event.epoch < self.newest:
            assert commands == [], "an older leader was obeyed"
        self.newest = max(self.newest, event.epoch)
        return commands

    @rule(
        twice=st.sampled_from([False, False, False, True]),
        old=behind,
        memory_mb=st.sampled_from([128, 256]),
        soon_ready=st.booleans(),
    )
    def granted(self, twice: bool, old: int, memory_mb: int, soon_ready: bool) -> None:
        epoch, number = Epoch(self.newest - old), LeaseNumber(1)
        if not twice:
            self.ids.append(InstanceId(f"i{len(self.ids)}"))
        instance = self.pick(0)
        if twice and instance not in self.sandboxes:
            return  # the order was refused or is over: it is not given again
        stale, held = epoch < self.newest, instance in self.sandboxes
        said = self.order(on.GrantArrived(epoch, instance, V, memory_mb, number, FrontendId("f1"), self.now))
        assert len(said) == (0 if stale or held else 1), "a grant is carried out or refused"
        if soon_ready:
            self.initialised(0)

    @rule(back=recent, step=steps, old=behind)
    def fenced(self, back: int, step: int, old: int) -> None:
        instance = self.pick(back)
        said = self.order(on.FenceArrived(Epoch(self.newest - old), instance, self.number(instance, step)))
        if any(isinstance(c, do.ReportFreed) and c.busy for c in said):
            self.owed_freed.add(instance)

    @rule(back=recent, step=steps, old=behind)
    def evicted(self, back: int, step: int, old: int) -> None:
        instance = self.pick(back)
        number = self.number(instance, step)
        self.order(on.EvictArrived(Epoch(self.newest - old), instance, number, "keep_alive"))

    @rule(step=steps)
    def leader_followed(self, step: int) -> None:
        self.feed(on.LeaderFollowed(Epoch(self.newest + step)))
        self.newest = max(self.newest, self.newest + step)

    @rule(back=recent, frontend=frontends, step=steps, timeout_s=st.sampled_from([0.5, 3.0]))
    def event(self, back: int, frontend: FrontendId, step: int, timeout_s: float) -> None:
        instance = self.pick(back)
        number = self.number(instance, step)
        request = RequestId(f"r{len(self.asked)}")
        self.asked[request] = frontend
        said = self.feed(on.EventArrived(frontend, request, instance, number, timeout_s, self.now))
        assert [type(c) for c in said] in ([do.Deliver], [do.Refuse]), "taken or refused, never neither"

    @rule(back=recent)
    def initialised(self, back: int) -> None:
        instance = self.pick(back)
        if self.sandboxes.get(instance) == "starting":
            self.sandboxes[instance] = "ready"
        self.feed(on.InstanceReady(instance, 1.0, 2.0))

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def answered(self, data: st.DataObject) -> None:
        instance = data.draw(st.sampled_from(sorted(self.running)))
        request = self.running[instance]
        if self.agent.instances[instance].state is State.STOPPING:
            assert self.feed(on.Answered(instance, request)) == [], "its caller is to hear of the loss alone"
            return
        del self.running[instance]
        self.feed(on.Answered(instance, request))
        assert self.answers[request] == 1, "an answer was lost"
        assert instance not in self.owed_freed, "the end of a fenced event is not told"

    @precondition(lambda self: self.asked)
    @rule(back=recent, data=st.data())
    def late_answer(self, back: int, data: st.DataObject) -> None:
        instance = self.pick(back)
        request = data.draw(st.sampled_from(sorted(self.asked)))
        if self.running.get(instance) != request:
            assert self.feed(on.Answered(instance, request)) == []

    @precondition(lambda self: self.sandboxes)
    @rule(data=st.data())
    def exited(self, data: st.DataObject) -> None:
        instance = data.draw(st.sampled_from(sorted(self.sandboxes)))
        del self.sandboxes[instance]
        lost = self.running.pop(instance, None)
        self.owed_freed.discard(instance)
        said = self.feed(on.InstanceExited(instance, on.ExitReason.KILLED, b""))
        assert any(isinstance(it, do.ReportGone) for it in said)
        assert [it.request for it in said if isinstance(it, do.Lose)] == ([lost] if lost else [])
        assert self.feed(on.InstanceExited(instance, on.ExitReason.KILLED, b"")) == [], "gone twice"

    @rule(seconds=st.sampled_from([0.1, 0.6, 3.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        if self.now < self.valid_until - FENCE_MARGIN_S:
            self.renewed()
            self.tick()

    @precondition(lambda self: self.now > 4.0)
    @rule()
    def pauses(self) -> None:
        """It wakes to a queue of messages, and reads them before its next tick."""
        self.now = self.valid_until - FENCE_MARGIN_S + 0.01

    @rule()
    def tick(self) -> None:
        self.feed(on.Tick(self.now))
        for instance in self.agent.instances.values():
            if instance.state is State.BUSY:
                assert self.now < instance.deadline, "a running event is past its timeout"
            if self.now >= self.valid_until - FENCE_MARGIN_S:
                assert instance.state is State.STOPPING, "alive with no time left"

    @rule()
    def renewed(self) -> None:
        if self.now < self.valid_until:
            self.valid_until = self.now + TTL_S
        self.feed(on.RegistrationRenewed(self.valid_until))

    @rule()
    def renewed_twice(self) -> None:
        self.feed(on.RegistrationRenewed(self.valid_until))

    @precondition(lambda self: self.now > 8.0)
    @rule()
    def registration_lost(self) -> None:
        self.feed(on.RegistrationLost("revoked"))

    @precondition(lambda self: self.now > 4.0)
    @rule()
    def told_to_stop(self) -> None:
        said = self.feed(on.StopAsked())
        assert said[:1] in ([], [do.ReportLeaving()])
        assert self.feed(on.StopAsked()) == []

    @invariant()
    def it_says_goodbye_once_and_empty(self) -> None:
        assert self.byes == int(self.agent.leaving and not self.sandboxes)

    @invariant()
    def memory_is_counted(self) -> None:
        held = sum(i.memory_mb for i in self.agent.instances.values())
        assert self.agent.memory_used_mb == held <= self.agent.memory_mb

    @invariant()
    def what_it_believes_is_so(self) -> None:
        assert set(self.agent.instances) == set(self.sandboxes)
        for instance in self.agent.instances.values():
            expected = {
                State.STARTING: ("starting",),
                State.IDLE: ("ready",),
                State.BUSY: ("ready",),
                State.STOPPING: ("killed",),
            }
            assert self.sandboxes[instance.id] in expected[instance.state]
            if instance.state is State.BUSY:
                assert self.running[instance.id] == instance.request
            if instance.state is State.IDLE:
                assert instance.id not in self.running
                assert instance.id not in self.owed_freed, "the end of a fenced event is not told"
        assert self.agent.epoch == self.newest

    @invariant()
    def it_retires_once_and_empty(self) -> None:
        assert self.retired == int(bool(self.agent.fenced) and not self.sandboxes)


TestWorker = Worker.TestCase
TestWorker.settings = settings(max_examples=600, stateful_step_count=50, deadline=None)
