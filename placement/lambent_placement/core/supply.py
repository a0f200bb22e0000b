"""Serving demands: what is given, fetched or started for frontends that miss instances of a version.

The order of preference is the numbered one of `scheduler`.
"""

from dataclasses import dataclass
from typing import Final

from lambent_placement.core import choice, where
from lambent_placement.core.acts import Acts
from lambent_placement.core.books import Books
from lambent_placement.core.commands import Command, Reason, Recall, TellUnmet, Unmet
from lambent_placement.core.limits import STARTS_WITHIN_S
from lambent_placement.core.records import Asked, Frontend, Function, Instance, Version, Wanted
from lambent_proto.ids import FrontendId, VersionKey
from lambent_proto.sticky import NO_KEY

RECALL_FRESH_S: Final = 0.02
"""How long the answer "nothing idle here" is believed before the same frontend is asked again."""

UNANSWERED_S: Final = 0.25
"""How long something asked for counts as on its way: a frontend or worker that is stopped does not answer,
and nobody else shall wait for it. A round trip takes a few milliseconds, an eviction some tens."""

OLDER_S: Final = 0.05
"""How much longer one frontend's callers must have waited than another's before a busy lease is recalled:
more than the age of what the parts know of each other."""

MET: Final = Unmet.NONE


@dataclass(slots=True)
class Supply:
    books: Books
    acts: Acts
    largest: Function | None = None
    """The function that ran most of the pool, at `largest_at`."""
    largest_at: float = -1.0

    def serve_needy(self, at: float) -> list[Command]:
        """Looks again at every demand that is not met, the one that has waited longest first."""
        if not self.books.needy:
            self.books.pool.refused = False
            return []
        commands: list[Command] = []
        order = sorted(self.books.needy, key=self._order)
        self.books.pool.refused = False
        for key in order:
            commands += self.serve(self.books.version(key), at)
        return commands

    def _order(self, key: VersionKey) -> tuple[int, int, float, str]:
        """The longest waiting first. Where the pool is used up, what runs least of it, then by turns."""
        version = self.books.version(key)
        function, oldest = version.function, self._oldest(version)
        if self.books.pool.refused and function.reserved is None:
            return function.beyond, function.turn, oldest, key
        return 0, 0, oldest, key

    def _oldest(self, version: Version) -> float:
        return min((w.oldest_at for w in version.wanted.values() if w.missing), default=0.0)

    def serve(self, version: Version, at: float) -> list[Command]:
        commands: list[Command] = []
        needy = self._needy(version)
        if needy and (version.idle or version.kept):
            commands = self._give(version, needy, at)
            needy = [f for f in needy if version.wanted[f.id].missing]
        if not needy:
            self.books.needy.pop(version.key, None)
            return commands + self._all_met(version)
        self.books.needy[version.key] = None
        return commands + self._find_more(version, needy, at)

    def _give(self, version: Version, needy: list[Frontend], at: float) -> list[Command]:
        """What idles, to those who can reach it."""
        commands: list[Command] = []
        for frontend in needy:
            wanted = version.wanted[frontend.id]
            while wanted.missing and (found := self._warm(version, frontend, wanted.keys)) is not None:
                if not self._may_run_more(version):
                    break
                wanted.keys = wanted.keys[1:]
                instance, reason = found
                commands.append(self.acts.give(instance, frontend.id, reason, at))
        return commands

    def _warm(
        self, version: Version, frontend: Frontend, keys: tuple[int, ...]
    ) -> tuple[Instance, str] | None:
        if keys and (found := choice.for_key(self.books, version, frontend, keys[0])) is not None:
            return found
        instance = choice.warmest(version, frontend)
        if instance is None:
            return None
        return instance, Reason.PROVISIONED if instance.provisioned else Reason.MOST_RECENTLY_USED

    def _may_run_more(self, version: Version) -> bool:
        """Whether the pool has room for one more of its instances; what is reserved or provisioned is always
        there."""
        pool = self.books.pool
        if version.function.reserved is not None or version.running < version.provisioned:
            return True
        if pool.used + self.books.unreported < pool.size:
            return True
        pool.refused = True
        return False

    def _needy(self, version: Version) -> list[Frontend]:
        """Who still misses instances of this version, the longest waiting first."""
        needy = []
        for name, wanted in version.wanted.items():
            if wanted.wanted > wanted.held:
                frontend = self.books.frontends[name]
                if frontend.attached:
                    needy.append(frontend)
        if len(needy) > 1:
            needy.sort(key=lambda f: (version.wanted[f.id].oldest_at, f.id))
        return needy

    def _all_met(self, version: Version) -> list[Command]:
        commands: list[Command] = []
        for frontend, wanted in version.wanted.items():
            if wanted.recall is not None and not self._others_wait(wanted.recall):
                wanted.recall = None
                commands.append(Recall(frontend, version.key, 0))
            if wanted.unmet:
                wanted.unmet = ""
                commands.append(TellUnmet(frontend, version.key, Unmet.NONE, ""))
        return commands

    def _others_wait(self, asked: Asked) -> bool:
        """Taken back and made again it would be, with each message, for as long as the pool is used up."""
        return asked.for_others and asked.wanted > 0 and self.books.pool.refused

    def _find_more(self, version: Version, needy: list[Frontend], at: float) -> list[Command]:
        missing = left = self._missing(version, needy)
        commands: list[Command] = []
        if len(needy) < len(version.wanted):  # somebody is gone, or misses nothing
            commands += self._reclaim(version, missing, at)
            commands += self._recall_unused(version, missing, at)
        for frontend in needy:
            wanted = version.wanted[frontend.id]
            while wanted.wanted > wanted.held and left > self._coming(version, at):
                held = wanted.held
                done, unmet, detail = self._start(version, frontend, at)
                commands += done
                if unmet is not MET:
                    commands += self._tell(version, frontend, wanted, unmet, detail)
                    break
                left -= wanted.held - held  # none, if room is made first
        if not left:
            return commands
        if self.books.pool.refused:
            commands += self._share_pool(version, missing, at)
        return commands + self._share_out(version, needy, at)

    def _missing(self, version: Version, needy: list[Frontend]) -> int:
        missing = 0
        for frontend in needy:  # who had enough before is not among them, and nobody is given more
            wanted = version.wanted[frontend.id]
            missing += wanted.wanted - wanted.held
        return missing

    def _coming(self, version: Version, at: float) -> int:
        """How many instances of a version will be free in a moment without anything more being done."""
        coming = version.fencing + version.making_room
        for wanted in version.wanted.values():
            recall = wanted.recall
            if recall is not None and not recall.answered and at - recall.sent_at < UNANSWERED_S:
                coming += recall.wanted
        return coming

    def _reclaim(self, version: Version, missing: int, at: float) -> list[Command]:
        """Takes instances back from frontends that are gone."""
        commands: list[Command] = []
        for frontend_id, wanted in version.wanted.items():
            frontend = self.books.frontends[frontend_id]
            if not wanted.held or frontend.attached or at < frontend.reclaim_at:
                continue
            for instance in self.acts.held_by(frontend_id, version):
                if self._coming(version, at) >= missing:
                    return commands
                if self.books.nodes[instance.node].connected:
                    commands += self.acts.fence(instance, at)
        return commands

    def _recall_unused(self, version: Version, missing: int, at: float) -> list[Command]:
        """Asks frontends that miss nothing themselves for what they hold idle."""
        commands: list[Command] = []
        for frontend_id, wanted in version.wanted.items():
            more = missing - self._coming(version, at)
            if more <= 0:
                break
            if not wanted.held or wanted.missing or not self.books.frontends[frontend_id].attached:
                continue
            commands += self._recall(version, frontend_id, wanted, min(more, wanted.held), at)
        return commands

    def _recall(
        self,
        version: Version,
        frontend: FrontendId,
        wanted: Wanted,
        count: int,
        at: float,
        for_others: bool = False,
    ) -> list[Command]:
        asked = wanted.recall
        if asked is not None and (not asked.answered or at - asked.sent_at < RECALL_FRESH_S):
            return []
        wanted.recall = Asked(count, at, for_others=for_others)
        return [Recall(frontend, version.key, count)]

    def _share_out(self, version: Version, needy: list[Frontend], at: float) -> list[Command]:
        """Every instance is in use: whose callers have waited less gives some up to whose waited more.

        Half the difference moves at a time, so that two who both have work end near an equal share.
        """
        oldest = needy[0]
        first = version.wanted[oldest.id]
        if self._coming(version, at):
            return []
        for frontend_id, wanted in version.wanted.items():
            if frontend_id == oldest.id or not wanted.held or not wanted.missing:
                continue
            if not self.books.frontends[frontend_id].attached or wanted.oldest_at < first.oldest_at + OLDER_S:
                continue
            count = min(first.missing, 1 + max(0, wanted.held - first.held) // 2)
            return self._recall(version, frontend_id, wanted, min(count, wanted.held), at)
        return []

    def _share_pool(self, version: Version, missing: int, at: float) -> list[Command]:
        """The pool is used up: the function that runs most of it gives half the difference to this one.

        With what runs nothing a function shares its only one as well: they take turns.
        """
        function = version.function
        largest = self._largest(at)
        if function.reserved is not None or largest is None:
            return []
        giver = max(largest.versions.values(), key=lambda it: sum(w.held for w in it.wanted.values()))
        count = max(0, min(missing, (largest.beyond - function.beyond) // 2))  # it may have less by now
        if not count and not function.beyond and largest.beyond:
            count = 1
        frontends = self.books.frontends
        holders = [(w.held, f) for f, w in giver.wanted.items() if w.held and frontends[f].attached]
        if not count or not holders:
            return []
        held, holder = max(holders)
        return self._recall(giver, holder, giver.wanted[holder], min(count, held), at, for_others=True)

    def _largest(self, at: float) -> Function | None:
        """Of several the one that has had its own for longest. Looked for once a moment, for all who wait."""
        if self.largest_at != at:
            sharing = (f for f in self.books.functions.values() if f.reserved is None and f.beyond)
            self.largest = max(sharing, key=lambda f: (f.beyond, -f.turn), default=None)
            self.largest_at = at
        return self.largest

    def _tell(
        self, version: Version, frontend: Frontend, wanted: Wanted, unmet: Unmet, detail: str
    ) -> list[Command]:
        told = f"{unmet.value} {detail}"
        if wanted.unmet == told:
            return []
        wanted.unmet = told
        return [TellUnmet(frontend.id, version.key, unmet, detail)]

    def _start(self, version: Version, frontend: Frontend, at: float) -> tuple[list[Command], Unmet, str]:
        """One more instance for this frontend, or room for one, or why not."""
        function = version.function
        if not version.current:
            return [], Unmet.UNKNOWN, "placement does not know this version (yet)"
        if not self.books.index.somewhere(version.runtime, version.require):
            return [], *self._nowhere(version)
        if at < function.start_after:
            return [], Unmet.STARTS_FAIL, f"the last {function.failures} starts of '{function.name}' failed"
        if not self._may_run_more(version):
            return [], *self._pool_is_used_up()
        if not function.rate.may_start(at):
            most = f"{function.rate.most} instances in {STARTS_WITHIN_S:.0f} s"
            return [], Unmet.START_RATE, f"'{function.name}' starts {most} at the most"
        count, limit = len(function.instances), self.books.limit(function)
        if count >= limit:
            victim = choice.give_way(version, self.books)
            if victim is None:
                unmet = Unmet.FLEET_LIMIT if function.reserved is None else Unmet.LIMIT
                return [], unmet, f"all {count} instances exist that its limit of {limit} allows"
            return self.acts.evict_for(version, victim, "gives_way", at), MET, ""
        if count + self.books.unreported >= limit:
            return [], Unmet.COUNTING, "a worker has not reported yet what runs there"
        return self._start_on_a_node(version, frontend, at)

    def _nowhere(self, version: Version) -> tuple[Unmet, str]:
        if not self.books.index.somewhere(version.runtime):
            return Unmet.NO_RUNTIME, f"no worker of the fleet has the runtime {version.runtime}"
        with_it = f"the runtime {version.runtime} has {_listed(version.require)}"
        return Unmet.NO_LABELS, f"no worker of the fleet with {with_it}"

    def _pool_is_used_up(self) -> tuple[Unmet, str]:
        pool = self.books.pool
        if pool.used < pool.size:
            return Unmet.COUNTING, "a worker has not reported yet what runs there"
        taken = pool.reserved + pool.elsewhere
        reserved = f", {taken} of it reserved" if taken else ""
        whole = f"the fleet's concurrency of {pool.concurrency}{reserved}"
        if pool.shard.of > 1:
            whole = f"the {pool.size} that shard {pool.shard.number} of {pool.shard.of} has of {whole}"
        return Unmet.FLEET_LIMIT, f"{pool.used} instances run that share {whole}"

    def _start_on_a_node(
        self, version: Version, frontend: Frontend, at: float
    ) -> tuple[list[Command], Unmet, str]:
        wanted = version.wanted[frontend.id]
        key = wanted.keys[0] if wanted.keys else NO_KEY
        if candidates := where.candidates(self.books, frontend, version, at, key):
            wanted.keys = wanted.keys[1:]
            return self.acts.grant(version, frontend, candidates, at), MET, ""
        victims = choice.make_room(self.books, frontend, version, at)
        if victims:
            for victim in victims:
                self.books.keep.gives_way(victim)
            commands = [c for victim in victims[:-1] for c in self.acts.evict(victim, "memory")]
            return commands + self.acts.evict_for(version, victims[-1], "memory", at), MET, ""
        labels = f" and {_listed(version.require)}" if version.require else ""
        with_it = f"worker with the runtime {version.runtime}{labels}"
        if not choice.in_reach(self.books, frontend, version):
            return [], Unmet.NO_NODE, f"no {with_it} is connected"
        return [], Unmet.MEMORY, f"no {with_it} has {version.memory_mb} MB free or held by idle instances"


def _listed(labels: frozenset[str]) -> str:
    return ", ".join(sorted(labels))
