"""Instances come and go in every way that they can, and nothing of them is left."""

import os

import pytest

from loadtest.leaks import look

pytestmark = pytest.mark.integration


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has all that could leak")
@pytest.mark.timeout(180)
async def test_nothing_is_left_of_instances_that_came_and_went() -> None:
    """Processes, mounts, cgroups, namespaces, loop devices, folders; descriptors and memory of the worker."""
    said: list[str] = []
    assert await look(150, 120.0, said.append) == []
    assert said[-1].startswith("150 instances")
