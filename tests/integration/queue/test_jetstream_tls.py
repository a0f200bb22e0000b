"""A nats-server that asks for certificates: who has one uses the queue, and a renewed one is taken."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lambent import certificates
from lambent_chassis.settings import BadSettings
from lambent_frontend.queue.jetstream import JetStreamStore
from lambent_frontend.queue.sqlite import CannotOpen
from lambent_frontend.queue.stream import Login
from lambent_frontend.settings import FrontendSettings
from tests.brokers import processes
from tests.e2e.load import eventually
from tests.integration.queue.test_jetstream import MOST_BYTES, put

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

NOW = datetime.now(UTC)


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    folder = tmp_path / "ca"
    certificates.make_ca(folder, days=30, now=NOW)
    return folder


def issue(ca: Path, part: str, name: str) -> certificates.Made:
    hosts = ["127.0.0.1"] if part == "nats" else []
    return certificates.issue(ca, part, name, ca.parent / "certs", hosts=hosts, days=10, now=NOW)


def server(ca: Path, folder: Path, port: int = 0) -> processes.Broker:
    made = issue(ca, "nats", "n1")
    files = ("--tlscacert", ca / "ca.crt"), ("--tlscert", made.cert), ("--tlskey", made.key)
    options = ["--tlsverify", *(str(word) for pair in files for word in pair)]
    return processes.a_nats(folder, port=port, options=options)


@pytest.fixture
def broker(ca: Path, tmp_path: Path) -> Iterator[processes.Broker]:
    broker = server(ca, tmp_path / "nats")
    with processes.running(broker):
        yield broker


def settings(**told: Any) -> FrontendSettings:
    return FrontendSettings(etcd=["127.0.0.1:1"], packages="x", **told)


async def opened(broker: processes.Broker, copy: Path, told: FrontendSettings) -> JetStreamStore:
    url = broker.url.replace("nats://", "tls://")
    login = Login(tls=told.nats_tls())
    return await JetStreamStore.open([url], copy, copy.name, most_bytes=MOST_BYTES, login=login)


async def test_with_a_certificate_it_is_a_queue_as_any(
    ca: Path, broker: processes.Broker, tmp_path: Path
) -> None:
    made = issue(ca, "frontend", "f1")
    told = settings(nats_ca=ca / "ca.crt", nats_cert=made.cert, nats_key=made.key)
    store = await opened(broker, tmp_path / "one", told)
    await put(store)
    await store.close()


async def test_without_one_it_is_refused(ca: Path, broker: processes.Broker, tmp_path: Path) -> None:
    """The frontend does not start, and says why."""
    with pytest.raises(CannotOpen, match="cannot be reached"):
        await opened(broker, tmp_path / "one", settings(nats_ca=ca / "ca.crt"))


async def test_a_renewed_certificate_is_shown_when_it_connects_again(
    ca: Path, broker: processes.Broker, tmp_path: Path
) -> None:
    """The one that it began with has ended meanwhile: a server with another CA would not take it any more."""
    made = issue(ca, "frontend", "f1")
    known = tmp_path / "known.crt"
    known.write_bytes((ca / "ca.crt").read_bytes())
    store = await opened(
        broker, tmp_path / "one", settings(nats_ca=known, nats_cert=made.cert, nats_key=made.key)
    )
    await put(store)
    other = tmp_path / "other"
    certificates.make_ca(other, days=30, now=NOW)
    issue(other, "frontend", "f1")
    known.write_bytes((other / "ca.crt").read_bytes())
    broker.kill()
    port = int(broker.url.rpartition(":")[2])
    with processes.running(server(other, tmp_path / "nats", port)):

        async def takes() -> bool:
            try:
                await put(store)
            except Exception:  # noqa: BLE001 - whatever it says while it is away
                return False
            return True

        await eventually(takes, "it takes events again")
        await store.close()


@pytest.mark.parametrize(
    ("told", "why"),
    [({"nats_cert": "x", "nats_key": "y"}, "go together"), ({"nats_ca": "/nowhere.crt"}, "cannot be used")],
)
def test_files_that_will_not_do_are_named(told: dict[str, str], why: str) -> None:
    with pytest.raises((BadSettings, ValueError), match=why):
        settings(**told).nats_tls()
