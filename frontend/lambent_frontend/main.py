"""A frontend: the public services in front of the driver, its connections to workers and placement."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import structlog

from lambent_chassis.etcd import Etcd, EtcdError, Lease
from lambent_chassis.objects import open_store
from lambent_chassis.serve import Started
from lambent_frontend.catalogue import Catalogue
from lambent_frontend.driver import TICK_S, Driver
from lambent_frontend.fleet import Fleet
from lambent_frontend.functions import Functions
from lambent_frontend.packages import Packages
from lambent_frontend.placement import PlacementStream
from lambent_frontend.server import PublicServer
from lambent_frontend.service import Invocations
from lambent_frontend.settings import FrontendSettings
from lambent_frontend.workers import Workers
from lambent_proto import keys, registrations
from lambent_proto.ids import FrontendId

LEASE_TTL_S: Final = 10
"""How long a frontend that is gone stays listed."""

STOP_GRACE_S: Final = 5.0
"""What calls under way are given when the frontend is stopped."""

_log = structlog.get_logger()


async def run(settings: FrontendSettings, started: Started) -> None:
    """Serves until it is cancelled."""
    frontend = FrontendId(f"{settings.name}.{secrets.token_hex(4)}")
    driver = Driver(max_waiting=settings.max_waiting, linger_s=settings.linger_s)
    async with settings.etcd_session() as etcd, asyncio.TaskGroup() as tasks:
        catalogue = Catalogue(etcd, driver.function_changed)
        workers = Workers(etcd, driver, frontend)
        placement = PlacementStream(etcd, driver, frontend)
        background = [
            tasks.create_task(work)
            for work in (catalogue.follow(), workers.run(), placement.run(), _tick(driver))
        ]
        await catalogue.ready.wait()
        await workers.known.wait()
        server = PublicServer(
            Invocations(catalogue, driver, waiting_s=settings.waiting_s),
            Functions(catalogue, Packages(open_store(settings.packages))),
            Fleet(lambda: placement.leader, driver, frontend),
        )
        port = await server.start(f"{settings.grpc_host}:{settings.grpc_port}")
        address = f"{settings.grpc_host}:{port}"
        try:
            async with _registered(etcd, registrations.Frontend(frontend=frontend, address=address)):
                await server.set_ready(True)
                started(grpc=address)
                await asyncio.wait(background)  # unlike gather, leaves them at work for the calls under way
        finally:
            await server.stop(STOP_GRACE_S)


async def _tick(driver: Driver) -> None:
    while True:
        driver.tick()
        await asyncio.sleep(TICK_S)


@asynccontextmanager
async def _registered(etcd: Etcd, registration: registrations.Frontend) -> AsyncIterator[None]:
    """A key in etcd for people and tools to find this frontend by; nothing is decided on it."""
    lease: Lease = await etcd.lease(LEASE_TTL_S)
    await etcd.put(keys.frontend(registration.frontend), registrations.encode(registration), lease)
    try:
        yield
    finally:
        try:
            await lease.revoke()
        except EtcdError as failed:
            _log.warning("lease_not_revoked", reason=str(failed))
