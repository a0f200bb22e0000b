"""What a run of a policy over a trace came to."""

from dataclasses import dataclass, field

from lambent.simulate.over_time import OverTime


@dataclass(slots=True)
class Counted:
    """Filled by whoever runs the trace. What happens before `from_s` warms up, and does not count."""

    from_s: float
    functions: int
    step_s: float = 60.0
    """Of what is kept over time, warming up included."""
    over_time: OverTime = field(init=False)
    calls: list[int] = field(init=False)
    """By function."""
    cold: list[int] = field(init=False)
    throttled: int = 0
    waits_s: list[float] = field(default_factory=list)
    """Of calls that waited at all."""
    idle_mb_s: float = 0.0
    """Memory of instances that did nothing, over the whole run."""
    starts: int = 0
    """Instances that were started, for a call or ahead of one; over the whole run, like the next two."""
    decisions: int = 0
    cpu_s: float = 0.0

    def __post_init__(self) -> None:
        self.over_time = OverTime(self.step_s, self.from_s)
        self.calls = [0] * self.functions
        self.cold = [0] * self.functions

    def served(self, function: int, at: float, waited_s: float, *, cold: bool) -> None:
        """A call that came `at` has its instance once it has waited."""
        if cold:
            self.over_time.was_cold(at)
        self.over_time.waited(at, at + waited_s)
        if at < self.from_s:
            return
        self.calls[function] += 1
        self.cold[function] += cold
        if waited_s > 0:
            self.waits_s.append(waited_s)

    def ran(self, since: float, until: float) -> None:
        """An instance ran a call."""
        self.over_time.ran(since, until)

    def idled(self, since: float, until: float, memory_mb: int) -> None:
        """An instance was up and ran nothing."""
        self.idle_mb_s += max(0.0, until - since) * memory_mb
        self.over_time.idled(since, until)

    def gave_up(self, at: float, waited_s: float) -> None:
        self.over_time.waited(at, at + waited_s)
        self.throttled += at >= self.from_s

    def figures(self, policy: str, *, instances_known: bool = True) -> "Figures":
        calls, cold = sum(self.calls), sum(self.cold)
        used = [(count, colds) for count, colds in zip(self.calls, self.cold, strict=True) if count]
        waits = sorted(self.waits_s)
        return Figures(
            policy=policy,
            calls=calls,
            cold=cold,
            warm_percent=100 * (1 - cold / calls) if calls else 100.0,
            always_cold_percent=100 * sum(c == k for c, k in used) / len(used) if used else 0.0,
            cold_percent_by_function=100 * sum(k / c for c, k in used) / len(used) if used else 0.0,
            idle_gb_h=self.idle_mb_s / 1024 / 3600 if instances_known else None,
            throttled=self.throttled,
            wait_p50_ms=_at(waits, 0.50),
            wait_p99_ms=_at(waits, 0.99),
            starts=self.starts if instances_known else None,
            decisions=self.decisions,
            decisions_per_s=self.decisions / self.cpu_s if self.cpu_s else 0.0,
            over_time=self.over_time,
        )


@dataclass(frozen=True, slots=True)
class Figures:
    policy: str
    calls: int
    cold: int
    warm_percent: float
    """Of calls."""
    always_cold_percent: float
    """Of functions."""
    cold_percent_by_function: float
    """The mean of the functions' own shares: rare functions count as much as busy ones."""
    idle_gb_h: float | None
    """None where nothing is known of the instances; as of the starts."""
    throttled: int
    wait_p50_ms: float
    """Of the calls that waited."""
    wait_p99_ms: float
    starts: int | None
    """Of instances, warming up included."""
    decisions: int
    """Events that the scheduler took; 0 for policies that are not its own."""
    decisions_per_s: float
    """Of CPU time, the frontend's core and the simulation around them included."""
    over_time: OverTime


def _at(ordered: list[float], share: float) -> float:
    return 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0
