"""What one run has seen, for people and for docs/reliability.md."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from tests.chaos.callers import Call
from tests.chaos.faults import Fault
from tests.chaos.parts import Answer

PAGE: Final = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN: Final = "<!-- made by make chaos -->"
END: Final = "<!-- until here -->"

FELT_S: Final = 2.0
"""A fault that is over at once is felt for so long."""

PROMISED: Final = {
    "kill -9": "nothing that was accepted is lost, nothing runs twice",
    "SIGSTOP": "who wakes up too late does nothing any more",
    "a host that dies": "what ran there counts until its lease is over, and others serve",
    "cut off from all": "nothing is started in the place of what may still run",
    "cut off from etcd": "what ran ends before its lease does",
    "cut off from frontend": "other ways are taken, or calls wait",
    "cut off from worker": "other ways are taken, or calls wait",
    "cut off from placement": "other ways are taken, or calls wait",
    "all cut off": "what is warm is served without any leader",
    "most cut off": "what is warm is served without etcd",
    "a slow line that loses": "late, and nothing worse",
    "a slow disk": "etcd is late, and calls are not",
    "a new version": "both versions share the function's limit",
    "each pair cut": "no pair is needed for safety",
    "each majority": "the minority gives up in time",
    "no majority": "nothing is decided, and all comes back",
}


@dataclass(frozen=True, slots=True)
class Calm:
    calls: int
    operations: int
    """On etcd's keys, all members together."""

    def told(self) -> str:
        return f"{self.calls:,} calls, {self.operations} operations"

    @property
    def costs(self) -> bool:
        """More than what anything else may have asked for in the meantime."""
        return self.operations * 100 > self.calls


@dataclass(frozen=True, slots=True)
class Report:
    seed: int
    seconds: float
    broken: list[str]
    faults: list[Fault]
    calls: list[Call]
    """Those that somebody waited for."""
    answers: list[Answer]
    """Of those, the ones in parts."""
    taken: int
    """Asynchronous calls."""
    ran: int
    """How often one of them began."""
    starts: int
    most: Mapping[str, tuple[int, int, int]]
    """The most instances and calls of a function at one time, and its limit."""
    led_again_s: list[float]
    """From the loss of a leader to the next epoch."""
    whole_s: list[float]
    """From the last mended fault, each time, until every function was served by every frontend."""
    calm: Calm
    replaced: int
    """Parts that were told to end, in the calm."""

    def table(self) -> str:
        """In Markdown."""
        verdict = "No promise was broken." if not self.broken else f"Broken promises: {len(self.broken)}."
        return "\n\n".join(
            [f"Seed {self.seed}. {verdict}", self._faults(), self._promises(), *self.broken[:50]]
        )

    def _faults(self) -> str:
        rows: dict[tuple[str, str], list[Fault]] = defaultdict(list)
        for fault in self.faults:
            rows[fault.planned.kind, fault.planned.target].append(fault)
        lines = [
            "| fault | times | promised | seen of the calls that began meanwhile |",
            "| --- | --- | --- | --- |",
        ]
        for (kind, target), faults in sorted(rows.items()):
            lines.append(
                f"| {kind}: {target} | {len(faults)} | {PROMISED[kind]} | {self._meanwhile(faults)} |"
            )
        return "\n".join(lines)

    def _meanwhile(self, faults: Sequence[Fault]) -> str:
        windows = [(it.begin, max(it.end, it.begin + FELT_S)) for it in faults]
        calls = [it for it in self.calls if any(low <= it.begin < high for low, high in windows)]
        answered = sum(not it.error for it in calls)
        return f"{answered:,} of {len(calls):,} answered"

    def _promises(self) -> str:
        errors = Counter(call.error or "answered" for call in self.calls)
        told = ", ".join(f"{count:,} {what}" for what, count in errors.most_common())
        over = max((call.over_s for call in self.calls), default=0.0)
        late = max((call.over_s for call in self.calls if not call.error), default=0.0)
        lived = "; ".join(f"{lived} of {limit}" for lived, _, limit in self.most.values())
        away = [it for it in self.faults if it.planned.kind == "all cut off"]
        whole = f"whole again {max(self.whole_s):.1f} s after a fault at the latest"
        if self.led_again_s:
            whole += (
                f", led again after {median(self.led_again_s):.1f} s in the median of {len(self.led_again_s)}"
            )
        seen = {
            "1. one event at a time": "in no instance's file does a call begin before the last one has ended",
            "2. no more instances than the limit": f"the most at one time: {lived}",
            "3. one outcome, in time": f"{told}; the latest outcome {_after(over)}",
            "4. at most one run": f"{len(self.calls):,} calls, and none began twice",
            "5. what was accepted runs": f"{self.taken:,} asynchronous calls taken, all of them ran; "
            f"{self.ran - self.taken:,} began once more",
            "6. a warm call costs etcd nothing": self.calm.told(),
            "7. any process may be killed": f"all functions are there; {whole}; while no placement was to be "
            f"reached {self._meanwhile(away) if away else 'nothing was tried'}",
            "8. nothing dead is called, nothing late is taken": f"the latest answer {_after(late)}",
            "9. nothing outlives its kill": "no process was left; the rest of it is `pytest -m escape`",
            "10. planned ends fail no call": f"{self.replaced} placements and workers were told to end; "
            "frontends: tests/e2e/test_frontend_stops.py",
        }
        lines = ["| promise | seen |", "| --- | --- |", *(f"| {what} | {it} |" for what, it in seen.items())]
        parts = (
            f"{sum(it.whole for it in self.answers):,} of {len(self.answers):,} answers in parts were whole"
        )
        return "\n".join(lines) + f"\n\n{self.starts:,} instances were started; {parts}, the others said so."


def _after(over_s: float) -> str:
    return (
        f"came {over_s:.1f} s after its deadline"
        if over_s > 0
        else f"came {-over_s:.1f} s before its deadline"
    )


def led_again(faults: Sequence[Fault], epochs: Sequence[float]) -> list[float]:
    lost = [fault.begin for fault in faults if fault.leader]
    return [min(at for at in epochs if at > since) - since for since in lost if epochs[-1] > since]


def write_page(text: str, page: Path = PAGE) -> None:
    """Puts it in the place of what another run has made there."""
    before = page.read_text()
    made = f"{BEGIN}\n\n{text}\n\n{END}"
    page.write_text(re.sub(f"{BEGIN}.*?{END}", lambda _: made, before, count=1, flags=re.DOTALL))
