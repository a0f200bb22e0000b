"""Reads of what no function of Lambent's has: Lambda's own answers for a function without it.

Tools such as Terraform ask for these of every function, and would take a 501 for a failure. What would write
them answers 501.
"""

from collections.abc import Mapping
from typing import Final

from lambent_frontend.functions import Functions
from lambent_frontend.http import shapes
from lambent_frontend.http.api import Operation
from lambent_frontend.http.asked import Asked
from lambent_frontend.http.messages import Response
from lambent_proto.v1 import functions_pb2

_LISTS: Final = {
    "ListEventSourceMappings": "EventSourceMappings",
    "ListCodeSigningConfigs": "CodeSigningConfigs",
}


class AbsentOperations:
    def __init__(self, functions: Functions) -> None:
        self._functions = functions

    def operations(self) -> Mapping[str, Operation]:
        return {
            **dict.fromkeys(_LISTS, self.list_none),
            "GetFunctionCodeSigningConfig": self.get_code_signing,
            "GetRuntimeManagementConfig": self.get_runtime_management,
            "GetFunctionRecursionConfig": self.get_recursion,
        }

    async def list_none(self, asked: Asked) -> Response:
        if "FunctionName" in asked.path:
            await self._check_there(asked)
        return shapes.page(_LISTS[asked.operation], [], "")

    async def get_code_signing(self, asked: Asked) -> Response:
        await self._check_there(asked)
        return shapes.answer(200, {})

    async def get_runtime_management(self, asked: Asked) -> Response:
        """A node's own runtimes are taken as they are: what Lambda calls automatic."""
        await self._check_there(asked)
        return shapes.answer(200, {"UpdateRuntimeOn": "Auto", "FunctionArn": asked.arn()})

    async def get_recursion(self, asked: Asked) -> Response:
        """Nobody looks for functions that call themselves."""
        await self._check_there(asked)
        return shapes.answer(200, {"RecursiveLoop": "Allow"})

    async def _check_there(self, asked: Asked) -> None:
        """Raises UnknownFunction."""
        named = asked.function()
        await self._functions.get_function(
            functions_pb2.GetFunctionRequest(name=named.name, qualifier=named.qualifier)
        )
