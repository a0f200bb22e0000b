"""What every sandbox backend promises, held against each of them with real processes."""

import asyncio
import dataclasses
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from lambent_chassis import clock
from lambent_proto.ids import InstanceId
from lambent_worker.sandbox.api import Backend, CannotStart, Exit, Launch, Sandbox, SandboxSpec
from lambent_worker.sandbox.namespaces import VIEW
from tests.integration.worker import backends
from tests.integration.worker.scene import alive, host_files, until

pytestmark = pytest.mark.integration

PYTHON = os.path.realpath(sys.executable)
EXITED = Exit(0, killed=False)

LONG = str(os.getpid() * 100)
"""Seconds that something sleeps, which nobody else on this machine sleeps so long."""


class Bench:
    """A backend, and sandboxes of one function in it."""

    def __init__(self, backend: Backend, code: Path) -> None:
        self.backend = backend
        self.code = code
        self._made = 0
        self._sandboxes: list[Sandbox] = []

    async def create(self, **fields: int | bool) -> Sandbox:
        self._made += 1
        spec = SandboxSpec(instance=InstanceId(f"i-{self._made}"), code=self.code, memory_mb=128)
        sandbox = await self.backend.create(dataclasses.replace(spec, **fields))  # type: ignore[arg-type]
        self._sandboxes.append(sandbox)
        return sandbox

    async def end(self) -> None:
        for sandbox in self._sandboxes:
            sandbox.destroy()
            await sandbox.wait()

    async def run(self, sandbox: Sandbox, *argv: str, **environment: str) -> tuple[Exit, str]:
        """What it printed, once it has ended."""
        launch = Launch(
            argv=argv,
            environment={"TMP": sandbox.view.tmp, "PATH": "/usr/bin:/bin", **environment},
            folder=sandbox.view.task_root,
            channel=False,
        )
        process = await sandbox.launch(launch)
        exit_ = await process.wait()
        printed = b""
        with suppress(BlockingIOError):
            while data := os.read(process.output, 65536):
                printed += data
        os.close(process.output)
        return exit_, printed.decode()

    def sleeps(self, sleepers: int, *, launches: int) -> bool:
        """Whether so many `sleep LONG` run. Those in a kernel of their own are not seen: that one is."""
        if self.backend.protections().backend == "gvisor":
            root = f"--root={self.code.parent}".encode()
            return _running(lambda line: root in line and b"\0boot\0" in line) == launches
        return _running(lambda line: line == f"sleep\0{LONG}\0".encode()) == sleepers

    async def shell(self, sandbox: Sandbox, script: str, **environment: str) -> tuple[Exit, str]:
        return await self.run(sandbox, "/bin/sh", "-c", script, **environment)


@pytest.fixture(
    params=[
        backends.process,
        backends.landlock_or_skip,
        backends.bwrap_or_skip,
        backends.namespaces_or_skip,
        backends.gvisor_or_skip,
    ],
    ids=["process", "landlock", "bwrap", "namespaces", "gvisor"],
)
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    code = tmp_path / "code"
    code.mkdir()
    (code / "hello.txt").write_text("hello")
    (tmp_path / "runtimes").mkdir()
    async with request.param(host_files(tmp_path)) as backend:
        backend.extend(clock.monotonic_s() + 3_600)
        bench = Bench(backend, code)
        yield bench
        await bench.end()


async def test_a_process_runs_prints_and_ends(bench: Bench) -> None:
    sandbox = await bench.create()
    assert await bench.shell(sandbox, "cat hello.txt; echo err >&2") == (EXITED, "helloerr\n")
    assert (await bench.shell(sandbox, "exit 7"))[0] == Exit(7, killed=False)
    assert (await bench.shell(sandbox, "kill -9 $$"))[0] == Exit(-9, killed=False)


async def test_the_environment_is_what_was_given(bench: Bench) -> None:
    sandbox = await bench.create()
    _, printed = await bench.run(sandbox, "/usr/bin/env", A="1")
    of_shells_and_gvisor = {f"PWD={sandbox.view.task_root}", f"HOME={sandbox.view.tmp}"}
    assert set(printed.split()) - of_shells_and_gvisor == {
        "A=1",
        "PATH=/usr/bin:/bin",
        f"TMP={sandbox.view.tmp}",
    }


async def test_clear_ends_every_process_and_keeps_tmp(bench: Bench) -> None:
    sandbox = await bench.create()
    await bench.shell(sandbox, 'echo kept > "$TMP/file"')
    running = asyncio.ensure_future(bench.shell(sandbox, f"sleep {LONG} & sleep {LONG}"))
    second = asyncio.ensure_future(bench.shell(sandbox, f'touch "$TMP/second"; sleep {LONG}'))
    await until(lambda: running.done() or bench.sleeps(3, launches=2))
    await sandbox.clear()
    assert (await running)[0] == (await second)[0] == Exit(-9, killed=True)
    await until(lambda: bench.sleeps(0, launches=0))
    assert await bench.shell(sandbox, 'cat "$TMP/file"') == (EXITED, "kept\n")


def _running(is_meant: Callable[[bytes], bool]) -> int:
    """How many processes of this host have such a command line."""
    found = []
    for name in os.listdir("/proc"):
        with suppress(OSError):
            if name.isdigit() and is_meant(Path(f"/proc/{name}/cmdline").read_bytes()):
                found.append(int(name))
    return sum(alive(pid) for pid in found)


