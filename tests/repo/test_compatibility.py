"""The page about compatibility says what the suite shows, and the routes are those of AWS's own model."""

import re
from importlib.metadata import version

import botocore.session

from lambent_frontend.http.routes import OPERATIONS
from tests.conformance import compatibility

KNOWN = (1, 44, 8)
"""The botocore whose operations are all in the routes; a newer one may have more."""


def test_the_page() -> None:
    """It is what `python -m tests.conformance.compatibility` would write."""
    assert compatibility.PAGE.read_text() == compatibility.page()


def test_differences_are_held_by_tests() -> None:
    """Each is of an operation that works, and names tests that are there."""
    tests = set(re.findall(r"def (test_\w+)", compatibility.sources()))
    for operation, (how, *held_by) in compatibility.DIFFERS.items():
        assert operation in compatibility.called(), operation
        assert how
        assert held_by
        assert set(held_by) <= tests, operation


def test_the_routes() -> None:
    """Method and path of each operation are those that AWS's clients use."""
    session = botocore.session.get_session()
    model = session.get_service_model("lambda")
    theirs = {name: model.operation_model(name).http for name in model.operation_names}
    routes = {name: (it["method"], it["requestUri"]) for name, it in theirs.items()}
    shared = OPERATIONS.keys() & routes.keys()
    assert {name: OPERATIONS[name] for name in shared} == {name: routes[name] for name in shared}
    installed = tuple(int(part) for part in version("botocore").split("."))
    if installed <= KNOWN:
        assert routes.keys() <= OPERATIONS.keys()
    if installed >= KNOWN:
        assert OPERATIONS.keys() <= routes.keys()
