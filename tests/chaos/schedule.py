"""What goes wrong, when, where and for how long: a function of the seed alone, to be done again."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from tests.chaos.fleet import FRONTENDS, MEMBERS, PARTS, PLACEMENTS, WORKERS, kind_of
from tests.chaos.hosts import CALLERS

BETWEEN_S: Final = (0.5, 2.5)
"""The shortest and the longest time between the begins of two faults; two may be under way at a time."""

REST_S: Final = 2.5
"""Before a host that was hurt is hurt again."""

PEERS: Final = {
    "frontend": (*WORKERS, *PLACEMENTS, *MEMBERS),
    "worker": (*FRONTENDS, *PLACEMENTS, *MEMBERS),
    "placement": (*WORKERS, *FRONTENDS, *MEMBERS),
    "etcd": (*PARTS, *MEMBERS),
}
"""Who talks to whom."""


@dataclass(frozen=True, slots=True)
class Bad:
    """How a line is bad."""

    delay_s: float
    jitter_s: float
    loss: float


@dataclass(frozen=True, slots=True)
class Planned:
    at: float
    """Seconds from the begin."""
    kind: str
    hosts: tuple[str, ...]
    """Those that are hurt; none of a new version."""
    lasts_s: float
    away: tuple[str, ...] = ()
    """What they are cut from, if not from all."""
    bad: Bad | None = None
    writes_per_s: int = 0
    """Of a disk that is slow."""
    number: int = 0
    """For what else has to be drawn."""

    @property
    def until(self) -> float:
        return self.at + self.lasts_s

    @property
    def target(self) -> str:
        """What kinds of hosts it is at, for tables."""
        if not self.hosts:
            return "a function"
        if len(self.hosts) == len(self.away) == 1 and self.kind == "each pair cut":
            return " and ".join(kind_of(host) for host in (*self.hosts, *self.away))
        kinds = sorted({kind_of(host) for host in self.hosts})
        many = len(self.hosts) > 1
        return ", ".join(f"{kind}s" if many and kind != "etcd" else kind for kind in kinds)

    def told(self) -> str:
        words = [self.kind, "+".join(self.hosts)]
        if self.away:
            words.append(f"from {'+'.join(self.away)}")
        if self.bad is not None:
            words.append(f"{self.bad.delay_s * 1000:.0f} ms, {self.bad.loss:.1%} lost")
        if self.writes_per_s:
            words.append(f"{self.writes_per_s} writes a second")
        return " ".join(words) + (f", for {self.lasts_s:.1f} s" if self.lasts_s else "")


def drawn(seed: int, seconds: float) -> list[Planned]:
    """So many seconds of faults, in order; the last of them may end later."""
    dice = random.Random(seed)
    planned: list[Planned] = []
    at = 0.0
    while True:
        at += dice.uniform(*BETWEEN_S)
        under_way = sorted(it.until for it in planned if it.until > at)
        if len(under_way) > 1:
            at = under_way[-2]
        if at >= seconds:
            return planned
        if fault := _draw(dice, at, planned):
            planned.append(fault)


def _draw(dice: random.Random, at: float, before: Sequence[Planned]) -> Planned | None:
    """None, if all that it could hurt is hurt already, or has to be left whole."""
    resting = {host for it in before if it.until + REST_S > at for host in it.hosts}
    kinds = {kind_of(host) for host in resting}
    draw = dice.choices(list(_KINDS), [weight for weight, _ in _KINDS.values()])[0]
    fault = _KINDS[draw][1](dice, at)
    whole = kinds.isdisjoint(kind_of(host) for host in fault.hosts)
    # All of one kind, or most of etcd: nothing else goes wrong meanwhile.
    alone = len(fault.hosts) > 1 or any(len(it.hosts) > 1 for it in before if it.until + REST_S > at)
    return fault if whole and not (alone and resting) else None


def _at_parts(
    kind: str, low: float, high: float, hosts: Sequence[str] = PARTS
) -> Callable[[random.Random, float], Planned]:
    return lambda dice, at: Planned(at, kind, (dice.choice(hosts),), dice.uniform(low, high))


def _stop(dice: random.Random, at: float) -> Planned:
    """For longer than its lease lasts, but for etcd, which has none."""
    host = dice.choice((*PARTS, *MEMBERS))
    lasts = {"worker": 7.0, "placement": 3.5, "frontend": 3.5, "etcd": dice.uniform(1, 4)}[kind_of(host)]
    return Planned(at, "SIGSTOP", (host,), lasts)


def _cut(dice: random.Random, at: float) -> Planned:
    """Both ways, without a word to either."""
    host = dice.choice(PARTS)
    away = MEMBERS if dice.random() < 0.3 else (dice.choice(PEERS[kind_of(host)]),)
    return Planned(at, f"cut off from {kind_of(away[0])}", (host,), dice.uniform(2, 9), away)


def _spoil(dice: random.Random, at: float) -> Planned:
    host = dice.choice((*PARTS, *MEMBERS))
    bad = Bad(dice.uniform(0.01, 0.12), dice.uniform(0, 0.05), dice.choice((0.0, 0.01, 0.03)))
    return Planned(
        at, "a slow line that loses", (host,), dice.uniform(4, 9), bad=bad, number=dice.randrange(10**6)
    )


def _disk(dice: random.Random, at: float) -> Planned:
    return Planned(
        at, "a slow disk", (dice.choice(MEMBERS),), dice.uniform(4, 9), writes_per_s=dice.choice((2, 5, 20))
    )


_KINDS: Final[Mapping[str, tuple[float, Callable[[random.Random, float], Planned]]]] = {
    "kill": (4, _at_parts("kill -9", 0, 0)),
    "kill etcd": (2, _at_parts("kill -9", 0.5, 3, MEMBERS)),
    "stop": (4, _stop),
    "die": (3, _at_parts("a host that dies", 1, 9, (*PARTS, *MEMBERS))),
    "cut": (3, _cut),
    "isolate": (2, _at_parts("cut off from all", 2, 9, (*PARTS, *MEMBERS))),
    "spoil": (3, _spoil),
    "disk": (2, _disk),
    "no leader": (0.5, lambda dice, at: Planned(at, "all cut off", PLACEMENTS, dice.uniform(2, 6))),
    "no etcd": (0.5, lambda dice, at: Planned(at, "most cut off", MEMBERS[:2], dice.uniform(1, 3.5))),
    "version": (2, lambda dice, at: Planned(at, "a new version", (), 0, number=dice.randrange(10**9))),
}
"""How likely each is, and what it is."""


def pairs(lasts_s: float = 3.0) -> list[Planned]:
    """Every two hosts that talk to each other, and callers and each frontend, cut from each other in turn."""
    hosts = (*MEMBERS, *PARTS)
    both = [it for it in combinations(hosts, 2) if it[1] in PEERS[kind_of(it[0])]]
    both += [(frontend, CALLERS) for frontend in FRONTENDS]
    return [
        Planned(number * (lasts_s + 0.2), "each pair cut", (one,), lasts_s, (other,))
        for number, (one, other) in enumerate(both)
    ]


def majorities(lasts_s: float = 7.0) -> list[list[Planned]]:
    """Every way to part one member of etcd from the others, alone and together with parts of each kind; then
    all members from each other. Each is for itself, `at` 0."""
    beside: list[tuple[str, ...]] = [(), (PLACEMENTS[0],), (PLACEMENTS[1],), (FRONTENDS[0],), (FRONTENDS[1],)]
    beside += [WORKERS[:2], (PLACEMENTS[0], FRONTENDS[0], *WORKERS[:2]), PARTS]
    splits = []
    for member in MEMBERS:
        for parts in beside:
            minority = (member, *parts)
            rest = tuple(host for host in (*MEMBERS, *PARTS) if host not in minority)
            splits.append([Planned(0, "each majority", minority, lasts_s, rest)])
    apart = [
        Planned(0, "no majority", (one,), lasts_s / 2, (other,)) for one, other in combinations(MEMBERS, 2)
    ]
    return [*splits, apart]
