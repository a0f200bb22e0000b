"""A worker: registers under a lease, takes grants and events, and is gone when its lease is."""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from lambent_chassis import link
from lambent_chassis.etcd import Etcd, EtcdError, Lease
from lambent_chassis.metrics import serving
from lambent_chassis.objects import open_store
from lambent_chassis.otlp import tracing
from lambent_chassis.peering import Peering
from lambent_chassis.serve import Started
from lambent_chassis.settled import settled
from lambent_proto import frames, keys, registrations, shards
from lambent_proto.ids import NodeId, node_name
from lambent_proto.protocol import PROTOCOL, RELEASE
from lambent_worker import service
from lambent_worker.agent import TICK_S, Agent
from lambent_worker.core import events as on
from lambent_worker.host import InstanceHost
from lambent_worker.logs import FunctionLogs
from lambent_worker.metrics import Metrics
from lambent_worker.packages import PackageCache
from lambent_worker.placement import PlacementStream
from lambent_worker.runtimes.registry import Runtimes, build_folder, discover
from lambent_worker.sandbox import backends
from lambent_worker.sandbox.api import PROTECTIONS, Backend, HostFiles, Protections
from lambent_worker.sandbox.required import check_level
from lambent_worker.sealed_environment import Environments
from lambent_worker.settings import WorkerSettings
from lambent_worker.spans import Spans

WATCHDOG_MARGIN_S: Final = 0.5
"""How long before the lease may run out the watchdog kills everything by itself: time to reap."""

_log = structlog.get_logger()


class Retired(Exception):
    """This registration is over: the process ends, and a new one registers anew."""


class NameTaken(Exception):
    """Another shard has a worker of this name. The message says what to do."""


async def run(settings: WorkerSettings, started: Started) -> None:
    """Serves until it is cancelled, and then until its instances have been moved away, `drain_s` at the most.

    Ends with Retired, in a group, when its lease could not be kept.
    """
    environments = Environments(settings.opener(), settings.name)
    node = NodeId(f"{settings.name}@{secrets.token_hex(4)}")
    agent = Agent(node, settings.memory_mb)
    peering = settings.peering()
    name = settings.name
    async with tracing(settings.otlp_endpoint, "worker", name) as tracer, settings.etcd_session() as etcd:
        agent.spans = None if tracer is None else Spans(tracer, name)
        await _check_shard(settings, etcd)
        lease = await etcd.lease(int(settings.lease_ttl_s))
        try:
            async with (
                _instances(settings, agent, environments) as (backend, runtimes, logs),
                _listening(settings, peering, agent, logs) as at,
            ):
                registration = _registration(settings, agent, backend.protections(), runtimes, at)
                metrics = Metrics(backend.protections(), agent.core, settings.shard, etcd.answers)
                agent.launched = metrics.launched
                telling = serving(metrics.page, settings.host, settings.metrics_port, peering)
                async with telling as metrics_address:
                    ready = partial(started, metrics=metrics_address)
                    placement = PlacementStream(etcd, agent, settings.shard, peering)
                    await _serve(registration, settings, etcd, lease, agent, placement, ready)
        finally:
            await _end(lease)  # only now: as long as the key is there, instances may exist


async def _check_shard(settings: WorkerSettings, etcd: Etcd) -> None:
    """Raises WrongShards, and NameTaken: people call the node by its name, to drain it."""
    number = settings.shards
    shards.check(await settled(etcd, keys.SHARDS, b"%d" % number, shards.too_late(number)), number)
    for shard in set(range(number)) - {settings.shard}:
        there = (await etcd.get_prefix(keys.nodes(shard))).items
        if any(node_name(keys.node_of_key(item.key)) == settings.name for item in there):
            raise NameTaken(
                f"shard {shard} has a worker that is called {settings.name!r} too: give this one, of shard "
                f"{settings.shard}, another `name`, such as {settings.name}-s{settings.shard}"
            )


def _registration(
    settings: WorkerSettings,
    agent: Agent,
    protections: Protections,
    runtimes: Runtimes,
    at: tuple[str, str],
) -> registrations.Worker:
    data_address, control_address = at
    return registrations.Worker(
        node=agent.node,
        data_address=data_address,
        control_address=control_address,
        memory_mb=settings.memory_mb,
        isolation=protections.level,
        backend=protections.backend,
        missing_protections=list(protections.missing),
        runtimes=list(runtimes.by_name),
        labels=settings.labels,
        streams=True,
        traces=True,
        protocol=PROTOCOL,
        release=RELEASE,
    )


