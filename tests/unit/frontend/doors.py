"""Frontends over one etcd, each with its HTTP API as boto3 reaches it: the management's parts, no fleet."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from lambent_chassis.etcd import Etcd
from lambent_chassis.objects import open_store
from lambent_frontend.async_invocations import AsyncInvocations
from lambent_frontend.calling import Calling
from lambent_frontend.catalogue import Catalogue
from lambent_frontend.event_invokes import EventInvokes
from lambent_frontend.function_urls import FunctionUrls
from lambent_frontend.functions import Functions
from lambent_frontend.http.api import Api
from lambent_frontend.http.downloads import Downloads
from lambent_frontend.http.gate import Gate, Open
from lambent_frontend.http.operations import operations
from lambent_frontend.invoker import Invoker
from lambent_frontend.layer_catalogue import LayerCatalogue
from lambent_frontend.layers import Layers
from lambent_frontend.limits import Limits
from lambent_frontend.packages import Packages
from lambent_frontend.policies import Policies
from lambent_frontend.queue.adapters import adapters
from lambent_frontend.queue.destinations import Destinations
from lambent_frontend.registry import Registry
from lambent_frontend.triggers.store import TriggerStore
from lambent_frontend.triggers.triggers import Triggers
from lambent_frontend.urls.hosts import Hosts
from lambent_frontend.versions import Versions
from lambent_proto.ids import FunctionName
from lambent_proto.internal import control_pb2
from tests.unit.frontend.http_client import listening
from tests.unit.scripted import FRONTEND, WAITING_S, ScriptedDispatcher

CREDENTIALS = {"aws_access_key_id": "AKIAIOSFODNN7EXAMPLE", "aws_secret_access_key": "secret"}


@dataclass
class Door:
    port: int
    catalogue: Catalogue
    aws: Any
    """boto3's client, as it is by default."""

    async def ask(self, operation: str, **given: Any) -> Any:
        """What boto3 gives, in a thread of its own."""
        return await asyncio.to_thread(functools.partial(getattr(self.aws, operation), **given))


def aws_client(port: int, **credentials: str) -> Any:
    return boto3.client(
        "lambda",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        config=Config(connect_timeout=10, read_timeout=40),
        **(CREDENTIALS | credentials),
    )


async def _described(_: FunctionName) -> control_pb2.DescribeResponse:
    return control_pb2.DescribeResponse()


@asynccontextmanager
async def door(
    etcd: Etcd, packages: Path, gate: Callable[[], Gate] = Open, **credentials: str
) -> AsyncIterator[Door]:
    """One frontend. `etcd` may be one whose answers are lost."""
    catalogue = Catalogue(etcd, lambda *_: None)
    following = asyncio.create_task(catalogue.follow())
    try:
        async with asyncio.timeout(20):
            await catalogue.ready.wait()
        registry, limits = Registry(etcd, catalogue), Limits(etcd, catalogue)
        store, layers = Packages(open_store(str(packages))), LayerCatalogue(etcd)
        functions = Functions(catalogue, registry, store, layers, limits)
        versions = Versions(catalogue, registry, limits, _described)
        invoker = Invoker(catalogue, ScriptedDispatcher(), waiting_s=WAITING_S)
        downloads = Downloads(store, b"the fleet's")
        layers_too = Layers(layers, store)
        policies, urls = Policies(catalogue, registry), FunctionUrls(catalogue, registry, Hosts("").address)
        there = operations(
            Calling(invoker),
            functions,
            versions,
            layers_too,
            limits,
            policies,
            urls,
            AsyncInvocations(None, FRONTEND),
            EventInvokes(catalogue, registry, Destinations(adapters({}), ("*",), {}).check),
            Triggers(TriggerStore(etcd), catalogue, lambda _: None, {}),
            downloads.location,
        )
        async with listening(Api(there, gate(), downloads)) as (_, port):
            yield Door(port, catalogue, aws_client(port, **credentials))
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
