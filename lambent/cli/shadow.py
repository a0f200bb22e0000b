"""`lambent shadow`: what another policy would have made of the fleet's calls."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from lambent.cli.connection import with_client
from lambent.cli.options import json_option

if TYPE_CHECKING:
    from lambent.client import Client
    from lambent_proto.v1.fleet_pb2 import GetShadowResponse, PolicyCounts

Row = tuple[str, str, str, str]


@click.command()
@click.option("--shard", type=click.IntRange(min=0), metavar="K", help="That one alone; else each.")
@json_option
@with_client
async def shadow(client: "Client", shard: int | None, as_json: bool) -> None:
    """Compare the live policy with the one that runs in its shadow.

    A placement whose setting `shadow` names one gives it the same demand in a modelled world; nothing is
    started or stopped for it. Both have been counted since that placement leads.
    """
    from lambent.cli.output import facts, print_json

    fleet = [] if shard is not None else (await client.nodes()).shards
    for there in fleet:
        if there.missing:
            click.echo(f"Shard {there.number}: {there.missing}.", err=True)
    numbers = [there.number for there in fleet if not there.missing] or [shard or 0]
    told = {number: await client.shadow(number) for number in numbers}
    if len(fleet) <= 1:
        (only,) = told.values()
        if as_json:
            print_json(facts(only))
        else:
            _show(only)
        return
    if as_json:
        print_json([{"shard": number, **facts(it)} for number, it in told.items()])
        return
    for number, it in told.items():
        click.echo(click.style(f"Shard {number}", bold=True))
        _show(it)


def _show(told: "GetShadowResponse") -> None:
    from lambent.cli.output import print_table

    if told.state == "off":
        click.echo("No shadow runs: the setting `shadow` of placements says which.", err=True)
        return
    print_table(("", "live", "shadow", "difference"), list(_rows(told)), "")
    click.echo(f"\nlive    {told.live_policy}\nshadow  {told.shadow_policy}", err=True)
    click.echo(f"Counted for {_span(told.counted_s)}, since epoch {told.epoch} began.", err=True)
    if told.state == "failed":
        click.echo(f"The shadow has ended, and counts no more: {told.reason}", err=True)


def _rows(told: "GetShadowResponse") -> Iterator[Row]:
    """Each figure with what it is made of."""
    live, other = _figures(told.live), _figures(told.shadow)
    for name, by_reason in live.items():
        other_by_reason = other[name]
        yield _row(name, sum(by_reason.values()), sum(other_by_reason.values()))
        for reason in sorted(by_reason | other_by_reason):
            yield _row(f"  {reason}", by_reason.get(reason, 0), other_by_reason.get(reason, 0))
    idle, other_idle = told.live.idle_gb_h, told.shadow.idle_gb_h
    yield "idle GB·h", f"{idle:.3f}", f"{other_idle:.3f}", f"{other_idle - idle:+.3f}"


def _figures(counts: "PolicyCounts") -> dict[str, dict[str, int]]:
    return {
        "starts": dict(counts.starts),
        "warm leases": dict(counts.warm),
        "told to wait": dict(counts.waits),
        "evictions": dict(counts.evictions),
    }


def _row(name: str, live: int, other: int) -> Row:
    return name, str(live), str(other), f"{other - live:+d}" if other != live else "0"


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
