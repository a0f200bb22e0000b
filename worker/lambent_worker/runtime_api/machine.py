"""What a runtime may ask of the Runtime API, and when: the decisions alone.

Rule 1: everything that changes what the runtime may do next goes through a method of `Machine`.
Rule 2: this module knows no socket and no clock. What is refused changes nothing.

    started ──next──▶ ready ──event──▶ running ──response──▶ responding ──its end──▶ responded ──next──▶ ready
       │                                  └──────error────────────────────────────▶ failed ─────next──▶ ready
       ├──init/error──▶ init_failed
       └──restore/next──▶ restoring ──restored──▶ started    (or restore/error ──▶ restore_failed)

States, and the words of a refusal, are those of Lambda's own Runtime API.
"""

from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """The values are what Lambda's refusals call them."""

    STARTED = "Started"
    READY = "Ready"
    RUNNING = "Running"
    RESPONDING = "InvocationResponding"
    RESPONDED = "InvocationResponse"
    FAILED = "InvocationErrorResponse"
    INIT_FAILED = "InitError"
    RESTORING = "Restoring"
    RESTORE_FAILED = "RestoreError"


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that refuses, as Lambda gives it."""

    status: int
    error_type: str
    message: str


INVALID_REQUEST_ID = Refusal(400, "InvalidRequestID", "Invalid request ID")

_NEXT_FROM = frozenset({State.STARTED, State.RESPONDED, State.FAILED})
_IN_CALL = frozenset({State.RUNNING, State.RESPONDING, State.RESPONDED, State.FAILED})


@dataclass(slots=True)
class Machine:
    """The state may be read by anyone and is changed by its methods alone."""

    state: State = State.STARTED
    request_id: str = ""
    """The call that was handed out last, until the runtime asks for the next one; empty if none was."""
    asked_from: State = State.STARTED
    """Where it was when it asked for what it is waiting for."""

    def next(self) -> Refusal | None:
        """`GET invocation/next`: it waits for an event from now on."""
        if self.state not in _NEXT_FROM:
            return self._not_allowed(State.READY)
        self.asked_from, self.state = self.state, State.READY
        return None

    def next_lost(self) -> None:
        """Its connection ended while it waited: it may ask again."""
        if self.state is State.READY:
            self.state = self.asked_from

    def handed_out(self, request_id: str) -> None:
        """The event is on its way to the runtime, which waits for it."""
        assert self.state is State.READY, "an event is handed to a runtime that waits"
        self.state = State.RUNNING
        self.request_id = request_id

    def response(self, request_id: str) -> Refusal | None:
        """`POST invocation/ID/response`: it begins to answer."""
        if refusal := self._wrong_call(request_id):
            return refusal
        if self.state is not State.RUNNING:
            return self._not_allowed(State.RESPONDED)
        self.state = State.RESPONDING
        return None

    def response_ended(self) -> None:
        if self.state is State.RESPONDING:
            self.state = State.RESPONDED

    def response_refused(self) -> None:
        """What it began to send is not taken: it may still answer."""
        if self.state is State.RESPONDING:
            self.state = State.RUNNING

    def error(self, request_id: str) -> Refusal | None:
        """`POST invocation/ID/error`."""
        if refusal := self._wrong_call(request_id):
            return refusal
        if self.state is not State.RUNNING:
            return self._not_allowed(State.FAILED)
        self.state = State.FAILED
        return None

    def init_error(self) -> Refusal | None:
        """`POST init/error`."""
        if self.state is not State.STARTED:
            return self._not_allowed(State.INIT_FAILED)
        self.state = State.INIT_FAILED
        return None

    def restore_next(self) -> Refusal | None:
        """`GET restore/next`: it is ready to be copied, and waits until it has been."""
        if self.state is not State.STARTED:
            return self._not_allowed(State.RESTORING)
        self.state = State.RESTORING
        return None

    def restored(self) -> None:
        if self.state is State.RESTORING:
            self.state = State.STARTED

    def restore_error(self) -> Refusal | None:
        """`POST restore/error`, after what `restore/next` gave."""
        if self.state is not State.STARTED:
            return self._not_allowed(State.RESTORE_FAILED)
        self.state = State.RESTORE_FAILED
        return None

    def abandoned(self) -> None:
        """The call was decided without the runtime, as by its timeout: a late answer to it is refused."""
        self.request_id = ""

    def _wrong_call(self, request_id: str) -> Refusal | None:
        known = self.state in _IN_CALL and bool(request_id) and request_id == self.request_id
        return None if known else INVALID_REQUEST_ID

    def _not_allowed(self, wanted: State) -> Refusal:
        return Refusal(
            403,
            "InvalidStateTransition",
            f"State transition from {self.state.value} to {wanted.value} failed for runtime. "
            "Error: State transition is not allowed",
        )
