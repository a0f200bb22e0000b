"""`lambent up`: everything on this machine, until Ctrl-C."""

import asyncio
import json
import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from lambent.cli.failures import FailedCommand
from lambent.cli.options import isolation_options
from lambent_proto.shards import MOST_SHARDS

if TYPE_CHECKING:
    from lambent.up import Fleet, Plan
    from lambent_proto.v1.fleet_pb2 import Node

DEFAULT_PORT: Final = 50051
INTERRUPTED: Final = 130
CANNOT_START: Final = 1
NOTHING_LEFT: Final = 1


def _endpoints(_: click.Context, __: click.Parameter, value: str) -> list[str]:
    return [part.strip() for part in value.split(",") if part.strip()]


@click.command()
@click.option(
    "--shards",
    type=click.IntRange(1, MOST_SHARDS),
    default=1,
    envvar="LAMBENT_SHARDS",
    show_default=True,
    help="Over so many leaders are functions shared out: docs/shards.md.",
)
@click.option("--workers", type=click.IntRange(min=1), default=2, show_default=True, help="Of each shard.")
@click.option(
    "--placements",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Of each shard: one leads, the others stand by.",
)
@click.option(
    "--frontend-processes",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Frontends that share the ports, for machines with more cores than one takes.",
)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("lambent-data"),
    envvar="LAMBENT_DATA",
    show_default=True,
    help="Folder for all that is kept: functions, packages, logs.",
)
@click.option("--grpc-host", default="127.0.0.1", envvar="LAMBENT_GRPC_HOST", show_default=True)
@click.option(
    "--grpc-port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    envvar="LAMBENT_GRPC_PORT",
    show_default=True,
    help="0 takes a free one.",
)
@click.option("--http-host", default="127.0.0.1", envvar="LAMBENT_HTTP_HOST", show_default=True)
@click.option(
    "--http-port",
    type=click.IntRange(0, 65535),
    default=9000,
    envvar="LAMBENT_HTTP_PORT",
    show_default=True,
    help="Of Lambda's HTTP API. 0 takes a free one.",
)
@click.option(
    "--etcd",
    default="",
    metavar="URL,...",
    envvar="LAMBENT_ETCD",
    callback=_endpoints,
    help="An etcd that runs already; without it one is started.",
)
@click.option("--etcd-binary", metavar="PATH", help="The etcd to start; else one is looked for.")
@click.option(
    "--worker-memory",
    type=click.IntRange(min=128),
    metavar="MB",
    envvar="LAMBENT_MEMORY_MB",
    help="Of each worker, for its instances; by default they share three quarters of the machine's.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    metavar="N",
    help="Most instances that run at one time; kept, see `lambent concurrency`.  [default: 1000]",
)
@click.option(
    "--auth/--no-auth",
    default=None,
    envvar="LAMBENT_AUTH",
    help="Whether callers need an access key; by default unless only this machine reaches the ports.",
)
@click.option(
    "--tls-cert",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    envvar="LAMBENT_TLS_CERT",
    help="Of the public ports, with --tls-key. LAMBENT_CA says who signed it, unless it has itself.",
)
@click.option(
    "--tls-key",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    envvar="LAMBENT_TLS_KEY",
)
@click.option("--keep-alive", "keep_alive_s", type=float, metavar="S", envvar="LAMBENT_KEEP_ALIVE_S")
@click.option(
    "--max-waiting",
    type=click.IntRange(min=0),
    envvar="LAMBENT_MAX_WAITING",
    help="Calls in line per function; of one more, one is throttled.",
)
@click.option(
    "--record",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    envvar="LAMBENT_RECORD",
    help="Write a line into it for each call, for `lambent simulate --trace FILE`.",
)
@click.option(
    "--nats",
    metavar="URL,...",
    envvar="LAMBENT_NATS",
    help="A NATS with JetStream to keep the queue of asynchronous calls; without it a file does.",
)
@click.option(
    "--mtls",
    is_flag=True,
    help="The parts speak TLS among themselves and with etcd; certificates are made: docs/security.md.",
)
@click.option(
    "--seal-environment",
    is_flag=True,
    help="Environment variables are sealed in etcd, now and at each later start: docs/security.md.",
)
@isolation_options
@click.option("--no-restart", is_flag=True, help="Leave a process that ends as it is.")
@click.option("--json-ready", is_flag=True, help="When it is up, print one line of JSON for tools.")
def up(
    concurrency: int | None,
    keep_alive_s: float | None,
    frontend_processes: int,
    max_waiting: int | None,
    record: Path | None,
    nats: str | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    worker_memory: int | None,
    sandbox: str | None,
    require_isolation: str | None,
    no_restart: bool,
    json_ready: bool,
    **options: Any,
) -> int:
    """Run a whole fleet on this machine until Ctrl-C.

    The settings of the parts may be given in the environment as well, as LAMBENT_<KEY>.
    """
    from lambent.up import Plan

    plan = Plan(
        worker_memory_mb=worker_memory,
        concurrency=concurrency,
        placement={"keep_alive_s": keep_alive_s},
        worker={"sandbox": sandbox, "require_isolation": require_isolation},
        frontend={
            "processes": frontend_processes,
            "max_waiting": max_waiting,
            "record": str(record.absolute()) if record else None,
            "nats": [url.strip() for url in nats.split(",")] if nats else None,
            "tls_cert": str(tls_cert.absolute()) if tls_cert else None,
            "tls_key": str(tls_key.absolute()) if tls_key else None,
        },
        restart=not no_restart,
        **options,
    )
    return asyncio.run(_run(plan, json_ready=json_ready))


