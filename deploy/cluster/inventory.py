"""What an inventory says, checked, and what each host gets for it. Nothing here reaches a host."""

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lambent_chassis.settings import Settings
from lambent_frontend.settings import FrontendSettings
from lambent_placement.settings import PlacementSettings
from lambent_worker.settings import WorkerSettings

PARTS: Final = ("placement", "worker", "frontend")
WRITABLE: Final = "/srv/lambent/"
"""What the frontend's unit leaves writable beside its own folder."""
"""In the order in which they are started for the first time."""

MODELS: Final[Mapping[str, type[Settings]]] = {
    "placement": PlacementSettings,
    "worker": WorkerSettings,
    "frontend": FrontendSettings,
}
ETC: Final = "/etc/lambent"
CLIENT_PORT, PEER_PORT = 2379, 2380

_KEYS: Final = {"wheel", "extras", "packages", "folder", "python", "names", "client_ca", "settings", "hosts"}
_HOST_KEYS: Final = {"ssh", "address", "parts", "settings"}
_ETCD_SIZES: Final = (1, 3, 5, 7)


class BadInventory(Exception):
    """Everything that is wrong, a line each; nothing was touched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    name: str
    address: str
    """Where the other hosts reach it."""
    ssh: str
    """What `ssh` is given."""
    parts: tuple[str, ...]
    settings: Mapping[str, Mapping[str, Any]]
    """By part: what is this host's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    wheel: Path
    packages: str
    folder: Path
    """Here: the CA, the certificates and the operator's key."""
    hosts: tuple[Host, ...]
    extras: tuple[str, ...] = ()
    python: str = "python3"
    """On the hosts, to make the environment with."""
    names: tuple[str, ...] = ()
    """Under which clients reach frontends, beside the hosts' addresses."""
    client_ca: str = f"{ETC}/ca.crt"
    """On the hosts: who signed what frontends show to clients."""
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By part: what is the same on all hosts."""

    def with_part(self, part: str) -> list[Host]:
        return [host for host in self.hosts if part in host.parts]

    @property
    def etcd(self) -> list[str]:
        return [f"https://{host.address}:{CLIENT_PORT}" for host in self.with_part("etcd")]


def read(path: Path) -> Inventory:
    """Raises BadInventory."""
    try:
        told = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise BadInventory(f"{path}: {error}") from error
    if faults := _faults(told):
        raise BadInventory("\n".join(faults))
    beside = path.absolute().parent
    hosts = tuple(_host(name, of) for name, of in told.pop("hosts").items())
    inventory = Inventory(
        hosts=hosts,
        wheel=beside / told.pop("wheel"),
        folder=beside / told.pop("folder", "cluster"),
        extras=tuple(told.pop("extras", ())),
        names=tuple(told.pop("names", ())),
        **told,
    )
    if faults := _beyond(inventory):
        raise BadInventory("\n".join(faults))
    return inventory


def _faults(told: Mapping[str, Any]) -> list[str]:
    faults = [f"{key}: no such key" for key in told if key not in _KEYS]
    faults += [f"{key}: missing" for key in ("wheel", "packages", "hosts") if not told.get(key)]
    for name, host in told.get("hosts", {}).items():
        if not re.fullmatch(r"[A-Za-z0-9-]+", name):
            faults.append(f"hosts.{name}: a host's name has letters, digits and hyphens alone")
        faults += [f"hosts.{name}.{key}: no such key" for key in host if key not in _HOST_KEYS]
        faults += [f"hosts.{name}.{key}: missing" for key in ("address", "parts") if not host.get(key)]
        unknown = set(host.get("parts", ())) - {"etcd", *PARTS}
        faults += [f"hosts.{name}.parts: {part!r} is none of etcd, {', '.join(PARTS)}" for part in unknown]
    return faults


def _host(name: str, told: Mapping[str, Any]) -> Host:
    address = told["address"]
    ssh = told.get("ssh", f"root@{address}")
    return Host(
        name=name, address=address, ssh=ssh, parts=tuple(told["parts"]), settings=told.get("settings", {})
    )


def _beyond(inventory: Inventory) -> list[str]:
    """What is wrong though each key by itself is right."""
    faults = []
    if (members := len(inventory.with_part("etcd"))) not in _ETCD_SIZES:
        faults.append(f"{members} hosts have etcd: take 3, or 5 if two may be lost at once; 1 to try it out")
    faults += [f"no host has a {part}" for part in PARTS if not inventory.with_part(part)]
    if not inventory.wheel.is_file():
        faults.append(f"{inventory.wheel}: there is no such file; `pip wheel --no-deps .` makes it")
    if inventory.packages.startswith("/") and not inventory.packages.startswith(WRITABLE):
        faults.append(
            f"packages: frontends may write below {WRITABLE} alone (deploy/systemd): mount it there"
        )
    for host in inventory.hosts:
        for part in set(host.parts) - {"etcd"}:
            try:
                MODELS[part].model_validate(settings(inventory, host, part))
            except ValueError as error:
                faults.append(f"{host.name}, {part}: {error}")
    return faults


def settings(inventory: Inventory, host: Host, part: str) -> dict[str, Any]:
    """Of one part on one host: ours, then those of all hosts, then its own."""
    certificate = f"{ETC}/{part}-{host.name}"
    own: dict[str, Any] = {
        "name": host.name,
        "host": host.address,
        "etcd": inventory.etcd,
        "etcd_ca": f"{ETC}/ca.crt",
        "etcd_cert": f"{certificate}.crt",
        "etcd_key": f"{certificate}.key",
        "fleet_ca": f"{ETC}/ca.crt",
        "fleet_cert": f"{certificate}.crt",
        "fleet_key": f"{certificate}.key",
    }
    if part != "placement":
        own |= {"packages": inventory.packages, "data": f"/var/lib/lambent/{part}"}
    if part == "frontend":
        own |= {"grpc_host": host.address, "http_host": host.address}
        own |= {"tls_cert": own["fleet_cert"], "tls_key": own["fleet_key"]}
    return own | dict(inventory.settings.get(part, {})) | dict(host.settings.get(part, {}))


def files(inventory: Inventory, host: Host) -> dict[str, str]:
    """Of /etc/lambent, by name; certificates are beside them."""
    made = {}
    for part in host.parts:
        if part == "etcd":
            made["etcd.json"] = json.dumps(_etcd(inventory, host), indent=1)
        else:
            told = settings(inventory, host, part)
            made[f"{part}.toml"] = "".join(
                f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in told.items()
            )
    return made


def _etcd(inventory: Inventory, host: Host) -> dict[str, Any]:
    """Its configuration file: YAML, of which JSON is a part. The options are those of docs/etcd.md."""
    certificate = f"{ETC}/etcd-{host.name}"
    shown = {
        "cert-file": f"{certificate}.crt",
        "key-file": f"{certificate}.key",
        "trusted-ca-file": f"{ETC}/ca.crt",
        "client-cert-auth": True,
    }
    client, peer = f"https://{host.address}:{CLIENT_PORT}", f"https://{host.address}:{PEER_PORT}"
    members = inventory.with_part("etcd")
    return {
        "name": host.name,
        "data-dir": "/var/lib/lambent/etcd",
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": ",".join(f"{it.name}=https://{it.address}:{PEER_PORT}" for it in members),
        "initial-cluster-token": "lambent",
        "auto-compaction-mode": "periodic",
        "auto-compaction-retention": "5m",
        "quota-backend-bytes": 4294967296,
        "client-transport-security": shown,
        "peer-transport-security": shown,
        "log-level": "warn",
        "logger": "zap",
    }
