"""What runtimes and extensions may ask, in every state: what is refused is refused in Lambda's words and
changes nothing."""

from copy import copy

import pytest

from lambent_worker.runtime_api.machine import (
    INVALID_REQUEST_ID,
    Ask,
    ExtensionAsk,
    ExtensionMachine,
    ExtensionState,
    Machine,
    Refusal,
    State,
)

ALLOWED = {
    ("Started", "Ready"): "Ready",
    ("RuntimeResponseSentState", "Ready"): "Ready",
    ("Restoring", "Ready"): "Ready",
    ("Running", "InvocationResponse"): "InvocationResponse",
    ("Running", "InvocationErrorResponse"): "InvocationErrorResponse",
    ("Started", "InitError"): "InitError",
    ("Restoring", "InitError"): "RuntimeRestoreErrorState",
    ("Started", "RestoreReady"): "RestoreReady",
    ("Restoring", "RuntimeRestoreErrorState"): "RuntimeRestoreErrorState",
}
IN_CALL = {State.RUNNING, State.RESPONDING, State.FAILING, State.ANSWERED}
OF_CALL = {Ask.RESPONSE, Ask.ERROR}


def asks(machine: Machine, ask: Ask, request_id: str = "r") -> Refusal | None:
    return machine.answers(ask, request_id) if ask in OF_CALL else machine.asks(ask)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("ask", Ask)
def test_what_is_not_allowed_is_refused_and_changes_nothing(state: State, ask: Ask) -> None:
    machine = Machine(state, request_id="r" if state in IN_CALL else "")
    before = copy(machine)
    refusal = asks(machine, ask)
    if (to := ALLOWED.get((state.value, ask.value))) is not None:
        assert refusal is None
        assert machine.state.value == to
        return
    assert machine == before
    if ask in OF_CALL and state not in IN_CALL:
        assert refusal == INVALID_REQUEST_ID == Refusal(400, "InvalidRequestID", "Invalid request ID")
    else:
        wanted = "Ready" if ask is Ask.RESTORE_NEXT else ask.value
        assert refusal == Refusal(
            403,
            "InvalidStateTransition",
            f"State transition from {state.value} to {wanted} failed for runtime. "
            "Error: State transition is not allowed",
        )


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("ask", OF_CALL)
@pytest.mark.parametrize("request_id", ["other", ""])
def test_another_calls_answer_is_refused(state: State, ask: Ask, request_id: str) -> None:
    """Also an empty id, while there is no call that it could be compared with."""
    for running in ("r", ""):
        machine = Machine(state, request_id=running)
        assert machine.answers(ask, request_id) == INVALID_REQUEST_ID
        assert machine == Machine(state, request_id=running)


@pytest.mark.parametrize("state", State)
def test_what_the_platform_does_happens_in_its_states_alone(state: State) -> None:
    machine = Machine(state)
    machine.answered()
    assert machine.state is (State.ANSWERED if state in (State.RESPONDING, State.FAILING) else state)
    machine = Machine(state)
    machine.restored()
    assert machine.state is (State.RESTORING if state is State.RESTORE_READY else state)
    machine = Machine(state)
    if state is State.READY:
        machine.handed_out("r")
        assert machine == Machine(State.RUNNING, "r")
    else:
        with pytest.raises(AssertionError):
            machine.handed_out("r")


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("ask", OF_CALL)
def test_an_answer_after_the_call_was_decided_is_refused(state: State, ask: Ask) -> None:
    machine = Machine(state, request_id="r")
    machine.abandoned()
    assert machine.state is state
    assert machine.answers(ask, "r") == INVALID_REQUEST_ID


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("ask", set(Ask) - OF_CALL)
def test_who_waits_and_loses_its_connection_may_ask_for_the_same_again_once(state: State, ask: Ask) -> None:
    machine = Machine(state)
    machine.lost()
    never_lost = Machine(state)
    refusal, same = (
        machine.asks(ask),
        (state, ask)
        in (
            (State.READY, Ask.NEXT),
            (State.RESTORE_READY, Ask.RESTORE_NEXT),
        ),
    )
    if same:
        assert refusal is None
        assert machine.asks(ask) is not None
    else:
        assert refusal == never_lost.asks(ask)
    assert machine.state is never_lost.state


def test_who_loses_its_connection_while_it_is_copied_waits_for_events_as_others_do() -> None:
    machine = Machine(State.RESTORE_READY)
    machine.lost()
    machine.restored()
    assert machine.asks(Ask.NEXT) is None
    assert machine.asks(Ask.NEXT) is not None


EXTENSION_ALLOWED = {
    ("Started", "Registered"): "Registered",
    ("Registered", "Ready"): "Ready",
    ("Running", "Ready"): "Ready",
    ("Registered", "InitError"): "InitError",
    ("InitError", "InitError"): "InitError",
    ("Registered", "ExitError"): "ExitError",
    ("Ready", "ExitError"): "ExitError",
    ("Running", "ExitError"): "ExitError",
    ("ExitError", "ExitError"): "ExitError",
}


@pytest.mark.parametrize("state", ExtensionState)
@pytest.mark.parametrize("ask", ExtensionAsk)
def test_what_an_extension_may_not_ask_is_refused(state: ExtensionState, ask: ExtensionAsk) -> None:
    machine = ExtensionMachine(state)
    refusal = machine.asks(ask, "it")
    if (to := EXTENSION_ALLOWED.get((state.value, ask.value))) is not None:
        assert refusal is None
        assert machine.state.value == to
        return
    assert machine == ExtensionMachine(state)
    assert refusal == Refusal(
        403,
        "Extension.InvalidExtensionState",
        f"State transition from {state.value} to {ask.value} failed for extension it. "
        "Error: State transition is not allowed",
    )


@pytest.mark.parametrize("state", ExtensionState)
def test_an_event_makes_a_waiting_extension_run(state: ExtensionState) -> None:
    machine = ExtensionMachine(state)
    machine.told()
    assert machine.state is (ExtensionState.RUNNING if state is ExtensionState.READY else state)
