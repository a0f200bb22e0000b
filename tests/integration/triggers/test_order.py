"""The order that a source promises, of a key or a partition, when a poller dies.

That of a message group of SQS is in tests/property: moto gives out a later message of a group before one that
nobody was done with in time.
"""

import contextlib
from itertools import pairwise

import pytest

from tests.integration.triggers.conftest import Broker, Function, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]

KEYS = ("a", "b", "c", "d")
EACH = 15


@pytest.fixture(params=["kinesis", "kafka"])
def ordered(request: pytest.FixtureRequest) -> Broker:
    broker: Broker = request.getfixturevalue(request.param)
    return broker


async def test_order_is_kept_through_the_death_of_a_poller(ordered: Broker, function: Function) -> None:
    """What comes again may begin anew, and leaves nothing out: behind a record comes the next one of its key,
    or one that was there before."""
    factor = 3 if ordered.trigger.kind == "kinesis" else 1
    await ordered.send(*(f"{key}-{n:02}" for n in range(EACH) for key in KEYS))
    with contextlib.suppress(ZeroDivisionError):
        async with ordered.polled(function, batch_size=4, parallelization=factor):
            await until(lambda: len(function.data) > len(KEYS) * EACH // 4)
            function.hangs = True
            seen = len(function.data)
            await until(lambda: len(function.data) > seen)
            raise ZeroDivisionError
    function.hangs = False
    async with ordered.polled(function, batch_size=4, parallelization=factor):
        await until(lambda: len(set(function.data)) == len(KEYS) * EACH)
    for key in KEYS:
        numbers = [int(it.partition("-")[2]) for it in function.data if it[0] == key]
        assert numbers[0] == 0
        assert all(after <= before + 1 for before, after in pairwise(numbers)), f"{numbers}"
