"""The life of instances: started, fed, killed, certainly gone; and what an unruly one can do."""

import asyncio
import json
import math
import os
import signal
from pathlib import Path

import pytest

from lambent_proto.definition import Definition
from lambent_proto.ids import MAX_PAYLOAD_BYTES, FunctionName, RequestId
from lambent_worker.channel import LONGEST_HEAD
from tests.integration.worker.scene import Answer, Exited, Ready, Scene, alive, exists, scene, until

pytestmark = pytest.mark.integration

ECHO = "def handler(event, context):\n    return event"
PID = "import os\ndef handler(event, context):\n    return os.getpid()"
SLEEP = "import time\ndef handler(event, context):\n    print('asleep')\n    time.sleep(600)"


async def test_ready_says_how_long_starting_and_initialising_took(stage: Scene) -> None:
    """Init is the function's own time: what a module needs shows in it, and not in starting.

    The worker hears late, on a busy machine, that init began: half of it has to show.
    """
    stage.start(await stage.deploy("import time\ntime.sleep(1)\ndef handler(e, c):\n    pass"))
    said = await stage.hears()
    assert isinstance(said, Ready)
    assert said.init_ms >= 500
    assert said.starting_ms > 0


async def test_a_killed_instance_is_gone_once_it_is_said_to_be(stage: Scene) -> None:
    """`exited` comes when the process has been reaped, once, however often it is killed."""
    it = await stage.started(PID)
    pid = (await stage.call(it)).json
    assert alive(pid)
    stage.host.kill(it)
    stage.host.kill(it)
    said = await stage.hears()
    assert said == Exited(it, "killed", b"")
    assert not exists(pid)
    stage.host.kill(it)
    other = await stage.started(ECHO)  # nothing else was said meanwhile
    assert (await stage.call(other, 1)).json == 1


async def test_a_kill_ends_the_processes_that_the_function_started(stage: Scene) -> None:
    """Its process group is gone when it is said to be gone, not only its first process."""
    source = "import subprocess\ndef handler(e, c):\n"
    it = await stage.started(
        source + "    return [subprocess.Popen(['sleep', '600']).pid for _ in range(60)]"
    )
    pids = (await stage.call(it)).json
    assert all(alive(pid) for pid in pids)
    stage.host.kill(it)
    assert await stage.hears() == Exited(it, "killed", b"")
    assert not any(exists(pid) for pid in pids)


async def test_a_crash_takes_the_processes_that_the_function_started_along(stage: Scene) -> None:
    source = "import subprocess, os\ndef handler(e, c):\n    print(subprocess.Popen(['sleep', '600']).pid)\n"
    it = await stage.started(source + "    os._exit(1)")
    answer = await stage.call(it)
    pid = int(answer.tail.split(b"\n")[1])
    await until(lambda: not alive(pid))


async def test_a_call_that_is_killed_is_not_answered(stage: Scene) -> None:
    """The core has decided that call's outcome before it kills: only the exit is told."""
    it = await stage.started(SLEEP)
    stage.deliver(it)
    stage.host.kill(it)
    assert await stage.hears() == Exited(it, "killed", b"")


async def test_a_call_that_took_too_long(stage: Scene) -> None:
    """Lambda's error, and the log with what was printed, Lambda's line and the status in the report."""
    it = await stage.started(
        "import os, time\ndef handler(e, c):\n    print(os.getpid())\n    time.sleep(600)"
    )
    request = stage.deliver(it, timeout_s=1.0)
    await until(lambda: _log(stage).count("\n") == 2)
    body, tail = stage.host.time_out(it, request, 1.0)
    assert json.loads(body) == {
        "errorType": "Sandbox.Timedout",
        "errorMessage": f"RequestId: {request} Error: Task timed out after 1.00 seconds",
    }
    start, pid, timed_out, end, report, empty = tail.decode().split("\n")
    assert start == f"START RequestId: {request} Version: $LATEST"
    assert exists(int(pid))
    assert timed_out.endswith(f"Z {request} Task timed out after 1.00 seconds")
    assert end == f"END RequestId: {request}"
    assert report.endswith("\tStatus: timeout")
    assert empty == ""
    await until(lambda: not exists(int(pid)))


