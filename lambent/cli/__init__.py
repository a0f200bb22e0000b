"""The command line. Each command's module imports what it needs when it runs, so that `--help` is quick."""

import os
import sys
from typing import Final, NoReturn

import click

from lambent.cli.async_calls import async_calls
from lambent.cli.cert import cert
from lambent.cli.deploy import deploy
from lambent.cli.doctor import doctor
from lambent.cli.drain import drain
from lambent.cli.env_key import env_key
from lambent.cli.explain import explain, reasons
from lambent.cli.failures import FailedCommand, explained
from lambent.cli.fleet import concurrency, nodes, ps
from lambent.cli.function import function
from lambent.cli.invoke import invoke
from lambent.cli.key import key
from lambent.cli.layer import layer
from lambent.cli.loadtest import loadtest
from lambent.cli.logs import logs
from lambent.cli.parts import frontend, placement, worker
from lambent.cli.runtimes import runtimes
from lambent.cli.schedule import schedule
from lambent.cli.shadow import shadow
from lambent.cli.simulate import simulate
from lambent.cli.top import top
from lambent.cli.trigger import trigger
from lambent.cli.up import up
from lambent.cli.url import permission, url
from lambent.cli.version import alias, provisioned, version

INTERRUPTED: Final = 130
"""As shells have it: 128 and the number of SIGINT."""

NOBODY_READS: Final = 1
"""Whoever read has left, as `head` does. The code is click's, which sees most of these first."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="lambent", message="%(prog)s %(version)s")
def lambent() -> None:
    """A self-hosted function fleet: Lambda packages on your own machines."""


for command in (
    up,
    deploy,
    function,
    version,
    alias,
    provisioned,
    url,
    permission,
    layer,
    trigger,
    invoke,
    async_calls,
    schedule,
    logs,
    ps,
    top,
    nodes,
    drain,
    concurrency,
    cert,
    key,
    env_key,
    runtimes,
    explain,
    reasons,
    shadow,
    simulate,
    loadtest,
):
    lambent.add_command(command)
for part in (frontend, placement, worker):
    lambent.add_command(part)
worker.add_command(doctor)


def main() -> NoReturn:
    """Exit codes: 0, 1 for a function's error, 2 for wrong usage, 3 for an error of the service.

    And of `loadtest` 4 for a run that is void.
    """
    sys.exit(_run())


def _run() -> int:
    try:
        with explained():
            code: int | None = lambent.main(prog_name="lambent", standalone_mode=False)
            sys.stdout.flush()
    except FailedCommand as failed:
        click.echo(f"lambent: {failed.message}", err=True)
        return failed.exit_code
    except click.ClickException as mistake:
        mistake.show()
        return mistake.exit_code
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # Without this the interpreter complains once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOBODY_READS
    return code or 0
