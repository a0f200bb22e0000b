"""How long calls took, counted by what for."""

from collections.abc import Mapping
from typing import Final

from lambent_chassis.metrics import Histogram
from lambent_frontend.core.commands import Dispatch

KINDS: Final = ("warm", "cold", "snapstart")


class Durations:
    """Of all calls since this frontend began."""

    def __init__(self) -> None:
        self.waiting: Mapping[str, Histogram] = {kind: Histogram() for kind in KINDS}
        """From their arrival until they were sent to an instance, by what that was."""
        self.starting = Histogram()
        """New instances: until their runtime could begin to initialise."""
        self.init = Histogram()
        """New instances: initialising the function."""
        self.running = Histogram()
        """What the function took for its answer."""

    def note(self, sent: Dispatch, kind: str, running_ms: float | None) -> None:
        """Of a call that was sent; None if no answer came."""
        self.waiting[kind].note(sent.waited_s)
        if running_ms is not None:
            self.running.note(running_ms / 1000)
        if sent.cold:
            self.starting.note(sent.starting_ms / 1000)
            self.init.note(sent.init_ms / 1000)
