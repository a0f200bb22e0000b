"""A minute of what `make chaos` does for ten."""

from pathlib import Path

import pytest

from tests.chaos.hosts import CannotMakeHosts
from tests.chaos.run import run
from tests.integration.etcd.cluster import NoSoundEtcd

pytestmark = pytest.mark.chaos

SEED = 20


@pytest.mark.timeout(240)
async def test_a_minute_of_faults_breaks_no_promise(tmp_path: Path) -> None:
    """Limits, at most one run of a call, one outcome for each by its deadline, all parts of an answer or an
    error, a run of each asynchronous call that was taken, and all whole afterwards."""
    try:
        report = await run(tmp_path, 60, SEED, print)
    except (CannotMakeHosts, NoSoundEtcd) as reason:
        pytest.skip(str(reason))
    print(report.table())  # noqa: T201 - shown where it fails
    assert report.broken == []
    assert {fault.kind for fault in report.faults} > {"kill -9", "SIGSTOP"}
    assert sum(not call.error for call in report.calls) > sum(bool(call.error) for call in report.calls)
    assert any(it.whole for it in report.answers)
    assert report.ran >= report.taken > 50
