"""The version of what the parts of a fleet say to each other, and how far apart two of them may be.

It is of everything at once: frames, control streams, keys and values of etcd. The rule is in
`docs/upgrades.md`.
"""

from importlib.metadata import version
from typing import Final

PROTOCOL: Final = 1
"""What this release speaks. It is raised by one where a part of the release before would take something for
another thing, or could not do without it; what can be left out, or passed over unread, is no reason."""

RELEASE: Final = version("lambent")
"""For people to read: nothing is decided by it."""

_NEXT: Final = 1
"""Two parts whose protocols are so far apart work together: whoever has the higher one speaks the lower one
as well."""

_UNSAID: Final = 1
"""The protocol of a part that does not say which one it speaks: releases before parts said so."""


def common(theirs: int) -> int:
    """The protocol that both sides speak with each other."""
    return min(PROTOCOL, theirs or _UNSAID)


def apart(who: str, theirs: int, release: str) -> str:
    """What an operator is to be told if this part and `who` cannot work together; empty if they can.

    `theirs` is 0 where the other side does not say.
    """
    theirs = theirs or _UNSAID
    if abs(theirs - PROTOCOL) <= _NEXT:
        return ""
    older, what = (who, "it") if theirs < PROTOCOL else ("this part", "this")
    return (
        f"{who} is of release {release or 'unknown'} and speaks {theirs}, this part is of release "
        f"{RELEASE} and speaks protocol {PROTOCOL}: they are too far apart to work together. Upgrade {older} "
        f"through the releases between, one after the other; until then {what} takes no part in the fleet."
    )
