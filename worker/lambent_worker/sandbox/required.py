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
    by_reason: dict[str, list[str]] = {}
    for name in missing:
        by_reason.setdefault(protections.why_missing.get(name, _UNEXPLAINED), []).append(name)
    reasons = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in by_reason.items())
    raise NotIsolated(
        f"the backend {protections.backend} reaches the isolation level {protections.level} on this host, "
        f"and {required} is required. `lambent worker doctor` says what other backends reach here; to run it "
        f"as it is, set require_isolation to {protections.level} (--require-isolation {protections.level}). "
        f"Missing: {reasons}"
    )
