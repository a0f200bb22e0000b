"""A frontend: the public services in front of the drivers, their connections to workers and placements."""

import asyncio
import secrets
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final

import structlog

from lambent_chassis import clock
from lambent_chassis.etcd import Etcd
from lambent_chassis.metrics import serving
from lambent_chassis.objects import open_store
from lambent_chassis.otlp import tracing
from lambent_chassis.serve import Started
from lambent_chassis.settled import settled
from lambent_frontend.access import AccessKeys
from lambent_frontend.async_invocations import AsyncInvocations
from lambent_frontend.call_log import LOGGING, Told
from lambent_frontend.calling import Calling
from lambent_frontend.calls import Counted
from lambent_frontend.catalogue import Catalogue
from lambent_frontend.console.behind import Behind
from lambent_frontend.console.door import Console
from lambent_frontend.driver import TICK_S, Driver
from lambent_frontend.durations import Durations
from lambent_frontend.event_invokes import EventInvokes
from lambent_frontend.fleet import Fleet
from lambent_frontend.function_urls import FunctionUrls
from lambent_frontend.functions import Functions
from lambent_frontend.guard import Guard, permit_invocation
from lambent_frontend.http.api import Api
from lambent_frontend.http.doors import Doors
from lambent_frontend.http.downloads import Downloads, shared_secret
from lambent_frontend.http.gate import Gate, Locked, Open
from lambent_frontend.http.operations import operations
from lambent_frontend.http.server import HttpServer
from lambent_frontend.http.url_door import UrlDoor
from lambent_frontend.invoker import Invoker
from lambent_frontend.layer_catalogue import LayerCatalogue
from lambent_frontend.layers import Layers
from lambent_frontend.limits import Limits, follow_concurrency
from lambent_frontend.metrics import Metrics
from lambent_frontend.others import ALONE, Others
from lambent_frontend.packages import Packages
from lambent_frontend.peer_door import PeerDoor
from lambent_frontend.peers import Peers
from lambent_frontend.placement import PlacementStream
from lambent_frontend.policies import Policies
from lambent_frontend.queue.adapters import adapters
from lambent_frontend.queue.destinations import Destinations
from lambent_frontend.queue.holders import Holders
from lambent_frontend.queue.jetstream import UNREADABLE, JetStreamStore
from lambent_frontend.queue.once import Once
from lambent_frontend.queue.queue import Queue
from lambent_frontend.queue.rules import Rules
from lambent_frontend.queue.runner import Runner
from lambent_frontend.queue.sqlite import SqliteStore
from lambent_frontend.queue.store import Store
from lambent_frontend.queue.stream import Login
from lambent_frontend.recorder import Recorder
from lambent_frontend.registry import Registry
from lambent_frontend.remembered import Remembered
from lambent_frontend.schedules.clock import Clock
from lambent_frontend.schedules.door import Schedules
from lambent_frontend.server import PublicServer
from lambent_frontend.service import Invocations
from lambent_frontend.services import (
    AsyncInvocationsService,
    FunctionsService,
    FunctionUrlsService,
    LayersService,
    LimitsService,
    PoliciesService,
    SchedulesService,
    TriggersService,
    VersionsService,
)
from lambent_frontend.settings import FrontendSettings
from lambent_frontend.shards import Shards
from lambent_frontend.spans import Spans
from lambent_frontend.triggers.keeping import Keeping
from lambent_frontend.triggers.names import folders_of, parse_sources
from lambent_frontend.urls.hosts import Hosts
from lambent_frontend.versions import Versions
from lambent_frontend.workers import Workers
from lambent_proto import keys, shards
from lambent_proto.ids import FrontendId

REFUSING_S: Final = 0.25
"""How long a frontend that is stopped answers that it takes no more, before it ends its connections.

A call that comes at that later moment is lost with its connection, and its caller cannot know whether it ran.
"""

_log = structlog.get_logger()


