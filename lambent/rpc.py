"""How this client calls: how long it waits for an answer, and the error that becomes of a status."""

from collections.abc import Awaitable
from typing import Final, TypeVar

import grpc.aio

from lambent_proto.status import from_rpc

ASK_WITHIN_S: Final = 15.0
"""For everything but invocations, uploads and logs."""

UPLOAD_WITHIN_S: Final = 120.0

T = TypeVar("T")


async def answer(call: Awaitable[T]) -> T:
    """Raises LambentError."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise from_rpc(error) from error
