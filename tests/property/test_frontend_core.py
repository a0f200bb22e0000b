"""Whatever comes in whatever order, every call has one outcome: a machine of calls, leases and accidents."""

from typing import Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lambent_frontend.core import commands as do
from lambent_frontend.core import events as on
from lambent_frontend.core.call import Call, Priority
from lambent_frontend.core.dispatcher import GRACE_S, Dispatcher
from lambent_frontend.core.line import Hold
from lambent_proto.ids import InstanceId, LeaseNumber, NodeId, RequestId, VersionKey

NODES: Final = [NodeId("n1@1"), NodeId("n2@1")]
INSTANCES: Final = [InstanceId(f"i{n}") for n in range(4)]
MAX_BYTES: Final = 12
nodes = st.sampled_from(NODES)
instances = st.sampled_from(INSTANCES)
Key = tuple[InstanceId, LeaseNumber]


def node_of(instance: InstanceId) -> NodeId:
    return NODES[INSTANCES.index(instance) % 2]


class Frontend(RuleBasedStateMachine):
    """The real core, and what its callers, its placement and its workers know for certain."""

    @initialize()
    def begin(self) -> None:
        self.core = Dispatcher(max_waiting=4, max_waiting_bytes=MAX_BYTES, linger_s=0.1)
        self.now = 0.0
        self.revision = 1
        self.serial = 0
        self.accepted = 0
        self.open: dict[RequestId, float] = {}
        """Calls that are owed an outcome, with their deadline."""
        self.under_way: dict[InstanceId, RequestId] = {}
        self.may_run: set[RequestId] = set()
        """Never sent, or sent and proven not to have run."""
        self.served: dict[int, InstanceId] = {}
        """Who served each sticky key last."""
        self.untold: dict[int, InstanceId] = {}
        self.leaving: set[NodeId] = set()
        """Workers that said goodbye, and have not been unlinked from."""
        self.usable: dict[Key, VersionKey] = {}
        """Leases that were given and have not ended or been given back."""
        for node in NODES:
            self.feed(on.LinkUp(node))
        self.feed(on.PlacementAttached(self.now))

    @property
    def version(self) -> VersionKey:
        return VersionKey(f"f:$LATEST:{self.revision}")

    def feed(self, event: on.Event) -> list[do.Command]:
        commands = self.core.handle(event)
        for command in commands:
            self.carry_out(command)
        return commands

    def carry_out(self, command: do.Command) -> None:
        match command:
            case do.Dispatch():
                assert command.request in self.open, "sent for nobody"
                assert command.request in self.may_run, "sent a second time without proof"
                assert command.node in self.core.books.links, "sent over a broken link"
                assert command.instance not in self.under_way, "two events at a time"
                assert (command.instance, command.number) in self.usable, "sent under a lease that ended"
                self.may_run.discard(command.request)
                self.check_turn(self.core.books.calls[command.request])
                self.check_key(self.core.books.calls[command.request], command.instance)
                self.under_way[command.instance] = command.request
            case do.Finish():
                assert command.request in self.open, "an outcome that nobody is owed"
                del self.open[command.request]
            case do.Release() | do.AnswerRecall():
                for lease in command.leases:
                    assert self.usable.pop(lease, None), "gave back what it does not hold"
                    if isinstance(command, do.AnswerRecall) or command.sure:
                        assert lease[0] not in self.under_way, "gave back a busy one as idle"
            case do.Attach():
                assert all(lease in self.usable for lease in command.leases)
                assert set(command.links) == self.core.books.links
            case do.Demand() | do.ReportLink():
                assert self.core.books.attached, "told to nobody"
            case do.TellServed():
                assert self.core.books.attached, "told to nobody"
                assert {key: instance for instance, key in command.calls} == self.untold
                self.untold.clear()
            case do.Unlink():
                assert command.node in self.leaving, "unlinked from one that stays"
                assert not any(node_of(i) == command.node for i in self.under_way), "an answer is still due"
                self.leaving.discard(command.node)

    def check_key(self, sent: Call, to: InstanceId) -> None:
        """Whoever served its key last does so again, if it was idle."""
        if not sent.sticky:
            return
        last = self.served.get(sent.sticky, to)
        idle = [lease.instance for lease in self.core.books.lines[sent.version].idle]
        assert last not in idle, "another one served the key last, and was idle"
        self.served[sent.sticky] = self.untold[sent.sticky] = to

    def check_turn(self, sent: Call) -> None:
        """Of what is left behind nothing had a better right: the rest of the turns has a test of its own."""
        for call in self.core.books.lines[sent.version].waiting.values():
            alike = (call.had_turn, call.priority, call.tenant) == (sent.had_turn, sent.priority, sent.tenant)
            assert not alike or sent.arrived_at <= call.arrived_at, "not oldest first"
            assert sent.had_turn or not call.had_turn, "one that never ran waits behind a new one"

    # Callers

    @rule(
        patience=st.sampled_from([0.2, 1.0, 5.0]),
        leased=st.none() | instances,
        burst=st.sampled_from([1, 1, 3]),
        rights=st.tuples(
            st.sampled_from(list(Priority)),
            st.sampled_from(["a", "b"]),
            st.integers(0, 5),
            st.sampled_from([0, 0, 7, 8]),
        ),
    )
    def arrive(
        self, patience: float, leased: InstanceId | None, burst: int, rights: tuple[Priority, str, int, int]
    ) -> None:
        """Calls come, and often an instance for the first of them."""
        for _ in range(burst):
            self.arrives(patience, rights)
        if leased is not None:
            self.given(leased, starting=False, old_version=False)

    def arrives(self, patience: float, rights: tuple[Priority, str, int, int]) -> None:
        self.accepted += 1
        self.now += 0.001
        request = RequestId(f"r{self.accepted}")
        self.open[request] = self.now + patience
        self.may_run.add(request)
        self.feed(on.InvocationArrived(request, self.version, self.now + patience, self.now, *rights))
        waiting = [c for c in self.core.books.calls.values() if c.running_on is None and not c.had_turn]
        assert sum(call.size for call in waiting) <= MAX_BYTES, "more bytes wait than may"

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def abandoned(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(sorted(self.open)))
        del self.open[request]
        self.feed(on.InvocationAbandoned(request, self.now))
        assert self.feed(on.InvocationAbandoned(request, self.now)) == []

    # Workers

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def answered(self, data: st.DataObject) -> None:
        instance = data.draw(st.sampled_from(sorted(self.under_way)))
        request = self.under_way.pop(instance)
        self.feed(on.EventAnswered(instance, request, self.now))
        assert request not in self.open, "answered, and its caller still waits"
        assert self.feed(on.EventAnswered(instance, request, self.now)) == []

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def refused(self, data: st.DataObject) -> None:
        instance = data.draw(st.sampled_from(sorted(self.under_way)))
        request = self.under_way.pop(instance)
        self.may_run.add(request)
        self.feed(on.EventRefused(instance, request, "stale_lease", self.now))

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def lost(self, data: st.DataObject) -> None:
        """Its caller is told so at once; its instance is of no use any more."""
        instance = data.draw(st.sampled_from(sorted(self.under_way)))
        request = self.under_way.pop(instance)
        self.feed(on.EventLost(instance, request, "killed", self.now))
        assert request not in self.open
        assert instance not in self.core.books.leases

    @rule(instance=instances, request=st.integers(1, 20))
    def stray_answer(self, instance: InstanceId, request: int) -> None:
        name = RequestId(f"r{request}")
        if self.under_way.get(instance) != name:
            assert self.feed(on.EventAnswered(instance, name, self.now)) == []
            assert self.feed(on.EventRefused(instance, name, "busy", self.now)) == []
            assert self.feed(on.EventLost(instance, name, "killed", self.now)) == []

    # Placement

    @rule(instance=instances, starting=st.booleans(), old_version=st.sampled_from([False, False, True]))
    def given(self, instance: InstanceId, starting: bool, old_version: bool) -> None:
        if old_version and self.revision > 1:
            version = VersionKey(f"f:$LATEST:{self.revision - 1}")
        else:
            version = self.version
        self.serial += 1
        lease = instance, LeaseNumber(self.serial)
        node = node_of(instance)
        if node in self.core.books.links:
            for older in [key for key in self.usable if key[0] == instance]:
                if instance not in self.under_way:
                    del self.usable[older]
            self.usable[lease] = version
        self.feed(on.LeaseGiven(*lease, node, version, starting, "no_instance", self.now))

    @precondition(lambda self: self.core.books.leases)
    @rule(data=st.data(), behind=st.integers(0, 1))
    def ready(self, data: st.DataObject, behind: int) -> None:
        lease = self.core.books.leases[data.draw(st.sampled_from(sorted(self.core.books.leases)))]
        number = LeaseNumber(lease.number - behind)
        self.feed(on.LeaseReady(lease.instance, number, 1.0, 2.0, self.now))

    @precondition(lambda self: self.core.books.leases)
    @rule(data=st.data(), node_lost=st.booleans(), error=st.sampled_from([b"", b"{}"]))
    def voided(self, data: st.DataObject, node_lost: bool, error: bytes) -> None:
        lease = self.core.books.leases[data.draw(st.sampled_from(sorted(self.core.books.leases)))]
        self.usable.pop((lease.instance, lease.number), None)
        if node_lost or lease.instance not in self.under_way:
            self.under_way.pop(lease.instance, None)
        self.feed(on.LeaseVoided(lease.instance, lease.number, "gone", node_lost, error, self.now))

    @rule(wanted=st.integers(0, 3))
    def recalled(self, wanted: int) -> None:
        said = self.feed(on.RecallAsked(self.version, wanted, self.now))
        assert not wanted or any(isinstance(c, do.AnswerRecall) for c in said), "a recall without an answer"

    @rule(what=st.sampled_from(["unmet", "lost", "attached", "lost and back", "removed", "replaced"]))
    def placement_and_definitions(self, what: str) -> None:
        """In one rule, so that it takes one step of many."""
        match what:
            case "unmet":
                self.feed(on.UnmetTold(self.version, "limit_reached", "all exist", self.now))
            case "removed" | "replaced":
                self.new_version(what == "removed")
            case _:
                if "lost" in what:
                    self.feed(on.PlacementLost())
                if what != "lost":
                    self.placement_attached()

    def placement_attached(self) -> None:
        said = self.feed(on.PlacementAttached(self.now))
        claims = {lease for c in said if isinstance(c, do.Attach) for lease in c.leases}
        held = {(le.instance, le.number) for le in self.core.books.leases.values() if not le.void}
        assert claims == held, "the attachment does not say all"

    # The world

    @rule(node=nodes, what=st.sampled_from(["up", "down", "down and up", "leaves"]))
    def link(self, node: NodeId, what: str) -> None:
        if what == "leaves":
            self.leaves(node)
        if "down" in what:
            self.link_down(node)
        if "up" in what and node not in self.leaving:
            self.feed(on.LinkUp(node))

    def leaves(self, node: NodeId) -> None:
        if node not in self.core.books.links:
            return
        self.leaving.add(node)
        self.feed(on.WorkerLeaves(node, self.now))
        assert self.feed(on.WorkerLeaves(node, self.now)) == []
        assert all(lease.void for lease in self.core.books.leases.values() if lease.node == node)
        self.usable = {key: v for key, v in self.usable.items() if node_of(key[0]) != node}

    def link_down(self, node: NodeId) -> None:
        self.leaving.discard(node)
        for instance in [i for i in INSTANCES if node_of(i) == node]:
            self.under_way.pop(instance, None)
        self.feed(on.LinkDown(node, self.now))
        assert not any(lease.node == node for lease in self.core.books.leases.values())
        self.usable = {key: v for key, v in self.usable.items() if node_of(key[0]) != node}

    @rule(seconds=st.sampled_from([0.01, 0.1, 1.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.feed(on.Tick(self.now))
        late = [r for r, deadline in self.open.items() if self.now >= deadline + GRACE_S]
        assert not late, f"no outcome after the deadline: {late}"

    def new_version(self, removed: bool) -> None:
        old = self.version
        self.revision += 1
        if removed:
            self.feed(on.VersionRemoved(old, self.now))
        else:
            self.feed(on.VersionReplaced(old, self.version, None, self.now))

    @invariant()
    def counts_have_not_drifted(self) -> None:
        for line in self.core.books.lines.values():
            leases = [
                le for le in self.core.books.leases.values() if le.version == line.version and not le.void
            ]
            assert line.held == len(leases)
            assert line.busy == sum(le.hold is Hold.BUSY for le in leases)
            idle = {le.instance for le in leases if le.hold is Hold.IDLE}
            assert {le.instance for le in line.idle} == idle
            assert len(line.idle) == len(idle)

    @invariant()
    def what_runs_is_what_was_sent(self) -> None:
        running = {le.instance: le.request for le in self.core.books.leases.values() if le.hold is Hold.BUSY}
        assert running == self.under_way

    @invariant()
    def nobody_waits_for_a_frontend_to_let_go(self) -> None:
        assert all(any(node_of(i) == node for i in self.under_way) for node in self.leaving)

    @invariant()
    def nobody_is_forgotten(self) -> None:
        assert set(self.core.books.calls) == set(self.open)
        running = set(self.under_way.values())
        for call in self.core.books.calls.values():
            waiting = (
                call.request in self.core.books.lines[call.version].waiting
                if call.running_on is None
                else False
            )
            assert waiting != (call.request in running), "a call that neither waits nor runs"

    @invariant()
    def no_call_waits_beside_an_idle_instance(self) -> None:
        for line in self.core.books.lines.values():
            assert not (line.waiting and line.idle)
            assert not (line.removed and (line.waiting or line.idle)), "of use to nobody"

    @invariant()
    def oldest_first(self) -> None:
        for line in self.core.books.lines.values():
            ages = [call.arrived_at for call in line.waiting.values()]
            assert ages == sorted(ages)

    @invariant()
    def the_turns_are_those_of_all_that_wait(self) -> None:
        for line in self.core.books.lines.values():
            queues = [queue for rank in line.turns.ranks for queue in rank.queues.values()]
            assert all(queue.calls for queue in queues), "a tenant without calls has a turn"
            each = [*line.turns.again, *(request for queue in queues for request in queue.calls)]
            assert sorted(each) == sorted(line.waiting)
            assert all(queue.size == sum(c.size for c in queue.calls.values()) for queue in queues)
        waiting = [c for line in self.core.books.lines.values() for c in line.waiting.values()]
        assert self.core.books.waiting_bytes == sum(call.size for call in waiting)

    @invariant()
    def placement_knows_what_is_missing(self) -> None:
        for line in self.core.books.lines.values():
            if self.core.books.attached and line.wanted > line.held:
                assert line.told >= line.wanted


TestFrontend = Frontend.TestCase
TestFrontend.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
