"""A server that speaks as SQS and Kinesis do: moto, as a process of its own."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import boto3

from lambent_chassis.clock import monotonic_s

WITHIN_S: Final = 60.0
"""RabbitMQ was seen to need more than 30 on a machine that others keep busy."""
LOOPBACK: Final = "127.0.0.1"
CREDENTIALS: Final[Mapping[str, str]] = {
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "secret",
}


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        port: int = taken.getsockname()[1]
        return port


def answers(port: int, process: "subprocess.Popen[bytes]", address: str = LOOPBACK) -> None:
    """Waits until something listens there."""
    deadline = monotonic_s() + WITHIN_S
    while True:
        try:
            with socket.create_connection((address, port), timeout=1):
                return
        except OSError:
            assert process.poll() is None, "it has ended"
            assert monotonic_s() < deadline, "it does not listen"


class Aws:
    def __init__(self, url: str) -> None:
        self.url = url

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )


@contextmanager
def running(port: int = 0, address: str = LOOPBACK) -> Iterator[Aws]:
    """With credentials for it in the environment, which parts of a fleet inherit. 0 takes a free port."""
    port = port or free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", address, "-p", str(port)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    before = dict(os.environ)
    os.environ.update(CREDENTIALS)
    try:
        answers(port, process, address)
        yield Aws(f"http://{address}:{port}")
    finally:
        os.environ.clear()
        os.environ.update(before)
        process.kill()
        process.communicate()