async def test_destroy_ends_everything(bench: Bench) -> None:
    sandbox = await bench.create()
    running = asyncio.ensure_future(bench.shell(sandbox, f"sleep {LONG} & sleep {LONG}"))
    await until(lambda: bench.sleeps(2, launches=1))
    sandbox.destroy()
    await sandbox.wait()
    assert (await running)[0] == Exit(-9, killed=True)
    assert bench.sleeps(0, launches=0)
    with pytest.raises(CannotStart):
        await bench.shell(sandbox, "true")


async def test_sandboxes_have_a_tmp_of_their_own(bench: Bench) -> None:
    one, two = await bench.create(), await bench.create()
    await bench.shell(one, 'touch "$TMP/mine"')
    assert await bench.shell(two, 'ls "$TMP"') == (EXITED, "")


async def test_no_sandbox_outlives_the_watchdog(bench: Bench) -> None:
    sandbox = await bench.create()
    running = asyncio.ensure_future(bench.shell(sandbox, f"sleep {LONG}"))
    await until(lambda: bench.sleeps(1, launches=1))
    bench.backend.extend(clock.monotonic_s())
    await sandbox.wait()
    assert (await running)[0] == Exit(-9, killed=True)
    assert bench.sleeps(0, launches=0)
    bench.backend.extend(clock.monotonic_s() + 3_600)


CONNECT = "import os, socket; host, port = os.environ['API'].split(':'); "
CONNECT += "socket.create_connection((host, int(port)))"


async def test_who_connects_to_the_runtime_api_is_in_the_sandbox(bench: Bench) -> None:
    sandbox = await bench.create(runtime_api=True)
    assert sandbox.api is not None
    with sandbox.api as listener:
        exit_, printed = await bench.run(sandbox, PYTHON, "-I", "-S", "-c", CONNECT, API=sandbox.api_address)
        assert (exit_, printed) == (EXITED, "")
        connection, _ = listener.accept()
        connection.close()


LISTEN = "import os, socket; listener = socket.create_server(('127.0.0.1', int(os.environ['PORT']))); "
LISTEN += "listener.accept()[0].sendall(b'hello')"


async def test_the_worker_connects_to_who_listens_inside(bench: Bench) -> None:
    """And to nobody else: where the loopback is the host's, a program of the host's is not taken for it."""
    sandbox = await bench.create(runtime_api=True)
    assert sandbox.api is not None
    with sandbox.api, socket.create_server(("127.0.0.1", 0)) as others:
        others_port = others.getsockname()[1]
        protections = bench.backend.protections()
        if sandbox.view.task_root == VIEW.task_root or "own_user" in protections.given:
            refusal = PermissionError if protections.backend == "landlock" else ConnectionRefusedError
            with pytest.raises(refusal):
                await sandbox.connect(others_port)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        running = asyncio.ensure_future(bench.run(sandbox, PYTHON, "-I", "-S", "-c", LISTEN, PORT=f"{port}"))
        with await connected(sandbox, port) as connection:
            async with asyncio.timeout(20):
                assert await asyncio.get_running_loop().sock_recv(connection, 9) == b"hello"
        assert await running == (EXITED, "")


async def connected(sandbox: Sandbox, port: int) -> socket.socket:
    """Once somebody listens."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await sandbox.connect(port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)
            except PermissionError as why:
                pytest.skip(str(why))


async def test_what_cannot_be_executed(bench: Bench) -> None:
    """It is said at once, or by a program in between, which ends with a status of its own."""
    sandbox = await bench.create()
    try:
        exit_, said = await bench.run(sandbox, "/nowhere/program")
    except CannotStart as why:
        exit_, said = Exit(1, killed=False), str(why)
    assert exit_.status > 0
    assert "no such file" in said.lower() or "Permission denied" in said


async def test_it_can_make_more_files_than_it_may_have_open(bench: Bench) -> None:
    """Whoever serves its files holds descriptors of his own for them."""
    sandbox = await bench.create()
    script = "import os; os.chdir(os.environ['TMP']); [os.makedirs(f'{n}/x') for n in range(2000)]; "
    script += "print(sum(len(names) for _, names, _ in os.walk('.')), os.sysconf('SC_OPEN_MAX'))"
    assert await bench.run(sandbox, PYTHON, "-I", "-S", "-c", script) == (EXITED, "4000 1024\n")


async def test_its_own_code_cannot_be_changed(bench: Bench) -> None:
    if "files" not in bench.backend.protections().given:
        pytest.skip(bench.backend.protections().why_missing["files"])
    sandbox = await bench.create()
    exit_, _ = await bench.shell(sandbox, "echo x > hello.txt")
    assert exit_.status != 0
    assert (bench.code / "hello.txt").read_text() == "hello"


async def test_memory_is_limited(bench: Bench) -> None:
    if "memory_limit" not in bench.backend.protections().given:
        pytest.skip(bench.backend.protections().why_missing["memory_limit"])
    sandbox = await bench.create()
    take = "len(bytearray(300 << 20))"
    exit_, _ = await bench.run(sandbox, PYTHON, "-I", "-S", "-c", take)
    assert exit_ == Exit(-9, killed=False)
    memory = sandbox.memory()
    assert memory.oom_kills >= 1
    assert 100 <= memory.peak_mb <= 130


def test_each_missing_protection_has_a_reason(bench: Bench) -> None:
    protections = bench.backend.protections()
    assert all(protections.why_missing[name] for name in protections.missing)
