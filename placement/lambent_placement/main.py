"""A placement: stands for election, and decides for as long as it leads."""

import asyncio

import grpc.aio
import structlog

from lambent_chassis import grpc_options
from lambent_chassis.etcd import Etcd, EtcdError, Lease, LeaseLost, Snapshot, campaign
from lambent_chassis.metrics import serving
from lambent_chassis.serve import Started
from lambent_chassis.settled import settled
from lambent_placement.core.scheduler import Scheduler
from lambent_placement.core.shadow import Shadow, shadow_epoch
from lambent_placement.core.tally import Tally
from lambent_placement.driver import TICK_S, Driver, Leading
from lambent_placement.functions import ShardFunctions
from lambent_placement.metrics import Metrics
from lambent_placement.service import Placement
from lambent_placement.settings import PlacementSettings, Policy
from lambent_placement.shadow import ShadowRun
from lambent_proto import concurrency, keys, registrations, shards
from lambent_proto.ids import Epoch
from lambent_proto.internal import control_pb2_grpc
from lambent_proto.protocol import PROTOCOL, RELEASE
from lambent_proto.shards import Shard

_log = structlog.get_logger()


class Deposed(Exception):
    """The leadership has run out: the process ends, and a new one stands for election."""


async def run(settings: PlacementSettings, started: Started) -> None:
    """Serves until it is cancelled; ends with Deposed, in a group, when it cannot lead any longer."""
    service = Placement(settings.policy, settings.shadow_policy, settings.shard)
    server = grpc.aio.server(options=grpc_options.SERVER)
    control_pb2_grpc.add_PlacementServicer_to_server(service, server)
    peering = settings.peering()
    port = peering.listen(server, f"{settings.host}:{settings.port}")
    await server.start()
    address = f"{settings.host}:{port}"
    metrics = Metrics(lambda: service.driver, service.tally, settings.shard)
    try:
        async with (
            settings.etcd_session() as etcd,
            serving(metrics.page, settings.host, settings.metrics_port, peering) as metrics_address,
        ):
            metrics.etcd = etcd.answers
            number = settings.shards
            shards.check(await settled(etcd, keys.SHARDS, b"%d" % number, shards.too_late(number)), number)
            started(control=address, metrics=metrics_address)
            lease = await etcd.lease(int(settings.lease_ttl_s))
            try:
                await _lead(settings, etcd, lease, service, address)
            finally:
                await _end(lease)
    finally:
        await server.stop(None)


async def _lead(
    settings: PlacementSettings, etcd: Etcd, lease: Lease, service: Placement, address: str
) -> None:
    def value_for(epoch: int) -> bytes:
        return registrations.encode(
            registrations.Leader(address=address, epoch=epoch, protocol=PROTOCOL, release=RELEASE)
        )

    try:
        shard = settings.shard
        written = keys.epoch(shard), keys.cluster(shard)
        leadership = await campaign(etcd, keys.leader(shard), value_for, lease, *written)
    except LeaseLost as lost:
        raise Deposed(str(lost)) from lost
    _log.info("leading", shard=settings.shard, epoch=leadership.epoch, address=address)
    leading = Leading(Epoch(leadership.epoch), lambda: lease.valid_until)
    driver = _driver(settings, leading, service.tally)
    known = [asyncio.Event() for _ in range(4)]
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_follow_functions(etcd, ShardFunctions(settings.place, driver), known[0]))
        tasks.create_task(_follow_nodes(etcd, settings.shard, driver, known[1]))
        tasks.create_task(_follow_concurrency(etcd, driver, known[2]))
        tasks.create_task(_follow_drains(etcd, driver, known[3]))
        for event in known:
            await event.wait()
        # Not before every limit is known and every worker that an earlier leader may have granted to counts.
        service.driver = driver
        while not driver.over and not lease.lost.is_set():
            driver.tick()
            await asyncio.sleep(TICK_S)
        raise Deposed(f"epoch {leadership.epoch} is over: its lease was not kept, or a fault was logged")


def _driver(settings: PlacementSettings, leading: Leading, tally: Tally) -> Driver:
    core = _scheduler(settings.policy, leading.epoch, settings.place)
    if settings.shadow_policy is None:
        return Driver(leading, core, tally=tally)
    _log.info("shadow", policy=str(settings.shadow_policy), live=str(settings.policy))
    shadow = Shadow(_scheduler(settings.shadow_policy, shadow_epoch(leading.epoch), settings.place))
    run = ShadowRun(shadow, asyncio.get_running_loop().call_soon)
    return Driver(leading, core, run, tally)


def _scheduler(policy: Policy, epoch: Epoch, shard: Shard) -> Scheduler:
    core = Scheduler(epoch, keep=policy.keep_alive, keep_alive_s=policy.keep_alive_s, shard=shard)
    core.books.starts = policy.starts
    core.books.pack = policy.new_instances == "pack"
    return core


async def _follow_functions(etcd: Etcd, functions: ShardFunctions, known: asyncio.Event) -> None:
    async for news in etcd.follow_prefix(keys.FUNCTIONS):
        if isinstance(news, Snapshot):
            functions.replace({item.key: item.value for item in news.items})
            known.set()
        else:
            functions.change(
                [(change.key, change.value if change.kind == "put" else None) for change in news]
            )


async def _follow_concurrency(etcd: Etcd, driver: Driver, known: asyncio.Event) -> None:
    async for news in etcd.follow_prefix(keys.CONCURRENCY):
        values = [item.value for item in (news.items if isinstance(news, Snapshot) else news)]
        driver.set_concurrency(
            concurrency.decode(values[-1]) if values and values[-1] else concurrency.DEFAULT
        )
        known.set()


async def _follow_drains(etcd: Etcd, driver: Driver, known: asyncio.Event) -> None:
    names: set[str] = set()
    async for news in etcd.follow_prefix(keys.DRAINS):
        if isinstance(news, Snapshot):
            now = {keys.drained_of_key(item.key) for item in news.items}
        else:
            changes = {keys.drained_of_key(change.key): change.kind == "put" for change in news}
            now = names - changes.keys() | {name for name, put in changes.items() if put}
        for name in names ^ now:
            driver.drain(name, name in now)
        names = now
        known.set()


async def _follow_nodes(etcd: Etcd, shard: int, driver: Driver, known: asyncio.Event) -> None:
    async for news in etcd.follow_prefix(keys.nodes(shard)):
        if isinstance(news, Snapshot):
            now = {keys.node_of_key(item.key) for item in news.items}
            for item in news.items:
                driver.register(registrations.decode(registrations.Worker, item.value))
            for node in set(driver.workers) - now:
                driver.expire(node)
            known.set()
            continue
        for change in news:
            if change.kind == "put":
                driver.register(registrations.decode(registrations.Worker, change.value))
            else:
                driver.expire(keys.node_of_key(change.key))


async def _end(lease: Lease) -> None:
    try:
        await lease.revoke()
    except EtcdError as failed:
        _log.warning("lease_not_revoked", reason=str(failed))
