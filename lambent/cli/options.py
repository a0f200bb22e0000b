"""Options that several commands share."""

import os
import re
from collections.abc import Callable
from typing import Any, Final

import click

from lambent_proto import labels

Command = Callable[..., Any]


def json_option(command: Command) -> Command:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


BACKENDS: Final = ("namespaces", "bwrap", "gvisor", "landlock", "process")
LEVELS: Final = ("none", "landlock", "namespaces-user", "namespaces", "gvisor")
"""As the worker's settings have them, which take too long to load for a word of help."""


def isolation_options(command: Command) -> Command:
    """Passed on under the names of the settings, None where not given."""
    sandbox = click.option(
        "--sandbox", type=click.Choice(BACKENDS), envvar="LAMBENT_SANDBOX", help="What isolates instances."
    )
    required = click.option(
        "--require-isolation",
        type=click.Choice(LEVELS),
        envvar="LAMBENT_REQUIRE_ISOLATION",
        help="A worker that reaches less on its host does not start.",
    )
    return sandbox(required(command))


shards_option = click.option("--shards", type=int, metavar="N", help="How many shards the fleet has.")
"""Passed on under the name of the setting, None where not given; as is the next one."""

shard_option = click.option(
    "--shard", type=int, metavar="K", help="The shard that it belongs to; the first is 0."
)


class Concurrency(click.ParamType[Any]):
    """A number of instances, or `default` for the fleet's own limit."""

    name = "N|default"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "default" or isinstance(value, int):
            return value
        if not value.isdecimal():
            self.fail(f"{value!r} is neither a number of instances nor `default`", param, ctx)
        return int(value)


NONE: Final = "none"
"""In the place of layers or labels: take all of them away."""

_VERSION: Final = re.compile(r"(?:arn:.+:layer:)?([\w-]+):(\d{1,9})", re.ASCII)


def named_version(text: str) -> tuple[str, int]:
    """Name and version of NAME:VERSION or of an ARN. Raises click.BadParameter."""
    if match := _VERSION.fullmatch(text):
        return match[1], int(match[2])
    raise click.BadParameter(f"{text!r} is neither NAME:VERSION nor the ARN of a layer's version")


def _destination(_: click.Context, __: click.Parameter, given: str | None) -> str | None:
    return "" if given == NONE else given


def _layers(_: click.Context, __: click.Parameter, versions: tuple[str, ...]) -> tuple[str, ...] | None:
    if versions == (NONE,):
        return ()
    for version in versions:
        named_version(version)
    return versions or None


def _labels(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...] | None:
    if given == (NONE,):
        return ()
    if wrong := [label for label in given if not labels.is_label(label)]:
        raise click.BadParameter(f"{wrong[0]!r} is not {labels.FORM}")
    return given or None


publish_option = click.option(
    "--publish", is_flag=True, help="Make a version of it as well: there are both afterwards, or neither."
)


def pairs_of(pairs: tuple[str, ...]) -> dict[str, str]:
    """Raises click.BadParameter."""
    if wrong := [pair for pair in pairs if not pair.partition("=")[0] or "=" not in pair]:
        raise click.BadParameter(f"{wrong[0]!r} is not KEY=VALUE")
    return dict(pair.split("=", 1) for pair in pairs)


tag_option = click.option(
    "--tag",
    "tags",
    multiple=True,
    metavar="K=V",
    callback=lambda _, __, pairs: pairs_of(pairs),
    help="A tag. May be repeated; those that are there and are not named stay.",
)


def _variables(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> dict[str, str] | None:
    """A name alone has this command's own value: what is on a command line everybody here can read."""
    return pairs_of(tuple(it if "=" in it else f"{it}={_own(it)}" for it in given)) or None


def _own(name: str) -> str:
    if name not in os.environ:
        raise click.BadParameter(f"{name!r} is neither KEY=VALUE nor a variable that is set here")
    return os.environ[name]


def configuration_options(command: Command) -> Command:
    """What a function is apart from its code; passed on under the client's names, None where not given."""
    for option in reversed(
        [
            click.option("--runtime", metavar="R", help="For example python3.11."),
            click.option("--handler", metavar="MODULE.FUNCTION", help="What is called with each event."),
            click.option("--memory", "memory_mb", type=int, metavar="MB", help="128 to 10240, at first 128."),
            click.option("--timeout", "timeout_s", type=float, metavar="S", help="Up to 900, at first 3."),
            click.option(
                "--env",
                "environment",
                multiple=True,
                metavar="K[=V]",
                callback=_variables,
                help="An environment variable; without =V it has the value it has here. May be repeated; "
                "together they replace all earlier ones.",
            ),
            click.option(
                "--concurrency",
                type=Concurrency(),
                help="Most instances over the whole fleet; 0 switches the function off.",
            ),
            click.option(
                "--layer",
                "layers",
                multiple=True,
                metavar="NAME:VERSION",
                callback=_layers,
                help="A layer's version. May be repeated, at most five, later ones win; "
                f"together they replace all earlier ones. `{NONE}` takes all away.",
            ),
            click.option(
                "--tmp", "tmp_mb", type=int, metavar="MB", help="Of /tmp: 512 to 10240, at first 512."
            ),
            click.option(
                "--network/--no-network",
                default=None,
                help="Whether it reaches the network outside of its host; at first not.",
            ),
            click.option(
                "--snapstart/--no-snapstart",
                default=None,
                help="Whether it is forked from a process that has imported its code; Python only.",
            ),
            click.option(
                "--require",
                multiple=True,
                metavar="K=V",
                callback=_labels,
                help="A label without which a node is not taken. May be repeated; together they replace all "
                f"earlier ones. `{NONE}` takes all away.",
            ),
            click.option(
                "--prefer",
                multiple=True,
                metavar="K=V",
                callback=_labels,
                help="A label that makes a node be taken first. May be repeated, as `--require`.",
            ),
            click.option(
                "--apart/--no-apart",
                default=None,
                help="Whether its instances are kept on different nodes, as far as that goes.",
            ),
            click.option(
                "--dead-letter",
                metavar="DESTINATION",
                callback=_destination,
                help="An ARN or a URL where events go that were given up: docs/async.md. "
                f"`{NONE}` takes it away.",
            ),
            click.option("--description", metavar="TEXT"),
            click.option("--role", metavar="ARN", help="Kept and shown; it gives no rights."),
        ]
    ):
        command = option(command)
    return command
