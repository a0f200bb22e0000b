"""What a run came to: a function of what was measured."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, get_args

from loadtest.peers.peer import Kind, Path, Peer
from loadtest.peers.turns import Measured

Figure = Literal["calls_per_s", "p50_ms", "p99_ms", "cpu_us", "gross_cpu_us", "rest", "client_cpu_us"]
FIGURES: Final[tuple[Figure, ...]] = get_args(Figure)
KINDS: Final[tuple[Kind, ...]] = ("own", "gRPC", "HTTP")


@dataclass(frozen=True, slots=True)
class Row:
    """One way to call one system, with so many calls in flight, in all rounds."""

    peer: Peer
    path: Path
    in_flight: int
    rounds: tuple[Measured, ...]

    @property
    def title(self) -> str:
        return " ".join(filter(None, (self.peer.title, self.path.name if len(self.peer.paths) > 1 else "")))

    @property
    def told(self) -> bool:
        """Whether its CPU says what a call takes. It does not if a round had more at rest than with calls."""
        return self.range("cpu_us")[0] > 0

    def median(self, figure: Figure) -> float:
        return statistics.median(self._all(figure))

    def range(self, figure: Figure) -> tuple[float, float]:
        values = self._all(figure)
        return min(values), max(values)

    def _all(self, figure: Figure) -> list[float]:
        return [getattr(measured, figure) for measured in self.rounds]


@dataclass
class Run:
    """All of it, and what has to be known beside the figures."""

    facts: dict[str, Any]
    """Of the machine, the load and the options."""
    peers: tuple[Peer, ...]
    ways: dict[tuple[str, str, int], list[Measured]] = field(default_factory=dict)
    """By peer, path and calls in flight; one for each round in which it went well."""
    not_measured: dict[str, str] = field(default_factory=dict)
    """Reasons, by peer."""
    failures: dict[str, list[str]] = field(default_factory=dict)
    """Of single turns, by peer."""
    remarks: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    """Of programs that no package brought, in their own words."""

    def rows(self, kind: Kind, in_flight: int) -> list[Row]:
        """Least CPU first; at the end those whose CPU cannot be told."""
        found = [
            Row(peer, path, in_flight, tuple(rounds))
            for peer in self.peers
            for path in peer.paths
            if path.kind == kind and (rounds := self.ways.get((peer.name, path.name, in_flight)))
        ]
        return sorted(found, key=lambda row: (not row.told, row.median("cpu_us")))

    def as_json(self) -> dict[str, Any]:
        rows = [row for kind in KINDS for n in self.facts["in_flight"] for row in self.rows(kind, n)]
        return {
            **self.facts,
            "rows": [
                {
                    "peer": row.peer.name,
                    "path": row.path.name,
                    "kind": row.path.kind,
                    "in_flight": row.in_flight,
                    "medians": {figure: row.median(figure) for figure in FIGURES},
                    "rounds": [asdict(measured) for measured in row.rounds],
                }
                for row in rows
            ],
            "not_measured": self.not_measured,
            "failures": self.failures,
            "remarks": self.remarks,
            "versions": self.versions,
        }


def read(noted: dict[str, Any], peers: Sequence[Peer]) -> Run:
    """The inverse of as_json, for those of the peers that are still known."""
    rest = {"rows", "not_measured", "failures", "remarks", "versions"}
    facts = {name: value for name, value in noted.items() if name not in rest}
    ways = {
        (row["peer"], row["path"], row["in_flight"]): [Measured(**measured) for measured in row["rounds"]]
        for row in noted["rows"]
    }
    told = {name: noted[name] for name in rest - {"rows"}}
    return Run(facts, tuple(peers), ways, **told)
