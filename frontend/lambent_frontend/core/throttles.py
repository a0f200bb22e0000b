"""Why a call was throttled, by Lambda's names where Lambda has one (its `Reason`)."""

from typing import Final

RESERVED: Final = "ReservedFunctionConcurrentInvocationLimitExceeded"
FLEET: Final = "ConcurrentInvocationLimitExceeded"

_BY_UNMET: Final = {"limit_reached": RESERVED, "fleet_limit_reached": FLEET, "start_rate": FLEET}
"""By what placement said of the function's demand."""


def reason(limit: int | None, unmet: str) -> str:
    """Empty for what Lambda does not know, such as a fleet without memory."""
    return RESERVED if limit == 0 else _BY_UNMET.get(unmet, "")
