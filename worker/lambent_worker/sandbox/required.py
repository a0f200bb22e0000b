"""Whether a backend isolates as much as the operator requires."""

from typing import Final

from lambent_worker.sandbox.api import LEVELS, PROTECTIONS, Protections

_UNEXPLAINED: Final = "this backend does not give it"


class NotIsolated(Exception):
    """Nothing is run here. The message says what is missing, why, and how to run all the same."""


def check_level(protections: Protections, required: str) -> None:
    """Raises NotIsolated where a weaker one of LEVELS is reached than is required."""
    order = list(LEVELS)
    if order.index(protections.level) >= order.index(required):
        return
    missing = [name for name in PROTECTIONS if name in LEVELS[required] - protections.given]
    reasons = [f"{name} ({protections.why_missing.get(name, _UNEXPLAINED)})" for name in missing]
    raise NotIsolated(
        f"the backend {protections.backend} reaches the isolation level {protections.level} on this host, "
        f"and {required} is required. Missing: {', '.join(reasons)}. `lambent worker doctor` says what other "
        f"backends reach here; to run it as it is, set require_isolation to {protections.level} "
        f"(--require-isolation {protections.level})"
    )
