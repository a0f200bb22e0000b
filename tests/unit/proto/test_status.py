"""Every error has a name and a gRPC status of its own, and survives the wire."""

import grpc
import pytest

from lambent_proto.errors import CallerError, Internal, LambentError, PlatformError
from lambent_proto.status import code_of, fill, from_service_error, leaves
from lambent_proto.v1 import invoke_pb2


def test_every_leaf_has_its_own_reason() -> None:
    """No two errors share a reason, and none is without one."""
    reasons = [leaf.reason for leaf in leaves()]
    assert all(reasons)
    assert len(set(reasons)) == len(reasons) >= 12


@pytest.mark.parametrize("leaf", leaves())
def test_every_leaf_has_a_status_and_a_side(leaf: type[LambentError]) -> None:
    """The status is one of gRPC's, and the class says whose fault it was."""
    assert isinstance(code_of(leaf("why")), grpc.StatusCode)
    assert code_of(leaf("why")) is not grpc.StatusCode.OK
    assert issubclass(leaf, CallerError) != issubclass(leaf, PlatformError)


@pytest.mark.parametrize("leaf", leaves())
def test_an_error_survives_a_stream_s_result(leaf: type[LambentError]) -> None:
    """Class, message and request id come out as they went in."""
    message = invoke_pb2.ServiceError()
    fill(message, leaf("what happened", "r-1"))
    back = from_service_error(invoke_pb2.ServiceError.FromString(message.SerializeToString()))
    assert (type(back), back.message, back.request_id) == (leaf, "what happened", "r-1")


def test_a_reason_of_a_newer_release_is_internal() -> None:
    """An unknown reason is an error still, and keeps its message."""
    back = from_service_error(invoke_pb2.ServiceError(code=3, reason="NEW", message="m"))
    assert (type(back), back.message) == (Internal, "m")


def test_only_a_worker_s_loss_is_unknown() -> None:
    """UNAVAILABLE invites generic clients to send again, so what may have run never has it."""
    assert [leaf.reason for leaf in leaves() if leaf.status == "UNAVAILABLE"] == ["NOT_READY"]
