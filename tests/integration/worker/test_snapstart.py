"""SnapStart: instances that are forked of a process which has imported the function's code."""

import asyncio
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from lambent_proto.definition import Definition
from lambent_proto.ids import InstanceId
from lambent_worker.sandbox.api import CannotStart, Launch
from lambent_worker.sandbox.namespaces import NamespacesProcess, NamespacesSandbox
from tests.integration.worker import backends, sandboxes
from tests.integration.worker.sandboxes import (
    Stage,
    heard,
    let_go,
    parkable,
    parked,
    shell,
    specialised,
    started,
)
from tests.integration.worker.scene import Answer, Exited, Ready, Scene, alive, children_of, scene, until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: snapshots in users of the host's of their own"),
]

PYTHON = "python3.11"


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Scene]:
    for folder in (tmp_path, *tmp_path.parents):
        if folder.is_relative_to("/tmp") and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o555)
    async with scene(tmp_path, backend=backends.namespaces_or_skip) as it:
        yield it


async def several(stage: Scene, files: Any, count: int = 3, **fields: Any) -> list[InstanceId]:
    definition = await stage.deploy(files, snapstart=True, **fields)
    return [await ready(stage, definition) for _ in range(count)]


async def ready(stage: Scene, definition: Definition) -> InstanceId:
    instance = stage.start(definition)
    said = await stage.hears()
    assert isinstance(said, Ready), said
    return instance


async def values(stage: Scene, instances: list[InstanceId], event: Any = None) -> list[Any]:
    answers = []
    for instance in instances:
        answer = await stage.call(instance, event)
        assert not answer.failed, answer.body
        answers.append(answer.json)
    return answers


async def log(stage: Scene) -> str:
    await stage.logs.flush()
    return (stage.folder / "logs" / "fn.log").read_text()


async def test_the_code_is_imported_once_and_globals_are_each_instances_own(stage: Scene) -> None:
    """What was computed at import is there in every instance; what one changes no other sees."""
    source = """
import time
BORN = time.time_ns()
calls = []
def handler(event, context):
    calls.append(1)
    return [BORN, len(calls)]
"""
    instances = await several(stage, source)
    first = await values(stage, instances)
    assert len({born for born, _ in first}) == 1
    assert [calls for _, calls in await values(stage, instances)] == [2, 2, 2]


async def test_what_must_differ_between_instances_does(stage: Scene) -> None:
    """Random numbers, uuids, keys of TLS and names of temporary files, though all were used at import."""
    source = """
import os, random, secrets, ssl, tempfile, uuid
def numbers():
    return [random.random(), str(uuid.uuid4()), str(uuid.uuid1()), os.urandom(8).hex(),
            secrets.token_hex(8), ssl.RAND_bytes(8).hex(), next(tempfile._get_candidate_names())]
AT_IMPORT = numbers()
def handler(event, context):
    return numbers()
"""
    instances = await several(stage, source, count=4)
    for values_of_a_kind in zip(*(await values(stage, instances)), strict=True):
        assert len(set(values_of_a_kind)) == 4


async def test_hooks_of_the_real_library_run_in_lambdas_order(stage: Scene) -> None:
    """Before the snapshot in reverse order and once, after each restore in order, with their arguments."""
    source = """
from snapshot_restore_py import register_after_restore, register_before_snapshot
ran = []
@register_before_snapshot
def first():
    ran.append("before 1")
register_before_snapshot(lambda what, *, number: ran.append(f"{what} {number}"), "before", number=2)
register_after_restore(lambda: ran.append("after 1"))
@register_after_restore
def last():
    ran.append("after 2")
def handler(event, context):
    return ran
"""
    library = installed("snapshot-restore-py==1.0.0")
    instances = await several(stage, {"app.py": source, **library}, count=2)
    assert await values(stage, instances) == 2 * [["before 2", "before 1", "after 1", "after 2"]]


