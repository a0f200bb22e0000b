"""Names of runtimes: what may be deployed, and what a node takes."""

import pytest

from lambent_proto.runtimes import is_runtime, runs

KNOWN = """
    python python3.9 python3.13 nodejs nodejs22.x ruby ruby3.4 java java8 java21 dotnet dotnet8 powershell
    provided provided.al2 provided.al2023
"""
UNKNOWN = """
    python2.7 python3 python3. python3.1a python3.١ Python3.11 nodejs22 nodejs.x ruby3 java21.al2
    dotnetcore3.1 provided.al go1.x
"""


@pytest.mark.parametrize("name", KNOWN.split())
def test_a_name_of_lambdas(name: str) -> None:
    """Every family by its bare name and by a version, as Lambda writes it."""
    assert is_runtime(name)


@pytest.mark.parametrize("name", [*UNKNOWN.split(), "", "python3.11\n", " python3.11"])
def test_no_name_of_lambdas(name: str) -> None:
    """A version in a form that Lambda does not use is a mistake, and is said to be one."""
    assert not is_runtime(name)


def test_a_node_takes_what_it_names() -> None:
    """Exactly that: a family's bare name is in its list if it has one of that family."""
    here = ["python3.11", "python", "nodejs20.x"]
    assert runs(here, "python")
    assert runs(here, "nodejs20.x")
    assert not runs(here, "nodejs")
    assert not runs(here, "python3.12")


def test_a_node_of_an_older_release_takes_any_python() -> None:
    """It names no runtimes, and runs whatever Python it has itself."""
    assert runs([], "python3.12")
    assert not runs([], "nodejs20.x")
