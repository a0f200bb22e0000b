"""`lambent explain`: what became of a call, and why."""

from typing import TYPE_CHECKING, Final

import click

from lambent.cli.connection import with_client
from lambent.cli.options import json_option

if TYPE_CHECKING:
    from lambent.client import Client
    from lambent_proto.v1.fleet_pb2 import Candidate
    from lambent_proto.v1.invoke_pb2 import Explanation

INIT_FAILED: Final = "init_failed"
"""The reason of a call that saw its start fail: it never ran."""
_PRIORITIES: Final[dict[int, str]] = {1: "high", 2: "low"}
"""As in invoke.proto; what is usual goes without saying."""


@click.command()
@click.argument("request_id")
@json_option
@with_client
async def explain(client: "Client", request_id: str, as_json: bool) -> None:
    """Say how a call was started, why, where, and where its time went.

    Each frontend remembers the last 10,000 calls that it served; all are asked.
    """
    from lambent.cli.output import facts, print_facts, print_json, print_table

    answer = await client.explain(request_id)
    if as_json:
        print_json(facts(answer))
        return
    told = answer.explanation
    print_facts(
        {
            "request": answer.request_id,
            "function": answer.function_name,
            "outcome": answer.outcome,
            "message": answer.message,
            "priority": _PRIORITIES.get(answer.priority, ""),
            "tenant": answer.tenant,
            "start": _start(told) if told.start else "",
            "refused": "" if told.start else told.reason,
            "node": told.node,
            "isolation": told.isolation,
            "instance": told.instance,
            "frontend": answer.frontend,
            "waited for": told.waited_for,
            "time": _times(told),
        }
    )
    if answer.candidates:
        click.echo("\nNodes compared for its instance, the one taken first:")
        columns = (
            "node",
            "points",
            "preferred labels",
            "sticky",
            "its instances",
            "its package",
            "stays free",
        )
        print_table(columns, [_compared(it) for it in answer.candidates], "")


@click.command()
@json_option
@with_client
async def reasons(client: "Client", as_json: bool) -> None:
    """Count why calls started as they did, waited, and were refused.

    Of all calls of all frontends, each since it began. `docs/explain.md` says what each reason means.
    """
    from lambent.cli.output import facts, print_json, print_table, say_missing

    counted = await client.reasons()
    if as_json:
        print_json(facts(counted))
        return
    rows = [(it.what, it.reason, it.count) for it in counted.counts]
    print_table(("", "reason", "calls"), rows, "No call has ended here yet.")
    say_missing(counted.missing_frontends)


def _compared(it: "Candidate") -> tuple[object, ...]:
    sticky, package = ("yes" if known else "no" for known in (it.sticky, it.package))
    return it.node, f"{it.points:.2f}", it.preferred, sticky, it.instances, package, f"{it.free:.0%}"


def in_one_line(told: "Explanation") -> str:
    isolation = f", isolation {told.isolation}" if told.isolation else ""
    return f"{_start(told)} on {told.node}, instance {told.instance}{isolation}: {_times(told)}"


def _start(told: "Explanation") -> str:
    return f"{told.start} ({told.reason})" if told.reason else told.start


def _times(told: "Explanation") -> str:
    spans = [("waiting", told.waiting_ms)]
    if told.reason == INIT_FAILED:
        return f"waiting {told.waiting_ms:.1f} ms, until the initialisation had failed"
    if told.start == "cold":
        spans += [("starting", told.starting_ms), ("initialising", told.init_ms)]
    if told.start == "snapstart":
        spans += [("starting", told.starting_ms), ("restoring", told.init_ms)]
    spans.append(("running", told.running_ms))
    return ", ".join(f"{name} {ms:.1f} ms" for name, ms in spans)
