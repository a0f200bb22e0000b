"""Spans for OpenTelemetry: nothing of it is there unless it is asked for, and who asks without it is told."""

import subprocess
import sys

import pytest

from lambent.tracing import current_trace
from lambent_chassis.otlp import tracing
from lambent_chassis.settings import BadSettings


def test_nothing_is_loaded_while_it_is_off() -> None:
    """In parts and in clients."""
    parts = "import lambent.client, lambent_frontend.main, lambent_worker.main"
    look = "import sys; print([it for it in sys.modules if it.startswith('opentelemetry')])"
    done = subprocess.run(
        [sys.executable, "-c", f"{parts}; {look}"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"


async def test_off_there_is_no_tracer() -> None:
    async with tracing("", "frontend", "f1") as tracer:
        assert tracer is None


async def test_without_the_extra_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(BadSettings, match=r"install lambent\[otel\]"):
        async with tracing("http://127.0.0.1:1", "frontend", "f1"):
            pass


def test_whose_caller_uses_no_opentelemetry_has_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "opentelemetry.trace", raising=False)
    assert current_trace() == ""
