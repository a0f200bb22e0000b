"""`lambent top`: the fleet as it is now, on a terminal that is drawn anew until q."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from lambent.cli.connection import with_client
from lambent.cli.options import json_option

if TYPE_CHECKING:
    from rich.console import RenderableType

    from lambent.client import Client
    from lambent.top import FunctionRow, NodeRow, Snapshot, Told

NODES: Final = ("node", "state", "memory MB", "", "instances", "busy", "functions")
FUNCTIONS: Final = (
    "function",
    "calls/s",
    "failed",
    "throttled",
    "cold",
    "waiting",
    "running",
    "p50 ms",
    "p99 ms",
    "instances",
    "busy",
    "memory MB",
)
_NODES_FROM: Final = {"": 100, "functions": 80, "busy": 60}
_FUNCTIONS_FROM: Final = {
    "memory MB": 125,
    "busy": 115,
    "running": 110,
    "throttled": 100,
    "p50 ms": 95,
    "instances": 80,
    "cold": 65,
}
"""Columns that take a terminal of so many; the others are there always."""
_FOOT: Final = "p50 and p99 are told within 5 %. q leaves."
BAR: Final = 16
"""Characters of a node's memory."""

_LEAVES: Final = "qQ\x03\x04"


@click.command()
@click.option(
    "--interval",
    "interval_s",
    type=click.FloatRange(min=0.2),
    default=1.0,
    show_default=True,
    metavar="S",
    help="How long between two looks.",
)
@click.option(
    "--window",
    "window_s",
    type=click.FloatRange(1, 300),
    default=15.0,
    show_default=True,
    metavar="S",
    help="Rates and shares are of calls that ended in so many last seconds.",
)
@json_option
@with_client
async def top(client: "Client", interval_s: float, window_s: float, as_json: bool) -> None:
    """Watch nodes and functions: instances, memory, calls, errors, cold starts, waiting. q ends it.

    Without a terminal, and with --json, it looks once. p50 and p99 are told within 5 %; what the key may not
    see is a dash, or null.
    """
    from lambent.cli.output import print_json, print_table
    from lambent.top import facts, snapshot

    shot = snapshot(await _ask(client, window_s))
    if as_json:
        print_json(facts(shot, window_s))
        return
    if not sys.stdout.isatty():
        print_table(NODES, [node_row(it) for it in shot.nodes], "No workers.")
        click.echo()
        print_table(FUNCTIONS, [function_row(it) for it in shot.functions], "No instances, no calls.")
        for said in shot.missing:
            click.echo(f"Missing: {said}", err=True)
        return
    await _watch(client, shot, interval_s, window_s)


async def _ask(client: "Client", window_s: float) -> "Told":
    """What the caller has no right to see is left out, by name, unless that is all. Raises LambentError."""
    from lambent.top import Told
    from lambent_proto.errors import AccessDenied

    missing: list[AccessDenied] = []

    async def allowed(asked: Awaitable[Any]) -> Any:
        try:
            return await asked
        except AccessDenied as error:
            missing.append(error)
            return None

    nodes, instances, activity = await asyncio.gather(
        allowed(client.nodes()), allowed(client.list_instances()), allowed(client.activity(window_s))
    )
    if len(missing) == 3:
        raise missing[0]
    silent = [f"the frontend {it} does not answer" for it in (activity.missing_frontends if activity else ())]
    return Told(
        nodes.nodes if nodes else None,
        instances.instances if instances else None,
        activity.functions if activity else None,
        [*(error.message for error in missing), *silent],
    )


async def _watch(client: "Client", shot: "Snapshot", interval_s: float, window_s: float) -> None:
    from rich.console import Console
    from rich.live import Live

    from lambent.top import snapshot
    from lambent_proto.errors import LambentError

    console, away = Console(), ""
    with _keys() as left, Live(console=console, screen=True, auto_refresh=False) as live:
        while not left.is_set():
            live.update(screen(shot, client.endpoint, console.size, away), refresh=True)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(left.wait(), interval_s)
                return
            try:
                shot, away = snapshot(await _ask(client, window_s)), ""
            except LambentError as error:
                away = error.message


