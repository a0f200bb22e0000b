"""A fleet on several hosts, over SSH: `python deploy/cluster/cluster.py up inventory.toml`, again and again.

It makes the certificates, sends each host what it needs, starts what does not run, and restarts what runs
with something older, one part after the other, so that no call fails. docs/cluster.md has the rest.
"""

import io
import json
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import click
import inventory
from inventory import Host, Inventory

from lambent import certificates
from lambent.files import replace_file

HERE: Final = Path(__file__).resolve().parent
THERE: Final = "/var/lib/lambent-cluster/bundle"
"""On the hosts: what was sent last."""

RENEW: Final = timedelta(days=60)
"""A certificate that ends sooner is made anew."""

READY_S: Final = 120.0
LAMBENT: Final = "/opt/lambent/bin/lambent"


class Failed(Exception):
    """A host did not do what it was told; the message says which and why."""


@click.command()
@click.argument("command", type=click.Choice(["check", "up"]))
@click.argument("file", type=click.Path(path_type=Path))
def main(command: str, file: Path) -> None:
    """`check` the inventory, touching nothing; or bring the hosts `up` to what it says."""
    try:
        fleet = inventory.read(file)
        if command == "check":
            click.echo(f"{len(fleet.hosts)} hosts, and all their settings are sound.")
        else:
            up(fleet)
    except (inventory.BadInventory, certificates.CannotSign, Failed) as error:
        sys.exit(str(error))


def up(fleet: Inventory) -> None:
    sign(fleet)
    each(fleet.hosts, lambda host: send(fleet, host))
    each(fleet.with_part("etcd"), lambda host: start(host, "etcd"))
    for host in fleet.with_part("etcd"):  # one at a time, so that a majority is always there
        if "etcd" in pending(host):
            restart(host, "etcd")
    for part in inventory.PARTS:
        each(fleet.with_part(part), lambda host, part=part: start(host, part))  # type: ignore[misc]
    key_of_operator(fleet)
    whole(fleet)
    roll(fleet)
    endpoints = [f"{host.address}:{port(fleet, host)}" for host in fleet.with_part("frontend")]
    click.echo(f"The fleet is up. LAMBENT_ENDPOINT={endpoints[0]} LAMBENT_CA={fleet.folder}/ca/ca.crt")
    click.echo(f"A key that may do everything is in {fleet.folder}/operator-key, for LAMBENT_KEY.")


def sign(fleet: Inventory) -> None:
    """The CA, and a certificate for each part of each host, unless there is one that lasts."""
    now, ca = datetime.now(UTC), fleet.folder / "ca"
    fleet.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (ca / "ca.crt").exists():
        certificates.make_ca(ca, days=certificates.CA_DAYS, now=now)
    for host in fleet.hosts:
        for part in host.parts:
            made = fleet.folder / f"{part}-{host.name}.crt"
            hosts = [host.address, "127.0.0.1"] if part == "etcd" else []
            hosts += [host.address, *fleet.names] if part == "frontend" else []
            if made.exists() and lasts(made, hosts, now):
                continue
            certificates.issue(
                ca, part, host.name, fleet.folder, hosts=hosts, days=certificates.DAYS, now=now
            )


def lasts(made: Path, hosts: Iterable[str], now: datetime) -> bool:
    """Whether a certificate is good for a while, and for each address that its part is reached under."""
    shown = certificates.show(made)
    return shown.until - now > RENEW and set(hosts) <= set(shown.names)


def send(fleet: Inventory, host: Host) -> None:
    """The bundle, and what the host makes of it; nothing restarts."""
    emptied = f"rm -rf {THERE} && install -d -m 700 {THERE}"
    run(host, f"{emptied} && tar -xz -C {THERE}", bundle(fleet, host))
    extras = f"[{','.join(fleet.extras)}]" if fleet.extras else ""
    say(host, on_host(host, "apply", fleet.python, f"{fleet.wheel.name}{extras}"))


def bundle(fleet: Inventory, host: Host) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:

        def add(name: str, content: bytes) -> None:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o600
            archive.addfile(entry, io.BytesIO(content))

        add("host.sh", (HERE / "host.sh").read_bytes())
        add("parts", "\n".join(host.parts).encode())
        add("packages", fleet.packages.encode())
        add(fleet.wheel.name, fleet.wheel.read_bytes())
        add("etc/ca.crt", (fleet.folder / "ca" / "ca.crt").read_bytes())
        for name, text in inventory.files(fleet, host).items():
            add(f"etc/{name}", text.encode())
        for part in host.parts:
            for end in ("crt", "key"):
                name = f"{part}-{host.name}.{end}"
                add(f"etc/{name}", (fleet.folder / name).read_bytes())
            unit = f"lambent-{part}.service"
            folder = HERE if part == "etcd" else HERE.parent / "systemd"
            add(f"systemd/{unit}", (folder / unit).read_bytes())
    return buffer.getvalue()


