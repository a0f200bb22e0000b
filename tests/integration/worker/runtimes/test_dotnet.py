"""What is C#'s own: the shapes of handlers, and how they are named."""

import json
from typing import Any

import pytest

from tests.integration.worker.runtimes.languages import csharp
from tests.integration.worker.scene import Scene, runtimes_here

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif("dotnet" not in runtimes_here().by_name, reason="no .NET or no mcs is on this host"),
]


@pytest.mark.parametrize(
    ("method", "event", "answer"),
    [
        ("HandleLater", "é", "é later"),
        ("HandleStream", {"a": [1, 2.5, None]}, {"a": [1, 2.5, None]}),
        ("HandleMap", {"a": [1, 2]}, {"a": [1, 2]}),
        ("HandleBytes", "AAEC", 3),
        ("HandleBytes", [0, 1, 2, 3], 4),
        ("HandleNumber", 10**400, 1),
    ],
)
async def test_shapes_of_handlers(stage: Scene, method: str, event: Any, answer: Any) -> None:
    """Tasks, streams, and collections."""
    it = await stage.started(csharp(), handler=f"shop::Shop.App::{method}", runtime="dotnet", memory_mb=256)
    assert (await stage.call(it, event)).json == answer


@pytest.mark.parametrize(
    ("handler", "error_type"),
    [
        ("shop", "Runtime.MalformedHandlerName"),
        ("nowhere::Shop.App::Handle", "Runtime.ImportModuleError"),
        ("shop::Shop.Nowhere::Handle", "Runtime.HandlerNotFound"),
        ("shop::Shop.App::Nowhere", "Runtime.HandlerNotFound"),
    ],
)
async def test_what_cannot_be_initialised(stage: Scene, handler: str, error_type: str) -> None:
    """Each reason is named."""
    said = await stage.failed_init(csharp(), handler=handler, runtime="dotnet", memory_mb=256)
    assert json.loads(said.error)["errorType"] == error_type


async def test_an_error_of_a_task(stage: Scene) -> None:
    """It has the function's frames, and none of ours, which waited for the task."""
    it = await stage.started(csharp(), handler="shop::Shop.App::FailLater", runtime="dotnet", memory_mb=256)
    error = (await stage.call(it, "x")).json
    assert error["errorType"] == "ArgumentException"
    assert "Shop.App" in error["stackTrace"][0]
    assert not any("Lambent" in frame for frame in error["stackTrace"]), error
