"""Half a minute of what `make chaos` does for ten, with a seed that has all kinds of faults at its begin."""

from pathlib import Path

import pytest

from tests.chaos.hosts import CannotMakeHosts
from tests.chaos.run import Task, run
from tests.chaos.schedule import drawn
from tests.integration.etcd.cluster import NoSoundEtcd

pytestmark = pytest.mark.chaos

SEED, SECONDS = 274, 25


@pytest.mark.timeout(240)
async def test_half_a_minute_of_faults_breaks_no_promise(tmp_path: Path) -> None:
    """Limits, at most one run of a call, one outcome for each by its deadline, all parts of an answer or an
    error, a run of each asynchronous call that was taken, no call that fails for a part that is replaced, and
    all whole afterwards."""
    task = Task(SEED, SECONDS, replaced=("placement-1", "worker-1"))
    try:
        report = await run(tmp_path, task, print)
    except (CannotMakeHosts, NoSoundEtcd) as reason:
        pytest.skip(str(reason))
    print(report.table())  # noqa: T201 - shown where it fails
    assert report.broken == []
    assert len(report.faults) == len(drawn(SEED, SECONDS)) > 10
    assert sum(not call.error for call in report.calls) > sum(bool(call.error) for call in report.calls)
    assert any(it.whole for it in report.answers)
    assert report.ran >= report.taken > 30
