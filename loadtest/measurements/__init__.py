"""All that `make bench` measures, in its order: a file for each."""

from typing import Any, Final

from loadtest.measurement import Measurement
from loadtest.measurements import (
    burst,
    cold,
    cold_rates,
    cores,
    failover,
    flat,
    knee,
    payloads,
    placement,
    queue,
    replay,
    sandboxes,
    servers,
    soak,
    techniques,
    warm,
)

ALL: Final[tuple[Measurement[Any], ...]] = (
    warm.MEASUREMENT,
    cores.MEASUREMENT,
    flat.MEASUREMENT,
    cold.MEASUREMENT,
    sandboxes.MEASUREMENT,
    placement.MEASUREMENT,
    knee.MEASUREMENT,
    payloads.MEASUREMENT,
    cold_rates.MEASUREMENT,
    burst.MEASUREMENT,
    replay.MEASUREMENT,
    failover.MEASUREMENT,
    techniques.MEASUREMENT,
    servers.MEASUREMENT,
    queue.MEASUREMENT,
    soak.MEASUREMENT,
)
"""First what the budgets are about, so that a run that is cut short has it."""


def by_name(name: str) -> Measurement[Any]:
    """Raises LookupError, with the names that there are."""
    for it in ALL:
        if it.name == name:
            return it
    raise LookupError(f"{name!r} is none of {', '.join(it.name for it in ALL)}")
