"""The operation GetAccountSettings: what the whole fleet allows and holds."""

from typing import Final

from lambent_chassis.zipcheck import MAX_UNZIPPED_BYTES
from lambent_frontend.http import shapes
from lambent_frontend.http.asked import Asked
from lambent_frontend.http.messages import Response
from lambent_frontend.limits import Limits
from lambent_frontend.rules import MAX_ZIP_BYTES
from lambent_proto.v1 import limits_pb2

TOTAL_CODE_BYTES: Final = 80_530_636_800
"""Lambda's own default. Here nothing but the package store's disk limits it."""


class GetAccountSettings:
    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    async def __call__(self, asked: Asked) -> Response:
        fleet = await self._limits.get_concurrency(limits_pb2.GetConcurrencyRequest())
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
                    "TotalCodeSize": fleet.code_size,
                    "FunctionCount": fleet.functions,
                },
            },
        )
