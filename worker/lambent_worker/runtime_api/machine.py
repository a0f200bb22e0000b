"""What a runtime, and an extension, may ask of its API, and when: the decisions alone.

Rule 1: everything that changes what may be asked next goes through a method of a machine.
Rule 2: this module knows no socket and no clock. What is refused changes nothing.

    Started ─next─▶ Ready ─event─▶ Running ─response─▶ InvocationResponse ──────its end─▶ ResponseSent
       │              ▲               └─error────────▶ InvocationErrorResponse ─its end──────▲ └─next─▶ Ready
       ├─init/error─▶ InitError
       └─restore/next─▶ RestoreReady ─restored─▶ Restoring ─next─▶ Ready
                                                     └─restore/error, init/error─▶ RestoreError

    an extension: Started ─register─▶ Registered ─next─▶ Ready ─event─▶ Running ─next─▶ Ready

States, transitions, and the words of a refusal are those of AWS's own Runtime API, as its Runtime Interface
Emulator has them. One thing differs: that one does not refuse a runtime that asks for `next` while it already
waits, or while it runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that refuses, as Lambda gives it."""

    status: int
    error_type: str
    message: str


class State(Enum):
    """The values are what Lambda's refusals call them."""

    STARTED = "Started"
    INIT_FAILED = "InitError"
    READY = "Ready"
    RUNNING = "Running"
    RESPONDING = "InvocationResponse"
    FAILING = "InvocationErrorResponse"
    ANSWERED = "RuntimeResponseSentState"
    RESTORE_READY = "RestoreReady"
    RESTORING = "Restoring"
    RESTORE_FAILED = "RuntimeRestoreErrorState"


class Ask(Enum):
    """What a runtime may ask. The values are the states that refusals say it wanted to be in."""

    NEXT = "Ready"
    RESPONSE = "InvocationResponse"
    ERROR = "InvocationErrorResponse"
    INIT_ERROR = "InitError"
    RESTORE_NEXT = "RestoreReady"
    RESTORE_ERROR = "RuntimeRestoreErrorState"


TRANSITIONS: Final[Mapping[tuple[State, Ask], State]] = {
    (State.STARTED, Ask.NEXT): State.READY,
    (State.ANSWERED, Ask.NEXT): State.READY,
    (State.RESTORING, Ask.NEXT): State.READY,
    (State.RUNNING, Ask.RESPONSE): State.RESPONDING,
    (State.RUNNING, Ask.ERROR): State.FAILING,
    (State.STARTED, Ask.INIT_ERROR): State.INIT_FAILED,
    (State.RESTORING, Ask.INIT_ERROR): State.RESTORE_FAILED,
    (State.STARTED, Ask.RESTORE_NEXT): State.RESTORE_READY,
    (State.RESTORING, Ask.RESTORE_ERROR): State.RESTORE_FAILED,
}
"""What is not here is refused."""

INVALID_REQUEST_ID: Final = Refusal(400, "InvalidRequestID", "Invalid request ID")

_NOT_ALLOWED: Final = "Error: State transition is not allowed"

_WAITS: Final = frozenset({State.READY, State.RESTORE_READY})
_IN_CALL: Final = frozenset({State.RUNNING, State.RESPONDING, State.FAILING, State.ANSWERED})


