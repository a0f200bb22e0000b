"""A function's log: bounded, in order, readable while it grows, and never in the way of a call."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lambent_proto.definition import Definition
from lambent_proto.ids import FunctionName, InstanceId
from lambent_worker import logs as logs_module
from lambent_worker.logs import FunctionLogs, InstanceLog, LogLine


def definition(name: str = "fn") -> Definition:
    return Definition(
        name=FunctionName(name),
        revision="1",
        runtime="python3.11",
        handler="a.b",
        code_sha256="",
        code_size=0,
    )


@pytest.fixture
async def logs(tmp_path: Path) -> AsyncIterator[FunctionLogs]:
    async with FunctionLogs(tmp_path, file_limit_bytes=10_000) as it:
        yield it


def log_of(logs: FunctionLogs, instance: str = "i-1", name: str = "fn") -> InstanceLog:
    return logs.of(definition(name), InstanceId(instance))


async def read(logs: FunctionLogs, name: str = "fn") -> list[LogLine]:
    return [line async for lines in logs.read(name, follow=False) for line in lines]


async def test_a_call_has_lambdas_lines(logs: FunctionLogs) -> None:
    """Tabs between the fields and behind the last, two decimals, milliseconds billed as begun."""
    log = log_of(logs)
    log.start("r-1", tail=True)
    log.output(b"hello\n")
    tail = log.end(15.744, 56, 130.486, "")
    assert tail.decode() == (
        "START RequestId: r-1 Version: $LATEST\n"
        "hello\n"
        "END RequestId: r-1\n"
        "REPORT RequestId: r-1\tDuration: 15.74 ms\tBilled Duration: 16 ms\tMemory Size: 128 MB\t"
        "Max Memory Used: 56 MB\tInit Duration: 130.49 ms\t\n"
    )
    lines = await read(logs)
    assert [line.text for line in lines] == tail.decode().split("\n")[:-1]
    assert {(line.instance, line.request_id) for line in lines} == {("i-1", "r-1")}
    assert all(line.at > 1_600_000_000 for line in lines)


async def test_output_is_cut_into_lines_wherever_it_was_cut_before(logs: FunctionLogs) -> None:
    """A line may arrive in pieces, an open one ends with its call, and bytes may be no text."""
    log = log_of(logs)
    log.output(b"before any call\n")
    log.start("r-1", tail=False)
    for piece in (b"on", b"e\ntwo\n", b"\n", b"th\xffree"):
        log.output(piece)
    log.end(1, 1, None, "")
    log.output(b"after\topen")
    log.close()
    assert [(line.request_id, line.text) for line in await read(logs)] == [
        ("", "before any call"),
        ("r-1", "START RequestId: r-1 Version: $LATEST"),
        ("r-1", "one"),
        ("r-1", "two"),
        ("r-1", ""),
        ("r-1", "th\ufffdree"),
        ("r-1", "END RequestId: r-1"),
        (
            "r-1",
            "REPORT RequestId: r-1\tDuration: 1.00 ms\tBilled Duration: 1 ms\t"  # noqa: ISC004 - one line
            "Memory Size: 128 MB\tMax Memory Used: 1 MB\t",
        ),
        ("", "after\topen"),
    ]


async def test_a_line_without_end_is_cut(logs: FunctionLogs) -> None:
    """It is in the log long before it ends, and never in memory as a whole."""
    log = log_of(logs)
    for _ in range(9):
        log.output(b"x" * 65_536)
    lines = await read(logs)
    assert [len(line.text) for line in lines] == [logs_module.LONGEST_LINE_BYTES] * 2


async def test_a_flood_of_lines_holds_up_nobody(logs: FunctionLogs) -> None:
    """64 KB may be as many lines: those that are dropped are counted, and cost next to nothing."""
    log = log_of(logs)
    log.start("r-1", tail=True)
    began = time.process_time()
    for _ in range(100):
        log.output(b"\n" * 65_535 + b"x\n")
    assert time.process_time() - began < 1.5
    tail = log.end(1.0, 1, None, "")
    assert b"\nx\nEND" in tail
    texts = [line.text for line in await read(logs)]
    dropped = next(int(text.split()[0]) for text in texts if "were dropped" in text)
    assert dropped > 6_000_000


async def test_a_tail_is_bounded(logs: FunctionLogs) -> None:
    log = log_of(logs)
    log.start("r-1", tail=True)
    for n in range(10_000):
        log.output(b"line %d\n" % n)
    tail = log.end(1, 1, None, "")
    assert len(tail) == 4_096
    assert tail.decode().split("\n")[-4] == "line 9999"


async def test_two_files_are_kept_and_read_as_one(logs: FunctionLogs, tmp_path: Path) -> None:
    """The oldest lines go first, the rest is in order, and the files stay within their size."""
    log = log_of(logs)
    for n in range(400):
        log.output(b"%d %s\n" % (n, b"x" * 100))
        if n % 10 == 9:
            await logs.flush()
    numbers = [int(line.text.split()[0]) for line in await read(logs)]
    assert numbers == list(range(numbers[0], 400))
    assert numbers[0] > 100
    sizes = {entry.name: entry.stat().st_size for entry in os.scandir(tmp_path)}
    assert sorted(sizes) == ["fn.log", "fn.log.1"]
    assert max(sizes.values()) < 13_000


async def test_following_goes_over_the_rotation(logs: FunctionLogs) -> None:
    """A follower gets each line once, in order, while files are replaced under it."""
    log = log_of(logs)
    got: list[int] = []

    async def follow() -> None:
        async for lines in logs.read("fn", follow=True):
            got.extend(int(line.text.split()[0]) for line in lines)
            if got[-1] == 299:
                return

    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        tasks.create_task(follow())
        for n in range(300):
            log.output(b"%d %s\n" % (n, b"x" * 100))
            if n % 10 == 9:
                await logs.flush()
                while not got or got[-1] < n:  # noqa: ASYNC110 - a reader two files behind misses some
                    await asyncio.sleep(0)
    assert got == list(range(300))


async def test_lines_reach_the_file_without_being_asked_for(logs: FunctionLogs) -> None:
    """A follower sees a line soon after it was printed."""
    reader = logs.read("fn", follow=True)
    log_of(logs).output(b"hello\n")
    async with asyncio.timeout(5):
        assert [line.text for line in await anext(reader)] == ["hello"]
        log_of(logs).output(b"again\n")
        assert [line.text for line in await anext(reader)] == ["again"]


async def test_what_the_disk_does_not_take_in_time_is_dropped_and_said(
    logs: FunctionLogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory stays bounded, and the log says how much is missing."""
    monkeypatch.setattr(logs_module, "MOST_UNWRITTEN_BYTES", 1_000)
    log = log_of(logs)
    for _ in range(100):
        log.output(b"x" * 99 + b"\n")
    texts = [line.text for line in await read(logs)]
    assert len(texts) < 15
    assert texts[-1].endswith("lines were dropped: the function prints faster than its log is written")
    dropped = int(texts[-1].split()[0])
    assert dropped + len(texts) - 1 == 100


