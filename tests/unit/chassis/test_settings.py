"""Settings come from one file and the environment, and everything wrong with them is said at once."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from lambent import certificates
from lambent_chassis.settings import BadSettings
from lambent_frontend.settings import FrontendSettings, is_loopback
from lambent_placement.settings import PlacementSettings
from lambent_worker.settings import WorkerSettings

NOW = datetime.now(UTC)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "part.toml"
    path.write_text('etcd = ["10.0.0.1:2379", "https://10.0.0.2:2379"]\npackages = "/srv/packages"\n')
    return path


def faults(config: Path | None) -> str:
    with pytest.raises(BadSettings) as bad:
        FrontendSettings.load(config)
    return str(bad.value)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("localhost", True),
        ("::1", True),
        ("[::1]", True),
        ("", False),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example.org", False),
        ("::ffff:10.0.0.1", False),
    ],
)
def test_what_only_this_machine_reaches(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_file_alone(config: Path) -> None:
    """What the file says is taken, the rest has the documented defaults."""
    settings = FrontendSettings.load(config)
    assert settings.etcd == ["10.0.0.1:2379", "https://10.0.0.2:2379"]
    assert (settings.grpc_host, settings.grpc_port, settings.max_waiting) == ("127.0.0.1", 50051, 1000)


def test_environment_beats_file(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key is also a variable, which wins; a list is separated by commas there."""
    config.write_text(config.read_text() + "grpc_port = 1\n")
    monkeypatch.setenv("LAMBENT_GRPC_PORT", "6000")
    monkeypatch.setenv("LAMBENT_ETCD", "a:1, b:2")
    settings = FrontendSettings.load(config)
    assert (settings.grpc_port, settings.etcd) == (6000, ["a:1", "b:2"])


def test_environment_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file is needed."""
    monkeypatch.setenv("LAMBENT_ETCD", "a:1")
    assert PlacementSettings.load().starts == 1000


def test_an_empty_variable_is_none(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Service managers hand over `NAME=` for what is not set."""
    monkeypatch.setenv("LAMBENT_GRPC_PORT", "")
    assert FrontendSettings.load(config).grpc_port == 50051


