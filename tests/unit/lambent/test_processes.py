"""What each of several frontend processes is told, and queues that nobody would run."""

from pathlib import Path

import pytest

from lambent.processes import check_queues, settings_of
from lambent_chassis.settings import BadSettings
from lambent_frontend.queue.sqlite import SqliteStore
from lambent_frontend.queue.store import Asked
from lambent_frontend.settings import FrontendSettings
from lambent_proto.ids import FunctionName, RequestId


def settings(data: Path, processes: int) -> FrontendSettings:
    given = {"etcd": ["127.0.0.1:1"], "packages": str(data), "data": data, "record": data / "calls.csv"}
    return FrontendSettings(name="west", processes=processes, **given)  # type: ignore[arg-type]


async def leave_an_event(folder: Path) -> None:
    store = SqliteStore.open(folder, most_bytes=10**9, spare_bytes=1)
    await store.put(RequestId("r-1"), Asked(FunctionName("f"), ""), b"{}", 1.0, None)
    await store.close()


def test_the_first_has_what_a_single_one_had(tmp_path: Path) -> None:
    """Its queue and its record: two processes in the place of one lose nothing. The others have their own."""
    first = settings_of(settings(tmp_path, 2), 0, 50051, 9000)
    second = settings_of(settings(tmp_path, 2), 1, 50051, 9000)
    assert "data" not in first
    assert "record" not in first
    assert second["data"] == str(tmp_path / "process-1")
    assert second["record"] == str(tmp_path / "calls-1.csv")
    assert (first["name"], second["name"]) == ("west-0", "west-1")
    assert first["grpc_port"] == second["grpc_port"] == "50051"
    assert first["processes"] == second["processes"] == "1"


async def test_events_that_no_process_would_run_are_a_fault(tmp_path: Path) -> None:
    """With fewer processes than before nobody would run what was answered 202 by one of them."""
    await leave_an_event(tmp_path / "process-2")
    check_queues(settings(tmp_path, 3))
    for fewer in (1, 2):
        with pytest.raises(BadSettings, match=r"1 events in .*process-2 are for process 2.*start it with 3"):
            check_queues(settings(tmp_path, fewer))


async def test_a_queue_that_is_empty_may_stay_behind(tmp_path: Path) -> None:
    await leave_an_event(tmp_path / "process-1")
    store = SqliteStore.open(tmp_path / "process-1", most_bytes=10**9, spare_bytes=1)
    await store.cancel(FunctionName("f"), RequestId("r-1"), 2.0)
    await store.close()
    check_queues(settings(tmp_path, 1))


async def test_a_copy_that_somebody_made_is_nobodys_queue(tmp_path: Path) -> None:
    """It hinders no start."""
    await leave_an_event(tmp_path / "process-1.before")
    await leave_an_event(tmp_path / "process-")
    check_queues(settings(tmp_path, 1))


def test_a_queue_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    """Nobody knows whether there is something in it."""
    (tmp_path / "process-1").mkdir()
    (tmp_path / "process-1" / "queue.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(BadSettings, match=r"process-1/queue\.sqlite cannot be read: file is not a database"):
        check_queues(settings(tmp_path, 1))