@contextlib.contextmanager
def _keys() -> Iterator[asyncio.Event]:
    """Set once somebody wants to leave. The terminal is as it was afterwards, whatever happens."""
    left = asyncio.Event()
    if not sys.stdin.isatty():
        yield left
        return
    import termios
    import tty

    loop, stdin = asyncio.get_running_loop(), sys.stdin.fileno()
    before = termios.tcgetattr(stdin)

    def pressed() -> None:
        key = os.read(stdin, 1)
        if not key or key.decode(errors="replace") in _LEAVES:
            left.set()

    tty.setcbreak(stdin)
    loop.add_reader(stdin, pressed)
    try:
        yield left
    finally:
        loop.remove_reader(stdin)
        termios.tcsetattr(stdin, termios.TCSADRAIN, before)


def screen(shot: "Snapshot", endpoint: str, size: tuple[int, int], away: str) -> "RenderableType":
    """On a terminal of so many columns and lines. Rows that do not fit are counted; of columns those that
    matter most are shown."""
    from rich.console import Group
    from rich.text import Text

    width, height = size
    rate, failed, waiting = _number(shot.calls_per_s, 1), _percent(shot.failed), _number(shot.waiting)
    head = Text.assemble(
        ("lambent top  ", "bold"),
        (endpoint, "dim"),
        f"   {rate} calls/s   failed {failed}   waiting {waiting}",
    )
    notes = [Text(said, "yellow") for said in (*((f"Not fresh: {away}",) if away else ()), *shot.missing)]
    room = max(height - len(notes) - 7, 4)
    nodes = shot.nodes[: max(room // 2, room - len(shot.functions))]
    functions = shot.functions[: max(room - len(nodes), 1)]
    more = len(shot.nodes) - len(nodes), len(shot.functions) - len(functions)
    left = " and ".join(
        f"{n:,} more {what}" for n, what in zip(more, ("nodes", "functions"), strict=True) if n
    )
    return Group(
        head,
        *notes,
        Text(),
        _table(NODES, [node_row(it) for it in nodes], "No workers: start one.", width, _NODES_FROM),
        Text(),
        _table(
            FUNCTIONS,
            [function_row(it) for it in functions],
            "No instances, and no calls lately.",
            width,
            _FUNCTIONS_FROM,
        ),
        Text(f"{left}. {_FOOT}" if left else _FOOT, "dim"),
    )


def _table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    empty: str,
    width: int,
    shown_from: Mapping[str, int],
) -> "RenderableType":
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return Text(empty, "dim")
    table = Table(box=None, header_style="bold", pad_edge=False)
    shown = [number for number, it in enumerate(columns) if width >= shown_from.get(it, 0)]
    for column in (columns[number] for number in shown):
        words = column in ("node", "state", "", "functions", "function")
        table.add_column(column, justify="left" if words else "right", no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*(Text(row[number]) for number in shown))
    return table


def node_row(it: "NodeRow") -> tuple[str, ...]:
    used = round(BAR * it.memory_used_mb / it.memory_mb) if it.memory_mb else 0
    bar = "█" * min(used, BAR) + "░" * max(BAR - used, 0)
    functions = ", ".join(f"{name} {number}" for name, number in it.functions.most_common(4))
    memory = f"{it.memory_used_mb:,}/{it.memory_mb:,}"
    return it.node, it.state, memory, bar, str(it.instances), _number(it.busy), functions


def function_row(it: "FunctionRow") -> tuple[str, ...]:
    return (
        it.function,
        _number(it.calls_per_s, 1),
        _percent(it.failed),
        _percent(it.throttled),
        _percent(it.cold),
        _number(it.waiting),
        _number(it.running),
        _number(it.p50_ms, 1),
        _number(it.p99_ms, 1),
        _number(it.instances),
        _number(it.busy),
        _number(it.memory_mb),
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _number(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
