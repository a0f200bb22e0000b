import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from lambent_chassis.clock import monotonic_s
from tests.chaos.hosts import CannotMakeHosts, Hosts, hosts


def reaches(made: Hosts, one: str, other: str) -> bool:
    asks = (*made[one].within, "ip", "route", "get", made[other].address)
    return subprocess.run(asks, capture_output=True, check=False).returncode == 0


def test_two_that_are_cut_twice_at_a_time_are_together_after_the_second_is_mended() -> None:
    try:
        with hosts(["one", "other"]) as made:
            made.cut("one", "other")
            made.cut("other", "one")
            made.mend("one", "other")
            assert not reaches(made, "one", "other")
            assert not reaches(made, "other", "one")
            made.mend("other", "one")
            assert reaches(made, "one", "other")
            assert reaches(made, "other", "one")
    except CannotMakeHosts as cannot:
        pytest.skip(str(cannot))


@dataclass(frozen=True, slots=True)
class Bad:
    delay_s: float
    jitter_s: float
    loss: float


def heard(made: Hosts, bytes_: int, within_s: float) -> float:
    """Sends so many bytes from one host to the other over TCP; the seconds that this took."""
    listens = "import socket; s = socket.create_server(('', 7000)); print('ready', flush=True)"
    listens += "\nc = s.accept()[0]\nn = 0\nwhile d := c.recv(65536): n += len(d)\nprint(n)"
    sends = f"import socket; s = socket.create_connection(('{made['other'].address}', 7000))"
    sends += f"; s.sendall(bytes({bytes_})); s.close()"
    python = (sys.executable, "-c")
    with subprocess.Popen([*made["other"].within, *python, listens], stdout=subprocess.PIPE) as listener:
        assert listener.stdout is not None
        assert listener.stdout.readline() == b"ready\n"
        begin = monotonic_s()
        subprocess.run([*made["one"].within, *python, sends], check=True, timeout=within_s)
        assert int(listener.stdout.readline()) == bytes_
        return monotonic_s() - begin


@pytest.mark.timeout(60)
def test_a_bad_line_carries_everything_later() -> None:
    """TCP brings all of it over a line that loses some, no sooner than its delay; then it is as before."""
    try:
        with hosts(["one", "other"]) as made:
            made.spoil("other", Bad(0.2, 0.05, 0.02), seed=1)
            assert heard(made, 300_000, within_s=30) > 0.4, "there, and back"
            made.repair("other")
            heard(made, 300_000, within_s=30)
    except CannotMakeHosts as cannot:
        pytest.skip(str(cannot))


def test_nothing_of_a_host_that_dies_runs() -> None:
    try:
        with hosts(["one", "other"]) as made:
            sleeps = {name: subprocess.Popen([*made[name].within, "sleep", "60"]) for name in made.hosts}
            while Path(f"/proc/{sleeps['one'].pid}/comm").read_text() != "sleep\n":
                pass  # until `ip` has become it
            made.kill_all("one")
            assert sleeps["one"].wait(10) == -signal.SIGKILL
            assert sleeps["other"].poll() is None
            sleeps["other"].kill()
            sleeps["other"].wait()
    except CannotMakeHosts as cannot:
        pytest.skip(str(cannot))
