"""The operation GetAccountSettings: what the whole fleet allows and holds."""

from collections.abc import Sequence
from typing import Final, Protocol

from lambent_chassis.zipcheck import MAX_UNZIPPED_BYTES
from lambent_frontend.http import shapes
from lambent_frontend.http.asked import Asked
from lambent_frontend.http.messages import Response
from lambent_frontend.limits import Limits
from lambent_frontend.rules import MAX_ZIP_BYTES
from lambent_proto.definition import Definition
from lambent_proto.ids import FunctionName
from lambent_proto.v1 import limits_pb2

TOTAL_CODE_BYTES: Final = 80_530_636_800
"""Lambda's own default. Here nothing but the package store's disk limits it."""


class Functions(Protocol):
    def names(self) -> Sequence[FunctionName]: ...

    def get(self, name: FunctionName) -> Definition | None: ...


class GetAccountSettings:
    def __init__(self, functions: Functions, limits: Limits) -> None:
        self._functions = functions
        self._limits = limits

    async def __call__(self, asked: Asked) -> Response:
        fleet = await self._limits.get_concurrency(limits_pb2.GetConcurrencyRequest())
        known = [it for it in map(self._functions.get, self._functions.names()) if it]
        return shapes.answer(
            200,
            {
                "AccountLimit": {
                    "TotalCodeSize": TOTAL_CODE_BYTES,
                    "CodeSizeUnzipped": MAX_UNZIPPED_BYTES,
                    "CodeSizeZipped": MAX_ZIP_BYTES,
                    "ConcurrentExecutions": fleet.concurrency,
                    "UnreservedConcurrentExecutions": fleet.unreserved,
                },
                "AccountUsage": {
                    "TotalCodeSize": sum(it.code_size for it in known),
                    "FunctionCount": len(known),
                },
            },
        )
