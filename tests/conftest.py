"""What a module leaves open is found in that module, not wherever the collector happens to run."""

import gc

import pytest


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """A socket or a process that nobody closed warns when it is collected, and a warning is an error here."""
    if nextitem is None or nextitem.path != item.path:
        gc.collect()
