"""One fleet for all of the suite, AWS's clients for it, and packages to deploy."""

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from tests.brokers import aws as brokers
from tests.brokers import processes
from tests.e2e.by_hand import running
from tests.e2e.fleet import Fleet

ROLE = "arn:aws:iam::000000000000:role/any"
RUNTIME = f"python3.{sys.version_info.minor}"
CREDENTIALS = {"aws_access_key_id": "AKIAIOSFODNN7EXAMPLE", "aws_secret_access_key": "secret"}

SOURCE = """
import os, sys, time

def handler(event, context):
    what = event.get("do") if isinstance(event, dict) else None
    if what == "raise":
        raise ValueError("no such thing")
    if what == "exit":
        os._exit(7)
    if what == "sleep":
        time.sleep(event["s"])
    if what == "nothing":
        return None
    if what == "print":
        print(event["text"])
    if what == "context":
        return {
            "arn": context.invoked_function_arn, "version": context.function_version,
            "request": context.aws_request_id, "memory": context.memory_limit_in_mb,
            "custom": context.client_context.custom if context.client_context else None,
            "environment": dict(os.environ),
        }
    return event
"""


def package(source: str = SOURCE, name: str = "app.py") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(name), source)  # with a date of its own: the same bytes each time
    return buffer.getvalue()


@pytest.fixture(scope="session")
def sources() -> Iterator[brokers.Aws]:
    """SQS, Kinesis and S3."""
    with brokers.running() as server:
        yield server


@pytest.fixture(scope="session")
def kafka() -> Iterator[str]:
    with processes.kafka() as url:
        yield url


@pytest.fixture(scope="session")
def fleet(sources: brokers.Aws, kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAMBENT_SOURCES", f"sqs={sources.url},s3={sources.url},bus={kafka},k:9092")
        with running(tmp_path_factory.mktemp("conformance"), "--workers", "1") as fleet:
            patch.undo()
            yield fleet


@pytest.fixture(scope="session")
def aws(fleet: Fleet) -> Any:
    """boto3's client as it is by default, retries included."""
    return client(fleet.http)


@pytest.fixture(scope="session")
def once(fleet: Fleet) -> Any:
    """One that sends nothing twice, for answers that clients retry."""
    return client(fleet.http, retries={"total_max_attempts": 1})


def client(address: str, **options: Any) -> Any:
    return boto3.client(
        "lambda",
        endpoint_url=f"http://{address}",
        region_name="us-east-1",
        config=Config(connect_timeout=10, read_timeout=40, **options),
        **CREDENTIALS,
    )


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A function's name that is this test's own, of all in all files."""
    node = request.node
    whole = f"{node.path.stem}-{node.name.removeprefix('test_')}".removeprefix("test_")
    name = re.sub(r"[^a-zA-Z0-9-_]", "-", whole)
    return name if len(name) <= 64 else f"{name[:55]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


@pytest.fixture
def cli(fleet: Fleet, tmp_path: Path) -> Callable[..., Any]:
    """`aws lambda`, whose answer it returns; raises CalledProcessError."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    environment |= {key.upper(): value for key, value in CREDENTIALS.items()}
    environment |= {"AWS_DEFAULT_REGION": "us-east-1", "HOME": str(tmp_path), "AWS_PAGER": ""}

    def run(*arguments: str) -> Any:
        command = [sys.executable, "-m", "awscli", "lambda", "--endpoint-url", f"http://{fleet.http}"]
        done = subprocess.run(
            [*command, "--output", "json", *arguments],
            capture_output=True,
            check=True,
            env=environment,
            text=True,
            timeout=40,
        )
        return json.loads(done.stdout) if done.stdout else None

    return run