async def test_hooks_need_no_package(stage: Scene) -> None:
    """As on Lambda, the module is there without being in the function's package."""
    source = """
import snapshot_restore_py as hooks
ran = []
hooks.register_after_restore(ran.append, "after")
def handler(event, context):
    return [ran, hooks.__file__.startswith("/var/task")]
"""
    assert await values(stage, await several(stage, source, count=1)) == [[["after"], False]]


@pytest.mark.parametrize("which", ["before_snapshot", "after_restore"])
async def test_a_hook_that_fails_fails_the_start(stage: Scene, which: str) -> None:
    """The error has Lambda's name and says what the hook raised."""
    source = f"""
import snapshot_restore_py
@snapshot_restore_py.register_{which}
def hook():
    raise ValueError("no such thing")
def handler(event, context): pass
"""
    said = await stage.failed_init(source, snapstart=True)
    assert said.reason == "init_error"
    error = json.loads(said.error)
    name = {"before_snapshot": "BeforeSnapshot", "after_restore": "AfterRestore"}[which]
    assert error["errorType"] == f"Runtime.{name}Error"
    assert error["errorMessage"] == "ValueError: no such thing"


async def test_code_that_cannot_be_imported_is_an_init_error(stage: Scene) -> None:
    """As without SnapStart; and the next deploy, which can be, starts."""
    said = await stage.failed_init("import nothing_of_that_name", snapstart=True)
    assert said.reason == "init_error"
    assert json.loads(said.error)["errorType"] == "Runtime.ImportModuleError"
    definition = await stage.deploy("def handler(e, c): return 1", snapstart=True)
    instance = await ready(stage, replace(definition, revision="2"))
    assert (await stage.call(instance)).json == 1


async def test_code_that_ends_the_process_is_an_init_error(stage: Scene) -> None:
    """Its exit status is told."""
    said = await stage.failed_init("import os; os._exit(3)", snapstart=True)
    assert said.reason == "init_error"
    assert json.loads(said.error)["errorType"] == "Runtime.ExitError"


async def test_code_that_starts_threads_is_started_normally(stage: Scene) -> None:
    """A lock that a thread holds would be held for ever in a fork. The log says why each one took longer."""
    source = """
import threading, time
BORN = time.time_ns()
threading.Thread(target=threading.Event().wait, daemon=True).start()
def handler(event, context):
    return [BORN, threading.active_count()]
"""
    told = await values(stage, await several(stage, source, count=2))
    assert [threads for _, threads in told] == [2, 2]
    assert told[0][0] != told[1][0]
    assert (await log(stage)).count("[WARN] SnapStart is not used: it has 2 threads") == 2


async def test_each_instance_has_its_own_tmp_and_environment(stage: Scene) -> None:
    """Files written at import stay with the snapshot. What code sets in the environment is there after it."""
    source = """
import os
open("/tmp/of-import", "w").close()
os.environ["SET_AT_IMPORT"] = "yes"
del os.environ["GIVEN"]
AT_IMPORT = dict(os.environ)
def handler(event, context):
    open(f"/tmp/{event}", "w").close()
    return [os.listdir("/tmp"), dict(os.environ), context.log_stream_name, os.getcwd()]
"""
    definition = await stage.deploy(source, snapstart=True, environment={"GIVEN": "1", "TZ": "Asia/Tokyo"})
    for number in range(2):
        instance = await ready(stage, definition)
        files, environment, stream, folder = (await stage.call(instance, f"call{number}")).json
        assert files == [f"call{number}"]
        assert environment["SET_AT_IMPORT"] == "yes"
        assert "GIVEN" not in environment
        assert "OPENBLAS_NUM_THREADS" not in environment
        assert environment["AWS_LAMBDA_INITIALIZATION_TYPE"] == "snap-start"
        assert environment["AWS_LAMBDA_LOG_STREAM_NAME"] == stream
        assert stream.endswith(f"]{instance}")
        assert folder == "/var/task"


async def test_the_report_has_the_restores_duration(stage: Scene) -> None:
    """On the first call alone, in place of the duration of an initialisation."""
    (instance,) = await several(stage, "def handler(e, c): pass", count=1)
    first, second = await stage.call(instance), await stage.call(instance)
    report = first.tail.decode().splitlines()[-1]
    assert "\tRestore Duration: " in report
    assert "\tBilled Restore Duration: " in report
    assert "Init Duration" not in report
    assert b"Restore" not in second.tail
    text = await log(stage)
    assert "RESTORE_START Runtime Version: python3.11" in text
    assert "RESTORE_REPORT Restore Duration: " in text


