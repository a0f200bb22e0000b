import subprocess

import pytest

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
