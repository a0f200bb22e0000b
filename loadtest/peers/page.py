"""The page docs/peers.md, and its plot, made of the figures of one run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from loadtest.peers import plot
from loadtest.peers.peer import Peer
from loadtest.peers.registry import LAMBENT
from loadtest.peers.results import KINDS, Row, Run
from loadtest.peers.tables import COLUMNS, HEADINGS, listed_failures, rounds, table

INTRO: Final = """\
# Beside others

<!-- not run: it takes minutes, and installs others' software -->
```sh
make bench-peers                                          # all of them; half an hour, the first time more
make bench-peers PEERS='celery-redis workerd' ROUNDS=1    # some of them
.venv/bin/python -m loadtest.peers --list                 # who there is, and what is missing here
.venv/bin/python -m loadtest.peers --page docs/peers.md   # and this page
```

What others that a package registry provides take for the same call on the same machine in the same run. A
function is given 100 bytes of JSON as an event and answers with its event, called in a closed loop with 64
calls in flight and with one. Each system has an environment of its own under `build/peers`, its exact
version, and as many processes that execute the function as Lambent has instances, where it has such; it is
called by the client that is its own. The systems take turns, one is up at a time, and each is started anew
in each round and warm before it is measured.

**CPU** is user and system microseconds of a call, of all processes of the system together and without the
calling one, less what they spend in the same time when nobody calls: the median of the rounds, and the
range. *At rest* is what they spend then, of one core. CPU is the figure to compare: calls a second and
latencies are of a machine with two cores on which the calling process runs as well, and change with
whatever else it does. The columns say who takes less CPU and who answers more calls a second, Lambent or,
in bold, the system of the row; Lambent is called in the same way. Where a system did more by itself when
nobody called than when somebody did, what a call takes cannot be told: its whole CPU is the bound, and
nobody wins.
"""

ABSENT: Final = """\
## Who is not here

No package registry that was looked at has the servers of Nuclio, OpenFaaS, faasd, Knative, Fission and
Nightcore, nor that of Temporal. LocalStack and the Lambda of moto start containers, and need Docker for it.
What is here calls functions, or is what people would use in the place of something that does.
"""


def write(run: Run, to: Path) -> None:
    to.write_text(markdown(run, to.with_suffix(".svg").name))
    to.with_suffix(".svg").write_text(drawn(run))


def drawn(run: Run) -> str:
    """All that were called with most in flight."""
    most = max(run.facts["in_flight"])
    rows = sorted(
        (row for kind in KINDS for row in run.rows(kind, most) if row.told),
        key=lambda row: row.median("cpu_us"),
    )
    return plot.svg(f"Microseconds of CPU a call, {most} in flight, logarithmic: less is better", rows)


def markdown(run: Run, picture: str) -> str:
    facts = run.facts
    parts = [INTRO, _circumstances(run), f"![CPU per call]({picture})\n"]
    for kind in KINDS:
        for in_flight in facts["in_flight"]:
            rows = table(run, kind, in_flight)
            heading = f"## {HEADINGS[kind]}, {in_flight} in flight\n\n"
            parts += [heading + _markdown(COLUMNS, rows)] if rows else []
    parts += [_wins(run), _commands(run), _gives(run), ABSENT]
    return "\n".join(part for part in parts if part)


def _circumstances(run: Run) -> str:
    facts = run.facts
    remarks = "".join(f" Lambent: {it}." for it in dict.fromkeys(run.remarks.values()))
    failures = "".join(f"- {line}\n" for line in listed_failures(run))
    return (
        f"{facts['cores']} cores of {facts['cpu']}, Linux {facts['kernel']}, Python {facts['python']}; "
        f"{rounds(run)} of {facts['seconds']:g} s for each row, {facts['processes']} executing "
        f"processes. **Load average {facts['load_before']} before and {facts['load_after']} after** "
        f"(over 1, 5 and 15 minutes): others used the machine where it is much above the cores.{remarks}\n"
        + (f"\n{failures}" if failures else "")
    )


def _wins(run: Run) -> str:
    """In words, where the others are ahead."""
    lines = []
    for kind in KINDS:
        for in_flight in run.facts["in_flight"]:
            rows = run.rows(kind, in_flight)
            ours = next((row for row in rows if row.peer is LAMBENT), None)
            if ours is not None:
                ahead = [row for row in rows if row.peer is not LAMBENT and row.told and _less(row, ours)]
                named = ", ".join(f"{row.title} ({_less(row, ours):.0%} less CPU)" for row in ahead)
                lines.append(f"- {HEADINGS[kind]}, {in_flight} in flight: {named or 'nobody'}")
    return "## Who is ahead of Lambent\n\n" + "".join(f"{line}\n" for line in lines) if lines else ""


def _less(row: Row, ours: Row) -> float:
    return max(0.0, 1 - row.median("cpu_us") / ours.median("cpu_us"))


def _commands(run: Run) -> str:
    rows = [
        [peer.title, _versions(run, peer), peer.runs, "; ".join(path.called_with for path in peer.paths)]
        for peer in run.peers
    ]
    heads = ("", "versions", "what is started", "how it is called")
    return "## Versions and commands\n\n" + _markdown(heads, rows)


def _versions(run: Run, peer: Peer) -> str:
    packages = [f"`{package}`" for package in (*peer.pip, *peer.npm)] or ["this repository"]
    return ", ".join((*packages, *(run.versions[it] for it in peer.programs if it in run.versions)))


def _gives(run: Run) -> str:
    rows = [[peer.title, peer.gives, peer.lacks] for peer in run.peers if peer is not LAMBENT]
    heads = ("", "what it gives that Lambent does not", "what Lambent gives that it does not")
    return "## What a row does not say\n\n" + _markdown(heads, rows)


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "".join("| " + " | ".join(cells) + " |\n" for cells in (heads, ["---"] * len(heads), *rows))
