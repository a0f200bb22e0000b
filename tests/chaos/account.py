"""What became of each event, by what the functions that were called with it wrote down, and when."""

import io
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lambent.client import Client
from tests.chaos.senders import POISON, Sender
from tests.e2e.evidence import RUNTIME

APP: Final = f"""
import base64, json, os, time, uuid

_file = os.open(os.path.join(os.environ["BOOK"], uuid.uuid4().hex), os.O_CREAT | os.O_WRONLY | os.O_APPEND)

def name(record):
    if "body" in record:
        return record["body"]
    if "fields" in record:
        return record["fields"]["data"]
    if "s3" in record:
        return record["s3"]["object"]["key"]
    record = record.get("kinesis", record)
    return base64.b64decode(record["value"] if "value" in record else record["data"]).decode()

def names(event):
    if "name" in event:
        return [event["name"]]
    if "requestPayload" in event:
        return names(event["requestPayload"])
    if "KafkaBatchInfo" in event:
        return list(offsets(event["KafkaBatchInfo"]["recordsInfo"]))
    if "KinesisBatchInfo" in event:
        info = event["KinesisBatchInfo"]
        return [f"{{info['shardId']}}:{{info[it]}}" for it in ("startSequenceNumber", "endSequenceNumber")]
    if "payload" in event:
        event = event["payload"]
    found = event.get("Records") or event.get("records") or event["rmqMessagesByQueue"]
    found = sum(found.values(), []) if isinstance(found, dict) else found
    return [name(json.loads(it) if isinstance(it, str) else it) for it in found]

def offsets(partitions):
    for partition, info in partitions.items():
        for offset in range(int(info["firstRecordOffset"]), int(info["lastRecordOffset"]) + 1):
            yield f"{{partition}}:{{offset}}"

def write(names):
    now = time.monotonic_ns()
    os.write(_file, "".join(f"{{it}} {{now}}\\n" for it in names).encode())

def process(event, context):
    found = names(event)
    if any(it.startswith("{POISON}") for it in found):
        raise ValueError("this one is poison")
    write(found)

def bury(event, context):
    write(names(event))
"""


class Book:
    """A function whose instances write the names of events into files with the time, each in one piece."""

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

    def read(self) -> "Written":
        written = Written(Counter(), {})
        for file in self._folder.iterdir():
            for line in file.read_text().splitlines():
                name, _, at = line.partition(" ")
                written.times[name] += 1
                written.first[name] = min(int(at), written.first.get(name, int(at)))
        return written


@dataclass(frozen=True, slots=True)
class Written:
    times: Counter[str]
    """How often each name was written."""
    first: dict[str, int]
    """When that was for the first time, nanoseconds of this machine's clock."""


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
    disorder: tuple[str, ...]
    """Of a line with an order: each that was processed before one that was taken before it."""
    again: int
    """How often an event was processed that had been before; of a batch that fails nothing is."""

    @property
    def told(self) -> str:
        return (
            f"{self.kind:<10}{self.taken:>8}{self.processed:>11}{self.given_up:>10}{self.good:>8}"
            f"{len(self.lost):>6}{len(self.disorder):>10}{self.again:>11}"
        )


HEAD: Final = "to        " + "   taken  processed  given up  (good)  lost  disorder   repeated"


def accounts(senders: Sequence[Sender], processed: Written, given_up: Written) -> list[Account]:
    return [_account(it, processed, given_up.times) for it in senders]


def _account(sender: Sender, processed: Written, told: Counter[str]) -> Account:
    taken, times = sender.taken, processed.times
    given_up = {sender.places.get(it, it) for it in told}
    buried = [it for it in taken if it in given_up and it not in times]
    return Account(
        sender.kind,
        len(taken),
        sum(it in times for it in taken),
        len(buried),
        sum(not it.startswith(POISON) for it in buried),
        tuple(it for it in taken if it not in times and it not in given_up),
        tuple(it for line in sender.lines.values() for it in out_of_order(line, processed.first)),
        sum(many - 1 for name, many in times.items() if name.split("-")[1] == sender.kind),
    )


def out_of_order(line: Sequence[str], first: Mapping[str, int]) -> list[str]:
    """Those that were processed for the first time before another was that stands before them. What was never
    processed stands in nobody's way: it was given up."""
    latest, wrong = 0, []
    for name in line:
        at = first.get(name, latest)
        if at < latest:
            wrong.append(name)
        latest = max(latest, at)
    return wrong
