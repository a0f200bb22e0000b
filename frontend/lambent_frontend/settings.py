"""What a frontend is told at its start."""

import ipaddress
from pathlib import Path

from pydantic import Field

from lambent_chassis.settings import BadSettings, Port, Settings


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there. A name counts as one that others reach."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class FrontendSettings(Settings):
    grpc_host: str = "127.0.0.1"
    grpc_port: Port = 50051
    http_host: str = "127.0.0.1"
    http_port: Port = 9000
    """For Lambda's HTTP API."""
    no_auth: bool = False
    """Whether the HTTP API may be reached from other machines although it authenticates nobody."""
    packages: str
    """The package store: a folder, or a URL such as `s3://bucket/prefix`; the same for all parts."""
    max_waiting: int = Field(default=1000, ge=0)
    """Calls in line per function; of one more, one is throttled."""
    max_waiting_bytes: int = Field(default=256 * 1024 * 1024, ge=8 * 1024 * 1024)
    """Bytes of events in line, of all functions together. Those of one function, priority and tenant take
    at most as many as they leave free."""
    rate_per_concurrency: float = Field(default=0.0, ge=0)
    """Calls a second that a function may have for each unit of its concurrency, over all frontends; 0: any
    number. Lambda's is 10."""
    waiting_s: float = Field(default=30.0, gt=0)
    """Longest wait for an instance where the caller sets no deadline."""
    linger_s: float = Field(default=0.1, ge=0)
    """How long an idle instance's lease is kept for the next call before it is given back."""
    record: Path | None = None
    """File to write a line into for each call: docs/simulation.md. None: no record is kept."""
    record_mb: int = Field(default=100, ge=1)
    """Size at which that file is put aside as `FILE.1` in the place of the one before, and begun anew."""

    def check(self) -> None:
        if not is_loopback(self.http_host) and not self.no_auth:
            raise BadSettings(
                f"http_host: the HTTP API authenticates nobody, and {self.http_host} may be reached from "
                f"other "
                "machines: listen on 127.0.0.1, or say --no-auth (no_auth = true) if everybody who reaches "
                "it may "
                "deploy and call"
            )
