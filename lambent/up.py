"""A whole fleet on this machine: etcd, a placement, workers and a frontend, each a process of its own.

The data folder holds everything: `config/` what each part was told, `logs/` what each says, `parts.json` who
runs with which id at which address, `packages/` and `etcd/` what was deployed, and a folder for each worker.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc

from lambent import access_keys
from lambent.certificates import FleetCertificates
from lambent.children import READY_S, Child, EtcdChild, NotStarted, PartChild, ending, keep, last_lines
from lambent.client import Client
from lambent_chassis.etcd import Etcd, EtcdError, EtcdNotStarted, find_etcd
from lambent_chassis.settings import CLIENT_VARIABLES, PREFIX, Settings, variable
from lambent_frontend.settings import FrontendSettings, is_loopback
from lambent_placement.settings import PlacementSettings
from lambent_proto import keys
from lambent_proto.errors import LambentError, PlatformError
from lambent_proto.v1.fleet_pb2 import Node
from lambent_worker.settings import WorkerSettings, memory_for_instances_mb

Say = Callable[[str], None]

_LOOK_EVERY_S: Final = 0.02

_MODELS: Final[dict[str, type[Settings]]] = {
    "placement": PlacementSettings,
    "worker": WorkerSettings,
    "frontend": FrontendSettings,
}

_OF_ONE_PART: Final = (
    "name",
    "data",
    "packages",
    "port",
    "shard",
    "data_port",
    "control_port",
    "metrics_port",
    "lease_ttl_s",
    "fleet_cert",
    "fleet_key",
    "processes",
    "share_ports",
)
"""Keys that mean one part: as a variable they would reach several."""


class CannotStart(Exception):
    """The fleet was not started, and nothing is left running. The message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to run."""

    data: Path
    shards: int = 1
    """Each has workers and placements of its own."""
    workers: int = 2
    """Of each shard."""
    placements: int = 1
    """Of each shard: one leads, the others stand by."""
    grpc_host: str = "127.0.0.1"
    grpc_port: int = 50051
    """0 takes a free one."""
    http_host: str = "127.0.0.1"
    http_port: int = 9000
    """0 takes a free one."""
    etcd: list[str] = field(default_factory=list)
    """Endpoints; empty: an etcd is started as well."""
    etcd_binary: str | None = None
    worker_memory_mb: int | None = None
    """Of each worker; by default they share three quarters of the machine's."""
    concurrency: int | None = None
    """Of the whole fleet; None leaves it as it is."""
    placement: Mapping[str, Any] = field(default_factory=dict)
    """Further settings, by key; None is left out."""
    worker: Mapping[str, Any] = field(default_factory=dict)
    frontend: Mapping[str, Any] = field(default_factory=dict)
    auth: bool | None = None
    """Whether callers are asked for an access key; None: unless only this machine can reach the frontend."""
    mtls: bool = False
    """Whether the parts speak TLS among themselves and with the etcd that is started; its CA is made."""
    seal_environment: bool = False
    """Whether environment variables of functions are sealed; they are wherever keys were made once."""
    restart: bool = True
    """Whether a child that ends is started again."""


