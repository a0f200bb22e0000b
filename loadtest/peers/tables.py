"""The figures as tables, for a terminal and for a page."""

from collections.abc import Sequence
from typing import Any, Final

from loadtest.peers import environments
from loadtest.peers.peer import Kind, Peer
from loadtest.peers.registry import LAMBENT
from loadtest.peers.results import KINDS, Row, Run

HEADINGS: Final[dict[Kind, str]] = {
    "own": "By each system's own Python client",
    "gRPC": "By unary gRPC",
    "HTTP": "By HTTP",
}
COLUMNS: Final = (
    "",
    "CPU µs (range)",
    "of Lambent's",
    "less CPU",
    "calls/s",
    "more calls/s",
    "p50 ms",
    "p99 ms",
    "at rest",
    "client µs",
)
IT: Final = "**it**"
"""Who wins a row, where Lambent does not."""


def cells(row: Row, ours: Row | None) -> list[str]:
    """Without anything of Lambent's where that was not measured."""
    beside = ["", "", ""]
    if ours is not None and row is not ours:
        if row.told:
            ratio = row.median("cpu_us") / ours.median("cpu_us")
            beside[0] = f"{ratio:.2g}" if ratio < 10 else f"{ratio:.0f}"
            beside[1] = IT if ratio < 1 else LAMBENT.title
        beside[2] = IT if row.median("calls_per_s") > ours.median("calls_per_s") else LAMBENT.title
    return [
        row.title,
        _cpu(row),
        *beside[:2],
        f"{row.median('calls_per_s'):,.0f}",
        beside[2],
        _ms(row.median("p50_ms")),
        _ms(row.median("p99_ms")),
        f"{100 * row.median('rest'):.1f} %",
        f"{row.median('client_cpu_us'):,.0f}",
    ]


def _cpu(row: Row) -> str:
    if not row.told:
        return f"at most {row.median('gross_cpu_us'):,.0f}"
    low, high = row.range("cpu_us")
    return f"{row.median('cpu_us'):,.0f} ({low:,.0f} to {high:,.0f})"


def _ms(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def table(run: Run, kind: Kind, in_flight: int) -> list[list[str]]:
    rows = run.rows(kind, in_flight)
    ours = next((row for row in rows if row.peer is LAMBENT), None)
    return [cells(row, ours) for row in rows]


def report(run: Run) -> str:
    """For a terminal."""
    facts = run.facts
    said = [
        f"{facts['cpu']}, {facts['cores']} cores, Linux {facts['kernel']}, Python {facts['python']}",
        f"Load average before {facts['load_before']}, after {facts['load_after']}.",
        f"{rounds(run)} of {facts['seconds']:g} s, {facts['processes']} processes: medians.",
        "CPU is of a call, less what the system spends at rest in the same time; at rest is of one core.",
    ]
    for kind in KINDS:
        for in_flight in facts["in_flight"]:
            if rows := table(run, kind, in_flight):
                said += ["", f"{HEADINGS[kind]}, {in_flight} in flight", *_aligned([list(COLUMNS), *rows])]
    failures = listed_failures(run)
    return "\n".join((*said, *([""] if failures else []), *failures)).replace("**", "").replace("`", "")


def rounds(run: Run) -> str:
    return "1 round" if run.facts["rounds"] == 1 else f"{run.facts['rounds']} rounds"


def listed_failures(run: Run) -> list[str]:
    titles = {peer.name: peer.title for peer in run.peers}
    absent = [f"Not measured: {titles.get(name, name)}: {why}" for name, why in run.not_measured.items()]
    return absent + [
        f"{titles.get(name, name)} failed in {len(whys)} of {rounds(run)}: {whys[0]}"
        for name, whys in run.failures.items()
    ]


def listed(peers: Sequence[Peer]) -> list[dict[str, Any]]:
    return [
        {
            "peer": peer.name,
            "title": peer.title,
            "packages": [*peer.pip, *peer.npm],
            "programs": list(peer.programs),
            "called_by": [path.kind for path in peer.paths],
            "installed": environments.is_there(peer),
            "missing": environments.missing(peer),
        }
        for peer in peers
    ]


def listing(peers: Sequence[Peer]) -> str:
    rows = [["PEER", "PACKAGES", "CALLED BY", "HERE"]]
    for it in listed(peers):
        here = "installed" if it["installed"] else "installed on first use"
        if it["missing"]:
            here = f"no: {', '.join(it['missing'])} not found"
        packages = " ".join(it["packages"]) or "none: it runs in Lambent's environment"
        rows.append([it["peer"], packages, ", ".join(it["called_by"]), here])
    return "\n".join(_aligned(rows, left=4))


def _aligned(rows: list[list[str]], left: int = 1) -> list[str]:
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if n < left else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
