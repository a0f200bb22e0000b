"""Whether a newcomer's turn can come before its deadline, from what was seen of late.

A call is refused for its deadline when all of this is so, and waits otherwise:

    1. placement says that the line can have no more instances: at the function's limit all of them count,
       whoever holds them; at the fleet's, or without memory, the most that were held since it says so, once
       no more have come for `SETTLED_S`, and for as long as a call takes;
    2. at least `RUNS` calls have ended beside a line, and the mean of the last ones is known;
    3. even `OPTIMISM` times as fast as that, those that are ahead for certain would keep the instances until
       after the deadline. Ahead are the calls that have their turn first even if nobody else came; of them
       those do not count that will be gone, by a deadline of their own, before their turn.

How long the call itself would run is not looked at: that may be less than the mean.
"""

from typing import Final

from lambent_frontend.core.call import Call
from lambent_frontend.core.line import RUNS, Line
from lambent_proto.ids import function_of

OPTIMISM: Final = 2.0
"""How much faster than the mean the next calls may be, so that none is refused that had a chance."""

SETTLED_S: Final = 5.0
"""Placement gives a function its part of the fleet's concurrency as others' events end, half of what is
missing at a time: most of it within a few events."""


def too_late(line: Line, call: Call, at: float) -> str:
    """Why it would be, or nothing."""
    instances = _instances(line, at)
    if not instances or line.runs < RUNS:
        return ""
    pace_s = line.run_s / (instances * OPTIMISM)
    left_s = call.deadline - at
    if len(line.waiting) * pace_s <= left_s:
        return ""
    turns = 0
    for other in line.turns.ahead(call):
        if other.deadline - at > turns * pace_s:
            turns += 1
    if turns * pace_s <= left_s:
        return ""
    return (
        f"its deadline cannot be met: {turns} calls of function '{function_of(line.version)}' are ahead of "
        f"it, and each takes {line.run_s:.2f} s on one of {instances} instances: its turn would come in "
        f"{turns * line.run_s / instances:.1f} s, its deadline is in {left_s:.1f} s"
    )


def _instances(line: Line, at: float) -> int:
    """The most that may run for this line; 0 if more may come, or nobody can tell."""
    if line.unmet == "limit_reached":
        return max(line.limit or 0, line.held)
    if line.is_stuck and at - line.grew_at >= max(SETTLED_S, line.run_s):
        return line.most
    return 0