async def test_an_instance_that_crashed_is_restored_again(stage: Scene) -> None:
    """Its globals are those of the snapshot again, and its /tmp is as it was."""
    source = """
import os, time
BORN = time.time_ns()
seen = []
def handler(event, context):
    if event == "crash":
        open("/tmp/kept", "w").close()
        os._exit(1)
    seen.append(1)
    return [BORN, len(seen), os.listdir("/tmp")]
"""
    (instance,) = await several(stage, source, count=1)
    before = (await stage.call(instance)).json
    assert (await stage.call(instance, "crash")).failed
    after = (await stage.call(instance)).json
    assert before == [after[0], 1, []]
    assert after[1:] == [1, ["kept"]]


async def test_instances_see_and_reach_neither_each_other_nor_the_snapshot(stage: Scene) -> None:
    """Each sees its own processes alone, runs as another user of the host's, and has no capabilities."""
    source = """
import os, signal
SNAPSHOT = os.getpid()
def handler(event, context):
    pids = sorted(int(pid) for pid in os.listdir("/proc") if pid.isdigit())
    reached = []
    for pid in [SNAPSHOT, *range(2, 200)]:
        try:
            if pid != os.getpid():
                os.kill(pid, 0)
                reached.append(pid)
        except ProcessLookupError:
            pass
    status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines())
    return [pids, os.getpid(), reached, status["CapEff"].strip(), status["CapBnd"].strip(), os.getuid(),
            sorted(map(int, os.listdir("/proc/self/fd")))[:-1]]
"""
    instances = await several(stage, source)
    for pids, own, reached, effective, bounding, uid, fds in await values(stage, instances):
        assert pids == [1, own]
        assert reached == []
        assert int(effective, 16) == int(bounding, 16) == 0
        assert uid == 993
        assert fds == [0, 1, 2, 3]


HOSTILE = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def tried(call, *arguments):
    return 0 if call(*arguments) >= 0 else ctypes.get_errno()
def attempts():
    return {
        "mount": tried(libc.mount, b"t", b"/tmp", b"tmpfs", 0, None),
        "unshare": tried(libc.unshare, 0x20000),
        "unshare users": tried(libc.unshare, 0x10000000),
        "ptrace": tried(libc.ptrace, 16, 1, 0, 0),
        "chroot": tried(libc.chroot, b"/tmp"),
        "pivot_root": tried(libc.syscall, 155, b"/tmp", b"/tmp"),
        "sethostname": tried(libc.sethostname, b"x", 1),
        "init's mounts": entered("/proc/1/ns/mnt"),
        "own mounts": entered("/proc/self/ns/mnt"),
        "own pids": entered("/proc/self/ns/pid"),
        "own network": entered("/proc/self/ns/net"),
        "root": tried(libc.setresuid, 0, 0, 0),
    }
def entered(path):
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError as error:
        return error.errno
    return tried(libc.setns, fd, 0)
AT_IMPORT = attempts()
UIDS = open("/proc/self/uid_map").read()
STATUS = open("/proc/self/status").read()
def handler(event, context):
    return [AT_IMPORT, attempts(), UIDS, STATUS]
"""


async def test_a_snapshot_has_no_power_over_the_host_or_its_own_sandbox(stage: Scene) -> None:
    """What is imported there can mount, unshare and trace nothing, nor enter namespaces that are the host's;
    the users that it may take are a block that no other function's instances have."""
    (instance,) = await several(stage, HOSTILE, count=1)
    at_import, in_handler, uids, status = (await stage.call(instance)).json
    assert 0 not in at_import.values(), at_import
    assert 0 not in in_handler.values(), in_handler
    own, block = (tuple(map(int, line.split())) for line in uids.splitlines())
    assert own[0] == 993
    assert block[0] == block[1] > own[1]
    effective = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff"))
    assert int(effective, 16) == 1 << 6 | 1 << 7 | 1 << 18 | 1 << 21


