"""Unary calls of gRPC with bytes: `python -m loadtest.peers.grpc_caller ADDRESS IN_FLIGHT`."""

import asyncio
import json
import sys

import grpc.aio
import uvloop
from google.protobuf.wrappers_pb2 import BytesValue

from loadtest.peers.closed_loop import PAYLOAD, checked, measured_async

METHOD = "/peers.Echo/Call"


def main() -> None:
    address, in_flight = sys.argv[1:]
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)

    async def channel() -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(address)

    method = loop.run_until_complete(channel()).unary_unary(
        METHOD, request_serializer=BytesValue.SerializeToString, response_deserializer=BytesValue.FromString
    )
    request = BytesValue(value=PAYLOAD)

    async def call() -> None:
        checked(json.loads((await method(request)).value))

    measured_async(loop, [call] * int(in_flight))


if __name__ == "__main__":
    main()
