"""`lambent env-key`: the keys that seal the environment variables of functions."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from lambent.cli.etcd import etcd_options, with_etcd
from lambent.cli.failures import USAGE, FailedCommand
from lambent.cli.options import json_option

if TYPE_CHECKING:
    from lambent.environment_keys import Made

NOT_ALL: Final = 1
"""Some are not sealed."""

_folder = click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    metavar="DIR",
    help="Where environment.key and environment.pub are; else here.",
)


@click.group("env-key")
def env_key() -> None:
    """Keys that seal the environment variables of functions.

    Workers have environment.key, which opens them, and frontends environment.pub, which cannot.
    """


@env_key.command()
@_folder
@json_option
def make(out: Path, as_json: bool) -> None:
    """Make a key: environment.key for the workers, environment.pub for the frontends."""
    from lambent import environment_keys

    try:
        _print(environment_keys.make(out), as_json)
    except environment_keys.CannotMake as error:
        raise FailedCommand(str(error), USAGE) from error


@env_key.command()
@_folder
@json_option
def rotate(out: Path, as_json: bool) -> None:
    """Put a new key in front of those in both files.

    Give environment.key to the workers first, then environment.pub to the frontends, and then `reseal`.
    """
    from lambent import environment_keys

    try:
        _print(environment_keys.rotate(out), as_json)
    except environment_keys.CannotMake as error:
        raise FailedCommand(str(error), USAGE) from error


@env_key.command()
@click.option(
    "--key",
    "private",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The private keys. The first one seals; it and the others open what is there.",
)
@etcd_options
@json_option
def reseal(private: Path, config: Path | None, etcd: str | None, as_json: bool) -> int:
    """Seal what etcd has with the first key, whether it was sealed with another one or not at all.

    Instances stay as they are. What etcd had before is in its history until it is compacted and defragmented.
    """
    from lambent import environment_keys
    from lambent.cli.output import print_facts, print_json
    from lambent_chassis import core_dumps
    from lambent_chassis.sealing import BadKeys

    core_dumps.forbid()
    try:
        done = with_etcd(config, etcd, lambda it: environment_keys.reseal(it, private))
    except BadKeys as error:
        raise FailedCommand(str(error), USAGE) from error
    facts = {"sealed": done.sealed, "untouched": done.untouched, "left": done.left}
    if as_json:
        print_json(facts)
    else:
        print_facts(facts | {"left": len(done.left)})
        for line in done.left:
            click.echo(line, err=True)
    return NOT_ALL if done.left else 0


@env_key.command()
@click.argument("function")
@click.argument("variable")
@click.option(
    "--public-key",
    "public",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The fleet's environment.pub.",
)
def seal(function: str, variable: str, public: Path) -> None:
    """Seal a value, which standard input gives, for one variable of a function.

    What is printed may be given in the value's place, and is what the function's configuration shows, so that
    it can stand in a template or a repository. A line's end behind the value is left out.
    """
    from lambent import environment_keys
    from lambent_chassis.sealing import BadKeys

    if sys.stdin.isatty():
        value = str(click.prompt(f"{variable} of {function}", hide_input=True, err=True))
    else:
        value = sys.stdin.read().removesuffix("\n")
    try:
        click.echo(environment_keys.sealed_for(public, function, variable, value))
    except (BadKeys, environment_keys.CannotSeal) as error:
        raise FailedCommand(str(error), USAGE) from error


def _print(made: "Made", as_json: bool) -> None:
    from lambent.cli.output import print_facts, print_json

    facts = {"private": str(made.private), "public": str(made.public)}
    if as_json:
        print_json(facts | {"keys": made.ids})
    else:
        print_facts(facts | {"keys": ", ".join(made.ids)})
