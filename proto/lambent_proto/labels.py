"""Labels: what nodes say of themselves, and functions ask of nodes. Each is `KEY=VALUE`."""

import re
from typing import Final

FORM: Final = "KEY=VALUE, each of at most 63 letters, digits, and inside . _ - /"

MOST: Final = 16
"""Labels that a node has, or that a function requires or prefers."""

_LABEL: Final = re.compile(
    r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?=([A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?)?"
)


def is_label(text: str) -> bool:
    """Whether it has the form of a label; the value may be empty."""
    return _LABEL.fullmatch(text) is not None