async def _run(plan: "Plan", *, json_ready: bool) -> int:
    from lambent.certificates import CannotSign
    from lambent.up import CannotStart, Fleet
    from lambent_chassis import core_dumps, logs

    core_dumps.forbid()
    logs.configure("warning")

    def announce() -> None:
        click.echo(json.dumps(fleet.facts()) if json_ready else _summary(fleet))

    stopping = False

    def stop() -> None:
        nonlocal stopping
        if stopping:
            fleet.kill()
            os._exit(INTERRUPTED)
        stopping = True
        click.echo("\nStopping. Once more kills.", err=True)
        running.cancel()

    try:
        fleet = Fleet(plan, lambda text: click.echo(text, err=True))
        running = asyncio.ensure_future(fleet.run(announce))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
                asyncio.get_running_loop().add_signal_handler(number, stop)
        await running
    except (CannotStart, CannotSign) as error:
        raise FailedCommand(str(error), CANNOT_START) from error
    except asyncio.CancelledError:
        click.echo("Everything is stopped.", err=True)
        return 0
    click.echo("Nothing is left running.", err=True)
    return NOTHING_LEFT


def _summary(fleet: "Fleet") -> str:
    etcd = ", ".join(fleet.etcd)
    lines = []
    if child := fleet.etcd_child:
        etcd += f" ({child.binary.path})"
        if child.binary.warning:
            lines += [click.style(child.binary.warning, fg="yellow"), ""]
    scheme = "https" if fleet.plan.frontend.get("tls_cert") else "http"
    default, shards = f"127.0.0.1:{DEFAULT_PORT}", fleet.plan.shards
    export = [] if fleet.endpoint == default else [f"  export LAMBENT_ENDPOINT={fleet.endpoint}"]
    return "\n".join(
        [
            *lines,
            click.style("Lambent is up. Ctrl-C stops it.", bold=True),
            "",
            f"  endpoint  {fleet.endpoint}",
            f"  http      {scheme}://{fleet.http}, Lambda's API",
            *_console(f"{scheme}://{fleet.http}"),
            *([f"  shards    {shards}"] if shards > 1 else []),
            f"  workers   {shards * fleet.plan.workers}, with {fleet.worker_memory_mb} MB each for instances",
            f"  etcd      {etcd}",
            f"  data      {fleet.plan.data.absolute()}, logs in logs/",
            "",
            *_isolation(fleet.nodes),
            *_access(fleet),
            "",
            "Try:",
            *export,
            *([f"  export LAMBENT_KEY=$(cat {fleet.operator_key})"] if fleet.auth else []),
            "  lambent deploy DIR --name NAME --handler MODULE.FUNCTION",
            "  lambent invoke NAME -d '{\"a\": 1}' -v",
            f"  aws lambda invoke --endpoint-url {scheme}://{fleet.http} --function-name NAME /dev/stdout",
        ]
    )


def _console(http: str) -> list[str]:
    """Where the page is, unless the environment switches it off for the frontend."""
    if os.environ.get("LAMBENT_CONSOLE", "").lower() in ("0", "false", "no", "off", "f", "n"):
        return []
    return [f"  console   {http}/console/"]


def _access(fleet: "Fleet") -> list[str]:
    if fleet.auth:
        make = f"lambent key create {_where(fleet)} --allow 'InvokeFunction@NAME'"
        return [
            click.style("Callers need an access key. ", bold=True)
            + "Yours is in the data folder; for others:",
            f"  {make}",
        ]
    whoever = "Whoever is on this machine" if fleet.local else "Whoever reaches its ports"
    return [
        click.style("Nobody is asked for an access key: ", fg="yellow", bold=True)
        + f"{whoever} may do everything. --auth changes that."
    ]


def _where(fleet: "Fleet") -> str:
    """How a command finds etcd, and with mtls the certificate that it asks for."""
    if fleet.plan.mtls and fleet.etcd_child:
        return f"--config {fleet.plan.data.absolute() / 'config' / 'frontend.toml'}"
    return f"--etcd {','.join(fleet.etcd)}"


def _isolation(nodes: "Iterable[Node]") -> list[str]:
    """What the workers reach; they share a host, so that is one line or two."""
    reached = {(node.isolation, node.backend, tuple(node.missing_protections)) for node in nodes}
    return [line for level, backend, missing in sorted(reached) for line in _level(level, backend, missing)]


def _level(level: str, backend: str, missing: tuple[str, ...]) -> list[str]:
    lacking = f"Missing: {', '.join(missing)}." if missing else "Nothing is missing."
    if level == "none":
        return [
            click.style(f"Functions are not isolated (sandbox {backend}): ", fg="yellow", bold=True)
            + "they can do what your user can. Deploy only what you trust.",
            lacking,
        ]
    return [click.style(f"Functions are isolated: level {level} (sandbox {backend}). ", bold=True) + lacking]
