"""How long instances lived and what they ran, by what they wrote down themselves."""

import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lambent.client import Client
from tests.chaos.callers import Call
from tests.e2e.evidence import APP, RUNTIME, Evidence, most_at_once, package

BEATING_APP: Final = (
    APP
    + '''
import mmap
import struct
import threading


def _beat():
    """When it was born and when it last lived, again and again, in a file that outlives it."""
    with open(os.path.join(os.environ["BEATS"], uuid.uuid4().hex), "w+b") as file:
        file.truncate(16)
        beats = mmap.mmap(file.fileno(), 16)
    born = time.monotonic()
    while True:
        beats[:] = struct.pack("dd", born, time.monotonic())
        time.sleep(0.02)


threading.Thread(target=_beat, daemon=True).start()
'''
)


@dataclass(frozen=True, slots=True)
class Watched:
    """A function and what its instances leave behind."""

    name: str
    limit: int
    evidence: Evidence
    beats: Path
    once: bool
    """A call of it runs at most once."""

    @classmethod
    def make(cls, folder: Path, name: str, limit: int, *, once: bool = True) -> "Watched":
        beats = folder / f"{name}-beats"
        beats.mkdir()
        return cls(name, limit, Evidence(folder / name), beats, once)

    async def deploy(self, client: Client) -> None:
        await client.create_function(
            self.name,
            package({"app.py": BEATING_APP}),
            runtime=RUNTIME,
            handler="app.record",
            timeout_s=20.0,
            concurrency=self.limit,
            environment=self.environment(0),
        )

    def environment(self, edition: int) -> dict[str, str]:
        """Another edition is another version of the function."""
        return {**self.evidence.environment, "BEATS": str(self.beats), "EDITION": str(edition)}

    def lives(self) -> list[tuple[float, float]]:
        """From the birth of each instance to its last beat: never longer than it lived."""
        texts = [file.read_bytes() for file in self.beats.iterdir()]
        found = [struct.unpack("dd", text) for text in texts if text]  # one may end before its first sign
        return [(born, last) for born, last in found if born]

    def most_lived(self) -> int:
        """Instances at one time."""
        return most_at_once(self.lives())

    def most_ran(self) -> int:
        """Calls at one time, without those whose instance was killed: its life tells of these."""
        return most_at_once((r.begin, r.end) for r in self.evidence.runs() if r.end < float("inf"))

    def broken(self, calls: list[Call]) -> list[str]:
        """What was promised and not kept, for people to read."""
        runs, most_lived, most_ran = self.evidence.runs(), self.most_lived(), self.most_ran()
        told = []
        if most_lived > self.limit:
            told.append(f"{self.name}: {most_lived} instances lived at one time, its limit is {self.limit}")
        if most_ran > self.limit:
            told.append(f"{self.name}: {most_ran} calls ran at one time, its limit is {self.limit}")
        times = Counter(run.call for run in runs) if self.once else {}
        told += [f"{self.name}: call {call} ran {count} times" for call, count in times.items() if count > 1]
        ended = {run.call for run in runs if run.end < float("inf")}
        told += [
            f"{self.name}: call {call.id} was answered and did not run"
            for call in calls
            if call.function == self.name and not call.error and call.id not in ended
        ]
        told += [f"{self.name}: instance {it} had two calls at a time" for it in self.evidence.crowded()]
        born = Counter(birth.instance for birth in self.evidence.births())
        return told + [f"{self.name}: instance {it} was born {n} times" for it, n in born.items() if n > 1]