async def run(settings: FrontendSettings, started: Started) -> None:
    """Serves until it is cancelled."""
    settings.check_tls()
    frontend = FrontendId(f"{settings.name}.{secrets.token_hex(4)}")
    durations = Durations()
    drivers = [_driver(settings, durations) for _ in range(settings.shards)]
    peering, environments = settings.peering(), settings.environments()
    dispatcher = Shards(drivers)
    recorder = _recorder(settings, drivers)
    store = await _store(settings, frontend)
    async with AsyncExitStack() as at_exit, settings.etcd_session() as etcd, asyncio.TaskGroup() as tasks:
        await _traced(settings, drivers, at_exit)
        number = settings.shards
        shards.check(await settled(etcd, keys.SHARDS, b"%d" % number, shards.too_late(number)), number)
        catalogue = Catalogue(etcd, dispatcher.function_changed)
        of_shard = [(etcd, driver, frontend, shard, peering) for shard, driver in enumerate(drivers)]
        workers = [Workers(*its) for its in of_shard]
        placements = [PlacementStream(*its) for its in of_shard]
        sources = parse_sources(settings.sources)
        peer_door = PeerDoor(peering)
        address = peer_door.listen(settings.host, settings.control_port)
        peers = Peers(etcd, frontend, dispatcher.frontends_counted, folders_of(sources), address)
        others = Others(lambda: peers.addresses, peering)
        following = catalogue.follow(), follow_concurrency(etcd, dispatcher.concurrency_set), peers.run()
        of_shards = *(it.run() for it in workers), *(it.run() for it in placements)
        background = [tasks.create_task(work) for work in (*following, *of_shards, _tick(dispatcher))]
        access_keys = AccessKeys(etcd) if settings.auth else None
        if access_keys is not None:
            background.append(tasks.create_task(access_keys.follow()))
            await access_keys.known.wait()
        if recorder is not None:
            background.append(tasks.create_task(recorder.run()))
        await catalogue.ready.wait()
        for known in (*(it.known for it in workers), peers.known):
            await known.wait()
        packages = Packages(open_store(settings.packages))
        layer_catalogue = LayerCatalogue(etcd)
        limits = Limits(etcd, catalogue, settings.shards)
        registry = Registry(etcd, catalogue)
        destinations = Destinations(adapters(sources), _allowed(settings), sources)
        triggers = Keeping(etcd, frontend, catalogue, sources, destinations)
        invoker = Invoker(catalogue, dispatcher, waiting_s=settings.waiting_s)
        attempts: Counter[Counted] = Counter()
        queue, schedules = None, None
        if store is not None:
            queue = _queue(store, invoker, catalogue, destinations, attempts, settings)
            destinations.put_record = queue.put_record
            schedules = Clock(etcd, queue, frontend, now=clock.unix_s)
        remembered = Remembered(dispatcher, frontend, attempts, others, drivers)
        fleet = Fleet(lambda: [it.leader for it in placements], remembered, etcd, peering=peering)
        of_packages = packages, layer_catalogue
        functions = Functions(catalogue, registry, *of_packages, limits, destinations.check, environments)
        versions = Versions(catalogue, registry, limits, fleet.described_for)
        layers = Layers(layer_catalogue, packages)
        policies, hosts = Policies(catalogue, registry), Hosts(settings.url_base, settings.tls is not None)
        urls = FunctionUrls(catalogue, registry, hosts.address)
        once = None if store is None else Once(store, invoker, lambda it: it in peers.others)
        calling = Calling(invoker, queue, once, frontend)
        one_queue = isinstance(store, JetStreamStore)  # of which each frontend knows all
        async_invocations = AsyncInvocations(queue, frontend, ALONE if one_queue else others)
        alone = Remembered(dispatcher, frontend, attempts, drivers=drivers)
        await peer_door.start(alone, AsyncInvocations(queue, frontend))
        event_invokes = EventInvokes(catalogue, registry, destinations.check)
        invocations, served_functions = Invocations(calling), FunctionsService(functions)
        served_async = AsyncInvocationsService(async_invocations, event_invokes)
        served_triggers, guard = TriggersService(triggers.shown), Guard(access_keys)
        server = PublicServer(
            invocations,
            served_functions,
            VersionsService(versions),
            LayersService(layers),
            fleet,
            LimitsService(limits),
            PoliciesService(policies),
            FunctionUrlsService(urls),
            served_async,
            SchedulesService(Schedules(etcd, catalogue, permit_invocation, now=clock.unix_s)),
            served_triggers,
            guard,
            own=settings.grpc_server == "own",
            share_ports=settings.share_ports,
        )
        downloads = Downloads(packages, await shared_secret(etcd), encrypted=settings.tls is not None)
        there = operations(
            calling,
            functions,
            versions,
            layers,
            limits,
            policies,
            urls,
            async_invocations,
            event_invokes,
            triggers.shown,
            downloads.location,
        )
        gate = Open(settings.http_names) if access_keys is None else Locked(access_keys)
        api = Api(there, gate, downloads)
        behind = Behind(fleet, served_functions, invocations, served_async, served_triggers)
        console = _console(settings, behind, guard, gate)
        doors = Doors(api, UrlDoor(hosts, catalogue, invoker, access_keys), hosts, console)
        http = HttpServer(doors, share_ports=settings.share_ports)
        grpc_port = await server.start(f"{settings.grpc_host}:{settings.grpc_port}", settings.tls)
        http_port = await http.start(settings.http_host, settings.http_port, settings.tls)
        hosts.listening(http_port)
        keeping = tasks.create_task(triggers.run(invoker))
        books = [driver.core.books for driver in drivers]
        metrics = Metrics(
            books, lambda: dispatcher.counts, attempts, durations, queue, etcd.answers, triggers.lags
        )
        told = await at_exit.enter_async_context(
            serving(metrics.page, settings.host, settings.metrics_port, peering)
        )
        try:
            await server.set_ready(True)
            public = f"{settings.grpc_host}:{grpc_port}", f"{settings.http_host}:{http_port}"
            started(grpc=public[0], http=public[1], metrics=told)
            if queue is not None:
                background.append(tasks.create_task(_running(queue, etcd, frontend)))
            if schedules is not None:
                background.append(tasks.create_task(schedules.run()))
            else:
                _log.info("schedules_left_to_others", why="it has no folder for a queue: its setting `data`")
            await asyncio.wait(background)  # unlike gather, leaves them at work for the calls under way
        finally:
            keeping.cancel()
            invocations.take_no_more()
            if schedules is not None:
                schedules.take_no_more()
            if queue is not None:
                queue.take_no_more()
            await server.set_ready(False)
            await asyncio.sleep(REFUSING_S)
            await asyncio.gather(
                server.stop(settings.drain_s),
                http.stop(settings.drain_s),
                asyncio.wait([keeping]),
                peer_door.stop(),
                *([queue.stop(settings.drain_s)] if queue is not None else []),
            )
            await destinations.close()
            if store is not None:
                await store.close()