class Fleet:
    """The children of one `lambent up`, in the order of their start."""

    def __init__(self, plan: Plan, say: Say) -> None:
        self.plan = plan
        self.endpoint = ""
        self.http = ""
        """Where the HTTP API is, `host:port`."""
        self.etcd: list[str] = list(plan.etcd)
        self.etcd_child: EtcdChild | None = None
        self.nodes: list[Node] = []
        """The workers here, as placement saw them when all were there."""
        workers = max(plan.shards * plan.workers, 1)
        self.worker_memory_mb = plan.worker_memory_mb or memory_for_instances_mb() // workers
        self.local = is_loopback(plan.grpc_host) and is_loopback(plan.http_host)
        """Whether only this machine reaches the frontend."""
        self.auth = not self.local if plan.auth is None else plan.auth
        self.operator_key = plan.data.absolute() / "operator-key"
        """The file with the token of a key that may do everything; there only where callers are asked."""
        self._token = ""
        self._certificates = FleetCertificates(plan.data.absolute() / "certificates") if plan.mtls else None
        self._sealing: dict[str, dict[str, str]] = {}
        """What each kind of part is told of the keys for environment variables."""
        self._data = plan.data.absolute()
        self._say = say
        self._parts: list[PartChild] = []
        self._environments = {part: _environment(model) for part, model in _MODELS.items()}

    @property
    def children(self) -> list[Child]:
        return [*([self.etcd_child] if self.etcd_child else []), *self._parts]

    async def run(self, up: Callable[[], None]) -> None:
        """Starts everything, says `up`, and keeps it running until it is cancelled; then stops it in order.

        Raises CannotStart. Returns only if nothing runs any more and nothing is to be started again.
        """
        with _locked(self._data):
            try:
                await self._start()
                up()
                async with asyncio.TaskGroup() as tasks:
                    for child in self.children:
                        tasks.create_task(self._watch(child))
            finally:
                await self._stop()

    def kill(self) -> None:
        """At once; etcd gets SIGTERM, as it may lose what it acknowledged otherwise."""
        for child in self.children:
            if pid := child.facts()["pid"]:
                os.kill(pid, signal.SIGTERM if isinstance(child, EtcdChild) else signal.SIGKILL)

    def facts(self) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "endpoint": self.endpoint,
            "http": self.http,
            "etcd": self.etcd,
            "operator_key": str(self.operator_key) if self.auth else None,
            "parts": [child.facts() for child in self.children],
        }

    async def _start(self) -> None:
        plan = self.plan
        self._make_environment_keys()
        _check_port("grpc", plan.grpc_host, plan.grpc_port)
        _check_port("http", plan.http_host, plan.http_port)
        try:
            if not self.etcd:
                await self._start_etcd()
            await self._know_operator()
            for shard in range(self.plan.shards):  # one by one: what starts together has to be ready in time
                await self._start_shard(shard)
            self._note_endpoint()
            await self._until_whole()
            await self._set_concurrency()
        except NotStarted as error:
            raise CannotStart(f"{error}\nEverything that was started has been stopped.") from error

    def _make_environment_keys(self) -> None:
        """Once made they stay in use: what they have sealed could not be opened without them."""
        folder = self._data / "environment-keys"
        if not (self.plan.seal_environment or folder.exists()):
            return
        from lambent import environment_keys

        try:
            private, public = environment_keys.of_fleet(folder)
        except environment_keys.CannotMake as error:
            raise CannotStart(str(error)) from error
        self._sealing = {
            "worker": {"environment_key": str(private)},
            "frontend": {"environment_public_key": str(public)},
        }

    async def _start_shard(self, shard: int) -> None:
        """Its placements, then its workers; the frontend beside those of the first one."""
        placement = {"shard": shard, **self.plan.placement}
        await _all(*(self._start_part("placement", it, placement) for it in self._placements(shard)))
        names = [self._name("worker", shard, number) for number in range(1, self.plan.workers + 1)]
        workers = [self._start_part("worker", it, self._worker(it, shard)) for it in names]
        frontend = [self._start_part("frontend", "frontend", self._frontend())] if shard == 0 else []
        await _all(*workers, *frontend)

    async def _start_etcd(self) -> None:
        try:
            binary = await asyncio.to_thread(find_etcd, self.plan.etcd_binary)
        except EtcdNotStarted as error:
            raise CannotStart(str(error)) from error
        tls = self._certificates.files("etcd", "etcd") if self._certificates else None
        self.etcd_child = EtcdChild(binary, self._data / "etcd", tls)
        await self.etcd_child.start()
        self.etcd = [self.etcd_child.endpoint]
        await self._share_out_anew()

    async def _share_out_anew(self) -> None:
        """The number of shards may be another one than before: of this etcd's fleet nothing runs yet."""
        wanted = b"%d" % self.plan.shards
        async with self._etcd_session() as etcd:
            kept = await etcd.get(keys.SHARDS)
            if kept is None or kept.value == wanted:
                return
            for prefix in keys.UNDER_LEASES:
                if (await etcd.get_prefix(prefix)).items:
                    raise NotStarted(
                        f"This fleet had {kept.value.decode()} shards and is to have {self.plan.shards}, but "
                        f"leases of parts that were killed have not run out yet: wait for 30 s, or start it "
                        f"with --shards {kept.value.decode()}."
                    )
            await etcd.replace(keys.SHARDS, wanted, kept.mod_revision)

    async def _know_operator(self) -> None:
        """Puts the operator's own key into etcd, where callers are asked for one."""
        if not self.auth:
            return
        try:
            key = access_keys.of_operator(self.operator_key)
            async with self._etcd_session() as etcd:
                await access_keys.keep(etcd, key)
            self._token = key.token
        except (EtcdError, OSError) as error:
            raise CannotStart(f"The operator's access key cannot be kept: {error}") from error

    def _etcd_session(self) -> Etcd:
        if self.etcd_child and self._certificates:
            return Etcd(self.etcd, tls=self._certificates.files("operator", "up"))
        return Settings.of_any_part(etcd=",".join(self.etcd)).etcd_session()

    def _client(self) -> Client:
        """Of its own frontend. A certificate that has signed itself is known here without LAMBENT_CA."""
        cert = self.plan.frontend.get("tls_cert")
        own = None
        if cert and not os.environ.get("LAMBENT_CA"):
            own = grpc.ssl_channel_credentials(Path(cert).read_bytes())
        return Client(self.endpoint, access_key=self._token, credentials=own)

    async def _until_whole(self) -> None:
        """Waits until placement leads and all workers here have reported to it."""
        here = {child.facts()["addresses"].get("data") for child in self._parts if child.part == "worker"}
        seen: set[str] = set()
        try:
            async with asyncio.timeout(READY_S), self._client() as client:
                while not here <= seen:
                    with contextlib.suppress(PlatformError):
                        nodes = (await client.nodes()).nodes
                        self.nodes = [node for node in nodes if node.address in here]
                        seen = {node.address for node in self.nodes if node.state == "connected"}
                    await asyncio.sleep(_LOOK_EVERY_S)
        except TimeoutError:
            missing = ", ".join(sorted(here - seen))
            raise NotStarted(f"Placement did not hear from the workers at {missing}.") from None

    async def _set_concurrency(self) -> None:
        if self.plan.concurrency is None:
            return
        try:
            async with self._client() as client:
                await client.set_concurrency(self.plan.concurrency)
        except LambentError as error:
            raise NotStarted(f"The concurrency cannot be {self.plan.concurrency}: {error}.") from None

    def _placements(self, shard: int) -> list[str]:
        if self.plan.shards == self.plan.placements == 1:
            return ["placement"]
        return [self._name("placement", shard, number) for number in range(1, self.plan.placements + 1)]

    def _name(self, part: str, shard: int, number: int) -> str:
        """A shard is a part of the name where there are several."""
        return f"{part}-{number}" if self.plan.shards == 1 else f"{part}-s{shard}-{number}"

    def _worker(self, name: str, shard: int) -> dict[str, Any]:
        return {
            "shard": shard,
            "data": str(self._data / name),
            "packages": str(_folder(self._data / "packages")),
            "memory_mb": self.worker_memory_mb,
            **self.plan.worker,
        }

    def _note_endpoint(self) -> None:
        """The free ports that the frontend took for 0 are those it takes whenever it is started again."""
        frontend = next(child.facts() for child in self._parts if child.part == "frontend")
        self.endpoint, self.http = frontend["addresses"]["grpc"], frontend["addresses"]["http"]
        config = Path(frontend["config"])
        for door, address in (("grpc", self.endpoint), ("http", self.http)):
            port = address.rpartition(":")[2]
            config.write_text(config.read_text().replace(f"{door}_port = 0\n", f"{door}_port = {port}\n"))
        self._publish()

    def _frontend(self) -> dict[str, Any]:
        plan = self.plan
        where = {
            "grpc_host": plan.grpc_host,
            "grpc_port": plan.grpc_port,
            "http_host": plan.http_host,
            "http_port": plan.http_port,
            "auth": self.auth,
        }
        folders = {"packages": str(_folder(self._data / "packages")), "data": str(self._data / "frontend")}
        return {**folders, **where, **self.plan.frontend}

    async def _start_part(self, part: str, name: str, settings: Mapping[str, Any]) -> None:
        told = {"name": name, "etcd": self.etcd, "shards": self.plan.shards, **settings}
        told |= self._sealing.get(part, {})
        if self._certificates:
            told |= self._certificates.settings(part, name, of_etcd=self.etcd_child is not None)
        told = {key: value for key, value in told.items() if value is not None}
        config = _folder(self._data / "config") / f"{name}.toml"
        config.write_text(
            "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in told.items())
        )
        log = _folder(self._data / "logs") / f"{name}.log"
        if log.exists():
            log.replace(log.with_suffix(".log.1"))
        environment = {
            name: value
            for name, value in self._environments[part].items()
            if name not in {variable(key) for key in told}  # what `up` was told has been given in the file
        }
        child = PartChild(part, name, config, log, environment)
        self._parts.append(child)
        await child.start()
        self._publish()

    async def _watch(self, child: Child) -> None:
        """Says when the child ends, and starts it again unless it is not to be."""
        if self.plan.restart:
            await keep(child, self._say, self._publish)
        code = await child.ended()
        self._publish()
        self._say(f"{child.name} ended ({ending(code)}). {last_lines(child.log)}")

    async def _stop(self) -> None:
        """The frontend takes no more calls, the workers end their instances, then who they reported to."""
        for part in ("frontend", "worker", "placement"):
            await asyncio.gather(*(child.stop() for child in self._parts if child.part == part))
        if self.etcd_child:
            await self.etcd_child.stop()
        (self._data / "parts.json").unlink(missing_ok=True)

    def _publish(self) -> None:
        """For tools alone: a disk that is full, which may be why a part has ended, ends no other part."""
        fresh = self._data / "parts.json.new"
        try:
            fresh.write_text(json.dumps(self.facts(), indent=2) + "\n")
            fresh.replace(self._data / "parts.json")
        except OSError as error:
            self._say(f"{fresh} cannot be written: {error.strerror}")


