"""`python -m loadtest.peers`: Lambent beside others that call functions, in one run on this machine."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from loadtest import machine
from loadtest.peers import environments, page, results, tables
from loadtest.peers.peer import IN_FLIGHT, Peer
from loadtest.peers.registry import LAMBENT, PEERS
from loadtest.peers.results import Run
from loadtest.peers.turns import Failed, adopt_orphans, turn

NAMES: Final = {peer.name: peer for peer in PEERS}
NOTED: Final = environments.FOLDER.parent / "peers.json"


@click.command()
@click.argument("names", metavar="[PEER]...", nargs=-1, type=click.Choice(list(NAMES)))
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.1),
    default=3.0,
    show_default=True,
    help="For which each way of calling is measured in a round.",
)
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="That execute the function, where a system has such.",
)
@click.option(
    "--in-flight",
    type=click.Choice([str(n) for n in IN_FLIGHT]),
    help="Only with so many calls in flight; else with each in turn.",
)
@click.option(
    "--list", "listing", is_flag=True, help="Who there is, with the pins, and what is missing for it."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print the figures as JSON, progress on standard error."
)
@click.option(
    "--page",
    "page_to",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write a page with tables to this .md, and its plot beside it as .svg.",
)
@click.option("--alone", is_flag=True, help="Leave Lambent out, and with it the comparison.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=NOTED,
    help="Where the figures are written, after each round. [default: build/peers.json]",
)
@click.option("--again", is_flag=True, help="Measure nothing: show what was written there.")
def main(
    names: Sequence[str],
    rounds: int,
    seconds: float,
    processes: int,
    in_flight: str | None,
    listing: bool,
    as_json: bool,
    page_to: Path | None,
    alone: bool,
    out: Path,
    again: bool,
) -> None:
    """Calls the same echo of 100 bytes through Lambent and each PEER (all of them, if none is named).

    What a peer needs is installed into build/peers on first use; Ray's is 400 MB. Who cannot be measured
    here is named with the reason. The figures are also written to build/peers.json.
    """
    peers = tuple(NAMES[name] for name in dict.fromkeys(names)) or PEERS
    if listing:
        click.echo(json.dumps(tables.listed(peers), indent=2) if as_json else tables.listing(peers))
        return
    if again:
        if not out.exists():
            raise click.ClickException(f"there is no {os.path.relpath(out)}: leave out --again")
        run = results.read(json.loads(out.read_text()), (LAMBENT, *PEERS))
    else:
        at_once = (int(in_flight),) if in_flight else IN_FLIGHT
        run = Run(
            {**machine.facts(), "seconds": seconds, "processes": processes, "in_flight": list(at_once)},
            (*(() if alone else (LAMBENT,)), *peers),
        )
        try:
            measure(run, rounds, out)
        except KeyboardInterrupt:
            _say(
                f"Stopped; nothing is left running. Rounds that were finished are in {os.path.relpath(out)}."
            )
            sys.exit(130)
    if page_to:
        page.write(run, page_to)
        _say(f"Written to {page_to} and {page_to.with_suffix('.svg')}.")
    click.echo(json.dumps(run.as_json(), indent=2) if as_json else tables.report(run))
    sys.exit(0 if run.ways else 1)


def measure(run: Run, rounds: int, out: Path) -> None:
    """The peers take turns, so that a change of the machine's load meets all of them; one is up at a time."""
    adopt_orphans()
    out.parent.mkdir(exist_ok=True)
    run.facts["load_before"] = machine.load()
    for peer in run.peers:
        try:
            environments.make(peer, _say)
            run.versions |= environments.versions(peer)
        except environments.Unavailable as why:
            run.not_measured[peer.name] = str(why)
            _say(f"{peer.title}: not measured, {why}")
    for number in range(1, rounds + 1):
        for peer in (it for it in run.peers if it.name not in run.not_measured):
            _one_turn(run, peer, f"Round {number} of {rounds}, {peer.title}: ")
        run.facts |= {"rounds": number, "load_after": machine.load()}
        out.write_text(json.dumps(run.as_json(), indent=2) + "\n")


def _one_turn(run: Run, peer: Peer, heading: str) -> None:
    options = run.facts
    try:
        ways, remark = turn(
            peer,
            options["processes"],
            options["in_flight"],
            options["seconds"],
            lambda it: _say(heading + it),
        )
    except Failed as why:
        run.failures.setdefault(peer.name, []).append(str(why))
        _say(f"{heading}failed, {why}")
        return
    for (path, at_once), found in ways.items():
        run.ways.setdefault((peer.name, path, at_once), []).append(found)
    if remark:
        run.remarks[peer.name] = remark


def _say(line: str) -> None:
    click.echo(line, err=True)


if __name__ == "__main__":
    main()
