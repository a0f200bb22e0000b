"""On uvloop, as the frontend runs. The tests of the services behind both doors are on asyncio's own loop."""

from collections.abc import Callable
from typing import Any

import uvloop


def pytest_asyncio_loop_factories(config: object, item: object) -> dict[str, Callable[[], Any]]:
    return {"uvloop": uvloop.new_event_loop}
