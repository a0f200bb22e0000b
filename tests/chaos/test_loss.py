"""A few hundred of the events that `make chaos` sends by the ten thousand."""

from pathlib import Path

import pytest

from tests.brokers.processes import NotInstalled
from tests.chaos.account import out_of_order
from tests.chaos.hosts import CannotMakeHosts
from tests.chaos.loss import run
from tests.integration.etcd.cluster import NoSoundEtcd

pytestmark = pytest.mark.chaos

TARGETS = ("frontend-1", "redis", "worker-1", "etcd-1", "nats", "placement-1", "rabbitmq")


@pytest.mark.timeout(450)
async def test_nothing_that_was_taken_is_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By a kill of any part, or of any broker that has its messages on disk; poison is given up."""
    try:
        report = await run(tmp_path, 400, print, TARGETS)
    except (CannotMakeHosts, NoSoundEtcd, NotInstalled) as reason:
        pytest.skip(str(reason))
    with capsys.disabled():
        print(f"\n{report.table()}")  # noqa: T201 - the repeated ones are to be seen
    assert report.broken == []
    assert tuple(report.kills) == TARGETS
    assert all(it.given_up for it in report.accounts)
    for it in report.accounts:  # few of the good ones are buried
        assert it.good * 4 <= it.processed, report.table()


def test_what_is_told_to_be_out_of_order() -> None:
    """One that overtook another of its line; those that were given up are not missed."""
    assert out_of_order(["a", "b", "c"], {"a": 1, "b": 1, "c": 2}) == []
    assert out_of_order(["a", "b", "c"], {"a": 1, "c": 2}) == []
    assert out_of_order(["a", "b", "c", "d"], {"a": 1, "b": 4, "c": 3, "d": 4}) == ["c"]
