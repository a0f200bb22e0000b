"""A function that writes down what it is called with, for tests of triggers; and what it has written."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any, Final

from lambent.client import Client
from tests.e2e.evidence import RUNTIME

APP: Final = """
import base64, json, os

def data(record):
    if "body" in record:
        return record["body"]
    if "s3" in record:
        return record["s3"]["object"]["key"]
    if "topic" in record:
        return base64.b64decode(record["value"]).decode()
    return base64.b64decode(record["kinesis"]["data"] if "kinesis" in record else record["data"]).decode()

def records(event):
    if "Records" in event:
        return event["Records"]
    return [it for group in (event.get("rmqMessagesByQueue") or event["records"]).values() for it in group]

def handler(event, context):
    said = [data(it) for it in records(event)]
    with open(os.environ["SEEN"], "a") as seen:
        seen.write(json.dumps({"event": event, "data": said}) + "\\n")
    bad = [it for it in records(event) if data(it).startswith("poison")]
    if os.environ.get("REPORTS"):
        return {"batchItemFailures": [{"itemIdentifier": it["messageId"]} for it in bad]}
    if bad:
        raise ValueError("poison")
"""


def package() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("app.py", APP)
    return buffer.getvalue()


class Seen:
    """What the function was called with."""

    def __init__(self, file: Path) -> None:
        self._file = file

    @property
    def file(self) -> str:
        return str(self._file)

    @property
    def calls(self) -> list[dict[str, Any]]:
        return (
            [json.loads(line) for line in self._file.read_text().splitlines()] if self._file.exists() else []
        )

    @property
    def data(self) -> list[str]:
        return [it for call in self.calls for it in call["data"]]


async def deploy(client: Client, name: str, seen: Seen, **environment: str) -> None:
    await client.create_function(
        name,
        package(),
        runtime=RUNTIME,
        handler="app.handler",
        environment={"SEEN": seen.file, **environment},
    )
