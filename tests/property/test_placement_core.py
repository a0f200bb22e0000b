"""Whatever comes in whatever order, the count is right: placement's core over real worker cores.

Workers are the real agents, so that what placement orders is carried out as it would be; frontends are three
lines of bookkeeping. Leaders follow each other, streams break, words are lost, keys vanish.
"""

from collections import Counter
from typing import Any, Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lambent_placement.core import commands as do
from lambent_placement.core import events as on
from lambent_placement.core import invariants
from lambent_placement.core.histogram import Habit, Histogram
from lambent_placement.core.records import State
from lambent_placement.core.scheduler import KEEPS, Scheduler
from lambent_proto.ids import (
    Epoch,
    FrontendId,
    FunctionName,
    InstanceId,
    LeaseNumber,
    NodeId,
    RequestId,
    VersionKey,
    function_of,
)
from lambent_worker.core import commands as said
from lambent_worker.core import events as told
from lambent_worker.core.agent import Agent
from lambent_worker.core.agent import State as AgentState

EXPECTED: Final[dict[str, Any]] = {"head_s": 0.4, "tail_s": 2.0, "reckon_at": 1_000_000}
"""A habit within which instances are started ahead in a few steps."""
LIMITS: Final = {FunctionName("f"): 2, FunctionName("g"): 3}
RUNTIMES: Final = {FunctionName("f"): "python3.11", FunctionName("g"): "nodejs20.x"}
RUNTIMES_OF: Final = (
    frozenset[str](),
    frozenset({"python3.11", "nodejs20.x"}),
    frozenset({"python3.11", "nodejs20.x", "ruby3.1"}),
)
"""By slot. The first one's workers are of an older release, and say nothing of it."""
REQUIRE, PREFER, APART = frozenset({"zone=a"}), frozenset({"disk=ssd"}), FunctionName("g")
LABELS_OF: Final = (REQUIRE, frozenset[str](), REQUIRE | PREFER)
"""By slot. `f` requires and prefers, `g` is kept apart."""
FRONTENDS: Final = [FrontendId("f1"), FrontendId("f2")]
functions = st.sampled_from(sorted(LIMITS))
frontends = st.sampled_from(FRONTENDS)
slots = st.integers(0, 2)


def of(version: VersionKey, function: FunctionName) -> bool:
    return function_of(version) == function


