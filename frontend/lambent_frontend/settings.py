"""What a frontend is told at its start."""

import ipaddress
import ssl
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from lambent_chassis.peering import BadCertificates, Files, Mtls
from lambent_chassis.settings import BadSettings, CommaSeparated, Port, Settings
from lambent_frontend.call_log import Kept
from lambent_frontend.environments import Environments
from lambent_frontend.tls import CannotEncrypt, PublicTls
from lambent_frontend.triggers.names import parse_sources
from lambent_frontend.urls.hosts import is_base
from lambent_proto.shards import MOST_SHARDS

MOST_PROCESSES: Final = 256

LEAST_WAITING_BYTES: Final = 8 * 1024 * 1024
"""So that the largest event finds room."""


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there. A name counts as one that others reach."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class FrontendSettings(Settings):
    processes: int = Field(default=1, ge=1, le=MOST_PROCESSES)
    """How many frontends share this one's ports, each a process with a core of its own to use; what the other
    settings say is said to each."""
    host: str = "127.0.0.1"
    """Where it listens for the other frontends, and what it tells them to ask."""
    control_port: Port = 0
    """There. With several processes the next ones have the next ports, unless it is 0."""
    metrics_port: Port = 0
    """There, `GET /metrics` for Prometheus: docs/metrics.md. With several processes as above."""
    share_ports: bool = False
    """Whether other frontends on this machine may listen on the same ports: the kernel gives each new
    connection to one of them."""
    grpc_host: str = "127.0.0.1"
    grpc_port: Port = 50051
    grpc_server: Literal["own", "grpcio"] = "own"
    """Whose HTTP/2 answers gRPC: Lambent's own, or grpcio's, which takes a multiple of the CPU."""
    http_host: str = "127.0.0.1"
    http_port: Port = 9000
    """For Lambda's HTTP API."""
    tls_cert: Path | None = None
    """PEM file of this frontend's certificate, and of those that signed it; together with `tls_key`, which is
    not encrypted. Both ports are TLS's then, and nothing else."""
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    """PEM file of who signs the certificates that callers have to have. None: they need none."""
    url_base: str = ""
    """What all function URLs have in common, without their ids: docs/urls.md. Empty: this machine, at
    `http_port`."""
    auth: bool = True
    """Whether callers are asked for an access key. Without it whoever reaches the port may do everything."""
    http_names: CommaSeparated = Field(default_factory=list)
    """Names by which it may be asked for over HTTP where `auth` is off, beside addresses, `localhost` and
    names without a dot: a web page could give any other this machine's address."""
    console: bool = True
    """Whether the page to look at the fleet with is at `/console` of the HTTP port: docs/console.md."""
    packages: str
    """The package store: a folder, or a URL such as `s3://bucket/prefix`; the same for all parts."""
    shards: int = Field(default=1, ge=1, le=MOST_SHARDS)
    """How many the fleet has; it serves all of them: docs/shards.md."""
    drain_s: float = Field(default=5.0, ge=0)
    """What calls under way are given when it is stopped, in seconds."""
    max_waiting: int = Field(default=1000, ge=0)
    """Calls in line per function; of one more, one is throttled."""
    max_waiting_bytes: int = Field(default=256 * 1024 * 1024, ge=LEAST_WAITING_BYTES)
    """Bytes of events in line, of all functions together. Those of one function, priority and tenant take
    at most as many as they leave free. Each shard has an equal part."""
    rate_per_concurrency: float = Field(default=0.0, ge=0)
    """Calls a second that a function may have for each unit of its concurrency, over all frontends; 0: any
    number. Lambda's is 10."""
    waiting_s: float = Field(default=30.0, gt=0)
    """Longest wait for an instance where the caller sets no deadline."""
    linger_s: float = Field(default=0.1, ge=0)
    """How long an idle instance's lease is kept for the next call before it is given back."""
    data: Path | None = None
    """Folder of its own, for the queue of asynchronous calls. None: it takes none."""
    environment_public_key: Path | None = None
    """PEM file of the public keys, of which the first one seals the values of functions' environment
    variables; workers open them: docs/security.md. None: they are in etcd as they are given."""
    nats: CommaSeparated = Field(default_factory=list)
    """Servers with JetStream that keep the queue, `nats://HOST:PORT` or `tls://HOST:PORT`, the same for all
    frontends: docs/async.md. None: a file in `data` keeps it, where there is only a copy otherwise."""
    nats_credentials: Path | None = None
    """Credentials file of a user of NATS; or `nats_user` and `nats_password`."""
    nats_user: str = ""
    nats_password: SecretStr = SecretStr("")
    nats_ca: Path | None = None
    """PEM file of who signed the certificates of the servers at `tls://`. None: the system's roots."""
    nats_cert: Path | None = None
    """PEM file of the certificate that such servers ask for; with `nats_key` and `nats_ca`."""
    nats_key: Path | None = None
    nats_replicas: int = Field(default=1, ge=1, le=5)
    """On how many of the servers each event is."""
    queue_mb: int = Field(default=10_000, ge=1)
    """What the queue may grow to; what there is no room for is refused."""
    queue_spare_mb: int = Field(default=64, ge=1)
    """Left free on the queue's disk, so that what was taken can end."""
    queue_concurrency: int = Field(default=100, ge=1)
    """Most asynchronous calls of one function that run, or stand in line, at one time."""
    queue_results_s: float = Field(default=3600.0, gt=0)
    """How long it is known what became of an asynchronous call, and what an idempotency key stands for."""
    queue_dead_s: float = Field(default=14 * 86_400.0, gt=0)
    """The same of a call that was given up, with its event."""
    sources: CommaSeparated = Field(default_factory=list)
    """Where the sources of triggers are, and brokers that records go to, `NAME=URL` each, the same for all
    frontends: docs/triggers.md."""
    destinations: CommaSeparated | None = None
    """Patterns, as of file names, of what the records of asynchronous calls may be sent to, such as
    `https://hooks.example.com/*`. None: anything where nobody is asked for an access key, else nothing but
    functions."""
    call_log: Kept = "off"
    """Which calls have a line in the log when they end: all, those that did not succeed, or none. A line
    takes a third of the CPU of a warm call: docs/observability.md."""
    otlp_endpoint: str = ""
    """Collector that takes OpenTelemetry's spans of calls over gRPC, `http://HOST:PORT`, or https for TLS.
    Empty: none are made. It takes the extra `otel`."""
    otlp_ratio: float = Field(default=1.0, ge=0, le=1)
    """Share of the calls that come without a trace which is traced; of others their caller says."""
    record: Path | None = None
    """File to write a line into for each call: docs/simulation.md. None: no record is kept."""
    record_mb: int = Field(default=100, ge=1)
    """Size at which that file is put aside as `FILE.1` in the place of the one before, and begun anew."""

    @field_validator("url_base")
    @classmethod
    def _some_base(cls, given: str) -> str:
        if given and not is_base(given):
            raise ValueError(f"{given!r} is not like https://lambda-url.example.com, maybe with :PORT")
        return given

    @field_validator("nats")
    @classmethod
    def _servers(cls, given: list[str]) -> list[str]:
        for url in given:
            if "@" in url:
                raise ValueError("a user and a password are no part of it: set nats_user and nats_password")
            if not url.startswith(("nats://", "tls://")):
                raise ValueError(f"{url!r} is not like nats://HOST:PORT or tls://HOST:PORT")
        return given

    @model_validator(mode="after")
    def _tls_with_all_it_needs(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key go together: give both or neither")
        if self.tls_client_ca is not None and self.tls is None:
            raise ValueError(
                "tls_client_ca: callers can show a certificate over TLS alone: set tls_cert and tls_key"
            )
        return self

    def environments(self) -> Environments:
        """Raises BadSettings if the file of public keys cannot be used."""
        if self.environment_public_key is None:
            return Environments()
        from lambent_chassis.sealing import BadKeys, Sealer  # megabytes, for those alone who use it

        try:
            return Environments(Sealer(self.environment_public_key))
        except BadKeys as bad:
            raise BadSettings(f"environment_public_key: {bad}") from bad

    @property
    def tls(self) -> PublicTls | None:
        """None: what goes through the public ports is not encrypted."""
        if self.tls_cert is None or self.tls_key is None:
            return None
        return PublicTls(self.tls_cert, self.tls_key, self.tls_client_ca)

    def check_tls(self) -> None:
        """Raises BadSettings if the files of the public ports cannot be used."""
        try:
            if self.tls is not None:
                self.tls.context()
        except CannotEncrypt as error:
            raise BadSettings(str(error)) from error

    @model_validator(mode="after")
    def _nats_with_all_it_needs(self) -> Self:
        given = [self.nats_cert, self.nats_key]
        if any(given) and not all([*given, self.nats_ca]):
            raise ValueError("nats_cert, nats_key and nats_ca go together: give all three, or nats_ca alone")
        return self

    def nats_tls(self) -> ssl.SSLContext | None:
        """For `tls://`; None: as the system has it. Raises BadSettings if the files cannot be used."""
        if self.nats_ca is None:
            return None
        try:
            if self.nats_cert is None or self.nats_key is None:
                return ssl.create_default_context(cafile=self.nats_ca)
            return Mtls(Files(self.nats_ca, self.nats_cert, self.nats_key)).kept()
        except OSError as error:
            raise BadSettings(f"nats_ca {self.nats_ca} cannot be used: {error}") from error
        except BadCertificates as bad:
            raise BadSettings(f"nats_ca, nats_cert, nats_key: {bad}") from bad

    @model_validator(mode="after")
    def _folder_for_the_copy(self) -> Self:
        if self.nats and self.data is None:
            raise ValueError("nats: it needs a folder, too, for a copy to be asked: set data")
        return self

    @model_validator(mode="after")
    def _sources_that_can_be_read(self) -> Self:
        parse_sources(self.sources)
        return self

    @model_validator(mode="after")
    def _room_in_each_shard(self) -> Self:
        least = self.shards * LEAST_WAITING_BYTES
        if self.max_waiting_bytes < least:
            raise ValueError(
                f"max_waiting_bytes: {self.shards} shards have an equal part each, for which {least:,} bytes "
                f"are the least (given: {self.max_waiting_bytes:,})"
            )
        return self