@dataclass(slots=True)
class Machine:
    """A runtime. The state may be read by anyone and is changed by its methods alone."""

    state: State = State.STARTED
    request_id: str = ""
    """The call that was handed out last; empty if none was, or if it was decided without the runtime."""
    reachable: bool = True
    """What it waits for can be told to it: its connection has not ended since it asked."""

    def asks(self, ask: Ask) -> Refusal | None:
        """Anything but the two that are about a call."""
        if not self.reachable and self.state.value == ask.value:
            self.reachable = True  # it waits again for what it waited for
            return None
        return self._moves(ask)

    def answers(self, ask: Ask, request_id: str) -> Refusal | None:
        """RESPONSE or ERROR: it begins to send it."""
        if self.state not in _IN_CALL or not request_id or request_id != self.request_id:
            return INVALID_REQUEST_ID
        return self._moves(ask)

    def answered(self) -> None:
        """All of the answer has come, or no more of it will."""
        if self.state in (State.RESPONDING, State.FAILING):
            self.state = State.ANSWERED

    def handed_out(self, request_id: str) -> None:
        """The event is on its way to the runtime, which waits for it."""
        assert self.state is State.READY, "an event is handed to a runtime that waits"
        self.state = State.RUNNING
        self.request_id = request_id

    def restored(self) -> None:
        """It is a copy now, and may go on."""
        if self.state is State.RESTORE_READY:
            self.state = State.RESTORING

    def lost(self) -> None:
        """The connection on which it waits has ended: it may ask again."""
        if self.state in _WAITS:
            self.reachable = False

    def abandoned(self) -> None:
        """The call was decided without the runtime, as by its timeout: a late answer to it is refused."""
        self.request_id = ""

    def _moves(self, ask: Ask) -> Refusal | None:
        to = TRANSITIONS.get((self.state, ask))
        if to is None:
            wanted = Ask.NEXT if ask is Ask.RESTORE_NEXT else ask  # Lambda's own slip
            return Refusal(
                403,
                "InvalidStateTransition",
                f"State transition from {self.state.value} to {wanted.value} failed for runtime. "
                f"{_NOT_ALLOWED}",
            )
        self.state, self.reachable = to, True
        return None


class ExtensionState(Enum):
    """The values are what Lambda's refusals call them."""

    STARTED = "Started"
    REGISTERED = "Registered"
    READY = "Ready"
    RUNNING = "Running"
    INIT_FAILED = "InitError"
    EXIT_FAILED = "ExitError"


class ExtensionAsk(Enum):
    REGISTER = "Registered"
    NEXT = "Ready"
    INIT_ERROR = "InitError"
    EXIT_ERROR = "ExitError"


EXTENSION_TRANSITIONS: Final[Mapping[tuple[ExtensionState, ExtensionAsk], ExtensionState]] = {
    (ExtensionState.STARTED, ExtensionAsk.REGISTER): ExtensionState.REGISTERED,
    (ExtensionState.REGISTERED, ExtensionAsk.NEXT): ExtensionState.READY,
    (ExtensionState.RUNNING, ExtensionAsk.NEXT): ExtensionState.READY,
    (ExtensionState.REGISTERED, ExtensionAsk.INIT_ERROR): ExtensionState.INIT_FAILED,
    (ExtensionState.INIT_FAILED, ExtensionAsk.INIT_ERROR): ExtensionState.INIT_FAILED,
    (ExtensionState.REGISTERED, ExtensionAsk.EXIT_ERROR): ExtensionState.EXIT_FAILED,
    (ExtensionState.READY, ExtensionAsk.EXIT_ERROR): ExtensionState.EXIT_FAILED,
    (ExtensionState.RUNNING, ExtensionAsk.EXIT_ERROR): ExtensionState.EXIT_FAILED,
    (ExtensionState.EXIT_FAILED, ExtensionAsk.EXIT_ERROR): ExtensionState.EXIT_FAILED,
}
"""What is not here is refused."""


@dataclass(slots=True)
class ExtensionMachine:
    state: ExtensionState = ExtensionState.STARTED

    def asks(self, ask: ExtensionAsk, called: str) -> Refusal | None:
        """`called` is what a refusal calls it: its name, or its identifier."""
        to = EXTENSION_TRANSITIONS.get((self.state, ask))
        if to is None:
            return Refusal(
                403,
                "Extension.InvalidExtensionState",
                f"State transition from {self.state.value} to {ask.value} failed for extension {called}. "
                f"{_NOT_ALLOWED}",
            )
        self.state = to
        return None

    def told(self) -> None:
        """An event is on its way to it, or the connection on which it waited has ended: it may ask again."""
        if self.state is ExtensionState.READY:
            self.state = ExtensionState.RUNNING
