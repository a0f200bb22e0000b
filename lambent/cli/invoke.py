"""`lambent invoke`: calls a function."""

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypedDict

import click

from lambent.cli.connection import with_client
from lambent.cli.options import json_option

if TYPE_CHECKING:
    from lambent.client import Client
    from lambent.messages import Invocation, Priority

FUNCTION_FAILED: Final = 1
SLOW_S: Final = 5.0
"""So long nothing is said of a call that has no answer."""


@click.command()
@click.argument("name")
@click.argument("stdin", type=click.Choice(["-"]), required=False, metavar="[-]")
@click.option("-d", "--data", metavar="JSON", help="The event.")
@click.option("-f", "--file", type=click.File("rb"), metavar="FILE", help="A file that holds the event.")
@click.option("--qualifier", metavar="Q", help="A version or an alias.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=0, min_open=True), metavar="S")
@click.option(
    "--priority",
    type=click.Choice(["high", "normal", "low"]),
    default="normal",
    show_default=True,
    help="Who is served first of those that wait for the same function.",
)
@click.option("--tenant", default="", metavar="NAME", help="On whose behalf: tenants that wait take turns.")
@click.option(
    "--sticky-key",
    default="",
    metavar="KEY",
    help="Prefer the instance, or else the node, that served this key last.",
)
@click.option(
    "--async", "as_event", is_flag=True, help="Do not wait: print the request id, once it is on disk."
)
@click.option(
    "--idempotency-key",
    default="",
    metavar="KEY",
    help="Calls with one key are run once, and answered alike.",
)
@click.option("--dry-run", is_flag=True, help="Run nothing: check, and print the version that would run.")
@click.option("--stream", is_flag=True, help="Print the answer in parts, as the function writes them.")
@click.option("--tail", is_flag=True, help="Print the end of its log to standard error.")
@click.option("-v", "--verbose", is_flag=True, help="Say on standard error how, why and where it started.")
@json_option
@with_client
async def invoke(
    client: "Client",
    name: str,
    stdin: str | None,
    data: str | None,
    file: BinaryIO | None,
    qualifier: str | None,
    timeout_s: float | None,
    priority: "Priority",
    tenant: str,
    sticky_key: str,
    as_event: bool,
    idempotency_key: str,
    dry_run: bool,
    stream: bool,
    tail: bool,
    verbose: bool,
    as_json: bool,
) -> int:
    """Call a function and print its answer.

    The event is -d JSON, or the content of -f FILE, or with `-` standard input; else `{}`. The exit code is
    1 if the function failed.
    """
    _check_together(
        stream=stream,
        as_event=as_event,
        as_json=as_json,
        waits=tail or timeout_s is not None,
        key=idempotency_key,
    )
    payload = _payload(stdin, data, file)
    target = f"{name}:{qualifier}" if qualifier else name
    if dry_run:
        if as_event or stream or idempotency_key:
            raise click.UsageError(
                "--dry-run runs nothing: leave --async, --stream and --idempotency-key out."
            )
        await _check(client, target, as_json)
        return 0
    if as_event:
        rights = {"priority": priority, "tenant": tenant, "sticky_key": sticky_key}
        await _begin(client, target, payload, as_json, idempotency_key=idempotency_key, **rights)
        return 0
    wanted: _Wanted = {
        "tail": tail or as_json,
        "timeout_s": timeout_s,
        "priority": priority,
        "tenant": tenant,
        "sticky_key": sticky_key,
    }
    if stream:
        done = await _streamed(client, target, payload, wanted)
    else:
        with told_if_slow():
            done = await client.invoke(target, payload, idempotency_key=idempotency_key, **wanted)
    if as_json:
        _print_json(done)
    elif not stream:
        sys.stdout.buffer.write(done.payload + b"\n")
    if tail:
        click.echo(done.tail.decode(errors="replace"), err=True, nl=not done.tail.endswith(b"\n"))
    if verbose:
        from lambent.cli.explain import in_one_line

        click.echo(f"{in_one_line(done.explanation)}; request {done.request_id}", err=True)
    if done.function_error:
        click.echo(f"lambent: the function failed: {_reason(done.payload)}", err=True)
        return FUNCTION_FAILED
    return 0


@contextmanager
def told_if_slow() -> Iterator[None]:
    """On a terminal: a call waits in line as long as its deadline allows, whatever the reason."""

    def say() -> None:
        click.echo(
            "No answer yet: it runs, or waits until an instance can be started. `lambent top` shows which, "
            "`lambent nodes` whether there are workers. Ctrl-C gives it up.",
            err=True,
        )

    if not sys.stderr.isatty():
        yield
        return
    later = asyncio.get_running_loop().call_later(SLOW_S, say)
    try:
        yield
    finally:
        later.cancel()


def _check_together(*, stream: bool, as_event: bool, as_json: bool, waits: bool, key: str) -> None:
    """`waits`: an option is given that says something of a call that is waited for."""
    if as_event and (waits or stream):
        raise click.UsageError(
            "--tail, --stream and --timeout are for calls that are waited for, not with --async."
        )
    if stream and as_json:
        raise click.UsageError("--stream prints the answer as it comes, and --json what is known at its end.")
    if stream and key:
        raise click.UsageError("A streamed answer is not kept: --idempotency-key does not go with --stream.")


async def _check(client: "Client", target: str, as_json: bool) -> None:
    version = await client.dry_run(target)
    if as_json:
        from lambent.cli.output import print_json

        print_json({"executed_version": version})
    else:
        click.echo(version)


async def _begin(client: "Client", target: str, payload: bytes, as_json: bool, **said: Any) -> None:
    request_id = await client.async_invocations.begin(target, payload, **said)
    if as_json:
        from lambent.cli.output import print_json

        print_json({"request_id": request_id})
    else:
        click.echo(request_id)


class _Wanted(TypedDict):
    """What may be said with an invocation, whole or in parts."""

    tail: bool
    timeout_s: float | None
    priority: "Priority"
    tenant: str
    sticky_key: str


async def _streamed(client: "Client", target: str, payload: bytes, wanted: _Wanted) -> "Invocation":
    """Prints the answer, and returns what is known at its end; its payload is the error, if there is one."""
    from lambent.messages import Invocation

    out = sys.stdout.buffer
    async with client.invoke_with_response_stream(target, payload, **wanted) as answer:
        async for part in answer:
            out.write(part)
            out.flush()
    out.write(b"\n")
    return Invocation(
        answer.error,
        answer.function_error,
        answer.request_id,
        answer.executed_version,
        answer.tail,
        answer.explanation,
    )


def _payload(stdin: str | None, data: str | None, file: BinaryIO | None) -> bytes:
    if sum(given is not None for given in (stdin, data, file)) > 1:
        raise click.UsageError("Give the event once: with -d, with -f, or with -.")
    if stdin:
        return sys.stdin.buffer.read()
    if file:
        return file.read()
    return data.encode() if data else b""


def _print_json(done: "Invocation") -> None:
    from lambent.cli.output import facts, print_json

    print_json(
        {
            "payload": _decoded(done.payload),
            "function_error": done.function_error,
            "request_id": done.request_id,
            "executed_version": done.executed_version,
            "log_tail": done.tail.decode(errors="replace"),
            "explanation": facts(done.explanation),
        }
    )


def _decoded(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except ValueError:
        return payload.decode(errors="replace")


def _reason(payload: bytes) -> str:
    match _decoded(payload):
        case {"errorType": str(kind), "errorMessage": str(message)}:
            return f"{kind}: {message}"
        case {"errorMessage": str(message)}:
            return message
        case _:
            return "its answer has the error"