async def _serve(
    registration: registrations.Worker,
    settings: WorkerSettings,
    etcd: Etcd,
    lease: Lease,
    agent: Agent,
    placement: PlacementStream,
    started: Started,
) -> None:
    retired: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    agent.retire = lambda why: None if retired.done() else retired.set_result(why)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_keep(agent, lease))
        await etcd.put(keys.node(settings.shard, agent.node), registrations.encode(registration), lease)
        _log.info("registered", node=agent.node, shard=settings.shard, memory_mb=registration.memory_mb)
        tasks.create_task(placement.run())
        started(data=registration.data_address, control=registration.control_address)
        try:
            await asyncio.wait([retired])  # unlike awaiting it, leaves it as it is for the drain
        except asyncio.CancelledError:
            await _drain(agent, retired, settings.drain_s)
            raise
        raise Retired(f"{agent.node}: {retired.result()}")


async def _drain(agent: Agent, retired: asyncio.Future[str], drain_s: float) -> None:
    if not drain_s:
        return
    _log.info("draining", instances=len(agent.core.instances), at_most_s=drain_s)
    agent.leave()
    await asyncio.wait([retired], timeout=drain_s)
    _log.info("drain_over", left=len(agent.core.instances))


@asynccontextmanager
async def _listening(
    settings: WorkerSettings, peering: Peering, agent: Agent, logs: FunctionLogs
) -> AsyncIterator[tuple[str, str]]:
    """The addresses for frames and for reading logs."""
    listener = await link.listen(
        settings.host,
        settings.data_port,
        decoder=lambda: frames.Decoder(frames.TO_WORKER),
        on_frame=agent.on_frame,
        on_lost=agent.on_lost,
        ssl=peering.listening(),
    )
    control, control_port = await service.serve(logs, settings.host, settings.control_port, peering)
    data_port = listener.sockets[0].getsockname()[1]
    try:
        yield f"{settings.host}:{data_port}", f"{settings.host}:{control_port}"
    finally:
        listener.close()
        await control.stop(None)


@asynccontextmanager
async def _instances(
    settings: WorkerSettings, agent: Agent, environments: Environments
) -> AsyncIterator[tuple[Backend, Runtimes, FunctionLogs]]:
    """The host of the instances; on exit they have all been reaped."""
    data = settings.data.absolute()
    runtimes = await asyncio.to_thread(_runtimes, data)
    files = HostFiles(runtimes=data / "runtimes", prefixes=runtimes.prefixes, scratch=_made(data / "scratch"))
    backend = backends.backend(settings.sandbox, files, _unique(settings.name, data), runtimes.parkables)
    packages = PackageCache(
        _made(data / "code"),
        open_store(settings.packages),
        limit_bytes=settings.code_cache_mb * 1024 * 1024,
    )
    async with (
        FunctionLogs(_made(data / "logs")) as logs,
        InstanceHost(
            sandbox=backend,
            runtimes=runtimes.by_name,
            packages=packages,
            logs=logs,
            listener=agent,
            environments=environments,
        ) as host,
    ):
        agent.host = host
        check_level(backend.protections(), settings.require_isolation)
        _tell(backend.protections())
        yield backend, runtimes, logs


def _runtimes(data: Path) -> Runtimes:
    runtimes = discover(build_folder(data))
    runtimes.install(data / "runtimes")
    return runtimes


def _unique(name: str, data: Path) -> str:
    """A backend ends what an earlier worker of this name has left: the name must be no other worker's, and of
    all that are called `worker-1` on this host only one has this data folder."""
    return f"{name}-{hashlib.sha256(str(data).encode()).hexdigest()[:8]}"


def _tell(protections: Protections) -> None:
    """How well instances are shut in here, once, when the worker starts."""
    missing = {name: protections.why_missing.get(name, PROTECTIONS[name]) for name in protections.missing}
    say = _log.warning if protections.level == "none" else _log.info
    say("isolation", level=protections.level, backend=protections.backend, missing=missing)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


async def _keep(agent: Agent, lease: Lease) -> None:
    """Tells the core and the watchdog how long the lease holds, and the core what time it is."""
    told = 0.0
    while True:
        if lease.lost.is_set():
            agent.feed(on.RegistrationLost("etcd does not know its lease any more"))
        elif lease.valid_until != told:
            told = lease.valid_until
            agent.host.extend(told - WATCHDOG_MARGIN_S)
            agent.feed(on.RegistrationRenewed(told))
        agent.tick()
        await asyncio.sleep(TICK_S)


async def _end(lease: Lease) -> None:
    try:
        await lease.revoke()
    except EtcdError as failed:
        _log.warning("lease_not_revoked", reason=str(failed))