async def test_after_a_crash_or_a_timeout_tmp_is_kept_and_globals_are_lost(stage: Scene) -> None:
    """Lambda's reset: the next call initialises again, in the same sandbox, and its report says so."""
    source = "import os, time, tempfile\nstate = []\npath = tempfile.gettempdir() + '/kept'\n"
    source += "def handler(e, c):\n    state.append(e)\n    open(path, 'a').write(e)\n"
    source += "    if e == 'c':\n        os._exit(3)\n"
    source += "    if e == 't':\n        print('asleep')\n        time.sleep(600)\n"
    it = await stage.started(source + "    return [open(path).read(), state]")
    assert (await stage.call(it, "a")).json == ["a", ["a"]]
    crashed = await stage.call(it, "c")
    assert crashed.json["errorMessage"].endswith("Runtime exited with error: exit status 3")
    after_crash = await stage.call(it, "b")
    assert after_crash.json == ["acb", ["b"]]
    assert b"Init Duration" in after_crash.tail
    request = stage.deliver(it, "t", timeout_s=1.0)
    await until(lambda: "asleep" in _log(stage))
    stage.host.time_out(it, request, 1.0)
    after_timeout = await stage.call(it, "d")
    assert after_timeout.json == ["acbtd", ["d"]]
    assert b"Init Duration" in after_timeout.tail


async def test_a_reset_that_fails_to_initialise_fails_the_call(stage: Scene) -> None:
    """Its module broke meanwhile: each call says so, none waits, and the instance stays."""
    source = "import os, tempfile\npath = tempfile.gettempdir() + '/broken'\n"
    source += "if os.path.exists(path):\n    raise ValueError('broken')\n"
    it = await stage.started(source + "def handler(e, c):\n    open(path, 'w').close()\n    os._exit(1)")
    await stage.call(it)
    for _ in range(2):
        answer = await stage.call(it)
        assert answer.failed
        assert (answer.json["errorType"], answer.json["errorMessage"]) == ("ValueError", "broken")


def _log(stage: Scene) -> str:
    path = stage.folder / "logs" / "fn.log"
    return path.read_text() if path.exists() else ""


async def test_init_that_takes_too_long_begins_again_within_the_call(tmp_path: Path) -> None:
    """Lambda's suppressed init: it is stopped at its limit, and has the call's own time then."""
    source = "import os, tempfile, time\npath = tempfile.gettempdir() + '/slow'\n"
    source += "if not os.path.exists(path):\n    open(path, 'w').close()\n    time.sleep(600)\n"
    async with scene(tmp_path, init_limit_s=0.5) as stage:
        it = await stage.started(source + "def handler(e, c):\n    return 'done'")
        answer = await stage.call(it)
        assert answer.json == "done"
        await stage.logs.flush()
        assert "Phase: init\tStatus: timeout" in _log(stage)


async def test_a_package_that_is_not_in_the_store(stage: Scene) -> None:
    stage.start(
        Definition(
            name=FunctionName("fn"),
            revision="1",
            runtime="python3.11",
            handler="a.b",
            code_sha256="0" * 64,
            code_size=1,
        )
    )
    said = await stage.hears()
    assert isinstance(said, Exited)
    assert (said.reason, said.error) == ("package_missing", b"")


async def test_an_instance_killed_before_it_started(stage: Scene) -> None:
    """A start that is taken back at once never becomes ready."""
    definition = await stage.deploy(ECHO)
    for _ in range(5):
        it = stage.start(definition)
        stage.host.kill(it)
        assert await stage.hears() == Exited(it, "killed", b"")


async def test_an_instance_that_dies_while_idle(stage: Scene) -> None:
    """Whoever delivers before the exit is known gets an answer all the same, and it comes first."""
    it = await stage.started(PID)
    pid = (await stage.call(it)).json
    os.kill(pid, signal.SIGKILL)
    request = stage.deliver(it)
    answer = await stage.hears()
    assert isinstance(answer, Answer)
    assert (answer.request_id, answer.failed) == (request, True)
    assert answer.json["errorMessage"].endswith("signal: killed")
    assert (await stage.call(it)).json != pid