def test_all_faults_at_once(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing key, an unknown one, an unknown variable and a bad value are one message with all names."""
    config.write_text('etcd = ["a:1"]\ngrpc_prot = 5\nlinger_s = -1\n')
    monkeypatch.setenv("LAMBENT_GRPC_PORT", "http")
    monkeypatch.setenv("LAMBENT_COLOUR", "blue")
    said = faults(config)
    assert "packages: must be given, as packages in the file or as LAMBENT_PACKAGES" in said
    assert "grpc_prot: no such setting; did you mean grpc_port?" in said
    assert "linger_s: input should be greater than or equal to 0 (given: -1)" in said
    assert "LAMBENT_GRPC_PORT: input should be a valid integer" in said
    assert "LAMBENT_COLOUR: no such setting" in said
    assert len(said.splitlines()) == 6


def test_variables_of_clients_are_no_fault(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell that is set up to call a fleet can also start a part of one."""
    monkeypatch.setenv("LAMBENT_ENDPOINT", "fleet.example:50051")
    FrontendSettings.load(config)


def test_no_password_in_messages(config: Path) -> None:
    """A fault of a secret does not show the secret."""
    config.write_text(config.read_text() + "etcd_password = 271828\n")
    said = faults(config)
    assert "etcd_password: input should be a valid string" in said
    assert "271828" not in said


def test_nor_one_in_a_url(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAMBENT_NATS", "nats://user:s3cret@10.0.0.8:4222,nats://user:s3c/ret@10.0.0.9:4222")
    said = faults(config)
    assert "s3c" not in said
    assert "10.0.0.8:4222" in said


def test_certificate_without_key(config: Path) -> None:
    """Half a client certificate is refused."""
    config.write_text(config.read_text() + 'etcd_cert = "/etc/lambent/cert.pem"\n')
    assert "etcd_cert and etcd_key go together" in faults(config)


def test_tls_of_the_public_ports(config: Path, tmp_path: Path) -> None:
    """What has no sense is refused by the names of the settings. The files are not looked at here."""
    cert, key = tmp_path / "cert", tmp_path / "key"
    given = config.read_text()

    def told(**paths: Path) -> None:
        config.write_text(given + "".join(f'{name} = "{path}"\n' for name, path in paths.items()))

    told(tls_cert=cert)
    assert "tls_cert and tls_key go together" in faults(config)
    told(tls_client_ca=cert)
    assert "set tls_cert and tls_key" in faults(config)
    told(tls_cert=cert, tls_key=key, tls_client_ca=cert)
    assert FrontendSettings.load(config).tls == (cert, key, cert)


def test_session_with_certificates(config: Path, tmp_path: Path) -> None:
    """Certificates are taken into the session with etcd; without any there is a session too."""
    FrontendSettings.load(config).etcd_session()
    certificates.make_ca(tmp_path, days=30, now=NOW)
    made = certificates.issue(tmp_path, "frontend", "f1", tmp_path, hosts=[], days=9, now=NOW)
    files = {"ca": tmp_path / "ca.crt", "cert": made.cert, "key": made.key}
    lines = "".join(f'etcd_{key} = "{path}"\n' for key, path in files.items())
    config.write_text('etcd = ["https://a:1"]\npackages = "/srv/packages"\n' + lines)
    FrontendSettings.load(config).etcd_session()
    made.key.write_text("no key")
    with pytest.raises(BadSettings, match=f"etcd_cert {made.cert} with etcd_key {made.key} cannot be used"):
        FrontendSettings.load(config).etcd_session()


@pytest.mark.parametrize(
    ("content", "expected"),
    [("etcd = [", "is not TOML"), (None, "cannot be read: No such file or directory")],
)
def test_unreadable_file(config: Path, content: str | None, expected: str) -> None:
    """A file that is not there, or not TOML, is named."""
    config.unlink() if content is None else config.write_text(content)
    assert f"{config} {expected}" in faults(config)


def test_workers_memory(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default most of the machine, and never less than one instance of the smallest size."""
    monkeypatch.setenv("LAMBENT_DATA", "/var/lib/lambent")
    assert WorkerSettings.load(config).memory_mb >= 128
    monkeypatch.setenv("LAMBENT_MEMORY_MB", "127")
    with pytest.raises(BadSettings, match="LAMBENT_MEMORY_MB: input should be greater than or equal to 128"):
        WorkerSettings.load(config)


def test_options_beat_file_and_environment(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not given stays as it was, a list and a variable's value too; what is wrong is said."""
    config.write_text(config.read_text() + 'data = "/srv/data"\nshards = 3\n')
    monkeypatch.setenv("LAMBENT_SHARD", "1")
    monkeypatch.setenv("LAMBENT_LABELS", "zone=a,gpu=true")
    monkeypatch.setenv("LAMBENT_ETCD_PASSWORD", "secret")
    settings = WorkerSettings.load(config).with_options({"shard": 2})
    assert (settings.shards, settings.shard, settings.labels) == (3, 2, ["gpu=true", "zone=a"])
    assert settings.etcd_password.get_secret_value() == "secret"
    assert settings.etcd == ["10.0.0.1:2379", "https://10.0.0.2:2379"]
    with pytest.raises(BadSettings, match="there is no shard 2 in a fleet with 2"):
        settings.with_options({"shards": 2})
    with pytest.raises(BadSettings, match=r"shards: .*less than or equal to 64"):
        settings.with_options({"shards": 65})


@pytest.mark.parametrize("model", [PlacementSettings, WorkerSettings])
def test_a_shard_that_is_not_there(model: type[WorkerSettings], tmp_path: Path) -> None:
    """The fleet has one, unless it is told of more."""
    config = tmp_path / "part.toml"
    config.write_text('etcd = ["a:1"]\nshard = 1\n')
    if model is WorkerSettings:
        config.write_text(config.read_text() + 'packages = "/p"\ndata = "/d"\n')
    with pytest.raises(BadSettings, match=r"there is no shard 1 in a fleet with 1 \(0 alone\)"):
        model.load(config)


def test_each_shard_has_room_for_the_largest_event(config: Path) -> None:
    """An equal part of a frontend's bytes is not less than it needs."""
    config.write_text(config.read_text() + "max_waiting_bytes = 16777215\n")
    assert FrontendSettings.load(config).shards == 1
    config.write_text(config.read_text() + "shards = 2\n")
    assert "16,777,216 bytes are the least (given: 16,777,215)" in faults(config)
