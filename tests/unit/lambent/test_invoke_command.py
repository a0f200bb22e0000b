"""`lambent invoke`, as far as no fleet is needed for it."""

import asyncio
import sys
from typing import Any

import click
import pytest

from lambent.cli.invoke import told_if_slow


@pytest.mark.parametrize("terminal", [True, False])
async def test_a_call_without_an_answer_is_spoken_of(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    """After a while, on a terminal alone."""
    said = asyncio.Event()
    monkeypatch.setattr(sys.modules["lambent.cli.invoke"], "SLOW_S", 0.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    monkeypatch.setattr(click, "echo", lambda *_, **__: said.set())
    with told_if_slow():
        for _ in range(3):
            await asyncio.sleep(0)
    assert said.is_set() == terminal


async def test_an_answer_in_time_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor later."""
    spoken: list[Any] = []
    monkeypatch.setattr(sys.modules["lambent.cli.invoke"], "SLOW_S", 0.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(click, "echo", lambda *told, **__: spoken.append(told))
    with told_if_slow():
        pass
    for _ in range(3):
        await asyncio.sleep(0)
    assert spoken == []