async def test_an_answer_right_before_the_exit_counts(stage: Scene) -> None:
    """The process is reaped before the answer was read: the answer is not lost, and the crash comes after."""
    source = "import os, atexit, threading\nmain = threading.main_thread()\n"
    source += "def die():\n    import time\n    time.sleep(0.0005)\n    os._exit(7)\n"
    source += "def handler(e, c):\n    threading.Thread(target=die).start()\n    return 'done'"
    definition = await stage.deploy(source)
    for _ in range(20):
        it = stage.start(definition)
        assert isinstance(await stage.hears(), Ready)
        stage.deliver(it)
        answer = await stage.hears()
        assert isinstance(answer, Answer)
        assert answer.failed or answer.body == b'"done"'


LIES = [
    pytest.param("b'\\x00\\x00\\x00\\x06\\x00\\x04{{{{'", "a head that is not JSON", id="bad JSON"),
    pytest.param("b'\\x00\\x00\\x00\\x04\\x00\\x02{}'", "a head that is not an array", id="no array"),
    pytest.param(
        "b'\\x00\\x00\\x00\\x04\\x00\\x09[]'", "a frame of 8 bytes with a head of 9", id="head > frame"
    ),
    pytest.param(
        f"({6 + LONGEST_HEAD + MAX_PAYLOAD_BYTES - 3}).to_bytes(4, 'big') + b'\\x00\\x02[]'",
        "a frame of 6357098 bytes with a head of 2",
        id="too large",
    ),
    pytest.param(
        "b'\\x00\\x00\\x00\\x0b\\x00\\x09[\"ready\"]'", "'ready' while it was busy", id="ready again"
    ),
    pytest.param(
        'b\'\\x00\\x00\\x00\\x10\\x00\\x0e["answer","x"]\'',
        "'answer' while it was busy",
        id="another's answer",
    ),
    pytest.param("None", "the end of its channel", id="closed"),
]


@pytest.mark.parametrize(("lie", "sent"), LIES)
async def test_a_function_that_disturbs_its_runtime(stage: Scene, lie: str, sent: str) -> None:
    """It is killed, its call fails and says why, and its neighbour notices nothing."""
    source = f"import os, time\nlie = {lie}\ndef handler(e, c):\n"
    source += "    os.write(3, lie) if lie else os.close(3)\n    time.sleep(600)"
    liar, neighbour = await stage.started(source), await stage.started(ECHO)
    answer = await stage.call(liar)
    assert answer.json == {
        "errorType": "Runtime.Unknown",
        "errorMessage": f"RequestId: {answer.request_id} Error: "
        f"The function disturbed its runtime, which sent {sent}",
    }
    assert answer.failed
    assert f"which sent {sent}".encode() in answer.tail
    assert (await stage.call(neighbour, {"a": 1})).json == {"a": 1}


async def test_what_is_printed_belongs_to_its_call(stage: Scene) -> None:
    """All of it and nothing else, in order, from both streams, from subprocesses, and without a newline."""
    source = "import subprocess, sys\ndef handler(n, c):\n"
    source += "    print('out', n)\n    print('err', n, file=sys.stderr)\n"
    source += "    subprocess.run(['echo', f'child {n}'])\n    sys.stdout.write(f'open {n}')"
    it = await stage.started(source)
    for n in range(20):
        answer = await stage.call(it, n)
        lines = answer.tail.decode().split("\n")
        assert lines[1:5] == [f"out {n}", f"err {n}", f"child {n}", f"open {n}"]
        assert lines[0] == f"START RequestId: {answer.request_id} Version: $LATEST"
        assert lines[5] == f"END RequestId: {answer.request_id}"
        assert len(lines) == 8


async def test_the_report_shows_init_on_the_first_call_alone(stage: Scene) -> None:
    it = await stage.started(ECHO, memory_mb=512)
    first, second = await stage.call(it), await stage.call(it)
    report = first.tail.decode().split("\n")[-2].split("\t")
    assert report[0] == f"REPORT RequestId: {first.request_id}"
    assert report[1] == f"Duration: {first.running_ms:.2f} ms"
    assert report[2] == f"Billed Duration: {math.ceil(first.running_ms)} ms"
    assert report[3] == "Memory Size: 512 MB"
    assert report[4].startswith("Max Memory Used: ")
    assert int(report[4].split()[3]) > 1
    assert report[5].startswith("Init Duration: ")
    assert report[6] == ""
    assert b"Init Duration" not in second.tail


