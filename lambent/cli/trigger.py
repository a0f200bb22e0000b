"""`lambent trigger`: functions that are called with what comes in queues, streams and folders."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from lambent.cli.connection import with_client
from lambent.cli.options import json_option

if TYPE_CHECKING:
    from lambent.client import Client
    from lambent_proto.v1.triggers_pb2 import Trigger, TriggerSettings

_ARN: Final = "arn:aws:{service}:us-east-1:000000000000:{rest}"
_SHORT: Final = {
    "sqs": ("sqs", "{0}"),
    "kinesis": ("kinesis", "stream/{0}"),
    "kafka": ("lambent-kafka", "{0}"),
    "redis": ("lambent-redis", "{0}"),
    "nats": ("lambent-nats", "{0}"),
    "rabbitmq": ("mq", "broker:{0}:b-0"),
    "folder": ("lambent-folder", "{0}"),
    "s3": ("s3", "{0}"),
}
"""By kind: the service in its ARN, and the rest of it."""


_BEGINNINGS: Final = ("kinesis", "lambent-kafka", "lambent-folder", "s3")
"""Services whose triggers begin with what there is, or with what comes."""


def _source(_: click.Context, __: click.Parameter, text: str) -> dict[str, Any]:
    return named_source(text)


def named_source(text: str) -> dict[str, str]:
    """What a request says of a source, by its ARN or its short name. Raises click.BadParameter."""
    kind, _, rest = text.partition(":")
    if kind == "arn":
        return {"source": text}
    if kind not in _SHORT or not rest:
        raise click.BadParameter(
            f"{text!r} is neither an ARN nor one of sqs:QUEUE, kinesis:STREAM, kafka:NAME/TOPIC, "
            "redis:NAME/STREAM, nats:NAME/STREAM, rabbitmq:NAME/QUEUE, folder:NAME, s3:BUCKET"
        )
    service, form = _SHORT[kind]
    said: dict[str, str] = {}
    if kind in ("rabbitmq", "kafka"):
        rest, slash, queue = rest.partition("/")
        if not (slash and queue):
            what = "queue of RabbitMQ" if kind == "rabbitmq" else "topic of Kafka"
            raise click.BadParameter(f"a {what} is {kind}:NAME/{what.partition(' ')[0].upper()}")
        said["queue"] = queue
    return said | {"source": _ARN.format(service=service, rest=form.format(rest))}


def _filters(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    """A pattern, or `@FILE` with one."""
    try:
        return tuple(Path(it[1:]).read_text() if it.startswith("@") else it for it in given)
    except OSError as error:
        raise click.BadParameter(f"{error.filename} cannot be read: {error.strerror}") from None


def settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(
        (
            click.option("--batch-size", type=int, metavar="N", help="Most records of one call."),
            click.option(
                "--window",
                "window_s",
                type=float,
                metavar="S",
                help="How long a batch waits for more records.",
            ),
            click.option(
                "--filter",
                "filters",
                multiple=True,
                callback=_filters,
                metavar="JSON",
                help="A pattern of the records that are wanted, or @FILE. May be repeated: one has to match.",
            ),
            click.option(
                "--partial/--whole",
                default=None,
                help="Whether the function's answer reports which records failed.  [default: whole]",
            ),
            click.option(
                "--max-concurrency",
                type=int,
                metavar="N",
                help="Of a queue: calls at one time; 0: any number.",
            ),
            click.option(
                "--parallelization",
                type=int,
                metavar="N",
                help="Of Kinesis: calls at one time for each shard.",
            ),
            click.option("--max-retries", type=int, metavar="N", help="-1: unlimited."),
            click.option(
                "--max-age",
                "max_age_s",
                type=int,
                metavar="S",
                help="Of a stream: records older than that are given up.",
            ),
            click.option(
                "--bisect/--no-bisect", default=None, help="Of a stream: split a batch that fails in two."
            ),
            click.option(
                "--on-failure",
                metavar="DESTINATION",
                help="An ARN or a URL, as of asynchronous calls: told of what is given up. Empty for none.",
            ),
        )
    ):
        command = option(command)
    return command


def _settings(given: dict[str, Any]) -> "TriggerSettings":
    from lambent_proto.v1.triggers_pb2 import Filters, TriggerSettings

    filters = given.pop("filters", ())
    settings = TriggerSettings(**{key: value for key, value in given.items() if value is not None})
    if filters:
        settings.filters.CopyFrom(Filters(patterns=[it for it in filters if it]))
    return settings


@click.group()
def trigger() -> None:
    """Call functions with what comes in queues, streams and folders: docs/triggers.md."""


@trigger.command("create")
@click.argument("function", metavar="FUNCTION[:QUALIFIER]")
@click.argument("source", callback=_source)
@settings_options
@click.option(
    "--from",
    "starting_position",
    type=click.Choice(["oldest", "now"]),
    default="now",
    show_default=True,
    help="Of a stream, a folder, a bucket: where to begin.",
)
@click.option(
    "--consumer-group",
    default="",
    metavar="NAME",
    help="Of Kafka: whose offsets are kept, and begun at if there are any.  [default: one of its own]",
)
@click.option("--disabled", is_flag=True, help="Not yet: `lambent trigger enable` begins.")
@json_option
@with_client
async def create(
    client: "Client",
    function: str,
    source: dict[str, Any],
    starting_position: str,
    consumer_group: str,
    disabled: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Call FUNCTION with the records of SOURCE.

    \b
    SOURCE is an ARN, or one of
      sqs:QUEUE                 where the frontends' setting `sources` has sqs=URL, else AWS
      kinesis:STREAM            the same with kinesis=URL
      kafka:NAME/TOPIC          a topic of the Kafka that `sources` calls NAME
      redis:NAME/STREAM         a Redis that `sources` calls NAME
      nats:NAME/STREAM          a JetStream of the NATS that `sources` calls NAME
      rabbitmq:NAME/QUEUE       a queue of the broker that `sources` calls NAME
      folder:NAME[/PREFIX]      files that appear in the folder that `sources` calls NAME
      s3:BUCKET[/PREFIX]        objects that appear in a bucket, where `sources` has s3=URL, else AWS
    """
    settings = _settings(given)
    settings.enabled = not disabled
    if any(f":{it}:" in source["source"] for it in _BEGINNINGS):
        source["starting_position"] = {"oldest": "TRIM_HORIZON", "now": "LATEST"}[starting_position]
    made = await client.triggers.create(function, **source, consumer_group=consumer_group, settings=settings)
    _print(made, as_json=as_json)


