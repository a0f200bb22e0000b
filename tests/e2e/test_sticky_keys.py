"""Calls with a sticky key on a real fleet: the instance that served the key last, through any frontend."""

import asyncio
from collections.abc import Iterator

import pytest

from lambent.client import Client
from tests.e2e.by_hand import by_hand
from tests.e2e.evidence import Evidence, deploy
from tests.e2e.fleet import Fleet
from tests.e2e.load import eventually, known_to

pytestmark = pytest.mark.e2e

KEYS = ("red", "green", "blue")


@pytest.fixture(scope="module")
def endpoint(shared: Fleet) -> Iterator[str]:
    """Of a second frontend."""
    with by_hand(shared, "frontend", "other-frontend", grpc_port=0, http_port=0) as part:
        yield part.addresses["grpc"]


async def served_by(client: Client, name: str, key: str, sleep: float = 0.0) -> str:
    done = await client.invoke(name, {"sleep": sleep}, sticky_key=key)
    assert not done.function_error
    return done.explanation.instance


async def test_a_key_stays_where_it_is(client: Client, endpoint: str, name: str, evidence: Evidence) -> None:
    """Three keys called at once have three instances, and each its own after that, from both frontends."""
    await deploy(client, name, evidence)
    async with Client(endpoint) as other:
        await known_to(other, name)
        first = await asyncio.gather(*(served_by(client, name, key, 0.5) for key in KEYS))
        assert len(set(first)) == 3
        for frontend in (client, other, client):
            for key, instance in zip(reversed(KEYS), reversed(first), strict=True):
                await eventually(lambda: given_back(client, name), "all are given back")
                done = await frontend.invoke(name, {}, sticky_key=key)
                told = done.explanation
                assert (told.instance, told.reason) == (instance, "sticky_instance")


async def given_back(client: Client, name: str) -> bool:
    """No frontend holds one, so that the next call asks placement."""
    return {it.state for it in await client.instances(name)} == {"idle"}
