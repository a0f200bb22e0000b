"""What instances write down themselves, so that nobody has to be believed about them.

Every instance of `APP` has a file of its own, a JSON line for its birth, for each call that it takes and for
its end. Times are CLOCK_MONOTONIC, which all processes of a machine share.
"""

import io
import json
import sys
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lambent.client import Client
from lambent_proto.v1.functions_pb2 import Function

RUNTIME: Final = f"python3.{sys.version_info.minor}"

APP: Final = '''
import json
import os
import sys
import time
import uuid

ANSWER = "first"
INSTANCE = os.environ["AWS_LAMBDA_LOG_STREAM_NAME"].rpartition("]")[2]
_file = open(os.path.join(os.environ["EVIDENCE"], uuid.uuid4().hex), "a", buffering=1)


def note(what, **more):
    _file.write(json.dumps({"what": what, "at": time.monotonic(), "pid": os.getpid(), **more}) + "\\n")


note("born", instance=INSTANCE)


def record(event, context):
    """Sleeps for `sleep` seconds, and until there is a file `until`."""
    call = event.get("call", "")
    note("start", instance=INSTANCE, call=call)
    time.sleep(event.get("sleep", 0))
    while "until" in event and not os.path.exists(event["until"]):
        time.sleep(0.01)
    note("end", instance=INSTANCE, call=call)
    return {"answer": ANSWER, "pid": os.getpid(), "request": context.aws_request_id}


def echo(event, context):
    return event


def fails(event, context):
    raise ValueError("not today")


def exits(event, context):
    sys.exit(event["code"])


def answers_with(event, context):
    """A JSON text of so many bytes."""
    return "a" * (event["bytes"] - 2)
'''


@dataclass(frozen=True, slots=True)
class Birth:
    instance: str
    pid: int
    at: float


@dataclass(frozen=True, slots=True)
class Run:
    """One call on one instance."""

    instance: str
    call: str
    begin: float
    end: float
    """Infinity if it did not come to its end."""


class Evidence:
    """The files of one function's instances."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder

    @property
    def environment(self) -> dict[str, str]:
        return {"EVIDENCE": str(self.folder)}

    def births(self) -> list[Birth]:
        """In the order in which they happened."""
        lines = [line for lines in self._lines() for line in lines if line["what"] == "born"]
        return sorted((Birth(line["instance"], line["pid"], line["at"]) for line in lines), key=_at)

    def pids(self) -> set[int]:
        return {birth.pid for birth in self.births()}

    def runs(self) -> list[Run]:
        """In the order in which they began."""
        runs = []
        for lines in self._lines():
            notes = [line for line in lines if line["what"] != "born"]
            for begin, end in zip(notes[::2], [*notes[1::2], {"at": float("inf")}], strict=False):
                runs.append(Run(begin["instance"], begin["call"], begin["at"], end["at"]))
        return sorted(runs, key=lambda run: run.begin)

    def crowded(self) -> set[str]:
        """The instances that had a second call before the first one had ended."""
        found = set()
        for lines in self._lines():
            whats = [line["what"] for line in lines if line["what"] != "born"]
            if "end" in whats[::2] or "start" in whats[1::2]:
                found.add(lines[0]["instance"])
        return found

    def _lines(self) -> Iterable[list[dict[str, Any]]]:
        for file in self.folder.iterdir():
            whole = file.read_text().rpartition("\n")[0]
            yield [json.loads(line) for line in whole.splitlines()]


def _at(birth: Birth) -> float:
    return birth.at


def most_at_once(intervals: Iterable[tuple[float, float]]) -> int:
    """The largest number of intervals that overlap anywhere; one that ends where another begins does not."""
    most = now = 0
    edges = [edge for begin, end in intervals for edge in ((begin, 1), (end, -1))]
    for _, change in sorted(edges):
        now += change
        most = max(most, now)
    return most


def package(files: Mapping[str, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in (files or {"app.py": APP}).items():
            archive.writestr(name, text)
    return buffer.getvalue()


async def deploy(
    client: Client, name: str, evidence: Evidence, handler: str = "app.record", **configuration: Any
) -> Function:
    return await client.create_function(
        name,
        package(),
        runtime=RUNTIME,
        handler=handler,
        environment=evidence.environment,
        **({"timeout_s": 20.0} | configuration),
    )