@trigger.command("ls")
@click.argument("function", default="", metavar="[FUNCTION]")
@json_option
@with_client
async def ls(client: "Client", function: str, as_json: bool) -> None:
    """List all triggers, or those of one function: state, lag, rate and last error."""
    from lambent.cli.output import facts, print_json, print_table

    triggers = await client.triggers.list(function)
    if as_json:
        print_json([facts(it) for it in triggers])
        return
    rows = [
        (it.id, _function(it), _place(it), it.state, it.lag if it.HasField("lag") else "", f"{it.rate:g}/s",
         it.last_error[:80])
        for it in triggers
    ]  # fmt: skip
    columns = ("trigger", "function", "source", "state", "lag", "rate", "last error")
    print_table(columns, rows, "No triggers yet: `lambent trigger create` makes one.")


@trigger.command("get")
@click.argument("trigger_id", metavar="TRIGGER")
@json_option
@with_client
async def get(client: "Client", trigger_id: str, as_json: bool) -> None:
    """Show one trigger."""
    _print(await client.triggers.get(trigger_id), as_json=as_json)


@trigger.command("update")
@click.argument("trigger_id", metavar="TRIGGER")
@click.option("--function", "function_name", default="", metavar="NAME[:QUALIFIER]", help="Call this one.")
@settings_options
@json_option
@with_client
async def update(client: "Client", trigger_id: str, function_name: str, as_json: bool, **given: Any) -> None:
    """Change what is given. `--filter ''` takes all filters away."""
    settings = _settings(given)
    _print(await client.triggers.update(trigger_id, settings, function_name=function_name), as_json=as_json)


@trigger.command("enable")
@click.argument("trigger_id", metavar="TRIGGER")
@json_option
@with_client
async def enable(client: "Client", trigger_id: str, as_json: bool) -> None:
    """Begin, or go on."""
    _print(await client.triggers.update(trigger_id, _settings({"enabled": True})), as_json=as_json)


@trigger.command("disable")
@click.argument("trigger_id", metavar="TRIGGER")
@json_option
@with_client
async def disable(client: "Client", trigger_id: str, as_json: bool) -> None:
    """Stop reading. A stream is gone on with where it was left."""
    _print(await client.triggers.update(trigger_id, _settings({"enabled": False})), as_json=as_json)


@trigger.command("delete")
@click.argument("trigger_id", metavar="TRIGGER")
@with_client
async def delete(client: "Client", trigger_id: str) -> None:
    """Delete a trigger, once the calls under way are over. The source keeps what it has."""
    await client.triggers.delete(trigger_id)
    click.echo(f"{trigger_id} is being deleted.", err=True)


def _function(it: "Trigger") -> str:
    return f"{it.function_name}:{it.qualifier}" if it.qualifier else it.function_name


def _place(it: "Trigger") -> str:
    return f"{it.source}/{it.queue}" if it.queue else it.source


def _print(it: "Trigger", *, as_json: bool) -> None:
    from lambent.cli.output import facts, print_facts, print_json

    known = facts(it)
    if as_json:
        print_json(known)
        return
    settings = known["settings"]
    settings["filters"] = " ".join(it.settings.filters.patterns)
    print_facts(
        {
            "trigger": it.id,
            "function": _function(it),
            "source": _place(it),
            "state": it.state,
            "last result": it.last_result,
            "last error": it.last_error,
            "lag": it.lag if it.HasField("lag") else "",
            "rate": f"{it.rate:g}/s, {it.records:,} records since {it.frontend or 'no frontend'} has it",
            **settings,
            "changed": known["last_modified"],
        }
    )
