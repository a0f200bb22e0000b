"""Virtual time, processes that die and pause, and connections that delay, break and split."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any


class Clock:
    """A heap of what will happen. The only source of time, and with `dice` the only source of chance."""

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        self.dice = Random(seed)
        self._coming: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = 0

    def at(self, when: float, what: Callable[[], None]) -> None:
        self._serial += 1
        heapq.heappush(self._coming, (max(when, self.now), self._serial, what))

    def after(self, delay: float, what: Callable[[], None]) -> None:
        self.at(self.now + delay, what)

    def step(self, until: float) -> bool:
        """Lets the next thing happen; False when nothing is left before `until`."""
        if not self._coming or self._coming[0][0] > until:
            self.now = until
            return False
        self.now, _, what = heapq.heappop(self._coming)
        what()
        return True


class Process:
    """Something that can be killed, restarted and paused. Messages to a paused one wait for it to wake."""

    def __init__(self, net: "Network", name: str) -> None:
        self.net = net
        self.name = name
        self.alive = True
        self.life = 0
        self.paused_until = 0.0
        self._backlog: list[Callable[[], None]] = []
        self.wires: list[Wire] = []
        net.processes[name] = self

    def soon(self, delay: float, what: Callable[[], None]) -> None:
        """Runs something in this process later, unless it has died by then."""
        life = self.life
        self.net.clock.after(delay, lambda: self._run(life, what))

    def _run(self, life: int, what: Callable[[], None]) -> None:
        if not self.alive or life != self.life:
            return
        if self.net.clock.now < self.paused_until:
            self._backlog.append(what)
            return
        what()

    def pause(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after so long: it wakes to everything that came meanwhile, in order."""
        if not self.alive:
            return
        until = self.net.clock.now + seconds
        self.paused_until = max(self.paused_until, until)
        life = self.life
        self.net.clock.at(self.paused_until, lambda: self._wake(life))

    def _wake(self, life: int) -> None:
        if life != self.life or self.net.clock.now < self.paused_until:
            return
        backlog, self._backlog = self._backlog, []
        for what in backlog:
            self._run(life, what)

    def kill(self) -> None:
        """kill -9: nothing it was about to do happens; its connections break."""
        if not self.alive:
            return
        self.alive = False
        self.life += 1
        self.paused_until = 0.0
        self._backlog = []
        for wire in list(self.wires):
            wire.cut()
        self.killed()

    def restart(self) -> None:
        if self.alive:
            return
        self.alive = True
        self.started()

    def killed(self) -> None:
        """What its death does to the rest of the world."""

    def started(self) -> None:
        """Begins from nothing."""


@dataclass(eq=False)
class End:
    """One end of a wire, as its process sees it."""

    process: Process
    opened: Callable[["Wire"], None]
    receive: Callable[["Wire", Any], None]
    lost: Callable[["Wire"], None]
    life: int = 0
    open: bool = True
    last_arrival: float = 0.0


@dataclass(eq=False)
class Wire:
    """A TCP connection: in order while it lasts; when it breaks, each end learns of it at its own time."""

    net: "Network"
    ends: tuple[End, End]
    whole: bool = True
    tags: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for end in self.ends:
            end.life = end.process.life
            end.process.wires.append(self)

    def send(self, sender: Process, message: Any) -> None:
        here, there = self.ends if self.ends[0].process is sender else self.ends[::-1]
        if not here.open or not self.whole or self.net.split(sender, there.process):
            return  # into the void: the connection is broken, and this end will learn of it
        clock = self.net.clock
        there.last_arrival = max(there.last_arrival, clock.now + self.net.delay())
        life = there.life
        clock.at(there.last_arrival, lambda: there.process._run(life, lambda: self._arrive(there, message)))

    def _arrive(self, end: End, message: Any) -> None:
        if end.open:
            end.receive(self, message)

    def cut(self) -> None:
        """Breaks the connection. What is under way may still arrive before the end notices, or not at all."""
        if not self.whole:
            return
        self.whole = False
        for end in self.ends:
            delay = self.net.clock.dice.choice((0.0, 0.001, 0.05, 0.4))
            self.net.clock.after(delay, lambda end=end: end.process._run(end.life, lambda: self._notice(end)))  # type: ignore[misc]

    def close(self, closer: Process) -> None:
        """An orderly close by one end."""
        for end in self.ends:
            if end.process is closer:
                self._shut(end)
        self.cut()

    def _notice(self, end: End) -> None:
        if end.open:
            self._shut(end)
            end.lost(self)

    def _shut(self, end: End) -> None:
        end.open = False
        if self in end.process.wires:
            end.process.wires.remove(self)


class Network:
    """Who can reach whom."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.processes: dict[str, Process] = {}
        self._splits: set[frozenset[str]] = set()
        self.slow = 1.0

    def delay(self) -> float:
        """Most messages are quick, some take long: so those on different wires overtake each other."""
        dice = self.clock.dice
        if dice.random() < 0.02 * self.slow:
            return dice.uniform(0.02, 0.3)
        return dice.uniform(0.0002, 0.003)

    def split(self, a: Process, b: Process) -> bool:
        return frozenset((a.name, b.name)) in self._splits

    def partition(self, a: Process, b: Process, seconds: float) -> None:
        """Nothing passes between the two for a while; connections break when keep-alives notice."""
        pair = frozenset((a.name, b.name))
        if pair in self._splits:
            return
        self._splits.add(pair)
        for wire in list(a.wires):
            if {end.process for end in wire.ends} == {a, b}:
                self.clock.after(self.clock.dice.uniform(0.1, 1.5), wire.cut)
        self.clock.after(seconds, lambda: self._splits.discard(pair))

    def heal(self) -> None:
        self._splits.clear()

    def dial(self, here: End, callee: Process, accept: Callable[[], End | None]) -> None:
        """Connects, after a round trip; nothing happens where the callee is dead, refuses or is cut off."""
        caller = here.process

        def connect() -> None:
            there = accept() if callee.alive and not self.split(caller, callee) else None
            if there is None:
                return
            wire = Wire(self, (here, there))
            for end in wire.ends:
                end.process._run(end.life, lambda end=end: end.open and end.opened(wire))  # type: ignore[misc]

        caller.soon(self.delay(), connect)