async def test_the_tail_is_the_last_4096_bytes(stage: Scene) -> None:
    it = await stage.started("def handler(e, c):\n    for i in range(1000):\n        print('line', i)")
    answer = await stage.call(it)
    assert len(answer.tail) == 4_096
    assert b"\nline 999\nEND RequestId: " in answer.tail
    assert answer.tail.split(b"\n")[-2].startswith(b"REPORT ")
    assert (await stage.call(it, tail=False)).tail == b""


async def test_a_flood_of_output_blocks_nobody(stage: Scene) -> None:
    """100 MB are printed, and the call ends; the log keeps its bounds; a neighbour is served meanwhile."""
    source = "import os\nlines = (b'x' * 1023 + b'\\n') * 64\n"
    source += "def handler(e, c):\n    for _ in range(1600):\n        os.write(1, lines)\n"
    flood, neighbour = await stage.started(source + "    return 'done'"), await stage.started(ECHO)
    stage.deliver(flood)
    stage.deliver(neighbour, "quick")
    quick, done = await stage.hears(), await stage.hears()
    assert isinstance(quick, Answer)
    assert isinstance(done, Answer)
    assert (quick.body, done.body) == (b'"quick"', b'"done"')
    await stage.logs.flush()
    sizes = [path.stat().st_size for path in (stage.folder / "logs").iterdir()]
    assert len(sizes) <= 2
    assert sum(sizes) < 2 * 15_000_000
    lines = [line.text async for batch in stage.logs.read("fn", follow=False) for line in batch]
    assert any("lines were dropped" in line for line in lines)


async def test_ten_at_once(stage: Scene) -> None:
    """Instances of one function are apart, and each answers its own event."""
    definition = await stage.deploy("import os\ndef handler(e, c):\n    return [e, os.getpid()]")
    its = [stage.start(definition) for _ in range(10)]
    for _ in its:
        assert isinstance(await stage.hears(), Ready)
    wanted = {stage.deliver(it, n): n for n, it in enumerate(its)}
    answers = [await stage.hears() for _ in its]
    pids = set()
    for answer in answers:
        assert isinstance(answer, Answer)
        number, pid = answer.json
        assert wanted[answer.request_id] == number
        pids.add(pid)
    assert len(pids) == 10


async def test_the_host_leaves_nothing_behind(tmp_path: Path) -> None:
    """On exit everything has been killed and reaped, busy or not, and the private folders are gone."""
    async with scene(tmp_path) as stage:
        its = [await stage.started(PID) for _ in range(3)]
        pids = [(await stage.call(it)).json for it in its]
        busy = await stage.started(SLEEP)
        stage.deliver(busy)
    assert not any(exists(pid) for pid in pids)
    assert list((tmp_path / "scratch").iterdir()) == []
    exits = [await stage.hears() for _ in range(4)]
    assert {said.reason for said in exits if isinstance(said, Exited)} == {"killed"}


async def test_an_instance_cannot_be_started_twice(stage: Scene) -> None:
    definition = await stage.deploy(ECHO)
    it = stage.start(definition)
    with pytest.raises(ValueError, match="was started before"):
        stage.host.start(it, definition)
    assert isinstance(await stage.hears(), Ready)


async def test_a_thread_that_prints_between_calls_is_in_the_log(stage: Scene) -> None:
    """It belongs to no call, or to the next; it is never lost."""
    source = "import threading, time\ndef late():\n    time.sleep(0.05)\n    print('from a thread')\n"
    it = await stage.started(source + "def handler(e, c):\n    threading.Thread(target=late).start()")
    await stage.call(it)
    async with asyncio.timeout(10):
        async for lines in stage.logs.read("fn", follow=True):
            if found := [line for line in lines if line.text == "from a thread"]:
                assert found[0].request_id == RequestId("")
                assert found[0].instance == it
                break
