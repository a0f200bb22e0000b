"""Why a call is throttled: in words, and by Lambda's names where Lambda has one (its `Reason`)."""

from typing import Final

from lambent_frontend.core.commands import Finish, Outcome
from lambent_frontend.core.line import Line
from lambent_proto.ids import RequestId, function_of

RESERVED: Final = "ReservedFunctionConcurrentInvocationLimitExceeded"
FLEET: Final = "ConcurrentInvocationLimitExceeded"
RESERVED_RATE: Final = "ReservedFunctionInvocationRateLimitExceeded"
FLEET_RATE: Final = "FunctionInvocationRateLimitExceeded"


class Refusal:
    """Why a call was refused, or waits no longer. A closed list, explained in docs/explain.md."""

    SWITCHED_OFF: Final = "switched_off"
    RATE: Final = "rate"
    NO_ROOM: Final = "no_room"
    DEADLINE: Final = "deadline_out_of_reach"
    LINE_FULL: Final = "line_full"
    IN_VAIN: Final = "waited_in_vain"


PLACEMENT_AWAY: Final = "placement_away"

_BY_UNMET: Final = {"limit_reached": RESERVED, "fleet_limit_reached": FLEET, "start_rate": FLEET}
"""By what placement said of the function's demand."""


def reason(limit: int | None, unmet: str) -> str:
    """Empty for what Lambda does not know, such as a fleet without memory."""
    return RESERVED if limit == 0 else _BY_UNMET.get(unmet, "")


def switched_off(request: RequestId, line: Line) -> Finish:
    detail = f"function '{function_of(line.version)}' is switched off: its concurrency is 0"
    return Finish(request, Outcome.THROTTLED, detail, throttle=RESERVED, refusal=Refusal.SWITCHED_OFF)


def too_often(request: RequestId, line: Line, detail: str) -> Finish:
    """By the rate of its reservation, or by that of the fleet's concurrency."""
    why = FLEET_RATE if line.limit is None else RESERVED_RATE
    return Finish(request, Outcome.THROTTLED, detail, throttle=why, refusal=Refusal.RATE)


def throttled(request: RequestId, line: Line, refusal: str, detail: str, attached: bool) -> Finish:
    """With what placement lacks added to the words."""
    lacks = line.unmet if attached else PLACEMENT_AWAY
    if not attached:
        detail += "; placement cannot be reached, so nothing new can be started"
    elif lacks:
        detail += f"; {line.unmet_detail or lacks}"
    why = reason(line.limit, lacks)
    return Finish(request, Outcome.THROTTLED, detail, throttle=why, refusal=refusal, waited_for=lacks)
