"""Bugs made by hand, one small change to a core each, and the check that must see it.

Safety is seen by the properties and the simulation, preference by the tables alone: so each numbered
preference has a bug here that only a row can see.
"""

from typing import Final, NamedTuple

FRONTEND: Final = "frontend"
PLACEMENT: Final = "placement"
WORKER: Final = "worker"


class Bug(NamedTuple):
    room: str
    name: str
    text: str
    """Exact, and found once in the cores of the room."""
    instead: str
    check: str
    """`table`, `property` or `simulation`."""


def _of(room: str, *bugs: tuple[str, str, str, str]) -> list[Bug]:
    return [Bug(room, name, text, instead, check) for name, text, instead, check in bugs]


BUGS: Final = [
    *_of(
        FRONTEND,
        ("a function that is switched off serves", "if line.limit == 0:", "if line.limit == -1:", "table"),
        (
            "the least recently used lease is taken",
            "lease = line.idle.pop()",
            "lease = line.idle.pop(0)",
            "table",
        ),
        (
            "the line is as long as it likes",
            "and len(line.waiting) >= self.max_waiting",
            "and len(line.waiting) > self.max_waiting",
            "table",
        ),
        (
            "a lease that served nobody goes on to the next",
            "if i.served or not line.waiting",
            "if i",
            "table",
        ),
        (
            "the newest call is served first",
            "request, call = line.waiting.popitem(last=False)",
            "request, call = line.waiting.popitem(last=True)",
            "property",
        ),
        (
            "a refused call waits behind all",
            "line.waiting.move_to_end(ahead.request, last=False)",
            "line.waiting.move_to_end(ahead.request)",
            "property",
        ),
        (
            "the demand is lowered after the release",
            "return [*self._lower(line, at), Release(given, sure=True)]",
            "return [Release(given, sure=True), *self._lower(line, at)]",
            "table",
        ),
        (
            "a void lease takes another event",
            "        lease.void = True\n",
            "        lease.void = False\n",
            "property",
        ),
        (
            "a running call is cut off at its deadline",
            "if at < call.deadline + GRACE_S:",
            "if at < call.deadline:",
            "table",
        ),
        (
            "a call that runs never gives up",
            "if at < call.deadline + GRACE_S:",
            "if at < call.deadline + 60:",
            "table",
        ),
        (
            "a call lost with its link waits on",
            'commands += self._lose(lease.request, "the connection to its node broke")',
            "pass",
            "property",
        ),
        (
            "a lease given twice is two",
            "if old is not None and old.number >= event.number:",
            "if old is not None and old.number > event.number:",
            "table",
        ),
        (
            "a newer lease on a busy instance is used",
            "if old.hold is Hold.BUSY:",
            "if old.void:",
            "table",
        ),
        (
            "a recall is answered and forgotten",
            "line.owed = event.wanted\n",
            "line.owed = min(event.wanted, len(line.idle))\n",
            "table",
        ),
        (
            "the demand goes up and down with every call",
            "level = max(line.peak, line.wanted) if line.waiting",
            "level = line.wanted if line.waiting",
            "table",
        ),
        (
            "a broken link keeps its leases",
            "if given and self.attached:",
            "if given and not self.attached:",
            "table",
        ),
        (
            "a worker that owes an answer is unlinked from",
            "done = self.leaving - {lease.node for lease in self.leases.values()}",
            "done = set(self.leaving)",
            "table",
        ),
        ("nothing is released", "if not late:", "if late:", "simulation"),
        (
            "the attachment forgets the demands",
            "return [Attach(leases, demands,",
            "return [Attach(leases, [],",
            "table",
        ),
        (
            "a replaced version's running calls wait for the old one",
            "if call.version == event.old:",
            "if call.running_on is None and call.version == event.old:",
            "table",
        ),
        (
            "an abandoned call runs",
            "line.waiting.pop(event.request, None)",
            "pass",
            "property",
        ),
        (
            "a failed start costs nobody",
            "if event.error:",
            "if event.error and lease.void:",
            "table",
        ),
    ),
    *_of(
        PLACEMENT,
        ("a node that drains is given new ones", "and not self.is_emptied", "", "table"),
        (
            "one whose worker will end stays as it is",
            "return self.draining or self.leaving",
            "return self.draining",
            "table",
        ),
        ("a new leader does not hear who will end", ", leaving=event.leaving", "", "table"),
        (
            "an idle one does not wait for its stand-in",
            "self.stand_ins[grant.instance] = instance.id",
            "return [grant, *self._let_go(instance, at)]",
            "table",
        ),
        (
            "one in use is evicted at once",
            "instance.relieved = True\n        if instance.state is State.LEASED:",
            "instance.relieved = True\n        if instance.state is None:",
            "table",
        ),
        (
            "a stand-in beyond the limit",
            "self.books.unreported < self.books.limit(function)",
            "self.books.unreported <= self.books.limit(function)",
            "table",
        ),
        ("the limit is one higher", "else function.reserved\n", "else function.reserved + 1\n", "property"),
        (
            "the pool is one larger",
            "pool.used + self.books.unreported < pool.size",
            "pool.used + self.books.unreported <= pool.size",
            "table",
        ),
        (
            "unreported workers run nothing of the pool",
            "pool.used + self.books.unreported < pool.size",
            "pool.used < pool.size",
            "table",
        ),
        (
            "a fenced instance runs nothing",
            "instance.state is not State.IDLE)",
            "instance.state is State.LEASED)",
            "table",
        ),
        (
            "a reservation stays in the pool",
            "self.pool.used += by * function.beyond",
            "pass",
            "table",
        ),
        (
            "the pool goes to whoever asks first",
            "if self.books.pool.refused and function.reserved is None:",
            "if False:",
            "table",
        ),
        (
            "nobody gives of the pool",
            "if self.books.pool.refused:\n            commands",
            "if False:\n            commands",
            "table",
        ),
        (
            "workers that have not reported do not count",
            "if count + self.books.unreported >= limit:",
            "if count >= limit:",
            "table",
        ),
        (
            "the least recently used instance is given",
            "reversed(version.kept.values()), reversed(version.idle.values())",
            "reversed(version.kept.values()), list(version.idle.values())",
            "table",
        ),
        (
            "an instance out of reach is given",
            "        if instance.node in frontend.links:\n            return instance",
            "        return instance",
            "table",
        ),
        ("the fullest node is taken", "points = 1 - free if", "points = free if", "table"),
        (
            "a required label is not asked for",
            "runs(has, runtime) and labels <= marked]",
            "runs(has, runtime)]",
            "table",
        ),
        (
            "another version than the newest is of no use",
            "before = version.function.current.get(qualifier_of(version.key))",
            "before = next(iter(version.function.current.values()), None)",
            "table",
        ),
        (
            "a provisioned one is given last",
            "reversed(version.kept.values()), reversed(version.idle.values())",
            "reversed(version.idle.values()), reversed(version.kept.values())",
            "table",
        ),
        (
            "a provisioned one grows old",
            "            yield version.kept\n            return",
            "            yield version.kept",
            "table",
        ),
        (
            "what is provisioned is not set aside",
            "self.pool.reserved += by * function.provisioned",
            "pass",
            "table",
        ),
        (
            "the call of a provisioned one takes from the pool",
            "return self.running - self.provisioned if self.running > self.provisioned else 0",
            "return self.running",
            "table",
        ),
        (
            "a failed provisioned start is tried again at once",
            "version.provision_after = at + min",
            "_ = at + min",
            "table",
        ),
        (
            "more are provisioned than the function may have",
            "if len(function.instances) + self.books.unreported >= self.books.limit(function):",
            "if False:",
            "table",
        ),
        (
            "a new leader starts what is provisioned anew",
            "instance.provisioned = report.provisioned and",
            "_ =",
            "table",
        ),
        (
            "a stand-in is not a provisioned one",
            "provisioned=instance.provisioned)",
            "provisioned=False)",
            "table",
        ),
        ("a preferred label counts little", "PREFERRED: Final = 8.0", "PREFERRED: Final = 3.0", "table"),
        (
            "apart is not kept apart",
            "points -= APART * here / (here + 1)",
            "points -= APART * (here > 0)",
            "table",
        ),
        ("its package does not matter", "PACKAGE: Final = 2.0", "PACKAGE: Final = 0.5", "table"),
        ("what holds the function does not matter", "HOLDS: Final = 1.0", "HOLDS: Final = 0.0", "table"),
        ("a favoured node is overloaded", "FILLED: Final = 1.25", "FILLED: Final = 99.0", "table"),
        (
            "the most recently used one is evicted for memory",
            "for instance in books.keep.on_node(node):",
            "for instance in reversed(node.idle.values()):",
            "table",
        ),
        (
            "the same version gives way first",
            "if instance.version != version.key:",
            "if instance.version == version.key:",
            "table",
        ),
        (
            "who asked last is served first",
            "needy.sort(key=lambda f: (version.wanted[f.id].oldest_at, f.id))",
            "needy.sort(key=lambda f: (-version.wanted[f.id].oldest_at, f.id))",
            "table",
        ),
        (
            "nothing is recalled before a start",
            "if not wanted.held or wanted.missing or not self.books.frontends[frontend_id].attached:",
            "if wanted.held or wanted.missing or not self.books.frontends[frontend_id].attached:",
            "table",
        ),
        (
            "a frontend that has work keeps everything",
            "wanted.oldest_at < first.oldest_at + OLDER_S:",
            "wanted.oldest_at < first.oldest_at + 9999:",
            "table",
        ),
        (
            "the unsure is taken for sure",
            "if sure else",
            "if sure or not sure else",
            "table",
        ),
        (
            "a fenced busy instance is given",
            "        if event.busy:\n            self.books.change",
            "        if event.busy and not event.instance:\n            self.books.change",
            "table",
        ),
        (
            "the answer to an old fence counts",
            "or instance.number != event.number:\n            return []\n        if event.busy",
            "or not event.number:\n            return []\n        if event.busy",
            "table",
        ),
        (
            "a lost grant is kept for ever",
            "[i for i in node.instances.values() if i.id not in reported]",
            "[i for i in node.instances.values() if i.id in ()]",
            "simulation",
        ),
        (
            "an evict is not said again",
            "return [*commands, Evict(instance.node, instance.id, instance.number, instance.stop_reason)]",
            "return commands",
            "table",
        ),
        (
            "a claim that cannot be is kept",
            'commands.append(VoidLease(frontend.id, instance_id, number, "gone", node_lost=False))',
            "continue",
            "table",
        ),
        (
            "claims are void before all have reported",
            "        if self.books.unreported:\n            return []\n",
            "",
            "table",
        ),
        (
            "what a frontend does not claim it keeps",
            "if claimed.get(instance.id, NO_LEASE) < instance.number:",
            "if claimed.get(instance.id, instance.number) < instance.number:",
            "table",
        ),
        (
            "a disconnected node gets grants",
            "return self.registered and self.connected",
            "return self.registered",
            "table",
        ),
        (
            "a node that refused is asked again at once",
            " and self.at >= node.refused_until",
            "",
            "table",
        ),
        (
            "room is made on a node that has just refused",
            "frontend.links) and at >= node.refused_until",
            "frontend.links)",
            "table",
        ),
        (
            "a holder that takes no part is not told",
            "return [VoidLease(instance.frontend, instance.id, instance.number, reason, node_lost, error)]",
            "return []",
            "property",
        ),
        ("idle ones are kept for ever", "< self.keep_alive_s:", "< 9 * self.keep_alive_s:", "table"),
        (
            "orphans are kept for ever",
            "if not frontend.attached and at >= frontend.forget_at:",
            "if not frontend.attached and at >= frontend.forget_at + 9:",
            "table",
        ),
        (
            "a failed start is repeated at once",
            "if at < function.start_after:",
            "if at < 0:",
            "table",
        ),
        (
            "the time from which an instance is kept is forgotten",
            "since + (habit.tail_s if habit.warm_at is None else 0.0)",
            "since + habit.tail_s",
            "table",
        ),
        (
            "one that was started ahead is kept twice as long",
            "min(instance.idle_since, habit.freed_at)",
            "instance.idle_since",
            "table",
        ),
        (
            "a call is awaited without a warm instance",
            "due.warm += self._expected(function, habit)",
            "pass",
            "table",
        ),
        (
            "idle times are those of the function",
            "habit.fewer_since.pop(function.running, None)",
            "habit.fewer_since.pop(1, None)",
            "table",
        ),
        ("a few idle times are a habit", "SEEN: Final = 3", "SEEN: Final = 2", "table"),
        (
            "whatever is spread out is a habit",
            "told = tail < LONGEST and tail - head <= SPREAD",
            "told = tail < LONGEST",
            "table",
        ),
        ("an old habit stays", "if self.seen >= REMEMBERED:", "if False:", "table"),
        (
            "nobody looks at a function",
            "        self._look(name, self._end(instance, self._habit(name)))",
            "        self._habit(name)",
            "property",
        ),
        (
            "one is started ahead above the limit",
            "if self.books.unreported >= self.books.limit(function):",
            "if False:",
            "table",
        ),
        (
            "one is started ahead above the pool",
            "if function.reserved is None and pool.used + self",
            "if pool.used < 0 and pool.used + self",
            "table",
        ),
        (
            "one is started ahead beside others",
            "if not version.current or function.instances or",
            "if not version.current or",
            "table",
        ),
        ("the clock stands still", "self.clock = max(self.clock, self.worth(instance))", "pass", "table"),
        ("how often it is called does not matter", "calls * cost_ms / max", "cost_ms / max", "table"),
        ("what it takes to start does not matter", "calls * cost_ms / max", "calls * 100.0 / max", "table"),
        ("its memory does not matter", "cost_ms / max(1, instance.memory_mb)", "cost_ms / 256", "table"),
        (
            "greedy-dual forgets the first of a node",
            "        if place == 0:",
            "        if place < 0:",
            "property",
        ),
        (
            "more memory is granted than a node has",
            "if free_mb < memory_mb:",
            "if free_mb < 0:",
            "table",
        ),
        ("why not is told again and again", "if wanted.unmet == told:", "if told is None:", "property"),
        ("memory is not given back", "node.used_mb -= instance.memory_mb", "pass", "property"),
        (
            "a freed instance is nobody's",
            "return self.acts.settle(instance, event.at) + self.supply.serve_needy(event.at)",
            "return self.acts.settle(instance, event.at)",
            "table",
        ),
        (
            "what idles is not counted",
            "self.idle_mb += instance.memory_mb",
            "pass",
            "property",
        ),
        (
            "a wait that is over counts as one",
            "case TellUnmet() if command.reason is not Unmet.NONE:",
            "case TellUnmet():",
            "table",
        ),
        (
            "what begins to idle has idled before",
            "self.idle_mb_s += self.idle_mb * (at - self.at)",
            "self.idle_mb_s += idle_mb * (at - self.at)",
            "table",
        ),
        (
            "a shadow's names are those of the live fleet",
            "return Epoch(epoch + OTHER_EPOCHS)",
            "return epoch",
            "table",
        ),
        (
            "a shadow's job is over when less is wanted",
            "max(self.wanted, self.live)\n        ended",
            "self.wanted\n        ended",
            "table",
        ),
        (
            "a shadow forgets what it has not served",
            "self.owed += max(0, ended - passed - len(self.ready))",
            "self.owed += 0",
            "table",
        ),
        (
            "a shadow serves who has given up",
            "        if served:\n            self.owed",
            "        if ended:\n            self.owed",
            "table",
        ),
        (
            "what a shadow owes it owes for ever",
            "if at - since < PATIENCE_S:",
            "if at - since < at:",
            "table",
        ),
        (
            "in a shadow nobody waits longer than another",
            "self.since = at - waited_s",
            "self.since = at",
            "table",
        ),
        (
            "what a shadow took for others is wanted back",
            "job.passed += count",
            "pass",
            "table",
        ),
        (
            "a shadow's recalls bring nothing",
            "self.recalls.append((self",
            "repr((self",
            "table",
        ),
        (
            "in a shadow an instance that ends is replaced for nobody",
            """                self._follow(self.demand.live_said(what.commands, self.at))
                if said is not None:
                    self._feed(said)
""",
            """                if said is not None:
                    self._feed(said)
                self._follow(self.demand.live_said(what.commands, self.at))
""",
            "table",
        ),
        (
            "a frontend that attaches again has lost what a shadow gave it",
            " | {instance.id: instance.number for instance in own}",
            "",
            "table",
        ),
        (
            "a shadow's starts have no twins",
            "single.pop(first).twin = grant.instance",
            "single.pop(first)",
            "table",
        ),
        (
            "a shadow starts in no time",
            "self._after(at + took, grant.instance, ready=True)",
            "self._after(at, grant.instance, ready=True)",
            "table",
        ),
        (
            "a shadow stops in no time",
            "self._after(at + STOP_S, evict.instance",
            "self._after(at, evict.instance",
            "table",
        ),
        ("a shadow's starts do not fail", "gone = start.twin", "gone = None", "table"),
        (
            "what is used in a shadow never ends",
            "            gone = used",
            "            gone = None",
            "table",
        ),
        (
            "what the live fleet stops is gone in its shadow",
            "gone = None if event.instance in self.evicted else event.instance",
            "gone = event.instance",
            "table",
        ),
        (
            "a shadow's start whose twin is lost is never ready",
            "self._after(at + took, start.twin, ready=True)",
            "pass",
            "table",
        ),
        (
            "a node that connects again has what the live fleet has",
            "if node is None or not node.reported:",
            "if node is not None:",
            "table",
        ),
        (
            "an expired node comes back",
            "self.books.expired.add(event.node)",
            "pass",
            "table",
        ),
    ),
    *_of(
        WORKER,
        (
            "one that will end says goodbye to what runs there",
            "if not self.leaving or self.instances or self.said_bye:",
            "if not self.leaving or self.said_bye:",
            "table",
        ),
        (
            "one that will end starts more",
            "        if self.leaving:\n            return [ReportRefused",
            "        if self.said_bye:\n            return [ReportRefused",
            "table",
        ),
        ("a stale lease is served", "if event.number < instance.number:", "if event.number < 0:", "table"),
        (
            "anybody may use a lease number",
            "if event.number == instance.number and event.frontend != instance.frontend:",
            "if event.number == instance.number and not event.frontend:",
            "table",
        ),
        (
            "two events at a time",
            "if instance.state is not State.IDLE:\n            return Refusal.BUSY",
            "if instance.state is State.STARTING:\n            return Refusal.BUSY",
            "property",
        ),
        (
            "an old leader is obeyed",
            "if epoch < self.epoch:",
            "if epoch < 0:",
            "property",
        ),
        ("an old leader may be followed", "max(self.epoch, event.epoch)", "event.epoch", "table"),
        (
            "more memory than there is",
            "if grant.memory_mb > free:",
            "if grant.memory_mb > 2 * free:",
            "property",
        ),
        (
            "the memory of the dead is not free",
            "self.memory_used_mb -= instance.memory_mb",
            "pass",
            "property",
        ),
        (
            "a late answer is let through",
            "instance.state is not State.BUSY or instance.request != event.request:",
            "instance.state is State.STARTING:",
            "property",
        ),
        (
            "a timed out instance takes no more events",
            "return commands + self._free(instance)\n\n    def _obey",
            "return commands\n\n    def _obey",
            "property",
        ),
        (
            "a timeout has no answer",
            "commands.append(TimeOut(",
            "commands.extend([]) or (lambda _: None)(TimeOut(",
            "table",
        ),
        (
            "the end of a fenced event is not told",
            "instance.fenced = instance.state is State.BUSY",
            "instance.fenced = False",
            "property",
        ),
        (
            "an evict cuts a running event short",
            "        if instance.state is State.BUSY:\n            return []\n        return [self._stop",
            "        return [self._stop",
            "table",
        ),
        (
            "it fences itself at the last moment",
            "at >= self.valid_until - FENCE_MARGIN_S",
            "at >= self.valid_until",
            "property",
        ),
        (
            "a grant after a pause is carried out",
            "if self._out_of_time(grant.at):",
            "if self.fenced:",
            "property",
        ),
        (
            "an event after a pause is delivered",
            "if self._out_of_time(event.at):",
            "if self.fenced:",
            "table",
        ),
        (
            "it retires with instances alive",
            "if not self.fenced or self.instances or self.retired:",
            "if not self.fenced or self.retired:",
            "property",
        ),
        (
            "a grant that comes twice starts twice",
            "if grant.instance in self.instances:",
            "if False:",
            "property",
        ),
    ),
]
