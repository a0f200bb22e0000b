"""One turn of one peer: it is started, called in each of its ways, and stopped; what it spent on a call."""

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path as File
from typing import Any, Final

from loadtest.peers import environments, peer
from loadtest.peers.peer import Peer
from loadtest.peers.serving import REMARK
from loadtest.processes import Seen, tree

READY_WITHIN_S: Final = 180.0
ROUND_WITHIN_S: Final = 120.0
STOP_WITHIN_S: Final = 45.0
ENDS_WITHIN_S: Final = 5.0
"""For what a peer has left behind; then it is killed."""

FIRST_CALLS: Final = 64
"""Before anything is timed, and as many again as are in flight."""
WARM_UP_S: Final = 0.7
SETTLES_S: Final = 0.3
"""After calls, before a system is said to be at rest."""
REST_S: Final = 1.5

_PR_SET_CHILD_SUBREAPER: Final = 36


class Failed(Exception):
    """A peer did not start, or did not answer as it should."""


@dataclass(frozen=True, slots=True)
class Measured:
    calls: int
    calls_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    """A call, of all processes but the calling one, less what they spend at rest in the same time."""
    gross_cpu_us: float
    """The same with that."""
    rest: float
    """What they spend at rest, in cores."""
    client_cpu_us: float


Ways = dict[tuple[str, int], Measured]
"""By the path's name and the calls in flight."""


def adopt_orphans() -> None:
    """What loses its parent below this process becomes its child, so that nothing can hide from the stop."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def turn(
    of: Peer, processes: int, in_flight: Sequence[int], seconds: float, say: Callable[[str], None]
) -> tuple[Ways, str]:
    """Raises Failed. When it returns or raises, no process of the peer is left. The text is its remark."""
    found: Ways = {}
    with tempfile.TemporaryDirectory(prefix="peer-", ignore_cleanup_errors=True) as work, _nothing_left():
        log = File(work, "said.log")
        with _process(of, log, of.module, "serve", str(processes)) as server:
            addresses = json.loads(_line(server, log, READY_WITHIN_S))
            remark = addresses.pop(REMARK, "")
            for path in of.paths:
                for at_once in (n for n in in_flight if n in path.in_flight):
                    found[path.name, at_once] = _called(of, path, addresses[path.name], at_once, seconds, log)
                    say(f"{path.name} {at_once}: {found[path.name, at_once].cpu_us:,.0f}")
    return found, remark


def _called(of: Peer, path: peer.Path, address: str, at_once: int, seconds: float, log: File) -> Measured:
    module, *arguments = path.caller or (of.module, "call")
    with _process(of, log, module, *arguments, address, str(at_once), own=not path.caller) as caller:
        while _line(caller, log, READY_WITHIN_S) != "ready":
            pass  # what a library had to say
        _round(caller, log, FIRST_CALLS + at_once)
        warm = _round(caller, log, FIRST_CALLS + at_once)
        warm = _round(caller, log, max(at_once, _within(warm, WARM_UP_S)))
        rest = _at_rest(caller)
        before = _spent_s(caller)
        done = _round(caller, log, max(2 * at_once, _within(warm, seconds)))
        spent_s = _spent_s(caller) - before
    if any(start != "warm" for start in done.get("starts", {})):
        raise Failed(f"not all calls were warm: {done['starts']}")
    calls = done["calls"]
    return Measured(
        calls,
        calls / done["elapsed_s"],
        done["p50_ms"],
        done["p99_ms"],
        (spent_s - rest * done["elapsed_s"]) / calls * 1e6,
        spent_s / calls * 1e6,
        rest,
        done["cpu_s"] / calls * 1e6,
    )


def _within(warm: dict[str, Any], seconds: float) -> int:
    """So many calls take about that long."""
    return int(warm["calls"] / warm["elapsed_s"] * seconds)


def _spent_s(caller: "subprocess.Popen[str]") -> float:
    """Of all below this process but the calling one. What that one has started is the server with some."""
    return sum(seen.cpu_s for seen in _below() if seen.pid != caller.pid)


def _at_rest(caller: "subprocess.Popen[str]") -> float:
    """Cores that are busy while nobody calls."""
    time.sleep(SETTLES_S)
    before, began = _spent_s(caller), time.monotonic()
    time.sleep(REST_S)
    return (_spent_s(caller) - before) / (time.monotonic() - began)


def _below() -> list[Seen]:
    return [seen for pid, seen in tree(os.getpid()).items() if pid != os.getpid()]


def _line(process: "subprocess.Popen[str]", log: File, within_s: float) -> str:
    """Raises Failed if none comes."""
    assert process.stdout is not None
    there, _, _ = select.select([process.stdout], [], [], within_s)
    line = process.stdout.readline() if there else ""
    if line:
        return line.strip()
    why = f"it said nothing for {within_s:g} s"
    if there:
        process.wait(ENDS_WITHIN_S)  # it may still be saying why
        why = "it ended"
    raise Failed(f"{why}; its last words: {_last_words(log)}")


def _last_words(log: File) -> str:
    """Without what is indented, as all of a traceback is but its end."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip() and line[0] != " "]
    return " / ".join(lines[-2:]) or "none"


def _round(caller: "subprocess.Popen[str]", log: File, count: int) -> dict[str, Any]:
    assert caller.stdin is not None
    caller.stdin.write(f"{count}\n")
    caller.stdin.flush()
    done: dict[str, Any] = json.loads(_line(caller, log, ROUND_WITHIN_S))
    return done


@contextmanager
def _process(
    of: Peer, log: File, module: str, *arguments: str, own: bool = True
) -> Iterator["subprocess.Popen[str]"]:
    """A half of the peer's file in the peer's environment, or one of our callers; gone afterwards.

    In a session of its own: a Ctrl-C is for us, who then stop it in order.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LAMBENT_", "PEER_"))}
    environment = kept | {
        "PATH": f"{environments.folder(of) / 'bin'}:{os.environ.get('PATH', os.defpath)}",
        "PYTHONPATH": str(environments.ROOT),
        "PEER_FOLDER": str(environments.folder(of)),
        "PEER_WORK": str(log.parent),
    }
    interpreter = environments.python(of) if own else sys.executable
    with log.open("ab") as said:
        process = subprocess.Popen(
            [interpreter, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            env=environment,
            cwd=log.parent,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _stop(process)


def _stop(process: "subprocess.Popen[str]") -> None:
    """By the end of its input."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.close()
        process.wait(STOP_WITHIN_S)
    except (BrokenPipeError, subprocess.TimeoutExpired):
        process.kill()
        process.wait()
    finally:
        process.stdout.close()


@contextmanager
def _nothing_left() -> Iterator[None]:
    """Afterwards: what has not ended by itself is killed, and its parents' end does not hide it."""
    try:
        yield
    finally:
        until = time.monotonic() + ENDS_WITHIN_S
        while left := _below():
            if time.monotonic() > until:
                for seen in left:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(seen.pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            time.sleep(0.02)
