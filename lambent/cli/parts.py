"""`lambent frontend`, `placement` and `worker`: one part of a fleet as a process of its own."""

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lambent.cli.failures import USAGE, FailedCommand
from lambent.cli.options import isolation_options, shard_option, shards_option

if TYPE_CHECKING:
    from lambent_chassis.serve import Started
    from lambent_chassis.settings import Settings

S = TypeVar("S", bound="Settings")


def part_options(command: Callable[..., Any]) -> Callable[..., Any]:
    config = click.option(
        "--config",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="TOML; each key may also be given as LAMBENT_<KEY> in the environment, which beats the file.",
    )
    parent = click.option(
        "--die-with-parent", "parent", type=int, metavar="PID", help="End when PID, the parent, ends (Linux)."
    )
    return config(parent(command))


@click.command()
@part_options
@shards_option
@click.option(
    "--processes", type=int, metavar="N", help="So many frontends share the ports, each on a core of its own."
)
def frontend(config: Path | None, parent: int | None, **options: int | None) -> int:
    """Run a frontend: it takes the calls."""
    from lambent import processes
    from lambent_frontend.settings import FrontendSettings

    def run(settings: FrontendSettings, started: "Started") -> Awaitable[None]:
        if settings.processes > 1:
            return processes.run(settings, config, started)
        from lambent_frontend import main

        return main.run(settings, started)

    return _serve("frontend", FrontendSettings, run, config, parent, options, processes.check_queues)


@click.command()
@part_options
@shards_option
@shard_option
def placement(config: Path | None, parent: int | None, **shard: int | None) -> int:
    """Run a placement: of all that run for a shard, one leads and decides what starts where."""
    from lambent_placement.main import run
    from lambent_placement.settings import PlacementSettings

    return _serve("placement", PlacementSettings, run, config, parent, shard)


@click.group(invoke_without_command=True)
@part_options
@isolation_options
@shards_option
@shard_option
@click.pass_context
def worker(
    context: click.Context, /, config: Path | None, parent: int | None, **options: str | int | None
) -> int:
    """Run a worker: it runs this machine's instances. Or see what this host can do for them."""
    if context.invoked_subcommand:
        return 0
    from lambent_worker.main import run
    from lambent_worker.settings import WorkerSettings

    return _serve("worker", WorkerSettings, run, config, parent, options)


def _serve(
    part: str,
    model: type[S],
    run: Callable[..., Awaitable[None]],
    config: Path | None,
    parent: int | None,
    options: Mapping[str, str | int | None],
    check: Callable[[S], None] = lambda _: None,
) -> int:
    """Options that are given beat the file and the environment. `check` may raise BadSettings."""
    from lambent_chassis.serve import die_with, serve
    from lambent_chassis.settings import BadSettings

    if parent is not None:
        die_with(parent)
    try:
        settings = model.load(config)
    except BadSettings as error:
        raise FailedCommand(str(error), USAGE) from error
    given = {key: value for key, value in options.items() if value is not None}
    try:
        settings = settings.with_options(given)
        check(settings)
        return serve(part, settings, lambda started: run(settings, started=started))
    except BadSettings as error:
        raise FailedCommand(str(error), USAGE) from error
