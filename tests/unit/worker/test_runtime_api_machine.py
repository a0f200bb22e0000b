"""What a runtime may ask, in every state: a refusal is in Lambda's words and changes nothing."""

from collections.abc import Callable
from copy import copy

import pytest

from lambent_worker.runtime_api.machine import INVALID_REQUEST_ID, Machine, Refusal, State

Ask = Callable[[Machine], Refusal | None]

ASKS: dict[str, Ask] = {
    "next": Machine.next,
    "response": lambda machine: machine.response("r"),
    "error": lambda machine: machine.error("r"),
    "init_error": Machine.init_error,
    "restore_next": Machine.restore_next,
    "restore_error": Machine.restore_error,
}
ALLOWED = {
    (State.STARTED, "next"): State.READY,
    (State.RESPONDED, "next"): State.READY,
    (State.FAILED, "next"): State.READY,
    (State.RUNNING, "response"): State.RESPONDING,
    (State.RUNNING, "error"): State.FAILED,
    (State.STARTED, "init_error"): State.INIT_FAILED,
    (State.STARTED, "restore_next"): State.RESTORING,
    (State.STARTED, "restore_error"): State.RESTORE_FAILED,
}
IN_CALL = {State.RUNNING, State.RESPONDING, State.RESPONDED, State.FAILED}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("ask", ASKS)
def test_what_is_not_allowed_is_refused_and_changes_nothing(state: State, ask: str) -> None:
    machine = Machine(state, request_id="r" if state in IN_CALL else "")
    before = copy(machine)
    refusal = ASKS[ask](machine)
    if (state, ask) in ALLOWED:
        assert refusal is None
        assert machine.state is ALLOWED[state, ask]
        return
    assert machine == before
    assert refusal is not None
    if ask in ("response", "error") and state not in IN_CALL:
        assert refusal == INVALID_REQUEST_ID
    else:
        assert (refusal.status, refusal.error_type) == (403, "InvalidStateTransition")
        assert f"State transition from {state.value} to " in refusal.message


@pytest.mark.parametrize("state", IN_CALL)
def test_another_calls_answer_is_refused(state: State) -> None:
    machine = Machine(state, request_id="r")
    assert machine.response("other") == machine.error("other") == INVALID_REQUEST_ID
    assert machine == Machine(state, request_id="r")


def test_an_answer_after_the_call_was_decided_is_refused() -> None:
    machine = Machine(State.RUNNING, request_id="r")
    machine.abandoned()
    assert machine.response("r") == machine.error("r") == INVALID_REQUEST_ID
    assert machine.response("") == INVALID_REQUEST_ID


def test_a_lost_wait_may_be_repeated() -> None:
    for state in (State.STARTED, State.RESPONDED, State.FAILED):
        machine = Machine(state)
        assert machine.next() is None
        machine.next_lost()
        assert machine.state is state
        assert machine.next() is None


def test_an_answer_that_was_not_taken_may_be_given_again() -> None:
    machine = Machine(State.RUNNING, request_id="r")
    assert machine.response("r") is None
    machine.response_refused()
    assert machine.response("r") is None
    machine.response_ended()
    assert machine.state is State.RESPONDED
