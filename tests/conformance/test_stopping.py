"""A frontend that is stopped, as boto3 sees it."""

import asyncio
import json
import signal
from typing import Any

import pytest

from lambent.client import Client
from tests.conformance.conftest import client
from tests.conformance.test_functions import create
from tests.e2e.by_hand import by_hand
from tests.e2e.fleet import Fleet
from tests.e2e.load import eventually, known_to

pytestmark = pytest.mark.conformance


async def test_a_call_under_way_is_finished(fleet: Fleet, aws: Any, name: str) -> None:
    """The frontend ends after its answer, cleanly, and is not there for another one."""
    create(aws, name, Timeout=10)
    with by_hand(fleet, "frontend", "stopped-frontend", grpc_port=0, http_port=0) as part:
        its = client(part.addresses["http"], retries={"total_max_attempts": 1})
        async with Client(part.addresses["grpc"]) as watching:
            await known_to(watching, name)
            event = json.dumps({"do": "sleep", "s": 1}).encode()
            call = asyncio.create_task(asyncio.to_thread(its.invoke, FunctionName=name, Payload=event))

            async def is_leased() -> bool:
                return "leased" in [it.state for it in await watching.instances(name)]

            await eventually(is_leased, "it runs")
        part.process.send_signal(signal.SIGTERM)
        answer = await call
        assert (answer["StatusCode"], "FunctionError" in answer) == (200, False)
        assert answer["ResponseMetadata"]["HTTPHeaders"]["connection"] == "close"
        assert await asyncio.to_thread(part.process.wait, 20) == 0
