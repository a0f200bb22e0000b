"""`lambent cert`: certificates for those who have no CA of their own."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lambent.cli.failures import USAGE, FailedCommand
from lambent.cli.options import json_option

if TYPE_CHECKING:
    from lambent.certificates import Made

SERVED = ("frontend", "placement", "worker", "operator", "etcd", "nats")


@click.group()
def cert() -> None:
    """Certificates for TLS between the parts of a fleet.

    \b
    lambent cert ca --out ca
    lambent cert issue worker w1 --ca ca --out certs
    lambent cert issue etcd e1 --ca ca --out certs --host 10.0.0.5

    Keep the folder with `ca.key` off the fleet's hosts: who has it can be any part.
    """


@cert.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("ca"),
    metavar="DIR",
    show_default=True,
    help="Where ca.crt and ca.key go.",
)
@click.option("--days", type=click.IntRange(1), default=3650, show_default=True, help="How long it is valid.")
@json_option
def ca(out: Path, days: int, as_json: bool) -> None:
    """Make a CA: `ca.crt`, which all parts get, and `ca.key`, which none of them gets."""
    from lambent import certificates

    try:
        made = certificates.make_ca(out, days=days, now=datetime.now(UTC))
    except certificates.CannotSign as error:
        raise FailedCommand(str(error), USAGE) from error
    _print(made, as_json)


@cert.command()
@click.argument("part", type=click.Choice(SERVED))
@click.argument("name")
@click.option(
    "--ca",
    "authority",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path("ca"),
    metavar="DIR",
    show_default=True,
    help="The folder with ca.crt and ca.key.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    metavar="DIR",
    help="Where PART-NAME.crt and PART-NAME.key go; else here.",
)
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="NAME|ADDRESS",
    help="A name or address at which it is reached; for etcd and nats, may be repeated.",
)
@click.option("--days", type=click.IntRange(1), default=365, show_default=True, help="How long it is valid.")
@json_option
def issue(
    part: str, name: str, authority: Path, out: Path, hosts: tuple[str, ...], days: int, as_json: bool
) -> None:
    """Make the certificate of one part, or renew it.

    NAME is what the part is called by its setting `name`. Parts take a renewed certificate by themselves.
    """
    from lambent import certificates

    try:
        made = certificates.issue(authority, part, name, out, hosts=hosts, days=days, now=datetime.now(UTC))
    except certificates.CannotSign as error:
        raise FailedCommand(str(error), USAGE) from error
    _print(made, as_json)


@cert.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@json_option
def show(file: Path, as_json: bool) -> None:
    """Show whose a certificate is, and until when."""
    from lambent import certificates
    from lambent.cli.output import print_facts, print_json

    try:
        shown = certificates.show(file)
    except certificates.CannotSign as error:
        raise FailedCommand(str(error), USAGE) from error
    left = (shown.until - datetime.now(UTC)).days
    facts = {
        "of": shown.of or ("a CA" if shown.ca else "no part of a fleet"),
        "names": ", ".join(shown.names),
        "since": shown.since.isoformat(timespec="seconds"),
        "until": shown.until.isoformat(timespec="seconds"),
        "days_left": left,
        "issuer": shown.issuer,
    }
    if as_json:
        print_json(facts | {"names": shown.names})
    else:
        print_facts(facts)


def _print(made: "Made", as_json: bool) -> None:
    from lambent.cli.output import print_facts, print_json

    facts = {
        "cert": str(made.cert),
        "key": str(made.key),
        "until": made.until.isoformat(timespec="seconds"),
    }
    (print_json if as_json else print_facts)(facts)
