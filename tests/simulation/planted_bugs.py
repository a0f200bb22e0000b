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
            "if len(line.waiting) >= self.max_waiting:",
            "if len(line.waiting) > self.max_waiting:",
            "table",
        ),
        (
            "a lease that served nobody goes on to the next",
            "if i.served or not line.waiting",
            "if i",
            "table",
        ),
        (
            "one that never ran waits for another turn",
            "        if self.again:\n",
            "        if None:\n",
            "property",
        ),
        (
            "of those that never ran the newest goes first",
            "self.again.popitem(last=False)",
            "self.again.popitem()",
            "table",
        ),
        (
            "a refused call waits behind all",
            "calls.move_to_end(ahead.request, last=False)",
            "calls.move_to_end(ahead.request)",
            "property",
        ),
        ("a low class starves", "if rank.passed_over >= PATIENCE", "if rank.passed_over >= 999", "table"),
        (
            "the lowest class that is due goes first",
            "for rank in waiting if rank.passed_over",
            "for rank in waiting[::-1] if rank.passed_over",
            "table",
        ),
        ("a turn is not counted", "        turn.passed_over = 0\n", "", "table"),
        (
            "a class that left is still due",
            "            if not rank.queues:\n                rank.passed_over = 0\n",
            "",
            "table",
        ),
        ("the lowest class goes first", "waiting[0])\n", "waiting[-1])\n", "table"),
        ("a greedy tenant has all the turns", "queues.move_to_end(tenant)", "pass", "table"),
        (
            "a tenant that joins comes first",
            "queue = queues[call.tenant] = Queue()\n",
            "queue = queues[call.tenant] = Queue()\n            queues.move_to_end(call.tenant, False)\n",
            "table",
        ),
        (
            "the newest call is served first",
            "call = next(iter(queue.calls.values()))",
            "call = next(reversed(queue.calls.values()))",
            "property",
        ),
        (
            "one of a higher class gives way",
            "if not waiting or newcomer.priority > waiting[-1]:",
            "if not waiting:",
            "table",
        ),
        ("the highest class gives way", "lowest = waiting[-1]", "lowest = waiting[0]", "table"),
        (
            "the tenant with the fewest gives way",
            "most = max(self.ranks[lowest].queues.values()",
            "most = min(self.ranks[lowest].queues.values()",
            "table",
        ),
        (
            "the newcomer does not count",
            "self.waiting_like(newcomer) + 1 >= len(most)",
            "self.waiting_like(newcomer) >= len(most)",
            "table",
        ),
        (
            "the oldest of a tenant gives way",
            "return next(reversed(most.values()))",
            "return next(iter(most.values()))",
            "table",
        ),
        (
            "who is ahead is not bounded by turns",
            "islice(queue.calls.values(), rounds)",
            "islice(queue.calls.values(), None)",
            "table",
        ),
        (
            "all of the higher classes are ahead",
            "yield from islice(above, PATIENCE * len(equals))",
            "yield from above",
            "table",
        ),
        ("one may hold all the room", "if like + call.size <= free:", "if call.size <= free:", "table"),
        (
            "more bytes wait than may",
            "if like + call.size <= free:",
            "if like + call.size <= self.max_waiting_bytes:",
            "property",
        ),
        (
            "what left the line still takes room",
            "line.turns.leave(call)\n        self.waiting_bytes -= call.size\n",
            "line.turns.leave(call)\n",
            "property",
        ),
        (
            "what runs takes room",
            "del line.waiting[call.request]\n        self.waiting_bytes -= call.size\n",
            "del line.waiting[call.request]\n",
            "table",
        ),
        (
            "a loser is forgotten",
            "commands.append(throttled(loser.request, line, full, self.books.attached))",
            "pass",
            "table",
        ),
        (
            "only the leases held count at the limit",
            "return max(line.limit or 0, line.held)",
            "return line.held",
            "table",
        ),
        (
            "all that waits is refused at the fleet's limit",
            "if line.is_stuck and at - line.grew_at >= max(SETTLED_S, line.run_s):",
            "if line.is_stuck:",
            "table",
        ),
        ("a long call's time is not waited for", "max(SETTLED_S, line.run_s)", "SETTLED_S", "table"),
        (
            "one more instance is no news",
            "            line.most, line.grew_at = line.held, event.at\n",
            "            line.most = line.held\n",
            "table",
        ),
        (
            "another reason is news",
            "if not (self.is_stuck and reason in STUCK):",
            "if self.unmet != reason:",
            "table",
        ),
        ("a start under way is no hope", "STUCK: Final = (", 'STUCK: Final = ("start_rate", ', "table"),
        ("a refusal after one call", "or line.runs < RUNS:", "or line.runs < 1:", "table"),
        ("a mean of nothing", "line.ran(at - lease.since)", "line.ran(0.0)", "table"),
        ("no optimism", "OPTIMISM: Final = 2.0", "OPTIMISM: Final = 1.0", "table"),
        ("those that will be gone count", "if other.deadline - at > turns * pace_s:", "if other:", "table"),
        (
            "a deadline is guessed with placement away",
            "(self.books.attached and too_late(line, call, at))",
            "too_late(line, call, at)",
            "table",
        ),
        (
            "the demand is lowered after the release",
            "return [*self.demands.lower(line, at), Release(given, sure=True)]",
            "return [Release(given, sure=True), *self.demands.lower(line, at)]",
            "table",
        ),
        (
            "a void lease takes another event",
            "            lease.void = True\n",
            "            lease.void = False\n",
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
            "if given and self.books.attached:",
            "if given and not self.books.attached:",
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
            "self.books.leave(line, call)\n        return self.demands.ask(line, event.at)",
            "return self.demands.ask(line, event.at)",
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
        ("a node that drains is given new ones", "and not self.draining", "", "table"),
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
            "for instance in node.idle.values():",
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
        ("why not is told again and again", "if wanted.unmet == told:", "if told is None:", "property"),
        ("memory is not given back", "node.used_mb -= instance.memory_mb", "pass", "property"),
        (
            "a freed instance is nobody's",
            "return self.acts.settle(instance, event.at) + self.supply.serve_needy(event.at)",
            "return self.acts.settle(instance, event.at)",
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
