"""What became of each event, by what the functions that were called with it wrote down."""

import io
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lambent.client import Client
from tests.chaos.senders import POISON, Sender
from tests.e2e.evidence import RUNTIME

APP: Final = f"""
import base64, json, os, uuid

_file = os.open(os.path.join(os.environ["BOOK"], uuid.uuid4().hex), os.O_CREAT | os.O_WRONLY | os.O_APPEND)

def name(record):
    if "body" in record:
        return record["body"]
    return record["fields"]["data"] if "fields" in record else base64.b64decode(record["data"]).decode()

def names(event):
    if "name" in event:
        return [event["name"]]
    if "requestPayload" in event:
        return names(event["requestPayload"])
    if "payload" in event:
        event = event["payload"]
    groups = event.get("rmqMessagesByQueue", {{}}).values()
    found = event.get("Records") or event.get("records") or sum(groups, [])
    return [name(json.loads(it) if isinstance(it, str) else it) for it in found]

def write(names):
    os.write(_file, "".join(it + "\\n" for it in names).encode())

def process(event, context):
    found = names(event)
    if any(it.startswith("{POISON}") for it in found):
        raise ValueError("this one is poison")
    write(found)

def bury(event, context):
    write(names(event))
"""


class Book:
    """A function whose instances write the names of events into files, a name in one piece."""

    def __init__(self, folder: Path, function: str) -> None:
        folder.mkdir()
        self._folder = folder
        self.function = function

    async def deploy(self, client: Client, handler: str, concurrency: int) -> str:
        """Its ARN."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("app.py", APP)
        made = await client.create_function(
            self.function,
            buffer.getvalue(),
            runtime=RUNTIME,
            handler=f"app.{handler}",
            timeout_s=20.0,
            concurrency=concurrency,
            environment={"BOOK": str(self._folder)},
        )
        return f"arn:aws:lambda:us-east-1:000000000000:function:{made.name}"

    def read(self) -> Counter[str]:
        """How often each name was written."""
        return Counter(line for file in self._folder.iterdir() for line in file.read_text().splitlines())


@dataclass(frozen=True, slots=True)
class Account:
    """Of one sender."""

    kind: str
    taken: int
    processed: int
    given_up: int
    good: int
    """Of those that were given up: they could have been processed, and failed because of what was killed."""
    lost: tuple[str, ...]
    again: int
    """How often an event was processed that had been before; of a batch that fails nothing is."""

    @property
    def told(self) -> str:
        return (
            f"{self.kind:<10}{self.taken:>8}{self.processed:>11}{self.given_up:>10}{self.good:>8}"
            f"{len(self.lost):>6}{self.again:>11}"
        )


HEAD: Final = "to        " + "   taken  processed  given up  (good)  lost  repeated"


def accounts(senders: Sequence[Sender], processed: Counter[str], given_up: Counter[str]) -> list[Account]:
    return [_account(it.kind, it.taken, processed, given_up) for it in senders]


def _account(kind: str, taken: Sequence[str], processed: Counter[str], given_up: Counter[str]) -> Account:
    buried = [it for it in taken if it in given_up and it not in processed]
    return Account(
        kind,
        len(taken),
        sum(it in processed for it in taken),
        len(buried),
        sum(not it.startswith(POISON) for it in buried),
        tuple(it for it in taken if it not in processed and it not in given_up),
        sum(times - 1 for name, times in processed.items() if name.split("-")[1] == kind),
    )
