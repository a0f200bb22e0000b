"""`lambent key`: access keys, written into etcd by who operates the fleet."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lambent.cli.etcd import etcd_options, with_etcd
from lambent.cli.failures import USAGE, FailedCommand
from lambent.cli.options import json_option
from lambent_proto.access import BadRule, Rule

if TYPE_CHECKING:
    from lambent_proto.access import AccessKey


def _rules(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> list[Rule]:
    try:
        return [Rule.parse(text) for text in given]
    except BadRule as error:
        raise click.BadParameter(f"{error}: docs/access.md lists the actions") from error


@click.group()
def key() -> None:
    """Access keys: who may call the fleet, and what they may do.

    These commands write to etcd itself: who operates etcd operates the fleet.
    """


@key.command()
@click.option(
    "--allow",
    "rules",
    multiple=True,
    required=True,
    metavar="ACTION[,...][@FUNCTION[,...]]",
    callback=_rules,
    help="What it may do, with `*` and `?` as in file names; may be repeated. '*' allows everything.",
)
@click.option("--description", default="", metavar="TEXT", help="Whose it is, for `lambent key ls`.")
@etcd_options
@json_option
def create(rules: list[Rule], description: str, config: Path | None, etcd: str | None, as_json: bool) -> None:
    """Make an access key and print it.

    \b
    lambent key create --allow 'InvokeFunction@orders-*' --description 'the shop'
    """
    from lambent import access_keys
    from lambent.cli.output import print_facts, print_json

    made = with_etcd(config, etcd, lambda it: access_keys.create(it, rules, description))
    if as_json:
        print_json(_facts(made) | {"secret": made.secret, "token": made.token})
        return
    print_facts({"id": made.id, "secret": made.secret, "token": made.token, "allows": _allowed(made)})
    click.echo(
        "For AWS clients:     AWS_ACCESS_KEY_ID is the id, AWS_SECRET_ACCESS_KEY the secret.\n"
        "For Lambent's own:   LAMBENT_KEY is the token; others send `authorization: Bearer TOKEN`.\n"
        "Keep it: it is not shown again.",
        err=True,
    )


@key.command("ls")
@etcd_options
@json_option
def ls(config: Path | None, etcd: str | None, as_json: bool) -> None:
    """List the access keys and what they allow, without their secrets."""
    from lambent import access_keys
    from lambent.cli.output import print_json, print_table, time_of

    every = with_etcd(config, etcd, access_keys.every)
    if as_json:
        print_json([_facts(it) for it in every])
        return
    rows = [(it.id, time_of(it.created_at), _allowed(it), it.description) for it in every]
    print_table(("id", "created", "allows", "description"), rows, "There are no access keys.")


@key.command()
@click.argument("key_id", metavar="ID")
@etcd_options
def delete(key_id: str, config: Path | None, etcd: str | None) -> None:
    """Delete an access key: within a second no frontend takes it any more."""
    from lambent import access_keys

    if not with_etcd(config, etcd, lambda it: access_keys.delete(it, key_id)):
        raise FailedCommand(
            f"There is no access key {key_id!r}: `lambent key ls` lists those there are.", USAGE
        )
    click.echo(f"Access key {key_id} is deleted.", err=True)


def _facts(of: "AccessKey") -> dict[str, Any]:
    return {
        "id": of.id,
        "created_at": of.created_at,
        "allows": [str(rule) for rule in of.rules],
        "description": of.description,
    }


def _allowed(of: "AccessKey") -> str:
    return " ".join(map(str, of.rules))
