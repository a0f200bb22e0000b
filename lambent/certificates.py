"""A small CA for a fleet: it signs the certificates that its parts, etcd and NATS show each other."""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lambent.files import replace_file
from lambent_chassis.etcd import Tls
from lambent_proto import identity

SERVERS: Final = ("etcd", "nats")
"""What parts connect to, and is no part: its certificate says at which addresses it is."""

LONGEST_LABEL: Final = 63
"""Of a DNS name between two dots: RFC 1035, 2.3.4."""

_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")
"""As in the settings; `*` would be every part of the kind, and `/` another folder."""

CA_DAYS: Final = 3650
DAYS: Final = 365

BACKDATED: Final = timedelta(minutes=5)
"""So that a host whose clock is a little behind takes a new certificate."""


class CannotSign(Exception):
    """Nothing was written. The message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Made:
    cert: Path
    key: Path
    until: datetime


@dataclass(frozen=True, slots=True)
class Shown:
    """What a certificate says; `of` is empty where it is no part's."""

    of: str
    names: list[str]
    since: datetime
    until: datetime
    issuer: str
    ca: bool


def make_ca(folder: Path, *, days: int, now: datetime) -> Made:
    """Writes `ca.crt` and `ca.key` into the folder, which is made if need be. Raises CannotSign."""
    made = Made(folder / "ca.crt", folder / "ca.key", now + timedelta(days=days))
    for path in (made.cert, made.key):
        if path.exists():
            raise CannotSign(
                f"{path} is there already: a new CA would make every certificate of the old one useless"
            )
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Lambent fleet CA")])
    builder = _begun(name, name, key.public_key(), now, made.until)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    _write(made, builder.sign(key, hashes.SHA256()), key)
    return made


def issue(
    ca: Path, part: str, name: str, folder: Path, *, hosts: Sequence[str], days: int, now: datetime
) -> Made:
    """Writes `PART-NAME.crt` and `.key` into the folder, over older ones. Raises CannotSign.

    `ca` is the folder with `ca.crt` and `ca.key`; `hosts` are further DNS names and addresses.
    """
    if not _NAME.fullmatch(name):
        raise CannotSign(f"{name!r} is no part's name: letters, digits, and . _ - are what it may consist of")
    if any(len(label) > LONGEST_LABEL or not label for label in name.split(".")):
        raise CannotSign(f"{name!r} is no part's name: 1 to {LONGEST_LABEL} characters between two dots")
    if part in SERVERS and not hosts:
        raise CannotSign(
            f"parts reach {part} by its address: say which, as with --host 10.0.0.5 --host {name}"
        )
    signer, signing = _read_ca(ca)
    until = now + timedelta(days=days)
    if until > signer.not_valid_after_utc:
        raise CannotSign(f"the CA itself ends on {signer.not_valid_after_utc:%Y-%m-%d}: ask for fewer days")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{part} {name}"[:64])])
    builder = _begun(subject, signer.subject, key.public_key(), now, until)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = builder.add_extension(x509.ExtendedKeyUsage(both), critical=False)
    of_part = [identity.dns_name(part, name), identity.dns_name(part)] if part in identity.PARTS else []
    names = [*(x509.DNSName(it) for it in of_part), *(_host(it) for it in hosts)]
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key())
    builder = builder.add_extension(authority, critical=False)
    made = Made(folder / f"{part}-{name}.crt", folder / f"{part}-{name}.key", until)
    _write(made, builder.sign(signing, hashes.SHA256()), key)
    return made


def show(path: Path) -> Shown:
    """Raises CannotSign if it is no certificate."""
    certificate = _certificate(path)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        told = [str(name.value) for name in names]
    except x509.ExtensionNotFound:
        told = []
    try:
        ca = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        ca = False
    return Shown(
        of=str(identity.read(told) or ""),
        names=told,
        since=certificate.not_valid_before_utc,
        until=certificate.not_valid_after_utc,
        issuer=certificate.issuer.rfc4514_string(),
        ca=ca,
    )


class FleetCertificates:
    """Those of one machine's fleet, with a CA of its own: all but the CA are made anew at each start."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._now = datetime.now(UTC)

    def files(self, part: str, name: str) -> Tls:
        """Raises CannotSign."""
        ca = self._folder / "ca"
        if not (ca / "ca.crt").exists():
            make_ca(ca, days=CA_DAYS, now=self._now)
        hosts = ["127.0.0.1", "localhost"] if part in SERVERS else []
        made = issue(ca, part, name, self._folder, hosts=hosts, days=DAYS, now=self._now)
        return Tls(ca_file=ca / "ca.crt", cert_file=made.cert, key_file=made.key)

    def settings(self, part: str, name: str, *, of_etcd: bool) -> dict[str, str]:
        """What a part of this fleet is told; `of_etcd` if etcd asks for a certificate as well.

        Raises CannotSign.
        """
        tls = self.files(part, name)
        files = {"ca": str(tls.ca_file), "cert": str(tls.cert_file), "key": str(tls.key_file)}
        told = {f"fleet_{kind}": path for kind, path in files.items()}
        return told | ({f"etcd_{kind}": path for kind, path in files.items()} if of_etcd else {})


def _begun(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, until: datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder(issuer_name=issuer, subject_name=subject, public_key=key)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    return builder.not_valid_before(now - BACKDATED).not_valid_after(until)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise CannotSign(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CannotSign(f"{path} is no certificate in PEM: {error}") from error


def _read_ca(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    path = folder / "ca.key"
    certificate = _certificate(folder / "ca.crt")
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise CannotSign(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise CannotSign(f"{path} is no key in PEM without a password: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise CannotSign(f"{path} is not the key of {folder / 'ca.crt'}")
    try:
        certificate.verify_directly_issued_by(certificate)
    except (ValueError, InvalidSignature, TypeError) as error:
        raise CannotSign(f"{folder / 'ca.crt'} is no CA of its own: {error}") from error
    return certificate, key


def _write(made: Made, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    """The key first: who reads both meanwhile has a pair that does not fit, and goes on with what it had."""
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        made.cert.parent.mkdir(parents=True, exist_ok=True)
        replace_file(made.key, secret, 0o600)
        replace_file(made.cert, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    except OSError as error:
        raise CannotSign(f"{made.cert.parent} cannot be written to: {error.strerror}") from error
