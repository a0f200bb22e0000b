"""What a trigger's state is called, by Lambda's names, and what may be asked of it meanwhile.

What was asked last is in effect once a frontend has said so of the trigger's revision; until then the state
is the name of the change.
"""

from typing import Final

ENABLING: Final = "Enabling"
ENABLED: Final = "Enabled"
DISABLING: Final = "Disabling"
DISABLED: Final = "Disabled"
UPDATING: Final = "Updating"
DELETING: Final = "Deleting"


def state(*, pending: str, enabled: bool, settled: bool) -> str:
    if pending == DELETING or not settled:
        return pending
    return ENABLED if enabled else DISABLED


def pending(*, was_enabled: bool, enabled: bool) -> str:
    """What a change that was asked for is called until it is in effect."""
    if was_enabled == enabled:
        return UPDATING
    return ENABLING if enabled else DISABLING
