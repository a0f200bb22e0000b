"""The clocks, for the shells; a core is handed the time instead."""

import time


def unix_s() -> float:
    """Seconds since 1970, for people and for records. It may jump: never measure a span with it."""
    return time.time()  # noqa: TID251 - the one place that reads it


def monotonic_s() -> float:
    """Seconds that only ever grow, from an arbitrary start; the same ones as asyncio's loop time."""
    return time.monotonic()