async def test_functions_and_instances_are_kept_apart(logs: FunctionLogs) -> None:
    for name, instance in (("a", "i-1"), ("b", "i-2"), ("a", "i-3")):
        log_of(logs, instance, name).output(b"from " + instance.encode() + b"\n")
    assert [(line.instance, line.text) for line in await read(logs, "a")] == [
        ("i-1", "from i-1"),
        ("i-3", "from i-3"),
    ]
    assert [line.text for line in await read(logs, "b")] == ["from i-2"]
    assert await read(logs, "nobody") == []


async def test_what_was_logged_is_written_at_the_end(tmp_path: Path) -> None:
    async with FunctionLogs(tmp_path) as logs:
        log_of(logs, name="../up").output(b"last words\n")
    async with FunctionLogs(tmp_path) as logs:
        assert [line.text for line in await read(logs, "../up")] == ["last words"]
    assert len(os.listdir(tmp_path)) == 1


async def test_a_log_that_cannot_be_written_stops_nothing(logs: FunctionLogs, tmp_path: Path) -> None:
    """The function's file is in the way of its own log; another function's log goes on."""
    (tmp_path / "fn.log").mkdir()
    log_of(logs).output(b"lost\n")
    log_of(logs, name="other").output(b"kept\n")
    await logs.flush()
    assert [line.text for line in await read(logs, "other")] == ["kept"]