def start(host: Host, part: str) -> None:
    say(host, on_host(host, "start", part))


def pending(host: Host) -> list[str]:
    return on_host(host, "pending").split()


def restart(host: Host, part: str) -> None:
    click.echo(f"{host.name}: restarting {part}")
    on_host(host, "restart", part)


def whole(fleet: Inventory) -> None:
    """Waits for it. Where it does not become so, what is pending may be what mends it, and is restarted."""
    try:
        until(lambda: missing(fleet))
    except Failed:
        marked = [
            (host, part)
            for part in inventory.PARTS
            for host in fleet.with_part(part)
            if part in pending(host)
        ]
        if not marked:
            raise
        for host, part in marked:
            restart(host, part)
        until(lambda: missing(fleet))


def roll(fleet: Inventory) -> None:
    """Workers, frontends, placements, one after the other, each once the one before is back."""
    marks = {host.name: pending(host) for host in fleet.hosts}
    for part in ("worker", "frontend", "placement"):
        hosts = [host for host in fleet.with_part(part) if part in marks[host.name]]
        for host in leader_last(fleet, hosts) if part == "placement" else hosts:
            restart(host, part)
            until(lambda: missing(fleet))


def leader_last(fleet: Inventory, hosts: list[Host]) -> list[Host]:
    """So that leadership changes hands once."""
    leader = str(nodes(fleet, fleet.with_part("frontend")[0]).get("leader", ""))
    return sorted(hosts, key=lambda host: leader.rpartition(":")[0] == host.address)


def key_of_operator(fleet: Inventory) -> None:
    """Made once; it is nowhere but here, and in etcd as a digest."""
    path = fleet.folder / "operator-key"
    if path.exists():
        return
    host = fleet.with_part("frontend")[0]
    config = f"{inventory.ETC}/frontend.toml"
    made = run(host, f"{LAMBENT} key create --config {config} --allow '*' --description operator --json")
    replace_file(path, (json.loads(made)["token"] + "\n").encode(), 0o600)


def missing(fleet: Inventory) -> str:
    """What is not there yet, as each frontend sees it; empty if the fleet is whole."""
    wanted = {host.name for host in fleet.with_part("worker")}
    for host in fleet.with_part("frontend"):
        try:
            told = nodes(fleet, host)
        except Failed as error:
            return str(error)
        away = ("disconnected", "unreported")
        there = {node["name"] for node in told.get("nodes", []) if node["state"] not in away}
        if wanted - there:
            return f"{host.name} sees no worker {', '.join(sorted(wanted - there))}"
    return ""


def nodes(fleet: Inventory, frontend: Host) -> dict[str, Any]:
    """What a frontend lists, asked on its own host. The key goes through standard input, as everybody there
    sees arguments."""
    asked = (
        f"read -r LAMBENT_KEY; export LAMBENT_KEY LAMBENT_CA={fleet.client_ca}; "
        f"{LAMBENT} nodes --json --endpoint {frontend.address}:{port(fleet, frontend)}"
    )
    told: dict[str, Any] = json.loads(run(frontend, asked, (fleet.folder / "operator-key").read_bytes()))
    return told


def port(fleet: Inventory, frontend: Host) -> int:
    return int(inventory.settings(fleet, frontend, "frontend").get("grpc_port", 50051))


def until(lacking: Callable[[], str]) -> None:
    """Waits until nothing is lacking any more."""
    deadline = time.monotonic() + READY_S
    while what := lacking():
        if time.monotonic() > deadline:
            raise Failed(f"Not whole after {READY_S:g} s, and nothing more is restarted: {what}")
        time.sleep(0.5)


def each(hosts: Iterable[Host], act: Callable[[Host], None]) -> None:
    """All at one time; the first failure is raised when all are done."""
    with ThreadPoolExecutor(16) as pool:
        for done in [pool.submit(act, host) for host in hosts]:
            done.result()


def on_host(host: Host, *arguments: str) -> str:
    return run(host, " ".join(["sh", f"{THERE}/host.sh", *(f"'{it}'" for it in arguments)]))


def run(host: Host, command: str, stdin: bytes = b"") -> str:
    """As root there, by sudo if SSH logs in as somebody else."""
    quoted = command.replace("'", "'\\''")
    whole = f"if [ \"$(id -u)\" = 0 ]; then sh -c '{quoted}'; else sudo -n sh -c '{quoted}'; fi"
    ssh = ["ssh", "-o", "BatchMode=yes", *host.ssh.split(), whole]
    done = subprocess.run(ssh, input=stdin, capture_output=True, check=False)
    if done.returncode:
        raise Failed(f"{host.name}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout.decode()


def say(host: Host, lines: str) -> None:
    for line in lines.splitlines():
        click.echo(f"{host.name}: {line}")


if __name__ == "__main__":
    main()
