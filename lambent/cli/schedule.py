"""`lambent schedule`: functions that are invoked by the clock."""

from typing import TYPE_CHECKING, Any, BinaryIO

import click

from lambent.cli.connection import with_client
from lambent.cli.options import json_option

if TYPE_CHECKING:
    from lambent.client import Client
    from lambent_proto.v1.schedules_pb2 import Schedule, ScheduleSettings


def _settings_options(command: Any) -> Any:
    for option in (
        click.option(
            "--jitter", "jitter_s", type=float, metavar="S", help="Put each time off by up to this."
        ),
        click.option(
            "--misfire",
            type=click.Choice(["skip", "once", "all"]),
            help="What to do with times that were missed as nobody was there.  [default: once]",
        ),
        click.option(
            "--overlap",
            type=click.Choice(["allow", "forbid", "replace"]),
            help="What to do when the event of the time before still waits or runs.  [default: allow]",
        ),
        click.option("-f", "--file", type=click.File("rb"), metavar="FILE", help="A file with the event."),
        click.option(
            "--event", metavar="JSON", help="Empty: as EventBridge's scheduled events, with the time."
        ),
        click.option(
            "--time-zone",
            metavar="ZONE",
            help="Whose clock cron and at are read on, such as Europe/Berlin.  [default: UTC]",
        ),
    ):
        command = option(command)
    return command


@click.group()
def schedule() -> None:
    """Functions that are invoked by the clock, asynchronously, each time once in the whole fleet.

    An EXPRESSION is 'rate(5 minutes)', 'cron(0 9 ? * MON-FRI *)' or 'at(2026-12-24T18:00:00)', as Amazon
    EventBridge has them: docs/schedules.md.
    """


@schedule.command("create")
@click.argument("name")
@click.argument("expression")
@click.option("--function", "function_name", required=True, metavar="F", help="Or F:VERSION_OR_ALIAS.")
@_settings_options
@click.option("--disabled", is_flag=True, help="It does not fire before it is enabled.")
@json_option
@with_client
async def create(client: "Client", name: str, disabled: bool, as_json: bool, **given: Any) -> None:
    """Invoke a function at these times.

    \b
    lambent schedule create nightly --function report 'cron(0 2 * * ? *)' --time-zone Europe/Berlin
    """
    made = await client.schedules.create(name, _settings(given, enabled=False if disabled else None))
    _print(made, as_json=as_json)


@schedule.command("update")
@click.argument("name")
@click.argument("expression", required=False)
@click.option("--function", "function_name", metavar="F", help="Or F:VERSION_OR_ALIAS.")
@_settings_options
@json_option
@with_client
async def update(client: "Client", name: str, as_json: bool, **given: Any) -> None:
    """Change what is given, and leave the rest. Other times count from now."""
    _print(await client.schedules.update(name, _settings(given)), as_json=as_json)


@schedule.command("enable")
@click.argument("name")
@with_client
async def enable(client: "Client", name: str) -> None:
    """Let it fire again. Its times count from now: none of those before is made up for."""
    await client.schedules.update(name, _settings({}, enabled=True))


@schedule.command("disable")
@click.argument("name")
@with_client
async def disable(client: "Client", name: str) -> None:
    """Let it fire no more. What it has begun goes on."""
    await client.schedules.update(name, _settings({}, enabled=False))


@schedule.command("get")
@click.argument("name")
@json_option
@with_client
async def get(client: "Client", name: str, as_json: bool) -> None:
    """Show a schedule: what it is, when it is due next, and what became of the last time."""
    _print(await client.schedules.get(name), as_json=as_json)


@schedule.command("ls")
@json_option
@with_client
async def ls(client: "Client", as_json: bool) -> None:
    """List the schedules."""
    from lambent.cli.output import facts, print_json, print_table

    found = [(it, facts(it)) for it in await client.schedules.ls()]
    if as_json:
        print_json([told for _, told in found])
        return
    columns = ("name", "function", "expression", "next due", "last due", "last outcome")
    rows = [
        (
            it.name,
            it.settings.function_name,
            it.settings.expression,
            told["next_due"] or ("never" if it.settings.enabled else "disabled"),
            told["last_due"] or "",
            it.last_outcome or it.left_out,
        )
        for it, told in found
    ]
    print_table(columns, rows, "There are no schedules.")


@schedule.command("delete")
@click.argument("name")
@with_client
async def delete(client: "Client", name: str) -> None:
    """Delete a schedule. What it has begun goes on."""
    await client.schedules.delete(name)
    click.echo(f"{name} is no schedule any more.", err=True)


def _settings(given: dict[str, Any], *, enabled: bool | None = None) -> "ScheduleSettings":
    """What is given; it is None where it is not."""
    from lambent_proto.v1.schedules_pb2 import ScheduleSettings

    text: str | None = given.pop("event", None)
    file: BinaryIO | None = given.pop("file", None)
    if text is not None and file is not None:
        raise click.UsageError("Give the event once: --event JSON or -f FILE.")
    event = file.read() if file is not None else None if text is None else text.encode()
    return ScheduleSettings(event=event, enabled=enabled, **given)


def _print(schedule: "Schedule", *, as_json: bool) -> None:
    from lambent.cli.output import facts, print_facts, print_json

    told = facts(schedule)
    if as_json:
        print_json(told)
        return
    settings = schedule.settings
    print_facts(
        {
            "schedule": schedule.name,
            "function": settings.function_name,
            "expression": settings.expression,
            "time zone": settings.time_zone,
            "event": settings.event.decode(errors="replace"),
            "overlap": settings.overlap,
            "misfire": settings.misfire,
            "jitter": f"{settings.jitter_s:g} s" if settings.jitter_s else "",
            "counts from": told["counts_from"],
            "next due": told["next_due"] or ("never" if settings.enabled else "disabled"),
            "last due": told["last_due"],
            "fired": told["last_fired"],
            "request": schedule.last_request_id,
            "by": schedule.last_frontend,
            "outcome": schedule.last_outcome,
            "left out": schedule.left_out,
        }
    )