def _console(settings: FrontendSettings, behind: Behind, guard: Guard, gate: Gate) -> Console | None:
    return Console(behind.methods(guard), gate, asks=guard.asks) if settings.console else None


async def _store(settings: FrontendSettings, frontend: FrontendId) -> SqliteStore | JetStreamStore | None:
    """Raises CannotOpen."""
    if settings.data is None:
        return None
    most_bytes, spare_bytes = settings.queue_mb * 1_000_000, settings.queue_spare_mb * 1_000_000
    if not settings.nats:
        return SqliteStore.open(settings.data, most_bytes=most_bytes, spare_bytes=spare_bytes)
    return await JetStreamStore.open(
        settings.nats,
        settings.data / "copy",
        frontend,
        most_bytes=most_bytes,
        replicas=settings.nats_replicas,
        login=Login(
            credentials=settings.nats_credentials,
            user=settings.nats_user,
            password=settings.nats_password.get_secret_value(),
            tls=settings.nats_tls(),
        ),
    )


async def _running(queue: Queue, etcd: Etcd, frontend: FrontendId) -> None:
    """Until it is cancelled."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(queue.run())
        if isinstance(queue.store, JetStreamStore):
            tasks.create_task(queue.store.run())
            tasks.create_task(Holders(etcd, queue.store, frontend).run())


def _allowed(settings: FrontendSettings) -> Sequence[str]:
    """What records may be sent to."""
    if settings.destinations is not None:
        return settings.destinations
    return () if settings.auth else ("*",)


def _queue(
    store: Store,
    invoker: Invoker,
    catalogue: Catalogue,
    destinations: Destinations,
    attempts: Counter[Counted],
    settings: FrontendSettings,
) -> Queue:
    runner = Runner(
        store,
        invoker,
        catalogue,
        Rules(catalogue),
        destinations.deliver,
        attempts,
        now=clock.unix_s,
        most_in_lane=settings.queue_concurrency,
    )
    if isinstance(store, JetStreamStore):
        store.tell(runner.more, lambda number: attempts.update({UNREADABLE: number}))
    return Queue(
        store,
        invoker,
        runner,
        now=clock.unix_s,
        results_s=settings.queue_results_s,
        given_up_s=settings.queue_dead_s,
    )


def _driver(settings: FrontendSettings, durations: Durations) -> Driver:
    """Of one shard. What one function may have waiting is nothing that shards share, memory is."""
    driver = Driver(
        max_waiting=settings.max_waiting,
        max_waiting_bytes=settings.max_waiting_bytes // settings.shards,
        rate_per_concurrency=settings.rate_per_concurrency,
        linger_s=settings.linger_s,
        durations=durations,
    )
    driver.told = LOGGING[settings.call_log]
    return driver


async def _traced(settings: FrontendSettings, drivers: Sequence[Driver], at_exit: AsyncExitStack) -> None:
    """Raises BadSettings."""
    tracer = await at_exit.enter_async_context(tracing(settings.otlp_endpoint, "frontend", settings.name))
    if tracer is None:
        return
    spans = Spans(tracer, settings.otlp_ratio)
    logged = LOGGING[settings.call_log]

    def told(it: Told) -> None:
        spans.ended(it)
        if logged is not None:
            logged(it)

    for driver in drivers:
        driver.began, driver.told = spans.began, told


def _recorder(settings: FrontendSettings, drivers: Sequence[Driver]) -> Recorder | None:
    if settings.record is None:
        return None
    recorder = Recorder(settings.record, settings.record_mb * 1_000_000)
    for driver in drivers:
        driver.record = recorder.add
    return recorder


async def _tick(dispatcher: Shards) -> None:
    while True:
        dispatcher.tick()
        await asyncio.sleep(TICK_S)
