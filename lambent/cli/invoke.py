"""`lambent invoke`: calls a function."""

import json
import sys
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypedDict

import click

from lambent.cli.connection import with_client
from lambent.cli.options import json_option

if TYPE_CHECKING:
    from lambent.client import Client
    from lambent.messages import Invocation, Priority

FUNCTION_FAILED: Final = 1


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
    stream: bool,
    tail: bool,
    verbose: bool,
    as_json: bool,
) -> int:
    """Call a function and print its answer.

    The event is -d JSON, or the content of -f FILE, or with `-` standard input; else `{}`. The exit code is
    1 if the function failed.
    """
    if stream and as_json:
        raise click.UsageError("--stream prints the answer as it comes, and --json what is known at its end.")
    payload = _payload(stdin, data, file)
    target = f"{name}:{qualifier}" if qualifier else name
    wanted: _Wanted = {
        "tail": tail or as_json,
        "timeout_s": timeout_s,
        "priority": priority,
        "tenant": tenant,
        "sticky_key": sticky_key,
    }
    done = await (_streamed if stream else _whole)(client, target, payload, wanted)
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


class _Wanted(TypedDict):
    """What may be said with an invocation, whole or in parts."""

    tail: bool
    timeout_s: float | None
    priority: "Priority"
    tenant: str
    sticky_key: str


async def _whole(client: "Client", target: str, payload: bytes, wanted: _Wanted) -> "Invocation":
    return await client.invoke(target, payload, **wanted)


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
