"""The serving half of a peer's file. Standard library only.

A serving process says its addresses in one line of JSON when it can be called, and ends with its standard
input: so it ends as well when whoever measures is killed.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

STOP_WITHIN_S: Final = 15.0
LISTENS_WITHIN_S: Final = 150.0

REMARK: Final = "remark"
"""Beside the addresses: what is to be known of how it was served here."""

Serve = Callable[[int], AbstractContextManager[dict[str, str]]]
"""Of so many processes; the addresses, by the names of the paths, each as the caller wants it."""
Call = Callable[[str, int], None]


def run(serve: Serve, call: Call | None = None) -> None:
    """`serve PROCESSES`, or `call ADDRESS IN_FLIGHT`: what a peer's file does when it is run."""
    match sys.argv[1:]:
        case ["serve", processes]:
            said = os.fdopen(os.dup(1), "w")
            os.dup2(2, 1)
            with serve(int(processes)) as addresses:
                print(json.dumps(addresses), file=said, flush=True)
                sys.stdin.read()
        case ["call", address, in_flight] if call is not None:
            call(address, int(in_flight))
        case _:
            sys.exit(f"not to be run by hand: {sys.argv[1:]}; see python -m loadtest.peers --help")


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@contextmanager
def started(command: Sequence[str | Path], **environment: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A child that is asked to end, and made to if it does not."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, env={**os.environ, **environment}, start_new_session=True
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def until_listening(port: int, process: "subprocess.Popen[bytes]") -> str:
    """The address. Raises SystemExit if the process ends first, or the time does."""
    until = time.monotonic() + LISTENS_WITHIN_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise SystemExit(f"the server ended with exit code {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return f"127.0.0.1:{port}"
    raise SystemExit(f"nothing listens on port {port} after {LISTENS_WITHIN_S:g} s")


def beside_python(program: str) -> str:
    """A command that a package has put into this environment."""
    return str(Path(sys.executable).parent / program)


def node_modules(*parts: str) -> str:
    """A file of this peer's Node.js packages; whoever starts it says where they are."""
    return str(Path(os.environ["PEER_FOLDER"], "node_modules", *parts))
