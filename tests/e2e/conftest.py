"""The smallest function, as the repository ships it."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def echo() -> Path:
    return Path(__file__).resolve().parents[2] / "examples" / "echo"
