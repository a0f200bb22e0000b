"""A frontend: the public services in front of the driver, its connections to workers and placement."""

import asyncio
import secrets
from typing import Final

from lambent_chassis.objects import open_store
from lambent_chassis.serve import Started
from lambent_frontend.catalogue import Catalogue
from lambent_frontend.driver import TICK_S, Driver
from lambent_frontend.fleet import Fleet
from lambent_frontend.functions import Functions
from lambent_frontend.http.api import Api
from lambent_frontend.http.operations import operations
from lambent_frontend.http.server import HttpServer
from lambent_frontend.invoker import Invoker
from lambent_frontend.layer_catalogue import LayerCatalogue
from lambent_frontend.layers import Layers
from lambent_frontend.limits import Limits, follow_concurrency
from lambent_frontend.packages import Packages
from lambent_frontend.peers import Peers
from lambent_frontend.placement import PlacementStream
from lambent_frontend.recorder import Recorder
from lambent_frontend.registry import Registry
from lambent_frontend.server import PublicServer
from lambent_frontend.service import Invocations
from lambent_frontend.services import FunctionsService, LayersService, LimitsService, VersionsService
from lambent_frontend.settings import FrontendSettings
from lambent_frontend.versions import Versions
from lambent_frontend.workers import Workers
from lambent_proto.ids import FrontendId

STOP_GRACE_S: Final = 5.0
"""What calls under way are given when the frontend is stopped."""

REFUSING_S: Final = 0.25
"""How long a frontend that is stopped answers that it takes no more, before it ends its connections.

A call that comes at that later moment is lost with its connection, and its caller cannot know whether it ran.
"""


async def run(settings: FrontendSettings, started: Started) -> None:
    """Serves until it is cancelled."""
    frontend = FrontendId(f"{settings.name}.{secrets.token_hex(4)}")
    driver = Driver(
        max_waiting=settings.max_waiting,
        max_waiting_bytes=settings.max_waiting_bytes,
        rate_per_concurrency=settings.rate_per_concurrency,
        linger_s=settings.linger_s,
    )
    recorder = _recorder(settings, driver)
    async with settings.etcd_session() as etcd, asyncio.TaskGroup() as tasks:
        catalogue = Catalogue(etcd, driver.function_changed)
        workers = Workers(etcd, driver, frontend)
        placement = PlacementStream(etcd, driver, frontend)
        peers = Peers(etcd, frontend, driver.frontends_counted)
        following = catalogue.follow(), follow_concurrency(etcd, driver.concurrency_set), peers.run()
        background = [
            tasks.create_task(work) for work in (*following, workers.run(), placement.run(), _tick(driver))
        ]
        if recorder is not None:
            background.append(tasks.create_task(recorder.run()))
        await catalogue.ready.wait()
        await workers.known.wait()
        await peers.known.wait()
        packages = Packages(open_store(settings.packages))
        layer_catalogue = LayerCatalogue(etcd)
        limits = Limits(etcd, catalogue)
        registry = Registry(etcd, catalogue)
        fleet = Fleet(lambda: placement.leader, driver, frontend, etcd)
        functions = Functions(catalogue, registry, packages, layer_catalogue, limits)
        versions = Versions(catalogue, registry, limits, fleet.described)
        layers = Layers(layer_catalogue, packages)
        invoker = Invoker(catalogue, driver, waiting_s=settings.waiting_s)
        server = PublicServer(
            Invocations(invoker),
            FunctionsService(functions),
            VersionsService(versions),
            LayersService(layers),
            fleet,
            LimitsService(limits),
        )
        there = operations(invoker, catalogue, functions, versions, layers, limits)
        http = HttpServer(Api(there))
        grpc_port = await server.start(f"{settings.grpc_host}:{settings.grpc_port}")
        http_port = await http.start(settings.http_host, settings.http_port)
        try:
            await server.set_ready(True)
            started(grpc=f"{settings.grpc_host}:{grpc_port}", http=f"{settings.http_host}:{http_port}")
            await asyncio.wait(background)  # unlike gather, leaves them at work for the calls under way
        finally:
            invoker.take_no_more()
            await server.set_ready(False)
            await asyncio.sleep(REFUSING_S)
            await asyncio.gather(server.stop(STOP_GRACE_S), http.stop(STOP_GRACE_S))


def _recorder(settings: FrontendSettings, driver: Driver) -> Recorder | None:
    if settings.record is None:
        return None
    recorder = Recorder(settings.record, settings.record_mb * 1_000_000)
    driver.record = recorder.add
    return recorder


async def _tick(driver: Driver) -> None:
    while True:
        driver.tick()
        await asyncio.sleep(TICK_S)
