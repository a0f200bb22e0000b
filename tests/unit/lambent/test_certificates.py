"""`lambent cert`: what it writes is what OpenSSL takes, and nothing is written over by accident."""

import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from lambent import certificates
from lambent.cli import lambent
from lambent.cli.failures import FailedCommand

NOW = datetime.now(UTC)


class Done(NamedTuple):
    exit_code: int
    output: str


def run(*arguments: object) -> Done:
    """As `lambent` itself does: what fails is said, with the exit code for it."""
    result = CliRunner().invoke(lambent, [str(it) for it in arguments])
    if isinstance(result.exception, FailedCommand):
        return Done(result.exception.exit_code, str(result.exception))
    return Done(result.exit_code, result.output)


def openssl(*arguments: object) -> str:
    done = subprocess.run(
        ["openssl", *map(str, arguments)], capture_output=True, text=True, timeout=20, check=False
    )
    return done.stdout + done.stderr


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    folder = tmp_path / "ca"
    assert run("cert", "ca", "--out", folder).exit_code == 0
    return folder


def test_openssl_takes_it_for_both_directions(ca: Path, tmp_path: Path) -> None:
    assert run("cert", "issue", "worker", "w1", "--ca", ca, "--out", tmp_path).exit_code == 0
    cert = tmp_path / "worker-w1.crt"
    for purpose in ("sslserver", "sslclient"):
        verified = openssl("verify", "-x509_strict", "-purpose", purpose, "-CAfile", ca / "ca.crt", cert)
        assert verified == f"{cert}: OK\n"
    named = openssl(
        "verify", "-verify_hostname", "w1.worker.lambent.internal", "-CAfile", ca / "ca.crt", cert
    )
    assert named == f"{cert}: OK\n"


def test_keys_are_their_owners_alone(ca: Path, tmp_path: Path) -> None:
    run("cert", "issue", "worker", "w1", "--ca", ca, "--out", tmp_path)
    for key in (ca / "ca.key", tmp_path / "worker-w1.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_a_ca_is_not_written_over(ca: Path) -> None:
    before = (ca / "ca.key").read_bytes()
    result = run("cert", "ca", "--out", ca)
    assert result.exit_code == 2
    assert "is there already" in result.output
    assert (ca / "ca.key").read_bytes() == before


def test_a_certificate_is_renewed(ca: Path, tmp_path: Path) -> None:
    command = ("cert", "issue", "worker", "w1", "--ca", ca, "--out", tmp_path)
    run(*command)
    first = (tmp_path / "worker-w1.crt").read_bytes()
    assert run(*command).exit_code == 0
    assert (tmp_path / "worker-w1.crt").read_bytes() != first
    assert not list(tmp_path.glob(".*.new"))


def test_what_is_reached_by_address_has_it(ca: Path, tmp_path: Path) -> None:
    command = ("cert", "issue", "etcd", "e1", "--ca", ca, "--out", tmp_path)
    refused = run(*command)
    assert (refused.exit_code, "say which, as with --host" in refused.output) == (2, True)
    assert run(*command, "--host", "10.0.0.5", "--host", "e1.example").exit_code == 0
    shown = run("cert", "show", tmp_path / "etcd-e1.crt").output
    assert "10.0.0.5, e1.example" in shown
    assert "no part of a fleet" in shown


def test_it_says_whose_it_is(ca: Path, tmp_path: Path) -> None:
    run("cert", "issue", "frontend", "f1", "--ca", ca, "--out", tmp_path, "--days", 7)
    shown = run("cert", "show", tmp_path / "frontend-f1.crt").output
    assert "frontend f1" in shown
    assert "days_left  6" in shown
    assert "a CA" in run("cert", "show", ca / "ca.crt").output


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("worker", "w" * 64), "is no part's name"),
        (("worker", "w..1"), "is no part's name"),
        (("worker", "*"), "is no part's name"),
        (("worker", "../w1"), "is no part's name"),
        (("worker", "w1", "--days", "9999"), "the CA itself ends on"),
    ],
)
def test_what_cannot_be_signed(ca: Path, tmp_path: Path, arguments: tuple[str, ...], why: str) -> None:
    result = run("cert", "issue", *arguments, "--ca", ca, "--out", tmp_path)
    assert (result.exit_code, why in result.output) == (2, True), result.output
    assert not list(tmp_path.glob("*.crt"))


def test_a_ca_that_is_none_signs_nothing(ca: Path, tmp_path: Path) -> None:
    """The key of another, or a certificate that is not a CA's own."""
    other = tmp_path / "other"
    certificates.make_ca(other, days=30, now=NOW + timedelta(days=1))
    (ca / "ca.key").write_bytes((other / "ca.key").read_bytes())
    result = run("cert", "issue", "worker", "w1", "--ca", ca, "--out", tmp_path)
    assert "is not the key of" in result.output


def test_what_is_no_certificate_is_said(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("nothing")
    assert "is no certificate in PEM" in run("cert", "show", tmp_path / "x").output
