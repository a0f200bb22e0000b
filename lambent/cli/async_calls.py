"""`lambent async`: what became of asynchronous calls, and what is configured for them."""

from typing import TYPE_CHECKING, Any

import click

from lambent.cli.connection import with_client
from lambent.cli.options import json_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lambent.client import Client
    from lambent_proto.v1.async_invocations_pb2 import AsyncInvocation, EventInvokeConfig


@click.group("async")
def async_calls() -> None:
    """Look up, cancel and run again what `lambent invoke --async` and other asynchronous calls began.

    Whichever frontend is asked asks the others as well. `docs/async.md` says what each state means.
    """


@async_calls.command("get")
@click.argument("name")
@click.argument("request_id")
@json_option
@with_client
async def get(client: "Client", name: str, request_id: str, as_json: bool) -> None:
    """Say what became of a call, with its answer if it has one."""
    _print(await client.async_invocations.get(name, request_id), as_json=as_json)


@async_calls.command("ls")
@click.argument("name")
@click.option("--state", default="", metavar="STATE", help="Only those, such as dead or queued.")
@click.option("--most", type=click.IntRange(min=1), default=1000, show_default=True, metavar="N")
@json_option
@with_client
async def ls(client: "Client", name: str, state: str, most: int, as_json: bool) -> None:
    """List a function's calls, the oldest first."""
    from lambent.cli.output import facts, print_json, print_table, say_missing

    missing: set[str] = set()
    found = await client.async_invocations.ls(name, state=state, most=most, missing=missing)
    if as_json:
        print_json([facts(it) for it in found])
        return
    rows = [
        (it.request_id, it.state, it.attempts, facts(it)["received"], it.condition, it.message)
        for it in found
    ]
    print_table(
        ("request", "state", "attempts", "received", "condition", "message"), rows, "None is known here."
    )
    say_missing(missing)


@async_calls.command("cancel")
@click.argument("name")
@click.argument("request_id")
@json_option
@with_client
async def cancel(client: "Client", name: str, request_id: str, as_json: bool) -> None:
    """Have a call not run, or not again. What runs just now is finished, and nobody hears of it."""
    _print(await client.async_invocations.cancel(name, request_id), as_json=as_json)


@async_calls.command("redrive")
@click.argument("name")
@click.argument("request_ids", nargs=-1, metavar="[REQUEST_ID]...")
@click.option("--all", "every", is_flag=True, help="All that are dead.")
@json_option
@with_client
async def redrive(
    client: "Client", name: str, request_ids: tuple[str, ...], every: bool, as_json: bool
) -> None:
    """Run calls again that were given up: each has all its attempts again."""
    from lambent.cli.output import facts, print_json

    if every == bool(request_ids):
        raise click.UsageError("Name the calls, or take --all that are dead.")
    calls = client.async_invocations
    if every:
        request_ids = tuple(it.request_id for it in await calls.ls(name, state="dead", most=1_000_000))
    driven = [await calls.redrive(name, request_id) for request_id in request_ids]
    if as_json:
        print_json([facts(it) for it in driven])
    else:
        click.echo(f"{len(driven)} run again.", err=True)


@async_calls.command("queue")
@json_option
@with_client
async def queue(client: "Client", as_json: bool) -> None:
    """Say how long the queue of each frontend is, and how full."""
    from lambent.cli.output import facts, print_facts, print_json, say_missing, size

    told = await client.async_invocations.queue()
    if as_json:
        print_json(facts(told))
        return
    for it in (told, *told.others):
        used = f"{size(it.bytes)} of {size(it.most_bytes)}"
        print_facts({"frontend": it.frontend, **dict(sorted(it.by_state.items())), "in use": used})
    say_missing(told.missing_frontends)


@async_calls.group("config")
def config() -> None:
    """How often a function's asynchronous calls are tried, and where what became of them is sent."""


@config.command("set")
@click.argument("name")
@click.option("--qualifier", default="", metavar="Q", help="A version or an alias.")
@click.option("--retries", type=int, metavar="N", help="After the function failed.  [default: 2]")
@click.option("--max-age", "most_age_s", type=int, metavar="S", help="Of an event.  [default: 21600]")
@click.option(
    "--delay",
    "delays_s",
    type=float,
    multiple=True,
    metavar="S",
    help="Before each retry; the last goes for all that follow.  [default: 60, 120]",
)
@click.option("--on-success", metavar="DESTINATION", help="An ARN or a URL; empty for none.")
@click.option("--on-failure", metavar="DESTINATION", help="An ARN or a URL; empty for none.")
@json_option
@with_client
async def set_config(
    client: "Client", name: str, qualifier: str, delays_s: tuple[float, ...], as_json: bool, **options: Any
) -> None:
    """Change what is given and leave the rest."""
    changed = await client.async_invocations.configure(name, qualifier, delays_s=delays_s, **options)
    _print_configs([changed], as_json=as_json)


@config.command("ls")
@click.argument("name")
@json_option
@with_client
async def ls_configs(client: "Client", name: str, as_json: bool) -> None:
    """List what is configured for the function, its versions and its aliases."""
    _print_configs(await client.async_invocations.configs(name), as_json=as_json)


@config.command("delete")
@click.argument("name")
@click.option("--qualifier", default="", metavar="Q", help="A version or an alias.")
@with_client
async def delete_config(client: "Client", name: str, qualifier: str) -> None:
    """Go back to the defaults."""
    await client.async_invocations.unconfigure(name, qualifier)


def _print(call: "AsyncInvocation", *, as_json: bool) -> None:
    from lambent.cli.output import facts, print_facts, print_json

    told = facts(call)
    if as_json:
        print_json(told)
        return
    qualifier = f":{call.qualifier}" if call.qualifier else ""
    print_facts(
        {
            "request": call.request_id,
            "function": call.function_name + qualifier,
            "state": call.state,
            "attempts": call.attempts,
            "not counted": call.breaks or "",
            "received": told["received"],
            "due": told["due"],
            "ended": told["ended"],
            "condition": call.condition,
            "message": call.message,
            "version": call.executed_version,
            "error": call.function_error,
            "answer": call.payload.decode(errors="replace"),
        }
    )


def _print_configs(configs: "Sequence[EventInvokeConfig]", *, as_json: bool) -> None:
    from lambent.cli.output import facts, print_json, print_table

    if as_json:
        print_json([facts(it) for it in configs])
        return
    rows = [
        (
            it.qualifier,
            it.settings.retries if it.settings.HasField("retries") else "2",
            it.settings.most_age_s if it.settings.HasField("most_age_s") else "21600",
            ", ".join(f"{delay:g}" for delay in it.settings.delays_s) or "60, 120",
            it.settings.on_success,
            it.settings.on_failure,
        )
        for it in configs
    ]
    columns = ("qualifier", "retries", "max age s", "delays s", "on success", "on failure")
    print_table(columns, rows, "Nothing is configured: the defaults are Lambda's.")