async def test_the_end_of_a_snapshot_is_that_of_its_instances_and_another_one_follows(stage: Scene) -> None:
    """A running call fails with an error; the next start imports the code anew."""
    source = """
import os, time
BORN = time.time_ns()
def handler(event, context):
    if event == "wait":
        time.sleep(30)
    return BORN
"""
    definition = await stage.deploy(source, snapstart=True)
    instance = await ready(stage, definition)
    born = (await stage.call(instance)).json
    stage.deliver(instance, "wait", timeout_s=30)
    (snapshot,) = [pid for pid in _descendants(os.getpid()) if _last_number(pid) == 30_000]
    os.kill(snapshot, 9)
    answer = await stage.hears()
    assert isinstance(answer, Answer)
    assert json.loads(answer.body)["errorType"] == "Runtime.ExitError"
    said = await stage.hears()
    assert isinstance(said, Exited)
    assert said.reason == "crashed"
    assert (await stage.call(await ready(stage, definition))).json != born


async def test_nothing_is_left_of_snapshots_when_the_worker_ends(tmp_path: Path) -> None:
    """Neither of what was forked of them nor of what waited to be."""
    os.chmod(tmp_path, 0o755)
    others = set(_descendants(os.getpid()))
    async with scene(tmp_path, backend=backends.namespaces_or_skip) as stage:
        await several(stage, "def handler(e, c): pass", count=2)
        group = set(_descendants(os.getpid())) - others
    assert group
    await until(lambda: not any(alive(pid) for pid in group))


async def test_a_backend_without_snapshots_starts_normally(tmp_path: Path) -> None:
    """The function works; its instances import its code each for themselves."""
    async with scene(tmp_path) as stage:
        source = "import os\ndef handler(e, c): return os.environ['AWS_LAMBDA_INITIALIZATION_TYPE']"
        assert await values(stage, await several(stage, source, count=1)) == ["on-demand"]


