"""What a module leaves open is found in that module, not wherever the collector happens to run."""

import gc

import pytest
from hypothesis import settings

settings.register_profile("any machine", deadline=None)  # how long an example takes is never asserted
settings.load_profile("any machine")


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """A socket or a process that nobody closed warns when it is collected, and a warning is an error here."""
    if nextitem is None or nextitem.path != item.path:
        gc.collect()