async def _all(*works: Coroutine[Any, Any, None]) -> None:
    """Does all at once; the first that fails stops the others, and its error is raised."""
    try:
        async with asyncio.TaskGroup() as tasks:
            for work in works:
                tasks.create_task(work)
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


def _environment(model: type[Settings]) -> dict[str, str]:
    """This process's environment with those LAMBENT_* variables that are for such a part.

    Not a client's: functions run beside the workers, and LAMBENT_KEY is not for them.
    """
    of_part = {variable(key) for key in model.model_fields}
    known = {variable(key) for other in _MODELS.values() for key in other.model_fields} | CLIENT_VARIABLES
    ours = [name for name in os.environ if name.startswith(PREFIX)]
    faults = [f"{name}: no such setting" for name in ours if name not in known]
    faults += [
        f"{name}: is of one part, and this starts several"
        for name in map(variable, _OF_ONE_PART)
        if name in ours
    ]
    if faults:
        raise CannotStart("\n".join(["These variables are in the way:", *(f"  {fault}" for fault in faults)]))
    return {name: value for name, value in os.environ.items() if name in of_part or name not in ours}


@contextmanager
def _locked(data: Path) -> Iterator[None]:
    """Makes the folder, and keeps it to this process. The kernel lifts the lock however the process ends."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (data / "lock").open("a+")
    except OSError as error:
        raise CannotStart(f"{data} cannot be used as the data folder: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise CannotStart(
                f"Another `lambent up` (process {lock.read().strip() or 'unknown'}) uses {data}: "
                "stop it, or choose another folder with --data."
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def _check_port(door: str, host: str, port: int) -> None:
    """Before anything is started; 0, which takes a free one, is nobody's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host.strip("[]"), port))
    except OSError as error:
        raise CannotStart(
            f"{host}:{port} cannot be listened on ({error.strerror}): stop what does, or choose another port "
            f"with --{door}-port; 0 takes a free one."
        ) from error


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path
