"""The order that a source promises, of a key or a partition, when a poller dies.

That of a message group of SQS is in tests/property: moto gives out a later message of a group before one that
nobody was done with in time.
"""

import contextlib
from functools import partial
from itertools import pairwise

import pytest

from lambent_frontend.triggers.tallies import decoded
from tests.integration.triggers.conftest import Broker, Function, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]

DESTINATION = "arn:aws:lambda:us-east-1:000000000000:function:destination"
KEYS = ("a", "b", "c", "d")
EACH = 15


@pytest.fixture(params=["kinesis", "kafka"])
def ordered(request: pytest.FixtureRequest) -> Broker:
    broker: Broker = request.getfixturevalue(request.param)
    return broker


async def test_tries_are_counted_through_the_death_of_pollers(ordered: Broker, function: Function) -> None:
    """So that poison blocks its shard for no longer than if none had died. What is behind it is processed."""
    await ordered.send("poison-1")

    def counted(calls: int) -> bool:
        kept = [it.calls for value in ordered.failures.values() for it in decoded(value)]
        return calls in kept or bool(function.told)

    for calls in (1, 2, 3):
        with contextlib.suppress(ZeroDivisionError):
            async with ordered.polled(function, batch_size=1, max_retries=2, on_failure=DESTINATION):
                await until(partial(counted, calls))
                raise ZeroDivisionError
    assert function.data == ["poison-1"] * 3
    [told] = function.told
    assert told["requestContext"]["approximateInvokeCount"] == 3


async def test_order_is_kept_through_the_death_of_a_poller(ordered: Broker, function: Function) -> None:
    """What comes again may begin anew, and leaves nothing out: behind a record comes the next one of its key,
    or one that was there before."""
    factor = 3 if ordered.trigger.kind == "kinesis" else 1
    await ordered.send(*(f"{key}-{n:02}" for n in range(EACH) for key in KEYS))
    function.hangs_after = len(KEYS) * EACH // 4
    with contextlib.suppress(ZeroDivisionError):
        async with ordered.polled(function, batch_size=4, parallelization=factor):
            await until(lambda: function.hangs)
            raise ZeroDivisionError
    function.hangs, function.hangs_after = False, None
    async with ordered.polled(function, batch_size=4, parallelization=factor):
        await until(lambda: len(set(function.data)) == len(KEYS) * EACH)
    for key in KEYS:
        numbers = [int(it.partition("-")[2]) for it in function.data if it[0] == key]
        assert numbers[0] == 0
        assert all(after <= before + 1 for before, after in pairwise(numbers)), f"{numbers}"