class Fleet(RuleBasedStateMachine):
    @initialize(keep=st.sampled_from(sorted(KEEPS)))
    def begin(self, keep: str) -> None:
        self.keep = keep
        self.now = 0.0
        self.epoch = 0
        self.calls = 0
        self.revisions = dict.fromkeys(LIMITS, 1)
        self.agents: dict[NodeId, Agent] = {}
        self.connected: set[NodeId] = set()
        self.leaving: set[NodeId] = set()
        """Those of which the leader has heard that they will end."""
        self.orders: dict[NodeId, list[do.Grant | do.Evict | do.Fence]] = {}
        self.attached: set[FrontendId] = set()
        self.links: dict[FrontendId, set[NodeId]] = {frontend: set() for frontend in FRONTENDS}
        self.held: dict[FrontendId, dict[InstanceId, LeaseNumber]] = {f: {} for f in FRONTENDS}
        self.told_unmet: dict[tuple[FrontendId, VersionKey], tuple[do.Unmet, str]] = {}
        self.incarnation = 0
        self.slots: list[NodeId] = [self.join() for _ in range(3)]
        self.fail_over()
        for slot in range(3):
            self.report(slot)
        for frontend in FRONTENDS:
            self.links[frontend] = set(self.slots)
            self.attach(frontend, unheard=False)

    def register(self, node: NodeId) -> None:
        slot = self.slots.index(node)
        self.feed(on.NodeRegistered(node, 768, RUNTIMES_OF[slot], LABELS_OF[slot]))

    def join(self) -> NodeId:
        self.incarnation += 1
        node = NodeId(f"n@{self.incarnation}")
        self.agents[node] = Agent(memory_mb=768)
        self.orders[node] = []
        return node

    def version(self, function: FunctionName) -> VersionKey:
        return VersionKey(f"{function}:$LATEST:{self.revisions[function]}")

    def feed(self, event: on.Event) -> None:
        for command in self.core.handle(event):
            self.carry_out(command)
        invariants.check(self.core.books)

    def carry_out(self, command: do.Command) -> None:
        match command:
            case do.Grant() | do.Evict() | do.Fence():
                assert command.node in self.connected, "an order to a worker that cannot hear it"
                self.orders[command.node].append(command)
                if isinstance(command, do.Grant):
                    assert command.node not in self.leaving, "a start where all is moved away"
                    runtime = RUNTIMES[function_of(command.version)]
                    taken = RUNTIMES_OF[self.slots.index(command.node)] or {"python3.11"}
                    assert runtime in taken, f"a start on a node without {runtime}"
                    labels = LABELS_OF[self.slots.index(command.node)]
                    assert function_of(command.version) == APART or labels >= REQUIRE, (
                        "a required label is missing"
                    )
                    self.check_limit(function_of(command.version))
            case do.GiveLease():
                assert command.frontend in self.attached, "a lease for one that cannot hear of it"
                assert command.node in self.links[command.frontend], "a lease out of its holder's reach"
                number = self.held[command.frontend].get(command.instance, 0)
                assert command.number > number, "a lease number that does not grow"
                self.held[command.frontend][command.instance] = command.number
            case do.VoidLease():
                assert command.frontend in self.attached
                if self.held[command.frontend].get(command.instance) == command.number:
                    del self.held[command.frontend][command.instance]
            case do.TellUnmet():
                key = command.frontend, command.version
                assert self.told_unmet.get(key) != (command.reason, command.detail), "told twice"
                self.told_unmet[key] = command.reason, command.detail
            case _:
                pass

    # Workers

    def obey(self, node: NodeId, event: told.Event) -> None:
        """What the worker says to it reaches placement if it is connected, and is lost if not."""
        for answer in self.agents[node].handle(event):
            if isinstance(answer, said.Start):
                self.check_limit(function_of(answer.version))
            if node in self.connected:
                self.pass_on(node, answer)

    def pass_on(self, node: NodeId, answer: said.Command) -> None:
        match answer:
            case said.ReportReady():
                self.feed(on.InstanceReady(answer.instance, 1.0, 2.0, self.now))
            case said.ReportGone():
                self.feed(on.InstanceGone(answer.instance, answer.reason, answer.error, self.now))
            case said.ReportFreed():
                self.feed(on.InstanceFreed(answer.instance, answer.number, answer.busy, self.now))
            case said.ReportRefused():
                self.feed(on.GrantRefused(answer.instance, answer.reason, self.now))
            case said.ReportLeaving():
                self.leaving.add(node)
                self.feed(on.NodeLeaving(node, self.now))
            case _:
                pass

    def check_limit(self, function: FunctionName) -> None:
        """What exists and what has been granted: no more than the limit, whatever anybody believes."""
        exist = {i.id for a in self.agents.values() for i in a.instances.values() if of(i.version, function)}
        for orders in self.orders.values():
            exist |= {o.instance for o in orders if isinstance(o, do.Grant) and of(o.version, function)}
        assert len(exist) <= LIMITS[function], f"{len(exist)} instances of {function}"

    @rule(slot=slots)
    def deliver(self, slot: int) -> None:
        node = self.slots[slot]
        epoch = Epoch(self.epoch)
        orders, self.orders[node] = self.orders[node], []
        for order in orders:
            instance, number = order.instance, order.number
            match order:
                case do.Grant():
                    memory_mb, holder = order.memory_mb, order.frontend
                    grant = told.GrantArrived(
                        epoch,
                        instance,
                        order.version,
                        memory_mb,
                        number,
                        holder,
                        self.now,
                        order.provisioned,
                    )
                    self.obey(node, grant)
                case do.Evict():
                    self.obey(node, told.EvictArrived(epoch, instance, number, order.reason))
                case do.Fence():
                    self.obey(node, told.FenceArrived(epoch, instance, number))

    def some_instance(self, data: st.DataObject) -> tuple[NodeId, InstanceId] | None:
        there = [(node, i) for node in self.slots for i in sorted(self.agents[node].instances)]
        return data.draw(st.sampled_from(there)) if there else None

    @rule(data=st.data())
    def initialised(self, data: st.DataObject) -> None:
        found = self.some_instance(data)
        if found is not None:
            self.obey(found[0], told.InstanceReady(found[1], 1.0, 2.0))

    @rule()
    def all_goes_well(self) -> None:
        """Every order arrives, every start succeeds, every event ends."""
        for slot, node in enumerate(self.slots):
            self.deliver(slot)
            for instance in list(self.agents[node].instances.values()):
                self.obey(node, told.InstanceReady(instance.id, 1.0, 2.0))
                if instance.request is not None:
                    self.obey(node, told.Answered(instance.id, instance.request))
                if instance.state is AgentState.STOPPING:
                    self.obey(node, told.InstanceExited(instance.id, "killed", b""))

    @rule(data=st.data(), error=st.sampled_from([b"", b"{}"]))
    def exits(self, data: st.DataObject, error: bytes) -> None:
        found = self.some_instance(data)
        if found is not None:
            self.obey(found[0], told.InstanceExited(found[1], "killed", error))

    @rule(data=st.data())
    def answers(self, data: st.DataObject) -> None:
        found = self.some_instance(data)
        if found is not None:
            request = self.agents[found[0]].instances[found[1]].request
            if request is not None:
                self.obey(found[0], told.Answered(found[1], request))

    def disconnect(self, slot: int) -> None:
        """The stream breaks, and with it goes what had not arrived."""
        node = self.slots[slot]
        if node in self.connected:
            self.connected.discard(node)
            self.orders[node].clear()
            self.feed(on.NodeDisconnected(node, self.now))

    @rule(
        slot=slots,
        what=st.sampled_from(["disconnect", "report", "report", "leave", "die", "die, stream first"]),
    )
    def a_worker_comes_or_goes(self, slot: int, what: str) -> None:
        """In one rule, so that it takes one step of many."""
        match what:
            case "disconnect":
                self.disconnect(slot)
            case "report":
                self.report(slot)
            case "leave":
                self.obey(self.slots[slot], told.StopAsked())
            case _:
                self.dies(slot, stream_first="first" in what)
                self.report(slot)

    def report(self, slot: int) -> None:
        node = self.slots[slot]
        if node in self.connected:
            self.disconnect(slot)
        self.connected.add(node)
        self.obey(node, told.LeaderFollowed(Epoch(self.epoch)))
        reports = [
            on.Reported(i.id, i.version, i.memory_mb, i.state.value, i.number, i.frontend, i.provisioned)
            for i in self.agents[node].instances.values()
        ]
        leaving = self.agents[node].leaving
        self.leaving |= {node} if leaving else set()
        self.feed(on.NodeReported(node, 768, reports, self.now, leaving))

    def dies(self, slot: int, stream_first: bool) -> None:
        """A worker's sandboxes are gone before its key is; another takes its place."""
        node = self.slots[slot]
        self.agents[node].instances.clear()
        if stream_first:
            self.disconnect(slot)
        for frontend in FRONTENDS:
            self.link_down(frontend, slot)
        self.feed(on.NodeExpired(node, self.now))
        self.disconnect(slot)
        self.feed(on.NodeExpired(node, self.now))
        assert node not in self.core.books.nodes
        self.slots[slot] = self.join()
        self.register(self.slots[slot])
        for frontend in FRONTENDS:
            self.link_up(frontend, slot)

    # Frontends

    @rule(
        frontend=frontends,
        function=functions,
        wanted=st.integers(0, 3),
        waited_s=st.sampled_from([0, 1]),
        keys=st.lists(st.sampled_from([7, 8]), max_size=2),
        goes_well=st.booleans(),
    )
    def demands(
        self,
        frontend: FrontendId,
        function: FunctionName,
        wanted: int,
        waited_s: int,
        keys: list[int],
        goes_well: bool,
    ) -> None:
        wish = on.Wish(self.version(function), wanted, float(waited_s), tuple(keys))
        self.feed(on.Demanded(frontend, wish, self.now))
        if goes_well:
            self.all_goes_well()

    @rule(frontend=frontends, data=st.data())
    def uses(self, frontend: FrontendId, data: st.DataObject) -> None:
        """A frontend sends an event under any lease it believes in, attached or not."""
        if not self.held[frontend]:
            return
        instance = data.draw(st.sampled_from(sorted(self.held[frontend])))
        number = self.held[frontend][instance]
        for node in self.slots:
            if instance in self.agents[node].instances and node in self.links[frontend]:
                self.calls += 1
                request = RequestId(f"r{self.calls}")
                self.obey(node, told.EventArrived(frontend, request, instance, number, 9.0, self.now))

    def runs_for(self, frontend: FrontendId, instance: InstanceId) -> bool:
        found = [a.instances[instance] for a in self.agents.values() if instance in a.instances]
        return any(i.asked_by == frontend for i in found)

    @rule(frontend=frontends, data=st.data(), recalled=st.booleans())
    def gives_back(self, frontend: FrontendId, data: st.DataObject, recalled: bool) -> None:
        if not self.held[frontend] or frontend not in self.attached:
            return
        instance = data.draw(st.sampled_from(sorted(self.held[frontend])))
        lease = instance, self.held[frontend].pop(instance)
        sure = not self.runs_for(frontend, instance)
        known = self.core.books.instances.get(instance)
        if recalled and sure and known is not None:
            self.feed(on.Recalled(frontend, known.version, [lease], self.now))
        else:
            self.feed(on.Released(frontend, [lease], sure, self.now))
        self.feed(on.Released(frontend, [lease], sure, self.now))

    @rule(frontend=frontends, function=functions)
    def calls_once(self, frontend: FrontendId, function: FunctionName) -> None:
        """All goes well, and what is not used is given back; then the next call is due."""
        if frontend not in self.attached:
            return
        self.demands(frontend, function, 1, 0, [7], True)
        served = [(instance, 7) for instance in self.held[frontend]]
        self.feed(on.KeysServed(frontend, served, self.now))
        self.demands(frontend, function, 0, 0, [], False)
        for instance, number in list(self.held[frontend].items()):
            if not self.runs_for(frontend, instance):
                del self.held[frontend][instance]
                self.feed(on.Released(frontend, [(instance, number)], True, self.now))
        self.time_passes(0.05)
        self.all_goes_well()
        self.time_passes(0.6)

    @rule(frontend=frontends, function=functions)
    def has_nothing_idle(self, frontend: FrontendId, function: FunctionName) -> None:
        if frontend in self.attached:
            self.feed(on.Recalled(frontend, self.version(function), [], self.now))

    @rule(frontend=frontends, slot=slots, what=st.sampled_from(["detach", "attach", "unheard", "up", "down"]))
    def a_frontend_comes_or_goes(self, frontend: FrontendId, slot: int, what: str) -> None:
        match what:
            case "detach":
                self.detach(frontend)
            case "up":
                self.link_up(frontend, slot)
            case "down":
                self.link_down(frontend, slot)
            case _:
                self.attach(frontend, unheard=what == "unheard")

    def detach(self, frontend: FrontendId) -> None:
        self.attached.discard(frontend)
        self.forget_unmet(frontend)
        self.feed(on.FrontendDetached(frontend, self.now))

    def attach(self, frontend: FrontendId, unheard: bool) -> None:
        """With `unheard` the leases it was given last were lost with the old stream."""
        self.attached.add(frontend)
        if unheard:
            held = self.held[frontend]
            self.held[frontend] = {i: n for i, n in held.items() if self.runs_for(frontend, i)}
        self.forget_unmet(frontend)
        claims = sorted(self.held[frontend].items())
        self.feed(on.FrontendAttached(frontend, claims, [], sorted(self.links[frontend]), self.now))

    def forget_unmet(self, frontend: FrontendId) -> None:
        self.told_unmet = {key: why for key, why in self.told_unmet.items() if key[0] != frontend}

    def link_up(self, frontend: FrontendId, slot: int) -> None:
        self.links[frontend].add(self.slots[slot])
        if frontend in self.attached:
            self.feed(on.LinkChanged(frontend, self.slots[slot], True, self.now))

    def link_down(self, frontend: FrontendId, slot: int) -> None:
        node = self.slots[slot]
        self.links[frontend].discard(node)
        there = self.core.books.nodes.get(node)
        for instance in there.instances if there else []:
            self.held[frontend].pop(instance, None)
        if frontend in self.attached:
            self.feed(on.LinkChanged(frontend, node, False, self.now))

    # The world

    @rule(reporting=st.sets(slots), attaching=st.sets(frontends))
    def another_leads(self, reporting: set[int], attaching: set[FrontendId]) -> None:
        self.fail_over()
        for slot in sorted(reporting):
            self.report(slot)
        for frontend in sorted(attaching):
            self.attach(frontend, unheard=False)

    def fail_over(self) -> None:
        """Another placement leads: it knows what etcd holds, and nobody is connected to it yet."""
        self.epoch += 1
        self.core = Scheduler(Epoch(self.epoch), keep=self.keep, keep_alive_s=5.0)
        if isinstance(self.core.books.keep, Histogram):
            self.core.books.keep.habits = {function: Habit(**EXPECTED) for function in LIMITS}
        self.connected.clear()
        self.attached.clear()
        self.told_unmet.clear()
        for node in self.slots:
            self.orders[node].clear()
            self.register(node)
        for function in LIMITS:
            self.define(function)

    @rule(function=functions)
    def update(self, function: FunctionName) -> None:
        self.revisions[function] += 1
        self.define(function)

    def define(self, function: FunctionName) -> None:
        version, limit = self.version(function), LIMITS[function]
        apart = function == APART
        wishes = (frozenset[str](), frozenset[str]()) if apart else (REQUIRE, PREFER)
        what = function, version, 256, limit, RUNTIMES[function], self.now, version
        self.feed(on.FunctionDefined(*what, *wishes, apart))

    @rule(seconds=st.sampled_from([0.05, 0.6, 3.0, 130.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.feed(on.Tick(self.now))

    @rule(function=functions, count=st.integers(0, 3))
    def provision(self, function: FunctionName, count: int) -> None:
        self.feed(on.ProvisionedSet(self.version(function), count, self.now))

    @rule(data=st.data())
    def stray_words(self, data: st.DataObject) -> None:
        """Words about instances that are no more change nothing."""
        unknown = InstanceId("9-9")
        strays: list[on.Event] = [
            on.InstanceReady(unknown, 1.0, 2.0, self.now),
            on.InstanceGone(unknown, "killed", b"", self.now),
            on.InstanceFreed(unknown, LeaseNumber(1), False, self.now),
            on.GrantRefused(unknown, "no memory", self.now),
        ]
        stray = data.draw(st.sampled_from(strays))
        assert self.core.handle(stray) == []

    @precondition(lambda self: self.attached)
    @invariant()
    def every_lease_is_known_to_its_holder(self) -> None:
        """Else nobody would ever give it back."""
        for instance in self.core.books.instances.values():
            holder = instance.frontend
            if instance.state is State.LEASED and holder is not None and holder in self.attached:
                assert self.held[holder].get(instance.id) == instance.number, f"{instance.id} has leaked"

    @invariant()
    def nobody_believes_in_a_lease_that_has_ended(self) -> None:
        books = self.core.books
        for frontend in self.attached:
            for lease in self.held[frontend].items():
                instance = books.instances.get(lease[0])
                held = instance is not None and (instance.frontend, instance.number) == (frontend, lease[1])
                assert held or lease in books.frontends[frontend].claims.items(), f"{lease} has ended"

    @invariant()
    def nobody_waits_beside_a_warm_instance(self) -> None:
        frontends_of = self.core.books.frontends
        for version in self.core.books.versions.values():
            for frontend, wanted in version.wanted.items():
                if wanted.missing and frontends_of[frontend].attached:
                    reach = [i for i in version.idle.values() if i.node in self.links[frontend]]
                    assert not reach, f"{frontend} waits beside {reach}"

    @invariant()
    def what_exists_is_counted(self) -> None:
        """Too high for a moment, never too low: for every function, whatever has been reported."""
        books = self.core.books
        exist = Counter(function_of(i.version) for a in self.agents.values() for i in a.instances.values())
        for function, count in exist.items():
            assert count <= len(books.function(function).instances) + books.unreported


TestFleet = Fleet.TestCase
TestFleet.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
