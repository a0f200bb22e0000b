"""What a policy did, counted from the commands of its scheduler, the same way for all that are compared."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from lambent_placement.core.commands import Command, Evict, GiveLease, Grant, TellUnmet, Unmet

AHEAD: Final = "ahead"
PROVISIONED: Final = "provisioned"


@dataclass(slots=True)
class Tally:
    starts: Counter[str] = field(default_factory=Counter)
    """Instances, by why a lease on them was given as it was (`Reason`); for nobody yet: `PROVISIONED`, or
    `AHEAD` of a call, as stand-ins of what is moved away are too."""
    warm: Counter[str] = field(default_factory=Counter)
    """Leases on instances that were ready, by reason."""
    waits: Counter[str] = field(default_factory=Counter)
    """How often a frontend was told that its demand is not met, by reason (`Unmet`)."""
    evictions: Counter[str] = field(default_factory=Counter)
    """Instances told to stop, by reason."""
    idle_mb_s: float = 0.0
    """Memory of what was ready and leased to nobody, times how long."""
    idle_mb: int = 0
    at: float | None = None
    """Until when it has counted; None before the first event."""

    def count(self, commands: Sequence[Command], idle_mb: int, at: float) -> None:
        """What followed from one event, and how much idles from then on."""
        if self.at is not None:
            self.idle_mb_s += self.idle_mb * (at - self.at)
        self.at, self.idle_mb = at, idle_mb
        for command in commands:
            match command:
                case GiveLease():
                    (self.starts if command.starting else self.warm)[command.reason] += 1
                case Grant() if command.frontend is None:
                    self.starts[PROVISIONED if command.provisioned else AHEAD] += 1
                case TellUnmet() if command.reason is not Unmet.NONE:
                    self.waits[command.reason.value] += 1
                case Evict():
                    self.evictions[command.reason] += 1
                case _:
                    pass