async def test_a_snapshot_makes_room_for_another(stage: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that nobody has used for longest goes, if none of its instances lives; else the new function
    is started as if it had no SnapStart."""
    monkeypatch.setattr(stage.host._snapshots, "_most", 1)
    definitions = [
        await stage.deploy(f"import time\nBORN = time.time_ns()\ndef handler(e, c): return BORN + {n}")
        for n in range(2)
    ]
    definitions = [replace(it, snapstart=True, revision=str(n)) for n, it in enumerate(definitions)]
    first = await ready(stage, definitions[0])
    second = await ready(stage, definitions[1])
    assert "1 snapshots are in use" in (await log(stage))
    for instance in (first, second):
        stage.host.kill(instance)
        assert isinstance(await stage.hears(), Exited)
    one, two = [await ready(stage, definitions[1]) for _ in range(2)]
    assert (await stage.call(one)).json == (await stage.call(two)).json


@pytest.fixture
async def low(tmp_path: Path) -> AsyncIterator[Stage]:
    async with sandboxes.stage(tmp_path, [parkable()]) as it:
        yield it


async def snapshot(stage: Stage, code: str = "") -> tuple[NamespacesSandbox, NamespacesProcess]:
    """One that has executed `code`, and can be forked."""
    place = await stage.sandbox()
    launch = Launch(argv=("",), environment={}, folder="/tmp", parked="py", snapshot="it")
    process = await place.launch(launch)
    assert await specialised(process, "snapshot", CODE=textwrap.dedent(code)) == "ready"
    return place, process


async def restored(stage: Stage) -> tuple[NamespacesSandbox, NamespacesProcess]:
    place = await stage.sandbox(snapshot="it")
    process = await parked(place, "it")
    assert await specialised(process, "instance") == "instance /var/task"
    return place, process


async def told(process: NamespacesProcess, expression: str) -> str:
    assert process.channel
    process.channel.send(f"os.write(3, repr({expression}).encode())".encode())
    return await heard(process)


@pytest.mark.parametrize(
    "word",
    [
        b"no json",
        b"[" * 60_000,
        b'["forked", 1]',
        b'["exited", 1, 0]',
        b'["ready"]',
        b'{"a": [1]}',
        b"",
    ],
    ids=lambda word: word[:12].decode(),
)
async def test_whatever_a_snapshot_says_it_ends_nobody_but_itself(low: Stage, word: bytes) -> None:
    """It runs a function's code: its own instances end with it, and other sandboxes notice nothing."""
    other = await low.sandbox()
    sleeping = await started(other, "/bin/sleep", "1000")
    place, process = await snapshot(low)
    nested, instance = await restored(low)
    pid = _snapshot_below(low.backend.pid)
    control = _descriptor_of(pid, 4)  # so that it need not be in the mood for it
    if word:
        control.send(word)
    else:
        control.shutdown(socket.SHUT_RDWR)
    control.close()
    async with asyncio.timeout(20):
        await nested.wait()
        await place.wait()
    with pytest.raises(CannotStart, match="its snapshot is gone"):
        await low.sandbox(snapshot="it")
    assert (await shell(other, "echo untouched"))[1] == "untouched\n"
    for it in (process, instance, sleeping):
        let_go(it)


async def test_a_snapshot_that_hangs_is_ended_when_an_instance_of_it_is_to_be_gone(low: Stage) -> None:
    """Who has forked an instance must reap it. If that takes too long all end: none counts for ever."""
    place, process = await snapshot(low)
    nested, instance = await restored(low)
    os.kill(_snapshot_below(low.backend.pid), signal.SIGSTOP)
    nested.destroy()
    async with asyncio.timeout(20):
        await nested.wait()
        await place.wait()
    for it in (process, instance):
        let_go(it)


async def test_frozen_instances_end_with_their_snapshot(low: Stage) -> None:
    """A frozen process would outlive its kill otherwise, where the host has the older cgroups."""
    place, process = await snapshot(low)
    nested, instance = await restored(low)
    nested.freeze()
    place.destroy()
    async with asyncio.timeout(20):
        await nested.wait()
        await place.wait()
    for it in (process, instance):
        let_go(it)


async def test_instances_of_one_snapshot_have_different_users_of_the_host(low: Stage) -> None:
    """Each sees itself as Lambda's user; for the host no two of them, nor the snapshot, are the same."""
    _, process = await snapshot(low)
    instances = [(await restored(low))[1] for _ in range(3)]
    users = [os.stat(f"/proc/{it.pid}").st_uid for it in (process, *instances)]
    assert len(set(users)) == 4
    assert [await told(it, "os.getuid()") for it in instances] == ["993"] * 3
    for it in (process, *instances):
        let_go(it)


def _snapshot_below(server: int) -> int:
    (pid,) = [pid for pid in _descendants(server) if _last_number(pid) == 30_000]
    return pid


def _descriptor_of(pid: int, number: int) -> socket.socket:
    """A duplicate of another process's."""
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(pid)
    fd = libc.syscall(438, pidfd, number, 0)  # pidfd_getfd, alike on all machines
    os.close(pidfd)
    assert fd >= 0, os.strerror(ctypes.get_errno())
    return socket.socket(fileno=fd)


def _descendants(pid: int) -> list[int]:
    below = []
    for child in children_of(pid):
        below += [child, *_descendants(child)]
    return below


def _last_number(pid: int) -> int:
    """Its pid as it counts itself; 0 if it has ended meanwhile."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(next(line.split()[-1] for line in status.splitlines() if line.startswith("NSpid")))


@cache
def installed(*requirements: str) -> dict[str, bytes]:
    """The files of packages from PyPI, by their paths in a function's package."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", folder, *requirements]
        done = subprocess.run(command, capture_output=True, check=False, text=True)
        if done.returncode:
            pytest.skip(f"pip cannot install {requirements}: {done.stderr.strip()[-200:]}")
        return {
            str(file.relative_to(folder)): file.read_bytes()
            for file in Path(folder).rglob("*")
            if file.is_file() and "__pycache__" not in file.parts
        }
